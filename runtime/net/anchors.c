/* Anchors: the system's CAs, each parsed when the first chain asks for it. A bundle has some 150, a connection's
 * chain ends in one of them, and OpenSSL takes 0.3 ms to parse one: 50 ms of a start, and 1 MB. Owns the bytes
 * and names of those of one store. Judges nothing: what a chain asks for is added to the store, as if it had
 * been there. Made in the pool, asked on the loop. */
#include <openssl/asn1.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "net/net_internal.h"

#define BUNDLE_BYTES_MAX (8 << 20) /* what is longer is read by OpenSSL alone */
#define LINE_CHARS 64
#define DER_BYTES_MAX (16 << 10) /* of what is read here */

struct anchor {
    X509_NAME *subject;  /* owned */
    unsigned char *bytes; /* owned: DER; NULL once it is in the store */
    long len;
    bool with_trust;     /* TRUSTED CERTIFICATE: DER and what it is trusted for */
};

struct anchors {
    uint32_t count, capacity;
    struct anchor *items; /* owned */
};

static long add_plain(struct anchors *a, FILE *file);
static int by_subject(X509_LOOKUP *lookup, X509_LOOKUP_TYPE type, const X509_NAME *name, X509_OBJECT *out);
static void lookup_free(X509_LOOKUP *lookup);

X509_LOOKUP_METHOD *anchors__method(void)
{
    X509_LOOKUP_METHOD *method = X509_LOOKUP_meth_new("anchors");
    if (!method) return NULL;
    X509_LOOKUP_meth_set_get_by_subject(method, by_subject);
    X509_LOOKUP_meth_set_free(method, lookup_free);
    return method;
}

/* Steps into (or over) the value at *at. False: there is none of this kind. */
static bool der_step(const unsigned char **at, const unsigned char *end, int tag, bool over)
{
    long len;
    int found, class;
    int how = ASN1_get_object(at, &len, &found, &class, end - *at);
    if (how & 0x80 || found != tag || len > end - *at) return false;
    if (over) *at += len;
    return true;
}

/* Certificate ::= SEQUENCE { SEQUENCE { [0] version OPTIONAL, serial, algorithm, issuer, validity, subject, ... */
static X509_NAME *subject_of(const unsigned char *bytes, long len)
{
    const unsigned char *at = bytes, *end = bytes + len;
    if (!der_step(&at, end, V_ASN1_SEQUENCE, false) || !der_step(&at, end, V_ASN1_SEQUENCE, false)) return NULL;
    if (at < end && *at == 0xa0 && !der_step(&at, end, 0, true)) return NULL;
    if (!der_step(&at, end, V_ASN1_INTEGER, true)) return NULL;
    for (int i = 0; i < 3; i++) {
        if (!der_step(&at, end, V_ASN1_SEQUENCE, true)) return NULL;
    }
    return d2i_X509_NAME(NULL, &at, end - at);
}

static bool add(struct anchors *a, const char *kind, unsigned char *bytes, long len)
{
    bool with_trust = strcmp(kind, PEM_STRING_X509_TRUSTED) == 0;
    if (!with_trust && strcmp(kind, PEM_STRING_X509) != 0 && strcmp(kind, PEM_STRING_X509_OLD) != 0) return false;
    X509_NAME *subject = subject_of(bytes, len);
    if (!subject) return false;
    if (a->count == a->capacity) {
        uint32_t capacity = a->capacity ? a->capacity * 2 : 256;
        struct anchor *items = realloc(a->items, capacity * sizeof *items);
        if (!items) {
            X509_NAME_free(subject);
            return false;
        }
        a->items = items;
        a->capacity = capacity;
    }
    a->items[a->count++] = (struct anchor){ subject, bytes, len, with_trust };
    return true;
}

static void anchors_free(struct anchors *a)
{
    if (!a) return;
    for (uint32_t i = 0; i < a->count; i++) {
        X509_NAME_free(a->items[i].subject);
        OPENSSL_free(a->items[i].bytes);
    }
    free(a->items);
    free(a);
}

uint32_t anchors__add(X509_STORE *store, X509_LOOKUP_METHOD *method, FILE *file)
{
    struct anchors *a = calloc(1, sizeof *a);
    if (!a) return 0;
    char *kind, *head;
    unsigned char *bytes;
    long len;
    long from = add_plain(a, file);
    bool more = from < 0 || fseek(file, from, SEEK_SET) == 0;
    while (more && PEM_read(file, &kind, &head, &bytes, &len)) {
        if (!add(a, kind, bytes, len)) OPENSSL_free(bytes);
        OPENSSL_free(kind);
        OPENSSL_free(head);
    }
    ERR_clear_error(); /* the end of the file is an error to PEM */
    X509_LOOKUP *lookup = a->count ? X509_STORE_add_lookup(store, method) : NULL;
    if (!lookup || !X509_LOOKUP_set_method_data(lookup, a)) {
        anchors_free(a);
        return 0;
    }
    return a->count;
}

/* --- plain blocks ----------------------------------------------------------------------------------------- */

/* The next line; false: there is none that ends. */
static bool line_get(const char **at, const char *end, const char **line, size_t *len)
{
    const char *stop = *at < end ? memchr(*at, '\n', (size_t)(end - *at)) : NULL;
    if (!stop) return false;
    *line = *at;
    *len = (size_t)(stop - *at);
    *at = stop + 1;
    return true;
}

static bool line_is(const char *line, size_t len, const char *text)
{
    return len == strlen(text) && memcmp(line, text, len) == 0;
}

/* The body of a block, up to and with its last line: lines of 64 characters but the last, nothing else. Owned by
 * who called; NULL: it is not like that. */
static unsigned char *body_get(const char **at, const char *end, long *bytes)
{
    char text[DER_BYTES_MAX / 3 * 4];
    const char *line = NULL;
    size_t len, count = 0, last = LINE_CHARS;
    while (line_get(at, end, &line, &len) && !line_is(line, len, "-----END CERTIFICATE-----")) {
        if (last != LINE_CHARS || len == 0 || len > LINE_CHARS || count + len > sizeof text) return NULL;
        memcpy(text + count, line, len);
        count += last = len;
        line = NULL;
    }
    if (!line || count == 0 || count % 4 != 0) return NULL;
    const char *pad = memchr(text, '=', count);
    size_t padding = pad ? (size_t)(text + count - pad) : 0;
    if (padding > 2 || (padding == 2 && pad[1] != '=')) return NULL;
    unsigned char *out = OPENSSL_malloc(count / 4 * 3);
    if (out && EVP_DecodeBlock(out, (const unsigned char *)text, (int)count) == (int)(count / 4 * 3)) {
        *bytes = (long)(count / 4 * 3 - padding);
        return out;
    }
    OPENSSL_free(out);
    return NULL;
}

static long add_text(struct anchors *a, const char *text, const char *end)
{
    const char *at = text, *from = text, *line;
    unsigned char *bytes;
    size_t len;
    long count;
    while (line_get(&at, end, &line, &len)) {
        if (len > 0 && line[0] == '-') {
            bytes = line_is(line, len, "-----BEGIN CERTIFICATE-----") ? body_get(&at, end, &count) : NULL;
            if (!bytes) break;
            if (!add(a, PEM_STRING_X509, bytes, count)) OPENSSL_free(bytes);
        }
        from = at;
    }
    return from - text;
}

/* A bundle is plain blocks and lines between them: read whole, they take a fifth of what PEM_read() takes for
 * them. Where it must go on, from the first thing that is not so plain: what that means is OpenSSL's to say. Below
 * 0: nothing was read. */
static long add_plain(struct anchors *a, FILE *file)
{
    struct stat st;
    if (fstat(fileno(file), &st) != 0 || st.st_size <= 0 || st.st_size > BUNDLE_BYTES_MAX) return -1;
    char *text = malloc((size_t)st.st_size);
    size_t len = text ? fread(text, 1, (size_t)st.st_size, file) : 0;
    const char *nul = len ? memchr(text, 0, len) : NULL; /* a line that has one is not plain */
    long from = add_text(a, text, nul ? nul : text + len);
    free(text);
    return from;
}

/* --- what a chain asks for ------------------------------------------------------------------------------------ */

/* All of that name go into the store at once: OpenSSL looks there for the others itself. */
static int by_subject(X509_LOOKUP *lookup, X509_LOOKUP_TYPE type, const X509_NAME *name, X509_OBJECT *out)
{
    struct anchors *a = X509_LOOKUP_get_method_data(lookup);
    int found = 0;
    if (!a || type != X509_LU_X509) return 0;
    for (uint32_t i = 0; i < a->count; i++) {
        struct anchor *item = &a->items[i];
        if (!item->bytes || X509_NAME_cmp(item->subject, name) != 0) continue;
        const unsigned char *at = item->bytes;
        X509 *certificate = item->with_trust ? d2i_X509_AUX(NULL, &at, item->len) : d2i_X509(NULL, &at, item->len);
        OPENSSL_free(item->bytes);
        item->bytes = NULL;
        if (certificate && X509_STORE_add_cert(X509_LOOKUP_get_store(lookup), certificate) == 1 && !found) {
            /* What is handed out is borrowed from the store. */
            found = X509_OBJECT_set1_X509(out, certificate);
            if (found) X509_free(certificate);
        }
        X509_free(certificate);
    }
    return found;
}

static void lookup_free(X509_LOOKUP *lookup)
{
    anchors_free(X509_LOOKUP_get_method_data(lookup));
}
