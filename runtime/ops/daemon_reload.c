/* Reload: reads configuration and policies again and changes what differs. Whatever is wrong with the new
 * ones, all of the old goes on. Live links stay open: a connection gets another build, unless what changed
 * is who it is or how it dials; then it is replaced. */
#include "ops/daemon_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/text.h"

static bool text_same(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static void problems_tell(struct daemon *d, const struct problems *problems, struct buffer *out)
{
    char text[1024];
    for (uint32_t i = 0; i < problems->count; i++) {
        problem_format(&problems->items[i], text, sizeof text);
        log_line(d->options.log, LOG_WARNING, NULL, text);
        if (!out) continue;
        buffer_append_text(out, text);
        buffer_append_char(out, '\n');
    }
}

bool daemon__dials_the_same(const struct config_connection *a, const struct config_connection *b)
{
    return strcmp(a->owner, b->owner) == 0 && text_same(a->ca_file, b->ca_file) && text_same(a->proxy, b->proxy) &&
           text_same(a->proxy_authorization, b->proxy_authorization) && a->plain == b->plain;
}

static void pending_add(struct daemon *d, const char *name)
{
    d->to_add = realloc(d->to_add, (d->to_add_count + 1) * sizeof *d->to_add);
    ASSERT(d->to_add != NULL);
    text_copy(d->to_add[d->to_add_count++], CONFIG_NAME_MAX, name, strlen(name));
}

void daemon__add_pending(struct daemon *d)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < d->to_add_count; i++) {
        const char *name = d->to_add[i];
        const struct config_connection *c = config_connection_find(&d->roster.config, name);
        if (!c) continue; /* a later reload took it back */
        if (!handle_is_none(runtime_find(d->rt, name))) {
            if (kept != i) memcpy(d->to_add[kept], d->to_add[i], sizeof d->to_add[i]);
            kept++;
            continue;
        }
        uint32_t index = (uint32_t)(c - d->roster.config.connections);
        struct policy_build *build = roster_take(&d->roster, index);
        ASSERT(build != NULL);
        if (daemon__add(d, index, build)) log_line(d->options.log, LOG_INFO, name, "added");
    }
    d->to_add_count = kept;
}

/* True when the connection changed in any way. */
static bool connection_change(struct daemon *d, struct roster *next, uint32_t index)
{
    const struct config_connection *c = &next->config.connections[index];
    const struct config_connection *old = config_connection_find(&d->roster.config, c->name);
    struct handle h = runtime_find(d->rt, c->name);
    struct connection_view view;
    struct policy_build *build = next->builds[index];
    if (!old || handle_is_none(h) || !runtime_view(d->rt, h, &view)) {
        pending_add(d, c->name);
        return true;
    }
    if (view.engine.identity != build->identity || view.engine.account != build->account ||
        !daemon__dials_the_same(old, c)) {
        log_line(d->options.log, LOG_INFO, c->name, "is replaced: its identity or the way it dials changed");
        runtime_remove(d->rt, h);
        pending_add(d, c->name);
        return true;
    }
    bool same = view.policy_version == policy_version_number(build->version) &&
                strcmp(view.policy, policy_name(build->version)) == 0 &&
                value_equal(&old->settings, &c->settings);
    if (same) {
        policy_build_destroy(roster_take(next, index));
        return false;
    }
    log_printf(d->options.log, LOG_INFO, c->name, "goes on with %s v%u", policy_name(build->version),
               policy_version_number(build->version));
    const struct policy_version *version = build->version;
    runtime_swap(d->rt, h, roster_take(next, index));
    daemon__proof_note(d, h, version);
    /* A verdict's stop waits for an operator or new credentials: other settings may be those. */
    if (view.engine.stop_is_fatal && !value_equal(&old->settings, &c->settings)) {
        log_line(d->options.log, LOG_INFO, c->name, "starts again: its settings changed");
        runtime_start(d->rt, h);
    }
    return true;
}

static void listeners_compare(struct daemon *d, const struct config *next)
{
    const struct config *now = &d->roster.config;
    bool same = text_same(now->listen.unix_path, next->listen.unix_path) &&
                now->listen.http == next->listen.http && now->listen.http_port == next->listen.http_port &&
                strcmp(now->listen.http_host, next->listen.http_host) == 0;
    if (!same) log_line(d->options.log, LOG_WARNING, NULL, "listen changed: that needs a restart");
}

/* NULL means all. An error with the nearest name when no connection is by it. */
static bool policy_is_used(const struct daemon *d, const char *policy, struct problems *problems)
{
    uint32_t count = 0;
    const char **names = calloc(d->roster.version_count + d->added_count + 1, sizeof *names);
    ASSERT(names != NULL);
    bool used = policy == NULL;
    for (uint32_t i = 0; i < d->roster.version_count; i++) names[count++] = policy_name(d->roster.versions[i]);
    for (uint32_t i = 0; i < d->added_count; i++) names[count++] = policy_name(d->added[i].version);
    for (uint32_t i = 0; i < count && !used; i++) used = strcmp(names[i], policy) == 0;
    if (!used) {
        const char *near = text_nearest(policy, names, count);
        problems_add(problems, false, "", 0, "", "no connection uses a policy `%.64s`%s%s%s", policy,
                     near ? "; did you mean `" : "", near ? near : "", near ? "`?" : "");
    }
    free(names);
    return used;
}

static enum ops_reloaded reload(struct daemon *d, const char *policy, bool unproven, struct buffer *out);
static void on_proven(void *self, const struct gate_run *run);

/* ---- what was proven ----------------------------------------------------------------------------------- */

static const struct proven *proven_find(const struct daemon *d, const struct policy_version *v)
{
    for (uint32_t i = 0; i < PROVEN_MAX; i++) {
        const struct proven *p = &d->reloading.proven[i];
        if (p->name[0] && p->hash == policy_text_hash(v) && strcmp(p->name, policy_name(v)) == 0) return p;
    }
    return NULL;
}

static void proven_add(struct daemon *d, const char *name, uint64_t hash, bool capped, bool unproven)
{
    struct proven *p = &d->reloading.proven[d->reloading.proven_next++ % PROVEN_MAX];
    *p = (struct proven){ .hash = hash, .capped = capped, .unproven = unproven };
    text_copy(p->name, sizeof p->name, name, strlen(name));
}

static void hash_text_of(const struct policy_version *v, char out[24])
{
    snprintf(out, 24, "%016llx", (unsigned long long)policy_text_hash(v));
}

/* Adds it, unless it runs already, was proven, or is in the list. */
static void wants_proof(const struct daemon *d, const struct policy_version *v, struct gate_run *run,
                        bool runs)
{
    if (runs || proven_find(d, v) || run->count == GATE_POLICIES_MAX) return;
    for (uint32_t i = 0; i < run->count; i++) {
        if (strcmp(run->policies[i].name, policy_name(v)) == 0) return;
    }
    struct gate_policy *p = &run->policies[run->count++];
    memset(p, 0, sizeof *p);
    text_copy(p->name, sizeof p->name, policy_name(v), strlen(policy_name(v)));
    text_copy(p->path, sizeof p->path, policy_path(v), strlen(policy_path(v)));
    hash_text_of(v, p->hash);
}

static void collect(const struct daemon *d, const struct roster *next, struct policy_build **added,
                    struct gate_run *run)
{
    for (uint32_t i = 0; i < next->version_count; i++) {
        struct policy_version *v = next->versions[i];
        wants_proof(d, v, run, roster_policy(&d->roster, policy_name(v)) == v);
    }
    for (uint32_t i = 0; i < d->added_count; i++) {
        if (!added[i]) continue;
        struct policy_version *v = added[i]->version;
        bool runs = d->added[i].version == v || roster_policy(&d->roster, policy_name(v)) == v;
        wants_proof(d, v, run, runs);
    }
}

/* ---- the gate ------------------------------------------------------------------------------------------- */

static void say(struct daemon *d, enum log_level level, struct buffer *out, const char *text)
{
    log_line(d->options.log, level, NULL, text);
    if (!out) return;
    buffer_append_text(out, text);
    buffer_append_char(out, '\n');
}

/* Nothing is changed yet: what was read is read again once it is proven. */
static bool gate_begin(struct daemon *d, struct gate_run *run)
{
    char names[400];
    size_t at = 0;
    run->cap_ms = d->roster.config.prove_ms;
    run->done = on_proven;
    run->self = d;
    for (uint32_t i = 0; i < run->count && at < sizeof names; i++) {
        at += (size_t)snprintf(names + at, sizeof names - at, "%s%s", i ? ", " : "", run->policies[i].name);
    }
    d->reloading.gate = gate_start(&d->loop, run);
    if (!d->reloading.gate) return false;
    log_printf(d->options.log, LOG_INFO, NULL, "proving %s before it is taken; what runs goes on", names);
    return true;
}

/* True when all may be taken. */
static bool judge(struct daemon *d, const struct gate_run *run, struct buffer *out)
{
    char text[1400];
    bool good = true;
    for (uint32_t i = 0; i < run->count; i++) {
        const struct gate_policy *p = &run->policies[i];
        if (p->refused) {
            snprintf(text, sizeof text, "policy %s: refused: %s; `holdfast prove %s` tells more", p->name, p->text,
                     p->path);
            say(d, LOG_WARNING, out, text);
            good = false;
        } else if (!p->changed) {
            proven_add(d, p->name, strtoull(p->hash, NULL, 16), p->capped, false);
            snprintf(text, sizeof text, "policy %s: %s, %u schedules of faults", p->name,
                     p->capped ? "not fully proven: the time was over" : "proven", p->schedules);
            if (p->capped) say(d, LOG_WARNING, out, text);
            else log_line(d->options.log, LOG_INFO, NULL, text);
        }
    }
    return good;
}

static void refused_tell(struct daemon *d)
{
    log_line(d->options.log, LOG_WARNING, NULL, "reload refused: everything goes on as it was");
}

static void on_proven(void *self, const struct gate_run *run)
{
    struct daemon *d = self;
    struct reloading *r = &d->reloading;
    struct buffer out;
    enum ops_reloaded result = OPS_RELOAD_REFUSED;
    buffer_init(&out, 1 << 20);
    if (d->stopping) {
        say(d, LOG_WARNING, &out, "reload refused: holdfast is closing its links");
    } else if (judge(d, run, &out)) {
        struct gate *over = r->gate;
        r->gate = NULL;
        r->tries++;
        result = reload(d, r->policy[0] ? r->policy : NULL, false, &out);
        gate_destroy(over);
        if (result == OPS_RELOAD_LATER) {
            buffer_deinit(&out); /* another text by now: that one is being proven */
            return;
        }
    } else {
        refused_tell(d);
    }
    gate_destroy(r->gate);
    r->gate = NULL;
    r->tries = 0;
    ops_reload_answer(d->ops, result == OPS_RELOAD_DONE, &out);
    buffer_deinit(&out);
    notify_ready(&d->notify);
    if (!r->again || d->stopping) return;
    r->again = false;
    daemon__reload_all(d, "it was asked for meanwhile");
}

void daemon__reload_deinit(struct daemon *d)
{
    file_watch_destroy(d->watch);
    d->watch = NULL;
    gate_destroy(d->reloading.gate);
    d->reloading.gate = NULL;
}

/* ---- begin ----------------------------------------------------------------------------------------------- */

/* The service manager hears that it begins and that it ended, whatever came of it. */
enum ops_reloaded daemon__reload(void *self, const struct ops_reload *wish, struct buffer *out)
{
    struct daemon *d = self;
    struct reloading *r = &d->reloading;
    const struct buffer nothing = { 0 };
    if (r->gate && wish->unproven) {
        gate_destroy(r->gate); /* who waited for it is answered by what comes of this one */
        r->gate = NULL;
    } else if (r->gate && (!r->policy[0] || (wish->policy && strcmp(wish->policy, r->policy) == 0))) {
        return OPS_RELOAD_LATER; /* all is read again at its end: that is an answer to this one too */
    } else if (r->gate) {
        say(d, LOG_WARNING, out, "another reload is being proven: wait for its end");
        return OPS_RELOAD_REFUSED;
    }
    const char *policy = wish->policy ? wish->policy : "";
    text_copy(r->policy, sizeof r->policy, policy, strlen(policy));
    r->tries = 0;
    notify_reloading(&d->notify);
    enum ops_reloaded result = reload(d, wish->policy, wish->unproven, out);
    if (result == OPS_RELOAD_LATER) return result;
    ops_reload_answer(d->ops, result == OPS_RELOAD_DONE, out ? out : &nothing);
    notify_ready(&d->notify);
    return result;
}

void daemon__reload_all(struct daemon *d, const char *why)
{
    if (d->reloading.gate) {
        d->reloading.again = true;
        return;
    }
    struct ops_reload wish = { 0 };
    log_printf(d->options.log, LOG_DEBUG, NULL, "reload: %s", why);
    daemon__reload(d, &wish, NULL);
}

/* ---- files ------------------------------------------------------------------------------------------------ */

static void on_files_changed(void *self)
{
    struct daemon *d = self;
    if (d->stopping) return;
    log_line(d->options.log, LOG_INFO, NULL, "files changed: reading configuration and policies again");
    daemon__reload_all(d, "files changed");
}

/* A relative path is one from where the process stands. */
static void path_add(struct file_watch_path *paths, uint32_t *count, char *text, size_t *at, size_t bytes,
                     const char *path, bool beside)
{
    char cwd[PATH_MAX];
    if (*count == FILE_WATCH_PATHS_MAX) return;
    if (path[0] != '/' && !getcwd(cwd, sizeof cwd)) return;
    int n = snprintf(text + *at, bytes - *at, "%s%s%s", path[0] == '/' ? "" : cwd, path[0] == '/' ? "" : "/", path);
    if (n < 0 || (size_t)n >= bytes - *at) return;
    paths[(*count)++] = (struct file_watch_path){ text + *at, beside };
    *at += (size_t)n + 1;
}

void daemon__watch(struct daemon *d)
{
    const size_t bytes = (size_t)FILE_WATCH_PATHS_MAX * 512;
    struct file_watch_path paths[FILE_WATCH_PATHS_MAX];
    uint32_t count = 0;
    size_t at = 0;
    if (!d->roster.config.watch) {
        file_watch_destroy(d->watch);
        d->watch = NULL;
        return;
    }
    char *text = malloc(bytes);
    ASSERT(text != NULL);
    path_add(paths, &count, text, &at, bytes, d->roster.config.path, false);
    for (uint32_t i = 0; i < d->roster.version_count; i++) {
        path_add(paths, &count, text, &at, bytes, policy_path(d->roster.versions[i]), true);
    }
    for (uint32_t i = 0; i < d->added_count; i++) {
        if (roster_policy(&d->roster, policy_name(d->added[i].version))) continue;
        path_add(paths, &count, text, &at, bytes, policy_path(d->added[i].version), true);
    }
    if (!d->watch) d->watch = file_watch_create(&d->loop, on_files_changed, d);
    file_watch_set(d->watch, paths, count);
    free(text);
}

/* What an operator or the clock let past the gate is in the journal of each that runs it. */
void daemon__proof_note(struct daemon *d, struct handle h, const struct policy_version *v)
{
    const struct proven *p = proven_find(d, v);
    if (!p || (!p->capped && !p->unproven)) return;
    runtime_note(d->rt, h, p->unproven ? "goes on with a version that is unproven, because an operator wished so"
                                       : "goes on with a version that is not fully proven: the time was over");
}

static enum ops_reloaded reload(struct daemon *d, const char *policy, bool unproven, struct buffer *out)
{
    struct problems problems;
    struct roster next;
    problems_init(&problems);
    struct roster_load load = { .path = d->roster.config.path, .before = &d->roster, .only = policy,
                                .seed = d->seed };
    struct policy_build **added = NULL;
    bool ok = policy_is_used(d, policy, &problems) && roster_load(&load, &next, &problems);
    if (ok && !daemon__added_prepare(d, &next, policy, &added, &problems)) {
        roster_deinit(&next);
        ok = false;
    }
    problems_tell(d, &problems, out);
    problems_deinit(&problems);
    if (!ok) {
        refused_tell(d);
        return OPS_RELOAD_REFUSED;
    }
    struct gate_run run = { 0 };
    collect(d, &next, added, &run);
    if (run.count && (unproven || !next.config.prove_ms)) {
        for (uint32_t i = 0; i < run.count; i++) {
            proven_add(d, run.policies[i].name, strtoull(run.policies[i].hash, NULL, 16), false, true);
            log_printf(d->options.log, LOG_WARNING, NULL, "policy %s is taken unproven: %s", run.policies[i].name,
                       unproven ? "an operator wished so" : "the configuration says so");
        }
    } else if (run.count) {
        daemon__added_drop(d, added);
        roster_deinit(&next);
        if (d->reloading.tries < RELOAD_TRIES_MAX && gate_begin(d, &run)) return OPS_RELOAD_LATER;
        say(d, LOG_WARNING, out, "the policies cannot be proven: they change all the time, or no thread can be had");
        refused_tell(d);
        return OPS_RELOAD_REFUSED;
    }
    uint32_t changed = 0, removed = 0;
    struct handle h;
    for (uint32_t i = 0; i < d->roster.config.connection_count; i++) {
        const char *name = d->roster.config.connections[i].name;
        if (config_connection_find(&next.config, name)) continue;
        h = runtime_find(d->rt, name);
        if (handle_is_none(h)) continue;
        log_line(d->options.log, LOG_INFO, name, "is no longer configured: closing");
        runtime_remove(d->rt, h);
        removed++;
    }
    /* Before the file's own: theirs is the name, once the one put over the API is gone. */
    daemon__added_commit(d, &next, added);
    d->to_add_count = 0;
    for (uint32_t i = 0; i < next.config.connection_count; i++) changed += connection_change(d, &next, i);
    listeners_compare(d, &next.config);
    roster_deinit(&d->roster);
    d->roster = next;
    daemon__add_pending(d);
    daemon__watch(d);
    log_printf(d->options.log, LOG_INFO, NULL, "reloaded: %u connection%s changed, %u removed, %u as before",
               changed, changed == 1 ? "" : "s", removed, d->roster.config.connection_count - changed);
    return OPS_RELOAD_DONE;
}
