/* Scripted raw servers of the wire specs (net_far_end.h), and what a TLS server may show that no peer does:
 * chains of certificates in any order, alerts by number, a demand for a client's certificate, IPv6. */
#ifndef HOLDFAST_TESTS_WIRE_RAW_H
#define HOLDFAST_TESTS_WIRE_RAW_H

#include "base/assert.h"
#include "base/buffer.h"
#include "net_far_end.h"

#define WIRE_DAY_S 86400L
#define WIRE_NAMES "DNS:localhost,IP:127.0.0.1,IP:::1"

struct wire_raw_options {
    bool tls, v6, asks_client;   /* asks_client: a certificate, which holdfast has none of */
    const char *names, *chain;   /* NULL: localhost; the whole chain in order */
    long starts_in_s, ends_in_s; /* 0, 0: a day around now */
};

/* root <- first <- second <- server; the client trusts the root. */
struct wire_chain {
    EVP_PKEY *root_key, *first_key, *second_key, *key;
    X509 *root, *first, *second, *server;
};

static void wire_pem(BIO *bio, struct buffer *out)
{
    char *data;
    long len = BIO_get_mem_data(bio, &data);
    if (!buffer_append(out, data, (size_t)len)) abort();
    BIO_free(bio);
}

/* A list that names the server's certificate, by the CA that issued it. */
static void wire_revoked_pem(const struct wire_chain *c, struct buffer *out)
{
    X509_CRL *crl = X509_CRL_new();
    X509_REVOKED *revoked = X509_REVOKED_new();
    ASN1_TIME *then = X509_gmtime_adj(NULL, -60), *later = X509_gmtime_adj(NULL, WIRE_DAY_S);
    X509_CRL_set_version(crl, 1);
    X509_CRL_set_issuer_name(crl, X509_get_subject_name(c->second));
    X509_CRL_set1_lastUpdate(crl, then);
    X509_CRL_set1_nextUpdate(crl, later);
    X509_REVOKED_set_serialNumber(revoked, X509_get_serialNumber(c->server));
    X509_REVOKED_set_revocationDate(revoked, then);
    X509_CRL_add0_revoked(crl, revoked);
    X509_CRL_sort(crl);
    X509_CRL_sign(crl, c->second_key, EVP_sha256());
    BIO *bio = BIO_new(BIO_s_mem());
    PEM_write_bio_X509_CRL(bio, crl);
    wire_pem(bio, out);
    ASN1_TIME_free(then);
    ASN1_TIME_free(later);
    X509_CRL_free(crl);
}

static struct wire_chain wire_chain_create(const struct wire_raw_options *o)
{
    struct wire_chain c = { EVP_EC_gen("P-256"), EVP_EC_gen("P-256"), EVP_EC_gen("P-256"),
                            EVP_EC_gen("P-256"), NULL, NULL, NULL, NULL };
    static int number; /* two roots of one name would be taken for each other */
    char names[3][32];
    const char *const parts[] = { "root", "first", "second" };
    number++;
    for (int i = 0; i < 3; i++) snprintf(names[i], sizeof names[i], "wire %s %d", parts[i], number);
    bool dated = o->starts_in_s || o->ends_in_s;
    c.root = far_end_certificate(c.root_key, names[0], NULL, -WIRE_DAY_S, WIRE_DAY_S, NULL, NULL);
    c.first = far_end_certificate(c.first_key, names[1], NULL, -WIRE_DAY_S, WIRE_DAY_S, c.root, c.root_key);
    c.second = far_end_certificate(c.second_key, names[2], NULL, -WIRE_DAY_S, WIRE_DAY_S, c.first,
                                   c.first_key);
    c.server = far_end_certificate(c.key, "wire server", o->names ? o->names : WIRE_NAMES,
                                   dated ? o->starts_in_s : -WIRE_DAY_S, dated ? o->ends_in_s : WIRE_DAY_S,
                                   c.second, c.second_key);
    return c;
}

static void wire_chain_free(struct wire_chain *c)
{
    EVP_PKEY *keys[] = { c->root_key, c->first_key, c->second_key, c->key };
    X509 *certificates[] = { c->root, c->first, c->second, c->server };
    for (int i = 0; i < 4; i++) {
        EVP_PKEY_free(keys[i]);
        X509_free(certificates[i]);
    }
}

static void wire_on_info(const SSL *ssl, int where, int result)
{
    struct far_end_link *l = SSL_get_app_data(ssl);
    char text[32];
    if (!l || !(where & SSL_CB_ALERT)) return;
    snprintf(text, sizeof text, "%s_alert_%d", where & SSL_CB_READ ? "got" : "sent", result & 0xff);
    far_end_note(l, text);
}

/* "whole", "reversed" (the CAs), "missing" (no CA at all), "gap" (the one next to the root is missing),
 * "leaf_last". */
static SSL_CTX *wire_raw_context(const struct wire_raw_options *o, struct buffer *ca, struct buffer *revoked)
{
    struct wire_chain c = wire_chain_create(o);
    const char *chain = o->chain ? o->chain : "whole";
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    X509 *sent[4] = { c.server };
    EVP_PKEY *key = c.key;
    if (strcmp(chain, "whole") == 0) {
        sent[1] = c.second, sent[2] = c.first;
    } else if (strcmp(chain, "reversed") == 0) {
        sent[1] = c.root, sent[2] = c.first, sent[3] = c.second;
    } else if (strcmp(chain, "gap") == 0) {
        sent[1] = c.second;
    } else if (strcmp(chain, "leaf_last") == 0) {
        sent[0] = c.second, sent[1] = c.first, sent[2] = c.server;
        key = c.second_key;
    } else if (strcmp(chain, "missing") != 0) {
        abort();
    }
    if (SSL_CTX_use_certificate(context, sent[0]) != 1 || SSL_CTX_use_PrivateKey(context, key) != 1) abort();
    for (int i = 1; i < 4 && sent[i]; i++) SSL_CTX_add1_chain_cert(context, sent[i]);
    if (o->asks_client) SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_info_callback(context, wire_on_info);
    BIO *bio = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(bio, c.root);
    wire_pem(bio, ca);
    wire_revoked_pem(&c, revoked);
    wire_chain_free(&c);
    return context;
}

static bool wire_raw_listen(struct far_end *s, bool v6)
{
    if (!v6) return far_end_listen(s, 16);
    struct sockaddr_in6 a = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
    socklen_t len = sizeof a;
    s->listener = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s->listener < 0) return false;
    if (bind(s->listener, (struct sockaddr *)&a, len) != 0 || listen(s->listener, 16) != 0) {
        close(s->listener);
        return false;
    }
    s->stop = eventfd(0, EFD_CLOEXEC);
    getsockname(s->listener, (struct sockaddr *)&a, &len);
    s->port = ntohs(a.sin6_port);
    return true;
}

#endif
