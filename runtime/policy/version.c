/* One loaded version of a policy file: its state, its tables, its hooks by reference. Immutable
 * once loaded; the state is closed with the last reference. */
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/text.h"
#include "policy/call_internal.h"
#include "policy/lines.h"
#include "policy/sandbox_internal.h"
#include "policy/schema.h"

static bool load_tables(struct policy_version *v, const struct policy_load *load,
                        struct problems *problems);
static bool resolve_hooks(struct policy_version *v);

static const char *const names[HOOK_COUNT] = { "fetch",    "prepare",  "greet",  "on_beat",
                                               "on_frame", "on_ended", "on_ack", "every" };

const char *hook_name(enum hook h)
{
    ASSERT(h < HOOK_COUNT);
    return names[h];
}

struct policy_version *policy_load(const struct policy_load *load, struct problems *problems)
{
    struct policy_version *v = calloc(1, sizeof *v);
    ASSERT(v != NULL);
    v->references = 1;
    v->number = load->version;
    v->name = strdup(load->name);
    v->path = strdup(load->path);
    ASSERT(v->name && v->path);
    for (int h = 0; h < HOOK_COUNT; h++) v->hooks[h].ref = LUA_NOREF;
    if (load_tables(v, load, problems)) return v;
    policy_unref(v);
    return NULL;
}

struct policy_version *policy_ref(struct policy_version *v)
{
    ASSERT(v->references > 0);
    v->references++;
    return v;
}

void policy_unref(struct policy_version *v)
{
    if (!v) return;
    ASSERT(v->references > 0);
    if (--v->references) return;
    ASSERT(v->tasks_alive == 0);
    ASSERT(v->shapes == NULL);
    sandbox_destroy(v->sandbox);
    value_clear(&v->tables);
    free(v->name);
    free(v->path);
    free(v);
}

const char *policy_name(const struct policy_version *v)
{
    return v->name;
}

const char *policy_path(const struct policy_version *v)
{
    return v->path;
}

uint32_t policy_version_number(const struct policy_version *v)
{
    return v->number;
}

uint64_t policy_text_hash(const struct policy_version *v)
{
    return v->sandbox->text_hash;
}

const char *policy_platform(const struct policy_version *v)
{
    const char *platform = value_get_text(&v->tables, "platform");
    return platform ? platform : v->name;
}

bool policy_source(const struct policy_version *v, uint32_t index, struct policy_source *out)
{
    const struct source *s = v->sandbox->sources;
    for (; s && index; index--) s = s->next;
    if (s) *out = (struct policy_source){ .name = s->name, .text = s->text, .len = s->len };
    return s != NULL;
}

const struct value *policy__tables(const struct policy_version *v)
{
    return &v->tables;
}

struct policy_shape **policy__shapes(struct policy_version *v)
{
    return &v->shapes;
}

uint32_t policy_tasks_alive(const struct policy_version *v)
{
    return v->tasks_alive;
}

uint32_t policy_references(const struct policy_version *v)
{
    return v->references;
}

bool policy_has_hook(const struct policy_version *v, enum hook h)
{
    if (h == HOOK_FETCH) return v->fetch_count > 0;
    if (h == HOOK_EVERY) return v->every_count > 0;
    return v->hooks[h].ref != LUA_NOREF;
}

const struct hook_entry *policy__hook(const struct policy_version *v, enum hook h, const char *name)
{
    const struct named_hook *list = h == HOOK_FETCH ? v->fetch : v->every;
    uint32_t count = h == HOOK_FETCH ? v->fetch_count : v->every_count;
    if (h != HOOK_FETCH && h != HOOK_EVERY) {
        return v->hooks[h].ref == LUA_NOREF ? NULL : &v->hooks[h];
    }
    for (uint32_t i = 0; name && i < count; i++) {
        if (strcmp(list[i].name, name) == 0) return &list[i].hook;
    }
    return NULL;
}

/* "policies/x.lua:31: text" into its parts. A path too long for Lua's messages ends in itself. */
static void add_error(struct problems *problems, const char *path, const char *text)
{
    for (const char *colon = strchr(text, ':'); colon; colon = strchr(colon + 1, ':')) {
        char *end;
        unsigned long line = strtoul(colon + 1, &end, 10);
        if (end == colon + 1 || *end != ':' || line == 0) continue;
        char file[256];
        text_copy(file, sizeof file, text, (size_t)(colon - text));
        size_t len = strlen(file), path_len = strlen(path);
        bool cut = strncmp(file, "...", 3) == 0 && path_len >= len - 3 &&
                   strcmp(path + path_len - (len - 3), file + 3) == 0;
        problems_add(problems, false, cut ? path : file, (uint32_t)line, "", "%s",
                     end[1] == ' ' ? end + 2 : end + 1);
        return;
    }
    problems_add(problems, false, path, 0, "", "%s", text);
}

static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash) return strdup(".");
    return slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
}

static bool returned_policy(struct policy_version *v)
{
    lua_State *L = sandbox_lua(v->sandbox);
    if (v->sandbox->policy_ref == LUA_NOREF) return false;
    lua_rawgeti(L, LUA_REGISTRYINDEX, v->sandbox->policy_ref);
    bool same = lua_rawequal(L, -1, -2);
    lua_pop(L, 1);
    return same;
}

static bool load_tables(struct policy_version *v, const struct policy_load *load,
                        struct problems *problems)
{
    char name[96], error[512];
    char *beside = folder_of(load->path);
    struct buffer text;
    bool ok = false;
    buffer_init(&text, 0);
    snprintf(name, sizeof name, "policy %s", load->name);
    struct sandbox_options options = {
        .name = name,
        .lua_path = load->lua_path,
        .beside = beside,
        .limits = load->limits,
        .seed = load->seed,
    };
    const struct policy_source *given = load->given_count ? &load->given[0] : NULL;
    if (given ? !buffer_append(&text, given->text, given->len)
              : !sandbox_read_file(load->path, &text, error, sizeof error)) {
        if (given) snprintf(error, sizeof error, "no memory for its text");
        size_t skip = strlen(load->path);
        bool named = strncmp(error, load->path, skip) == 0 && error[skip] == ':';
        problems_add(problems, false, load->path, 0, "", "%s", named ? error + skip + 2 : error);
        goto done;
    }
    v->sandbox = sandbox_create(&options);
    if (!v->sandbox) {
        problems_add(problems, false, load->path, 0, "", "no memory for a Lua state");
        goto done;
    }
    sandbox_lock(v->sandbox);
    sandbox__keep_source(v->sandbox, "", text.data, text.len);
    v->sandbox->given = given;
    v->sandbox->given_count = load->given_count;
    lua_State *L = sandbox_lua(v->sandbox);
    if (sandbox_run(v->sandbox, (const char *)text.data, text.len, load->path, error,
                    sizeof error) != CALL_OK) {
        add_error(problems, load->path, error);
        goto done;
    }
    /* From here on: that a table was built says nothing about a rule in it. */
    v->sandbox->reach = load->reach;
    v->sandbox->reach_path = v->path;
    if (!lua_istable(L, -1) || !returned_policy(v)) {
        problems_add(problems, false, load->path, 0, "",
                     "the file must end with `return holdfast.policy { ... }`");
    } else if (!sandbox_to_value(L, -1, &v->tables, error, sizeof error)) {
        problems_add(problems, false, load->path, 0, "", "%s", error);
    } else {
        lines_annotate(&v->tables, (const char *)text.data, text.len, "holdfast.policy", 1);
        ok = schema_check(&v->tables, load->path, problems) && resolve_hooks(v);
    }
    lua_settop(L, 0);
done:
    if (v->sandbox) v->sandbox->given = NULL;
    buffer_deinit(&text);
    free(beside);
    return ok;
}

/* Takes the function on top of the stack. */
static struct hook_entry take(lua_State *L)
{
    struct hook_entry h = { LUA_NOREF, 0 };
    if (!lua_isfunction(L, -1)) {
        lua_pop(L, 1);
        return h;
    }
    lua_Debug ar;
    lua_pushvalue(L, -1);
    lua_getinfo(L, ">S", &ar);
    h.line = ar.linedefined > 0 ? (uint32_t)ar.linedefined : 0;
    h.ref = luaL_ref(L, LUA_REGISTRYINDEX);
    return h;
}

static void get(lua_State *L, int table, const char *key)
{
    table = sandbox__absolute(L, table);
    lua_pushstring(L, key);
    sandbox__rawget(L, table);
}

/* `fetch.NAME.call` or `every.NAME[2]`. The order is that of the values, which is sorted. */
static uint32_t resolve_named(struct policy_version *v, const char *key, struct named_hook *out,
                              uint32_t most)
{
    lua_State *L = sandbox_lua(v->sandbox);
    const struct value *rows = value_get(&v->tables, key);
    uint32_t count = 0;
    get(L, 1, key);
    for (uint32_t i = 0; rows && rows->kind == VALUE_TABLE && i < rows->table->count; i++) {
        const char *name = value_text(&rows->table->pairs[i].key);
        if (!name || count == most || !lua_istable(L, -1)) continue;
        get(L, -1, name);
        if (lua_istable(L, -1)) {
            if (out == v->fetch) {
                get(L, -1, "call");
            } else {
                lua_rawgeti(L, -1, 2);
            }
            struct hook_entry h = take(L);
            if (h.ref != LUA_NOREF) {
                text_copy(out[count].name, sizeof out[count].name, name, strlen(name));
                out[count++].hook = h;
            }
        }
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return count;
}

static bool resolve_hooks(struct policy_version *v)
{
    lua_State *L = sandbox_lua(v->sandbox);
    lua_checkstack(L, LUA_MINSTACK);
    for (int h = HOOK_PREPARE; h <= HOOK_ON_ACK; h++) {
        get(L, 1, names[h]);
        v->hooks[h] = take(L);
    }
    v->fetch_count = resolve_named(v, "fetch", v->fetch, POLICY_FETCH_MAX);
    v->every_count = resolve_named(v, "every", v->every, POLICY_EVERY_MAX);
    /* The tables were copied, the hooks are held: what a hook still reaches, it may not change. */
    lua_pushcfunction(L, sandbox__l_freeze_policy);
    lua_pushvalue(L, 1);
    char error[256];
    return lua_enter(v->sandbox, L, 1, 0, false, error, sizeof error) == CALL_OK;
}
