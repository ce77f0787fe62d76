/* The far end of net's wire specs: a certificate authority made on the spot, and a scripted server
 * on a loopback port, raw or TLS, blocking, in threads of its own and independent of net's code.
 *
 * A script is a list of steps, one connection runs it from the start; what the server saw is kept as
 * lines of text. Every wait ends after FAR_END_WAIT_MS or when the server is stopped. */
#ifndef HOLDFAST_TESTS_NET_FAR_END_H
#define HOLDFAST_TESTS_NET_FAR_END_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define FAR_END_WAIT_MS 10000
#define FAR_END_LINKS_MAX 64
#define FAR_END_STEPS_MAX 64

struct far_end_step {
    char verb[16];
    char *bytes; /* owned */
    size_t len;
};

struct far_end;

struct far_end_link {
    struct far_end *server;
    pthread_t thread;
    int fd;
    SSL *ssl;
    char *received; /* owned */
    size_t received_len, received_size;
    char notes[256]; /* "tls resumed eof" ... */
};

struct far_end {
    int listener, stop;
    int go;              /* eventfd for the step "go"; 0: nobody says it */
    uint16_t port;
    SSL_CTX *context;
    pthread_t thread;
    struct far_end_step steps[FAR_END_STEPS_MAX];
    int step_count;
    pthread_mutex_t lock;
    struct far_end_link links[FAR_END_LINKS_MAX];
    int link_count;
    bool running;
};

static uint8_t far_end_pattern(size_t at)
{
    return (uint8_t)(at * 31 + (at >> 8));
}

/* ---- certificates ------------------------------------------------------------------------------ */

static void far_end_extension(X509 *certificate, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    if (!extension) abort();
    X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
}

/* `names`: a subjectAltName value, or NULL for a CA. Signed by `issuer`, or by itself when NULL. */
static X509 *far_end_certificate(EVP_PKEY *key, const char *subject, const char *names,
                                 long from_s, long until_s, X509 *issuer, EVP_PKEY *issuer_key)
{
    static long serial = 1;
    X509 *c = X509_new();
    X509_set_version(c, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(c), ++serial);
    X509_gmtime_adj(X509_getm_notBefore(c), from_s);
    X509_gmtime_adj(X509_getm_notAfter(c), until_s);
    X509_set_pubkey(c, key);
    X509_NAME *name = X509_get_subject_name(c);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)subject, -1, -1, 0);
    X509_set_issuer_name(c, issuer ? X509_get_subject_name(issuer) : name);
    X509 *signer = issuer ? issuer : c;
    if (names) {
        far_end_extension(c, signer, NID_subject_alt_name, names);
    } else {
        far_end_extension(c, signer, NID_basic_constraints, "critical,CA:TRUE");
        far_end_extension(c, signer, NID_key_usage, "critical,keyCertSign,cRLSign");
    }
    X509_sign(c, issuer_key ? issuer_key : key, EVP_sha256());
    return c;
}

/* ---- a connection ------------------------------------------------------------------------------ */

static void far_end_note(struct far_end_link *l, const char *text)
{
    pthread_mutex_lock(&l->server->lock);
    size_t len = strlen(l->notes);
    snprintf(l->notes + len, sizeof l->notes - len, len ? " %s" : "%s", text);
    pthread_mutex_unlock(&l->server->lock);
}

/* False when the server is stopped or the wait was too long. */
static bool far_end_wait(struct far_end_link *l, short events)
{
    struct pollfd fds[2] = { { l->fd, events, 0 }, { l->server->stop, POLLIN, 0 } };
    int ready;
    do ready = poll(fds, 2, FAR_END_WAIT_MS);
    while (ready < 0 && errno == EINTR);
    return ready > 0 && fds[0].revents != 0;
}

/* As read(): 0 at the end of the stream, -1 for an error with its note taken. */
static ssize_t far_end_read(struct far_end_link *l, void *out, size_t len)
{
    for (;;) {
        if (!l->ssl) {
            if (!far_end_wait(l, POLLIN)) return -1;
            ssize_t got = recv(l->fd, out, len, 0);
            if (got == 0) far_end_note(l, "eof");
            if (got < 0) far_end_note(l, errno == ECONNRESET ? "reset" : "error");
            return got;
        }
        ERR_clear_error();
        int got = SSL_read(l->ssl, out, (int)len);
        if (got > 0) return got;
        int error = SSL_get_error(l->ssl, got);
        if (error == SSL_ERROR_WANT_READ) {
            if (!far_end_wait(l, POLLIN)) return -1;
            continue;
        }
        if (error == SSL_ERROR_ZERO_RETURN) {
            far_end_note(l, "close_notify");
            return 0;
        }
        far_end_note(l, errno == ECONNRESET ? "reset" : "eof");
        return error == SSL_ERROR_SYSCALL && errno == ECONNRESET ? -1 : 0;
    }
}

static bool far_end_write(struct far_end_link *l, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t sent;
        if (l->ssl) {
            ERR_clear_error();
            int result = SSL_write(l->ssl, bytes, (int)(len > 1 << 20 ? 1 << 20 : len));
            int error = SSL_get_error(l->ssl, result);
            if (result <= 0 && error != SSL_ERROR_WANT_WRITE && error != SSL_ERROR_WANT_READ) {
                return false;
            }
            if (result <= 0 && !far_end_wait(l, error == SSL_ERROR_WANT_WRITE ? POLLOUT : POLLIN)) {
                return false;
            }
            sent = result > 0 ? result : 0;
        } else {
            sent = send(l->fd, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT);
            if (sent < 0 && errno != EAGAIN) return false;
            if (sent < 0 && !far_end_wait(l, POLLOUT)) return false;
            if (sent < 0) sent = 0;
        }
        bytes += sent;
        len -= (size_t)sent;
    }
    return true;
}

static void far_end_keep(struct far_end_link *l, const void *bytes, size_t len)
{
    pthread_mutex_lock(&l->server->lock);
    if (l->received_len + len + 1 > l->received_size) {
        l->received_size = (l->received_len + len + 1) * 2;
        l->received = realloc(l->received, l->received_size);
    }
    memcpy(l->received + l->received_len, bytes, len);
    l->received_len += len;
    l->received[l->received_len] = '\0';
    pthread_mutex_unlock(&l->server->lock);
}

static bool far_end_accept_tls(struct far_end_link *l)
{
    l->ssl = SSL_new(l->server->context);
    SSL_set_app_data(l->ssl, l);
    SSL_set_fd(l->ssl, l->fd);
    for (;;) {
        ERR_clear_error();
        int result = SSL_accept(l->ssl);
        if (result == 1) break;
        int error = SSL_get_error(l->ssl, result);
        if ((error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) &&
            far_end_wait(l, error == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT)) {
            continue;
        }
        far_end_note(l, "tls_failed");
        return false;
    }
    far_end_note(l, SSL_session_reused(l->ssl) ? "resumed" : "tls");
    return true;
}

static bool far_end_until_blank_line(struct far_end_link *l)
{
    size_t from = l->received_len;
    char byte[4096];
    for (;;) {
        const char *end = l->received_len > from
                              ? memmem(l->received + from, l->received_len - from, "\r\n\r\n", 4)
                              : NULL;
        if (end) {
            const char *text = strcasestr(l->received + from, "content-length:");
            size_t want = (size_t)(end - l->received) + 4;
            if (text && text < end) want += strtoul(text + 15, NULL, 10);
            if (l->received_len >= want) return true;
        }
        ssize_t got = far_end_read(l, byte, sizeof byte);
        if (got <= 0) return false;
        far_end_keep(l, byte, (size_t)got);
    }
}

/* Answers a WebSocket upgrade, then the rest of the script speaks frames. */
static bool far_end_upgrade(struct far_end_link *l)
{
    char text[256], accept[64];
    uint8_t digest[20];
    if (!far_end_until_blank_line(l)) return false;
    const char *key = strcasestr(l->received, "sec-websocket-key:");
    if (!key) return false;
    key += strlen("sec-websocket-key:");
    key += strspn(key, " ");
    int len = snprintf(text, sizeof text, "%.*s%s", (int)strcspn(key, " \r"), key,
                       "258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    EVP_Digest(text, (size_t)len, digest, NULL, EVP_sha1(), NULL);
    EVP_EncodeBlock((unsigned char *)accept, digest, sizeof digest);
    len = snprintf(text, sizeof text,
                   "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                   "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n", accept);
    return far_end_write(l, text, (size_t)len);
}

/* A pattern of `number` bytes in records of 1 to 300, which go out in pieces of 1 to 40 bytes. */
static bool far_end_records(struct far_end_link *l, size_t number)
{
    int on = 1;
    char bytes[300], piece[40];
    BIO *records = BIO_new(BIO_s_mem());
    SSL *ssl = l->ssl;
    setsockopt(l->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    SSL_set0_wbio(ssl, records); /* moved */
    bool ok = true;
    for (size_t at = 0, n; at < number && ok; at += n) {
        n = at % 300 + 1 < number - at ? at % 300 + 1 : number - at;
        for (size_t i = 0; i < n; i++) bytes[i] = (char)far_end_pattern(at + i);
        ok = SSL_write(ssl, bytes, (int)n) == (int)n;
        int got;
        l->ssl = NULL; /* as they are */
        while (ok && (got = BIO_read(records, piece, (int)(BIO_pending(records) % 40 + 1))) > 0) {
            ok = far_end_write(l, piece, (size_t)got);
        }
        l->ssl = ssl;
    }
    SSL_set0_wbio(ssl, BIO_new_socket(l->fd, BIO_NOCLOSE));
    return ok;
}

static bool far_end_step(struct far_end_link *l, const struct far_end_step *s)
{
    char bytes[16384];
    size_t number = s->bytes ? strtoul(s->bytes, NULL, 10) : 0;
    if (strcmp(s->verb, "tls") == 0) return far_end_accept_tls(l);
    if (strcmp(s->verb, "write") == 0) return far_end_write(l, s->bytes, s->len);
    if (strcmp(s->verb, "upgrade") == 0) return far_end_upgrade(l);
    if (strcmp(s->verb, "request") == 0) return far_end_until_blank_line(l);
    if (strcmp(s->verb, "trickle") == 0) {
        for (size_t i = 0; i < s->len; i++) {
            if (!far_end_write(l, s->bytes + i, 1)) return false;
        }
        return true;
    }
    if (strcmp(s->verb, "read") == 0) {
        while (number > 0) {
            ssize_t got = far_end_read(l, bytes, number < sizeof bytes ? number : sizeof bytes);
            if (got <= 0) return false;
            far_end_keep(l, bytes, (size_t)got);
            number -= (size_t)got;
        }
        return true;
    }
    if (strcmp(s->verb, "echo") == 0) {
        while (number > 0) {
            ssize_t got = far_end_read(l, bytes, number < sizeof bytes ? number : sizeof bytes);
            if (got <= 0 || !far_end_write(l, bytes, (size_t)got)) return false;
            number -= (size_t)got;
        }
        return true;
    }
    if (strcmp(s->verb, "pattern") == 0) {
        for (size_t at = 0; at < number;) {
            size_t n = number - at < sizeof bytes ? number - at : sizeof bytes;
            for (size_t i = 0; i < n; i++) bytes[i] = (char)far_end_pattern(at + i);
            if (!far_end_write(l, bytes, n)) return false;
            at += n;
        }
        return true;
    }
    if (strcmp(s->verb, "records") == 0) return far_end_records(l, number);
    if (strcmp(s->verb, "end") == 0) { /* read to the end of the stream */
        for (;;) {
            ssize_t got = far_end_read(l, bytes, sizeof bytes);
            if (got <= 0) return got == 0;
            far_end_keep(l, bytes, (size_t)got);
        }
    }
    if (strcmp(s->verb, "notify") == 0) {
        SSL_shutdown(l->ssl);
        return true;
    }
    if (strcmp(s->verb, "shutdown") == 0) return shutdown(l->fd, SHUT_WR) == 0;
    if (strcmp(s->verb, "quiet") == 0) { /* until stopped: neither reads nor writes */
        struct pollfd stop = { l->server->stop, POLLIN, 0 };
        poll(&stop, 1, FAR_END_WAIT_MS);
        return true;
    }
    if (strcmp(s->verb, "go") == 0) { /* until told, or stopped */
        struct pollfd fds[2] = { { l->server->go, POLLIN, 0 }, { l->server->stop, POLLIN, 0 } };
        uint64_t one;
        return poll(fds, 2, FAR_END_WAIT_MS) > 0 && !fds[1].revents && read(l->server->go, &one, sizeof one) > 0;
    }
    if (strcmp(s->verb, "reset") == 0) {
        struct linger linger = { 1, 0 };
        setsockopt(l->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
        return false;
    }
    fprintf(stderr, "far end: no step %s\n", s->verb);
    abort();
}

static void *far_end_link_main(void *data)
{
    struct far_end_link *l = data;
    for (int i = 0; i < l->server->step_count; i++) {
        if (!far_end_step(l, &l->server->steps[i])) break;
    }
    pthread_mutex_lock(&l->server->lock);
    if (l->ssl) {
        SSL_set_quiet_shutdown(l->ssl, 1);
        SSL_free(l->ssl);
    }
    l->ssl = NULL;
    close(l->fd);
    l->fd = -1;
    pthread_mutex_unlock(&l->server->lock);
    far_end_note(l, "closed");
    return NULL;
}

/* ---- the server -------------------------------------------------------------------------------- */

static void *far_end_main(void *data)
{
    struct far_end *s = data;
    /* Here alone, and in the threads of this one: net itself must never cause the signal. */
    sigset_t pipe;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe, NULL);
    for (;;) {
        struct pollfd fds[2] = { { s->listener, POLLIN, 0 }, { s->stop, POLLIN, 0 } };
        if (poll(fds, 2, -1) < 0 && errno == EINTR) continue;
        if (fds[1].revents) return NULL;
        int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0) continue;
        if (s->link_count >= FAR_END_LINKS_MAX) {
            close(fd);
            continue;
        }
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        pthread_mutex_lock(&s->lock);
        struct far_end_link *l = &s->links[s->link_count++];
        pthread_mutex_unlock(&s->lock);
        l->server = s;
        l->fd = fd;
        if (pthread_create(&l->thread, NULL, far_end_link_main, l) != 0) abort();
    }
}

static bool far_end_listen(struct far_end *s, int backlog)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof a;
    s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    s->stop = eventfd(0, EFD_CLOEXEC);
    if (bind(s->listener, (struct sockaddr *)&a, len) != 0) return false;
    if (listen(s->listener, backlog) != 0) return false;
    getsockname(s->listener, (struct sockaddr *)&a, &len);
    s->port = ntohs(a.sin_port);
    return true;
}

static void far_end_stop(struct far_end *s)
{
    if (!s->running) return;
    s->running = false;
    uint64_t one = 1;
    if (write(s->stop, &one, sizeof one) < 0) abort();
    pthread_join(s->thread, NULL);
    for (int i = 0; i < s->link_count; i++) pthread_join(s->links[i].thread, NULL);
    close(s->listener);
    close(s->stop);
    if (s->go > 0) close(s->go);
    SSL_CTX_free(s->context);
    s->context = NULL;
}

static void far_end_free(struct far_end *s)
{
    far_end_stop(s);
    for (int i = 0; i < s->step_count; i++) free(s->steps[i].bytes);
    for (int i = 0; i < s->link_count; i++) free(s->links[i].received);
    s->step_count = s->link_count = 0;
}

#endif
