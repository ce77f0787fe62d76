/* The simulator for Lua tests: a world, and one runtime in it that may crash and come back. Time moves
 * only here, by `run`. The friendly face is lua/holdfast/sim.lua; nothing here calls into Lua. */
#include "sim/module.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/rng.h"
#include "base/text.h"
#include "sim/module_internal.h"

static const char *const plants[] = { "none", "I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8",
                                      "store", NULL };
#define PLANT_STORE 9 /* ours; the others are enum engine_plant */

static void halt(struct sim *s, enum world_gone how);

struct sim *sim__check(lua_State *L, int index)
{
    struct sim **box = luaL_checkudata(L, index, SIM_MT);
    luaL_argcheck(L, *box != NULL, index, "this simulator is closed");
    return *box;
}

struct sim_conn *sim__conn(struct sim *s, struct handle h)
{
    uint64_t at = idmap_find(&s->by_handle, handle_pack(h));
    return at ? s->conns[at - 1] : NULL;
}

struct sim_conn *sim__check_conn(struct sim *s, lua_State *L, int index)
{
    const char *name = luaL_checkstring(L, index);
    for (uint32_t i = 0; i < s->conn_count; i++) {
        if (!s->conns[i]->removed && strcmp(s->conns[i]->name, name) == 0) return s->conns[i];
    }
    luaL_error(L, "there is no connection \"%s\"", name);
    return NULL;
}

void *sim__grow(void *items, uint32_t count, uint32_t *capacity, size_t size)
{
    if (count < *capacity) return items;
    *capacity = *capacity ? *capacity * 2 : 16;
    items = realloc(items, *capacity * size);
    ASSERT(items != NULL);
    return items;
}

char *sim__copy(const char *text, size_t len)
{
    char *copy = malloc(len + 1);
    ASSERT(copy != NULL);
    if (len) memcpy(copy, text, len);
    copy[len] = 0;
    return copy;
}

/* ---- the machine ------------------------------------------------------------------------------------- */

static void on_tick(void *self)
{
    struct sim *s = self;
    runtime_tick(s->runtime);
}

static uint64_t on_deadline(void *self)
{
    struct sim *s = self;
    return runtime_deadline_ms(s->runtime);
}

static void on_stored(void *self, uint64_t ticket, bool ok)
{
    struct sim *s = self;
    runtime_stored(s->runtime, ticket, ok);
}

static void on_check(void *self, uint64_t a, uint64_t b)
{
    struct sim *s = self;
    checkers_due(s->checkers, a, b);
}

static void on_safe(void *self, const char *connection, uint64_t epoch, uint64_t offset)
{
    struct sim *s = self;
    checkers_safe(s->checkers, connection, epoch ? epoch : world_store_epoch(s->world), offset);
}

/* False with a sentence: the store does not open, or cannot be read. */
static bool boot(struct sim *s, char *why, size_t why_bytes)
{
    enum store_open result;
    if (!world_store_open(s->world, &result, why, why_bytes)) return false;
    struct store store = world_store(s->world);
    struct deliver_options delivery = { .epoch = world_store_epoch(s->world),
                                        .wall_ms = world_clock(s->world).wall_ms,
                                        .consumer_bytes_max = s->consumer_bytes,
                                        .store = store.ops->kind(store.self) };
    s->deliver = deliver_create(&delivery);
    ASSERT(s->deliver != NULL);
    struct runtime_options options = { .seed = s->seed,
                                       .host = world_host(s->world),
                                       .store = store,
                                       .dedupe_seed = world_store_seed(s->world),
                                       .deliver = s->deliver,
                                       .trace_bytes_max = s->trace_bytes,
                                       .observer = sim__observer(s) };
    s->runtime = runtime_create(&options);
    ASSERT(s->runtime != NULL);
    checkers_engine(s->checkers, runtime_engine(s->runtime));
    struct machine m = { .self = s,
                         .sink = &runtime_host_sink,
                         .rt = s->runtime,
                         .tick = on_tick,
                         .deadline_ms = on_deadline,
                         .stored = on_stored,
                         .safe = on_safe,
                         .owner = sim__owner,
                         .check = on_check,
                         .called = sim__called };
    world_boot(s->world, &m);
#ifdef HOLDFAST_TEST
    if (s->plant && s->plant != PLANT_STORE) runtime_plant(s->runtime, (enum engine_plant)s->plant);
#endif
    checkers_restarted(s->checkers, world_store_epoch(s->world), world_store_lost(s->world));
    struct store_visitor left = runtime_restore(s->runtime);
    if (world_store_visit(s->world, &left, why, why_bytes)) {
        runtime_restored(s->runtime, world_store_was_clean(s->world));
        return true;
    }
    halt(s, GONE_CRASH);
    return false;
}

static void halt(struct sim *s, enum world_gone how)
{
    if (!s->runtime) return; /* it did not start */
    world_unplug(s->world, how);
    checkers_engine(s->checkers, NULL);
    for (uint32_t i = 0; i < s->conn_count; i++) {
        s->conns[i]->handle = HANDLE_NONE;
        s->conns[i]->ack_count = 0;
    }
    idmap_deinit(&s->by_handle);
    runtime_destroy(s->runtime);
    s->runtime = NULL;
    sim__consumers_gone(s);
    deliver_destroy(s->deliver);
    s->deliver = NULL;
}

static void sim_free(struct sim *s)
{
    halt(s, GONE_POWER);
    sim__consumers_free(s);
    sim__peers_free(s); /* they may stop their timers: the world is still there */
    world_destroy(s->world);
    checkers_destroy(s->checkers);
    for (uint32_t i = 0; i < s->conn_count; i++) sim__conn_free(s, s->conns[i]);
    free(s->conns);
    sim__policies_free(s);
    for (uint32_t i = 0; i < s->call_count; i++) free(s->calls[i].target);
    free(s->calls);
    idmap_deinit(&s->by_handle);
    free(s->lua_path);
    free(s->policies_path);
    free(s->scratch_path);
    free(s);
}

/* ---- Lua ------------------------------------------------------------------------------------------------ */

/* core.new{ seed=, wall_ms=, latency_ms=, trace=, plant=, lua=, policies=, scratch=, memory=, consumer_bytes=,
 * trace_bytes= } */
static int l_new(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    const char *plant = sim__field_text(L, 1, "plant", "none");
    int planted = -1;
    for (int i = 0; plants[i]; i++) {
        if (strcmp(plants[i], plant) == 0) planted = i;
    }
    if (planted < 0) return luaL_error(L, "no bug \"%s\" can be planted: I1 to I8, store", plant);
#ifndef HOLDFAST_TEST
    if (planted > 0) return luaL_error(L, "bugs can only be planted in test builds");
#endif
    struct world_options options = {
        .seed = (uint64_t)sim__field_number(L, 1, "seed", 1),
        .wall_ms = (uint64_t)sim__field_number(L, 1, "wall_ms", 1795341600000.0),
        .latency_ms = (uint64_t)sim__field_number(L, 1, "latency_ms", 20),
    };
    lua_getfield(L, 1, "reach");
    struct policy_reach *reach = lua_isnil(L, -1) ? NULL : luaL_checkudata(L, -1, SIM_REACH_MT);
    lua_pop(L, 1); /* the table keeps it, and the test the table */
    lua_getfield(L, 1, "trace");
    options.trace_whole = lua_toboolean(L, -1);
    lua_pop(L, 1);
    const char *lua = sim__field_text(L, 1, "lua", "lua");
    const char *policies = sim__field_text(L, 1, "policies", "policies");
    const char *scratch = sim__field_text(L, 1, "scratch", "build");
    lua_getfield(L, 1, "memory");
    options.memory_store = lua_toboolean(L, -1);
    lua_pop(L, 1);

    struct sim **box = lua_newuserdata(L, sizeof *box);
    *box = NULL;
    luaL_getmetatable(L, SIM_MT);
    lua_setmetatable(L, -2);
    struct sim *s = calloc(1, sizeof *s);
    ASSERT(s != NULL);
    *box = s;
    s->seed = options.seed;
    s->reach = reach;
    s->policy_instructions = (uint64_t)sim__field_number(L, 1, "policy_instructions", 0);
    s->consumer_bytes = (uint64_t)sim__field_number(L, 1, "consumer_bytes", 0);
    s->trace_bytes = (size_t)sim__field_number(L, 1, "trace_bytes", 0);
    s->plant = planted;
    s->lua_path = sim__copy(lua, strlen(lua));
    s->policies_path = sim__copy(policies, strlen(policies));
    s->scratch_path = sim__copy(scratch, strlen(scratch));
    s->world = world_create(&options);
    s->checkers = checkers_create(s->world);
#ifdef HOLDFAST_TEST
    if (planted == PLANT_STORE) world_plant_early_answer(s->world);
#endif
    char why[400];
    if (!boot(s, why, sizeof why)) return luaL_error(L, "%s", why);
    return 1;
}

static int l_gc(lua_State *L)
{
    struct sim **box = luaL_checkudata(L, 1, SIM_MT);
    if (*box) sim_free(*box);
    *box = NULL;
    return 0;
}

/* s:run(until_ms, one): why it stopped, and the number of the test's timer, or the violation. */
static int l_run(lua_State *L)
{
    static const char *const names[] = { "on", "time", "user", "violation", "stuck" };
    struct sim *s = sim__check(L, 1);
    uint64_t until = (uint64_t)luaL_checknumber(L, 2), user = 0;
    bool one = lua_toboolean(L, 3);
    enum world_ran ran = world_run(s->world, until, one, &user);
    const char *violation = checkers_violation(s->checkers);
    if (violation) {
        lua_pushliteral(L, "violation");
        lua_pushstring(L, violation);
        lua_pushstring(L, checkers_violation_of(s->checkers));
        checkers_clear(s->checkers);
        return 3;
    }
    lua_pushstring(L, names[ran]);
    if (ran == RAN_USER) lua_pushnumber(L, (double)user);
    else lua_pushnil(L);
    return 2;
}

static int l_now(lua_State *L)
{
    lua_pushnumber(L, (double)world_now_ms(sim__check(L, 1)->world));
    return 1;
}

static int l_clock(lua_State *L)
{
    struct clock c = world_clock(sim__check(L, 1)->world);
    lua_pushnumber(L, (double)c.mono_ms);
    lua_pushnumber(L, (double)c.boot_ms);
    lua_pushnumber(L, (double)c.wall_ms);
    return 3;
}

static int l_user_at(lua_State *L)
{
    struct sim *s = sim__check(L, 1);
    world_user_at(s->world, (uint64_t)luaL_checknumber(L, 2), (uint64_t)luaL_checknumber(L, 3));
    return 0;
}

/* s:freeze(ms, suspend) */
static int l_freeze(lua_State *L)
{
    struct sim *s = sim__check(L, 1);
    uint64_t ms = (uint64_t)luaL_checknumber(L, 2);
    if (lua_toboolean(L, 3)) world_suspend(s->world, ms);
    else world_stall(s->world, ms);
    return 0;
}

static int l_frozen(lua_State *L)
{
    lua_pushboolean(L, world_is_frozen(sim__check(L, 1)->world));
    return 1;
}

static int l_wall_step(lua_State *L)
{
    world_step_wall(sim__check(L, 1)->world, (int64_t)luaL_checknumber(L, 2));
    return 0;
}

/* s:halt(how): "crash": the process dies; "power": the machine; "end": the process ends in order, after
 * s:shutdown(). True, or false when an end could not write all. */
static int l_halt(lua_State *L)
{
    static const char *const ways[] = { "crash", "power", "end", NULL };
    struct sim *s = sim__check(L, 1);
    int how = luaL_checkoption(L, 2, "crash", ways);
    bool clean = true;
    if (!s->runtime) return luaL_error(L, "nothing runs");
    if (how == 2) {
        for (uint32_t i = 0; i < s->consumer_count; i++) {
            struct sim_consumer *c = s->consumers[i];
            if (c->attached) deliver_detach(s->deliver, c->handle);
            c->attached = false;
        }
        deliver_pump(s->deliver);
        deliver_set_keeper(s->deliver, NULL);
        clean = world_store_close(s->world);
    }
    halt(s, how == 1 ? GONE_POWER : how == 2 ? GONE_END : GONE_CRASH);
    lua_pushboolean(L, clean);
    return 1;
}

/* s:boot(): a new process, with what the disk holds. True, or nil and why it cannot start. */
static int l_boot(lua_State *L)
{
    struct sim *s = sim__check(L, 1);
    if (s->runtime) return luaL_error(L, "it runs already");
    char why[400];
    if (!boot(s, why, sizeof why)) {
        lua_pushnil(L);
        lua_pushstring(L, why);
        return 2;
    }
    for (uint32_t i = 0; i < s->conn_count; i++) {
        if (s->conns[i]->removed) continue;
        if (!sim__conn_add(s, s->conns[i], why, sizeof why)) return luaL_error(L, "%s", why);
    }
    lua_pushboolean(L, true);
    return 1;
}

/* s:boot_cut(power): a new process dies while it opens the store. */
static int l_boot_cut(lua_State *L)
{
    struct sim *s = sim__check(L, 1);
    if (s->runtime) return luaL_error(L, "it runs already");
    world_store_open_cut(s->world, lua_toboolean(L, 2));
    return 0;
}

static int l_is_up(lua_State *L)
{
    lua_pushboolean(L, sim__check(L, 1)->runtime != NULL);
    return 1;
}

static int l_shutdown(lua_State *L)
{
    struct sim *s = sim__check(L, 1);
    if (s->runtime) runtime_shutdown(s->runtime);
    return 0;
}

static int l_is_down(lua_State *L)
{
    struct sim *s = sim__check(L, 1);
    lua_pushboolean(L, !s->runtime || runtime_is_down(s->runtime));
    return 1;
}

static const luaL_Reg methods[] = {
    { "run", l_run }, { "now", l_now }, { "clock", l_clock }, { "user_at", l_user_at },
    { "freeze", l_freeze }, { "frozen", l_frozen }, { "wall_step", l_wall_step },
    { "halt", l_halt }, { "boot", l_boot }, { "boot_cut", l_boot_cut }, { "is_up", l_is_up }, { "shutdown", l_shutdown },
    { "is_down", l_is_down }, { "destroy", l_gc }, { NULL, NULL }
};

int luaopen_holdfast_sim_core(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "new", l_new }, { NULL, NULL }
    };
    sim__secret_open(L);
    sim__prove_open(L);
    luaL_newmetatable(L, SIM_MT);
    lua_pushcfunction(L, l_gc);
    lua_setfield(L, -2, "__gc");
    lua_newtable(L);
    luaL_register(L, NULL, methods);
    luaL_register(L, NULL, sim__conn_methods);
    luaL_register(L, NULL, sim__fault_methods);
    luaL_register(L, NULL, sim__trial_methods);
    luaL_register(L, NULL, sim__view_methods);
    luaL_register(L, NULL, sim__peer_methods);
    luaL_register(L, NULL, sim__consumer_methods);
    luaL_register(L, NULL, sim__prove_methods);
    luaL_register(L, NULL, sim__trace_methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    luaL_register(L, NULL, sim__value_functions);
    luaL_register(L, NULL, sim__fault_functions);
    luaL_register(L, NULL, sim__prove_functions);
    luaL_register(L, NULL, sim__trace_functions);
    return 1;
}
