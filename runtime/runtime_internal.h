/* What the files of the runtime itself share: the objects behind the opaque names of runtime.h.
 *
 *   rt_conn   one connection: its build, session, journal, at most two links, its tasks
 *   rt_link   one link: upgrade, frame path, pulse. Lives from link_open to link_closed
 *   rt_task   one waiting hook (prepare, greet, every, fetch)
 *   rt_fetch  one fetched value, shared by the connections of an account
 *   rt_send   one outbound message that the engine has not yet let go
 *
 * A connection is named by the engine's handle everywhere. */
#ifndef HOLDFAST_RUNTIME_INTERNAL_H
#define HOLDFAST_RUNTIME_INTERNAL_H

#include "base/buffer.h"
#include "frame/dedupe.h"
#include "frame/path.h"
#include "frame/upgrade.h"
#include "runtime.h"
#include "timers.h"

#define RT_SESSION_BYTES_MAX 16384
#define RT_HEADERS_MAX 32
#define SESSION_BEGUN "begun" /* key in conn.session of policies with session.life */

struct rt_build {
    uint32_t references;
    struct policy_build *build; /* owned */
};

/* Where the next dial goes, as prepare answered. Text may hold secrets: wiped when freed. */
struct rt_address {
    bool tls;
    char host[256];
    uint16_t port;
    char *authority; /* owned: for Host: */
    char *target;    /* owned: path and query */
    char *protocol;  /* owned or NULL; some platforms carry a token in it */
    struct upgrade_header headers[RT_HEADERS_MAX]; /* owned texts */
    uint32_t header_count;
    enum inflate_mode inflate;
    char shown[256]; /* scheme, host, port, path, names of query parameters: no values */
};

enum rt_link_phase {
    RT_LINK_OPENING,   /* resolving, connecting, securing: the host's work */
    RT_LINK_UPGRADING, /* our request is out */
    RT_LINK_OPEN,      /* frames flow */
    RT_LINK_OVER,      /* nothing more is read or written; waits for link_closed */
};

enum rt_pause { RT_PAUSE_HOOK = 1, RT_PAUSE_BACKLOG = 2 };

/* A message that the backlog had no room for. */
struct rt_held {
    size_t len, raw_len; /* raw_len 0: the same bytes */
    bool malformed, text, json;
    uint8_t bytes[];     /* both, one after the other */
};

struct rt_link {
    struct handle self;
    struct handle conn;
    uint32_t generation;
    enum rt_link_phase phase;
    struct rt_build *build;          /* reference; whose rules the path uses */
    struct frame_path path;          /* while OPEN */
    bool path_on;
    bool deaf;                       /* after a path error: bytes are counted and dropped */
    struct upgrade_reader *upgrade;  /* owned, while UPGRADING */
    struct pulse pulse;
    uint64_t beat_sent_ms;           /* mono: the last regular one, until it is answered; 0 */
    uint64_t ping_sent_ms;           /* mono: the oldest that no pong answered; 0 */
    uint64_t ping_round_trip_ms;     /* of the last answered one */
    bool ping_answered;              /* one was */
    uint32_t session_epoch;          /* of the connection when this link began */
    uint32_t pauses;                 /* bits of enum rt_pause */
    struct rt_held *held;            /* owned or NULL; while paused for the backlog */
    struct rt_link *held_next, *held_prev; /* of all links that hold one */
    uint64_t hold_due_ms, hold_timer_ms;
    struct buffer out;               /* owned: what the host's queue had no room for; mostly empty */
    bool finish_wanted;              /* link_finish() when `out` is written */
    bool ready;
    bool delivered;                  /* an event came by it */
    bool close_sent, close_received;
    bool out_of_order;               /* a frame was missing: what follows is not taken */
    char *shown;                     /* owned: address, as rt_address has it */
    struct rt_link *next;            /* of the same connection, older */
};

struct rt_ack {
    uint64_t offset;         /* of the frame that must be safe first */
    struct rt_ack *next;
    uint64_t due_ms;         /* mono, of those that wait for the owner */
    struct dedupe_key key;   /* of the frame, if it has one */
    uint32_t generation;
    bool text, pooled, keyed, at_risk, anywhere;
    uint8_t row;             /* of frames.ack, from 1, when an answer goes into its echo; else 0 */
    size_t len;
    uint8_t bytes[]; /* owned with the struct */
};

struct rt_ack_list {
    struct rt_ack *first, *last; /* owned */
    uint32_t count;
};

struct rt_record; /* recorder.c: what happened to it lately */
struct rt_recorder;
struct rt_host;  /* weather.c */
struct rt_trial; /* trials.c */
struct rt_entry; /* journal.c: one entry of the journal, packed */

/* What a connection did in this hour and the one before, outside of trials. */
struct rt_lately {
    uint64_t since_ms;               /* mono: this hour of its own began; 0: nothing yet */
    uint32_t ready_ms;               /* its last time to ready, when known */
    uint16_t endings[2], hook_errors[2], slows[2];
    bool ready_known, before_known;
};

/* Turns: one list is to be started, one waits, one is under way; all first come, first out. */
struct rt_turn_list {
    struct rt_conn *first, *last;
    uint32_t count;
};

/* What every step looks at comes first: see struct conn of the engine. */
struct rt_conn {
    struct handle self;              /* the engine's handle */
    struct rt_build *build;          /* reference */
    struct rt_link *links;           /* newest first; at most two */
    struct rt_record *record;        /* owned, or NULL */
    struct rt_task *tasks;
    struct value session, keep;
    uint32_t session_epoch;          /* counts drops: a link of an older epoch may not remember */
    bool session_dirty, keep_dirty;
    bool session_told_present;       /* what the engine was told last */
    bool is_up;                      /* and counted in conns_up */
    struct handle stream;
    struct rt_trial *trial;          /* that it is counted in, or NULL */
    uint64_t trial_since_ms;         /* mono: it runs what it should in it */
    uint8_t trial_side, trial_endings;
    bool trial_well, trial_errors, trial_stopped; /* was up when it began; a hook failed; was given up in it */

    char name[64];
    uint64_t name_hash;
    char *ca_file;                   /* owned or NULL */
    bool plain;
    bool ended_by_shutdown;          /* runtime_shutdown_undo() starts it again */
    struct {
        char *host;                  /* owned or NULL */
        uint16_t port;
        char *authorization;         /* owned or NULL; wiped */
        bool of_environment;         /* no `host`: by target, as options.proxies have it */
    } proxy;
    uint64_t session_begun_wall_ms;  /* with session.life: when the present one began; 0: not known */
    struct rt_address *address;      /* owned or NULL; of address_generation */
    uint32_t address_generation;
    struct dedupe *dedupe;           /* owned or NULL */
    char owner[64];                  /* the consumer whose acknowledgements count for `through`; "" */
    struct rt_ack_list through;      /* platform acknowledgements that wait for the owner */
    uint64_t through_timer_ms;
    uint64_t acks_late;              /* whose owner missed the platform's deadline */
    struct rt_ack_list acks;         /* those that wait for safe */
    uint64_t acks_newest;            /* highest offset among them */
    uint64_t acks_safe;              /* all up to it is on disk */
    bool acks_writing;               /* a write is under way */
    uint64_t acks_told_ms;           /* that frames are not safe was told last; 0: never */
    uint64_t frames_delivered, frames_malformed, frames_duplicate, frames_other;
    uint64_t parts_refused;          /* of messages in parts: made no sense, or over a bound */
    uint64_t last_event_ms;          /* mono: of the last frame delivered; 0 */
    struct weather_point point;
    struct rt_host *host;            /* where its attempts go, or NULL; shared */
    uint64_t host_scouted;           /* key of the host that it went on trying before it tried elsewhere; 0 */
    bool host_prepares;              /* that is no host: preparing fails */
    bool host_scout, host_held;      /* goes on trying; or waits for those who do */
    uint32_t host_epoch;             /* of the host, that its failure was counted in */
    uint64_t front_noted;            /* which front its journal told of last; 0: none */
    struct {
        struct rt_turn_list *in;     /* NULL: none */
        uint32_t generation;
        uint64_t since_ms;           /* mono: under way since */
        uint64_t number;             /* of asking */
        struct rt_conn *next, *prev;
    } turn;
    uint64_t attempt_ms;             /* mono: its newest attempt began */
    uint64_t down_ms;                /* mono: it left `up`, and nobody wanted that; 0 */
    uint64_t missed_ms;              /* mono: since then it should be up and is not; 0 */
    struct pulse past;               /* what links that are gone carried: totals alone count */
    uint64_t hook_failures;
    char warning[PLAN_NOTE_MAX];
    uint32_t warning_of;             /* the link whose hook said it; 0: none */
    struct rt_lately lately;
    struct rt_entry **journal;       /* owned ring of owned entries; grows to journal_entries */
    uint32_t journal_count, journal_capacity, journal_next;
    struct history history;
    uint64_t random_count;
    struct {
        uint64_t due_ms;             /* 0: off */
        uint64_t from_ms;            /* what it is counted from: the last run, or ready */
        uint64_t timer_ms;
    } every[POLICY_EVERY_MAX];
    uint32_t every_generation;       /* of the link that they run for */
    uint32_t send_count;             /* rt_sends of it */
    struct rt_conn *hash_next;
};

struct rt_send {
    struct handle self;
    struct handle conn;
    uint64_t deliver_id; /* 0: by a hook */
    bool text;
    size_t len;
    uint8_t *bytes;      /* owned */
};

struct rt_fetch {
    char policy[64];
    uint64_t key;                    /* account, or identity when not shared */
    struct fetch_rule rule;
    struct value value;              /* nil: none yet */
    uint32_t number;                 /* what a timer calls it by */
    uint64_t expires_ms, called_ms, asked_ms, failed_ms; /* boot: a value ages while the machine sleeps */
    uint64_t renew_due_ms, renew_timer_ms; /* mono; 0: off */
    uint32_t renew_failures;         /* in a row */
    uint32_t draws;
    struct handle asker;             /* the connection that asked last */
    bool old;                        /* dropped: must be renewed before it is used, or stale */
    struct rt_task *running;         /* the FETCH task, or NULL */
    bool calling;                    /* inside policy_call: running is not known yet */
    bool failed;                     /* conn:fail was called: failure holds why */
    struct cause failure;
    struct rt_task *waiters, *waiters_tail; /* in order of asking */
    uint32_t waiter_count;
    struct rt_fetch *next;
};

struct rt_task {
    struct handle self;
    struct handle conn;
    uint32_t generation;
    enum hook hook;
    char name[PLAN_NAME_MAX];
    uint32_t recorded;               /* its number in the connection's record; 0: none */
    struct policy_task *task;        /* owned; NULL while Lua runs */
    struct rt_build *build;          /* reference */
    enum wait_kind wait;
    struct frame_matchers frame, progress; /* owned; wait FRAME */
    uint64_t within_ms, within_due_ms; /* FRAME: since the wait or its last progress; 0: none */
    uint64_t within_timer_ms;
    struct handle call;              /* wait HTTP */
    struct rt_fetch *fills;          /* hook FETCH: what it fetches */
    struct rt_fetch *fetch;          /* wait FETCH: what it waits for; in its list of waiters */
    struct rt_task *waiter_next, *waiter_prev;
    struct rt_task *next;            /* of the same connection */
};

struct rt_call {
    struct handle self;
    struct handle task;
};

/* One durable write under way. Its packed handle is the store's ticket. */
struct rt_store {
    struct handle self;
    struct handle conn;
    uint32_t generation;
    uint64_t engine_ticket; /* 0: platform acknowledgements up to `offset` wait for it */
    uint64_t offset;
};

struct rt_queued {
    struct event ev;
    char *text; /* owned copy of the cause's head and body, or NULL */
};

struct runtime {
    struct runtime_options options;
    struct engine *engine;           /* owned */
    struct rt_conn **conns;          /* owned; by the handle's index */
    struct rt_conn **buckets;        /* owned; by name, chained */
    uint32_t bucket_mask;
    uint32_t conns_max;
    uint32_t conn_count, conns_up;
    struct rt_parked **parked;       /* owned, or NULL; by name, as `buckets` */
    uint64_t left_wall_ms;           /* the last that the process before is known to have done; 0 */
    uint64_t unclean_until_ms;       /* the process before was killed: what is added until then may lack frames */
    struct slots links, tasks, calls, sends, stores;
    struct rt_fetch *fetches;        /* owned list */
    uint32_t fetch_count, fetch_sweep_at, fetch_numbers;
    struct rt_queued *queue;         /* owned ring */
    uint32_t queue_head, queue_count, queue_capacity;
    struct effect_list effects;
    bool stepping;           /* for what an event does, time stands still */
    struct clock step_at;
    bool pumping;
    struct timers timers;
    struct clock read_at;            /* when the bytes under way were read: one look at the clocks for all their frames */
    struct policy_port port;
    struct rt_recorder *recorder;    /* owned, or NULL */
    struct deliver_port deliver_port;
    struct store_request event_request; /* of the frame under way: on_event() of kept.c */
    struct buffer scratch;           /* encoding of one outbound message */
    struct buffer scratch_text;
    struct buffer scratch_note, scratch_line; /* one entry of a journal; one line of the log */
    char refused[160];               /* why a codec refused a hook's frame */
    struct buffer scratch_packet, scratch_json; /* of a link with a codec; wiped after each use */
    struct {
        struct handle conn;
        uint32_t generation;
        struct buffer packets;       /* written by rt_joined_flush() */
    } joined;                        /* packets that share one message: those of one link, within one turn */
    uint64_t jump_offset;            /* boot minus mono at the last look */
    int64_t wall_offset;             /* wall minus boot at the last look */
    bool clocks_known;
    struct {
        bool on;                     /* not all connections were told yet */
        uint32_t index;              /* of the next one */
        uint64_t suspended_ms;
        int64_t wall_step_ms;
    } jump;
    uint64_t deliver_expire_ms, deliver_rest_ms;
    bool deliver_expires; /* a round of it is not over */
    bool shutting_down, destroying;
    struct runtime_counts counts;
    struct {
        struct rt_host *hosts;       /* owned list */
        uint32_t releasing;          /* of them */
        bool dirty;
        uint64_t judged_ms, held_total, fronts_total;
        uint64_t scouts_ms; /* when some host's scouts begin; 0: none waits for it */
        struct weather_front fronts[WEATHER_FRONTS_MAX];
        uint32_t front_count;
    } weather;
    struct {
        struct rt_turn_list starting, waiting, under_way;
        uint32_t started, begun;     /* since the last tick */
        uint64_t asked_total, waited_total, start_later_total;
    } turns;
    bool behind;                     /* the last tick left work undone for want of time */
    struct rt_trial *trials;         /* owned list */
    bool trials_held;
    struct rt_link *held;            /* links that wait for room */
    struct rt_ack *acks_pooled;      /* owned */
    uint32_t acks_pooled_count;
    /* The hook that runs now, for the port. */
    struct {
        bool on;
        enum hook hook;
        struct clock at;             /* time stands still while it runs */
        uint32_t generation;
        const struct rt_build *build; /* whose Lua it is: may be older than the connection's */
        struct rt_fetch *fetch;
        const struct policy_version *ran; /* whose Lua ran last; to be compared with, never followed */
        struct value lost;           /* what it sees as session when its own was dropped */
    } now;
};

/* runtime.c */
struct rt_conn *rt_conn_get(const struct runtime *rt, struct handle conn);
struct clock rt_clock(const struct runtime *rt);
/* Queues an event; copies head and body of its cause. Processed by rt_pump(). */
void rt_post(struct runtime *rt, const struct event *ev);
struct event rt_event(enum event_kind kind, struct handle conn, uint32_t generation);
void rt_pump(struct runtime *rt);
/* One event at once, not from inside another's effects. */
void rt_step(struct runtime *rt, const struct event *ev);
void rt_conn_free(struct runtime *rt, struct rt_conn *c);
struct rt_build *rt_build_ref(struct rt_build *b);
void rt_build_unref(struct rt_build *b);

/* stored.c */
/* Tells the engine when the session became empty or not, and queues its durable write. */
void rt_session_flush(struct runtime *rt, struct rt_conn *c);
/* When a stored session began, Unix ms; 0: it does not say. */
uint64_t rt_session_begun_ms(const struct value *session);
/* False when the store refused: nothing will be answered. `engine_ticket` 0 with `offset`: for acks. */
bool rt_store_submit(struct runtime *rt, struct rt_conn *c, uint32_t generation,
                     uint64_t engine_ticket, uint64_t offset, struct store_request *request);

/* weather.c: what becomes of a connection, for the weather. */
void rt_weather_added(struct runtime *rt, struct rt_conn *c);
/* Another build. */
void rt_weather_swapped(struct rt_conn *c);
void rt_weather_gone(struct runtime *rt, struct rt_conn *c);
void rt_weather_decided(struct runtime *rt, struct rt_conn *c, uint32_t generation, const struct decision *d);
void rt_weather_state(struct runtime *rt, struct rt_conn *c, const struct effect *fx);
void rt_weather_dials(struct runtime *rt, struct rt_conn *c);
void rt_weather_ready(struct runtime *rt, struct rt_conn *c);
void rt_weather_settled(struct runtime *rt, struct rt_conn *c);
void rt_weather_tick(struct runtime *rt);
uint64_t rt_weather_due_ms(const struct runtime *rt);
const struct weather_front *rt_weather_front(const struct runtime *rt, const struct rt_conn *c);

/* turns.c: how many are started, and how many attempts are under way, at once.
 * It was added: started now, or in one of the next ticks; before any other event of it in any case. */
void rt_start_ask(struct runtime *rt, struct rt_conn *c);
bool rt_start_is_due(const struct runtime *rt, const struct rt_conn *c);
/* Posts the start of what is still to be started. */
void rt_start_first(struct runtime *rt, struct handle conn);
void rt_starts_tick(struct runtime *rt, uint64_t until_ms);
/* FX_PREPARE: begins it, now or in its turn. */
void rt_turn_ask(struct runtime *rt, struct rt_conn *c, uint32_t generation);
/* That attempt serves, or is over. */
void rt_turn_over(struct runtime *rt, struct rt_conn *c, uint32_t generation);
void rt_turn_gone(struct runtime *rt, struct rt_conn *c);
void rt_turns_tick(struct runtime *rt);
uint64_t rt_turns_due_ms(const struct runtime *rt);
/* So many asked before it and still wait, or did not wait to the end. */
uint64_t rt_turn_ahead(const struct runtime *rt, const struct rt_conn *c);

/* trials.c: what becomes of a connection, for the trial of a version. */
void rt_trial_hook_failed(struct runtime *rt, struct rt_conn *c, const struct policy_version *ran, const char *error);
void rt_trial_decided(struct runtime *rt, struct rt_conn *c, const struct decision *d);
void rt_trial_ready(struct runtime *rt, struct rt_conn *c);
void rt_trial_state(struct runtime *rt, struct rt_conn *c, const struct effect *fx);
void rt_trial_gone(struct runtime *rt, struct rt_conn *c);
/* Not 0: values that this version fetches are its own while it is on trial. */
uint64_t rt_trial_salt(const struct runtime *rt, const struct policy_version *v);
/* "" unless it is tried. */
void rt_trial_text(const struct runtime *rt, const struct rt_conn *c, char *out, size_t out_bytes);
void rt_trials_tick(struct runtime *rt);
uint64_t rt_trials_due_ms(const struct runtime *rt);
void rt_trials_free(struct runtime *rt);

/* warm.c: called before every ENGINE_WARM_MAX connections that are due. */
void rt_warm(struct runtime *rt, uint64_t now_ms);

/* recorder.c: the last steps and hooks of each connection, for traces. */
void rt_recorder_init(struct runtime *rt);
void rt_recorder_free(struct runtime *rt);
void rt_record_free(struct runtime *rt, struct rt_conn *c);
/* Asks for its memory ahead: the record, then its segment, then where the next step is written. */
void rt_record_warm(const struct rt_conn *c, int level);
/* Around each step of the engine. */
void rt_record_before(struct runtime *rt, const struct event *ev);
void rt_record_after(struct runtime *rt, const struct event *ev, const struct effect_list *effects);
/* Around each run of a hook. */
void rt_record_entered(struct runtime *rt, const struct rt_build *build, const struct policy_call *call,
                       struct rt_task *t);
void rt_record_resumed(struct runtime *rt, const struct rt_task *t, const struct resume_with *with);
void rt_record_left(struct runtime *rt, enum call_result result, const struct call_answer *answer);
void rt_record_cancelled(struct runtime *rt, const struct rt_task *t);

/* counts.c: what is counted on the way. */
void rt_counts_init(struct runtime *rt);
const char *rt_verdict_of(const struct decision *d);
void rt_count_ended(struct runtime *rt, const struct decision *d);
void rt_count_state(struct runtime *rt, struct rt_conn *c, const struct effect *fx);
void rt_count_ready(struct runtime *rt, const struct rt_conn *c);
void rt_count_round_trip(struct runtime *rt, uint64_t ms);
void rt_count_gone(struct runtime *rt, const struct rt_conn *c);
uint64_t rt_ticks_us(const struct runtime *rt); /* 0: the host has none */
void rt_count_hook(struct runtime *rt, enum hook hook, uint64_t since_us);

/* kept.c */
void rt_keep_init(struct runtime *rt);
void rt_keep_wish(struct runtime *rt, const struct rt_conn *c, bool stopped);
void rt_keep_gone(struct runtime *rt, const struct rt_conn *c);
void rt_keep_seen(struct runtime *rt, const struct rt_conn *c, struct dedupe_key key, uint64_t offset,
                  uint64_t wall_ms, uint64_t over_ms);
void rt_keep_journal(struct runtime *rt, const struct rt_conn *c, uint64_t wall_ms,
                     const struct journal_entry *entry);
/* Fills what the spec leaves open with what an earlier process left under this name; borrowed until
 * rt_parked_take(), which hands over the rest. False: nothing was left. */
bool rt_parked_get(struct runtime *rt, const char *name, struct connection_spec *spec);
void rt_parked_take(struct runtime *rt, struct rt_conn *c);
void rt_parked_free(struct runtime *rt);

/* orders.c */
void rt_consumers_init(struct runtime *rt);

/* dispatch.c */
void rt_dispatch(struct runtime *rt, const struct effect *fx);

/* connections.c: the proxy on the way to a target. Borrowed while the connection is. */
struct host_proxy rt_conn_proxy(const struct runtime *rt, const struct rt_conn *c, bool tls,
                                const char *host, uint16_t port);

/* link_upgrade.c */
/* Sends the request for the address that was prepared for this link; a failure is an event. */
void rt_upgrade_begin(struct runtime *rt, struct rt_conn *c, struct rt_link *l);
/* Returns how many bytes belonged to the answer. */
size_t rt_upgrade_bytes(struct runtime *rt, struct rt_link *l, const uint8_t *bytes, size_t len);
/* What the answer means that is here so far. Head and body are borrowed from the link's reader. */
struct cause rt_upgrade_cause(struct runtime *rt, const struct rt_link *l);
void rt_upgrade_over(struct rt_link *l);

/* links.c */
void rt_dial_failed(struct runtime *rt, struct rt_link *l, const struct cause *cause);
void rt_link_dial(struct runtime *rt, struct rt_conn *c, uint32_t generation);
struct rt_link *rt_link_find(const struct rt_conn *c, uint32_t generation);
bool rt_link_send(struct runtime *rt, struct rt_link *l, const void *bytes, size_t len, bool text);
/* As rt_link_send(), but packets of a codec that allows it wait for rt_joined_flush(), which must be called
 * before the turn ends, and go out in one message. */
bool rt_link_send_joined(struct runtime *rt, struct rt_link *l, const void *bytes, size_t len, bool text);
void rt_joined_flush(struct runtime *rt);
/* One whole frame. False: the link writes nothing more, or too much waits already. */
bool rt_link_frame(struct runtime *rt, struct rt_link *l, enum ws_opcode opcode, const void *bytes,
                   size_t len);
void rt_link_close_frame(struct runtime *rt, struct rt_link *l, uint16_t code, const char *reason);
/* The stream's end, after all that was written. */
void rt_link_finish(struct runtime *rt, struct rt_link *l);
void rt_link_ping(struct runtime *rt, struct rt_link *l);
void rt_link_close(struct runtime *rt, struct rt_link *l, uint16_t code, const char *reason);
void rt_link_abort(struct runtime *rt, struct rt_link *l);
void rt_link_pause(struct runtime *rt, struct rt_link *l, enum rt_pause why, bool on);
void rt_link_adopt_build(struct runtime *rt, struct rt_link *l);
void rt_link_free(struct runtime *rt, struct rt_link *l);
uint64_t rt_link_id(const struct rt_link *l);

/* said.c: the reason of a cause, from the far end's own words; none of the connection's secrets is left
 * in it. */
void rt_cause_said(const struct runtime *rt, const struct rt_conn *c, struct cause *cause, const void *bytes,
                   size_t len);

/* The same for any text with its NUL, in place. */
void rt_hide(const struct runtime *rt, const struct rt_conn *c, char *text, size_t bytes);

/* inbound.c */
size_t rt_inbound(struct runtime *rt, struct rt_link *l, uint8_t *bytes, size_t len);
/* acks.c
 * The platform's acknowledgement of an accepted frame, or of a duplicate of it, made now and sent when it
 * may go. `key` NULL: the frame has none. */
void rt_ack_queue(struct runtime *rt, struct rt_conn *c, struct rt_link *l, struct rt_build *build,
                  const struct path_item *item, const struct dedupe_key *key, uint64_t offset);
/* The owner's acknowledgement, and before it, maybe, its reply to one frame. */
void rt_ack_owner(struct runtime *rt, struct rt_conn *c, uint64_t offset);
void rt_ack_reply(struct runtime *rt, struct rt_conn *c, uint64_t offset, const void *frame, size_t len,
                  bool text);
void rt_through_passed(struct runtime *rt, struct rt_conn *c, uint64_t due_ms);
/* Frames up to `offset` are safe (or their write failed): acknowledgements go out, or are dropped, so
 * that the platform sends the frame again. */
void rt_acks_stored(struct runtime *rt, struct rt_conn *c, uint64_t offset, bool ok);
/* Asks the store for what was appended since; once per batch of frames. */
void rt_acks_flush(struct runtime *rt, struct rt_conn *c);
void rt_acks_drop(struct runtime *rt, struct rt_conn *c);
/* Held frames are taken as far as there is room. */
void rt_backlog_check(struct runtime *rt);
void rt_hold_passed(struct runtime *rt, struct rt_link *l, uint64_t due_ms);
void rt_held_free(struct runtime *rt, struct rt_link *l);

/* hooks.c and tasks.c */
void rt_prepare(struct runtime *rt, struct rt_conn *c, uint32_t generation);
void rt_greet(struct runtime *rt, struct rt_conn *c, uint32_t generation);
void rt_beat(struct runtime *rt, struct rt_conn *c, uint32_t generation);
void rt_ask_ended(struct runtime *rt, struct rt_conn *c, uint32_t generation,
                  const struct cause *cause);
void rt_on_frame(struct runtime *rt, struct rt_conn *c, struct rt_link *l, struct rt_build *build,
                 const struct path_item *item);
/* The greeting that awaits this frame goes on with it; true when one did. */
bool rt_greet_frame(struct runtime *rt, struct rt_conn *c, struct rt_link *l,
                    const struct path_item *item);
void rt_every_start(struct runtime *rt, struct rt_conn *c, uint32_t generation);
/* Another build: those that are the same keep their time. */
void rt_every_swap(struct runtime *rt, struct rt_conn *c, const struct policy_build *before);
void rt_every_passed(struct runtime *rt, struct rt_conn *c, uint32_t index, uint64_t due_ms);
void rt_cancel(struct runtime *rt, struct rt_conn *c, uint32_t generation, bool all);
void rt_task_within_passed(struct runtime *rt, struct handle task, uint64_t due_ms);
/* calls.c: true when the call is under way; false: `with` says why not (cause borrowed from *cause). */
bool rt_http_begin(struct runtime *rt, struct rt_task *t, struct call_http *http,
                   struct resume_with *with, struct cause *cause);
void rt_http_done(struct runtime *rt, struct handle call, const struct http_result *result);
struct policy_call rt_call_of(struct runtime *rt, struct rt_conn *c, struct rt_build *build,
                              uint32_t generation, enum hook hook, const char *name);
/* `t`: whose hook may wait; NULL: it may not. */
enum call_result rt_enter(struct runtime *rt, const struct rt_build *build,
                          const struct policy_call *call, struct call_answer *answer, struct rt_task *t);
enum call_result rt_resume(struct runtime *rt, struct rt_task *t, const struct resume_with *with,
                           struct call_answer *answer);
/* Carries a call's outcome on until it waits or is over. Frees `answer`'s contents. */
void rt_task_go_on(struct runtime *rt, struct rt_task *t, enum call_result result,
                   struct call_answer *answer);
struct rt_task *rt_task_create(struct runtime *rt, struct rt_conn *c, struct rt_build *build,
                               uint32_t generation, enum hook hook, const char *name);
void rt_task_free(struct runtime *rt, struct rt_task *t);
/* What it waited for came: matchers and the call are let go. */
void rt_task_waits_over(struct runtime *rt, struct rt_task *t);
/* The task cannot go on: what it was for fails with this cause. */
void rt_task_fail(struct runtime *rt, struct rt_task *t, const struct cause *cause);
void rt_hook_failed(struct runtime *rt, struct rt_conn *c, uint32_t generation, enum hook hook,
                    enum call_result result, const struct call_answer *answer);
struct cause rt_hook_cause(enum hook hook, const struct call_answer *answer);

/* fetches.c */
enum rt_fetch_state { RT_FETCH_HAVE, RT_FETCH_WAIT, RT_FETCH_FAILED };
/* HAVE: f->value is good. WAIT: the task was noted as a waiter. FAILED: *cause_out says why. */
enum rt_fetch_state rt_fetch_get(struct runtime *rt, struct rt_task *waiter, const char *name,
                                 struct rt_fetch **fetch_out, struct cause *cause_out);
void rt_fetch_done(struct runtime *rt, struct rt_fetch *f, struct rt_task *t,
                   enum call_result result, struct call_answer *answer);
/* The task is in f's list of waiters until it is served, fails or leaves. */
void rt_fetch_wait(struct rt_fetch *f, struct rt_task *t);
void rt_fetch_leave(struct rt_task *t);
/* The running task of f was cancelled: goes on for another waiter, if there is one. */
void rt_fetch_orphaned(struct runtime *rt, struct rt_fetch *f);
void rt_fetch_drop(struct runtime *rt, struct rt_conn *c, const char *name);
void rt_fetch_renew_passed(struct runtime *rt, uint32_t number, uint64_t due_ms);
/* Good or old; NULL when it was never asked for. Borrowed until the next call of a hook. */
const struct value *rt_fetch_value(const struct runtime *rt, const struct policy_build *build,
                                   const struct fetch_rule *rule);
void rt_fetches_free(struct runtime *rt);

/* address.c */
struct rt_address *rt_address_create(const struct rt_conn *c, const struct policy_build *build,
                                     const struct value *prepared, char *why, size_t why_bytes);
void rt_address_free(struct rt_address *a);

/* port.c */
void rt_port_init(struct runtime *rt);
void rt_send_free(struct runtime *rt, struct rt_send *s);

/* journal.c */
void rt_log(struct runtime *rt, enum log_level level, const struct rt_conn *c, const char *format,
            ...) __attribute__((format(printf, 4, 5)));
void rt_journal_state(struct runtime *rt, struct rt_conn *c, const struct effect *fx);
void rt_journal_decision(struct runtime *rt, struct rt_conn *c, const struct effect *fx);
void rt_journal_note(struct runtime *rt, struct rt_conn *c, uint32_t generation, int kind,
                     const char *format, ...) __attribute__((format(printf, 5, 6)));
/* One entry as rt_keep_journal() wrote it. */
void rt_journal_restore(struct runtime *rt, struct rt_conn *c, uint64_t wall_ms, const struct value *entry);
void rt_journal_free(struct rt_conn *c);
/* "closed by peer: 4000 unknown error (stage ready)" */
const char *cause_text(const struct cause *cause, char *out, size_t out_bytes);

#endif
