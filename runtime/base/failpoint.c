/* Failpoints: one armed name for the process, since a process dies once. */
#include "base/failpoint.h"

#ifdef HOLDFAST_TEST
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static char armed[64]; /* written before any thread starts */
static atomic_long left;

void failpoint_arm(const char *what)
{
    const char *colon = what ? strrchr(what, ':') : NULL;
    size_t len = colon ? (size_t)(colon - what) : 0;
    armed[0] = 0;
    if (!len || len >= sizeof armed) return;
    memcpy(armed, what, len);
    armed[len] = 0;
    atomic_store(&left, strtol(colon + 1, NULL, 10));
}

void failpoint_pass(const char *name)
{
    if (!armed[0] || strcmp(armed, name) != 0) return;
    if (atomic_fetch_sub(&left, 1) == 1) raise(SIGKILL);
}
#endif
