/* modules: sim store engine base */
/* The store core on the simulated disk, without a world: one workload of batches, a cut at any of its calls,
 * and what a new core finds then, compared with the model. Also the disk alone. */
#include <lauxlib.h>
#include <lua.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "sim/disk.h"
#include "sim/model.h"

#define WALL_MS 1795341600000ull

int luaopen_unit_store_power(lua_State *L);

struct run {
    uint64_t seed;
    struct disk *disk;
    struct store_vfs *vfs;
    struct model *written;
    char name[48];
    char why[700];
    double sync_failing, write_failing; /* probabilities */
    uint64_t draws;
    bool failing, lies;
};

static double number_of(lua_State *L, int index, const char *key, double otherwise)
{
    lua_getfield(L, index, key);
    double n = luaL_optnumber(L, -1, otherwise);
    lua_pop(L, 1);
    return n;
}

static enum store_disk_result fails(void *self, enum disk_call call, const char *name)
{
    struct run *r = self;
    (void)name;
    if (!r->failing) return STORE_DISK_OK;
    double p = call == DISK_SYNC ? r->sync_failing : call == DISK_READ ? 0 : r->write_failing;
    return p > 0 && rng_unit(rng_draw(r->seed, 0xfa, r->draws++, 0)) < p ? STORE_DISK_FAILED
                                                                         : STORE_DISK_OK;
}

static void run_begin(struct run *r)
{
    struct disk_options options = { .seed = r->seed, .fails = fails, .self = r, .lies = r->lies };
    r->disk = disk_create(&options);
    struct store_disk table = disk_table(r->disk);
    snprintf(r->name, sizeof r->name, "power-%p", (void *)r);
    r->vfs = store_vfs_register(r->name, &table, r->seed);
    r->written = model_create();
}

static void run_end(struct run *r)
{
    model_destroy(r->written);
    store_vfs_unregister(r->vfs);
    disk_destroy(r->disk);
}

static struct store_core *open_core(struct run *r)
{
    enum store_open result;
    struct store_core_options options = { .path = "/store.db", .vfs = r->name, .boot_id = "boot",
                                          .wall_ms = WALL_MS, .boot_ms = 1000, .seed = 7 };
    store_vfs_reseed(r->vfs);
    disk_set_wall_ms(r->disk, WALL_MS);
    return store_core_open(&options, &result, r->why, sizeof r->why);
}

/* ---- the workload --------------------------------------------------------------------------------------------- */

static void add(struct buffer *b, struct store_request r)
{
    if (!store_batch_add(b, &r)) abort();
}

/* Every operation, on two connections; `n`: which batch. */
static void make_batch(struct run *r, uint64_t n, size_t line_bytes, struct buffer *b)
{
    static const char *const names[] = { "a", "b" };
    char json[64];
    char *line = malloc(line_bytes + 64);
    buffer_clear(b);
    for (int i = 0; i < 2; i++) {
        uint64_t first = n * 3;
        for (uint64_t j = 1; j <= 3; j++) {
            int len = snprintf(line, 64, "{\"event\":{\"connection\":\"%s\",\"offset\":%llu,\"x\":\"",
                               names[i], (unsigned long long)(first + j));
            size_t more = (size_t)(rng_draw(r->seed, n, j, (uint64_t)i) % line_bytes);
            memset(line + len, 'a' + (int)(n % 26), more);
            line[len + (int)more] = '\n';
            add(b, (struct store_request){ .op = STORE_OP_EVENT, .connection = names[i], .epoch = 5,
                                           .offset = first + j, .wall_ms = WALL_MS + n, .bytes = line,
                                           .len = (size_t)len + more + 1 });
        }
        add(b, (struct store_request){ .op = STORE_OP_EVENT, .connection = names[i], .epoch = 5,
                                       .kind = STORE_EVENT_GAP, .offset = first + 3,
                                       .wall_ms = WALL_MS + n, .bytes = "gap\n", .len = 4 });
        snprintf(json, sizeof json, "{\"seq\":%llu}", (unsigned long long)n);
        add(b, (struct store_request){ .op = n % 5 == 4 ? STORE_OP_KEEP : STORE_OP_SESSION,
                                       .connection = names[i], .account = n, .wall_ms = WALL_MS + n,
                                       .bytes = n % 7 == 6 ? NULL : json, .len = strlen(json) });
        add(b, (struct store_request){ .op = STORE_OP_PERMIT, .connection = names[i],
                                       .account = 0x8000000000000000ull + n % 2, .lane = (int64_t)n - 3,
                                       .wall_ms = WALL_MS + n, .boot_ms = 1000 + n, .ticket = n + 1 });
        if (n % 3 == 2) {
            add(b, (struct store_request){ .op = STORE_OP_PERMIT_RETURN, .connection = names[i],
                                           .account = 0x8000000000000000ull + (n - 1) % 2,
                                           .wall_ms = WALL_MS + n - 1, .boot_ms = 1000 + n - 1 });
        }
        add(b, (struct store_request){ .op = STORE_OP_SEEN, .connection = names[i], .key_high = n,
                                       .key_low = ~n, .offset = first, .wall_ms = WALL_MS + n,
                                       .until_wall_ms = WALL_MS * 2 });
        add(b, (struct store_request){ .op = STORE_OP_CURSOR, .consumer = "bot", .connection = names[i],
                                       .epoch = 5, .offset = first, .wall_ms = WALL_MS + n });
        if (n >= 2) {
            add(b, (struct store_request){ .op = STORE_OP_TRIM, .connection = names[i], .epoch = 5,
                                           .offset = first - 4 });
        }
        add(b, (struct store_request){ .op = STORE_OP_JOURNAL, .connection = names[i],
                                       .wall_ms = WALL_MS + n, .bytes = json, .len = strlen(json) });
    }
    add(b, (struct store_request){ .op = STORE_OP_CONSUMER, .consumer = "bot", .bytes = "[\"*\"]",
                                   .len = 5, .wall_ms = WALL_MS + n });
    add(b, (struct store_request){ .op = n % 4 == 3 ? STORE_OP_CONSUMER_GONE : STORE_OP_CONSUMER,
                                   .consumer = "other", .bytes = "[]", .len = 2,
                                   .wall_ms = WALL_MS + n });
    add(b, (struct store_request){ .op = STORE_OP_WISH, .connection = "a", .count = n % 2 });
    add(b, (struct store_request){ .op = STORE_OP_CONNECTION, .connection = "c", .bytes = json,
                                   .len = strlen(json) });
    add(b, (struct store_request){ .op = STORE_OP_TOLD, .account = 9, .count = (int64_t)n, .lanes = 2,
                                   .wall_ms = WALL_MS + n, .until_wall_ms = WALL_MS + 1000 + n });
    if (n % 6 == 5) add(b, (struct store_request){ .op = STORE_OP_CONNECTION_GONE, .connection = "b" });
    add(b, (struct store_request){ .op = STORE_OP_FRAMES, .connection = "a", .ticket = 99 });
    free(line);
}

/* What is there must be what was applied, or that and `also`. False: r->why. */
static bool check(struct run *r, struct store_core *c, const struct buffer *also, bool *also_there)
{
    char why[300] = "", more[300] = "";
    struct model *found = model_create(), *next = NULL;
    struct store_visitor v = model_visitor(found);
    *also_there = false;
    bool ok = store_core_visit(c, &v, r->why, sizeof r->why);
    if (ok) {
        ok = model_equal(found, r->written, NULL, WALL_MS, why, sizeof why);
        if (!ok && also) {
            next = model_copy(r->written);
            model_apply_batch(next, also);
            ok = *also_there = model_equal(found, next, NULL, WALL_MS, more, sizeof more);
        }
        if (!ok) snprintf(r->why, sizeof r->why, "%s; or %s", why, more);
    }
    model_destroy(next);
    model_destroy(found);
    return ok;
}

static void kill_core(struct run *r, struct store_core *c, bool power)
{
    disk_die(r->disk);
    if (c) store_core_close(c, false);
    disk_revive(r->disk, power);
}

/* run{ seed=, batches=, line=, cut= (changes; -1: none), power=, again= (cut of the next open; -1: none),
 * sync_failing=, write_failing=, lies= }: true, changes of it all, batches applied, whether the one that was cut is
 * there; or false and why. */
static int l_run(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    struct run r = { .seed = (uint64_t)number_of(L, 1, "seed", 1) };
    double cut = number_of(L, 1, "cut", -1), again = number_of(L, 1, "again", -1);
    uint64_t batches = (uint64_t)number_of(L, 1, "batches", 8);
    size_t line_bytes = (size_t)number_of(L, 1, "line", 2000);
    r.sync_failing = number_of(L, 1, "sync_failing", 0);
    r.write_failing = number_of(L, 1, "write_failing", 0);
    lua_getfield(L, 1, "lies");
    r.lies = lua_toboolean(L, -1);
    lua_getfield(L, 1, "power");
    bool power = lua_toboolean(L, -1), ok = true, also_there = false;
    struct buffer batch;
    uint64_t applied = 0;
    buffer_init(&batch, 0);
    run_begin(&r);
    if (cut >= 0) disk_die_after(r.disk, (uint64_t)cut);
    r.failing = true;
    struct store_core *c = open_core(&r);
    bool also = false;
    while (c && applied < batches && !also) {
        make_batch(&r, applied, line_bytes, &batch);
        enum store_applied result = store_core_apply(c, &batch, r.why, sizeof r.why);
        for (int i = 0; i < 50 && result != STORE_APPLIED && !disk_is_dead(r.disk); i++) {
            result = store_core_apply(c, &batch, r.why, sizeof r.why); /* until the disk is well */
        }
        also = result != STORE_APPLIED;
        if (also) break;
        applied++;
        model_apply_batch(r.written, &batch);
        if (applied % 3 == 0) store_core_tidy(c, WALL_MS, r.why, sizeof r.why);
    }
    uint64_t changes = disk_changes(r.disk);
    if (cut < 0 && again < 0 && c && !also) {
        /* To the end: a clean close, and a clean start. */
        bool closed = store_core_close(c, true);
        c = NULL;
        disk_revive(r.disk, true);
        if (!closed && !r.sync_failing && !r.write_failing) {
            ok = false;
            snprintf(r.why, sizeof r.why, "it did not close clean");
        }
        changes = disk_changes(r.disk);
    } else {
        kill_core(&r, c, power);
    }
    for (int i = 0; again >= 0 && i < 3 && (r.sync_failing > 0 || r.write_failing > 0); i++) {
        kill_core(&r, open_core(&r), false); /* starts on a disk that is not well yet */
    }
    r.failing = false;
    if (again >= 0) {
        disk_die_after(r.disk, (uint64_t)again);
        c = open_core(&r);
        kill_core(&r, c, power);
    }
    c = ok ? open_core(&r) : NULL;
    if (!c) ok = false;
    if (c) {
        ok = check(&r, c, also ? &batch : NULL, &also_there);
        /* And it goes on from there. */
        if (ok) {
            if (also_there) model_apply_batch(r.written, &batch);
            make_batch(&r, batches + 1, line_bytes, &batch);
            ok = store_core_apply(c, &batch, r.why, sizeof r.why) == STORE_APPLIED;
            model_apply_batch(r.written, &batch);
            bool ignored;
            ok = ok && check(&r, c, NULL, &ignored);
            /* What it promised then does not rest on what an earlier one could not sync. */
            kill_core(&r, c, true);
            c = ok ? open_core(&r) : NULL;
            if (ok) ok = c && check(&r, c, NULL, &ignored);
        }
        if (c) store_core_close(c, true);
    }
    buffer_deinit(&batch);
    run_end(&r);
    lua_pushboolean(L, ok);
    if (!ok) {
        lua_pushstring(L, r.why);
        return 2;
    }
    lua_pushnumber(L, (double)changes);
    lua_pushnumber(L, (double)applied);
    lua_pushboolean(L, also_there);
    return 4;
}

/* bytes(seed): a hash of all files after the whole workload. */
static int l_bytes(lua_State *L)
{
    struct run r = { .seed = (uint64_t)luaL_checknumber(L, 1) };
    struct buffer batch;
    char hash[20];
    buffer_init(&batch, 0);
    run_begin(&r);
    struct store_core *c = open_core(&r);
    for (uint64_t n = 0; c && n < 6; n++) {
        make_batch(&r, n, 3000, &batch);
        store_core_apply(c, &batch, r.why, sizeof r.why);
        if (n == 3) store_core_tidy(c, WALL_MS, r.why, sizeof r.why);
    }
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)disk_hash(r.disk));
    kill_core(&r, c, false);
    buffer_deinit(&batch);
    run_end(&r);
    lua_pushstring(L, hash);
    return 1;
}

/* ---- the disk alone ------------------------------------------------------------------------------------------- */

/* cut(seed, synced, overwrite, at, sync): writes `synced`, syncs it, writes `overwrite` at `at`, cuts; what
 * the file holds then. */
static int l_cut(lua_State *L)
{
    size_t first_len, second_len, got = 0;
    uint64_t seed = (uint64_t)luaL_checknumber(L, 1), at = (uint64_t)luaL_checknumber(L, 4);
    const char *first = luaL_checklstring(L, 2, &first_len), *second = luaL_checklstring(L, 3, &second_len);
    struct disk_options options = { .seed = seed };
    struct disk *d = disk_create(&options);
    struct store_disk t = disk_table(d);
    uint32_t file = 0;
    t.open(t.self, "/f", true, true, &file);
    t.write(t.self, file, 0, first, first_len);
    t.sync(t.self, file);
    if (lua_toboolean(L, 6)) t.sync_folder(t.self);
    t.write(t.self, file, at, second, second_len);
    if (lua_toboolean(L, 5)) t.sync(t.self, file);
    t.close(t.self, file);
    disk_revive(d, true);
    char out[65536];
    if (t.open(t.self, "/f", true, false, &file) != STORE_DISK_OK) {
        lua_pushnil(L);
    } else {
        t.read(t.self, file, 0, out, sizeof out, &got);
        t.close(t.self, file);
        lua_pushlstring(L, out, got);
    }
    disk_destroy(d);
    return 1;
}

int luaopen_unit_store_power(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "run", l_run }, { "bytes", l_bytes }, { "cut", l_cut }, { NULL, NULL }
    };
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    return 1;
}
