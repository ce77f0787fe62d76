/* Frame rules: what a policy's `frames` table says, compiled. Plain data, read only, owned by whoever
 * compiled it (policy/), and shared by all links that use it.
 *
 * Glossary
 *   field     one value that C lifts out of each message, by a path such as "d.id" (`take`)
 *   matcher   AND over fields; each field has one or more wanted values (OR)
 *   list      OR over matchers; an empty list matches nothing
 */
#ifndef HOLDFAST_FRAME_RULES_H
#define HOLDFAST_FRAME_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FIELDS_MAX 16          /* names in `take` */
#define FIELD_PATH_MAX 64      /* bytes of one path; at most FIELD_DEPTH_MAX parts */
#define FIELD_DEPTH_MAX 4
#define RULE_NAME_MAX 32

enum field_kind {
    FIELD_ABSENT, /* no such key; also the state before the take */
    FIELD_NULL,
    FIELD_BOOL,
    FIELD_INTEGER, /* an integer that fits int64_t, however it was written (1, 1.0, 1e3) */
    FIELD_NUMBER,  /* any other number; `text` is as it was written */
    FIELD_STRING,  /* `text` is between the quotes, escapes not decoded; see field_string() */
    FIELD_OTHER,   /* object or array; `text` is its raw JSON */
};

struct field_value {
    enum field_kind kind;
    bool boolean;
    bool escaped;       /* STRING: holds at least one backslash */
    int64_t integer;
    const uint8_t *text; /* borrowed: inside the message; all kinds but ABSENT have it */
    size_t len;
};

enum want_kind {
    WANT_RANGE, /* an INTEGER within low..high */
    WANT_STRING,
    WANT_BOOL,
    WANT_NULL,
    WANT_PRESENT, /* there, and not null */
};

struct field_want {
    enum want_kind kind;
    int64_t low, high; /* RANGE, both included */
    bool boolean;
    char *text;        /* STRING: owned, decoded bytes */
    size_t len;
};

struct field_match {
    uint8_t field; /* index into frame_rules.fields */
    struct field_want *wants; /* owned; any one is enough */
    uint32_t want_count;
};

struct frame_matcher {
    struct field_match *fields; /* owned; all must match */
    uint32_t field_count;
    uint32_t line; /* in the policy file; 0 when not known */
};

struct frame_matchers {
    struct frame_matcher *items; /* owned; any one is enough */
    uint32_t count;
};

struct ends_rule {
    struct frame_matchers match;
    char cause[RULE_NAME_MAX];
    uint64_t after_ms; /* wait so long for the peer's own close code before ending; 0: at once */
    uint32_t line;
};

enum codec_kind { CODEC_JSON, CODEC_BYTES, CODEC_PROTOBUF, CODEC_WKPROTO };
enum ack_when { ACK_NONE, ACK_EARLY, ACK_THROUGH };

struct json_paths;      /* frame/json.h */
struct protobuf_layout; /* frame/protobuf.h */
struct protobuf_change;

/* What the platform hears of a frame, and when. */
struct ack_rule {
    struct frame_matchers match; /* `on`; empty: every frame */
    enum ack_when when;
    char *frame; /* owned; template: "@name" takes the field's raw JSON text. NULL: hook on_ack */
    /* Instead of `frame`: the message as it came with these changes. Owned, their bytes as well. */
    struct protobuf_change *changes;
    uint32_t change_count;
    uint32_t reply_number; /* the field that takes a consumer's answer */
    char *reply;           /* owned; its template, or NULL; see path_reply_expand() */
    uint64_t within_ms;
    bool at_risk; /* an early one goes out although the store cannot keep the frame */
    bool anywhere; /* it may go out on the connection's other link when its own is gone */
    uint32_t line;
};

struct remember_rule {
    uint8_t field;
    char key[RULE_NAME_MAX]; /* in conn.session */
};

struct frame_rules {
    enum codec_kind codec;
    struct {
        char name[RULE_NAME_MAX];
        uint8_t plain_len;         /* of a name that JSON takes as it is, by frame_rules_prepare(); 0: another */
        char path[FIELD_PATH_MAX]; /* "d.id" */
    } fields[FIELDS_MAX];
    uint32_t field_count;
    struct json_paths *paths;      /* owned; `fields` compiled, see frame_rules_prepare() */
    struct protobuf_layout *layout; /* owned; codec protobuf only */
    struct {
        bool on;
        uint8_t by, index, count;  /* fields; a message without `count` is whole */
        uint32_t of;               /* number of the layout's field that is in parts */
        uint64_t within_ms;
        uint32_t parts;            /* of one message */
        uint64_t bytes;            /* of all unfinished ones of a link */
    } join;
    bool deliver_all;              /* `deliver = true` */
    struct frame_matchers deliver;
    struct frame_matchers inspect;
    struct ends_rule *ends;        /* owned; first match wins */
    uint32_t ends_count;
    struct frame_matchers beat_asked;  /* beat.asked: the peer wants a beat now */
    struct frame_matchers beat_answer; /* beat.answer */
    struct remember_rule remember[FIELDS_MAX];
    uint32_t remember_count;
    struct {
        bool on;
        uint8_t field;               /* each frame's is one more than that of the frame before */
        char key[RULE_NAME_MAX];     /* under which it is remembered in conn.session */
        struct frame_matchers anew;  /* frames with which the numbers begin again */
        char cause[RULE_NAME_MAX];   /* of the ending when some are missing */
        uint32_t line;
    } follows;
    struct {
        bool on;
        uint8_t by[FIELDS_MAX];
        uint32_t by_count;
        uint64_t over_ms;
        uint32_t most; /* keys kept */
    } dedupe;
    struct ack_rule *acks;        /* owned; first match wins */
    uint32_t ack_count;
    bool accept_all;
    struct frame_matchers accept; /* what consumers may send */
    struct frame_matchers start;  /* budgets.start.frame: outbound frames that start a session */
    uint64_t message_bytes_max;   /* sizes.message: decompressed too */
    uint64_t send_bytes_max;      /* sizes.send */
};

/* Compiles `fields`; call it once, after they are filled in and before the first link uses the rules.
 * False when a path is not valid (see json_path_is_valid()) or memory is out. */
bool frame_rules_prepare(struct frame_rules *r);
/* Frees what the struct owns, not the struct. */
void frame_rules_deinit(struct frame_rules *r);
/* `values`: r->field_count entries. A matcher without fields matches everything. */
bool frame_match(const struct frame_matcher *m, const struct field_value *values);
bool frame_match_any(const struct frame_matchers *list, const struct field_value *values);
/* Index of the first `ends` row that matches, or -1. */
int frame_rules_ends(const struct frame_rules *r, const struct field_value *values);
/* The first row of `ack` that matches, or NULL: the platform hears nothing of this frame. */
const struct ack_rule *frame_rules_ack(const struct frame_rules *r, const struct field_value *values);
/* Does any row wait for the connection's owner? */
bool frame_rules_ack_through(const struct frame_rules *r);
/* Index of a field by name, or -1. */
int frame_rules_field(const struct frame_rules *r, const char *name);

#endif
