/* Trials that outlive the process. A start reads the policy files, and one of them may have a text that was on trial, or was
 * taken back: the text that served is kept in the store and goes on, the other one is tried anew or stays refused. Where that
 * cannot be done it runs everywhere, which is said loudly. The store's journal has each step, for people. */
#include "ops/daemon_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/duration.h"
#include "base/text.h"

#define KEY "policy " /* no connection's name has a space */
#define SOURCES_MAX 64

static bool sources_json(struct buffer *out, const struct policy_version *v)
{
    struct policy_source source;
    bool ok = buffer_append_text(out, ",\"sources\":[");
    for (uint32_t i = 0; ok && policy_source(v, i, &source); i++) {
        ok = buffer_append_text(out, i ? ",{\"name\":" : "{\"name\":") && text_json_string(out, source.name, strlen(source.name)) &&
             buffer_append_text(out, ",\"text\":") && text_json_string(out, source.text, source.len) && buffer_append_char(out, '}');
    }
    return ok && buffer_append_char(out, ']');
}

void daemon__trial_keep(struct daemon *d, const struct trial_record *r, const char *state, uint64_t hash,
                        const struct policy_version *serves)
{
    struct store store = daemon__store(d);
    struct buffer json;
    char key[CONFIG_NAME_MAX + sizeof KEY];
    const uint64_t wall_ms = runtime_clock(d->rt).wall_ms;
    buffer_init(&json, 0);
    bool ok = buffer_append_text(&json, "{\"trial\":") && text_json_string(&json, r->policy, strlen(r->policy)) &&
              buffer_printf(&json, ",\"state\":\"%s\",\"hash\":\"%016" PRIx64 "\",\"why\":", state, hash) &&
              text_json_string(&json, r->why, strlen(r->why));
    const size_t told = json.len;
    ok = ok && buffer_append_char(&json, '}');
    struct store_request request = { .op = STORE_OP_JOURNAL, .wall_ms = wall_ms, .bytes = json.data, .len = json.len };
    if (ok) store.ops->submit(store.self, &request);
    json.len = told;
    snprintf(key, sizeof key, KEY "%s", r->policy);
    request = (struct store_request){ .op = STORE_OP_KEEP, .connection = key, .wall_ms = wall_ms };
    if (ok && serves) {
        ok = buffer_printf(&json, ",\"version\":%" PRIu32 ",\"serves\":%" PRIu32 ",\"wall_ms\":%" PRIu64 ",\"asked\":%s,\"outcome\":%d",
                           r->version, r->serves, wall_ms, r->asked ? "true" : "false", (int)r->outcome) &&
             sources_json(&json, serves) && buffer_append_char(&json, '}');
        request.bytes = json.data;
        request.len = json.len;
    }
    if (ok) store.ops->submit(store.self, &request);
    buffer_deinit(&json);
}

/* What both records of it have in common. NULL: it is about no trial. */
static struct trial_record *stored(struct daemon *d, uint64_t wall_ms, const struct value *v)
{
    const char *policy = value_get_text(v, "trial"), *state = value_get_text(v, "state"), *hash = value_get_text(v, "hash");
    const char *why = value_get_text(v, "why");
    if (!policy || !config_name_is_valid(policy) || !state || !hash) return NULL;
    struct trial_record *r = daemon__trial_record(d, policy);
    r->left_trying = strcmp(state, "trying") == 0;
    r->left_refused = strcmp(state, "taken_back") == 0;
    r->left_hash = strtoull(hash, NULL, 16);
    r->wall_ms = wall_ms;
    text_copy(r->why, sizeof r->why, why ? why : "", why ? strlen(why) : 0);
    return r;
}

static bool json_read(const void *json, size_t len, struct value *out)
{
    struct problems problems;
    problems_init(&problems);
    bool ok = config_json_read(json, len, out, &problems);
    problems_deinit(&problems);
    return ok;
}

/* The journal is read last: of a process that kept no text it is all there is. */
void daemon__trial_stored(struct daemon *d, uint64_t wall_ms, const void *json, size_t len)
{
    struct value v = value_nil();
    if (memmem(json, len, "\"trial\"", 7) && json_read(json, len, &v)) stored(d, wall_ms, &v);
    value_clear(&v);
}

void daemon__trial_stored_text(struct daemon *d, const char *name, const void *json, size_t len)
{
    struct value v = value_nil();
    if (strncmp(name, KEY, strlen(KEY)) != 0) return;
    struct trial_record *r = json_read(json, len, &v) ? stored(d, (uint64_t)value_get_number(&v, "wall_ms", 0), &v) : NULL;
    if (!r) {
        value_clear(&v);
        return;
    }
    value_clear(&r->left);
    r->left = v;
}

/* --- the text that served --------------------------------------------------------------------------------------- */

static struct policy_version *load_kept(const struct daemon *d, const struct trial_record *r, const char *path)
{
    struct policy_source sources[SOURCES_MAX];
    const struct value *list = value_get(&r->left, "sources");
    struct problems problems;
    uint32_t count = 0;
    for (uint32_t i = 0; list && list->kind == VALUE_TABLE && i < list->table->count && count < SOURCES_MAX; i++) {
        const struct value *one = &list->table->pairs[i].value, *text = value_get(one, "text");
        const char *name = value_get_text(one, "name");
        if (!name || !text || text->kind != VALUE_STRING) continue;
        sources[count++] = (struct policy_source){ .name = name, .text = text->string.bytes, .len = text->string.len };
    }
    if (!count) return NULL;
    struct policy_load load = { .name = r->policy,
                                .path = path,
                                .version = (uint32_t)value_get_number(&r->left, "serves", 1),
                                .seed = d->seed,
                                .given = sources,
                                .given_count = count };
    problems_init(&problems);
    struct policy_version *v = policy_load(&load, &problems);
    problems_deinit(&problems);
    return v;
}

/* All connections of roster->versions[k], or none. */
static bool put_back(struct daemon *d, uint32_t k, struct policy_version *v)
{
    struct roster *roster = &d->roster;
    const uint32_t count = roster->config.connection_count;
    struct policy_build **builds = calloc(count + 1, sizeof *builds);
    struct problems problems;
    bool ok = true;
    ASSERT(builds != NULL);
    problems_init(&problems);
    for (uint32_t i = 0; ok && i < count; i++) {
        const struct config_connection *c = &roster->config.connections[i];
        if (strcmp(c->policy, roster->names[k]) != 0) continue;
        builds[i] = policy_build_create(v, &c->settings, c->file, &problems);
        ok = builds[i] && builds[i]->identity == roster->who[i].identity && builds[i]->account == roster->who[i].account;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!builds[i]) continue;
        policy_build_destroy(ok ? roster->builds[i] : builds[i]);
        if (ok) roster->builds[i] = builds[i];
    }
    if (ok) {
        policy_unref(roster->versions[k]);
        roster->versions[k] = policy_ref(v);
    }
    problems_deinit(&problems);
    free(builds);
    return ok;
}

void daemon__trials_restore(struct daemon *d)
{
    char at[TIMESTAMP_TEXT_MAX];
    for (uint32_t i = 0; i < d->trial_count; i++) {
        struct trial_record *r = &d->trials[i];
        uint32_t k = 0;
        while (k < d->roster.version_count && strcmp(d->roster.names[k], r->policy) != 0) k++;
        if ((!r->left_trying && !r->left_refused) || r->left.kind != VALUE_TABLE) continue;
        const struct policy_version *of_file = k < d->roster.version_count ? d->roster.versions[k] : NULL;
        if (!of_file || policy_text_hash(of_file) != r->left_hash) { /* somebody saw to it; or nobody runs it any more */
            daemon__trial_keep(d, r, "over", r->left_hash, NULL);
            r->left_trying = r->left_refused = false;
            continue;
        }
        text_copy(r->path, sizeof r->path, policy_path(of_file), strlen(policy_path(of_file)));
        struct policy_version *v = load_kept(d, r, r->path);
        bool back = v && put_back(d, k, v);
        if (back) {
            r->version = r->newest = (uint32_t)value_get_number(&r->left, "version", 2);
            r->serves = policy_version_number(v);
            r->outcome = (enum trial_outcome)value_get_number(&r->left, "outcome", 0);
            r->asked = value_get(&r->left, "asked") && value_get(&r->left, "asked")->boolean;
        }
        if (back && r->left_refused) {
            r->refused = r->left_hash;
            log_printf(d->options.log, LOG_WARNING, NULL,
                       "policy %s: %.200s is NOT what runs: it has the text that was taken back at %s; v%u goes on", r->policy, r->path,
                       timestamp_format(r->wall_ms, at), r->serves);
        } else if (back) {
            d->trial_cut = true;
            log_printf(d->options.log, LOG_WARNING, NULL,
                       "policy %s: its version was on trial when the process before ended: v%u goes on, and the trial begins anew", r->policy,
                       r->serves);
        }
        if (back) r->left_trying = r->left_refused = false;
        policy_unref(v);
        value_clear(&r->left);
    }
}

static const struct policy_version *version_of(const struct daemon *d, const char *policy)
{
    const struct policy_version *v = roster_policy(&d->roster, policy);
    for (uint32_t i = 0; i < d->added_count && !v; i++) {
        if (strcmp(policy_name(d->added[i].version), policy) == 0) v = d->added[i].version;
    }
    return v;
}

void daemon__trials_started(struct daemon *d)
{
    char at[TIMESTAMP_TEXT_MAX];
    for (uint32_t i = 0; i < d->trial_count; i++) {
        struct trial_record *r = &d->trials[i];
        const struct policy_version *v = version_of(d, r->policy);
        if (!v || policy_text_hash(v) != r->left_hash) continue;
        if (r->left_trying) {
            log_printf(d->options.log, LOG_ALARM, NULL,
                       "policy %s: its version was on trial when the process before ended: the trial was cut, and it runs everywhere",
                       r->policy);
            daemon__trial_keep(d, r, "over", r->left_hash, NULL);
        } else if (r->left_refused) {
            log_printf(d->options.log, LOG_ALARM, NULL,
                       "policy %s: %.200s is the text that was taken back at %s: %.300s; it runs everywhere since this start", r->policy,
                       policy_path(v), timestamp_format(r->wall_ms, at), r->why);
        }
    }
    if (d->trial_cut) daemon__reload_all(d, "a trial was cut");
    d->trial_cut = false;
}
