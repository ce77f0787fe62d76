/* Swap: gives connections what the next roster has for them, one after the other, in slices of the loop's time. A
 * connection gets another build and keeps its link, unless what changed is who it is or how it dials: then it is
 * replaced. Hooks that run finish on the version that began them. */
#include "ops/daemon_internal.h"

#include <string.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/text.h"

static void on_turn(uv_check_t *handle);
static void on_spin(uv_idle_t *handle);
static bool step(struct daemon *d);
static void swap_now(struct daemon *d);
static void file_one(struct daemon *d, uint32_t index);
static void listeners_compare(struct daemon *d, const struct config *before);

/* ---- slices ---------------------------------------------------------------------------------------------- */

void daemon__swap_wake(struct daemon *d)
{
    struct reloading *r = &d->reloading;
    if (uv_is_active((uv_handle_t *)&r->turn)) return;
    uv_check_start(&r->turn, on_turn);
    uv_idle_start(&r->spin, on_spin);
}

static void on_spin(uv_idle_t *handle)
{
    (void)handle;
}

void daemon__swap_trash(struct daemon *d, struct roster *roster)
{
    struct reloading *r = &d->reloading;
    /* Reloads come faster than the last ones are freed: one of these is paid for at once. */
    if (r->trash_count == RELOAD_TRASH_MAX) roster_deinit(&r->trash[--r->trash_count]);
    r->trash[r->trash_count++] = *roster;
    memset(roster, 0, sizeof *roster);
    daemon__swap_wake(d);
}

/* One piece of work; false: there is none, or not now. */
static bool piece(struct daemon *d, uint64_t until_ns)
{
    struct reloading *r = &d->reloading;
    if (!d->stopping && (r->phase == RELOAD_BUILDING || r->phase == RELOAD_SWAPPING)) return step(d);
    if (!d->stopping && (!daemon__add_pending(d, until_ns) || !daemon__added_pending(d, until_ns))) return true;
    if (r->sweep) {
        r->sweep = daemon__added_sweep_one(d, &r->sweep_at);
        return true;
    }
    if (!r->trash_count) return false;
    if (!roster_drop(&r->trash[r->trash_count - 1])) r->trash_count--;
    return true;
}

static void on_turn(uv_check_t *handle)
{
    struct daemon *d = handle->data;
    struct reloading *r = &d->reloading;
    uint64_t until_ns = uv_hrtime() + r->slice_ns;
    bool more;
    do more = piece(d, until_ns);
    while (more && uv_hrtime() < until_ns);
    if (more) return;
    uv_check_stop(&r->turn);
    uv_idle_stop(&r->spin);
}

/* ---- steps ----------------------------------------------------------------------------------------------- */

void daemon__swap_begin(struct daemon *d)
{
    struct reloading *r = &d->reloading;
    ASSERT(r->phase == RELOAD_BUILDING);
    problems_deinit(&r->problems);
    problems_init(&r->problems);
    r->sweep = r->lacks_proof = false;
    r->step = STEP_BUILD_FILE;
    r->at = r->changed = r->removed = 0;
    daemon__swap_wake(d);
}

static void next_step(struct reloading *r, enum reload_step s)
{
    r->step = s;
    r->at = 0;
}

static bool build_file_one(struct daemon *d)
{
    struct reloading *r = &d->reloading;
    if (r->at < r->next.config.connection_count) {
        if (!roster_is_built(&r->next, r->at)) roster_build(&r->next, r->at, &r->problems);
        r->at++;
        return true;
    }
    /* All twins are told, unless there is worse. */
    if ((!r->problems.errors || r->next.claimed) && roster_claim_next(&r->next, &r->problems)) return true;
    d->added_touched = false;
    next_step(r, STEP_BUILD_ADDED);
    return true;
}

/* Between its last look and the first swap nobody else has a turn. */
static bool build_added_one(struct daemon *d)
{
    struct reloading *r = &d->reloading;
    if (daemon__added_build_one(d, &r->next, &r->at, &r->problems)) return true;
    if (r->problems.errors) daemon__swap_refused(d);
    else if (r->lacks_proof) daemon__swap_unproven(d);
    else swap_now(d);
    return true;
}

/* From here on the new configuration is the one that holds. */
static void swap_now(struct daemon *d)
{
    struct reloading *r = &d->reloading;
    r->phase = RELOAD_SWAPPING;
    r->old = d->roster;
    d->roster = r->next;
    memset(&r->next, 0, sizeof r->next);
    daemon__trials_forget(d);
    d->to_add_count = 0; /* those come again in STEP_SWAP_FILE: who waits has its build in `old` */
    listeners_compare(d, &r->old.config);
    next_step(r, STEP_REMOVE);
}

static bool remove_one(struct daemon *d)
{
    struct reloading *r = &d->reloading;
    if (r->at == r->old.config.connection_count) {
        d->added_touched = false;
        next_step(r, STEP_SWAP_ADDED);
        return true;
    }
    const char *name = r->old.config.connections[r->at++].name;
    if (config_connection_find(&d->roster.config, name)) return true;
    struct handle h = runtime_find(d->rt, name);
    if (handle_is_none(h)) return true;
    log_line(d->options.log, LOG_INFO, name, "is no longer configured: closing");
    runtime_remove(d->rt, h);
    runtime_carry_out(d->rt); /* now, so that this slice pays for it */
    r->removed++;
    return true;
}

static bool step(struct daemon *d)
{
    struct reloading *r = &d->reloading;
    switch (r->step) {
    case STEP_BUILD_FILE: return build_file_one(d);
    case STEP_BUILD_ADDED: return build_added_one(d);
    case STEP_REMOVE: return remove_one(d);
    case STEP_SWAP_ADDED:
        /* Before the file's own: theirs is the name, once the one put over the API is gone. */
        if (!daemon__added_swap_one(d, &r->at)) next_step(r, STEP_SWAP_FILE);
        return true;
    case STEP_SWAP_FILE: break;
    }
    if (r->at < d->roster.config.connection_count) file_one(d, r->at++);
    else daemon__swap_done(d);
    return true;
}

/* ---- one connection of the file -------------------------------------------------------------------------- */

static bool text_same(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

bool daemon__dials_the_same(const struct config_connection *a, const struct config_connection *b)
{
    return strcmp(a->owner, b->owner) == 0 && text_same(a->ca_file, b->ca_file) && text_same(a->proxy, b->proxy) &&
           text_same(a->proxy_authorization, b->proxy_authorization) && a->plain == b->plain;
}

/* It was as before, and must be begun anew all the same: what was good then is good now. */
static bool build_ensure(struct daemon *d, uint32_t index)
{
    struct roster *roster = &d->roster;
    struct problems problems;
    if (roster->builds[index]) return true;
    problems_init(&problems);
    bool ok = roster_build(roster, index, &problems);
    problems_deinit(&problems);
    if (!ok) log_line(d->options.log, LOG_ALARM, roster->config.connections[index].name, "not added: it cannot be built");
    return ok;
}

static void swap_build(struct daemon *d, uint32_t index, struct handle h, const struct config_connection *old)
{
    const struct config_connection *c = &d->roster.config.connections[index];
    struct connection_view view;
    struct policy_build *build = roster_take(&d->roster, index);
    const struct policy_version *version = build->version;
    log_printf(d->options.log, LOG_INFO, c->name, "goes on with %s v%u", policy_name(version),
               policy_version_number(version));
    runtime_swap(d->rt, h, build);
    daemon__proof_note(d, h, version, d->roster.who[index].overlay);
    /* A verdict's stop waits for an operator or new credentials: other settings may be those. */
    if (!runtime_view_facts(d->rt, h, &view) || !view.engine.stop_is_fatal || value_equal(&old->settings, &c->settings)) return;
    log_line(d->options.log, LOG_INFO, c->name, "starts again: its settings changed");
    runtime_start(d->rt, h);
    runtime_carry_out(d->rt);
}

static void file_one(struct daemon *d, uint32_t index)
{
    struct reloading *r = &d->reloading;
    struct roster *next = &d->roster, *before = &r->old;
    const struct config_connection *c = &next->config.connections[index];
    const struct config_connection *old = config_connection_find(&before->config, c->name);
    const struct roster_who *who = &next->who[index];
    struct handle h = runtime_find(d->rt, c->name);
    uint32_t was = old ? (uint32_t)(old - before->config.connections) : 0;
    if (old && before->builds[was]) { /* waits for the end of its namesake, and goes on waiting */
        if (!next->builds[index]) next->builds[index] = roster_take(before, was);
        r->changed += !who->same;
        daemon__add_later(d, index);
        return;
    }
    if (!old || handle_is_none(h)) {
        r->changed++;
        if (build_ensure(d, index)) daemon__add_later(d, index);
        return;
    }
    if (before->who[was].identity != who->identity || before->who[was].account != who->account ||
        !daemon__dials_the_same(old, c)) {
        r->changed++;
        log_line(d->options.log, LOG_INFO, c->name, "is replaced: its identity or the way it dials changed");
        runtime_remove(d->rt, h);
        runtime_carry_out(d->rt);
        if (build_ensure(d, index)) daemon__add_later(d, index);
        return;
    }
    if (who->same) return;
    r->changed++;
    swap_build(d, index, h, old);
}

/* ---- those whose namesake must be gone first --------------------------------------------------------------- */

void daemon__add_later(struct daemon *d, uint32_t index)
{
    ASSERT(d->roster.builds[index] != NULL);
    if (d->to_add_count == d->to_add_room) {
        d->to_add_room = d->to_add_room ? d->to_add_room * 2 : 16;
        d->to_add = realloc(d->to_add, d->to_add_room * sizeof *d->to_add);
        ASSERT(d->to_add != NULL);
    }
    d->to_add[d->to_add_count++] = index;
}

/* While SWAPPING, too: what is listed is of the roster that holds. */
bool daemon__add_pending(struct daemon *d, uint64_t until_ns)
{
    uint32_t kept = 0, i = 0;
    bool late = false;
    for (; i < d->to_add_count && !late; i++) {
        uint32_t index = d->to_add[i];
        const char *name = d->roster.config.connections[index].name;
        uint64_t identity = d->roster.who[index].identity;
        /* Whose name or identity it takes is on the way out: the file has only one of each. */
        if (!handle_is_none(runtime_find(d->rt, name)) ||
            (identity && !handle_is_none(runtime_owner(d->rt, identity)))) {
            d->to_add[kept++] = index;
            continue;
        }
        if (daemon__add(d, index, roster_take(&d->roster, index))) log_line(d->options.log, LOG_INFO, name, "added");
        runtime_carry_out(d->rt);
        late = uv_hrtime() >= until_ns;
    }
    if (kept != i) memmove(d->to_add + kept, d->to_add + i, (d->to_add_count - i) * sizeof *d->to_add);
    d->to_add_count -= i - kept;
    return i - kept == 0 || !late;
}

static bool tokens_same(const struct config_listen *a, const struct config_listen *b)
{
    bool same = a->token_count == b->token_count;
    for (uint32_t i = 0; same && i < a->token_count; i++) {
        size_t len, other_len;
        const char *bytes = secret_bytes(a->tokens[i].secret, &len), *other = secret_bytes(b->tokens[i].secret, &other_len);
        same = a->tokens[i].scopes == b->tokens[i].scopes && strcmp(a->tokens[i].consumer, b->tokens[i].consumer) == 0 &&
               len == other_len && memcmp(bytes, other, len) == 0;
    }
    return same;
}

static void listeners_compare(struct daemon *d, const struct config *before)
{
    const struct config_listen *now = &d->roster.config.listen, *then = &before->listen;
    bool same = text_same(now->unix_path, then->unix_path) && now->http == then->http &&
                now->http_port == then->http_port && strcmp(now->http_host, then->http_host) == 0;
    if (!same) log_line(d->options.log, LOG_WARNING, NULL, "listen changed: that needs a restart");
    else if (!tokens_same(now, then)) log_line(d->options.log, LOG_WARNING, NULL, "a token of listen changed: that needs a restart");
}
