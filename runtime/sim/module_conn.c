/* Connections of a test: their policies, their settings, and the operator's verbs. What is configured
 * lives here, so that a crashed runtime can be given all of it again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/rng.h"
#include "base/text.h"
#include "sim/module_internal.h"

static void say_problems(const struct problems *p, char *why, size_t why_bytes)
{
    size_t at = 0;
    for (uint32_t i = 0; i < p->count && at < why_bytes; i++) {
        if (p->items[i].warning) continue;
        char line[768];
        problem_format(&p->items[i], line, sizeof line);
        at += (size_t)snprintf(why + at, why_bytes - at, "%s%s", at ? "\n" : "", line);
    }
    if (at == 0) text_copy(why, why_bytes, "no policy and no reason", 23);
}

/* A policy's text goes to a file named by its content: the loader reads files, and a trace may show it. */
static bool write_text(struct sim *s, const char *text, char *path, size_t bytes, char *why,
                       size_t why_bytes)
{
    char folder[256];
    snprintf(folder, sizeof folder, "%s/sim-policies", s->scratch_path);
    mkdir(s->scratch_path, 0700);
    mkdir(folder, 0700);
    snprintf(path, bytes, "%s/%016llx.lua", folder, (unsigned long long)hash_text(text));
    char aside[320];
    snprintf(aside, sizeof aside, "%s.%ld", path, (long)getpid());
    FILE *f = fopen(aside, "wb");
    bool ok = f != NULL;
    if (f) {
        ok = fwrite(text, 1, strlen(text), f) == strlen(text);
        ok = fclose(f) == 0 && ok;
        ok = ok && chmod(aside, 0600) == 0 && rename(aside, path) == 0;
    }
    if (!ok) snprintf(why, why_bytes, "cannot write %s", path);
    return ok;
}

static struct policy_version *load(struct sim *s, struct sim_policy *p, char *why, size_t why_bytes)
{
    struct problems problems;
    problems_init(&problems);
    struct policy_load options = { .name = p->name,
                                   .path = p->path,
                                   .lua_path = s->lua_path,
                                   .version = p->number + 1,
                                   .limits = { .call_instructions = s->policy_instructions },
                                   .seed = s->seed,
                                   .reach = s->reach };
    struct policy_version *v = policy_load(&options, &problems);
    if (v) p->number++;
    else say_problems(&problems, why, why_bytes);
    problems_deinit(&problems);
    return v;
}

int sim__policy_get(struct sim *s, const char *which, uint32_t number, char *why, size_t why_bytes)
{
    char path[288];
    bool is_text = strchr(which, '\n') || strstr(which, "return ");
    if (is_text) {
        if (!write_text(s, which, path, sizeof path, why, why_bytes)) return -1;
    } else if (strchr(which, '/')) {
        snprintf(path, sizeof path, "%s", which);
    } else {
        snprintf(path, sizeof path, "%s/%s.lua", s->policies_path, which);
    }
    for (uint32_t i = 0; i < s->policy_count; i++) {
        if (strcmp(s->policies[i].path, path) == 0) return (int)i;
    }
    struct sim_policy p = { .path = sim__copy(path, strlen(path)), .number = number };
    const char *base = strrchr(path, '/');
    base = base ? base + 1 : path;
    p.name = is_text ? sim__copy("text", 4) : sim__copy(base, strcspn(base, "."));
    p.version = load(s, &p, why, why_bytes);
    if (!p.version) {
        free(p.path);
        free(p.name);
        return -1;
    }
    s->policies = realloc(s->policies, (s->policy_count + 1) * sizeof *s->policies);
    ASSERT(s->policies != NULL);
    s->policies[s->policy_count] = p;
    return (int)s->policy_count++;
}

void sim__policies_free(struct sim *s)
{
    for (uint32_t i = 0; i < s->policy_count; i++) {
        policy_unref(s->policies[i].version);
        free(s->policies[i].name);
        free(s->policies[i].path);
    }
    free(s->policies);
}

void sim__conn_free(struct sim *s, struct sim_conn *c)
{
    (void)s;
    sim__watch_build(c, NULL);
    value_clear(&c->settings);
    value_clear(&c->own);
    free(c->acks);
    for (uint32_t i = 0; i < c->wire_count; i++) free(c->wire[i].data);
    free(c->wire);
    free(c->dials);
    free(c->closes);
    free(c);
}

struct policy_build *sim__build(struct sim *s, struct sim_conn *c, char *why, size_t why_bytes)
{
    struct problems problems;
    problems_init(&problems);
    struct policy_build *b = policy_build_create(s->policies[c->policy].version, &c->settings,
                                                 "the test", &problems);
    if (!b) say_problems(&problems, why, why_bytes);
    problems_deinit(&problems);
    return b;
}

bool sim__conn_add(struct sim *s, struct sim_conn *c, char *why, size_t why_bytes)
{
    struct policy_build *theirs = sim__build(s, c, why, why_bytes), *ours = NULL;
    if (theirs) ours = sim__build(s, c, why, why_bytes);
    if (!ours) {
        if (theirs) policy_build_destroy(theirs);
        return false;
    }
    struct connection_spec spec = { .name = c->name, .build = theirs, .stopped = true };
    const struct value *plain = value_get(&c->own, "plain");
    spec.plain = plain && plain->kind == VALUE_BOOL && plain->boolean;
    spec.owner = value_get_text(&c->own, "owner");
    struct handle h = runtime_add(s->runtime, &spec, why, why_bytes);
    if (handle_is_none(h)) {
        policy_build_destroy(ours);
        return false;
    }
    c->handle = h;
    for (uint32_t i = 0; i < s->conn_count; i++) {
        if (s->conns[i] == c) idmap_put(&s->by_handle, handle_pack(h), i + 1);
    }
    sim__watch_build(c, ours);
    const struct value *stopped = value_get(&c->own, "stopped");
    if (!(stopped && stopped->kind == VALUE_BOOL && stopped->boolean)) runtime_start(s->runtime, h);
    return true;
}

/* s:add(name, policy, settings, own): true, or nil and why. own = { plain=, stopped= } */
static int l_add(lua_State *L)
{
    struct sim *s = sim__check(L, 1);
    const char *name = luaL_checkstring(L, 2), *policy = luaL_checkstring(L, 3);
    luaL_checktype(L, 4, LUA_TTABLE);
    if (!s->runtime) return luaL_error(L, "nothing runs");
    char why[2048] = "";
    int index = sim__policy_get(s, policy, 0, why, sizeof why);
    if (index < 0) {
        lua_pushnil(L);
        lua_pushstring(L, why);
        return 2;
    }
    struct sim_conn *c = calloc(1, sizeof *c);
    ASSERT(c != NULL);
    text_copy(c->name, sizeof c->name, name, strlen(name));
    c->policy = (uint32_t)index;
    c->settings = sim__to_value(L, 4);
    c->own = lua_istable(L, 5) ? sim__to_value(L, 5) : value_table();
    s->conns = realloc(s->conns, (s->conn_count + 1) * sizeof *s->conns);
    ASSERT(s->conns != NULL);
    s->conns[s->conn_count++] = c;
    if (!sim__conn_add(s, c, why, sizeof why)) {
        s->conn_count--;
        sim__conn_free(s, c);
        lua_pushnil(L);
        lua_pushstring(L, why);
        return 2;
    }
    lua_pushboolean(L, true);
    return 1;
}

/* s:order(name, verb[, spend_reserve]): true, or nil and why */
static int l_order(lua_State *L)
{
    static const char *const verbs[] = { "start", "stop", "restart", "remove", NULL };
    struct sim *s = sim__check(L, 1);
    struct sim_conn *c = sim__check_conn(s, L, 2);
    int verb = luaL_checkoption(L, 3, NULL, verbs);
    char why[256];
    if (!s->runtime) return luaL_error(L, "nothing runs");
    if (lua_toboolean(L, 4) && !runtime_start_reserve(s->runtime, c->handle, why, sizeof why)) {
        lua_pushnil(L);
        lua_pushstring(L, why);
        return 2;
    }
    struct value stopped = value_bool(verb == 1);
    switch (verb) {
    case 0:
        if (!lua_toboolean(L, 4)) runtime_start(s->runtime, c->handle);
        break;
    case 1: runtime_stop(s->runtime, c->handle); break;
    case 2: runtime_restart(s->runtime, c->handle); break;
    default:
        runtime_remove(s->runtime, c->handle);
        c->removed = true;
    }
    value_set(&c->own, "stopped", stopped); /* an operator's wish survives a restart */
    lua_pushboolean(L, true);
    return 1;
}

/* s:reload(name[, policy]): the same file or text anew, or another. True, or nil and why. */
static int l_reload(lua_State *L)
{
    struct sim *s = sim__check(L, 1);
    struct sim_conn *c = sim__check_conn(s, L, 2);
    const char *other = luaL_optstring(L, 3, NULL);
    if (!s->runtime) return luaL_error(L, "nothing runs");
    char why[2048] = "";
    int index = (int)c->policy;
    if (other) index = sim__policy_get(s, other, 0, why, sizeof why);
    if (index >= 0 && (!other || (uint32_t)index == c->policy)) {
        struct policy_version *v = load(s, &s->policies[index], why, sizeof why);
        if (v) {
            policy_unref(s->policies[index].version);
            s->policies[index].version = v;
        } else {
            index = -1;
        }
    }
    uint32_t before = c->policy;
    if (index >= 0) c->policy = (uint32_t)index;
    struct policy_build *theirs = index >= 0 ? sim__build(s, c, why, sizeof why) : NULL;
    struct policy_build *ours = theirs ? sim__build(s, c, why, sizeof why) : NULL;
    if (!ours) {
        if (theirs) policy_build_destroy(theirs);
        c->policy = before;
        lua_pushnil(L);
        lua_pushstring(L, why);
        return 2;
    }
    sim__watch_build(c, ours);
    runtime_swap(s->runtime, c->handle, theirs);
    lua_pushboolean(L, true);
    return 1;
}

/* s:set(name, settings): what the next reload builds with. */
static int l_set(lua_State *L)
{
    struct sim *s = sim__check(L, 1);
    struct sim_conn *c = sim__check_conn(s, L, 2);
    luaL_checktype(L, 3, LUA_TTABLE);
    value_clear(&c->settings);
    c->settings = sim__to_value(L, 3);
    return 0;
}

const luaL_Reg sim__conn_methods[] = {
    { "add", l_add }, { "order", l_order }, { "reload", l_reload }, { "set", l_set }, { NULL, NULL }
};
