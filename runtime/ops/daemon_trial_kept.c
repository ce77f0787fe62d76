/* Trials that outlive the process, as far as they can: a start reads the policy files and runs what they hold, so a version
 * that was on trial, or was taken back and is still in its file, runs everywhere from then on. That is said, loudly. What is
 * needed for it stands in the store's journal, where the daemon's own entries are. */
#include "ops/daemon_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/duration.h"
#include "base/text.h"

void daemon__trial_keep(struct daemon *d, const struct trial_record *r, const char *state, uint64_t hash)
{
    struct store store = daemon__store(d);
    struct buffer json;
    buffer_init(&json, 4096);
    bool ok = buffer_append_text(&json, "{\"trial\":") && text_json_string(&json, r->policy, strlen(r->policy)) &&
              buffer_printf(&json, ",\"state\":\"%s\",\"hash\":\"%016" PRIx64 "\",\"why\":", state, hash) &&
              text_json_string(&json, r->why, strlen(r->why)) && buffer_append_char(&json, '}');
    struct store_request request = { .op = STORE_OP_JOURNAL, .wall_ms = runtime_clock(d->rt).wall_ms, .bytes = json.data, .len = json.len };
    if (ok) store.ops->submit(store.self, &request);
    buffer_deinit(&json);
}

void daemon__trial_stored(struct daemon *d, uint64_t wall_ms, const void *json, size_t len)
{
    struct value v = value_nil();
    struct problems problems;
    problems_init(&problems);
    const char *policy = NULL, *state, *hash, *why;
    if (memmem(json, len, "\"trial\"", 7) && config_json_read(json, len, &v, &problems)) policy = value_get_text(&v, "trial");
    if (policy && config_name_is_valid(policy) && (state = value_get_text(&v, "state")) && (hash = value_get_text(&v, "hash"))) {
        struct trial_record *r = daemon__trial_record(d, policy);
        r->left_trying = strcmp(state, "trying") == 0;
        r->left_refused = strcmp(state, "taken_back") == 0;
        r->left_hash = strtoull(hash, NULL, 16);
        r->wall_ms = wall_ms;
        why = value_get_text(&v, "why");
        text_copy(r->why, sizeof r->why, why ? why : "", why ? strlen(why) : 0);
    }
    value_clear(&v);
    problems_deinit(&problems);
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
            daemon__trial_keep(d, r, "over", r->left_hash);
        } else if (r->left_refused) {
            log_printf(d->options.log, LOG_ALARM, NULL,
                       "policy %s: %.200s is the text that was taken back at %s: %.300s; it runs everywhere since this start", r->policy,
                       policy_path(v), timestamp_format(r->wall_ms, at), r->why);
        }
    }
}
