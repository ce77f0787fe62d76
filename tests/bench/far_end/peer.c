/* The load peer: one thread, one epoll. Cheaper than any client: frames are prebuilt but for number and
 * time stamp, each is a TLS record of its own (as servers write them), and many records go out in one
 * send. Here are its connections; what it does with them is told by commands (commands.c). */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "peer_internal.h"

void peer__say(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
    fflush(stdout);
}

/* --- TLS ------------------------------------------------------------------------------------------- */

static struct peer *the_peer(BIO *bio);

static int bio_write(BIO *bio, const char *bytes, int len)
{
    struct peer *p = the_peer(bio);
    if (p->out_len + (size_t)len > OUT_BYTES) die("records beyond the buffer");
    memcpy(p->out + p->out_len, bytes, (size_t)len);
    p->out_len += (size_t)len;
    return len;
}

static int bio_read(BIO *bio, char *bytes, int len)
{
    struct conn *c = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    ssize_t n = recv(c->fd, bytes, (size_t)len, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) BIO_set_retry_read(bio);
    return (int)n;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

static struct peer *the_peer(BIO *bio)
{
    struct conn *c = BIO_get_data(bio);
    return SSL_get_app_data(c->ssl);
}

/* --- connections ------------------------------------------------------------------------------------- */

void conn__close(struct peer *p, struct conn *c, bool reset)
{
    manners_gone(&p->manners, &c->guest);
    if (c->open) {
        p->closed++;
        struct conn *last = p->open[--p->open_count];
        p->open[c->place] = last;
        last->place = c->place;
    }
    struct linger hard = { .l_onoff = 1, .l_linger = 0 };
    if (reset) setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(c->fd);
    SSL_free(c->ssl);
    free(c->head);
    free(c->rest);
    free(c);
    p->conn_count--;
}

bool conn__send(struct peer *p, struct conn *c)
{
    size_t at = 0;
    while (!c->rest && at < p->out_len) {
        ssize_t n = send(c->fd, p->out + at, p->out_len - at, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno != EAGAIN) return false;
        if (n < 0) break;
        at += (size_t)n;
    }
    if (at < p->out_len) {
        size_t more = p->out_len - at, old = c->rest ? c->rest_len - c->rest_at : 0;
        uint8_t *rest = malloc(old + more);
        if (!rest) die("memory");
        if (old) memcpy(rest, c->rest + c->rest_at, old);
        memcpy(rest + old, p->out + at, more);
        free(c->rest);
        c->rest = rest;
        c->rest_len = old + more;
        c->rest_at = 0;
        struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT, .data.ptr = c };
        epoll_ctl(p->epoll, EPOLL_CTL_MOD, c->fd, &ev);
    }
    p->out_len = 0;
    return true;
}

static bool conn_send_rest(struct peer *p, struct conn *c)
{
    while (c->rest_at < c->rest_len) {
        ssize_t n = send(c->fd, c->rest + c->rest_at, c->rest_len - c->rest_at, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return errno == EAGAIN;
        c->rest_at += (size_t)n;
    }
    free(c->rest);
    c->rest = NULL;
    struct epoll_event ev = { .events = EPOLLIN, .data.ptr = c };
    epoll_ctl(p->epoll, EPOLL_CTL_MOD, c->fd, &ev);
    return true;
}

static void conn_accept(struct peer *p)
{
    for (int i = 0; i < 256; i++) {
        int fd = accept4(p->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) return;
        uint64_t now = now_ns();
        if (p->dropped_ns && p->attempt_count < ATTEMPTS_MAX)
            p->attempt_us[p->attempt_count++] = (uint32_t)((now - p->dropped_ns) / 1000);
        if (now < p->refuse_until_ns) {
            struct linger hard = { .l_onoff = 1, .l_linger = 0 };
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
            close(fd);
            p->refused++;
            continue;
        }
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct conn *c = calloc(1, sizeof *c);
        BIO *bio = BIO_new(p->bio);
        if (!c || !bio || !(c->ssl = SSL_new(p->ctx)) || !(c->head = malloc(HEAD_BYTES_MAX))) die("memory");
        c->fd = fd;
        BIO_set_data(bio, c);
        BIO_set_init(bio, 1);
        SSL_set_bio(c->ssl, bio, bio);
        SSL_set_app_data(c->ssl, p);
        SSL_set_accept_state(c->ssl);
        struct epoll_event ev = { .events = EPOLLIN, .data.ptr = c };
        if (epoll_ctl(p->epoll, EPOLL_CTL_ADD, fd, &ev) != 0) die("epoll");
        p->conn_count++;
    }
}

static bool conn_upgrade(struct peer *p, struct conn *c)
{
    static const char magic[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    char text[256], answer[256];
    unsigned char digest[20], accept_key[32];
    char *key = strcasestr(c->head, "sec-websocket-key:");
    if (!key) return false;
    key += 18;
    while (*key == ' ') key++;
    snprintf(text, sizeof text, "%.*s%s", (int)strcspn(key, "\r \t"), key, magic);
    EVP_Digest(text, strlen(text), digest, NULL, EVP_sha1(), NULL);
    EVP_EncodeBlock(accept_key, digest, sizeof digest);
    int n = snprintf(answer, sizeof answer,
                     "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Accept: %s\r\n\r\n", accept_key);
    if (SSL_write(c->ssl, answer, n) != n) return false;
    free(c->head);
    c->head = NULL;
    if (p->open_count == p->open_capacity) {
        p->open_capacity = p->open_capacity ? p->open_capacity * 2 : 1024;
        p->open = realloc(p->open, p->open_capacity * sizeof *p->open);
        if (!p->open) die("memory");
    }
    c->place = p->open_count;
    c->open = true;
    p->open[p->open_count++] = c;
    manners_opened(&p->manners, c->ssl);
    return true;
}

/* False: it is over. */
static bool conn_read(struct peer *p, struct conn *c)
{
    char ignored[4096];
    ERR_clear_error();
    if (!SSL_is_init_finished(c->ssl)) {
        int result = SSL_do_handshake(c->ssl);
        if (result != 1) return SSL_get_error(c->ssl, result) == SSL_ERROR_WANT_READ;
        p->handshakes++;
        if (SSL_session_reused(c->ssl)) p->resumed++;
    }
    for (;;) {
        bool heading = c->head != NULL;
        char *into = heading ? c->head + c->head_len : ignored;
        size_t room = heading ? HEAD_BYTES_MAX - 1 - c->head_len : sizeof ignored;
        int n = SSL_read(c->ssl, into, (int)room);
        if (n <= 0) return SSL_get_error(c->ssl, n) == SSL_ERROR_WANT_READ;
        if (!heading) {
            manners_take(&p->manners, &c->guest, c->ssl, (uint8_t *)ignored, (size_t)n);
            continue; /* acknowledgements, pongs: nothing to us */
        }
        c->head_len += (size_t)n;
        c->head[c->head_len] = 0;
        if (strstr(c->head, "\r\n\r\n") && !conn_upgrade(p, c)) return false;
    }
}

static void conn_ready(struct peer *p, struct conn *c, uint32_t events)
{
    bool ok = true;
    if (events & EPOLLOUT) ok = !c->rest || conn_send_rest(p, c);
    if (ok && (events & (EPOLLIN | EPOLLHUP | EPOLLERR))) {
        p->out_len = 0;
        ok = conn_read(p, c);
        if (!conn__send(p, c)) ok = false;
    }
    p->out_len = 0;
    if (!ok) conn__close(p, c, true);
}

/* --- the loop ---------------------------------------------------------------------------------------- */

/* False at the end of the input. */
static bool commands_read(struct peer *p)
{
    ssize_t n = read(STDIN_FILENO, p->command + p->command_len, sizeof p->command - 1 - p->command_len);
    if (n <= 0) return false;
    p->command_len += (size_t)n;
    p->command[p->command_len] = 0;
    for (char *end; (end = strchr(p->command, '\n')) != NULL;) {
        *end = 0;
        command__run(p, p->command);
        p->command_len -= (size_t)(end + 1 - p->command);
        memmove(p->command, end + 1, p->command_len + 1);
    }
    return true;
}

void peer_run(struct tally *tally, const char *ca_path)
{
    static struct peer peer;
    struct peer *p = &peer;
    struct epoll_event events[512], ev = { .events = EPOLLIN, .data.ptr = &p->listener };
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof address;
    p->tally = tally;
    prctl(PR_SET_TIMERSLACK, 1);
    p->out = malloc(OUT_BYTES);
    p->attempt_us = malloc(ATTEMPTS_MAX * sizeof *p->attempt_us);
    p->ctx = SSL_CTX_new(TLS_server_method());
    p->bio = BIO_meth_new(BIO_TYPE_SOURCE_SINK | 99, "bench");
    if (!p->out || !p->attempt_us || !p->ctx || !p->bio) die("memory");
    BIO_meth_set_write(p->bio, bio_write);
    BIO_meth_set_read(p->bio, bio_read);
    BIO_meth_set_ctrl(p->bio, bio_ctrl);
    SSL_CTX_set_min_proto_version(p->ctx, TLS1_2_VERSION);
    SSL_CTX_set_ciphersuites(p->ctx, "TLS_AES_128_GCM_SHA256"); /* the same for all */
    SSL_CTX_set_mode(p->ctx, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_num_tickets(p->ctx, 1);
    SSL_CTX_set_session_id_context(p->ctx, (const unsigned char *)"bench", 5);
    certificate__make(p->ctx, ca_path);
    p->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (p->listener < 0 || bind(p->listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(p->listener, 16384) != 0) die("listen");
    getsockname(p->listener, (struct sockaddr *)&address, &size);
    p->epoll = epoll_create1(EPOLL_CLOEXEC);
    epoll_ctl(p->epoll, EPOLL_CTL_ADD, p->listener, &ev);
    ev.data.ptr = &p->command;
    epoll_ctl(p->epoll, EPOLL_CTL_ADD, STDIN_FILENO, &ev);
    peer__say("port %d", ntohs(address.sin_port));
    for (bool over = false; !over;) {
        bool busy = p->job == JOB_BLAST || p->job == JOB_PACE;
        int n = epoll_wait(p->epoll, events, 512, busy ? 0 : p->job ? 1 : 100);
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == &p->listener) conn_accept(p);
            else if (events[i].data.ptr != &p->command) conn_ready(p, events[i].data.ptr, events[i].events);
            else {
                over = !commands_read(p);
                break; /* a command may have closed what the other events are of; they come again */
            }
        }
        jobs__step(p);
    }
    atomic_store(&tally->over, true);
}
