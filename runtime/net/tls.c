/* TLS: one SSL per link: its set-up, handshake and end, and what a failure means in words. Verification
 * is always on: the chain against the link's trust, and the host's name or address. */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "base/assert.h"
#include "base/fetch_ahead.h"
#include "net/net_internal.h"

static int on_session(SSL *ssl, SSL_SESSION *session);
static void on_info(const SSL *ssl, int where, int result);
static struct cause certificate_cause(struct net_link *link, enum stage stage, long error);
static int on_verify(int good, X509_STORE_CTX *store);
static char *first_name(X509 *certificate);
static const char *alert_text(uint8_t alert);
static bool looks_like_tls(const struct net_link *link);

SSL_CTX *tls__context(X509_STORE *store)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    if (!context) {
        X509_STORE_free(store);
        return NULL;
    }
    SSL_CTX_set_cert_store(context, store);
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, on_verify);
    SSL_CTX_set_read_ahead(context, 1); /* one read for a record's head and body: bio.c */
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, on_session);
    SSL_CTX_set_info_callback(context, on_info);
    return context;
}

/* 22 of an SSL's 119 lines, seen with valgrind's lackey at a read and a write of OpenSSL 3.0.19 (TLS 1.3, AES-GCM); each
 * is in no cache when thousands of links are quiet. Elsewhere other lines are read: then these cost what they did not save. */
void tls__warm(const struct net_link *link)
{
    static const uint8_t lines[] = { 0,  1,  2,  6,  11, 19, 33, 34, 36,  39,  40,
                                     42, 46, 49, 50, 51, 74, 75, 114, 115, 116, 117 };
    if (!link->ssl) return;
    const char *ssl = (const char *)link->ssl;
    for (size_t i = 0; i < sizeof lines; i++) fetch_ahead(ssl + lines[i] * FETCH_LINE, 1);
}

void tls__errors_clear(void)
{
    /* Clearing an empty queue walks all of its places, and was a twentieth of a beat. */
    if (ERR_peek_error()) ERR_clear_error();
}

bool tls__start(struct net_link *link, const struct trust *trust)
{
    ASSERT(link->ssl == NULL);
    ASSERT(link->fd >= 0);
    tls__errors_clear();
    SSL *ssl = SSL_new(trust__context(trust));
    if (!ssl) return false;
    BIO *bio = bio__create(link);
    if (!bio) {
        SSL_free(ssl);
        return false;
    }
    SSL_set_bio(ssl, bio, bio);
    SSL_set_app_data(ssl, link);
    SSL_set_connect_state(ssl);
    union address literal;
    bool named;
    if (address__parse(link->host, &literal)) {
        named = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), link->host) == 1;
    } else {
        SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
        named = SSL_set1_host(ssl, link->host) == 1 &&
                SSL_set_tlsext_host_name(ssl, link->host) == 1;
    }
    if (!named) {
        SSL_free(ssl);
        return false;
    }
    link->trust_id = trust__id(trust);
    SSL_SESSION *session = sessions__find(trusts__sessions(link->net->trusts), link->host,
                                          link->port, link->trust_id);
    /* A copy: OpenSSL takes a ticket of TLS 1.3 for spent once a handshake has used it, and in a herd all who
     * dial before the next ticket came would shake hands in full. */
    SSL_SESSION *copy = session ? SSL_SESSION_dup(session) : NULL;
    if (copy) SSL_set_session(ssl, copy);
    SSL_SESSION_free(copy);
    link->ssl = ssl;
    link->first_len = 0;
    return true;
}

void tls__settle(struct net_link *link)
{
    sessions__share(trusts__sessions(link->net->trusts), link->host, link->port, link->trust_id, link->ssl);
}

void tls__handshake(struct net_link *link)
{
    tls__errors_clear();
    int result = SSL_do_handshake(link->ssl);
    if (result == 1) {
        link->net->counts.handshakes++;
        if (SSL_session_reused(link->ssl)) link->net->counts.handshakes_resumed++;
        link->want_read_to_write = false;
        link->first_len = sizeof link->first; /* enough of them */
        tls__settle(link);
        link__opened(link);
        return;
    }
    int error = SSL_get_error(link->ssl, result);
    if ((error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) && !link->poll_failed) {
        link->want_read_to_write = error == SSL_ERROR_WANT_READ;
        link__poll(link);
        return;
    }
    struct cause cause = tls__cause(link, STAGE_SECURING, error);
    link__end(link, &cause);
}

struct cause tls__cause(struct net_link *link, enum stage stage, int ssl_error)
{
    bool handshaking = stage == STAGE_SECURING;
    long verdict = SSL_get_verify_result(link->ssl);
    unsigned long packed = ERR_peek_last_error();
    bool refused = ERR_GET_LIB(packed) == ERR_LIB_SSL &&
                   ERR_GET_REASON(packed) == SSL_R_CERTIFICATE_VERIFY_FAILED;
    if (handshaking && verdict != X509_V_OK && refused) return certificate_cause(link, stage, verdict);
    if (link->got_alert) {
        struct cause cause = net__cause(stage, CAUSE_TLS, link->alert, "the peer sent TLS alert %u: %s",
                                        link->alert, alert_text(link->alert));
        cause.by = BY_PEER;
        return cause;
    }
    if (handshaking && link->first_len && !looks_like_tls(link)) {
        struct cause cause = net__cause(stage, CAUSE_TLS, 0, "the peer does not speak TLS, it sent: %.*s",
                                        (int)link->first_len, (const char *)link->first);
        cause.by = BY_PEER;
        return cause;
    }
    const char *where = handshaking ? " during the TLS handshake" : "";
    if (link->sys_errno) {
        return net__cause(stage, net__stream_kind(link->sys_errno), link->sys_errno, "%s%s",
                          uv_strerror(-link->sys_errno), where);
    }
    if (link->sys_eof) {
        struct cause cause = net__cause(stage, CAUSE_EOF, 0,
                                        "the peer closed the connection%s without close_notify", where);
        cause.by = BY_PEER;
        return cause;
    }
    if (ssl_error == SSL_ERROR_WANT_READ || ssl_error == SSL_ERROR_WANT_WRITE) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(link->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (!error) error = EIO;
        return net__cause(stage, net__stream_kind(error), error, "%s%s", uv_strerror(-error), where);
    }
    const char *reason = ERR_reason_error_string(packed);
    return net__cause(stage, CAUSE_TLS, 0, "TLS failed%s: %s", where, reason ? reason : "unknown");
}

void tls__free(struct net_link *link, bool session_is_bad)
{
    if (!link->ssl) return;
    if (session_is_bad) {
        sessions__drop(trusts__sessions(link->net->trusts), link->host, link->port, link->trust_id);
    } else {
        /* Otherwise OpenSSL marks the session unusable, and a cut connection is just the one that is
         * dialled again. */
        SSL_set_shutdown(link->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    }
    SSL_free(link->ssl);
    link->ssl = NULL;
}

/* Keeps a copy of the session for the next dial to the same place with the same trust: what becomes of this
 * link must not spoil it. 0: this one stays OpenSSL's. */
static int on_session(SSL *ssl, SSL_SESSION *session)
{
    struct net_link *link = SSL_get_app_data(ssl);
    SSL_SESSION *copy = SSL_SESSION_dup(session);
    if (copy) sessions__put(trusts__sessions(link->net->trusts), link->host, link->port, link->trust_id, copy);
    link->got_session = true;
    return 0;
}

static void on_info(const SSL *ssl, int where, int result)
{
    if (where != SSL_CB_READ_ALERT) return;
    struct net_link *link = SSL_get_app_data(ssl);
    if ((result & 0xff) == SSL_AD_CLOSE_NOTIFY) return;
    link->got_alert = true;
    link->alert = (uint8_t)result;
}

static struct cause certificate_cause(struct net_link *link, enum stage stage, long error)
{
    bool mismatch = error == X509_V_ERR_HOSTNAME_MISMATCH || error == X509_V_ERR_IP_ADDRESS_MISMATCH;
    struct cause cause;
    if (mismatch && link->peer_name) {
        cause = net__cause(stage, CAUSE_CERTIFICATE, error, "the certificate is for %s, not for %s",
                           link->peer_name, link->host);
    } else if (mismatch) {
        cause = net__cause(stage, CAUSE_CERTIFICATE, error, "the certificate is not for %s",
                           link->host);
    } else {
        cause = net__cause(stage, CAUSE_CERTIFICATE, error, "certificate refused: %s",
                           X509_verify_cert_error_string(error));
    }
    cause.by = BY_PEER;
    return cause;
}

/* Changes no verdict: notes whose certificate it is, because OpenSSL forgets a refused one. */
static int on_verify(int good, X509_STORE_CTX *store)
{
    int error = X509_STORE_CTX_get_error(store);
    if (good || (error != X509_V_ERR_HOSTNAME_MISMATCH && error != X509_V_ERR_IP_ADDRESS_MISMATCH)) {
        return good;
    }
    SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
    struct net_link *link = SSL_get_app_data(ssl);
    X509 *certificate = X509_STORE_CTX_get0_cert(store);
    if (certificate && !link->peer_name) link->peer_name = first_name(certificate);
    return good;
}

/* Owned; NULL when it has no DNS name. */
static char *first_name(X509 *certificate)
{
    char *found = NULL;
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    for (int i = 0; i < sk_GENERAL_NAME_num(names) && !found; i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type != GEN_DNS) continue;
        size_t len = (size_t)ASN1_STRING_length(name->d.dNSName);
        if (len > 0 && len < NET_HOST_BYTES_MAX) {
            found = strndup((const char *)ASN1_STRING_get0_data(name->d.dNSName), len);
        }
    }
    GENERAL_NAMES_free(names);
    return found;
}

/* OpenSSL's words, and those of TLS 1.3 that it does not have. */
static const char *alert_text(uint8_t alert)
{
    switch (alert) {
    case SSL_AD_MISSING_EXTENSION: return "missing extension";
    case SSL_AD_CERTIFICATE_REQUIRED: return "certificate required";
    case SSL_AD_NO_APPLICATION_PROTOCOL: return "no application protocol";
    default: return SSL_alert_desc_string_long(alert);
    }
}

/* A TLS record begins with its type and major version 3. */
static bool looks_like_tls(const struct net_link *link)
{
    if (link->first[0] < 0x14 || link->first[0] > 0x18) return false;
    return link->first_len < 2 || link->first[1] == 3;
}
