/* Anchors: the system's CAs, each parsed when the first chain asks for it. A bundle has some 150, a connection's
 * chain ends in one of them, and OpenSSL takes 0.3 ms to parse one: 50 ms of a start, and 1 MB. Owns the bytes
 * and names of those of one store. Judges nothing: what a chain asks for is added to the store, as if it had
 * been there. Made in the pool, asked on the loop. */
#include <openssl/asn1.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <stdlib.h>
#include <string.h>

#include "net/net_internal.h"

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
    while (PEM_read(file, &kind, &head, &bytes, &len)) {
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
