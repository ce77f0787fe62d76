/* What the files of the sandbox share: its struct, and helpers that nobody outside policy/ and
 * bind/ calls. Functions marked "may raise" long-jump: callers hold no memory then. All others
 * never do.
 *
 * Frozen tables. LuaJIT has no read-only tables and no __len for tables, so freezing works in
 * place: every key but the items 1..n moves into a hidden table behind __index, and __newindex
 * raises. Lists keep their items where `#` and ipairs find them. The hidden table stands in the
 * metatable under a light userdata key. */
#ifndef HOLDFAST_POLICY_SANDBOX_INTERNAL_H
#define HOLDFAST_POLICY_SANDBOX_INTERNAL_H

#include <lua.h>

#include "base/buffer.h"
#include "base/rng.h"
#include "base/spare.h"
#include "policy/context.h"
#include "policy/sandbox.h"

#define SANDBOX_INSTRUCTIONS_DEFAULT 1500000u
#define SANDBOX_MEMORY_DEFAULT       ((size_t)16 << 20)
#define SANDBOX_FILE_BYTES_MAX       ((size_t)1 << 20)
#define SANDBOX_HOOK_EVERY           250 /* instructions between two looks at the budget */
#define SANDBOX_HOOK_EVERY_BIG       50  /* while a block of BIG bytes is held: one may take long */
#define SANDBOX_BIG_BYTES            ((size_t)32 << 10)
/* Bulk work that the count misses (comparing megabytes, say) ends here. A backstop, many times what
 * the budget takes when it is counted right: what a policy decides never depends on it unless it
 * would have hung the loop. */
#define SANDBOX_CPU_NS_BASE     50000000ull
#define SANDBOX_CPU_NS_PER_UNIT 40
/* A hook that is handed a frame or an HTTP body may read all of it. */
#define SANDBOX_UNITS_PER_BYTE   6
#define SANDBOX_FED_BYTES_MAX    ((size_t)4 << 20)
#define SANDBOX_DEPTH_MAX        64
#define SANDBOX_SECRET_BYTES_MAX ((size_t)64 << 10) /* of one made by joining */

/* The budget's units. One is an instruction of the interpreter, 3 to 8 ns; what C does costs as
 * many as take the same time, so that no way to spend a budget holds the loop much longer than
 * another. */
#define COST_CALL    8   /* of a function of ours, its arguments looked at */
#define COST_BLOCK   24  /* malloc, its free, and the collector's share */
#define COST_BYTES   16  /* bytes copied, or allocated, for one unit */
#define COST_FAILURE 450 /* an error raised and caught: the C stack is unwound */

enum trip {
    TRIP_NONE,
    TRIP_INSTRUCTIONS,
    TRIP_MEMORY,
    TRIP_ENDED, /* conn:fail or conn:close: unwinds through every pcall, and is no error */
};

struct source {
    struct source *next;
    char *name, *text; /* owned */
    size_t len;
};

struct sandbox {
    lua_State *L;       /* owned */
    lua_State *running; /* borrowed while entered: the thread that was entered */
    char name[64];
    char *lua_path; /* owned; NULL: built-in search */
    char *beside;   /* owned; NULL: none */
    struct policy_limits limits;
    struct spare spare; /* small blocks of Lua's */
    size_t used_bytes;
    size_t big_blocks; /* of SANDBOX_BIG_BYTES or more */
    size_t fed_bytes;  /* handed to the hook that runs: the budget grows with it */
    bool carry;        /* the next lua_enter() belongs to the same call: count on */
    uint64_t budget;   /* units, of this call */
    uint64_t spent;    /* of it */
    int look_every;    /* instructions */
    uint64_t start_ns; /* monotonic time and this thread's CPU time; 0 until the first look */
    uint64_t cpu_start_ns;
    enum trip trip;
    char trip_text[256];  /* of the first trip of this entry */
    char error_text[512]; /* filled by the message handler */
    bool entered;
    bool exempt; /* C code that holds memory pushes existing strings: refuse nothing */
    bool locked;
    struct rng rng;
    uint64_t text_hash;        /* of every file that was read */
    struct source *sources;    /* owned list: those of them that are not lua/'s, in order */
    const struct policy_source *given; /* borrowed while the file is loading, or NULL */
    uint32_t given_count;
    struct buffer scratch;     /* results while they are made; survives a raise */
    struct call_context *call; /* borrowed; the hook that runs now, NULL outside */
    void (*print)(void *self, const char *text);
    void *print_self;
    struct policy_reach *reach; /* borrowed; NULL: nobody asks which lines run */
    const char *reach_path;     /* borrowed: of the file it is about */
    int handler_ref, loaded_ref, policy_ref;
};

/* --- sandbox.c --- */
void sandbox__keep_source(struct sandbox *s, const char *name, const void *text, size_t len);
/* NULL: no such text was given. */
const struct policy_source *sandbox__given(const struct sandbox *s, const char *name);

/* --- enter.c --- */
void sandbox__watch(struct sandbox *s); /* the message handler's reference */
void sandbox__trip(struct sandbox *s, lua_State *L, enum trip why, const char *text);
/* A big block came while Lua runs: looks are closer from here on. */
void sandbox__look_often(struct sandbox *s);
/* Counts `steps`; false once the budget is used up: hand back soon, then raise. */
bool sandbox__charge(struct sandbox *s, lua_State *L, uint64_t steps);
/* Raises the error of the trip. */
int sandbox__raise_trip(lua_State *L);
/* The innermost Lua function's "file:line: ", or "" when there is none. */
size_t sandbox__where(lua_State *L, char *out, size_t out_bytes);

/* --- reach.c --- */
/* A line is about to run. */
void sandbox__reach(struct sandbox *s, lua_State *L, lua_Debug *ar);

/* --- freeze.c --- */
/* In place, with everything below it. Tables that have a metatable stay as they are. May raise. */
void sandbox__freeze(lua_State *L, int index, const char *what);
bool sandbox__is_frozen(lua_State *L, int index);
/* Pushes the hidden table of a frozen one; false (nothing pushed) for other tables. */
bool sandbox__push_hidden(lua_State *L, int index);
/* Replaces the key on top with its value, past any metatable, hidden keys included. */
void sandbox__rawget(lua_State *L, int index);

/* --- keys.c: the defined order of keys --- */
struct key {
    int type; /* LUA_TNUMBER, LUA_TSTRING, LUA_TBOOLEAN */
    double number;
    const char *text; /* borrowed from the table */
    size_t len;
};
/* `*sequence`: exactly the items 1..n. `*odd`: a key that is a table, function or userdata. */
uint32_t sandbox__keys_count(lua_State *L, int index, bool *sequence, bool *odd);
/* `out`: as many as counted. Sorted: numbers ascending, strings in byte order, false, true; in any
 * order once the sorting, which is counted, has used up the budget. */
void sandbox__keys(lua_State *L, int index, struct key *out, uint32_t count);
void sandbox__push_key(lua_State *L, const struct key *k); /* strings: may raise */

/* --- the libraries, each leaving its functions in the table on top of the stack --- */
void sandbox__open_base(lua_State *L); /* takes LuaJIT's tonumber from the top */
void sandbox__open_string(lua_State *L);
void sandbox__open_pattern(lua_State *L);
void sandbox__open_table(lua_State *L);
void sandbox__open_math(lua_State *L);
void sandbox__open_secret(lua_State *L); /* its metatable; pushes nothing */
/* A secret of the bytes in the scratch buffer, which is wiped; shown under the name of `named`. May
 * raise. */
void sandbox__push_derived(lua_State *L, const struct secret *named);
void sandbox__open_json(lua_State *L); /* likewise */
/* Before a result of `len` bytes is begun: counted, and refused when the cap would refuse it. May
 * raise. */
void sandbox__expect_bytes(lua_State *L, size_t len);
void sandbox__push_scratch(lua_State *L);
int sandbox__l_require(lua_State *L);
int sandbox__l_pairs(lua_State *L);
int sandbox__l_freeze_policy(lua_State *L);
int sandbox__l_tostring(lua_State *L);
/* Pushes what tostring() shows, without metamethods. May raise for memory. */
void sandbox__push_shown(lua_State *L, int index);

/* --- tables and text --- */
/* holdfast.array: marks the table at index as a JSON array. */
void sandbox__mark_array(lua_State *L, int index);
bool sandbox__is_array(lua_State *L, int index);
static inline bool sandbox__is_null(lua_State *L, int index)
{
    return lua_type(L, index) == LUA_TLIGHTUSERDATA && lua_touserdata(L, index) == NULL;
}
static inline int sandbox__absolute(lua_State *L, int index)
{
    return index > 0 || index <= LUA_REGISTRYINDEX ? index : lua_gettop(L) + index + 1;
}
#endif
