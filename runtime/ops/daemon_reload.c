/* Reload: reads configuration and policies again and changes what differs. Whatever is wrong with the new
 * ones, all of the old goes on. Live links stay open: a connection gets another build, unless what changed
 * is who it is or how it dials; then it is replaced. */
#include "ops/daemon_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    runtime_swap(d->rt, h, roster_take(next, index));
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

static bool reload(struct daemon *d, const char *policy, struct buffer *out);

/* The service manager hears that it begins and that it ended, whatever came of it. */
bool daemon__reload(struct daemon *d, const char *policy, struct buffer *out)
{
    notify_reloading(&d->notify);
    bool done = reload(d, policy, out);
    notify_ready(&d->notify);
    return done;
}

static bool reload(struct daemon *d, const char *policy, struct buffer *out)
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
        log_line(d->options.log, LOG_WARNING, NULL, "reload refused: everything goes on as it was");
        return false;
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
    log_printf(d->options.log, LOG_INFO, NULL, "reloaded: %u connection%s changed, %u removed, %u as before",
               changed, changed == 1 ? "" : "s", removed, d->roster.config.connection_count - changed);
    return true;
}
