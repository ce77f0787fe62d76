/* Faults of the network: what goes wrong, for whom, how often. A table that the world asks; it acts on
 * nothing by itself. Draws come from the fault's own number, so one fault moves no other. */
#ifndef HOLDFAST_SIM_FAULT_H
#define HOLDFAST_SIM_FAULT_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/cause.h"

/* name, text, acts on streams that are open (now) as well as on new ones */
#define FAULT_MAP(X)                                                                               \
    X(RESOLVE_FAIL, "resolve_fail", false)                                                         \
    X(RESOLVE_SLOW, "resolve_slow", false)         /* ms */                                        \
    X(REFUSE, "refuse", false)                                                                     \
    X(CONNECT_TIMEOUT, "connect_timeout", false)   /* the SYN goes nowhere */                      \
    X(UNREACHABLE, "unreachable", false)                                                           \
    X(RESET, "reset", true)                        /* stage, or after `bytes` towards us, or now */ \
    X(BLACK_HOLE, "black_hole", true)              /* packets are dropped both ways while it lasts */ \
    X(HALF_OPEN, "half_open", true)                /* the far machine is gone, without a word */   \
    X(TRUNCATE, "truncate", true)                  /* the stream ends after `bytes` more */        \
    X(TRICKLE, "trickle", true)                    /* one byte per `ms` */                         \
    X(SLOW, "slow", true)                          /* `ms` more latency each way */                \
    X(TLS_FAIL, "tls_fail", false)                                                                 \
    X(CERT_WRONG_NAME, "cert_wrong_name", false)                                                   \
    X(CERT_EXPIRED, "cert_expired", false)                                                         \
    X(CERT_UNKNOWN_CA, "cert_unknown_ca", false)                                                   \
    X(PLAIN_ON_TLS, "plain_on_tls", false)                                                         \
    X(EOF_WITHOUT_CLOSE, "eof_without_close", true)                                                \
    X(NO_CLOSE_ANSWER, "no_close_answer", true)                                                    \
    X(HTTP_STATUS, "http_status", false)           /* status, headers, body */                     \
    X(GARBAGE, "garbage", true)                    /* `bytes` random ones */                       \
    X(STORE_DELAY, "store_delay", false)           /* ms */                                        \
    X(STORE_FAIL, "store_fail", false)                                                             \
    X(DISK_FULL, "disk_full", false)               /* after `bytes` more */                        \
    X(DISK_WRITE_ERROR, "disk_write_error", false) /* a part may be there */                       \
    X(DISK_SYNC_ERROR, "disk_sync_error", false)   /* written, still to be written, or forgotten */ \
    X(DISK_READ_ERROR, "disk_read_error", false)                                                   \
    X(DISK_READ_ONLY, "disk_read_only", false)                                                     \
    X(DISK_SLOW, "disk_slow", false)               /* a sync takes `ms` */                         \
    X(DISK_CORRUPT, "disk_corrupt", false)         /* `bytes` of the database, now */

enum fault_kind {
#define X(name, text, streams) FAULT_##name,
    FAULT_MAP(X)
#undef X
    FAULT_COUNT
};

enum { FAULT_ON_LINKS = 1, FAULT_ON_CALLS = 2 };

#define FAULT_TIMES_EVER UINT32_MAX

struct fault {
    uint32_t id;
    enum fault_kind kind;
    bool on;
    char host[128];        /* pattern over the dialled name; "" any */
    char peer[64];         /* "" any */
    char connection[64];   /* pattern; "" any */
    uint32_t what;         /* bits FAULT_ON_* */
    double probability;    /* 0 to 1 */
    uint32_t times;        /* left; FAULT_TIMES_EVER */
    uint64_t ms, bytes;
    enum stage stage;      /* RESET, GARBAGE: where; NONE otherwise */
    int status;
    char *headers, *body;  /* owned */
    uint64_t draws, hits;
};

struct fault_subject {
    const char *host, *peer, *connection; /* NULL: not known, matches "" alone */
    uint32_t what;
    enum stage stage;
    bool staged;  /* only faults that name this very stage */
};

struct fault_table {
    struct fault *items; /* owned, in order of their ids */
    uint32_t count, capacity;
    uint32_t next_id;
    uint32_t on_count[FAULT_COUNT];
    uint64_t seed;
};

void faults_deinit(struct fault_table *t);
/* `fault`: strings are moved. Switched on at once; its id. */
uint32_t faults_add(struct fault_table *t, const struct fault *fault);
bool faults_off(struct fault_table *t, uint32_t id);
void faults_off_all(struct fault_table *t);
struct fault *faults_get(struct fault_table *t, uint32_t id);
/* Does one of this kind strike here? Counts and draws. Borrowed until the table changes; NULL: no. */
const struct fault *faults_strike(struct fault_table *t, enum fault_kind kind,
                                  const struct fault_subject *subject);
bool fault_matches(const struct fault *f, const struct fault_subject *subject);
/* Draws and counts for one that matches already. */
bool fault_hits(struct fault_table *t, struct fault *f);
const char *fault_name(enum fault_kind kind);
bool fault_parse(const char *name, enum fault_kind *kind_out);
bool fault_is_of_streams(enum fault_kind kind);

#endif
