/* Roster: loads policies, builds connections, and finds what no single one of them can see: two
 * connections with one identity (roster_claims.c). */
#include "ops/roster.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/rng.h"
#include "base/text.h"

#ifndef HOLDFAST_PREFIX
#define HOLDFAST_PREFIX "/usr/local"
#endif
#define SUGGESTIONS_MAX 128

/* Of one load: what only it needs. */
struct loading {
    const struct roster_load *load;
    struct roster *out;
    struct problems *problems;
    struct failed *failed;
    struct policy_version **checks; /* owned: by index of out->versions; a version that is as before, to check with */
    uint32_t versions_max;
};

#define NO_VERSION UINT32_MAX

static uint32_t version_get(struct loading *l, const char *name, bool *known);
static void connection_load(struct loading *l, uint32_t index);
static void also_load(struct loading *l);
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

static bool is_cancelled(const struct roster_load *load)
{
    return load->cancel && atomic_load(load->cancel);
}

bool roster_load(const struct roster_load *load, struct roster *out, struct problems *problems)
{
    uint32_t errors_before = problems->errors;
    struct failed failed = { 0 };
    memset(out, 0, sizeof *out);
    /* Who is told of a mistyped key wants to hear of the mistyped option at the same time. */
    if (!config_load_partly(load->path, NULL, &out->config, problems)) {
        config_deinit(&out->config);
        return false;
    }

    uint32_t count = out->config.connection_count;
    struct loading l = { .load = load, .out = out, .problems = problems, .failed = &failed };
    l.versions_max = count + load->also_count + 1;
    out->builds = calloc(count + 1, sizeof *out->builds);
    out->who = calloc(count + 1, sizeof *out->who);
    out->versions = calloc(l.versions_max, sizeof *out->versions);
    out->names = calloc(l.versions_max, sizeof *out->names);
    out->candidates = calloc(l.versions_max, sizeof *out->candidates);
    out->texts = calloc(l.versions_max, sizeof *out->texts);
    l.checks = calloc(l.versions_max, sizeof *l.checks);
    ASSERT(out->builds && out->who && out->versions && out->names && out->candidates);
    ASSERT(out->texts && l.checks);
    roster__claims_init(out);
    for (uint32_t i = 0; i < count && !is_cancelled(load); i++) connection_load(&l, i);
    also_load(&l);
    for (uint32_t k = 0; k < out->version_count; k++) policy_unref(l.checks[k]);
    free(l.checks);
    free(failed.names);
    proxies_check(&out->config, problems);
    bool whole = !is_cancelled(load);
    for (uint32_t i = 0; i < count; i++) whole = whole && roster_is_built(out, i);
    if (whole && problems->errors == errors_before) {
        while (roster_claim_next(out, problems)) {}
    }
    if (!is_cancelled(load) && problems->errors == errors_before) return true;
    roster_deinit(out);
    return false;
}

bool roster_drop(struct roster *r)
{
    struct config *c = &r->config;
    if (c->connection_count > 0) {
        uint32_t last = c->connection_count - 1;
        if (r->builds && r->builds[last]) policy_build_destroy(r->builds[last]);
        config_connection_deinit(&c->connections[last]);
        c->connection_count = last;
        return true;
    }
    for (uint32_t i = 0; i < r->version_count; i++) {
        policy_unref(r->versions[i]);
        policy_unref(r->candidates[i]);
    }
    free(r->candidates);
    free(r->texts);
    free(r->builds);
    free(r->who);
    for (uint32_t i = 0; i < r->overlay_count; i++) free(r->overlays[i].json);
    free(r->overlays);
    free(r->claims);
    free(r->versions);
    free(r->names);
    config_deinit(&r->config);
    memset(r, 0, sizeof *r);
    return false;
}

void roster_deinit(struct roster *r)
{
    while (roster_drop(r)) {}
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
        if (strcmp(r->names[i], name) == 0) return r->versions[i];
    }
    return NULL;
}

struct policy_version *roster_candidate(const struct roster *r, const char *name)
{
    for (uint32_t i = 0; i < r->version_count; i++) {
        if (strcmp(r->names[i], name) == 0) return r->candidates[i];
    }
    return NULL;
}

static const struct roster_running *running_find(const struct roster_load *load, const char *name)
{
    for (uint32_t i = 0; i < load->running_count; i++) {
        if (strcmp(load->running[i].name, name) == 0) return &load->running[i];
    }
    return NULL;
}

/* `v`: moved. */
static void text_place(struct loading *l, uint32_t k, struct policy_version *v, const struct roster_running *runs)
{
    struct roster *r = l->out;
    const uint64_t hash = policy_text_hash(v);
    const bool now = !runs || l->load->now;
    if (runs && runs->hash == hash) {
        r->texts[k] = ROSTER_TEXT_AS_BEFORE;
        l->checks[k] = v;
    } else if (!now && runs->refused == hash) {
        r->texts[k] = ROSTER_TEXT_TAKEN_BACK;
        policy_unref(v);
    } else if (!now && (r->config.trial.share > 0 || runs->trying == hash)) {
        r->texts[k] = ROSTER_TEXT_TO_TRY;
        r->candidates[k] = v;
    } else {
        r->texts[k] = ROSTER_TEXT_NEW;
        r->versions[k] = v;
    }
}

/* NO_VERSION: not *known when there is no such file, else the errors were added. */
static uint32_t version_get(struct loading *l, const char *name, bool *known)
{
    const struct roster_load *load = l->load;
    struct roster *r = l->out;
    const struct roster_running *runs = running_find(load, name);
    *known = true;
    for (uint32_t k = 0; k < r->version_count; k++) {
        if (strcmp(r->names[k], name) == 0) return k;
    }
    ASSERT(r->version_count < l->versions_max);
    uint32_t k = r->version_count;
    text_copy(r->names[k], sizeof r->names[k], name, strlen(name));
    if (runs && load->only && strcmp(load->only, name) != 0) {
        r->texts[k] = ROSTER_TEXT_UNREAD;
        r->version_count++;
        return k;
    }
    struct policy_version *v =
        roster_policy_load(&r->config, name, runs ? runs->number + 1 : 1, load->seed, l->problems, known);
    if (!v) return NO_VERSION;
    text_place(l, k, v, runs);
    r->version_count++;
    return k;
}

/* The text that runs, and the settings that it runs with. */
static bool is_as_before(struct loading *l, uint32_t index, uint32_t k)
{
    const struct roster *before = l->load->before;
    const struct config_connection *c = &l->out->config.connections[index];
    if (!before || l->out->versions[k]) return false;
    const struct config_connection *old = config_connection_find(&before->config, c->name);
    if (!old || strcmp(old->policy, c->policy) != 0 || !value_equal(&old->settings, &c->settings)) return false;
    l->out->who[index] = before->who[old - before->config.connections];
    l->out->who[index].same = true;
    return true;
}

/* Whatever is tried must be able to run everywhere, and to be taken back from everywhere. */
static void candidate_check(struct loading *l, uint32_t index, uint32_t k)
{
    const struct roster *r = l->out;
    const struct config_connection *c = &r->config.connections[index];
    const struct roster_running *runs = running_find(l->load, r->names[k]);
    char key[96];
    if (r->who[index].same && runs && runs->trying == policy_text_hash(r->candidates[k])) return; /* it was checked when it began */
    struct policy_build *b = policy_build_create(r->candidates[k], &c->settings, c->file, l->problems);
    if (b && r->who[index].same && (b->identity != r->who[index].identity || b->account != r->who[index].account)) {
        connection_key(c, key);
        problems_add(l->problems, false, c->file, c->line, key,
                     "the new version of %s changes who it is (identity or account): that cannot be tried on some; "
                     "`holdfast reload --now` takes it everywhere", r->names[k]);
    }
    policy_build_destroy(b);
}

uint64_t roster_overlay_of(const struct policy_version *v, const struct value *settings, char **json)
{
    struct buffer text;
    buffer_init(&text, 0);
    bool any = policy_overlay_json(v, settings, &text) && buffer_append_char(&text, 0);
    uint64_t hash = any ? hash_text((const char *)text.data) | 1 : 0;
    if (json) *json = any ? strdup((const char *)text.data) : NULL;
    ASSERT(!json || !any || *json);
    buffer_deinit(&text);
    return hash;
}

static void overlay_note(struct roster *r, uint32_t k, uint32_t index, const struct policy_version *v)
{
    char *json;
    uint64_t hash = r->who[index].overlay = roster_overlay_of(v, &r->config.connections[index].settings, &json);
    uint32_t i = 0;
    while (i < r->overlay_count && (r->overlays[i].hash != hash || r->overlays[i].version != k)) i++;
    if (i < r->overlay_count) {
        free(json);
        return;
    }
    if (r->overlay_count == r->overlay_room) {
        r->overlay_room = r->overlay_room ? r->overlay_room * 2 : 16;
        r->overlays = realloc(r->overlays, r->overlay_room * sizeof *r->overlays);
        ASSERT(r->overlays != NULL);
    }
    r->overlays[r->overlay_count++] = (struct roster_overlay){ .version = k, .connection = index, .hash = hash, .json = json };
}

static void connection_load(struct loading *l, uint32_t index)
{
    struct roster *r = l->out;
    const struct config_connection *c = &r->config.connections[index];
    char path[1024], why[768], key[96];
    bool known;
    if (failed_has(l->failed, c->policy)) return;
    uint32_t k = version_get(l, c->policy, &known);
    if (k == NO_VERSION) {
        failed_add(l->failed, c->policy);
        if (known || roster_policy_find(&r->config, c->policy, path, sizeof path, why, sizeof why)) return;
        connection_key(c, key);
        snprintf(key + strlen(key), sizeof key - strlen(key), ".policy");
        problems_add(l->problems, false, c->file, c->line, key, "%s", why);
        return;
    }
    struct policy_version *v = r->candidates[k] ? r->candidates[k] : r->versions[k] ? r->versions[k] : l->checks[k];
    const bool same = is_as_before(l, index, k);
    if (v && (!same || r->candidates[k])) overlay_note(r, k, index, v);
    if (r->candidates[k]) candidate_check(l, index, k);
    if (same) return;
    if (r->versions[k]) {
        roster_build(r, index, l->problems);
        return;
    }
    /* Built for good by whoever owns the version that runs; this one says what is wrong, if anything is. */
    struct policy_build *check =
        l->checks[k] ? policy_build_create(l->checks[k], &c->settings, c->file, l->problems) : NULL;
    policy_build_destroy(check);
}

static void also_load(struct loading *l)
{
    bool known;
    for (uint32_t i = 0; i < l->load->also_count && !is_cancelled(l->load); i++) {
        const struct roster_also *a = &l->load->also[i];
        if (config_connection_find(&l->out->config, a->connection) || failed_has(l->failed, a->policy)) continue;
        if (version_get(l, a->policy, &known) != NO_VERSION) continue;
        failed_add(l->failed, a->policy);
        if (known) continue;
        problems_add(l->problems, false, "", 0, a->connection,
                     "was added over the API, and its policy `%s` is gone", a->policy);
    }
}

void roster_adopt(struct roster *r, uint32_t k, struct policy_version *running)
{
    ASSERT(k < r->version_count);
    ASSERT(r->versions[k] == NULL);
    r->versions[k] = policy_ref(running);
}

bool roster_is_built(const struct roster *r, uint32_t index)
{
    return r->builds[index] || r->who[index].same;
}

bool roster_build(struct roster *r, uint32_t index, struct problems *problems)
{
    const struct config_connection *c = &r->config.connections[index];
    struct policy_version *v = roster_policy(r, c->policy);
    ASSERT(v != NULL);
    ASSERT(r->builds[index] == NULL);
    struct policy_build *b = r->builds[index] = policy_build_create(v, &c->settings, c->file, problems);
    if (!b) return false;
    r->who[index].identity = b->identity;
    r->who[index].account = b->account;
    return true;
}

struct policy_version *roster_policy_load(const struct config *config, const char *name, uint32_t number,
                                          uint64_t seed, struct problems *problems, bool *known)
{
    char path[1024], why[768];
    *known = roster_policy_find(config, name, path, sizeof path, why, sizeof why);
    if (!*known) return NULL;
    struct policy_load pl = { .name = name, .path = path, .version = number, .seed = seed };
    return policy_load(&pl, problems);
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
