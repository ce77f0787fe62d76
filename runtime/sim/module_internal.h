/* What the files of the Lua module share: a world with a runtime in it, and what tests may look at. */
#ifndef HOLDFAST_SIM_MODULE_INTERNAL_H
#define HOLDFAST_SIM_MODULE_INTERNAL_H

#include <lauxlib.h>
#include <lua.h>

#include "frame/path.h"
#include "peer/peer.h"
#include "runtime.h"
#include "sim/checkers.h"
#include "sim/idmap.h"
#include "sim/world.h"

#define SIM_MT "holdfast.sim_core"
#define SIM_SECRET_MT "holdfast.sim_core.secret"
#define SIM_REACH_MT "holdfast.sim_core.reach"
#define SIM_WIRE_MAX 4096   /* messages kept per connection, newest */
#define SIM_NOTES_MAX 65536 /* dials, closes, calls kept */

struct sim_policy {
    char *name;             /* owned: "discord", or the text's own name */
    char *path;             /* owned */
    uint32_t number;        /* versions so far */
    struct policy_version *version; /* one reference */
};

struct sim_ack {
    uint64_t hash, offset;
};

struct sim_message {
    uint64_t at_ms;
    uint32_t generation;
    bool inbound, text;
    char *data;             /* owned */
    size_t len;
};

struct sim_dial {
    uint64_t at_ms;
    char host[128];
    uint32_t generation;
};

struct sim_close {
    uint64_t at_ms;
    uint32_t generation;
    int code;               /* -1: aborted */
};

/* A connection that the test configured. Lives over crashes. */
struct sim_conn {
    char name[64];
    struct handle handle;   /* HANDLE_NONE while there is none */
    uint32_t policy;        /* index */
    struct value settings;
    struct value own;       /* ca_file, plain, stopped */
    bool removed;
    struct policy_build *build; /* owned: a copy of our own, for its rules */
    struct frame_path path; /* over build->rules, for looking at messages */
    bool path_on;
    struct sim_ack *acks;   /* owned; not yet seen on the wire */
    uint32_t ack_count, ack_capacity;
    struct sim_message *wire; /* owned ring */
    uint32_t wire_count, wire_next, wire_capacity;
    struct sim_dial *dials; /* owned */
    uint32_t dial_count, dial_capacity;
    struct sim_close *closes; /* owned */
    uint32_t close_count, close_capacity;
};

struct sim_call_note {
    uint64_t at_ms;
    char method[8];
    char host[128];
    char *target;           /* owned */
    int status;
    char cause[CAUSE_NAME_MAX];
};

struct sim_peer {
    struct peer *peer;      /* owned, or NULL: mute */
    uint32_t server;
};

struct sim_consumer {
    struct sim *sim;
    struct handle handle;
    uint64_t number, attachment;
    struct buffer lines;    /* owned: not yet taken */
    bool paused, attached;
    char gone[64];          /* why deliver let go of it */
};

struct sim_pending_dial {
    struct handle conn;
    uint32_t generation;
};

struct sim {
    struct world *world;
    struct checkers *checkers;
    struct runtime *runtime; /* owned; NULL after a crash */
    struct deliver *deliver; /* owned; likewise */
    uint64_t seed;
    uint64_t policy_instructions; /* per call; 0: the default */
    uint64_t consumer_bytes;      /* that wait before it is let go; 0: the default */
    size_t trace_bytes;           /* kept of what connections recorded; 0: the default */
    int plant; /* enum engine_plant or PLANT_STORE, which test builds alone have */
    bool whole_trace;
    struct policy_reach *reach; /* borrowed from Lua, or NULL: lines of policies that ran */
    char *lua_path, *policies_path, *scratch_path; /* owned */
    struct sim_policy *policies; /* owned */
    uint32_t policy_count;
    struct sim_conn **conns; /* owned */
    uint32_t conn_count;
    struct idmap by_handle;  /* to index + 1 */
    struct sim_peer *peers;  /* owned */
    uint32_t peer_count;
    struct sim_consumer **consumers; /* owned */
    uint32_t consumer_count;
    struct sim_call_note *calls; /* owned */
    uint32_t call_count, call_capacity;
    struct sim_pending_dial dials[EFFECTS_MAX];
    uint32_t pending_count, pending_next;
    uint64_t links_opened;
    struct {
        char why[TRIAL_WHY_MAX];
        enum trial_end end;
        enum trial_outcome outcome;
        bool on, asked;
    } trial_over;            /* how the last trial ended */
};

/* module.c */
struct sim *sim__check(lua_State *L, int index);
struct sim_conn *sim__conn(struct sim *s, struct handle h);
/* Raises when there is none of the name. */
struct sim_conn *sim__check_conn(struct sim *s, lua_State *L, int index);
void *sim__grow(void *items, uint32_t count, uint32_t *capacity, size_t size);
char *sim__copy(const char *text, size_t len);

/* module_conn.c */
void sim__conn_free(struct sim *s, struct sim_conn *c);
/* Into a new runtime, with what the disk holds. False with a sentence. */
bool sim__conn_add(struct sim *s, struct sim_conn *c, char *why, size_t why_bytes);
/* Index of the policy, loaded as the version after `number`; -1 with a sentence. */
int sim__policy_get(struct sim *s, const char *which, uint32_t number, char *why, size_t why_bytes);
/* By the policy that the connection has now. Owned, or NULL with a sentence. */
struct policy_build *sim__build(struct sim *s, struct sim_conn *c, char *why, size_t why_bytes);
extern const luaL_Reg sim__conn_methods[];
void sim__policies_free(struct sim *s);

/* module_fault.c */
/* A field of the table at `index`, or `otherwise`; raises for another type. The table keeps the text. */
const char *sim__field_text(lua_State *L, int index, const char *key, const char *otherwise);
double sim__field_number(lua_State *L, int index, const char *key, double otherwise);
extern const luaL_Reg sim__fault_methods[];
extern const luaL_Reg sim__fault_functions[];

/* module_trial.c */
extern const luaL_Reg sim__trial_methods[];

/* module_view.c */
extern const luaL_Reg sim__view_methods[];

/* module_prove.c */
extern const luaL_Reg sim__prove_methods[];
extern const luaL_Reg sim__prove_functions[];
void sim__prove_open(lua_State *L);

/* module_watch.c: what the runtime shows its observer */
struct runtime_observer sim__observer(struct sim *s);
void sim__owner(void *self, uint64_t link, const struct link_target *target,
                struct link_owner *out);
void sim__called(void *self, const char *method, const char *host, const char *target, int status,
                 const struct cause *cause);
/* A build of our own for the rules. */
void sim__watch_build(struct sim_conn *c, struct policy_build *build);

/* module_peer.c */
extern const luaL_Reg sim__peer_methods[];
void sim__peers_free(struct sim *s);

/* module_consumer.c */
extern const luaL_Reg sim__consumer_methods[];
void sim__consumers_free(struct sim *s);
void sim__consumers_gone(struct sim *s);

/* module_trace.c */
extern const luaL_Reg sim__trace_methods[];
extern const luaL_Reg sim__trace_functions[];

/* module_value.c */
/* Raises for what has no value (functions, cycles by depth). Owned by the caller. */
struct value sim__to_value(lua_State *L, int index);
void sim__push_value(lua_State *L, const struct value *v);
/* False when it is no JSON. */
bool sim__json_to_value(const char *text, size_t len, struct value *out);
extern const luaL_Reg sim__value_functions[];
void sim__secret_open(lua_State *L);

#endif
