/* What the files of the schema share: the description of keys, and the pass over one policy.
 *
 * Glossary
 *   key      one entry of the declarative tables in schema_tables.c
 *   pass     one compilation of a whole policy, with or without a connection's settings; checks and
 *            fills a shape and a build at once, so that what is checked is what is built
 *   path     where the pass is: "classify[3].verdict"
 *   overlay  values that a connection lays over the policy's tables: `tune`, `backlog`, and options
 *            of the type tune. A problem in one names the configuration, not the policy.
 *
 * To add a key: one line in schema_tables.c, with its place in the plan; a good and some bad values
 * in tests/unit/policy_schema/keys_spec.lua. */
#ifndef HOLDFAST_POLICY_SCHEMA_INTERNAL_H
#define HOLDFAST_POLICY_SCHEMA_INTERNAL_H

#include "policy/policy.h"

#define SCHEMA_DEPTH_MAX     16
#define SCHEMA_ROWS_MAX      256 /* of one list of rules */
#define SCHEMA_WANTS_MAX     64  /* alternatives of one matcher key */
#define SCHEMA_OPTIONS_MAX   64
#define SCHEMA_HOSTS_MAX     64
#define SCHEMA_MESSAGE_BYTES ((uint64_t)64 << 20) /* sizes.message when nothing is said */
#define SCHEMA_SEND_BYTES    ((uint64_t)1 << 20)  /* sizes.send */

enum key_type {
    KEY_BOOL,     /* bool */
    KEY_INTEGER,  /* uint16_t or uint32_t, by width */
    KEY_NUMBER,   /* double */
    KEY_DURATION, /* uint64_t, ms */
    KEY_SPAN,     /* struct span_ms: one duration or a pair */
    KEY_SIZE,     /* uint64_t, bytes */
    KEY_TEXT,     /* char[width] */
    KEY_NAME,     /* char[width]: letters, digits, '_', '-', '.' */
    KEY_WORD,     /* an enum: index into words */
    KEY_FUNCTION, /* bool: it is there */
    KEY_TABLE,    /* `keys` below it */
    KEY_CUSTOM,   /* `custom` reads it */
};

enum key_flags {
    KEY_REQUIRED = 1,
    KEY_FIXED = 2, /* `tune` may not set it */
    KEY_NAMED = 4, /* CUSTOM: a table of named rows, each merged by `tune` along `keys` */
    KEY_OFF = 8,   /* DURATION: `false` turns it off */
    KEY_ROW = 16,  /* CUSTOM: one row of `keys` or a list of them; `tune` merges one row into one row */
};

struct schema;

/* What the policy's tables and a connection's overlays compile to, without its options: ten thousand
 * connections that tune alike share one. Read only once compiled; counted by the builds that have it, in the
 * list of their version, and like it of one thread. */
struct policy_shape {
    uint32_t references;
    struct policy_shape **list, *next; /* of those that may be shared; list NULL: not in one */
    struct value direct, tune;         /* owned; the overlays that it was compiled of */
    char *file;                        /* owned; where those stand */
    struct plan plan;
    struct frame_rules rules;
    char **hosts; /* owned patterns */
    uint32_t host_count;
    struct value session_of, lane; /* owned; names of options, or nil */
    struct every_task every[POLICY_EVERY_MAX];
    uint32_t every_count;
    struct fetch_rule fetch[POLICY_FETCH_MAX];
    uint32_t fetch_count;
};

struct key {
    const char *name;
    enum key_type type;
    unsigned flags;
    double low, high;         /* both included: ms, bytes or the number; text: bytes */
    const char *const *words; /* WORD: ends with NULL */
    const struct key *keys;   /* TABLE: ends with a nameless one; CUSTOM: of its rows, or NULL */
    /* CUSTOM; `base`: of what is being filled. */
    void (*custom)(struct schema *s, const struct value *v, void *base);
    size_t at, width;     /* where it goes in `base`; width 0: nowhere */
    const char *standard; /* the default, in words */
    const char *about;
};

struct overlay {
    struct value values; /* owned; shaped like a policy's tables */
    char prefix[8];      /* "tune." or "" */
    const char *file;    /* borrowed */
};

struct schema {
    const struct value *policy;   /* borrowed; as written */
    const struct value *settings; /* borrowed, or NULL: a check of the policy alone */
    const char *policy_file, *settings_file;
    struct value tables; /* owned; the policy with its overlays */
    struct overlay direct, tune;
    struct policy_build *out;
    struct policy_shape *shape;   /* what the tables compile to; out's */
    struct policy_shape **shared; /* shapes of this policy that builds have, or NULL */
    struct problems *problems;
    bool in_settings; /* the path is within the settings, not the policy */
    char path[128];
    uint32_t depth;
    struct {
        size_t path_len;
        uint32_t line;
    } stack[SCHEMA_DEPTH_MAX];
    uint32_t line; /* of the nearest enclosing value that knows its line */
};

/* --- schema.c: where we are, what is wrong, one value -------------------------------------------
 */

/* Steps into a key or (name NULL) an item; every enter has its leave. */
void schema__enter(struct schema *s, const char *name, uint32_t index, const struct value *v);
void schema__leave(struct schema *s);
void schema__error(struct schema *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
void schema__warn(struct schema *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* An error about the root path `a` ("alive.silence") that `b` (may be NULL) shares: named at
 * whichever the connection's own settings hold, else at `a`. */
void schema__error_at(struct schema *s, const char *a, const char *b, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void schema__warn_at(struct schema *s, const char *a, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* "the number 30", "the text \"30 sec\"", "a table"; of a secret never more than that it is one,
 * and in settings never what a text says. `out` is returned. */
const char *schema__describe(const struct schema *s, const struct value *v, char out[96]);
/* Checks a table against `keys` and fills `base`. */
void schema__keys(struct schema *s, const struct key *keys, const struct value *table, void *base);
/* True when v is a table with items 1..n alone; otherwise an error was added. */
bool schema__is_list(struct schema *s, const struct value *v, const char *of, uint32_t most);
void schema__unknown(struct schema *s, const char *name, const char *const *names, size_t count);

/* --- schema_values.c: true and the value, or false and an error. Bounds are included -------------
 */

bool schema__size(struct schema *s, const struct value *v, double low, double high, uint64_t *out);
bool schema__duration(struct schema *s, const struct value *v, double low, double high,
                      uint64_t *out);
bool schema__span(struct schema *s, const struct value *v, double low, double high,
                  struct span_ms *out);
bool schema__integer(struct schema *s, const struct value *v, double low, double high,
                     int64_t *out);
bool schema__number(struct schema *s, const struct value *v, double low, double high, double *out);
bool schema__name(struct schema *s, const struct value *v, char *out, size_t width);
/* The index of v's text in `words`, or -1 and an error. */
int schema__word(struct schema *s, const struct value *v, const char *const *words);
bool schema__is_name(const char *text, size_t bytes_max);
void *schema__alloc(size_t count, size_t size);

/* --- schema_tables.c ----------------------------------------------------------------------------
 */

extern const struct key schema__root[];

/* --- schema_covers.c ----------------------------------------------------------------------------
 */

/* Whatever b matches, a matches as well. */
bool schema__covers(const struct cause_matcher *a, const struct cause_matcher *b);

/* --- the customs, by file -----------------------------------------------------------------------
 */

/* schema_frames.c */
extern const struct key schema__frames[];
void schema__take(struct schema *s);
/* A matcher or a list of them over the fields of `take`, into `out`. Keys of `others` (may be NULL,
 * ends with a nameless one) are left to the caller. */
void schema__frame_matchers(struct schema *s, const struct value *v, const struct key *others,
                            struct frame_matchers *out);
/* The index of a name of `take`, or -1 and an error. */
int schema__field_of(struct schema *s, const struct value *v);
/* schema_layout.c */
extern const struct key schema__join_keys[];
void schema__layout(struct schema *s, const struct value *v, void *base);
void schema__ack_echo(struct schema *s, const struct value *v, void *base);
void schema__ack_reply(struct schema *s, const struct value *v, void *base);
/* schema_causes.c: the keys of a matcher over causes, in rows of their own and in those of classify
 */
extern const struct key schema__cause_keys[];
void schema__cause_check(struct schema *s, const struct value *row, const struct cause_matcher *m);
void schema__on_any(struct schema *s, const struct value *v, void *base);
void schema__on_close_codes(struct schema *s, const struct value *v, void *base);
void schema__on_statuses(struct schema *s, const struct value *v, void *base);
void schema__on_codes(struct schema *s, const struct value *v, void *base);
void schema__on_stages(struct schema *s, const struct value *v, void *base);
void schema__on_causes(struct schema *s, const struct value *v, void *base);
void schema__on_reason(struct schema *s, const struct value *v, void *base);
void schema__on_header(struct schema *s, const struct value *v, void *base);
void schema__on_with_session(struct schema *s, const struct value *v, void *base);
void schema__on_by(struct schema *s, const struct value *v, void *base);
#define SCHEMA_MATCH(text, function, what)                                                         \
    {                                                                                              \
        text, KEY_CUSTOM, .custom = function, .about = what                                        \
    }
#define SCHEMA_CAUSE_KEYS                                                                          \
    SCHEMA_MATCH("any", schema__on_any, "true: matches everything"),                               \
        SCHEMA_MATCH("close", schema__on_close_codes,                                              \
                     "close codes: 4004, \"4900-4913\", or a list"),                               \
        SCHEMA_MATCH("http", schema__on_statuses, "HTTP statuses, likewise"),                      \
        SCHEMA_MATCH("code", schema__on_codes, "the platform's own error codes, likewise"),        \
        SCHEMA_MATCH("stage", schema__on_stages, "where it ended, one or a list"),                 \
        SCHEMA_MATCH("cause", schema__on_causes, "the cause's name, one or a list"),               \
        SCHEMA_MATCH("reason", schema__on_reason,                                                  \
                     "a part of its text; only beside close, http, code or cause"),                \
        SCHEMA_MATCH("header", schema__on_header, "{ [\"name\"] = \"value\" } of an HTTP answer"), \
        SCHEMA_MATCH("session", schema__on_with_session, "the attempt meant to resume"),           \
        { "under",                                                                                 \
          KEY_DURATION,                                                                            \
          0,                                                                                       \
          1,                                                                                       \
          86400000.0,                                                                              \
          NULL,                                                                                    \
          NULL,                                                                                    \
          NULL,                                                                                    \
          offsetof(struct cause_matcher, under_ms),                                                \
          sizeof(uint64_t),                                                                        \
          NULL,                                                                                    \
          "the link was younger than this" },                                                      \
        SCHEMA_MATCH("by", schema__on_by, "who ended it: peer, network, us, policy, operator")
/* schema_rules.c */
extern const struct key schema__classify_row[], schema__climb_row[];
void schema__classify(struct schema *s, const struct value *v, void *base);
void schema__climb(struct schema *s, const struct value *v, void *base);
/* schema_numbers.c */
void schema__beat_every(struct schema *s, const struct value *v, void *base);
void schema__beat_asked(struct schema *s, const struct value *v, void *base);
void schema__beat_answer(struct schema *s, const struct value *v, void *base);
void schema__close_code(struct schema *s, const struct value *v, void *base);
void schema__budget_windows(struct schema *s, const struct value *v, void *base);
void schema__budget_share(struct schema *s, const struct value *v, void *base);
void schema__start_frame(struct schema *s, const struct value *v, void *base);
extern const struct key schema__fetch_row[];
void schema__fetch(struct schema *s, const struct value *v, void *base);
void schema__every(struct schema *s, const struct value *v, void *base);
/* schema_options.c */
extern const struct key schema__option_row[];
void schema__options(struct schema *s, const struct value *v, void *base);
void schema__option_names(struct schema *s, const struct value *v, void *base);
void schema__lane(struct schema *s, const struct value *v, void *base);
void schema__hosts(struct schema *s, const struct value *v, void *base);
enum option_type {
    OPT_NONE = -1,
    OPT_SECRET,
    OPT_STRING,
    OPT_URL,
    OPT_INTEGER,
    OPT_NUMBER,
    OPT_BOOLEAN,
    OPT_DURATION,
    OPT_TABLE,
    OPT_TUNE
};
/* Of a declared option's row; NONE when it names no type. */
enum option_type schema__option_type(const struct value *row);
bool schema__option_check(struct schema *s, const struct value *row, const struct value *v);
void schema__host_add(char ***hosts, uint32_t *count, const char *host);
/* shape.c */
struct policy_shape *shape__create(void); /* owned reference */
/* One that was compiled of the overlays of `s`: owned reference, or NULL. */
struct policy_shape *shape__find(const struct schema *s);
/* From here on others may find s->shape, and nothing changes in it. */
void shape__share(struct schema *s);
void shape__unref(struct policy_shape *shape);
/* schema_settings.c */
/* Checks the settings, fills options, hosts, fingerprints and lane. */
void schema__settle_options(struct schema *s);
/* schema_tune.c: fills the overlays; and lays them over the policy's tables, into s->tables. */
void schema__overlay(struct schema *s);
void schema__merge(struct schema *s);
/* The place of the value at s->path or another root path: true when an overlay holds it. `key_out`
 * holds 128 bytes. */
bool schema__origin(const struct schema *s, const char *path, const char **file_out,
                    uint32_t *line_out, char *key_out);
/* schema_cross.c: what one key alone cannot tell. */
void schema__cross(struct schema *s);

/* A pattern of `public`: text that begins with ^, then literal bytes, ".", %a %d %w %x (and escapes
 * of punctuation) and sets, each with + * ? or nothing, possibly $ at the end. No captures, and
 * what was taken is never given back, so that it costs one look per byte. */
bool public_pattern_is_valid(const char *pattern);
/* Length of the part of `bytes` that matches, or -1. */
long public_pattern_match(const char *pattern, const char *bytes, size_t len);

#endif
