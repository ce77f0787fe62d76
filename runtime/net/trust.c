/* Trust: sets of CAs, each the system's bundle and perhaps one file more, with the SSL_CTX that links
 * use. Files are read and parsed in libuv's pool, never on the loop, and looked at again from time to
 * time: a changed file makes a new set aside, the old one serves until it is there. Owns the sets and
 * the sessions that were made with them. */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/assert.h"
#include "net/net_internal.h"

#define TRUSTS_MAX 256
#define TRUST_RETRY_MS 1000 /* a file that could not be read is tried again after this */

/* What tells that a file is the same as before. */
struct stamp {
    dev_t device;
    ino_t inode;
    off_t bytes;
    struct timespec changed;
};

struct trust {
    struct trusts *owner;
    struct trust *next;
    char *ca_file;        /* owned; NULL: the system's alone */
    bool tried;
    uint64_t looked_ms;
    uint64_t id;
    SSL_CTX *context;     /* owned; NULL while there is none */
    char error[120];
    struct stamp stamps[2];
    struct node waits;    /* struct wait */
    /* The pool's side: touched by the loop only while no work is under way. */
    uv_work_t work;
    bool working;
    char *system_file;    /* borrowed from the owner */
    struct stamp new_stamps[2];
    SSL_CTX *new_context; /* owned */
    bool unchanged;
    char new_error[120];
};

struct trusts {
    struct net *net;
    uint64_t look_ms;
    char *system_file;    /* owned */
    struct trust *first;
    uint32_t count;
    uint64_t last_id;
    struct sessions *sessions; /* owned */
    BIO_METHOD *bio_method;    /* owned */
    X509_LOOKUP_METHOD *anchors; /* owned; used in the pool as well, and never changed */
};

static const char *const usual_places[] = {
    "/etc/ssl/certs/ca-certificates.crt", /* Debian, Alpine */
    "/etc/pki/tls/certs/ca-bundle.crt",   /* Fedora */
    "/etc/ssl/ca-bundle.pem",             /* SUSE */
    "/etc/ssl/cert.pem",
};

static char *find_system_file(const char *wanted);
static struct trust *trust_find(struct trusts *t, const char *ca_file);
static struct trust *trust_create(struct trusts *t, const char *ca_file);
static void trust_free(struct trust *trust);
static void evict_one(struct trusts *t);
static void look(struct trust *trust);
static void load(uv_work_t *work);
static void on_loaded(uv_work_t *work, int status);
static bool stamp_of(const char *path, struct stamp *out);
static bool same_file(const struct stamp *a, const struct stamp *b);
static bool add_file(struct trust *trust, X509_STORE *store, const char *path, bool bundle);

struct trusts *trusts__create(struct net *net, const char *system_ca_file, uint64_t look_ms)
{
    struct trusts *t = calloc(1, sizeof *t);
    if (!t) return NULL;
    t->net = net;
    t->look_ms = look_ms;
    t->system_file = find_system_file(system_ca_file);
    t->sessions = sessions__create();
    t->bio_method = bio__method();
    t->anchors = anchors__method();
    if (!t->system_file || !t->sessions || !t->bio_method || !t->anchors) {
        BIO_meth_free(t->bio_method);
        X509_LOOKUP_meth_free(t->anchors);
        free(t->system_file);
        if (t->sessions) sessions__destroy(t->sessions);
        free(t);
        return NULL;
    }
    return t;
}

void trusts__destroy(struct trusts *t)
{
    while (t->first) {
        struct trust *trust = t->first;
        t->first = trust->next;
        trust_free(trust);
    }
    sessions__destroy(t->sessions);
    BIO_meth_free(t->bio_method);
    X509_LOOKUP_meth_free(t->anchors);
    free(t->system_file);
    free(t);
}

enum trust_result trusts__get(struct trusts *t, const char *ca_file, struct wait *wait,
                              struct trust **out)
{
    struct trust *trust = trust_find(t, ca_file);
    if (!trust) {
        if (t->count >= TRUSTS_MAX) evict_one(t);
        trust = trust_create(t, ca_file);
    }
    *out = trust;
    if (!trust) return TRUST_FAILED;
    uint64_t age_ms = net__now_ms() - trust->looked_ms;
    bool old = age_ms >= (trust->context ? t->look_ms : TRUST_RETRY_MS);
    if (!trust->working && (!trust->tried || old)) look(trust);
    if (trust->context) return TRUST_READY;
    if (!trust->working) return TRUST_FAILED;
    if (wait) list_append(&trust->waits, &wait->node);
    return TRUST_WAITING;
}

void trusts__look(struct trusts *t)
{
    for (struct trust *trust = t->first; trust; trust = trust->next) {
        if (trust->tried && !trust->working) look(trust);
    }
}

const char *trust__error(const struct trust *trust)
{
    return trust ? trust->error : "out of memory";
}

SSL_CTX *trust__context(const struct trust *trust)
{
    ASSERT(trust->context != NULL);
    return trust->context;
}

X509_STORE *trust__store(const struct trust *trust)
{
    return SSL_CTX_get_cert_store(trust__context(trust));
}

uint64_t trust__id(const struct trust *trust)
{
    return trust->id;
}

struct sessions *trusts__sessions(struct trusts *t)
{
    return t->sessions;
}

BIO_METHOD *trusts__bio_method(struct trusts *t)
{
    return t->bio_method;
}

static struct trust *trust_find(struct trusts *t, const char *ca_file)
{
    struct trust *trust = t->first;
    while (trust && strcmp(trust->ca_file ? trust->ca_file : "", ca_file ? ca_file : "") != 0) {
        trust = trust->next;
    }
    return trust;
}

static struct trust *trust_create(struct trusts *t, const char *ca_file)
{
    struct trust *trust = calloc(1, sizeof *trust);
    if (!trust) return NULL;
    if (ca_file) trust->ca_file = strdup(ca_file);
    if (ca_file && !trust->ca_file) {
        free(trust);
        return NULL;
    }
    trust->owner = t;
    trust->system_file = t->system_file;
    list_init(&trust->waits);
    trust->next = t->first;
    t->first = trust;
    t->count++;
    return trust;
}

static void trust_free(struct trust *trust)
{
    ASSERT(!trust->working);
    SSL_CTX_free(trust->context);
    free(trust->ca_file);
    free(trust);
}

/* The one that was looked at longest ago; links that use it keep their own reference. */
static void evict_one(struct trusts *t)
{
    struct trust **oldest = NULL;
    for (struct trust **at = &t->first; *at; at = &(*at)->next) {
        if ((*at)->working) continue;
        if (!oldest || (*at)->looked_ms < (*oldest)->looked_ms) oldest = at;
    }
    if (!oldest) return;
    struct trust *trust = *oldest;
    *oldest = trust->next;
    t->count--;
    trust_free(trust);
}

static void look(struct trust *trust)
{
    struct net *net = trust->owner->net;
    trust->looked_ms = net__now_ms();
    trust->tried = true;
    trust->work.data = trust;
    trust->new_context = NULL;
    trust->unchanged = false;
    trust->new_error[0] = '\0';
    if (net->closing || uv_queue_work(net->loop, &trust->work, load, on_loaded) != 0) {
        snprintf(trust->error, sizeof trust->error, "cannot load the CA certificates");
        return;
    }
    trust->working = true;
    net__hold(net);
}

/* In the pool. */
static void load(uv_work_t *work)
{
    struct trust *trust = work->data;
    const char *paths[2] = { trust->system_file, trust->ca_file };
    bool same = trust->context != NULL;
    for (int i = 0; i < 2; i++) {
        if (!paths[i] || !stamp_of(paths[i], &trust->new_stamps[i])) {
            memset(&trust->new_stamps[i], 0, sizeof trust->new_stamps[i]);
        }
        same = same && same_file(&trust->new_stamps[i], &trust->stamps[i]);
    }
    if (same) {
        trust->unchanged = true;
        return;
    }
    X509_STORE *store = X509_STORE_new();
    if (!store) {
        snprintf(trust->new_error, sizeof trust->new_error, "out of memory");
        return;
    }
    /* An intermediate CA in ca_file is trust enough; libcurl sets it on its stores too. */
    X509_STORE_set_flags(store, X509_V_FLAG_TRUSTED_FIRST | X509_V_FLAG_PARTIAL_CHAIN);
    /* Without the system's bundle a ca_file may still be all that is needed. */
    bool have_system = paths[0][0] != '\0' && add_file(trust, store, paths[0], true);
    bool have_file = !paths[1] || add_file(trust, store, paths[1], false);
    if (!have_file || (!have_system && !paths[1])) {
        if (paths[0][0] == '\0' && !paths[1]) {
            snprintf(trust->new_error, sizeof trust->new_error, "no CA certificates on this system");
        }
        X509_STORE_free(store);
        return;
    }
    trust->new_context = tls__context(store);
    if (!trust->new_context) snprintf(trust->new_error, sizeof trust->new_error, "out of memory");
}

static void on_loaded(uv_work_t *work, int status)
{
    struct trust *trust = work->data;
    struct net *net = trust->owner->net;
    trust->working = false;
    if (status == 0 && trust->new_context) {
        SSL_CTX_free(trust->context);
        trust->context = trust->new_context;
        trust->id = ++trust->owner->last_id;
        memcpy(trust->stamps, trust->new_stamps, sizeof trust->stamps);
        trust->error[0] = '\0';
    } else if (status == 0 && !trust->unchanged) {
        /* An old set goes on serving while its file is broken. */
        memcpy(trust->error, trust->new_error, sizeof trust->error);
    }
    trust->new_context = NULL;
    trust->looked_ms = net__now_ms();
    struct node waits;
    list_take(&waits, &trust->waits);
    while (!list_is_empty(&waits)) {
        struct wait *wait = CONTAINER_OF(waits.next, struct wait, node);
        list_remove(&wait->node);
        if (!net->closing) wait->done(wait);
    }
    net__release(net);
}

/* False with new_error when the file holds no certificate that can be read. Those of a bundle are parsed when
 * a chain asks for them. */
static bool add_file(struct trust *trust, X509_STORE *store, const char *path, bool bundle)
{
    ERR_clear_error();
    FILE *file = fopen(path, "re");
    if (!file) {
        const char *base = strrchr(path, '/');
        snprintf(trust->new_error, sizeof trust->new_error, "cannot read the CA file %.60s: %s",
                 base ? base + 1 : path, strerror(errno));
        return false;
    }
    uint32_t count = 0;
    X509 *certificate;
    if (bundle) count = anchors__add(store, trust->owner->anchors, file);
    while (!bundle && (certificate = PEM_read_X509_AUX(file, NULL, NULL, NULL)) != NULL) {
        if (X509_STORE_add_cert(store, certificate) == 1) count++;
        X509_free(certificate);
    }
    fclose(file);
    ERR_clear_error(); /* the end of the file is an error to PEM */
    if (count > 0) return true;
    const char *base = strrchr(path, '/');
    snprintf(trust->new_error, sizeof trust->new_error, "no certificate in the CA file %.60s",
             base ? base + 1 : path);
    return false;
}

static bool stamp_of(const char *path, struct stamp *out)
{
    struct stat s;
    if (path[0] == '\0' || stat(path, &s) != 0) return false;
    memset(out, 0, sizeof *out);
    out->device = s.st_dev;
    out->inode = s.st_ino;
    out->bytes = s.st_size;
    out->changed = s.st_mtim;
    return true;
}

static bool same_file(const struct stamp *a, const struct stamp *b)
{
    return a->device == b->device && a->inode == b->inode && a->bytes == b->bytes &&
           a->changed.tv_sec == b->changed.tv_sec && a->changed.tv_nsec == b->changed.tv_nsec;
}

/* "" when there is none. */
static char *find_system_file(const char *wanted)
{
    struct stat s;
    if (!wanted) wanted = getenv("SSL_CERT_FILE");
    if (wanted) return strdup(wanted);
    if (stat(X509_get_default_cert_file(), &s) == 0) return strdup(X509_get_default_cert_file());
    for (size_t i = 0; i < sizeof usual_places / sizeof *usual_places; i++) {
        if (stat(usual_places[i], &s) == 0) return strdup(usual_places[i]);
    }
    return strdup("");
}
