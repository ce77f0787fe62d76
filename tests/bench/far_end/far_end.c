/* far_end CA_PATH SOCKET_PATH: makes a CA (PEM, for whom it measures) and the consumer's socket, says
 * `port N` and then answers each command line with one line: see peer.c. */
#include "far_end.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t cpu_ns(pid_t pid)
{
    clockid_t clock;
    struct timespec t;
    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &t) != 0) return 0;
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void die(const char *what)
{
    perror(what);
    exit(2);
}

int main(int argc, char **argv)
{
    struct tally tally = { 0 };
    if (argc != 3) {
        fprintf(stderr, "usage: far_end CA_PATH SOCKET_PATH\n");
        return 64;
    }
    signal(SIGPIPE, SIG_IGN);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    tally.latency_ns = malloc(LATENCIES_MAX * sizeof *tally.latency_ns);
    if (!tally.latency_ns) die("memory");
    consumer_listen(&tally, argv[2]);
    peer_run(&tally, argv[1]);
    return 0;
}
