/* Daemon: one whole holdfast in a process: a loop with the real host, store, deliver, runtime and local
 * API, started from a roster; reloads, signals, the end. Several could live in one process, each on a
 * loop of its own, were it not for the signals. */
#ifndef HOLDFAST_OPS_DAEMON_H
#define HOLDFAST_OPS_DAEMON_H

#include "ops/handover.h"
#include "ops/log.h"
#include "ops/roster.h"

struct daemon; /* opaque */

struct daemon_options {
    struct log *log;     /* borrowed until daemon_destroy() */
    const char *version; /* of holdfast, for the first line of the log; borrowed likewise */
    const char *program; /* as it was started, argv[0]: where an upgrade looks first; or NULL */
    /* It replaces a running one: the answer of daemon_takeover_wait(), and its socket. */
    const struct handover_message *taken; /* descriptors moved; NULL: it replaces nobody */
    int handover_fd;                      /* borrowed */
};

/* The new one's side of an upgrade, before there is a daemon: says that `config` is good, and waits until
 * the old one has closed all links. Blocks. False with a sentence: this process must end, and did nothing. */
bool daemon_takeover_wait(int handover_fd, const struct config *config, const char *version,
                          struct handover_message *taken, char *why, size_t why_bytes);

/* Takes what is in `roster` (also on failure). Listens when it returns. NULL with a sentence. */
struct daemon *daemon_create(struct roster *roster, const struct daemon_options *options, char *why,
                             size_t why_bytes);
/* Returns after SIGTERM or SIGINT, when all links are closed, or after the grace, or a second signal. True
 * when every link was closed in order. */
bool daemon_run(struct daemon *d);
/* Frees everything; the loop is closed. */
void daemon_destroy(struct daemon *d);

#endif
