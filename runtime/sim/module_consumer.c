/* Consumers of a test: attached to deliver as the local API attaches them. Lines wait until the test
 * takes them; the order of what comes is checked at once (I7). */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/text.h"
#include "sim/module_internal.h"

#define CONSUMER_BYTES_MAX ((size_t)256 << 20)

/* "key":NUMBER somewhere in the line's head. False when it is not there. */
static bool number_after(const char *line, const char *end, const char *key, uint64_t *out)
{
    size_t len = strlen(key);
    const char *at = memmem(line, (size_t)(end - line), key, len);
    if (!at) return false;
    *out = strtoull(at + len, NULL, 10);
    return true;
}

/* `key` as "\"connection\":\"". */
static bool text_after(const char *line, const char *end, const char *key, char out[64])
{
    const char *at = memmem(line, (size_t)(end - line), key, strlen(key));
    if (!at) return false;
    at += strlen(key);
    const char *quote = memchr(at, '"', (size_t)(end - at));
    if (!quote) return false;
    text_copy(out, 64, at, (size_t)(quote - at));
    return true;
}

static void check_line(struct sim_consumer *c, const char *line, const char *end)
{
    char connection[64], cause[64] = "";
    uint64_t epoch = 0, offset = 0;
    bool event = (size_t)(end - line) > 9 && memcmp(line, "{\"event\":", 9) == 0;
    bool gap = (size_t)(end - line) > 7 && memcmp(line, "{\"gap\":", 7) == 0;
    if ((!event && !gap) || !text_after(line, end, "\"connection\":\"", connection)) return;
    if (gap) text_after(line, end, "\"cause\":\"", cause);
    number_after(line, end, "\"epoch\":", &epoch);
    number_after(line, end, gap ? "\"after\":" : "\"offset\":", &offset);
    checkers_consumed(c->sim->checkers, connection, c->number, epoch, offset, gap ? cause : NULL);
}

static bool on_write(void *self, const void *lines, size_t len)
{
    struct sim_consumer *c = self;
    if (c->paused) return false;
    if (!buffer_append(&c->lines, lines, len)) return false;
    const char *at = lines, *end = at + len;
    while (at < end) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        if (!stop) stop = end;
        check_line(c, at, stop);
        at = stop + 1;
    }
    return true;
}

static void on_detached(void *self, const char *why)
{
    struct sim_consumer *c = self;
    c->attached = false;
    text_copy(c->gone, sizeof c->gone, why, strlen(why));
}

static struct sim_consumer *check_consumer(struct sim *s, lua_State *L, int index)
{
    uint32_t number = (uint32_t)luaL_checknumber(L, index);
    luaL_argcheck(L, number >= 1 && number <= s->consumer_count, index, "no such consumer");
    return s->consumers[number - 1];
}

static void wake(struct sim *s)
{
    struct host host = world_host(s->world);
    host.ops->wake(host.self);
}

/* s:attach(number or nil, line): `line` as {"attach":{...}}; the number, or nil and why. */
static int l_attach(lua_State *L)
{
    struct sim *s = sim__check(L, 1);
    size_t len;
    const char *line = luaL_checklstring(L, 3, &len);
    if (!s->deliver) return luaL_error(L, "nothing runs");
    struct sim_consumer *c;
    if (lua_isnoneornil(L, 2)) {
        c = calloc(1, sizeof *c);
        ASSERT(c != NULL);
        c->sim = s;
        buffer_init(&c->lines, CONSUMER_BYTES_MAX);
        s->consumers = realloc(s->consumers, (s->consumer_count + 1) * sizeof *s->consumers);
        ASSERT(s->consumers != NULL);
        s->consumers[s->consumer_count++] = c;
        c->number = s->consumer_count;
    } else {
        c = check_consumer(s, L, 2);
    }
    struct attach attach;
    struct buffer scratch;
    const char *why = NULL;
    memset(&attach, 0, sizeof attach);
    buffer_init(&scratch, 0);
    struct deliver_sink sink = { .self = c, .write = on_write, .detached = on_detached };
    c->attachment++;
    c->gone[0] = 0;
    c->handle = HANDLE_NONE;
    bool ok = attach_parse_json(line, len, &attach, &scratch, &why);
    if (ok) {
        attach.can_send = true;
        c->attached = true;
        bool waits = attach.consumer && (!attach.has_from || attach.from == ATTACH_CURSOR);
        checkers_attached(s->checkers, c->number, c->attachment, waits);
        c->handle = deliver_attach(s->deliver, &attach, &sink, &why);
        ok = !handle_is_none(c->handle);
    }
    buffer_deinit(&scratch);
    if (!ok) {
        c->attached = false;
        lua_pushnil(L);
        lua_pushstring(L, why ? why : "refused");
        return 2;
    }
    wake(s);
    lua_pushnumber(L, (double)c->number);
    return 1;
}

static int l_detach(lua_State *L)
{
    struct sim *s = sim__check(L, 1);
    struct sim_consumer *c = check_consumer(s, L, 2);
    if (c->attached && s->deliver) deliver_detach(s->deliver, c->handle);
    c->attached = false;
    wake(s);
    return 0;
}

/* s:input(number, lines) */
static int l_input(lua_State *L)
{
    struct sim *s = sim__check(L, 1);
    struct sim_consumer *c = check_consumer(s, L, 2);
    size_t len;
    const char *lines = luaL_checklstring(L, 3, &len);
    if (!c->attached || !s->deliver) return luaL_error(L, "the consumer is not attached");
    deliver_input(s->deliver, c->handle, lines, len);
    wake(s);
    return 0;
}

/* s:pause(number, on) */
static int l_pause(lua_State *L)
{
    struct sim *s = sim__check(L, 1);
    struct sim_consumer *c = check_consumer(s, L, 2);
    c->paused = lua_toboolean(L, 3);
    if (!c->paused && c->attached && s->deliver) {
        deliver_resume(s->deliver, c->handle);
        wake(s);
    }
    return 0;
}

/* s:caught_up(number): all is quiet; I7 judges whether everything has come. */
static int l_caught_up(lua_State *L)
{
    struct sim *s = sim__check(L, 1);
    checkers_caught_up(s->checkers, check_consumer(s, L, 2)->number);
    return 0;
}

/* s:take(number): the lines that came, and whether it is attached, or why not. */
static int l_take(lua_State *L)
{
    struct sim *s = sim__check(L, 1);
    struct sim_consumer *c = check_consumer(s, L, 2);
    lua_pushlstring(L, (const char *)c->lines.data, c->lines.len);
    buffer_clear(&c->lines);
    lua_pushboolean(L, c->attached);
    lua_pushstring(L, c->gone);
    return 3;
}

/* The process died: nobody is attached to anything. */
void sim__consumers_gone(struct sim *s)
{
    for (uint32_t i = 0; i < s->consumer_count; i++) {
        s->consumers[i]->attached = false;
        text_copy(s->consumers[i]->gone, sizeof s->consumers[i]->gone, "the process is gone", 19);
    }
}

void sim__consumers_free(struct sim *s)
{
    for (uint32_t i = 0; i < s->consumer_count; i++) {
        buffer_deinit(&s->consumers[i]->lines);
        free(s->consumers[i]);
    }
    free(s->consumers);
}

const luaL_Reg sim__consumer_methods[] = {
    { "attach", l_attach }, { "detach", l_detach }, { "input", l_input }, { "pause", l_pause },
    { "take", l_take }, { "caught_up", l_caught_up }, { NULL, NULL }
};
