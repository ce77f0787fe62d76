#ifndef BENCH_LAUNCH_H
#define BENCH_LAUNCH_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct launch {
    char command[2048], mark[32];
    atomic_bool over;
    uint64_t attached_ns, first_ns; /* since the process was started; first 0: none came in 10 s */
};

/* "SOCKET [NAME=VALUE...] PROGRAM ARG...": starts it in a thread, attaches to its socket as soon as that is
 * there, waits for an event with the mark, and ends it. */
void launch_begin(struct launch *l, const char *command, unsigned long mark);

#endif
