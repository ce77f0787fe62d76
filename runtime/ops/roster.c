/* Roster: loads policies, builds connections, and finds what no single one of them can see: two
 * connections with one identity. */
#include "ops/roster.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/text.h"

#ifndef HOLDFAST_PREFIX
#define HOLDFAST_PREFIX "/usr/local"
#endif
#define SUGGESTIONS_MAX 128

static struct policy_version *version_get(const struct roster_load *load, struct roster *r,
                                          const char *name, struct problems *problems, bool *known);
static void identities_check(const struct roster *r, struct problems *problems);
static void proxies_check(const struct config *config, struct problems *problems);
static void connection_key(const struct config_connection *c, char out[96]);

/* Names whose load failed: each is told once, however many connections name it. */
struct failed {
    char (*names)[CONFIG_NAME_MAX]; /* owned */
    uint32_t count;
};

static bool failed_has(const struct failed *f, const char *name)
{
    for (uint32_t i = 0; i < f->count; i++) {
        if (strcmp(f->names[i], name) == 0) return true;
    }
    return false;
}

static void failed_add(struct failed *f, const char *name)
{
    f->names = realloc(f->names, (f->count + 1) * sizeof *f->names);
    ASSERT(f->names != NULL);
    text_copy(f->names[f->count++], CONFIG_NAME_MAX, name, strlen(name));
}

bool roster_load(const struct roster_load *load, struct roster *out, struct problems *problems)
{
    uint32_t errors_before = problems->errors;
    struct failed failed = { 0 };
    memset(out, 0, sizeof *out);
    if (!config_load(load->path, NULL, &out->config, problems)) return false;

    uint32_t count = out->config.connection_count;
    out->builds = calloc(count ? count : 1, sizeof *out->builds);
    out->versions = calloc(count ? count : 1, sizeof *out->versions);
    ASSERT(out->builds && out->versions);
    for (uint32_t i = 0; i < count; i++) {
        const struct config_connection *c = &out->config.connections[i];
        char path[1024], why[768], key[96];
        bool known;
        if (failed_has(&failed, c->policy)) continue;
        connection_key(c, key);
        struct policy_version *v = version_get(load, out, c->policy, problems, &known);
        if (v) {
            out->builds[i] = policy_build_create(v, &c->settings, c->file, problems);
            continue;
        }
        failed_add(&failed, c->policy);
        if (known) continue;
        if (!roster_policy_find(&out->config, c->policy, path, sizeof path, why, sizeof why)) {
            snprintf(key + strlen(key), sizeof key - strlen(key), ".policy");
            problems_add(problems, false, c->file, c->line, key, "%s", why);
        }
    }
    free(failed.names);
    proxies_check(&out->config, problems);
    if (problems->errors == errors_before) identities_check(out, problems);
    if (problems->errors == errors_before) return true;
    roster_deinit(out);
    return false;
}

void roster_deinit(struct roster *r)
{
    for (uint32_t i = 0; r->builds && i < r->config.connection_count; i++) {
        if (r->builds[i]) policy_build_destroy(r->builds[i]);
    }
    for (uint32_t i = 0; i < r->version_count; i++) policy_unref(r->versions[i]);
    free(r->builds);
    free(r->versions);
    config_deinit(&r->config);
    memset(r, 0, sizeof *r);
}

struct policy_build *roster_take(struct roster *r, uint32_t index)
{
    ASSERT(index < r->config.connection_count);
    struct policy_build *b = r->builds[index];
    r->builds[index] = NULL;
    return b;
}

static const char *variable_get(void *self, const char *name)
{
    (void)self;
    return getenv(name);
}

bool roster_proxies_read(struct proxy_env *out, char *why, size_t why_bytes)
{
    return proxy_env_read(out, variable_get, NULL, why, why_bytes);
}

/* What nobody uses may be as broken as it likes. */
static void proxies_check(const struct config *config, struct problems *problems)
{
    struct proxy_env env;
    char why[256];
    uint32_t i = 0;
    while (i < config->connection_count && config->connections[i].proxy) i++;
    if (i == config->connection_count) return;
    if (!roster_proxies_read(&env, why, sizeof why)) problems_add(problems, false, "", 0, "", "%s", why);
    proxy_env_deinit(&env);
}

static void connection_key(const struct config_connection *c, char out[96])
{
    snprintf(out, 96, "connection %s", c->name);
}

struct policy_version *roster_policy(const struct roster *r, const char *name)
{
    for (uint32_t i = 0; r && i < r->version_count; i++) {
        if (strcmp(policy_name(r->versions[i]), name) == 0) return r->versions[i];
    }
    return NULL;
}

/* Borrowed from the roster. NULL: not *known when there is no such file, else the errors were added. */
static struct policy_version *version_get(const struct roster_load *load, struct roster *r,
                                          const char *name, struct problems *problems, bool *known)
{
    struct policy_version *v = roster_policy(r, name), *old = roster_policy(load->before, name);
    *known = true;
    if (v) return v;
    if (load->only && old && strcmp(load->only, name) != 0) {
        r->versions[r->version_count++] = policy_ref(old);
        return old;
    }
    v = roster_policy_load(&r->config, name, old, load->seed, problems, known);
    if (v) r->versions[r->version_count++] = v;
    return v;
}

struct policy_version *roster_policy_load(const struct config *config, const char *name,
                                          struct policy_version *old, uint64_t seed,
                                          struct problems *problems, bool *known)
{
    char path[1024], why[768];
    *known = roster_policy_find(config, name, path, sizeof path, why, sizeof why);
    if (!*known) return NULL;
    struct policy_load pl = { .name = name,
                              .path = path,
                              .version = old ? policy_version_number(old) + 1 : 1,
                              .seed = seed };
    struct policy_version *v = policy_load(&pl, problems);
    if (v && old && policy_text_hash(v) == policy_text_hash(old)) {
        policy_unref(v);
        v = policy_ref(old);
    }
    return v;
}

/* --- where policies are ------------------------------------------------------------------------------------ */

/* Beside lua/, in the sources and installed alike. */
static void shipped_folder(char *out, size_t out_bytes)
{
    const char *lua = getenv("HOLDFAST_LUA");
    if (lua && lua[0]) {
        const char *end = strrchr(lua, '/');
        snprintf(out, out_bytes, "%.*s%spolicies", end ? (int)(end - lua) : 0, lua, end ? "/" : "");
    } else if (access(HOLDFAST_PREFIX "/share/holdfast/policies", R_OK) == 0) {
        snprintf(out, out_bytes, "%s", HOLDFAST_PREFIX "/share/holdfast/policies");
    } else {
        snprintf(out, out_bytes, "policies");
    }
}

static bool find_in(const char *folder, const char *name, char *path, size_t path_bytes)
{
    int n = snprintf(path, path_bytes, "%s/%s.lua", folder, name);
    return n > 0 && (size_t)n < path_bytes && access(path, F_OK) == 0;
}

static void names_in(const char *folder, char (*names)[CONFIG_NAME_MAX], uint32_t *count)
{
    DIR *d = opendir(folder);
    struct dirent *e;
    while (d && *count < SUGGESTIONS_MAX && (e = readdir(d))) {
        size_t len = strlen(e->d_name);
        if (len < 5 || len - 4 >= CONFIG_NAME_MAX || strcmp(e->d_name + len - 4, ".lua") != 0) continue;
        text_copy(names[(*count)++], CONFIG_NAME_MAX, e->d_name, len - 4);
    }
    if (d) closedir(d);
}

bool roster_policy_find(const struct config *config, const char *name, char *path, size_t path_bytes,
                        char *why, size_t why_bytes)
{
    char shipped[1024], names[SUGGESTIONS_MAX][CONFIG_NAME_MAX];
    const char *list[SUGGESTIONS_MAX], *near;
    uint32_t count = 0;
    for (uint32_t i = 0; i < config->policy_path_count; i++) {
        if (find_in(config->policy_paths[i], name, path, path_bytes)) return true;
    }
    shipped_folder(shipped, sizeof shipped);
    if (find_in(shipped, name, path, path_bytes)) return true;

    for (uint32_t i = 0; i < config->policy_path_count; i++) names_in(config->policy_paths[i], names, &count);
    names_in(shipped, names, &count);
    for (uint32_t i = 0; i < count; i++) list[i] = names[i];
    near = text_nearest(name, list, count);
    snprintf(why, why_bytes, "there is no policy `%s` in %.200s%s or %.200s%s%s%s", name,
             config->policy_path_count ? config->policy_paths[0] : ".",
             config->policy_path_count > 1 ? ", the other folders" : "", shipped,
             near ? "; did you mean `" : "", near ? near : "", near ? "`?" : "");
    return false;
}

/* --- identities -------------------------------------------------------------------------------------------- */

struct owner {
    uint64_t identity;
    uint32_t index;
};

static int by_identity(const void *a, const void *b)
{
    const struct owner *x = a, *y = b;
    if (x->identity != y->identity) return x->identity < y->identity ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

static void identities_check(const struct roster *r, struct problems *problems)
{
    uint32_t count = 0;
    struct owner *owners = calloc(r->config.connection_count + 1, sizeof *owners);
    ASSERT(owners != NULL);
    for (uint32_t i = 0; i < r->config.connection_count; i++) {
        if (!r->builds[i] || !r->builds[i]->identity) continue;
        owners[count++] = (struct owner){ r->builds[i]->identity, i };
    }
    qsort(owners, count, sizeof *owners, by_identity);
    for (uint32_t i = 1; i < count; i++) {
        if (owners[i].identity != owners[i - 1].identity) continue;
        const struct config_connection *c = &r->config.connections[owners[i].index];
        const struct config_connection *other = &r->config.connections[owners[i - 1].index];
        char key[96];
        connection_key(c, key);
        problems_add(problems, false, c->file, c->line, key,
                     "has the same identity as %s (%s:%" PRIu32 "): two links would fight; one must go",
                     other->name, other->file, other->line);
    }
    free(owners);
}
