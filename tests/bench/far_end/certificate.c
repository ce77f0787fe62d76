/* The load peer's certificate, new with each run. */
#include <openssl/evp.h>
#include <openssl/x509v3.h>
#include <stdio.h>

#include "peer_internal.h"

void certificate__make(SSL_CTX *ctx, const char *ca_path)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    X509V3_CTX v3;
    static const struct { int nid; const char *value; } extensions[] = {
        { NID_basic_constraints, "critical,CA:TRUE" },
        { NID_subject_key_identifier, "hash" },
        { NID_subject_alt_name, "IP:127.0.0.1,DNS:localhost" },
    };
    if (!key || !x) die("a certificate");
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), (long)(now_ns() & 0x7fffffff));
    X509_gmtime_adj(X509_getm_notBefore(x), -3600);
    X509_gmtime_adj(X509_getm_notAfter(x), 86400);
    X509_set_pubkey(x, key);
    X509_NAME *name = X509_get_subject_name(x);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"bench", -1, -1, 0);
    X509_set_issuer_name(x, name);
    X509V3_set_ctx(&v3, x, x, NULL, NULL, 0);
    for (size_t i = 0; i < sizeof extensions / sizeof *extensions; i++) {
        X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &v3, extensions[i].nid, extensions[i].value);
        X509_add_ext(x, e, -1);
        X509_EXTENSION_free(e);
    }
    if (!X509_sign(x, key, EVP_sha256())) die("signing");
    FILE *f = fopen(ca_path, "w");
    if (!f || !PEM_write_X509(f, x) || fclose(f) != 0) die(ca_path);
    if (SSL_CTX_use_certificate(ctx, x) != 1 || SSL_CTX_use_PrivateKey(ctx, key) != 1) die("certificate");
    X509_free(x);
    EVP_PKEY_free(key);
}
