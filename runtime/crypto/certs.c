/* A throw-away CA and one server certificate, both on P-256. Owns the PEM texts only. */
#include "crypto/certs.h"

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <string.h>

#define WEEK_S (7L * 86400)

static bool bio_take(BIO *bio, struct buffer *out)
{
    char *data;
    long len = BIO_get_mem_data(bio, &data);
    return len > 0 && buffer_append(out, data, (size_t)len);
}

static bool pem_of_cert(X509 *cert, struct buffer *out)
{
    BIO *bio = BIO_new(BIO_s_mem());
    bool ok = bio && PEM_write_bio_X509(bio, cert) && bio_take(bio, out);
    BIO_free(bio);
    return ok;
}

static bool pem_of_key(EVP_PKEY *key, struct buffer *out)
{
    BIO *bio = BIO_new(BIO_s_secmem());
    bool ok = bio && PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) &&
              bio_take(bio, out);
    BIO_free(bio);
    return ok;
}

static bool extension_add(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    bool ok = extension && X509_add_ext(cert, extension, -1);
    X509_EXTENSION_free(extension);
    return ok;
}

static X509 *cert_new(EVP_PKEY *key, const char *name, long starts_in_s, long ends_in_s)
{
    X509 *cert = X509_new();
    uint64_t serial = 0;
    if (!cert || RAND_bytes((unsigned char *)&serial, sizeof serial) != 1) goto fail_cert;
    bool ok = X509_set_version(cert, 2) &&
              ASN1_INTEGER_set_uint64(X509_get_serialNumber(cert), serial >> 1 | 1) &&
              X509_gmtime_adj(X509_getm_notBefore(cert), starts_in_s) &&
              X509_gmtime_adj(X509_getm_notAfter(cert), ends_in_s) && X509_set_pubkey(cert, key) &&
              X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
                                         (const unsigned char *)name, -1, -1, 0);
    if (ok) return cert;
fail_cert:
    X509_free(cert);
    return NULL;
}

bool certs_create(struct certs *c, const struct certs_options *options)
{
    long starts = options->starts_in_s, ends = options->ends_in_s;
    if (!starts && !ends) {
        starts = -3600;
        ends = WEEK_S;
    }
    buffer_init(&c->ca_pem, 0);
    buffer_init(&c->cert_pem, 0);
    buffer_init(&c->key_pem, 0);
    EVP_PKEY *ca_key = EVP_EC_gen("P-256"), *key = EVP_EC_gen("P-256");
    X509 *ca = ca_key ? cert_new(ca_key, "holdfast test CA", -3600, WEEK_S) : NULL;
    X509 *cert = key ? cert_new(key, "holdfast peer", starts, ends) : NULL;
    const char *names = options->names ? options->names : "DNS:localhost,IP:127.0.0.1,IP:::1";
    bool ok = ca && cert && X509_set_issuer_name(ca, X509_get_subject_name(ca)) &&
              extension_add(ca, ca, NID_basic_constraints, "critical,CA:TRUE") &&
              extension_add(ca, ca, NID_key_usage, "critical,keyCertSign,cRLSign") &&
              extension_add(ca, ca, NID_subject_key_identifier, "hash") &&
              X509_sign(ca, ca_key, EVP_sha256()) &&
              X509_set_issuer_name(cert, X509_get_subject_name(ca)) &&
              extension_add(cert, ca, NID_subject_alt_name, names) &&
              extension_add(cert, ca, NID_authority_key_identifier, "keyid:always") &&
              extension_add(cert, ca, NID_basic_constraints, "critical,CA:FALSE") &&
              extension_add(cert, ca, NID_ext_key_usage, "serverAuth") &&
              X509_sign(cert, ca_key, EVP_sha256()) && pem_of_cert(ca, &c->ca_pem) &&
              pem_of_cert(cert, &c->cert_pem) && pem_of_key(key, &c->key_pem);
    X509_free(ca);
    X509_free(cert);
    EVP_PKEY_free(ca_key);
    EVP_PKEY_free(key);
    if (!ok) certs_deinit(c);
    return ok;
}

void certs_deinit(struct certs *c)
{
    buffer_deinit(&c->ca_pem);
    buffer_deinit(&c->cert_pem);
    if (c->key_pem.data) explicit_bzero(c->key_pem.data, c->key_pem.capacity);
    buffer_deinit(&c->key_pem);
}
