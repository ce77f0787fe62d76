/* Handover: what a running holdfast and the one that replaces it say to each other, over a socketpair
 * that the new one inherits. Messages are JSON objects, one a packet, so that two versions understand
 * each other; listening descriptors and locks travel beside one of them (SCM_RIGHTS).
 *
 *   new  -> old   ready      configuration and policies are good; names what they ask for
 *   new  -> old   failed     a sentence; the new one ends
 *   old  -> new   take       with descriptors: links are closed, what is to be kept is on disk
 *   new  -> old   taken      it has the lock and listens, and did not dial yet
 *   old  -> new   go         the old one will never dial again
 *
 * Until `take` the new one opens nothing; until `go` it dials nothing. The old one goes on by itself
 * only when the new one is dead: so there is never more than one that dials. */
#ifndef HOLDFAST_OPS_HANDOVER_H
#define HOLDFAST_OPS_HANDOVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The new one finds its end of the socketpair by the number in this variable. */
#define HANDOVER_VARIABLE "HOLDFAST_HANDOVER"
#define HANDOVER_PROTOCOL 1
#define HANDOVER_TEXT_BYTES 1024

#define HANDOVER_KIND_MAP(X)                                                                       \
    X(READY, "ready") X(FAILED, "failed") X(TAKE, "take") X(TAKEN, "taken") X(GO, "go")

enum handover_kind {
#define X(name, text) HANDOVER_##name,
    HANDOVER_KIND_MAP(X)
#undef X
    HANDOVER_KIND_COUNT
};

/* In the order in which they travel. */
#define HANDOVER_FD_MAP(X)                                                                         \
    X(UNIX, "unix") X(UNIX_LOCK, "unix_lock") X(HTTP, "http") X(STORE_LOCK, "store_lock")

enum handover_fd {
#define X(name, text) HANDOVER_FD_##name,
    HANDOVER_FD_MAP(X)
#undef X
    HANDOVER_FD_COUNT
};

struct handover_message {
    enum handover_kind kind;
    char version[64];               /* READY */
    char why[HANDOVER_TEXT_BYTES];  /* FAILED */
    char unix_path[HANDOVER_TEXT_BYTES], http[HANDOVER_TEXT_BYTES], store[HANDOVER_TEXT_BYTES]; /* READY; "": none */
    int fds[HANDOVER_FD_COUNT];     /* TAKE; -1: none */
};

void handover_message_init(struct handover_message *m, enum handover_kind kind);
/* Whether all of it went. Never blocks; descriptors stay the caller's. */
bool handover_send(int fd, const struct handover_message *m);

enum handover_received {
    HANDOVER_GOT,
    HANDOVER_NOTHING, /* yet */
    HANDOVER_ENDED,   /* the other one is gone, or closed its end */
    HANDOVER_BAD,     /* what came is no such message, or of another protocol */
};
/* `wait_ms` 0: at once, as a loop needs it; negative: until something comes. Descriptors in `out` are
 * owned by the caller and close-on-exec; on anything but GOT there are none. */
enum handover_received handover_receive(int fd, int wait_ms, struct handover_message *out);
void handover_message_close(struct handover_message *m); /* its descriptors */

/* --- the new one's side: blocking, before there is a loop ------------------------------------------ */

/* The inherited end, or -1 where this process replaces nobody. Takes the variable out of the
 * environment, and closes what else was inherited by accident. */
int handover_inherited(void);
/* Tells that it cannot; `why`: a sentence. Nothing where `fd` is -1. */
void handover_fail(int fd, const char *why);

#endif
