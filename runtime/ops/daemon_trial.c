/* Trials of the daemon: what a reload found in a policy's file and may not run everywhere at once. The runtime tries,
 * counts and swaps (runtime/trials.h); here is what the daemon makes of the end: the version that the roster names, and
 * the memory of a text that was taken back, which is not tried again until it changes or somebody says --again. */
#include "ops/daemon_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/duration.h"
#include "base/text.h"

#define FILE_BACK "its file has the text of before again"

static struct trial_record *record_find(const struct daemon *d, const char *policy)
{
    for (uint32_t i = 0; i < d->trial_count; i++) {
        if (strcmp(d->trials[i].policy, policy) == 0) return &d->trials[i];
    }
    return NULL;
}

struct trial_record *daemon__trial_record(struct daemon *d, const char *policy)
{
    struct trial_record *found = record_find(d, policy);
    if (found) return found;
    d->trials = realloc(d->trials, (d->trial_count + 1) * sizeof *d->trials);
    ASSERT(d->trials != NULL);
    struct trial_record *r = &d->trials[d->trial_count++];
    memset(r, 0, sizeof *r);
    r->left = value_nil();
    text_copy(r->policy, sizeof r->policy, policy, strlen(policy));
    return r;
}

void daemon__trials_deinit(struct daemon *d)
{
    for (uint32_t i = 0; i < d->trial_count; i++) value_clear(&d->trials[i].left);
    free(d->trials);
    d->trials = NULL;
    d->trial_count = 0;
}

void daemon__trial_running(const struct daemon *d, struct roster_running *one)
{
    const struct policy_version *after = runtime_trial_after(d->rt, one->name);
    const struct trial_record *r = record_find(d, one->name);
    if (after) one->trying = policy_text_hash(after);
    if (r && r->newest > one->number) one->number = r->newest;
    if (r && !d->reloading.how.again) one->refused = r->refused;
}

static bool is_trying(const struct daemon *d, const struct policy_version *v)
{
    const struct policy_version *after = runtime_trial_after(d->rt, policy_name(v));
    return after && policy_text_hash(after) == policy_text_hash(v);
}

/* --- the settings of a connection, and a build of them ------------------------------------------------------------ */

static const struct config_connection *config_of(const struct daemon *d, const char *name)
{
    const struct config_connection *c = config_connection_find(&d->roster.config, name);
    for (uint32_t i = 0; i < d->added_count && !c; i++) {
        if (strcmp(d->added[i].config.name, name) == 0) c = &d->added[i].config;
    }
    return c;
}

static struct policy_build *build(void *self, struct handle conn, const char *name, struct policy_version *version)
{
    struct daemon *d = self;
    const struct config_connection *c = config_of(d, name);
    struct connection_view view;
    struct problems problems;
    if (!c || strcmp(c->policy, policy_name(version)) != 0 || !runtime_view(d->rt, conn, &view)) return NULL;
    problems_init(&problems);
    struct policy_build *b = policy_build_create(version, &c->settings, c->file, &problems);
    problems_deinit(&problems);
    if (b && b->identity && (b->identity != view.engine.identity || (b->account && b->account != view.engine.account))) {
        policy_build_destroy(b); /* it is being replaced by one of its own name */
        return NULL;
    }
    const struct config *file = &d->roster.config;
    bool of_file = c >= file->connections && c < file->connections + file->connection_count;
    const struct added *a = of_file ? NULL : daemon__added_find(d, name);
    if (b) daemon__proof_note(d, conn, version, of_file ? d->roster.who[c - file->connections].overlay : a ? a->overlay : 0);
    return b;
}

static enum trial_liking liking(void *self, const char *name)
{
    const struct config_connection *c = config_of(self, name);
    return !c ? TRIAL_NEVER : c->trial < 0 ? TRIAL_NEVER : c->trial > 0 ? TRIAL_FIRST : TRIAL_ANY;
}

/* --- the end of one ------------------------------------------------------------------------------------------------- */

/* Whoever waits for its namesake's end has a build already. */
static void waiting_rebuild(struct daemon *d, const char *policy, struct policy_version *v)
{
    struct problems problems;
    problems_init(&problems);
    for (uint32_t i = 0; i < d->to_add_count; i++) {
        const uint32_t index = d->to_add[i];
        if (strcmp(d->roster.config.connections[index].policy, policy) != 0 || !d->roster.builds[index]) continue;
        struct policy_build *b = policy_build_create(v, &d->roster.config.connections[index].settings, "", &problems);
        if (!b) continue;
        policy_build_destroy(roster_take(&d->roster, index));
        d->roster.builds[index] = b;
    }
    problems_deinit(&problems);
}

static void adopted(struct daemon *d, const char *policy, struct policy_version *v)
{
    struct problems problems;
    problems_init(&problems);
    for (uint32_t k = 0; k < d->roster.version_count; k++) {
        if (strcmp(d->roster.names[k], policy) != 0) continue;
        policy_unref(d->roster.versions[k]);
        d->roster.versions[k] = policy_ref(v);
    }
    waiting_rebuild(d, policy, v);
    for (uint32_t i = 0; i < d->added_count; i++) {
        struct added *a = &d->added[i];
        if (strcmp(policy_name(a->version), policy) != 0 || a->version == v) continue;
        policy_unref(a->version);
        a->version = policy_ref(v);
        struct policy_build *b = a->build ? policy_build_create(v, &a->config.settings, "", &problems) : NULL;
        if (!b) continue;
        policy_build_destroy(a->build);
        a->build = b;
    }
    problems_deinit(&problems);
}

static void over(void *self, const struct trial_over *o)
{
    struct daemon *d = self;
    struct trial_record *r = daemon__trial_record(d, o->policy);
    r->refused = 0;
    if (o->end == TRIAL_ADOPTED) {
        adopted(d, o->policy, o->after);
        daemon__trial_keep(d, r, "over", policy_text_hash(o->after), NULL);
        return;
    }
    if (o->asked && strcmp(o->why, FILE_BACK) == 0) {
        daemon__trial_keep(d, r, "over", policy_text_hash(o->after), NULL);
        return;
    }
    struct clock now = runtime_clock(d->rt);
    r->refused = policy_text_hash(o->after);
    r->version = policy_version_number(o->after);
    r->serves = policy_version_number(o->before);
    r->wall_ms = now.wall_ms;
    r->outcome = o->outcome;
    r->asked = o->asked;
    text_copy(r->path, sizeof r->path, policy_path(o->after), strlen(policy_path(o->after)));
    text_copy(r->why, sizeof r->why, o->why, strlen(o->why));
    daemon__trial_keep(d, r, "taken_back", r->refused, o->before);
    log_printf(d->options.log, LOG_ALARM, NULL,
               "policy %s: %.200s is NOT what runs: v%u of it was taken back; put the old text back, or change it%s", r->policy,
               r->path, r->version, daemon__store_is_durable(d) ? "" : "; a restart would run it");
}

/* --- around a reload -------------------------------------------------------------------------------------------------- */

void daemon__trials_forget(struct daemon *d)
{
    for (uint32_t k = 0; k < d->roster.version_count; k++) {
        if (d->roster.texts[k] != ROSTER_TEXT_NEW) continue;
        runtime_trial_forget(d->rt, d->roster.names[k]);
        struct trial_record *r = record_find(d, d->roster.names[k]);
        if (r && r->refused) daemon__trial_keep(d, r, "over", r->refused, NULL);
        if (r) r->refused = 0;
        if (r && policy_version_number(d->roster.versions[k]) > r->newest)
            r->newest = policy_version_number(d->roster.versions[k]);
    }
}

static void begin(struct daemon *d, struct policy_version *before, struct policy_version *after)
{
    struct trial_record *r = daemon__trial_record(d, policy_name(after));
    struct trial_wish wish = { .before = before,
                               .after = after,
                               .share = d->roster.config.trial.share,
                               .watch_ms = d->roster.config.trial.watch_ms,
                               .rehearse = d->roster.config.trial.rehearse,
                               .self = d,
                               .build = build,
                               .liking = liking,
                               .over = over };
    r->refused = 0;
    r->newest = policy_version_number(after);
    r->version = policy_version_number(after);
    r->serves = policy_version_number(before);
    if (runtime_trial_begin(d->rt, &wish)) daemon__trial_keep(d, r, "trying", policy_text_hash(after), before);
}

static void taken_back_tell(struct daemon *d, const struct trial_record *r)
{
    char text[TRIAL_WHY_MAX + 400], at[TIMESTAMP_TEXT_MAX];
    snprintf(text, sizeof text,
             "policy %s: its file still has the text that was taken back at %s, so v%u goes on: %s; `holdfast reload --again %s` "
             "tries it once more", r->policy, timestamp_format(r->wall_ms, at), r->serves, r->why, r->policy);
    daemon__reload_say(d, LOG_WARNING, text);
}

void daemon__trials_begin(struct daemon *d)
{
    struct roster *now = &d->roster;
    for (uint32_t k = 0; k < now->version_count; k++) {
        const char *policy = now->names[k];
        struct trial_record *r = record_find(d, policy);
        switch (now->texts[k]) {
        case ROSTER_TEXT_NEW:
        case ROSTER_TEXT_UNREAD: break;
        case ROSTER_TEXT_AS_BEFORE:
            runtime_trial_end(d->rt, policy, TRIAL_TAKEN_BACK, FILE_BACK);
            if (r && r->refused) daemon__trial_keep(d, r, "over", r->refused, NULL);
            if (r) r->refused = 0;
            break;
        case ROSTER_TEXT_TAKEN_BACK:
            runtime_trial_end(d->rt, policy, TRIAL_TAKEN_BACK, FILE_BACK); /* a third text's, that is gone again */
            if (r) taken_back_tell(d, r);
            break;
        case ROSTER_TEXT_TO_TRY: {
            struct policy_version *candidate = now->candidates[k];
            now->candidates[k] = NULL;
            if (!is_trying(d, candidate)) begin(d, now->versions[k], candidate);
            policy_unref(candidate);
            break;
        }
        }
        runtime_trial_align(d->rt, policy);
    }
}

void daemon__trial_refused_hint(struct daemon *d)
{
    const struct roster *next = &d->reloading.next;
    bool tries = false;
    for (uint32_t k = 0; k < next->version_count; k++) tries = tries || next->candidates[k];
    if (!tries) return;
    daemon__reload_say(d, LOG_WARNING,
                       "a version on trial must be able to go: settings have to fit the one that serves as well. Change the "
                       "policy first and the settings once it is adopted, or use `holdfast reload --now`");
}

/* --- words of people ---------------------------------------------------------------------------------------------------- */

enum ops_reloaded daemon__trial_order(struct daemon *d, const struct ops_reload *wish, struct buffer *out)
{
    const char *policy = wish->adopt ? wish->adopt : wish->take_back;
    char text[256];
    if (d->reloading.phase != RELOAD_IDLE && d->reloading.phase != RELOAD_PROVING) {
        snprintf(text, sizeof text, "a reload is under way: ask again when it is over");
    } else if (runtime_trial_end(d->rt, policy, wish->adopt ? TRIAL_ADOPTED : TRIAL_TAKEN_BACK, "an operator wished so")) {
        return OPS_RELOAD_DONE;
    } else {
        snprintf(text, sizeof text, "no version of a policy `%.64s` is on trial", policy);
    }
    if (out) buffer_printf(out, "%s\n", text);
    return OPS_RELOAD_REFUSED;
}

bool daemon__trial_forbids(const struct daemon *d, char *why, size_t why_bytes)
{
    struct runtime_trial t;
    for (uint32_t i = 0; runtime_trial_next(d->rt, &i, &t); i++) {
        snprintf(why, why_bytes, "v%u of policy %s is on trial, and the new process would run it everywhere", t.after, t.policy);
        return true;
    }
    for (uint32_t i = 0; i < d->trial_count; i++) {
        const struct trial_record *r = &d->trials[i];
        if (!r->refused || daemon__store_is_durable(d)) continue;
        snprintf(why, why_bytes, "v%u of policy %s was taken back and is still in its file: the new process would run it",
                 r->version, r->policy);
        return true;
    }
    return false;
}

static bool record_json(struct buffer *out, const struct trial_record *r, bool first)
{
    char at[TIMESTAMP_TEXT_MAX];
    return buffer_printf(out, "%s{\"policy\":", first ? "" : ",") && text_json_string(out, r->policy, strlen(r->policy)) &&
           buffer_append_text(out, ",\"file\":") && text_json_string(out, r->path, strlen(r->path)) &&
           buffer_printf(out, ",\"version\":%" PRIu32 ",\"serves\":%" PRIu32 ",\"at\":\"%s\",\"verdict\":\"%s\",\"why\":", r->version,
                         r->serves, timestamp_format(r->wall_ms, at), r->asked ? "asked" : trial_outcome_name(r->outcome)) &&
           text_json_string(out, r->why, strlen(r->why)) && buffer_append_char(out, '}');
}

/* An array that found no room is not closed, and so no JSON for anybody. */
uint32_t daemon__taken_back(void *self, struct buffer *out)
{
    const struct daemon *d = self;
    uint32_t count = 0;
    bool ok = out && buffer_append_char(out, '[');
    for (uint32_t i = 0; i < d->trial_count; i++) {
        if (!d->trials[i].refused) continue;
        ok = ok && record_json(out, &d->trials[i], count == 0);
        count++;
    }
    if (ok) buffer_append_char(out, ']');
    return count;
}
