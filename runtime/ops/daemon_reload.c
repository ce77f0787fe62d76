/* Reload: one after the other, each a whole: read in a thread, proven in a thread, then built and swapped in slices
 * (daemon_swap.c). Whatever is wrong with the new ones, all of the old goes on. */
#include "ops/daemon_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/text.h"

static bool begin(struct daemon *d, const char *policy, struct reload_how how, uint64_t ticket);
static bool read_again(struct daemon *d);
static void read_once_more(struct daemon *d);
static void on_read(void *self, struct roster *next, const struct problems *problems);
static void take(struct daemon *d, struct roster *next);
static void refused(struct daemon *d);
static void finish(struct daemon *d, bool done);
static bool policy_is_used(const struct daemon *d, const char *policy, struct problems *problems);
static void problems_tell(struct daemon *d, const struct problems *problems);

void daemon__reload_say(struct daemon *d, enum log_level level, const char *text)
{
    log_line(d->options.log, level, NULL, text);
    buffer_append_text(&d->reloading.out, text);
    buffer_append_char(&d->reloading.out, '\n');
}

/* ---- wishes ---------------------------------------------------------------------------------------------- */

/* Equal wishes are one, for all policies or for the one that both name. */
static void widen(char policy[CONFIG_NAME_MAX], const char *wish)
{
    if (strcmp(policy, wish) != 0) policy[0] = 0;
}

static bool how_same(struct reload_how a, struct reload_how b)
{
    return a.unproven == b.unproven && a.now == b.now && a.again == b.again;
}

static uint64_t enqueue(struct reloading *r, const char *policy, struct reload_how how)
{
    uint32_t k = 0;
    while (k < RELOAD_QUEUED_MAX && r->queue[k].ticket && !how_same(r->queue[k].how, how)) k++;
    ASSERT(k < RELOAD_QUEUED_MAX); /* there are no more kinds */
    struct reload_queued *q = &r->queue[k];
    if (q->ticket) {
        widen(q->policy, policy);
        return q->ticket;
    }
    *q = (struct reload_queued){ .ticket = ++r->tickets, .how = how };
    text_copy(q->policy, sizeof q->policy, policy, strlen(policy));
    return q->ticket;
}

/* Somebody wishes that what is being proven, and is asked for again in the queue, is taken as it is. */
static bool unproven_is_wished(struct reloading *r)
{
    bool wished = false;
    for (uint32_t k = 0; k < RELOAD_QUEUED_MAX; k++) wished = wished || (r->queue[k].ticket && r->queue[k].how.unproven);
    if (!wished) return false;
    for (uint32_t k = 0; k < RELOAD_QUEUED_MAX; k++) {
        if (!r->queue[k].ticket) continue;
        widen(r->policy, r->queue[k].policy); /* all of them are answered by what comes of this one */
        if (r->queue[k].ticket > r->answers) r->answers = r->queue[k].ticket;
        r->how.now = r->how.now || r->queue[k].how.now;
        r->how.again = r->how.again || r->queue[k].how.again;
        r->queue[k].ticket = 0;
    }
    r->how.unproven = true;
    return true;
}

enum ops_reloaded daemon__reload(void *self, struct ops_reload *wish, struct buffer *out)
{
    struct daemon *d = self;
    struct reloading *r = &d->reloading;
    const char *policy = wish->policy ? wish->policy : "";
    const struct reload_how how = { wish->unproven, wish->now, wish->again };
    if (d->stopping) {
        if (out) buffer_append_text(out, "reload refused: holdfast is closing its links\n");
        return OPS_RELOAD_REFUSED;
    }
    if (wish->adopt || wish->take_back) return daemon__trial_order(d, wish, out);
    if (r->phase == RELOAD_IDLE) {
        wish->ticket = ++r->tickets;
        if (begin(d, policy, how, wish->ticket)) return OPS_RELOAD_LATER;
        if (out) buffer_append(out, r->out.data, r->out.len);
        buffer_clear(&r->out); /* nothing was read: that says nothing about the files */
        r->phase = RELOAD_IDLE;
        notify_ready(&d->notify);
        return OPS_RELOAD_REFUSED;
    }
    if (out && r->phase == RELOAD_PROVING && how_same(how, r->how) && (!r->policy[0] || strcmp(r->policy, policy) == 0)) {
        wish->ticket = r->answers; /* all is read again at its end: that is an answer to this one too */
    } else {
        wish->ticket = enqueue(r, policy, how);
        if (r->phase == RELOAD_PROVING && unproven_is_wished(r)) {
            gate_destroy(r->gate);
            r->gate = NULL;
            read_once_more(d);
        }
    }
    return OPS_RELOAD_LATER;
}

void daemon__reload_all(struct daemon *d, const char *why)
{
    struct ops_reload wish = { 0 };
    log_printf(d->options.log, LOG_DEBUG, NULL, "reload: %s", why);
    daemon__reload(d, &wish, NULL);
}

/* ---- from begin to end ----------------------------------------------------------------------------------- */

/* False: it has ended already, and r->out says why. */
static bool begin(struct daemon *d, const char *policy, struct reload_how how, uint64_t ticket)
{
    struct reloading *r = &d->reloading;
    ASSERT(r->phase == RELOAD_IDLE);
    text_copy(r->policy, sizeof r->policy, policy, strlen(policy));
    r->how = how;
    r->answers = ticket;
    r->tries = 0;
    r->called_off = false;
    notify_reloading(&d->notify);
    return read_again(d);
}

static struct roster_running *running_list(const struct daemon *d, uint32_t *count_out)
{
    uint32_t count = 0;
    struct roster_running *list = calloc(d->roster.version_count + d->added_count + 1, sizeof *list);
    ASSERT(list != NULL);
    for (uint32_t i = 0; i < d->roster.version_count + d->added_count; i++) {
        bool of_file = i < d->roster.version_count, known = false;
        const struct policy_version *v =
            of_file ? d->roster.versions[i] : d->added[i - d->roster.version_count].version;
        for (uint32_t k = 0; k < count && !known; k++) known = strcmp(list[k].name, policy_name(v)) == 0;
        if (known) continue;
        struct roster_running *one = &list[count++];
        text_copy(one->name, sizeof one->name, policy_name(v), strlen(policy_name(v)));
        one->number = policy_version_number(v);
        one->hash = policy_text_hash(v);
        daemon__trial_running(d, one);
    }
    *count_out = count;
    return list;
}

static bool read_again(struct daemon *d)
{
    struct reloading *r = &d->reloading;
    struct problems problems;
    struct reading_wish wish = { .path = d->roster.config.path,
                                 .only = r->policy[0] ? r->policy : NULL,
                                 .now = r->how.now,
                                 .seed = d->seed,
                                 .before = &d->roster,
                                 .done = on_read,
                                 .self = d };
    r->phase = RELOAD_READING;
    problems_init(&problems);
    bool used = policy_is_used(d, wish.only, &problems);
    problems_tell(d, &problems);
    problems_deinit(&problems);
    if (!used) return false;
    wish.running = running_list(d, &wish.running_count);
    wish.also = daemon__added_also(d, &wish.also_count);
    r->reading = reading_start(&d->loop, &wish);
    runtime_trials_hold(d->rt, r->reading != NULL); /* none ends while it is compared with */
    if (r->reading) return true;
    daemon__reload_say(d, LOG_WARNING, "no thread can be had to read the configuration");
    return false;
}

static void read_once_more(struct daemon *d)
{
    if (!read_again(d)) refused(d);
}

static void on_read(void *self, struct roster *next, const struct problems *problems)
{
    struct daemon *d = self;
    struct reloading *r = &d->reloading;
    reading_destroy(r->reading);
    r->reading = NULL;
    if (r->called_off) {
        if (next) daemon__swap_trash(d, next);
        finish(d, false);
        return;
    }
    problems_tell(d, problems);
    if (next) take(d, next);
    else refused(d);
}

/* Every version is there: those that run are taken for those that are as before. */
static void versions_complete(struct daemon *d, struct roster *next)
{
    for (uint32_t k = 0; k < next->version_count; k++) {
        if (next->versions[k]) continue;
        struct policy_version *v = roster_policy(&d->roster, next->names[k]);
        for (uint32_t i = 0; i < d->added_count && !v; i++) {
            if (strcmp(policy_name(d->added[i].version), next->names[k]) == 0) v = d->added[i].version;
        }
        /* Gone with the last connection that was put with it, while it was read: that one is gone too. */
        if (v) roster_adopt(next, k, v);
    }
}

static bool versions_are_whole(const struct roster *next)
{
    bool whole = true;
    for (uint32_t k = 0; k < next->version_count; k++) whole = whole && next->versions[k];
    return whole;
}

static void take(struct daemon *d, struct roster *next)
{
    struct reloading *r = &d->reloading;
    struct gate_run run = { 0 };
    uint32_t running_count;
    versions_complete(d, next);
    if (!versions_are_whole(next)) {
        daemon__swap_trash(d, next);
        read_once_more(d);
        return;
    }
    struct roster_running *running = running_list(d, &running_count);
    daemon__proof_wanted(d, next, running, running_count, &run);
    free(running);
    if (run.count && next->config.prove_ms) unproven_is_wished(r);
    if (run.count && (r->how.unproven || !next->config.prove_ms)) {
        daemon__proof_skip(d, &run, r->how.unproven);
        gate_run_deinit(&run);
    } else if (run.count) {
        daemon__swap_trash(d, next);
        r->phase = RELOAD_PROVING;
        runtime_trials_hold(d->rt, false); /* it may take minutes, and all is read again after it */
        buffer_clear(&r->out); /* said again when it is read again */
        if (r->tries < RELOAD_TRIES_MAX && daemon__proof_begin(d, &run)) return;
        gate_run_deinit(&run);
        daemon__reload_say(d, LOG_WARNING,
                           "the policies cannot be proven: they change all the time, or no thread can be had");
        refused(d);
        return;
    }
    r->phase = RELOAD_BUILDING;
    r->next = *next;
    memset(next, 0, sizeof *next);
    daemon__swap_begin(d);
}

void daemon__proof_over(struct daemon *d, bool good)
{
    if (!good) {
        refused(d);
        return;
    }
    d->reloading.tries++;
    read_once_more(d);
}

void daemon__swap_unproven(struct daemon *d)
{
    struct reloading *r = &d->reloading;
    daemon__swap_trash(d, &r->next);
    r->sweep = true;
    r->sweep_at = 0;
    r->tries++;
    read_once_more(d);
}

void daemon__swap_refused(struct daemon *d)
{
    struct reloading *r = &d->reloading;
    problems_tell(d, &r->problems);
    daemon__trial_refused_hint(d);
    daemon__swap_trash(d, &r->next);
    r->sweep = true;
    r->sweep_at = 0;
    refused(d);
}

void daemon__swap_done(struct daemon *d)
{
    struct reloading *r = &d->reloading;
    uint32_t all = d->roster.config.connection_count;
    daemon__swap_trash(d, &r->old);
    daemon__watch(d);
    log_printf(d->options.log, LOG_INFO, NULL, "reloaded: %u connection%s changed, %u removed, %u as before",
               r->changed, r->changed == 1 ? "" : "s", r->removed, all > r->changed ? all - r->changed : 0);
    daemon__trials_begin(d);
    finish(d, true);
}

static void refused(struct daemon *d)
{
    log_line(d->options.log, LOG_WARNING, NULL, "reload refused: everything goes on as it was");
    finish(d, false);
}

bool daemon__reload_view(void *self, struct ops_reload_view *out)
{
    static const char *const doing[] = { "nothing", "reading", "proving", "building", "swapping" };
    const struct daemon *d = self;
    const struct reloading *r = &d->reloading;
    *out = (struct ops_reload_view){ .doing = doing[r->phase],
                                     .refused = r->last.refused,
                                     .ended_wall_ms = r->last.wall_ms,
                                     .text = r->last.text,
                                     .taken_total = r->last.taken_total,
                                     .refused_total = r->last.refused_total };
    if (r->phase == RELOAD_BUILDING) out->of = r->next.config.connection_count;
    if (r->phase == RELOAD_SWAPPING) {
        out->of = d->roster.config.connection_count;
        out->done = r->step == STEP_SWAP_FILE ? r->at : 0;
    }
    return true;
}

static uint64_t wall_ms(struct daemon *d)
{
    struct clock now;
    struct host host = net_host(d->net);
    host.ops->clock(host.self, &now);
    return now.wall_ms;
}

/* For status, until another one ends. */
static void last_keep(struct daemon *d, bool done)
{
    struct reloading *r = &d->reloading;
    r->last.refused = !done;
    r->last.wall_ms = wall_ms(d);
    r->last.taken_total += done;
    r->last.refused_total += !done;
    size_t len = r->out.len < sizeof r->last.text ? r->out.len : sizeof r->last.text - 1;
    text_copy(r->last.text, sizeof r->last.text, (const char *)r->out.data, len);
}

/* The service manager hears that it ended, whatever came of it. */
static void finish(struct daemon *d, bool done)
{
    struct reloading *r = &d->reloading;
    r->phase = RELOAD_IDLE;
    if (done || !d->stopping) last_keep(d, done);
    runtime_trials_hold(d->rt, false);
    ops_reload_answer(d->ops, r->answers, done, &r->out);
    buffer_clear(&r->out);
    notify_ready(&d->notify);
    if (d->stopping || !r->queue[0].ticket) return;
    struct reload_queued q = r->queue[0];
    memmove(r->queue, r->queue + 1, (RELOAD_QUEUED_MAX - 1) * sizeof r->queue[0]);
    r->queue[RELOAD_QUEUED_MAX - 1].ticket = 0;
    if (!begin(d, q.policy, q.how, q.ticket)) refused(d);
}

/* ---- ends and upgrades ----------------------------------------------------------------------------------- */

void daemon__reload_init(struct daemon *d)
{
    struct reloading *r = &d->reloading;
    buffer_init(&r->out, 4 << 20);
    problems_init(&r->problems);
    uv_idle_init(&d->loop, &r->spin);
    uv_check_init(&d->loop, &r->turn);
    r->spin.data = r->turn.data = d;
    r->slice_ns = DAEMON_SLICE_NS;
}

void daemon__reload_pause(struct daemon *d)
{
    struct reloading *r = &d->reloading;
    ASSERT(d->stopping);
    daemon__puts_pause(d);
    if (r->phase == RELOAD_IDLE) return;
    for (uint32_t k = 0; k < RELOAD_QUEUED_MAX; k++) {
        if (r->queue[k].ticket) r->answers = r->queue[k].ticket;
        r->queue[k].ticket = 0;
    }
    daemon__reload_say(d, LOG_WARNING,
                       r->phase == RELOAD_SWAPPING
                           ? "reload interrupted: holdfast is closing its links; it goes on if they are opened again"
                           : "reload refused: holdfast is closing its links");
    ops_reload_answer(d->ops, r->answers, false, &r->out);
    buffer_clear(&r->out);
    switch (r->phase) {
    case RELOAD_IDLE: break;
    case RELOAD_READING:
        r->called_off = true;
        reading_call_off(r->reading);
        break;
    case RELOAD_PROVING:
        gate_destroy(r->gate);
        r->gate = NULL;
        finish(d, false);
        break;
    case RELOAD_BUILDING:
        daemon__swap_trash(d, &r->next);
        r->sweep = true;
        r->sweep_at = 0;
        finish(d, false);
        break;
    case RELOAD_SWAPPING: break;
    }
}

void daemon__reload_resume(struct daemon *d)
{
    daemon__swap_wake(d);
}

void daemon__reload_deinit(struct daemon *d)
{
    struct reloading *r = &d->reloading;
    file_watch_destroy(d->watch);
    d->watch = NULL;
    daemon__puts_deinit(d);
    gate_destroy(r->gate);
    reading_destroy(r->reading);
    r->gate = NULL;
    r->reading = NULL;
    uv_close((uv_handle_t *)&r->spin, NULL);
    uv_close((uv_handle_t *)&r->turn, NULL);
}

void daemon__reload_free(struct daemon *d)
{
    struct reloading *r = &d->reloading;
    roster_deinit(&r->next);
    roster_deinit(&r->old);
    for (uint32_t i = 0; i < r->trash_count; i++) roster_deinit(&r->trash[i]);
    problems_deinit(&r->problems);
    buffer_deinit(&r->out);
    proof_set_clear(&d->proven);
}

/* ---- words ----------------------------------------------------------------------------------------------- */

static void problems_tell(struct daemon *d, const struct problems *problems)
{
    char text[1024];
    /* Errors first: of thousands of warnings, status has room for some. */
    for (int warnings = 0; warnings <= 1; warnings++) {
        for (uint32_t i = 0; i < problems->count; i++) {
            if (problems->items[i].warning != (warnings == 1)) continue;
            daemon__reload_say(d, LOG_WARNING, problem_format(&problems->items[i], text, sizeof text));
        }
    }
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
