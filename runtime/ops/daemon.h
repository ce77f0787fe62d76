/* Daemon: one whole holdfast in a process: a loop with the real host, store, deliver, runtime and local
 * API, started from a roster; reloads, signals, the end. Several could live in one process, each on a
 * loop of its own, were it not for the signals. */
#ifndef HOLDFAST_OPS_DAEMON_H
#define HOLDFAST_OPS_DAEMON_H

#include "ops/log.h"
#include "ops/roster.h"

struct daemon; /* opaque */

struct daemon_options {
    struct log *log;     /* borrowed until daemon_destroy() */
    const char *version; /* of holdfast, for the first line of the log; borrowed likewise */
};

/* Takes what is in `roster` (also on failure). Listens when it returns. NULL with a sentence. */
struct daemon *daemon_create(struct roster *roster, const struct daemon_options *options, char *why,
                             size_t why_bytes);
/* Returns after SIGTERM or SIGINT, when all links are closed, or after the grace, or a second signal. True
 * when every link was closed in order. */
bool daemon_run(struct daemon *d);
/* Frees everything; the loop is closed. */
void daemon_destroy(struct daemon *d);

#endif
