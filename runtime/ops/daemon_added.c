/* Connections that were put over the API. Checked as those of the configuration are, kept in the
 * store as they were put, and second to the file: a name or an identity that the file owns is not taken from it. */
#include "ops/daemon_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/text.h"

#define CREDENTIAL_EXPECTED                                                                        \
    "{\"credential\":\"NAME\"}, NAME a file in the directory that CREDENTIALS_DIRECTORY names"

static void stored_free(struct daemon *d);

static struct added *added_find(struct daemon *d, const char *name)
{
    for (uint32_t i = 0; i < d->added_count; i++) {
        if (strcmp(d->added[i].config.name, name) == 0) return &d->added[i];
    }
    return NULL;
}

static void added_clear(struct daemon *d, struct added *a)
{
    if (a->build) {
        policy_build_destroy(a->build);
        d->added_waiting--;
    }
    policy_build_destroy(a->next);
    policy_unref(a->version);
    config_connection_deinit(&a->config);
    memset(a, 0, sizeof *a);
}

void daemon__added_forget(struct daemon *d, struct added *a)
{
    added_clear(d, a);
    *a = d->added[--d->added_count];
    d->added_touched = true;
}

/* Takes `config`; `version`: its own reference. */
static struct added *added_new(struct daemon *d, struct config_connection *config,
                               struct policy_version *version)
{
    if (d->added_count == d->added_room) {
        d->added_room = d->added_room ? d->added_room * 2 : 16;
        d->added = realloc(d->added, d->added_room * sizeof *d->added);
        ASSERT(d->added != NULL);
    }
    struct added *a = &d->added[d->added_count++];
    memset(a, 0, sizeof *a);
    a->config = *config;
    a->version = policy_ref(version);
    memset(config, 0, sizeof *config);
    return a;
}

void daemon__added_wait(struct daemon *d, struct added *a, struct policy_build *build)
{
    if (a->build)
        policy_build_destroy(a->build);
    else
        d->added_waiting++;
    a->build = build;
}

void daemon__added_deinit(struct daemon *d)
{
    while (d->added_count) daemon__added_forget(d, &d->added[d->added_count - 1]);
    free(d->added);
    d->added = NULL;
    stored_free(d);
}

bool daemon__added_pending(struct daemon *d, uint64_t until_ns)
{
    char why[256];
    if (!d->added_waiting) return true;
    for (uint32_t i = 0; i < d->added_count;) {
        struct added *a = &d->added[i];
        if (!a->build || !handle_is_none(runtime_find(d->rt, a->config.name))) {
            i++;
            continue;
        }
        struct policy_build *build = a->build;
        a->build = NULL;
        d->added_waiting--;
        if (daemon__add_connection(d, &a->config, build, why, sizeof why)) {
            log_line(d->options.log, LOG_INFO, a->config.name, "added");
            i++;
        } else {
            log_printf(d->options.log, LOG_ALARM, a->config.name, "not added: %s", why);
            daemon__added_forget(d, a);
        }
        runtime_carry_out(d->rt);
        if (uv_hrtime() >= until_ns) return false;
    }
    return true;
}

/* --- what is wrong, in the API's words -------------------------------------------------------- */

/* A problem says "unknown key; did you mean `x`?" or "expected a text, got a number". */
static void problem_tell(struct ops_problems *out, const struct problem *p, const char *name)
{
    char prefix[CONFIG_NAME_MAX + 16], expected[256] = "";
    const char *where = p->key, *what = p->text, *at;
    int what_len = (int)strlen(what);
    size_t len = (size_t)snprintf(prefix, sizeof prefix, "connection %s", name);
    if (strncmp(where, prefix, len) == 0) where += len + (where[len] == '.');
    if ((at = strstr(what, "; did you mean `"))) {
        const char *near = at + strlen("; did you mean `");
        snprintf(expected, sizeof expected, "%.*s", (int)strcspn(near, "`"), near);
        what_len = (int)(at - what);
    } else if (strncmp(what, "expected a secret", 17) == 0) {
        snprintf(expected, sizeof expected, "%s", CREDENTIAL_EXPECTED);
        if ((at = strstr(what, ", got "))) what += at - what + 2;
        what_len = (int)strlen(what);
    } else if (strncmp(what, "expected ", 9) == 0 && (at = strstr(what, ", got "))) {
        snprintf(expected, sizeof expected, "%.*s", (int)(at - what) - 9, what + 9);
        what = at + 2;
        what_len = (int)strlen(what);
    }
    ops_problem_add(out,
                    where[0]    ? where
                    : p->key[0] ? name
                                : "body",
                    expected, "%.*s", what_len, what);
}

static void problems_tell(struct ops_problems *out, const struct problems *problems,
                          const char *name)
{
    for (uint32_t i = 0; i < problems->count; i++) {
        if (!problems->items[i].warning) problem_tell(out, &problems->items[i], name);
    }
}

/* The name of who has the identity already, or will as soon as its namesake is gone. */
static const char *identity_owner(struct daemon *d, const char *name, uint64_t identity,
                                  char out[64])
{
    struct connection_view view;
    const char *of_file = roster_claimant(&d->roster, identity);
    if (!identity || of_file) return of_file;
    struct handle h = runtime_owner(d->rt, identity);
    if (!handle_is_none(h) && runtime_view(d->rt, h, &view) && strcmp(view.name, name) != 0) {
        snprintf(out, 64, "%s", view.name);
        return out;
    }
    for (uint32_t i = 0; d->added_waiting && i < d->added_count; i++) {
        const struct added *a = &d->added[i];
        if (!a->build || a->build->identity != identity || strcmp(a->config.name, name) == 0)
            continue;
        return a->config.name;
    }
    return NULL;
}

/* --- PUT -------------------------------------------------------------------------------------- */

/* The version that runs already, wherever, else the file. Owned reference. */
static struct policy_version *version_for(struct daemon *d, const struct config_connection *c,
                                          struct problems *problems)
{
    char path[1024], why[768];
    bool known;
    struct policy_version *v = roster_policy(&d->roster, c->policy);
    for (uint32_t i = 0; i < d->added_count && !v; i++) {
        if (strcmp(policy_name(d->added[i].version), c->policy) == 0) v = d->added[i].version;
    }
    if (v) return policy_ref(v);
    v = roster_policy_load(&d->roster.config, c->policy, 1, d->seed, problems, &known);
    if (!v && !known &&
        !roster_policy_find(&d->roster.config, c->policy, path, sizeof path, why, sizeof why)) {
        problems_add(problems, false, "", 0, "policy", "%s", why);
    }
    return v;
}

/* What was asked for is good: adds, changes or replaces. Takes config and build. */
static int put_carry_out(struct daemon *d, struct config_connection *config,
                         struct policy_build *build, struct ops_problems *problems)
{
    struct added *a = added_find(d, config->name);
    struct handle h = runtime_find(d->rt, config->name);
    struct connection_view view;
    char why[256];
    d->added_touched = true;
    if (!a) {
        a = added_new(d, config, build->version);
        a->identity = build->identity;
        if (!handle_is_none(h)) {
            daemon__added_wait(d, a, build);
            return 202;
        }
        if (daemon__add_connection(d, &a->config, build, why, sizeof why)) return 201;
        ops_problem_add(problems, a->config.name, "", "%s", why);
        daemon__added_forget(d, a);
        return 409;
    }
    bool runs = !a->build && !handle_is_none(h) && runtime_view(d->rt, h, &view);
    bool replace =
        runs && (view.engine.identity != build->identity || view.engine.account != build->account ||
                 !daemon__dials_the_same(&a->config, config));
    bool same = runs && !replace && a->version == build->version &&
                value_equal(&a->config.settings, &config->settings);
    struct policy_version *old = a->version;
    config_connection_deinit(&a->config);
    a->config = *config;
    a->version = policy_ref(build->version);
    a->identity = build->identity;
    policy_build_destroy(a->next); /* of the settings before */
    a->next = NULL;
    policy_unref(old);
    memset(config, 0, sizeof *config);
    if (same) {
        policy_build_destroy(build);
        return 200;
    }
    if (runs && !replace) {
        runtime_swap(d->rt, h, build);
        runtime_trial_align(d->rt, policy_name(a->version));
        /* A verdict's stop waits for an operator or new credentials: here they are. */
        if (view.engine.stop_is_fatal) runtime_start(d->rt, h);
        return 200;
    }
    if (runs) runtime_remove(d->rt, h);
    daemon__added_wait(d, a, build);
    return 202;
}

/* For the next process. `json` NULL: it has none. */
static void keep(struct daemon *d, const char *name, const void *json, size_t len)
{
    struct store store = daemon__store(d);
    struct store_request request = { .op = STORE_OP_CONNECTION,
                                     .connection = name,
                                     .bytes = json,
                                     .len = json ? len : 0 };
    store.ops->submit(store.self, &request);
}

int daemon__put(void *self, const char *name, const void *json, size_t len,
                struct ops_problems *out)
{
    struct daemon *d = self;
    struct problems problems;
    struct config_connection config = { 0 };
    struct value table = value_nil();
    struct policy_version *version = NULL;
    struct policy_build *build = NULL;
    char other[64];
    const char *owner;
    int status = 400;
    if (d->stopping) {
        ops_problem_add(out, name, "another holdfast", "this one is shutting down");
        return 503;
    }
    if (config_connection_find(&d->roster.config, name)) {
        ops_problem_add(out, name, "another name, or a change of the file and a reload",
                        "the configuration file has a connection of this name, and the file wins");
        return 409;
    }
    problems_init(&problems);
    if (config_json_read(json, len, &table, &problems) &&
        config_connection_read(name, &table, "", d->roster.config.folder, &config, &problems) &&
        (version = version_for(d, &config, &problems))) {
        build = policy_build_create(version, &config.settings, "", &problems);
    }
    if (build && !config.proxy && d->proxies_wrong[0]) {
        policy_build_destroy(build);
        build = NULL;
        ops_problem_add(out, "proxy", "an address, or false for none", "%s", d->proxies_wrong);
    }
    if (!build) {
        problems_tell(out, &problems, name);
        if (!out->count) ops_problem_add(out, name, "", "cannot be built");
    } else if ((owner = identity_owner(d, name, build->identity, other))) {
        ops_problem_add(out, name, "credentials of its own, or only one of the two",
                        "has the same identity as %s: two links would fight", owner);
        policy_build_destroy(build);
        status = 409;
    } else {
        const struct value *proxy = value_get(&table, "proxy");
        bool told = config.proxy_authorization && proxy && proxy->kind == VALUE_STRING;
        status = put_carry_out(d, &config, build, out);
        if (status < 300) keep(d, name, told ? NULL : json, len);
        if (told && status < 300) {
            log_line(d->options.log, LOG_WARNING, name,
                     "its proxy has a password in plain text: not stored, and gone with this process");
        }
    }
    policy_unref(version);
    config_connection_deinit(&config);
    value_clear(&table);
    problems_deinit(&problems);
    return status;
}

/* --- what the process before had ---------------------------------------------------------------- */

void daemon__added_stored(struct daemon *d, const char *name, const void *json, size_t len)
{
    d->stored = realloc(d->stored, (d->stored_count + 1) * sizeof *d->stored);
    ASSERT(d->stored != NULL);
    struct stored *s = &d->stored[d->stored_count++];
    text_copy(s->name, sizeof s->name, name, strlen(name));
    s->json = malloc(len + 1);
    ASSERT(s->json != NULL);
    memcpy(s->json, json, len);
    s->len = len;
}

static void stored_free(struct daemon *d)
{
    for (uint32_t i = 0; i < d->stored_count; i++) free(d->stored[i].json);
    free(d->stored);
    d->stored = NULL;
    d->stored_count = 0;
}

void daemon__added_start(struct daemon *d)
{
    for (uint32_t i = 0; i < d->stored_count; i++) {
        const struct stored *s = &d->stored[i];
        struct ops_problems problems = { .count = 0 };
        if (config_connection_find(&d->roster.config, s->name)) {
            log_line(d->options.log, LOG_INFO, s->name,
                     "was added over the API before; the configuration file has it now, and the file wins");
            keep(d, s->name, NULL, 0);
        } else if (daemon__put(d, s->name, s->json, s->len, &problems) >= 400) {
            const struct ops_problem *first = &problems.items[0];
            log_printf(d->options.log, LOG_ALARM, s->name,
                       "was added over the API before and cannot be added now: %s%s%s; kept for the next start",
                       first->where, first->where[0] ? " " : "", first->what);
        }
    }
    stored_free(d);
}

/* --- DELETE ----------------------------------------------------------------------------------- */

int daemon__remove(void *self, const char *name, struct ops_problems *out)
{
    struct daemon *d = self;
    struct added *a = added_find(d, name);
    struct handle h = runtime_find(d->rt, name);
    if (config_connection_find(&d->roster.config, name)) {
        ops_problem_add(out, name, "take it out of the file and reload, or only stop it",
                        "this connection belongs to the configuration file");
        return 409;
    }
    if (!a && handle_is_none(h)) {
        ops_problem_add(out, name, "a name from /v1/connections", "no such connection");
        return 404;
    }
    keep(d, name, NULL, 0);
    if (a) {
        bool waiting = a->build != NULL;
        daemon__added_forget(d, a);
        if (!waiting && !handle_is_none(h)) runtime_remove(d->rt, h);
    }
    return 202; /* without an entry it is on its way out already */
}

/* --- a reload --------------------------------------------------------------------------------- */

struct roster_also *daemon__added_also(const struct daemon *d, uint32_t *count)
{
    struct roster_also *list = calloc(d->added_count + 1, sizeof *list);
    ASSERT(list != NULL);
    for (uint32_t i = 0; i < d->added_count; i++) {
        const char *policy = policy_name(d->added[i].version), *name = d->added[i].config.name;
        text_copy(list[i].policy, sizeof list[i].policy, policy, strlen(policy));
        text_copy(list[i].connection, sizeof list[i].connection, name, strlen(name));
    }
    *count = d->added_count;
    return list;
}
