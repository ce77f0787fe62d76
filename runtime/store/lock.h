/* Lock: one process at a time has a store. An exclusive flock() on `<store path>.lock`, a file that
 * stays behind and holds the holder's process id for the sentence that the next one gets. Taken before
 * the store is opened and before anything dials; released after the last write is safe.
 *
 * The kernel releases it when the last descriptor of its open file goes, a crash included. An open
 * file can be handed to another process (SCM_RIGHTS) and the lock goes along without a moment in which
 * nobody holds it: that is how an upgrade hands over. Close-on-exec: no child keeps it by accident. */
#ifndef HOLDFAST_STORE_LOCK_H
#define HOLDFAST_STORE_LOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct store_lock {
    int fd; /* owned; -1: not held. Readable for handing it over, never to be closed from outside */
};

#define STORE_LOCK_NONE ((struct store_lock){ .fd = -1 })

enum store_lock_result {
    STORE_LOCK_TAKEN,
    STORE_LOCK_HELD,   /* by another process, which `why` names */
    STORE_LOCK_FAILED, /* the file cannot be opened or locked: trying again will not help */
};

/* At once, never blocks: what a loop thread calls, again from a timer if it wants to wait. `lock`:
 * overwritten; must not be held. `why`: a sentence unless taken. */
enum store_lock_result store_lock_try(struct store_lock *lock, const char *store_path, char *why,
                                      size_t why_bytes);
/* Tries until `wait_ms` are over. Sleeps in between: for commands and helper threads, never on a
 * loop. */
enum store_lock_result store_lock_wait(struct store_lock *lock, const char *store_path,
                                       uint64_t wait_ms, char *why, size_t why_bytes);
/* Takes over what another process handed out: `fd`, which becomes ours in any case (moved), must be
 * the lock file of `store_path` and carry the lock. The pid in the file becomes this process's. */
enum store_lock_result store_lock_adopt(struct store_lock *lock, const char *store_path, int fd,
                                        char *why, size_t why_bytes);
/* Free for anybody, whoever else has a copy of the descriptor. Nothing when it is not held. */
void store_lock_release(struct store_lock *lock);
/* Lets go of it without unlocking: somebody else has the same open file now. */
void store_lock_leave(struct store_lock *lock);

#endif
