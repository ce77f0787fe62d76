/* Connections that were put over the API. Checked as those of the configuration are, kept in the
 * store as they were put, and second to the file: a name or an identity that the file owns is not taken from it. */
#include "ops/daemon_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/text.h"

static void stored_free(struct daemon *d);

struct added *daemon__added_find(struct daemon *d, const char *name)
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
    free(a->json);
    memset(a, 0, sizeof *a);
}

void daemon__added_forget(struct daemon *d, struct added *a)
{
    added_clear(d, a);
    *a = d->added[--d->added_count];
    d->added_touched = true;
}

struct added *daemon__added_new(struct daemon *d, struct config_connection *config, struct policy_version *version)
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
            daemon__proof_note(d, runtime_find(d->rt, a->config.name), a->version, a->overlay);
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

void daemon__added_keep(struct daemon *d, const char *name, const void *json, size_t len)
{
    struct store store = daemon__store(d);
    struct store_request request = { .op = STORE_OP_CONNECTION,
                                     .connection = name,
                                     .bytes = json,
                                     .len = json ? len : 0 };
    store.ops->submit(store.self, &request);
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
            daemon__added_keep(d, s->name, NULL, 0);
        } else if (daemon__put_stored(d, s->name, s->json, s->len, &problems) >= 400) {
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
    struct added *a = daemon__added_find(d, name);
    struct handle h = runtime_find(d->rt, name);
    if (config_connection_find(&d->roster.config, name)) {
        ops_problem_add(out, name, "take it out of the file and reload, or only stop it",
                        "this connection belongs to the configuration file");
        return 409;
    }
    daemon__put_call_off(d, name, 409, "it was deleted meanwhile", "another PUT");
    if (!a && handle_is_none(h)) {
        ops_problem_add(out, name, "a name from /v1/connections", "no such connection");
        return 404;
    }
    daemon__added_keep(d, name, NULL, 0);
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
