/* The consumer: counts lines, takes the time stamp of each when asked. Of holdfast's lines only events
 * count; each ACK_EVERY of a connection are acknowledged, and all ten times a second: a bot that is told of a thousand
 * connections does not wait for 256 events of each. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "far_end.h"

#define READ_BYTES ((size_t)1 << 20)
#define ACK_EVERY 256
#define ACK_REST_NS 100000000u
#define CONNECTIONS_MAX 20001u

struct consumer {
    struct tally *tally;
    int listener; /* -1: attached to holdfast */
    int fd;
    char *bytes;  /* READ_BYTES and the line that is not whole yet */
    size_t len;
    uint64_t rest_ns; /* when all were acknowledged */
    unsigned last_max; /* highest index seen */
    struct {
        unsigned long long epoch, offset, acked;
    } *last;      /* of holdfast's connections c1, c2, ... */
};

static struct sockaddr_un address_of(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    if (strlen(path) >= sizeof address.sun_path) die("the socket's path is too long");
    strcpy(address.sun_path, path);
    return address;
}

static void say_ack(struct consumer *c, unsigned index)
{
    char ack[160];
    int len = snprintf(ack, sizeof ack, "{\"ack\":{\"connection\":\"c%u\",\"epoch\":%llu,\"offset\":%llu}}\n", index,
                       c->last[index].epoch, c->last[index].offset);
    if (send(c->fd, ack, (size_t)len, MSG_NOSIGNAL) < 0) die("ack");
    c->last[index].acked = c->last[index].offset;
}

/* {"event":{"connection":"c12","epoch":E,"offset":N,... */
static void acknowledge(struct consumer *c, const char *line, size_t len)
{
    char text[200];
    unsigned long long epoch, offset;
    unsigned index;
    size_t n = len < sizeof text ? len : sizeof text - 1;
    memcpy(text, line, n);
    text[n] = 0;
    if (sscanf(text, "{\"event\":{\"connection\":\"c%u\",\"epoch\":%llu,\"offset\":%llu", &index, &epoch, &offset) != 3 ||
        index >= CONNECTIONS_MAX) return;
    if (c->last[index].epoch == epoch && c->last[index].offset + 1 != offset) atomic_fetch_add(&c->tally->holes, 1);
    const char *number = memmem(line, len, "\"s\":", 4);
    if (number) atomic_fetch_add(&c->tally->seq_sum, strtoull(number + 4, NULL, 10));
    if (index > c->last_max) c->last_max = index;
    c->last[index].epoch = epoch;
    c->last[index].offset = offset;
    if (offset >= c->last[index].acked + ACK_EVERY) say_ack(c, index);
}

static void acknowledge_rest(struct consumer *c)
{
    for (unsigned i = 0; i <= c->last_max; i++) {
        if (c->last[i].acked != c->last[i].offset) say_ack(c, i);
    }
    c->rest_ns = now_ns();
}

static void take_lines(struct consumer *c)
{
    struct tally *t = c->tally;
    size_t at = 0;
    unsigned long whole = 0;
    bool timing = atomic_load(&t->timing);
    uint64_t now = timing ? now_ns() : 0;
    for (;;) {
        char *line = c->bytes + at, *end = memchr(line, '\n', c->len - at);
        if (!end) break;
        size_t len = (size_t)(end - line);
        at += len + 1;
        if (c->listener < 0) {
            if (len > 7 && memcmp(line, "{\"gap\":", 7) == 0) atomic_fetch_add(&t->gaps, 1);
            if (len < 9 || memcmp(line, "{\"event\":", 9) != 0) continue;
            acknowledge(c, line, len);
        }
        whole++;
        if (!timing) continue;
        char *stamp = memmem(line, len, "\"ts\":\"", 6);
        unsigned n = atomic_load(&t->latency_count);
        uint64_t sent = stamp ? strtoull(stamp + 6, NULL, 10) : 0;
        if (!sent || n == LATENCIES_MAX) continue;
        t->latency_ns[n] = now > sent ? (uint32_t)(now - sent > UINT32_MAX ? UINT32_MAX : now - sent) : 0;
        atomic_store(&t->latency_count, n + 1);
    }
    memmove(c->bytes, c->bytes + at, c->len - at);
    c->len -= at;
    atomic_fetch_add(&t->received, whole);
}

static void *consume(void *arg)
{
    struct consumer *c = arg;
    while (!atomic_load(&c->tally->over)) {
        struct pollfd ready = { .fd = c->fd < 0 ? c->listener : c->fd, .events = POLLIN };
        if (poll(&ready, 1, 100) <= 0) {
            if (c->listener < 0) acknowledge_rest(c);
            continue;
        }
        if (c->fd < 0) {
            c->fd = accept(c->listener, NULL, NULL);
            c->len = 0;
            continue;
        }
        ssize_t n = recv(c->fd, c->bytes + c->len, 2 * READ_BYTES - c->len, 0);
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (n <= 0) {
            close(c->fd);
            c->fd = -1;
            if (c->listener < 0) break;
            continue;
        }
        c->len += (size_t)n;
        take_lines(c);
        if (c->listener < 0 && now_ns() - c->rest_ns >= ACK_REST_NS) acknowledge_rest(c);
        if (c->len == 2 * READ_BYTES) die("a line without an end");
    }
    if (c->fd >= 0) close(c->fd);
    free(c->bytes);
    free(c->last);
    free(c);
    return NULL;
}

static void start(struct tally *tally, int listener, int fd)
{
    pthread_t thread;
    struct consumer *c = calloc(1, sizeof *c);
    if (c) c->bytes = malloc(2 * READ_BYTES);
    if (c) c->last = calloc(CONNECTIONS_MAX, sizeof *c->last);
    if (!c || !c->bytes || !c->last) die("memory");
    c->tally = tally;
    c->listener = listener;
    c->fd = fd;
    if (pthread_create(&thread, NULL, consume, c) != 0) die("a thread");
    pthread_detach(thread);
}

void consumer_listen(struct tally *tally, const char *path)
{
    struct sockaddr_un address = address_of(path);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    unlink(path);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 8) != 0)
        die(path);
    start(tally, listener, -1);
}

void consumer_attach(struct tally *tally, const char *path)
{
    static const char hello[] = "{\"attach\":{\"consumer\":\"bench\",\"connections\":[\"*\"],\"from\":\"cursor\"}}\n";
    struct sockaddr_un address = address_of(path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) die(path);
    if (send(fd, hello, sizeof hello - 1, MSG_NOSIGNAL) < 0) die("attach");
    start(tally, -1, fd);
}
