/* The far end of the benchmark: a load peer (TLS, WebSocket, prebuilt frames) and the one local consumer
 * that counts what is forwarded. Each has a thread of its own; only counters are shared. */
#ifndef BENCH_FAR_END_H
#define BENCH_FAR_END_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define LATENCIES_MAX (1u << 20)

/* What the consumer's thread counts; read by the peer's. */
struct tally {
    atomic_ulong received; /* whole frames */
    atomic_ullong seq_sum; /* of their numbers; holdfast's alone, as the next two */
    atomic_ulong holes;    /* offsets of a connection that do not follow one another */
    atomic_ulong gaps;     /* that holdfast told of */
    atomic_uint latency_count;
    atomic_bool timing;    /* take the time stamp of each frame */
    atomic_bool over;
    uint32_t *latency_ns;  /* LATENCIES_MAX; written by the consumer while `timing` */
};

uint64_t now_ns(void);
/* CPU time, user and system, of all threads of a process; 0 when it is gone. */
uint64_t cpu_ns(pid_t pid);
void die(const char *what) __attribute__((noreturn));

/* Listens on `path` for a rival that forwards lines; in its own thread until tally->over. */
void consumer_listen(struct tally *tally, const char *path);
/* Attaches to holdfast's socket as the consumer `bench` and acknowledges; likewise. */
void consumer_attach(struct tally *tally, const char *path);

/* Asks holdfast's socket for /healthz, again and again, and keeps how long each answer took. */
void probe_start(const char *path);
void probe_end(void);
/* Since the last time this was asked: its line of commands.c; microseconds and counts. */
void probe_tell(char *out, size_t out_bytes);

/* Serves on 127.0.0.1 and carries out the commands of standard input until its end. */
void peer_run(struct tally *tally, const char *ca_path);

#endif
