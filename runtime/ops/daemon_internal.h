/* Shared by the files of the daemon: daemon.c puts it together, the others do one thing each. */
#ifndef HOLDFAST_OPS_DAEMON_INTERNAL_H
#define HOLDFAST_OPS_DAEMON_INTERNAL_H

#include <limits.h>
#include <uv.h>

#include "ops/daemon.h"
#include "deliver/deliver.h"
#include "net/net.h"
#include "ops/log_limit.h"
#include "ops/notify.h"
#include "ops/gate.h"
#include "ops/proof_set.h"
#include "ops/reading.h"
#include "ops/file_watch.h"
#include "ops/ops.h"
#include "runtime.h"
#include "store/lock.h"
#include "store/thread.h"

/* A connection that was put over the API. */
struct added {
    struct config_connection config;  /* owned */
    struct policy_version *version;   /* owned reference */
    struct policy_build *build;       /* owned: waits until its namesake is gone; NULL: it runs */
    struct policy_build *next;        /* owned: of the reload that is being built; or NULL */
    char *json;                       /* owned: as it was put, for its credentials; NULL: it may not be kept */
    size_t json_len;
    uint64_t identity;
    uint64_t overlay;                 /* of what it lays over its policy's tables; 0: nothing */
};

/* The same, as the process before stored it. */
struct stored {
    char name[CONFIG_NAME_MAX];
    char *json; /* owned */
    size_t len;
};

struct upgrade; /* daemon_upgrade.c */

/* A connection that was put over the API and is not taken before what it runs went through the gate. */
struct put {
    struct put *next;
    uint64_t ticket;
    char name[CONFIG_NAME_MAX];
    char *json;         /* owned */
    size_t len;
    uint32_t tries;
};
#define PUTS_MAX 256          /* waiting at once; more are told to come again */
#define PUTS_REFUSED_MAX 8

/* daemon_put.c */
struct puts {
    struct put *first, *last; /* owned; the first one is being proven */
    uint32_t count;
    uint64_t tickets;         /* given out so far */
    struct gate *gate;        /* owned; NULL: none */
    uint64_t proving;         /* ticket of the one that it plays */
    struct {                  /* until it is put well, or deleted; the older one is overwritten */
        char name[CONFIG_NAME_MAX]; /* "": none */
        uint64_t wall_ms;
        char text[512];
    } refused[PUTS_REFUSED_MAX];
};

/* Flags of what went through the gate: none, it is proven. */
enum proof_flags {
    PROOF_CAPPED = 1, /* not fully: the time was over */
    PROOF_WAIVED = 2, /* an operator let it past */
    PROOF_OFF = 4,    /* the configuration did */
};
#define RELOAD_TRIES_MAX 5
#define DAEMON_SLICE_NS 1000000u /* of a turn of the loop, for what concerns thousands of connections */

/* A reload is one whole. Up to BUILDING nothing that runs knows of it, and it may be refused; from SWAPPING on it cannot
 * fail any more. BUILDING and SWAPPING are done in slices of the loop's time; whatever else is asked of the daemon between
 * two slices finds the old configuration before SWAPPING, and the new one from its first moment on. */
enum reload_phase {
    RELOAD_IDLE,
    RELOAD_READING,  /* in a thread */
    RELOAD_PROVING,  /* in a thread; it is read once more after that */
    RELOAD_BUILDING, /* with versions that run: changed settings, and what was added over the API */
    RELOAD_SWAPPING, /* one connection after the other */
};
enum reload_step { STEP_BUILD_FILE, STEP_BUILD_ADDED, STEP_REMOVE, STEP_SWAP_ADDED, STEP_SWAP_FILE };

/* What a wish for a reload says besides of which policy: see struct ops_reload. */
struct reload_how {
    bool unproven, now, again;
};

/* One that was asked for while another was under way: it begins when that one is over. */
struct reload_queued {
    uint64_t ticket; /* 0: none */
    char policy[CONFIG_NAME_MAX];
    struct reload_how how;
};
#define RELOAD_QUEUED_MAX 8 /* one of each kind: equal wishes are one */
#define RELOAD_TRASH_MAX  4
#define RELOAD_TEXT_MAX   4096

/* daemon_reload.c, daemon_swap.c, daemon_proof.c */
struct reloading {
    enum reload_phase phase;
    enum reload_step step;
    struct reading *reading; /* owned; NULL: none */
    struct gate *gate;       /* owned; NULL: none */
    char policy[CONFIG_NAME_MAX]; /* "": all */
    struct reload_how how;
    bool called_off;         /* while READING: its end is waited for, and nothing comes of it */
    uint32_t tries;          /* the text changed while it was played */
    uint64_t tickets;        /* given out so far */
    uint64_t answers;        /* this one's end answers all up to this ticket */
    struct reload_queued queue[RELOAD_QUEUED_MAX]; /* the earlier one first */
    struct buffer out;       /* lines for who asked */
    struct problems problems;
    struct roster next;      /* BUILDING: owned */
    struct roster old;       /* SWAPPING: owned: what ran before */
    uint32_t at;             /* of the step */
    uint32_t changed, removed;
    struct roster trash[RELOAD_TRASH_MAX]; /* owned: freed in slices */
    uint32_t trash_count;
    bool sweep;              /* builds of a reload that was refused wait in `added` */
    uint32_t sweep_at;
    uv_idle_t spin;          /* active while there is a slice to do: the loop must not sleep */
    uv_check_t turn;         /* does it, after sockets had their turn */
    uint64_t slice_ns;       /* 0: one connection a turn */
    bool lacks_proof;        /* BUILDING: something was put meanwhile that is not proven with a new text */
    struct {                 /* of the last one that ended */
        bool refused;
        uint64_t wall_ms;    /* 0: there was none */
        char text[RELOAD_TEXT_MAX]; /* lines */
        uint64_t taken_total, refused_total;
    } last;
};

/* What became of the versions of one policy. */
struct trial_record {
    char policy[CONFIG_NAME_MAX];
    char path[256];
    uint32_t newest;       /* the highest number that any version of it had */
    uint64_t refused;      /* hash of the text that was taken back, while it is in its file; 0: none */
    uint32_t version, serves;
    uint64_t wall_ms;
    enum trial_outcome outcome;
    bool asked;            /* a person took it back */
    bool left_trying, left_refused; /* by the process before: this text was on trial, or taken back */
    uint64_t left_hash;
    struct value left;     /* owned: all that it kept of it, the text that served included; nil: nothing */
    char why[TRIAL_WHY_MAX];
};

struct daemon {
    struct daemon_options options;
    uv_loop_t loop;
    uv_prepare_t prepare;   /* store answers, pending adds, and whether the shutdown is done */
    uv_idle_t again;        /* active while the store has more to answer: the loop must not sleep */
    uv_timer_t grace;       /* until links are dropped */
    uv_timer_t leave;       /* while readers get their last lines */
    uv_timer_t telling;     /* the service manager, while there is one */
    struct log_limit limit;
    uv_timer_t limit_timer; /* while lines are left out */
    struct notify notify;
    uv_signal_t signals[3];
    struct net *net;
    struct store_lock store_lock;
    struct store_thread *disk;   /* NULL: closed, or in memory */
    struct store_memory *store;  /* NULL: on disk */
    uv_async_t store_wake;
    uv_prepare_t store_flush;    /* runs last before the loop sleeps */
    bool store_degraded;         /* told as ill */
    uint64_t store_well_ms;      /* and without a failure since then; 0: it fails */
    struct deliver *deliver;
    struct runtime *rt;
    struct ops *ops;
    struct ops_listeners adopted; /* owned until ops has them */
    struct roster roster;   /* what runs; builds were taken */
    uint32_t *to_add;       /* owned: indices of the roster, waiting with their builds until their namesakes are gone */
    uint32_t to_add_count, to_add_room;
    struct added *added;    /* owned */
    uint32_t added_count, added_room, added_waiting;
    bool added_touched;     /* since somebody looked: one was put, deleted or moved */
    struct stored *stored;  /* owned */
    uint32_t stored_count;
    struct proxy_env proxies;         /* of the environment, read once at the start */
    char proxies_wrong[256];          /* why there is none, although a variable is set; "" */
    char token_path[512];   /* of the token made at start; "": none */
    uint64_t seed;
    char binary[PATH_MAX];  /* where this program is, for an upgrade */
    struct handover_message started_with; /* listeners and store: a reload does not move them */
    struct reloading reloading;
    struct puts puts;
    struct proof_set proven;     /* what went through the gate, or was let past it */
    bool trial_cut;              /* at the start: one that the process before began is to begin anew */
    struct trial_record *trials; /* owned */
    uint32_t trial_count;
    bool watch_told;             /* that there are too many files */
    struct file_watch *watch;    /* owned; NULL: files are read again only when that is asked for */
    struct upgrade *upgrade; /* owned; NULL: none is under way */
    bool stopping;          /* links close, for an end or an upgrade */
    bool links_down, left;  /* while stopping: no link is open; readers had their time */
    uint64_t leave_until_ms; /* of the loop's clock */
    bool end_wanted;        /* by a signal */
    bool handed_over;       /* listeners, locks and store belong to the next process */
    bool broken;            /* it cannot go on, and says so by its exit status */
    bool down, in_order;
};

/* Adds connection `index` of the roster, whose build is given. False after a log line. */
bool daemon__add(struct daemon *d, uint32_t index, struct policy_build *build);
/* The same for any. `build`: moved. */
bool daemon__add_connection(struct daemon *d, const struct config_connection *c,
                            struct policy_build *build, char *why, size_t why_bytes);
/* Everything but the build: what the runtime was told when the connection was added. */
bool daemon__dials_the_same(const struct config_connection *a, const struct config_connection *b);
/* For ops. LATER: wish->ticket is set, and ops_reload_answer() follows; else `problems` has lines of text. */
enum ops_reloaded daemon__reload(void *self, struct ops_reload *wish, struct buffer *problems);
/* Nobody waits for the answer: it is in the log. While another one is under way it comes after that one. */
void daemon__reload_all(struct daemon *d, const char *why);
/* For ops. */
bool daemon__reload_view(void *self, struct ops_reload_view *out);
void daemon__reload_init(struct daemon *d);
/* Links are closed for an end or an upgrade: what was not begun to be swapped is called off; the rest waits for
 * daemon__reload_resume(). */
void daemon__reload_pause(struct daemon *d);
void daemon__reload_resume(struct daemon *d);
/* Handles are closed: the loop must run until it is empty, and then daemon__reload_free(). */
void daemon__reload_deinit(struct daemon *d);
void daemon__reload_free(struct daemon *d);
/* For who asked, and in the log. */
void daemon__reload_say(struct daemon *d, enum log_level level, const char *text);

/* --- daemon_swap.c: BUILDING and SWAPPING, in slices ------------------------------------------------------ */

/* `next` has all its versions: goes on from here, and calls one of the three below at its end. */
void daemon__swap_begin(struct daemon *d);
void daemon__swap_done(struct daemon *d);
void daemon__swap_refused(struct daemon *d);
/* Nothing is wrong but that something lacks a proof that came meanwhile: all is read again. */
void daemon__swap_unproven(struct daemon *d);
/* There is something to do in slices. */
void daemon__swap_wake(struct daemon *d);
/* Moved: freed in slices. */
void daemon__swap_trash(struct daemon *d, struct roster *roster);

/* --- daemon_proof.c: what goes through the gate ----------------------------------------------------------- */

/* What of the roster runs nowhere yet and was not proven. `run`: for gate_run_deinit(), or moved to who starts it. */
void daemon__proof_wanted(const struct daemon *d, const struct roster *next, const struct roster_running *running,
                          uint32_t running_count, struct gate_run *run);
/* The same of one connection with this version, which `runs` somewhere or not. */
void daemon__proof_want_one(const struct daemon *d, const struct policy_version *v, bool runs,
                            const struct config_connection *c, struct gate_run *run);
bool daemon__proof_is_known(const struct daemon *d, const struct policy_version *v, uint64_t overlay);
/* `run`: moved. NULL: no thread can be had. run->done() follows; it says what came of it with daemon__proof_judge(). */
struct gate *daemon__proof_start(struct daemon *d, struct gate_run *run);
/* Keeps what came of it. True when all may be taken; `lines`: what is to be told of it. */
bool daemon__proof_judge(struct daemon *d, const struct gate_run *run, struct buffer *lines);
/* For a reload. `run`: moved. False: no thread can be had. daemon__proof_over() follows. */
bool daemon__proof_begin(struct daemon *d, struct gate_run *run);
/* What came of it; true when all may be taken. */
void daemon__proof_over(struct daemon *d, bool good);
/* They are let past the gate. */
void daemon__proof_skip(struct daemon *d, const struct gate_run *run, bool operator_wished);
/* A version that was let past the gate is told in the journal of a connection that goes on with it. */
void daemon__proof_note(struct daemon *d, struct handle h, const struct policy_version *v, uint64_t overlay);
/* Static: what is known of it, for who put it. */
const char *daemon__proof_word(const struct daemon *d, const struct policy_version *v, uint64_t overlay);
/* --- daemon_token.c: a token that nobody configured --- */

/* New. NULL with a sentence. */
struct secret *daemon__token_generate(char *why, size_t why_bytes);
/* The one that the process before us generated, or NULL. */
struct secret *daemon__token_read(const struct daemon *d);
/* Once the socket is ours: another daemon's file is not. */
bool daemon__token_write(struct daemon *d, const struct secret *token, char *why, size_t why_bytes);
/* --- daemon_files.c --- */
/* Watches what is in use now, as the configuration wishes. */
void daemon__watch(struct daemon *d);
/* Adds connection `index` of the roster, which has its build, once its namesake is gone. */
void daemon__add_later(struct daemon *d, uint32_t index);
/* Adds those whose namesakes are gone by now, until `until_ns` of uv_hrtime(). False: there are more. */
bool daemon__add_pending(struct daemon *d, uint64_t until_ns);

/* --- daemon_trial.c: new versions that run on a share first ----------------------------------------------- */

/* What a reader of the files must know of this policy's versions besides the one that runs. */
void daemon__trial_running(const struct daemon *d, struct roster_running *one);
/* The roster that holds is a new one, and its connections are about to be swapped: trials of policies with a version
 * that takes no trial are over. */
void daemon__trials_forget(struct daemon *d);
/* They are swapped: what is to be tried is, what is gone from its file is taken back. */
void daemon__trials_begin(struct daemon *d);
/* A person's word: adopt, or take back. */
enum ops_reloaded daemon__trial_order(struct daemon *d, const struct ops_reload *wish, struct buffer *out);
/* Says what to do when settings fit one of two versions only. */
void daemon__trial_refused_hint(struct daemon *d);
/* For ops: see struct ops_options. */
uint32_t daemon__taken_back(void *self, struct buffer *out);
/* Why another process must not read the files now; false: it may. */
bool daemon__trial_forbids(const struct daemon *d, char *why, size_t why_bytes);
void daemon__trials_deinit(struct daemon *d);
struct trial_record *daemon__trial_record(struct daemon *d, const char *policy);

/* --- daemon_trial_kept.c: the same after a restart ---------------------------------------------------------- */

/* `state`: "trying", "taken_back" or "over". `serves`: the version that goes on after a restart; NULL with "over". */
void daemon__trial_keep(struct daemon *d, const struct trial_record *r, const char *state, uint64_t hash,
                        const struct policy_version *serves);
/* An entry of the daemon's own journal, as it was kept. */
void daemon__trial_stored(struct daemon *d, uint64_t wall_ms, const void *json, size_t len);
/* The same with the text that served, as it was kept under "policy NAME". */
void daemon__trial_stored_text(struct daemon *d, const char *name, const void *json, size_t len);
/* Before any connection is added: what served goes on where the file has a text that was on trial, or taken back. */
void daemon__trials_restore(struct daemon *d);
/* All connections are added: a trial that was cut begins anew; and says which texts run that should not, where what served
 * was not kept, or fits no more. */
void daemon__trials_started(struct daemon *d);

/* --- daemon_log.c: state changes and decisions in the log -------------------------------------------------- */

void daemon__log_init(struct daemon *d);
void daemon__log_deinit(struct daemon *d);
/* runtime_observer.logs, .log_about */
bool daemon__logs(void *self, enum log_level level);
void daemon__log_about(void *self, enum log_level level, const char *connection, const char *text,
                       const struct log_facts *facts);

/* --- daemon_end.c: how it comes to an end, or to an upgrade ------------------------------------------------ */

/* SIGTERM or SIGINT. The second one hastens. */
void daemon__end(struct daemon *d, int number);
/* Closes all links with `keep`; `why` is what consumers and clients are told. */
void daemon__links_close(struct daemon *d, const char *why, bool accept);
/* The upgrade did not happen: opens them again. */
void daemon__links_open(struct daemon *d);
/* Each turn of the loop. */
void daemon__end_step(struct daemon *d);
/* For readers' last bytes: down in order, soon. */
void daemon__end_when_quiet(struct daemon *d);

/* --- daemon_upgrade.c: the old one's side of an upgrade ---------------------------------------------------- */

void daemon__upgrade_init(struct daemon *d);
/* For ops: see struct ops_options. */
int daemon__upgrade(void *self, const struct ops_upgrade *wish, struct ops_problems *problems);
/* All links are closed and all is on disk. Comes again each turn. */
void daemon__upgrade_drained(struct daemon *d);
/* Ends the new one, if it did not take over yet. */
void daemon__upgrade_cancel(struct daemon *d, const char *why);
/* Handles are closed: the loop must run until it is empty. */
void daemon__upgrade_deinit(struct daemon *d);

/* --- daemon_takeover.c: the new one's side ----------------------------------------------------------------- */

/* What must be the same in both. */
void daemon__takeover_describe(const struct config *config, struct handover_message *out);
/* It listens and has the lock: tells, and waits for the old one's last word. Blocks for that moment. False
 * with a sentence: it must end. */
bool daemon__takeover_finish(struct daemon *d, char *why, size_t why_bytes);

/* --- daemon_store.c: the one place where the store is opened, asked, drained, closed and unlocked ---------- */

/* Locks the store's path and opens it. `lock_fd` (moved, -1: none): the lock, handed over by the process
 * before. False with a sentence. */
bool daemon__store_open(struct daemon *d, int lock_fd, char *why, size_t why_bytes);
struct store daemon__store(struct daemon *d);
/* Of the positions of this run; `wall_ms`: now. */
uint64_t daemon__store_epoch(const struct daemon *d, uint64_t wall_ms);
/* Of keys that outlive the process. */
uint64_t daemon__store_seed(const struct daemon *d);
/* Hands the runtime, and daemon_added.c, what the process before left; then writing begins. Blocks: for the
 * time before the loop runs. False with a sentence. */
bool daemon__store_read(struct daemon *d, char *why, size_t why_bytes);
/* Once all of a turn has happened: it becomes durable as one. */
void daemon__store_flush(struct daemon *d);
/* False: in memory, where nothing can go wrong. */
bool daemon__store_health(const struct daemon *d, struct store_health *out);
/* What survives this process: false means that sessions, budgets and frames end with it. */
bool daemon__store_is_durable(const struct daemon *d);
/* Each turn of the loop: tells the answers that are there. True: more are due at once. */
bool daemon__store_poll(struct daemon *d);
/* All that was asked for is where it is safe, and answered. */
bool daemon__store_is_safe(const struct daemon *d);
/* Lets go of the file, so that the next process can open it; the lock stays ours. Only once it is safe. */
void daemon__store_close(struct daemon *d);
/* The next process did not take it: goes on where close() left off. False with a sentence: this one cannot
 * go on either. */
bool daemon__store_reopen(struct daemon *d, char *why, size_t why_bytes);
/* The end of it, open or closed. `handed_over`: the lock is somebody else's now. */
void daemon__store_end(struct daemon *d, bool handed_over);

/* --- daemon_added.c: what the API adds, kept in the store ---------------------------------------------------- */

/* For ops: see struct ops_options. */
int daemon__remove(void *self, const char *name, struct ops_problems *problems);
/* NULL: none of this name. */
struct added *daemon__added_find(struct daemon *d, const char *name);
/* Takes `config`; `version`: its own reference. */
struct added *daemon__added_new(struct daemon *d, struct config_connection *config, struct policy_version *version);
/* For the next process. `json` NULL: it has none. */
void daemon__added_keep(struct daemon *d, const char *name, const void *json, size_t len);
/* Adds those whose namesakes are gone by now, until `until_ns` of uv_hrtime(). False: there are more. */
bool daemon__added_pending(struct daemon *d, uint64_t until_ns);
/* One that the process before had; it waits for daemon__added_start(). Copies. */
void daemon__added_stored(struct daemon *d, const char *name, const void *json, size_t len);
/* Adds them, after the file's, which wins on equal names. What cannot be added is said and kept. */
void daemon__added_start(struct daemon *d);
/* Owned: the policies that they use, for reading. */
struct roster_also *daemon__added_also(const struct daemon *d, uint32_t *count);
/* --- daemon_added_reload.c: one connection of these, from `*at` on; false: all are done --- */
bool daemon__added_build_one(struct daemon *d, const struct roster *next, uint32_t *at, struct problems *problems);
bool daemon__added_swap_one(struct daemon *d, uint32_t *at);
bool daemon__added_sweep_one(struct daemon *d, uint32_t *at);
void daemon__added_forget(struct daemon *d, struct added *a);
/* `build`: moved. */
void daemon__added_wait(struct daemon *d, struct added *a, struct policy_build *build);
void daemon__added_deinit(struct daemon *d);

/* --- daemon_put.c: PUT, through the gate -------------------------------------------------------------------- */

/* For ops: see struct ops_options. */
int daemon__put(void *self, const char *name, const void *json, size_t len, struct ops_put *how, struct ops_problems *problems);
bool daemon__puts_view(void *self, struct buffer *out);
/* Of the process before: as it is. */
int daemon__put_stored(struct daemon *d, const char *name, const void *json, size_t len, struct ops_problems *problems);
/* Its credentials' files are read again: what changed is swapped in. */
void daemon__put_reread(struct daemon *d, struct added *a);
/* The one that waits for its proof is not wanted any more; `what` is its answer. */
void daemon__put_call_off(struct daemon *d, const char *name, int status, const char *what, const char *expected);
/* Links are closed for an end or an upgrade: all that wait are answered. */
void daemon__puts_pause(struct daemon *d);
/* The loop must run until it is empty. */
void daemon__puts_deinit(struct daemon *d);
/* What is wrong, in the API's words. */
void daemon__put_problems(struct ops_problems *out, const struct problems *problems, const char *name);

#endif
