/* The probe: what an operator's health check would see. One thread, one connection that is kept, one question after the
 * other with a millisecond between them, so that whatever holds up the loop is found.
 *
 * And the machine: a second thread does the same piece of arithmetic again and again and looks at its own CPU clock. What
 * a piece takes beyond the usual is what interrupts, the other side of a virtual machine and clocks put on anybody's account,
 * so it is what a figure of CPU time of the daemon cannot be better than. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "far_end.h"

#define PAUSE_US 1000
#define PIECE_US 500.0 /* of a quiet machine */
#define PIECE_PAUSE_US 19500

static struct {
    char path[108];
    atomic_ulong count, worst_us, over5, over20, over100;
    atomic_ulong pieces, pieces_us, piece_worst_us;
    atomic_bool over;
    pthread_t thread, machine;
} probe;

static int dial(void)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    strcpy(address.sun_path, probe.path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) die(probe.path);
    return fd;
}

/* False: the connection is over. */
static bool ask(int fd)
{
    static const char question[] = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    char answer[2048];
    size_t len = 0;
    if (send(fd, question, sizeof question - 1, MSG_NOSIGNAL) < 0) return false;
    for (;;) {
        ssize_t n = recv(fd, answer + len, sizeof answer - 1 - len, 0);
        if (n <= 0) return false;
        len += (size_t)n;
        answer[len] = 0;
        char *end = strstr(answer, "\r\n\r\n"), *length = strcasestr(answer, "content-length:");
        if (end && len >= (size_t)(end + 4 - answer) + (length ? strtoul(length + 15, NULL, 10) : 0)) return true;
        if (len == sizeof answer - 1) die("an answer without an end");
    }
}

static void *work(void *arg)
{
    (void)arg;
    int fd = dial();
    while (!atomic_load(&probe.over)) {
        uint64_t began = now_ns();
        if (!ask(fd)) { /* it ends those that asked long enough */
            close(fd);
            fd = dial();
            continue;
        }
        unsigned long us = (unsigned long)((now_ns() - began) / 1000);
        atomic_fetch_add(&probe.count, 1);
        if (us > atomic_load(&probe.worst_us)) atomic_store(&probe.worst_us, us);
        if (us > 5000) atomic_fetch_add(&probe.over5, 1);
        if (us > 20000) atomic_fetch_add(&probe.over20, 1);
        if (us > 100000) atomic_fetch_add(&probe.over100, 1);
        usleep(PAUSE_US);
    }
    close(fd);
    return NULL;
}

static double cpu_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* In registers: nobody else's use of a cache has a part in it. */
static double piece(unsigned long rounds)
{
    double began = cpu_us();
    volatile unsigned long out;
    unsigned long x = 88172645463325252u;
    for (unsigned long i = 0; i < rounds; i++) x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    out = x;
    (void)out;
    return cpu_us() - began;
}

static void *machine_work(void *arg)
{
    (void)arg;
    unsigned long rounds = 100000;
    double best = 1e9;
    for (int i = 0; i < 50; i++) {
        double us = piece(rounds);
        if (us < best) best = us;
    }
    rounds = (unsigned long)((double)rounds * PIECE_US / best);
    while (!atomic_load(&probe.over)) {
        unsigned long us = (unsigned long)piece(rounds);
        atomic_fetch_add(&probe.pieces, 1);
        atomic_fetch_add(&probe.pieces_us, us);
        if (us > atomic_load(&probe.piece_worst_us)) atomic_store(&probe.piece_worst_us, us);
        usleep(PIECE_PAUSE_US);
    }
    return NULL;
}

void probe_start(const char *path)
{
    if (strlen(path) >= sizeof probe.path) die("the socket's path is too long");
    strcpy(probe.path, path);
    if (pthread_create(&probe.thread, NULL, work, NULL) != 0) die("a thread");
    if (pthread_create(&probe.machine, NULL, machine_work, NULL) != 0) die("a thread");
}

void probe_end(void)
{
    atomic_store(&probe.over, true);
    pthread_join(probe.thread, NULL);
    pthread_join(probe.machine, NULL);
}

void probe_tell(char *out, size_t out_bytes)
{
    const unsigned long pieces = atomic_exchange(&probe.pieces, 0), pieces_us = atomic_exchange(&probe.pieces_us, 0);
    snprintf(out, out_bytes, "probes %lu max %lu over5 %lu over20 %lu over100 %lu pieces %lu piece %lu worst %lu",
             atomic_exchange(&probe.count, 0), atomic_exchange(&probe.worst_us, 0), atomic_exchange(&probe.over5, 0),
             atomic_exchange(&probe.over20, 0), atomic_exchange(&probe.over100, 0), pieces, pieces ? pieces_us / pieces : 0,
             atomic_exchange(&probe.piece_worst_us, 0));
}
