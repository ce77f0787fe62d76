/* Shared by daemon.c, which starts and ends, and daemon_reload.c, which changes what runs. */
#ifndef HOLDFAST_OPS_DAEMON_INTERNAL_H
#define HOLDFAST_OPS_DAEMON_INTERNAL_H

#include <uv.h>

#include "ops/daemon.h"
#include "deliver/deliver.h"
#include "net/net.h"
#include "ops/notify.h"
#include "ops/ops.h"
#include "runtime.h"
#include "store/store.h"

struct daemon {
    struct daemon_options options;
    uv_loop_t loop;
    uv_prepare_t prepare;   /* store answers, pending adds, and whether the shutdown is done */
    uv_idle_t again;        /* active while the store has more to answer: the loop must not sleep */
    uv_timer_t grace;
    uv_timer_t telling;     /* the service manager, while there is one */
    struct notify notify;
    uv_signal_t signals[3];
    struct net *net;
    struct store_memory *store;
    struct deliver *deliver;
    struct runtime *rt;
    struct ops *ops;
    struct roster roster;   /* what runs; builds were taken */
    char (*to_add)[CONFIG_NAME_MAX]; /* owned: of the roster, waiting until their namesakes are gone */
    uint32_t to_add_count;
    uint64_t seed;
    bool stopping, down, in_order;
};

/* Adds connection `index` of the roster, whose build is given. False after a log line. */
bool daemon__add(struct daemon *d, uint32_t index, struct policy_build *build);
/* For ops and SIGHUP. `problems` (may be NULL): lines of text. */
bool daemon__reload(struct daemon *d, const char *policy, struct buffer *problems);
/* Adds those whose namesakes are gone by now. */
void daemon__add_pending(struct daemon *d);

#endif
