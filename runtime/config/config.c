/* The configuration file: runs it in a sandbox with five words (listen, store, policies,
 * connection, secret), collects what they are given as values, and checks those. The Lua state is
 * gone before config_load() returns. */
#include "config/config.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/buffer.h"
#include "base/rng.h"
#include "base/text.h"
#include "config/config_internal.h"
#include "policy/lines.h"
#include "policy/sandbox.h"

#define CONFIG_MEMORY_MAX ((size_t)64 << 20)
/* The operator's own, and thousands of connections may be made in a loop. */
#define CONFIG_INSTRUCTIONS_MAX ((uint64_t)20 * 1000 * 1000)

/* One run of the file. */
struct reader {
    struct config *out;
    struct problems *problems;
    const char *path;    /* borrowed */
    struct buffer text;  /* of the file itself */
    uint32_t open_calls; /* connection "name" still without its table */
    char open_name[CONFIG_NAME_MAX];
    uint32_t open_line;
    char open_file[256];
    uint32_t seen[3]; /* line of listen, store, policies */
};

enum section { SECTION_LISTEN, SECTION_STORE, SECTION_POLICIES };
static const char *const section_names[] = { "listen", "store", "policies" };

static bool load(const char *path, const char *lua_path, struct config *out,
                 struct problems *problems);
static int l_open(lua_State *L);
static int l_section(lua_State *L);
static int l_connection(lua_State *L);
static int l_connection_table(lua_State *L);
static int l_secret(lua_State *L);
static void connection_add(struct reader *r, const char *name, struct value *v, const char *file);
static void add_raised(struct reader *r, const char *error);
static void defaults(struct config *c);

bool config_load(const char *path, const char *lua_path, struct config *out,
                 struct problems *problems)
{
    uint32_t errors_before = problems->errors;
    load(path, lua_path, out, problems);
    if (problems->errors == errors_before) return true;
    config_deinit(out);
    return false;
}

bool config_load_partly(const char *path, const char *lua_path, struct config *out, struct problems *problems)
{
    return load(path, lua_path, out, problems);
}

/* The first `unix = "PATH"` of the text, outside comments of a line, joined with the folder; NULL
 * when there is none. Owned. */
static char *socket_written(const char *path, const char *folder)
{
    struct buffer text;
    char error[512], *found = NULL;
    buffer_init(&text, 0);
    bool ok = sandbox_read_file(path, &text, error, sizeof error) && buffer_append_char(&text, 0);
    char *rest = NULL;
    for (char *line = ok ? strtok_r((char *)text.data, "\n", &rest) : NULL; line && !found;
         line = strtok_r(NULL, "\n", &rest)) {
        char *comment = strstr(line, "--"), *at = strstr(line, "unix");
        if (comment) *comment = 0;
        if (!at || (comment && at > comment)) continue;
        at += strlen("unix");
        at += strspn(at, " \t");
        if (*at++ != '=') continue;
        at += strspn(at, " \t");
        char *end = *at == '"' || *at == '\'' ? strchr(at + 1, *at) : NULL;
        if (!end || end == at + 1) continue;
        *end = 0;
        found = config__join(folder, at + 1);
    }
    buffer_deinit(&text);
    return found;
}

char *config_find_socket(const char *path, const char *lua_path)
{
    struct config c;
    struct problems problems;
    char *found = NULL;
    problems_init(&problems);
    if (load(path, lua_path, &c, &problems)) {
        /* A slip that keeps the file from running must not hide the daemon that runs by the last
         * good one. */
        if (problems.errors) found = socket_written(path, c.folder);
        if (!found) {
            found = c.listen.unix_path;
            c.listen.unix_path = NULL;
        }
    }
    config_deinit(&c);
    problems_deinit(&problems);
    return found;
}

char *config_find_store(const char *path, const char *lua_path, bool *memory_out)
{
    struct config c;
    struct problems problems;
    char *found = NULL;
    problems_init(&problems);
    *memory_out = false;
    if (load(path, lua_path, &c, &problems)) {
        *memory_out = c.store_memory;
        if (!c.store_memory) {
            found = c.store_path;
            c.store_path = NULL;
        }
    }
    config_deinit(&c);
    problems_deinit(&problems);
    return found;
}

/* False when the file could not be read at all. What is in `*out` then is for config_deinit()
 * alone. */
static bool load(const char *path, const char *lua_path, struct config *out,
                 struct problems *problems)
{
    char error[512];
    bool ran = false;
    *out = (struct config){ .path = config__copy(path), .folder = config__folder(path) };
    defaults(out);
    struct reader r = { .out = out, .problems = problems, .path = path };
    struct sandbox *sandbox = NULL;
    buffer_init(&r.text, 0);
    if (!sandbox_read_file(path, &r.text, error, sizeof error)) {
        size_t skip = strlen(path);
        bool named =
            strncmp(error, path, skip) == 0 && error[skip] == ':' && error[skip + 1] == ' ';
        problems_add(problems, false, path, 0, "", "%s", named ? error + skip + 2 : error);
        goto done;
    }
    struct sandbox_options options = {
        .name = "configuration",
        .lua_path = lua_path,
        .beside = out->folder,
        .limits = { CONFIG_INSTRUCTIONS_MAX, CONFIG_MEMORY_MAX },
    };
    sandbox = sandbox_create(&options);
    if (!sandbox) {
        problems_add(problems, false, path, 0, "", "no memory for a Lua state");
        goto done;
    }
    ran = true;
    lua_State *L = sandbox_lua(sandbox);
    lua_pushcfunction(L, l_open);
    lua_pushlightuserdata(L, &r);
    enum call_result result = lua_enter(sandbox, L, 1, 0, false, error, sizeof error);
    ASSERT(result == CALL_OK);
    sandbox_lock(sandbox);
    if (sandbox_run(sandbox, (const char *)r.text.data, r.text.len, path, error, sizeof error) !=
        CALL_OK) {
        add_raised(&r, error);
    } else if (r.open_calls) {
        char key[96];
        snprintf(key, sizeof key, "connection %s", r.open_name);
        problems_add(problems, false, r.open_file, r.open_line, key,
                     "has no table: connection \"name\" { policy = ... }");
    }
done:
    sandbox_destroy(sandbox);
    buffer_deinit(&r.text);
    return ran;
}

void config_deinit(struct config *c)
{
    for (uint32_t i = 0; i < c->connection_count; i++) config_connection_deinit(&c->connections[i]);
    for (uint32_t i = 0; i < c->policy_path_count; i++) free(c->policy_paths[i]);
    for (uint32_t i = 0; i < c->listen.token_count; i++) secret_unref(c->listen.tokens[i].secret);
    free(c->connections);
    for (uint32_t i = 0; i < c->file_count; i++) free(c->files[i]);
    free(c->files);
    free(c->by_name);
    free(c->policy_paths);
    free(c->listen.tokens);
    free(c->listen.unix_path);
    free(c->store_path);
    free(c->path);
    free(c->folder);
    *c = (struct config){ 0 };
}

const struct config_connection *config_connection_find(const struct config *c, const char *name)
{
    if (!c->by_name) return NULL;
    for (uint64_t at = hash_text(name);; at++) {
        uint32_t index = c->by_name[at & c->by_name_mask];
        if (!index) return NULL;
        const struct config_connection *found = &c->connections[index - 1];
        if (strcmp(found->name, name) == 0) return found;
    }
}

static void name_put(struct config *c, uint32_t index)
{
    uint64_t at = hash_text(c->connections[index].name);
    while (c->by_name[at & c->by_name_mask]) at++;
    c->by_name[at & c->by_name_mask] = index + 1;
}

/* Of the last connection. Never more than half full. */
static void name_add(struct config *c)
{
    if (!c->by_name || c->connection_count * 2 > c->by_name_mask) {
        free(c->by_name);
        c->by_name_mask = c->by_name_mask ? c->by_name_mask * 2 + 1 : 31;
        c->by_name = calloc(c->by_name_mask + 1u, sizeof *c->by_name);
        ASSERT(c->by_name != NULL);
        for (uint32_t i = 0; i + 1 < c->connection_count; i++) name_put(c, i);
    }
    name_put(c, c->connection_count - 1);
}

static void defaults(struct config *c)
{
    c->listen.unix_path = config__join(c->folder, "run/holdfast.sock");
    c->store_path = config__join(c->folder, "var/holdfast.db");
    c->policy_paths = calloc(1, sizeof *c->policy_paths);
    ASSERT(c->policy_paths != NULL);
    c->policy_paths[0] = config__join(c->folder, "policies");
    c->policy_path_count = 1;
    c->prove_ms = CONFIG_PROVE_MS;
    c->watch = true;
}

/* "holdfast.lua:12: text" into its parts. */
static void add_raised(struct reader *r, const char *error)
{
    for (const char *colon = strchr(error, ':'); colon; colon = strchr(colon + 1, ':')) {
        char *end, file[256];
        unsigned long line = strtoul(colon + 1, &end, 10);
        if (end == colon + 1 || *end != ':' || line == 0) continue;
        text_copy(file, sizeof file, error, (size_t)(colon - error));
        problems_add(r->problems, false, strncmp(file, "...", 3) == 0 ? r->path : file,
                     (uint32_t)line, "", "%s", end[1] == ' ' ? end + 2 : end + 1);
        return;
    }
    problems_add(r->problems, false, r->path, 0, "", "%s", error);
}

/* --- what the file may call. They raise only for misuse, and hold nothing then.
 * ------------------- */

static int l_open(lua_State *L)
{
    for (int i = 0; i < 3; i++) {
        lua_pushvalue(L, 1);
        lua_pushinteger(L, i);
        lua_pushcclosure(L, l_section, 2);
        lua_setglobal(L, section_names[i]);
    }
    lua_pushvalue(L, 1);
    lua_pushcclosure(L, l_connection, 1);
    lua_setglobal(L, "connection");
    lua_pushvalue(L, 1);
    lua_pushcclosure(L, l_secret, 1);
    lua_setglobal(L, "secret");
    return 0;
}

static struct reader *reader_of(lua_State *L)
{
    return lua_touserdata(L, lua_upvalueindex(1));
}

/* File and line of the call; true when it stands in the configuration file itself. */
static bool caller(lua_State *L, const struct reader *r, char file[256], uint32_t *line)
{
    lua_Debug ar;
    *line = 0;
    text_copy(file, 256, r->path, strlen(r->path));
    if (!lua_getstack(L, 1, &ar) || !lua_getinfo(L, "Sl", &ar)) return false;
    if (ar.currentline > 0) *line = (uint32_t)ar.currentline;
    if (ar.source[0] != '@') return false;
    text_copy(file, 256, ar.source + 1, strlen(ar.source + 1));
    return strcmp(ar.source + 1, r->path) == 0;
}

/* The argument as a value with lines; false and an error when it cannot be one. */
static bool argument(lua_State *L, struct reader *r, const char *key, struct value *out,
                     char file[256])
{
    char error[256];
    uint32_t line;
    bool own = caller(L, r, file, &line);
    if (!sandbox_to_value(L, 1, out, error, sizeof error)) {
        problems_add(r->problems, false, file, line, key, "%s", error);
        return false;
    }
    if (own && line && out->kind == VALUE_TABLE) {
        lines_annotate_at(out, (const char *)r->text.data, r->text.len, line);
    }
    if (!out->line) out->line = line;
    return true;
}

static int l_section(lua_State *L)
{
    struct reader *r = reader_of(L);
    int which = (int)lua_tointeger(L, lua_upvalueindex(2));
    char file[256];
    struct value v;
    lua_settop(L, 1);
    if (!argument(L, r, section_names[which], &v, file)) return 0;
    if (r->seen[which]) {
        problems_add(r->problems, false, file, v.line, section_names[which],
                     "is given twice; the first is at line %u", r->seen[which]);
        value_clear(&v);
        return 0;
    }
    r->seen[which] = v.line ? v.line : 1;
    char *folder = config__folder(file);
    struct config_place p = { r->problems, file, folder, section_names[which] };
    if (which == SECTION_LISTEN) config__listen(&p, &v, &r->out->listen);
    if (which == SECTION_STORE) config__store(&p, &v, r->out);
    if (which == SECTION_POLICIES) config__policies(&p, &v, r->out);
    free(folder);
    value_clear(&v);
    return 0;
}

/* connection "name" yields the function that takes the table. */
static int l_connection(lua_State *L)
{
    struct reader *r = reader_of(L);
    size_t len;
    const char *name = lua_type(L, 1) == LUA_TSTRING ? lua_tolstring(L, 1, &len) : NULL;
    if (!name || strlen(name) != len)
        return luaL_error(L, "connection needs its name: connection \"name\" { ... }");
    r->open_calls++;
    text_copy(r->open_name, sizeof r->open_name, name, len);
    caller(L, r, r->open_file, &r->open_line);
    lua_settop(L, 1);
    lua_pushlightuserdata(L, r);
    lua_insert(L, 1);
    lua_pushcclosure(L, l_connection_table, 2);
    return 1;
}

static int l_connection_table(lua_State *L)
{
    struct reader *r = reader_of(L);
    const char *name = lua_tostring(L, lua_upvalueindex(2));
    char key[96], file[256];
    struct value v;
    lua_settop(L, 1);
    if (r->open_calls) r->open_calls--;
    snprintf(key, sizeof key, "connection %.64s", name);
    if (!argument(L, r, key, &v, file)) return 0;
    connection_add(r, name, &v, file);
    value_clear(&v);
    return 0;
}

static void connection_add(struct reader *r, const char *name, struct value *v, const char *file)
{
    struct config *c = r->out;
    char key[96];
    snprintf(key, sizeof key, "connection %.64s", name);
    const struct config_connection *other = config_connection_find(c, name);
    if (other) {
        problems_add(r->problems, false, file, v->line, key,
                     "the name is taken by the connection at %s:%u", other->file, other->line);
    }
    if (c->connection_count == CONFIG_CONNECTIONS_MAX) {
        problems_add(r->problems, false, file, v->line, key, "at most %d connections are possible",
                     CONFIG_CONNECTIONS_MAX);
        return;
    }
    if ((c->connection_count & (c->connection_count - 1)) == 0) { /* grows at the powers of two */
        size_t count = c->connection_count ? c->connection_count * 2u : 1u;
        c->connections = realloc(c->connections, count * sizeof *c->connections);
        ASSERT(c->connections != NULL);
    }
    char *folder = config__folder(file);
    struct config_connection *added = &c->connections[c->connection_count];
    if (config_connection_read(name, v, file, folder, added, r->problems)) {
        c->connection_count++;
        if (!other) name_add(c); /* else it is an error already */
    }
    free(folder);
}

/* `path`: moved; may be NULL. */
static void file_add(struct config *c, char *path)
{
    if (!path || (c->file_count && strcmp(c->files[c->file_count - 1], path) == 0)) {
        free(path);
        return;
    }
    if (c->file_count == c->file_room) {
        c->file_room = c->file_room ? c->file_room * 2 : 16;
        c->files = realloc(c->files, c->file_room * sizeof *c->files);
        ASSERT(c->files != NULL);
    }
    c->files[c->file_count++] = path;
}

/* A secret that cannot be read is one error; the rest of the file is still checked. */
static int l_secret(lua_State *L)
{
    struct reader *r = reader_of(L);
    char error[256] = "", file[256];
    uint32_t line;
    bool open = false;
    struct secret *s = NULL;
    struct value v;
    lua_settop(L, 1);
    caller(L, r, file, &line);
    if (sandbox_to_value(L, 1, &v, error, sizeof error)) {
        char *folder = config__folder(file);
        s = config_secret_read(&v, folder, &open, error, sizeof error);
        file_add(r->out, config_secret_path(&v, folder));
        free(folder);
        value_clear(&v);
    }
    if (!s) {
        problems_add(r->problems, false, file, line, "secret", "%s", error);
        s = secret_create("unread", "", 0);
    } else if (open) {
        problems_add(r->problems, true, file, line, "secret",
                     "the file of %s can be read by its group or others (chmod go=)",
                     secret_name(s));
    }
    sandbox_push_secret(L, s);
    secret_unref(s);
    return 1;
}
