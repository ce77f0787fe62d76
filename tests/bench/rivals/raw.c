/* The limit: epoll, OpenSSL and nothing else. Connects, takes op, s and t of each frame, counts, forwards.
 * Checks nothing, keeps nothing, recovers only by dialling again at once.
 * With BEAT_MS each link says a beat so often, those of one instant of 128 ms together, as holdfast does: the physical
 * part of an idle daemon.
 * Usage: raw PORT CA_PATH SOCKET_PATH COUNT [BEAT_MS] */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define READ_BYTES ((size_t)64 << 10)
#define OUT_BYTES ((size_t)256 << 10)
#define INSTANT_MS 128u

struct conn {
    int fd;
    SSL *ssl;
    bool up;
    uint8_t *carry; /* of a frame that is not whole yet */
    size_t carry_len;
};

static int epoll_fd, local_fd;
static SSL_CTX *ctx;
static SSL_SESSION *session;
static struct sockaddr_in address = { .sin_family = AF_INET };
static uint8_t in[READ_BYTES * 2], out[OUT_BYTES + READ_BYTES * 2];
static size_t out_len;
static unsigned long frames, dispatches;

static void die(const char *what)
{
    perror(what);
    exit(2);
}

static int on_session(SSL *ssl, SSL_SESSION *s)
{
    (void)ssl;
    SSL_SESSION_free(session);
    session = SSL_SESSION_dup(s);
    return 0;
}

static void dial(struct conn *c)
{
    int on = 1;
    memset(c, 0, sizeof *c);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) die("socket");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) != 0 && errno != EINPROGRESS) die("connect");
    c->ssl = SSL_new(ctx);
    SSL_set_fd(c->ssl, c->fd);
    X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(c->ssl), "127.0.0.1");
    /* A copy: OpenSSL takes one that was used for spent. */
    SSL_SESSION *copy = session ? SSL_SESSION_dup(session) : NULL;
    if (copy) SSL_set_session(c->ssl, copy);
    SSL_SESSION_free(copy);
    SSL_set_connect_state(c->ssl);
    struct epoll_event ev = { .events = EPOLLOUT, .data.ptr = c };
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &ev);
}

static void again(struct conn *c)
{
    SSL_set_shutdown(c->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN); /* else the session is dropped */
    SSL_free(c->ssl);
    close(c->fd);
    free(c->carry);
    dial(c);
}

static void local_write(void)
{
    for (size_t at = 0; at < out_len;) {
        ssize_t n = send(local_fd, out + at, out_len - at, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR) exit(0); /* the consumer has gone */
        if (n > 0) at += (size_t)n;
    }
    out_len = 0;
}

/* "t", "s" and "op" at the top: they come first, as Discord sends them. */
static bool take(const uint8_t *p, size_t len)
{
    long op = -1, s = -1;
    bool t = false;
    const uint8_t *end = p + len;
    if (len < 2 || *p++ != '{') return false;
    while (p < end && *p == '"') {
        const uint8_t *key = ++p;
        p = memchr(p, '"', (size_t)(end - p));
        if (!p || end - p < 3) return false;
        size_t key_len = (size_t)(p - key);
        p += 2;
        if (*p == '"') {
            if (key_len == 1 && *key == 't') t = true;
            p = memchr(p + 1, '"', (size_t)(end - p - 1));
            if (!p) return false;
            p++;
        } else {
            long value = 0;
            while (p < end && *p >= '0' && *p <= '9') value = value * 10 + *p++ - '0';
            if (key_len == 1 && *key == 's') s = value;
            if (key_len == 2 && memcmp(key, "op", 2) == 0) op = value;
        }
        if (t && s >= 0 && op >= 0) return op == 0;
        if (p < end && *p == ',') p++;
    }
    return false;
}

static size_t frames_of(const uint8_t *bytes, size_t len)
{
    size_t at = 0;
    while (len - at >= 2) {
        size_t head = 2, n = bytes[at + 1] & 0x7f;
        if (n == 126) {
            if (len - at < 4) break;
            n = (size_t)bytes[at + 2] << 8 | bytes[at + 3];
            head = 4;
        } else if (n == 127) {
            die("a frame over 64 KiB");
        }
        if (len - at < head + n) break;
        frames++;
        if ((bytes[at] & 0x0f) == 1 && take(bytes + at + head, n)) {
            dispatches++;
            memcpy(out + out_len, bytes + at + head, n);
            out[out_len + n] = '\n';
            out_len += n + 1;
            if (out_len > OUT_BYTES) local_write();
        }
        at += head + n;
    }
    return at;
}

static bool upgrade(struct conn *c)
{
    static const char request[] = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                  "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    return SSL_write(c->ssl, request, sizeof request - 1) > 0;
}

static bool ready(struct conn *c)
{
    ERR_clear_error();
    if (!SSL_is_init_finished(c->ssl)) {
        int result = SSL_do_handshake(c->ssl);
        if (result != 1) {
            int error = SSL_get_error(c->ssl, result);
            struct epoll_event ev = { .events = error == SSL_ERROR_WANT_WRITE ? EPOLLOUT : EPOLLIN, .data.ptr = c };
            epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &ev);
            return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE;
        }
        struct epoll_event ev = { .events = EPOLLIN, .data.ptr = c };
        epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &ev);
        if (!upgrade(c)) return false;
    }
    size_t len = c->carry_len;
    if (len) memcpy(in, c->carry, len);
    free(c->carry);
    c->carry = NULL;
    c->carry_len = 0;
    bool over = false;
    for (;;) {
        int n = SSL_read(c->ssl, in + len, (int)(sizeof in - len));
        if (n <= 0) over = SSL_get_error(c->ssl, n) != SSL_ERROR_WANT_READ;
        else len += (size_t)n;
        /* Many records are parsed at once. */
        if (n > 0 && len < READ_BYTES) continue;
        size_t start = 0;
        if (!c->up) {
            uint8_t *end = memmem(in, len, "\r\n\r\n", 4);
            c->up = end != NULL;
            if (end) start = (size_t)(end + 4 - in);
        }
        if (c->up) start += frames_of(in + start, len - start);
        memmove(in, in + start, len - start);
        len -= start;
        if (n <= 0) break;
    }
    if (len) {
        c->carry = malloc(len);
        memcpy(c->carry, in, len);
        c->carry_len = len;
    }
    return !over;
}

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Of all links, those whose share of the interval is this instant; -1, or how long until the next one. */
static int beats(struct conn *conns, unsigned count, unsigned beat_ms)
{
    static const uint8_t beat[] = "\x81\x8f\0\0\0\0{\"op\":1,\"d\":42}"; /* masked by zeros */
    static uint64_t last;
    if (!beat_ms) return -1;
    const uint64_t now = now_ms(), instant = now / INSTANT_MS, instants = beat_ms / INSTANT_MS;
    for (unsigned i = (unsigned)(instant % instants); instant != last && i < count; i += (unsigned)instants) {
        if (conns[i].up) SSL_write(conns[i].ssl, beat, sizeof beat - 1);
    }
    last = instant;
    return (int)((instant + 1) * INSTANT_MS - now);
}

int main(int argc, char **argv)
{
    if (argc != 5 && argc != 6) return 64;
    const unsigned beat_ms = argc == 6 ? (unsigned)atoi(argv[5]) : 0;
    signal(SIGPIPE, SIG_IGN);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    unsigned count = (unsigned)atoi(argv[4]);
    address.sin_port = htons((uint16_t)atoi(argv[1]));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct sockaddr_un local = { .sun_family = AF_UNIX };
    snprintf(local.sun_path, sizeof local.sun_path, "%s", argv[3]);
    local_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(local_fd, (struct sockaddr *)&local, sizeof local) != 0) die(argv[3]);
    ctx = SSL_CTX_new(TLS_client_method());
    if (SSL_CTX_load_verify_locations(ctx, argv[2], NULL) != 1) die(argv[2]);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(ctx, 1);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ctx, on_session);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct conn *conns = calloc(count ? count : 1, sizeof *conns);
    unsigned dialled = 0, pending = 0;
    for (;;) {
        struct epoll_event events[256];
        /* So many at once that the peer's queue has room. */
        for (; dialled < count && pending < 64; pending++) dial(&conns[dialled++]);
        int n = epoll_wait(epoll_fd, events, 256, beats(conns, count, beat_ms));
        for (int i = 0; i < n; i++) {
            struct conn *c = events[i].data.ptr;
            bool was_up = c->up;
            if (!ready(c)) again(c);
            else if (!was_up && c->up && pending) pending--;
        }
        local_write();
    }
}
