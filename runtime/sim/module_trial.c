/* Trials of a test: a new version of a policy on a share of the connections, as the daemon's reload begins one. */
#include <string.h>

#include "base/assert.h"
#include "base/text.h"
#include "sim/module_internal.h"

static struct policy_build *build(void *self, struct handle conn, const char *name, struct policy_version *version)
{
    struct sim *s = self;
    struct sim_conn *c = sim__conn(s, conn);
    char why[2048];
    (void)name;
    if (!c) return NULL;
    const uint32_t before = c->policy;
    for (uint32_t i = 0; i < s->policy_count; i++) {
        if (s->policies[i].version == version) c->policy = i;
    }
    struct policy_build *theirs = sim__build(s, c, why, sizeof why);
    struct policy_build *ours = theirs ? sim__build(s, c, why, sizeof why) : NULL;
    if (ours) {
        sim__watch_build(c, ours);
        return theirs;
    }
    if (theirs) policy_build_destroy(theirs);
    c->policy = before;
    return NULL;
}

/* The connection's own key, as in a configuration. */
static enum trial_liking liking(void *self, const char *name)
{
    const struct sim *s = self;
    for (uint32_t i = 0; i < s->conn_count; i++) {
        if (strcmp(s->conns[i]->name, name) != 0) continue;
        const struct value *v = value_get(&s->conns[i]->own, "trial");
        if (!v || v->kind != VALUE_BOOL) return TRIAL_ANY;
        return v->boolean ? TRIAL_FIRST : TRIAL_NEVER;
    }
    return TRIAL_ANY;
}

static void over(void *self, const struct trial_over *o)
{
    struct sim *s = self;
    text_copy(s->trial_over.why, sizeof s->trial_over.why, o->why, strlen(o->why));
    s->trial_over.end = o->end;
    s->trial_over.outcome = o->outcome;
    s->trial_over.asked = o->asked;
    s->trial_over.on = true;
}

static int refuse(lua_State *L, const char *why)
{
    lua_pushnil(L);
    lua_pushstring(L, why);
    return 2;
}

/* s:trial(name, policy, share, watch_ms, rehearse): of the policy that this connection has. False: there was nobody to try
 * it on, and it is adopted; nil and why: it cannot be loaded. */
static int l_trial(lua_State *L)
{
    struct sim *s = sim__check(L, 1);
    struct sim_conn *c = sim__check_conn(s, L, 2);
    const char *policy = luaL_checkstring(L, 3);
    char why[2048] = "";
    if (!s->runtime) return luaL_error(L, "nothing runs");
    struct policy_version *before = s->policies[c->policy].version;
    int index = sim__policy_get(s, policy, policy_version_number(before), why, sizeof why);
    if (index < 0) return refuse(L, why);
    struct trial_wish wish = { .before = before,
                               .after = s->policies[index].version,
                               .share = luaL_checknumber(L, 4),
                               .watch_ms = (uint64_t)luaL_checknumber(L, 5),
                               .rehearse = lua_toboolean(L, 6) != 0,
                               .self = s,
                               .build = build,
                               .liking = liking,
                               .over = over };
    luaL_argcheck(L, wish.before != wish.after, 3, "the same text");
    s->trial_over.on = false;
    lua_pushboolean(L, runtime_trial_begin(s->runtime, &wish));
    return 1;
}

/* s:trial_end(name, "adopt" | "take_back", why): of this connection's policy. False: none is watched. */
static int l_trial_end(lua_State *L)
{
    static const char *const ends[] = { "take_back", "adopt", NULL };
    struct sim *s = sim__check(L, 1);
    struct sim_conn *c = sim__check_conn(s, L, 2);
    int end = luaL_checkoption(L, 3, NULL, ends);
    const char *policy = policy_name(s->policies[c->policy].version);
    lua_pushboolean(L, runtime_trial_end(s->runtime, policy, end ? TRIAL_ADOPTED : TRIAL_TAKEN_BACK, luaL_checkstring(L, 4)));
    return 1;
}

static void side_push(lua_State *L, const char *key, const struct trial_side *side)
{
    lua_createtable(L, 0, 9);
#define NUMBER(name) lua_pushnumber(L, (lua_Number)side->name), lua_setfield(L, -2, #name)
    NUMBER(connections), NUMBER(ms), NUMBER(hook_errors), NUMBER(hook_errors_in), NUMBER(endings), NUMBER(endings_in);
    NUMBER(stops), NUMBER(slows), NUMBER(readies), NUMBER(ready_ms), NUMBER(lost);
#undef NUMBER
    lua_setfield(L, -2, key);
}

/* s:trials(): those under way, and `over` = { ended, outcome, why, asked }, how the last one ended. */
static int l_trials(lua_State *L)
{
    struct sim *s = sim__check(L, 1);
    struct runtime_trial t;
    lua_newtable(L);
    for (uint32_t i = 0; s->runtime && runtime_trial_next(s->runtime, &i, &t); i++) {
        lua_newtable(L);
        lua_pushstring(L, t.policy), lua_setfield(L, -2, "policy");
        lua_pushinteger(L, t.before), lua_setfield(L, -2, "before");
        lua_pushinteger(L, t.after), lua_setfield(L, -2, "after");
        lua_pushboolean(L, t.watching), lua_setfield(L, -2, "watching");
        lua_pushboolean(L, t.facts.weather), lua_setfield(L, -2, "weather");
        lua_pushnumber(L, (lua_Number)t.facts.fair_ms), lua_setfield(L, -2, "fair_ms");
        lua_pushnumber(L, (lua_Number)t.facts.all_ms), lua_setfield(L, -2, "all_ms");
        lua_pushstring(L, t.waits), lua_setfield(L, -2, "waits");
        side_push(L, "tried", &t.facts.tried);
        side_push(L, "others", &t.facts.others);
        side_push(L, "past", &t.facts.past);
        lua_rawseti(L, -2, (int)i + 1);
    }
    if (!s->trial_over.on) return 1;
    lua_newtable(L);
    lua_pushstring(L, s->trial_over.end == TRIAL_ADOPTED ? "adopted" : "taken_back"), lua_setfield(L, -2, "ended");
    lua_pushstring(L, trial_outcome_name(s->trial_over.outcome)), lua_setfield(L, -2, "outcome");
    lua_pushstring(L, s->trial_over.why), lua_setfield(L, -2, "why");
    lua_pushboolean(L, s->trial_over.asked), lua_setfield(L, -2, "asked");
    lua_setfield(L, -2, "over");
    return 1;
}

/* s:tried(name): its version's number, and whether it is among the tried. */
static int l_tried(lua_State *L)
{
    struct sim *s = sim__check(L, 1);
    struct sim_conn *c = sim__check_conn(s, L, 2);
    struct connection_view view;
    if (!s->runtime || !runtime_view(s->runtime, c->handle, &view)) return 0;
    lua_pushinteger(L, view.policy_version);
    lua_pushboolean(L, runtime_trial_tries(s->runtime, c->handle));
    return 2;
}

const luaL_Reg sim__trial_methods[] = {
    { "trial", l_trial }, { "trial_end", l_trial_end }, { "trials", l_trials }, { "tried", l_tried }, { NULL, NULL }
};
