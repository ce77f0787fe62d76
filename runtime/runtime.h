/* Runtime: everything of one loop. Owns engine, connections, links, tasks and calls; carries out the
 * engine's effects (dispatch.c) through the host table. Several can live in one process.
 *
 * The driver (daemon or simulator) calls runtime_tick() when runtime_deadline_ms() is reached or the host
 * was asked to wake, and stored() for finished durable writes. */
#ifndef HOLDFAST_RUNTIME_H
#define HOLDFAST_RUNTIME_H

#include "base/proxy.h"
#include "base/histogram.h"
#include "deliver/deliver.h"
#include "engine/blame.h"
#include "engine/engine.h"
#include "engine/life.h"
#include "engine/weather.h"
#include "history.h"
#include "host.h"
#include "policy/policy.h"
#include "store/core.h"
#include "trials.h"

struct runtime;   /* opaque */
struct path_item; /* frame/path.h */

struct journal_entry;
enum log_level { LOG_ALARM, LOG_WARNING, LOG_INFO, LOG_DEBUG };

/* What a line of the log is about, for machines. Borrowed until return. */
struct log_facts {
    const char *kind;          /* "state" or "decision" */
    uint32_t generation;
    const char *from, *to;     /* of a state; NULL */
    const struct cause *cause; /* NULL or kind NONE: none */
    const char *whose;         /* doing it is: blame_name(); NULL without a cause */
    const char *verdict;       /* runtime_verdict_name(), or NULL */
    const char *next;          /* or NULL */
    uint64_t next_in_ms;       /* while there is a next */
};

/* All borrowed until return; none may call back into the runtime. NULL members are skipped. */
struct runtime_observer {
    void *self;
    /* After each engine step and before its effects are carried out. */
    void (*step)(void *self, const struct event *ev, const struct effect_list *effects);
    void (*log)(void *self, enum log_level level, const char *connection, const char *text);
    /* The same with what it is about: state changes and decisions. NULL: they go to log(). */
    void (*log_about)(void *self, enum log_level level, const char *connection, const char *text,
                      const struct log_facts *facts);
    /* Whether lines of this level go anywhere; NULL: all do. */
    bool (*logs)(void *self, enum log_level level);
    /* An entry of a journal, as runtime_journal() tells it later. From inside a step: ask nothing of the runtime. */
    void (*journal)(void *self, struct handle conn, const char *connection, const struct journal_entry *entry);
    /* What passed a link, for traces and checkers; inbound before rules, outbound before masking. */
    void (*message)(void *self, struct handle conn, uint32_t generation, bool inbound, bool text,
                    const void *data, size_t len);
    void (*delivered)(void *self, struct handle conn, uint64_t offset, const struct path_item *item);
};

struct runtime_options {
    uint64_t seed;
    struct host host;
    struct store store;
    struct deliver *deliver;       /* borrowed */
    const struct proxy_env *proxies; /* the environment's; borrowed; NULL: none */
    struct runtime_observer observer;
    uint32_t connections_max;      /* 0: 16384 */
    uint32_t journal_entries;      /* kept per connection; 0: 64 */
    uint64_t dedupe_seed;          /* of keys that may outlive the process; 0: `seed` */
    size_t trace_bytes_max;        /* kept for traces over all connections; 0: 64 MiB; 1: none are kept */
};

struct runtime *runtime_create(const struct runtime_options *options); /* owned; NULL: memory */
/* Aborts what is open. The host must still be there, and report nothing afterwards. */
void runtime_destroy(struct runtime *rt);

struct connection_spec {
    const char *name;              /* borrowed until return */
    struct policy_build *build;    /* moved, also on failure */
    const char *ca_file;           /* or NULL */
    const char *owner;             /* consumer whose acknowledgements count for `through`; NULL: none */
    bool plain;                    /* allows http/ws to other than loopback */
    struct host_proxy proxy;       /* for all that it dials and calls, loopback too */
    bool proxy_of_environment;     /* `proxy` names none: options.proxies decide, target by target */
    bool stopped;                  /* add without starting */
    const struct value *session;   /* a stored session and keep, or NULL; copied */
    uint64_t session_saved_wall_ms;
    uint64_t session_of;           /* fingerprint it was saved under */
    const struct value *keep;
    bool restarted;                /* an earlier process had it, and its backlog is lost; where a store was read
                                    * the runtime knows by itself what may be missing */
};
/* HANDLE_NONE with a sentence: name taken, identity taken (I1), full. */
struct handle runtime_add(struct runtime *rt, const struct connection_spec *spec, char *why,
                          size_t why_bytes);
struct handle runtime_find(const struct runtime *rt, const char *name);
/* Iteration: for (i = 0; runtime_next(rt, &i, &h); i++) */
bool runtime_next(const struct runtime *rt, uint32_t *index, struct handle *conn_out);
uint32_t runtime_count(const struct runtime *rt);
/* Who has the identity, one on its way out included; HANDLE_NONE: nobody. */
struct handle runtime_owner(const struct runtime *rt, uint64_t identity);
uint32_t runtime_count_up(const struct runtime *rt);

void runtime_start(struct runtime *rt, struct handle conn);
/* As above, and its next session start may be of the share of the budget that the policy keeps for people,
 * once; the wish ends when the connection is up or stopped. False with a sentence when there is no use for
 * it, or when nothing is left of the share either: then nothing happens, and `why` says from when on. */
bool runtime_start_reserve(struct runtime *rt, struct handle conn, char *why, size_t why_bytes);
void runtime_stop(struct runtime *rt, struct handle conn);
void runtime_restart(struct runtime *rt, struct handle conn);
void runtime_remove(struct runtime *rt, struct handle conn);
/* Another build for a connection: live link stays, session carries over. `build`: moved. */
void runtime_swap(struct runtime *rt, struct handle conn, struct policy_build *build);
/* Closes everything with `keep`; runtime_is_down() when all links are closed. */
void runtime_shutdown(struct runtime *rt);
bool runtime_is_down(const struct runtime *rt);
/* Takes runtime_shutdown() back: those that it ended start again, with their sessions. */
void runtime_shutdown_undo(struct runtime *rt);

/* Carries out what was asked for (start, stop, remove ...) at once, instead of at the next tick. */
void runtime_carry_out(struct runtime *rt);
/* Carries out what is due and queued. */
void runtime_tick(struct runtime *rt);
/* Mono; 0 when work is queued; ENGINE_NEVER when nothing is due. */
uint64_t runtime_deadline_ms(const struct runtime *rt);
/* Static: what kind of store it was given, "memory" or "sqlite". */
const char *runtime_store_kind(const struct runtime *rt);
void runtime_stored(struct runtime *rt, uint64_t ticket, bool ok);
/* What an earlier process left: for store_core_visit(), before connections are added. Whatever belongs to a
 * connection waits for its runtime_add(). */
struct store_visitor runtime_restore(struct runtime *rt);
/* After the visit. `clean`: that process ended in order. */
void runtime_restored(struct runtime *rt, bool clean);
/* What an earlier life of the process stored of budgets (STORE_OP_PERMIT that was not returned, the last
 * STORE_OP_TOLD): to be told before connections start, as store/core.h's visitor gives it, in any order. */
void runtime_restore_permit(struct runtime *rt, uint64_t account, enum budget_kind budget, int64_t lane,
                            bool same_boot, uint64_t wall_ms, uint64_t boot_ms);
void runtime_restore_told(struct runtime *rt, uint64_t account, enum budget_kind budget, int64_t left,
                          uint32_t lanes, bool same_boot, uint64_t until_wall_ms, uint64_t until_boot_ms);

struct connection_view {
    char name[64];
    char policy[64];
    uint32_t policy_version;
    char policy_path[256];
    struct engine_view engine;
    struct pulse pulse;           /* of the newest open link */
    struct clock now;
    char address[256];            /* of the newest link, query values masked; "" */
    uint64_t frames_delivered, frames_malformed, frames_duplicate, frames_other;
    struct pulse total;           /* of all its links, the bytes and frames alone */
    uint64_t parts_refused;
    uint64_t last_event_ms;       /* mono: of the last frame delivered; 0: none yet */
    bool round_trip_known;        /* of the newest answered probe of the newest link */
    bool round_trip_of_ping;      /* and not of a beat */
    uint64_t round_trip_ms;
    bool kernel_known;
    struct host_link_info kernel; /* of the newest link's socket */
    bool loop_known;
    struct host_loop_delay loop;  /* of the daemon */
    struct life life;
    char weather[WEATHER_TEXT_MAX]; /* of the front that it is part of; "" */
    uint64_t turn_ahead;          /* while it awaits its turn: at most so many are before it */
    enum blame whose;             /* doing its last ending was; NOBODY without one */
    char trial[160];              /* that it runs a version which is on trial; "" */
    uint64_t down_for_ms;         /* since a link served, or since it was started; 0: one does */
    struct deliver_stream_view backlog;
    const char *kept_in;          /* static: what kind of store has it, "memory" or "sqlite" */
    char warning[PLAN_NOTE_MAX];  /* newest conn:warn or alarm, "" */
};
bool runtime_view(const struct runtime *rt, struct handle conn, struct connection_view *out);
/* The same without the sentences that are made for readers: life.evidence, weather and trial are empty. */
bool runtime_view_facts(const struct runtime *rt, struct handle conn, struct connection_view *out);
/* What several connections have in common that fail, as of at most a second ago; the most failing first. */
uint32_t runtime_weather(const struct runtime *rt, struct weather_front out[WEATHER_FRONTS_MAX]);
bool runtime_weather_json(const struct runtime *rt, struct buffer *out); /* an array */
struct runtime_held {
    uint32_t now, hosts; /* attempts put off; hosts that answer nobody */
    uint64_t total;      /* put off since the start */
};
struct runtime_held runtime_held(const struct runtime *rt);
/* Attempts: not begun because so many others are under way, under way, and those that ever waited for their turn. */
struct runtime_turns {
    uint32_t waiting, under_way;
    uint64_t waited_total;
};
struct runtime_turns runtime_turns(const struct runtime *rt);
bool runtime_loop_delay(const struct runtime *rt, struct host_loop_delay *out);
struct clock runtime_clock(const struct runtime *rt);
/* Tells deliver what time it is, for whoever pumps it outside of runtime_tick(). */
void runtime_clock_told(const struct runtime *rt);

/* What was counted since the start; totals only grow. Borrowed until the runtime ends. */
#define RUNTIME_VERDICTS_MAX 5
struct runtime_counts {
    uint64_t attempts, ready;
    uint64_t endings[CAUSE_KIND_COUNT][RUNTIME_VERDICTS_MAX]; /* by runtime_verdict_name() */
    uint64_t hook_failures[HOOK_EVERY + 1];
    struct histogram hook[HOOK_EVERY + 1]; /* time inside Lua, per entry and resumption */
    struct histogram time_to_ready;        /* from the begin of an attempt */
    struct histogram outage;               /* from leaving `up` until up again; operators' stops do not count */
    struct histogram round_trip;
    uint64_t removed;                      /* connections */
    struct pulse gone;                     /* their bytes and frames */
    uint64_t events_gone, malformed_gone, duplicate_gone;
    uint64_t trials_adopted, trials_taken_back; /* of versions of policies */
};
const struct runtime_counts *runtime_counts(const struct runtime *rt);
/* "resume" "fresh" "renew" "slow" "stop": the stronger part of the verdict. */
const char *runtime_verdict_name(uint32_t index);
/* One budget of one connection; false: its policy has none of that kind. */
bool runtime_budget(const struct runtime *rt, struct handle conn, enum budget_kind budget, struct budget_view *out);
/* What is to be expected: costs more than a view, so for one connection at a time. */
struct connection_outlook {
    bool budget_on[BUDGET_COUNT];
    struct budget_view budgets[BUDGET_COUNT];
    uint64_t recovery_bound_ms; /* engine_recovery_bound_ms() */
};
bool runtime_outlook(const struct runtime *rt, struct handle conn, struct connection_outlook *out);
/* Journal, newest first: index 0 is the newest. False past the end. */
struct journal_entry {
    uint64_t wall_ms;
    uint32_t generation;
    enum { JOURNAL_STATE, JOURNAL_DECISION, JOURNAL_ALARM, JOURNAL_HOOK, JOURNAL_NOTE } kind;
    enum conn_state from, to;     /* STATE */
    bool given_up;                /* STATE: a fatal cause stopped it */
    enum cause_kind cause_kind;   /* STATE, and not when read later */
    struct decision decision;     /* DECISION */
    char file[128];               /* of the policy at that time */
    char text[256];               /* in words, one line, no secrets */
};
/* A note of the daemon's own, in the connection's journal. One line, no secrets. */
void runtime_note(struct runtime *rt, struct handle conn, const char *text);
bool runtime_journal(const struct runtime *rt, struct handle conn, uint32_t index,
                     struct journal_entry *out);
/* The states of hours, of earlier processes too where a store keeps the journal. Borrowed until the next tick; false:
 * no such connection. */
bool runtime_history(const struct runtime *rt, struct handle conn, const struct history_mark **marks, uint32_t *count);
/* Connection's JSON as the API and `status --json` show it. */
bool runtime_view_json(const struct connection_view *view, struct buffer *out);
/* Names of the session keys kept now, and their JSON (no secrets can be in it). For tests and status. */
bool runtime_session_json(const struct runtime *rt, struct handle conn, struct buffer *out);
/* What happened to a connection lately, as a file for replays (trace/file.h); without secrets. `last_ms`: not
 * what is older; 0: all that is kept. Appends; false with a sentence. */
bool runtime_trace(struct runtime *rt, struct handle conn, uint64_t last_ms, const char *recorded_by,
                   struct buffer *out, char *why, size_t why_bytes);
const struct engine *runtime_engine(const struct runtime *rt);
#ifdef HOLDFAST_TEST
void runtime_plant(struct runtime *rt, enum engine_plant plant);
#endif

#endif
