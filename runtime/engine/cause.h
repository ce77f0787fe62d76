/* Cause: why a link or an attempt ended. Filled by whoever saw it (host, frame path, policy, engine),
 * judged by the policy's tables, shown to people.
 *
 * To add a kind: CAUSE_KIND_MAP below, the host or path that reports it, one line in
 * tests/unit/engine/cause_spec.lua. */
#ifndef HOLDFAST_ENGINE_CAUSE_H
#define HOLDFAST_ENGINE_CAUSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where an attempt or a link was. Also the names that `stage = ` takes in a rule. */
#define STAGE_MAP(X)                                                                             \
    X(NONE, "none")                                                                              \
    X(PREPARING, "preparing")                                                                    \
    X(RESOLVING, "resolving")                                                                    \
    X(CONNECTING, "connecting")                                                                  \
    X(SECURING, "securing")                                                                      \
    X(UPGRADING, "upgrading")                                                                    \
    X(GREETING, "greeting")                                                                      \
    X(READY, "ready")                                                                            \
    X(DRAINING, "draining")                                                                      \
    X(CLOSING, "closing")

enum stage {
#define X(name, text) STAGE_##name,
    STAGE_MAP(X)
#undef X
    STAGE_COUNT
};

/* The text is also the name that `cause = ` takes in a rule, unless the policy named it itself. */
#define CAUSE_KIND_MAP(X)                                                                        \
    X(NONE, "none")                                                                              \
    X(HOOK, "hook")                       /* a hook raised, ran over budget or answered nonsense */ \
    X(FAILED, "failed")                   /* conn:fail(name): name is the policy's */            \
    X(ENDED, "ended")                     /* a frame listed in frames.ends: name is the row's */ \
    X(CALL, "call")                       /* an HTTP call got no answer */                       \
    X(TIMEOUT, "timeout")                 /* a stage's limit passed; stage says which */         \
    X(ADDRESS, "address")                 /* not an address, or not on the policy's hosts */     \
    X(RESOLVE, "resolve")                                                                        \
    X(REFUSED, "refused")                 /* ECONNREFUSED */                                     \
    X(UNREACHABLE, "unreachable")         /* no route, network down */                           \
    X(CONNECT, "connect")                 /* any other failure to connect */                     \
    X(PROXY, "proxy")                                                                            \
    X(TLS, "tls")                         /* alert, no TLS spoken; code is the alert or 0 */     \
    X(CERTIFICATE, "certificate")         /* code is X509_V_ERR_* */                             \
    X(UPGRADE_REFUSED, "upgrade_refused") /* an HTTP status other than 101 */                    \
    X(UPGRADE_BAD, "upgrade_bad")         /* not an answer to our upgrade */                     \
    X(CLOSED, "closed")                   /* the peer's close frame; close_code is its code */   \
    X(EOF, "eof")                         /* the stream ended without a close frame */           \
    X(RESET, "reset")                     /* ECONNRESET, EPIPE */                                \
    X(IO, "io")                           /* another socket error; code is errno */              \
    X(PROTOCOL, "protocol")               /* RFC 6455 broken by the peer */                      \
    X(TOO_BIG, "too_big")                                                                        \
    X(INFLATE, "inflate")                                                                        \
    X(SILENCE, "silence")                 /* probes unanswered, not one byte */                  \
    X(BEAT, "beat")                       /* a beat unanswered */                                \
    X(WISHED, "wished")                   /* conn:close() by the policy */                       \
    X(RETIRED, "retired")                 /* planned replacement */                              \
    X(SUSPEND, "suspend")                 /* the machine slept */                                \
    X(CONFLICT, "conflict")               /* somebody else holds the identity */                 \
    X(BACKLOG_FULL, "backlog_full")                                                              \
    X(STOPPED, "stopped")                 /* an operator's stop or removal */                    \
    X(RESTARTED, "restarted")             /* an operator's restart */                            \
    X(SHUTDOWN, "shutdown")               /* the daemon ends or is upgraded */                   \
    X(STORE, "store")                     /* a durable write that the next step needs failed */  \
    X(INTERNAL, "internal")               /* our own bug, kept to one connection */

enum cause_kind {
#define X(name, text) CAUSE_##name,
    CAUSE_KIND_MAP(X)
#undef X
    CAUSE_KIND_COUNT
};

enum cause_by { BY_PEER, BY_NETWORK, BY_US, BY_POLICY, BY_OPERATOR };

#define CAUSE_NAME_MAX 32
#define CAUSE_REASON_MAX 124 /* a close frame's reason fits */
#define RETRY_AFTER_NONE UINT64_MAX
#define CLOSE_CODE_NONE (-1) /* a close frame without a code is 1005 here */

struct cause {
    enum stage stage;
    enum cause_kind kind;
    enum cause_by by;
    char name[CAUSE_NAME_MAX];     /* never empty when kind is not NONE */
    int32_t close_code;            /* CLOSE_CODE_NONE, 1005 for a close frame without one, or the code */
    int32_t http_status;           /* 0 when there was none */
    int64_t code;                  /* errno, alert, X509 error, or the platform's own error code; 0 */
    uint64_t retry_after_ms;       /* RETRY_AFTER_NONE when the peer gave none */
    uint64_t age_ms;               /* of the link, since its dial; 0 before */
    bool session;                  /* the attempt meant to resume */
    char reason[CAUSE_REASON_MAX]; /* UTF-8, printable text of the peer or of us; never a secret */
    uint32_t line;                 /* of the policy line that made it (ends row, fail call); 0 */
    /* Borrowed until the event that carries the cause was handled; NULL in stored copies. */
    const char *head; /* header lines of an HTTP answer */
    size_t head_len;
    const char *body; /* first bytes of its body */
    size_t body_len;
};

/* A cause with its default name, no codes, and `reason` (may be NULL) cut to fit. */
struct cause cause_make(enum stage stage, enum cause_kind kind, enum cause_by by, const char *reason);
/* Sets name; cut to fit. */
void cause_rename(struct cause *c, const char *name);
const char *stage_name(enum stage s);
const char *cause_kind_name(enum cause_kind k);
const char *cause_by_name(enum cause_by b);
/* False when text is no stage. */
bool stage_parse(const char *text, enum stage *stage_out);

#endif
