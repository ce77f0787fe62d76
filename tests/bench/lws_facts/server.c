/* The far end: blocking sockets and OpenSSL in a thread, one connection after the other. Shares no
 * code with either client, so that what it saw is evidence. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "facts.h"

static void *server_main(void *data)
{
    struct server *s = data;
    struct timeval wait = { .tv_sec = CALL_MS_MAX / 1000 };
    int on = 1;
    for (;;) {
        struct conn c = { .fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC) };
        if (c.fd < 0) {
            if (errno == EINTR || errno == ECONNABORTED) continue;
            return NULL;
        }
        setsockopt(c.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        setsockopt(c.fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
        setsockopt(c.fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
        if (s->tls) {
            c.ssl = SSL_new(s->tls);
            SSL_set_fd(c.ssl, c.fd);
        }
        if (!c.ssl || SSL_accept(c.ssl) == 1) s->serve(&c, s->data);
        if (c.ssl) SSL_shutdown(c.ssl);
        SSL_free(c.ssl);
        close(c.fd);
    }
}

bool server_start(struct server *s, serve_fn *serve, void *data, SSL_CTX *tls)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof a;
    *s = (struct server){ .serve = serve, .data = data, .tls = tls };
    s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s->listener < 0) return false;
    if (bind(s->listener, (struct sockaddr *)&a, len) != 0 || listen(s->listener, 16) != 0 ||
        getsockname(s->listener, (struct sockaddr *)&a, &len) != 0) {
        close(s->listener);
        return false;
    }
    s->port = ntohs(a.sin_port);
    if (pthread_create(&s->thread, NULL, server_main, s) == 0) return true;
    close(s->listener);
    return false;
}

void server_stop(struct server *s)
{
    shutdown(s->listener, SHUT_RDWR); /* ends its accept4() */
    pthread_join(s->thread, NULL);
    close(s->listener);
}

SSL_CTX *server_identity(const char *path)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *c = X509_new();
    X509V3_CTX v3;
    X509_set_version(c, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(c), 1);
    X509_gmtime_adj(X509_getm_notBefore(c), -3600);
    X509_gmtime_adj(X509_getm_notAfter(c), 3600);
    X509_set_pubkey(c, key);
    X509_NAME *name = X509_get_subject_name(c);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"localhost", -1, -1,
                               0);
    X509_set_issuer_name(c, name);
    X509V3_set_ctx_nodb(&v3);
    X509V3_set_ctx(&v3, c, c, NULL, NULL, 0);
    X509_EXTENSION *names = X509V3_EXT_conf_nid(NULL, &v3, NID_subject_alt_name, "DNS:localhost");
    X509_add_ext(c, names, -1);
    X509_EXTENSION_free(names);
    X509_sign(c, key, EVP_sha256());

    SSL_CTX *tls = SSL_CTX_new(TLS_server_method());
    FILE *file = fopen(path, "w");
    bool ok = file && PEM_write_X509(file, c) == 1;
    if (file) ok = fclose(file) == 0 && ok;
    ok = ok && SSL_CTX_use_certificate(tls, c) == 1 && SSL_CTX_use_PrivateKey(tls, key) == 1;
    SSL_CTX_set_session_id_context(tls, (const unsigned char *)"facts", 5);
    X509_free(c);
    EVP_PKEY_free(key);
    if (ok) return tls;
    SSL_CTX_free(tls);
    return NULL;
}

/* --- bytes --------------------------------------------------------------------------------------
 */

bool conn_write(struct conn *c, const void *bytes, size_t len)
{
    const char *at = bytes;
    while (len) {
        size_t part = len < 1 << 20 ? len : 1 << 20;
        ssize_t n = c->ssl ? SSL_write(c->ssl, at, (int)part) : send(c->fd, at, part, MSG_NOSIGNAL);
        if (n <= 0) return false;
        at += n;
        len -= (size_t)n;
    }
    return true;
}

bool conn_read(struct conn *c, void *out, size_t len)
{
    char *at = out;
    while (len) {
        ssize_t n = c->ssl ? SSL_read(c->ssl, at, (int)len) : read(c->fd, at, len);
        if (n <= 0) return false;
        at += n;
        len -= (size_t)n;
    }
    return true;
}

bool conn_request(struct conn *c)
{
    size_t len = 0;
    /* Byte by byte: what follows the blank line is the next reader's. */
    while (len + 1 < sizeof c->head) {
        if (!conn_read(c, c->head + len, 1)) return false;
        c->head[++len] = '\0';
        if (len >= 4 && memcmp(c->head + len - 4, "\r\n\r\n", 4) == 0) return true;
    }
    return false;
}

bool conn_upgrade(struct conn *c)
{
    char text[256], accept[64];
    uint8_t digest[20];
    if (!conn_request(c)) return false;
    const char *key = strcasestr(c->head, "sec-websocket-key:");
    if (!key) return false;
    key += strlen("sec-websocket-key:");
    key += strspn(key, " ");
    int len = snprintf(text, sizeof text, "%.*s258EAFA5-E914-47DA-95CA-C5AB0DC85B11",
                       (int)strcspn(key, " \r"), key);
    EVP_Digest(text, (size_t)len, digest, NULL, EVP_sha1(), NULL);
    EVP_EncodeBlock((unsigned char *)accept, digest, sizeof digest);
    len = snprintf(text, sizeof text,
                   "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                   "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
                   accept);
    return conn_write(c, text, (size_t)len);
}

int conn_frame(struct conn *c, uint8_t payload[126], size_t *len)
{
    uint8_t head[2], mask[4];
    if (!conn_read(c, head, 2)) return -1;
    *len = head[1] & 0x7f;
    if (!(head[1] & 0x80) || *len > 125) return -1;
    if (!conn_read(c, mask, 4) || !conn_read(c, payload, *len)) return -1;
    for (size_t i = 0; i < *len; i++) payload[i] ^= mask[i % 4];
    payload[*len] = 0;
    return head[0] & 0x0f;
}

size_t frame_write(uint8_t *out, int opcode, const void *payload, size_t len)
{
    size_t at = 0;
    out[at++] = (uint8_t)(0x80 | opcode);
    if (len < 126) {
        out[at++] = (uint8_t)len;
    } else {
        out[at++] = 126;
        out[at++] = (uint8_t)(len >> 8);
        out[at++] = (uint8_t)len;
    }
    memcpy(out + at, payload, len);
    return at + len;
}

void sleep_ms(uint64_t ms)
{
    struct timespec t = { .tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000 };
    while (nanosleep(&t, &t) != 0 && errno == EINTR) {
    }
}
