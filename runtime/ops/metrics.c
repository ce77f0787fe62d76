/* Metrics: GET /metrics, Prometheus' text format. Reads counts and views, keeps nothing. Labels are bounded:
 * policies, states, verdicts, kinds of causes, whose doing, hooks, budgets and consumers' names; never a connection's, an
 * address or a peer's words. Every name stands in examples/monitoring/README.md, which a spec compares. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "base/text.h"
#include "ops/gather.h"
#include "ops/ops_internal.h"

#define POLICIES_MAX 64   /* with a label of their own; the rest share one */
#define CONSUMERS_MAX 100

enum metric_type { COUNTER, GAUGE, HISTOGRAM };

/* Connections that have one policy. */
struct policy_sums {
    char name[64];
    uint32_t states[CONN_STATE_COUNT], lives[LIFE_COUNT], fatal;
    uint32_t queued[BUDGET_COUNT];
    uint64_t backlog_frames, backlog_bytes, longest_down_ms;
    bool budget_on[BUDGET_COUNT];
    uint32_t budget_left[BUDGET_COUNT]; /* of the account that has least */
};

struct sums {
    struct policy_sums policies[POLICIES_MAX];
    uint32_t policy_count;
    uint32_t down[BLAME_COUNT];
    struct pulse total;
    uint64_t events, malformed, duplicate, dropped, gaps;
    struct host_loop_delay loop;
    bool loop_known;
    uint64_t removed;   /* connections, when the adding up began */
    uint32_t attempts;
};

#define ATTEMPTS_MAX 5u

static bool sum_begin(struct client *c, struct gather *g);
static bool sum_each(struct client *c, struct gather *g, struct handle h, const struct connection_view *view);
static bool sum_end(struct client *c, struct gather *g);
static bool write_connections(struct buffer *out, const struct sums *s);
static bool write_counts(struct buffer *out, const struct ops *ops, const struct sums *s);
static bool write_weather(struct buffer *out, const struct ops *ops);
static bool write_trials(struct buffer *out, const struct ops *ops);
static bool write_consumers(struct buffer *out, const struct ops *ops);
static bool write_store(struct buffer *out, const struct ops *ops);
static bool write_daemon(struct buffer *out, const struct ops *ops, const struct sums *s);

int metrics__get(struct client *c, const char *name)
{
    static const struct gather_ops metrics = { .type = "text/plain; version=0.0.4; charset=utf-8", .facts = true,
                                               .begin = sum_begin, .each = sum_each, .end = sum_end };
    (void)name;
    return gather_begin(c, gather_create(sizeof(struct sums), &metrics));
}

/* --- adding up ---------------------------------------------------------------------------------------------- */

static struct policy_sums *policy_of(struct sums *s, const char *name)
{
    for (uint32_t i = 0; i < s->policy_count; i++)
        if (strcmp(s->policies[i].name, name) == 0) return &s->policies[i];
    const bool last = s->policy_count == POLICIES_MAX - 1;
    if (s->policy_count == POLICIES_MAX) return &s->policies[POLICIES_MAX - 1];
    struct policy_sums *p = &s->policies[s->policy_count++];
    text_copy(p->name, sizeof p->name, last ? "others" : name, strlen(last ? "others" : name));
    return p;
}

static void add_budgets(struct ops *ops, struct policy_sums *p, struct handle h, const struct connection_view *v)
{
    for (int b = 0; b < BUDGET_COUNT; b++) {
        struct budget_view view;
        if (b == BUDGET_SEND || !runtime_budget(ops->rt, h, (enum budget_kind)b, &view)) continue;
        if (view.left == UINT32_MAX) continue;
        if (!p->budget_on[b] || view.left < p->budget_left[b]) p->budget_left[b] = view.left;
        p->budget_on[b] = true;
    }
    if (v->engine.queued) p->queued[v->engine.queued_for]++;
}

static bool sum_begin(struct client *c, struct gather *g)
{
    ((struct sums *)g->state)->removed = runtime_counts(c->ops->rt)->removed;
    return true;
}

static bool sum_each(struct client *c, struct gather *g, struct handle h, const struct connection_view *v)
{
    struct sums *s = (struct sums *)g->state;
    struct policy_sums *p = policy_of(s, v->policy);
    const struct engine_view *e = &v->engine;
    p->states[e->state]++;
    p->lives[v->life.verdict] += e->state == CONN_UP;
    p->fatal += e->state == CONN_STOPPED && e->stop_is_fatal;
    p->backlog_frames += v->backlog.frames;
    p->backlog_bytes += v->backlog.bytes;
    const bool missed = e->state != CONN_UP && (e->wanted || e->stop_is_fatal);
    s->down[v->whose] += missed;
    if (missed && v->down_for_ms > p->longest_down_ms) p->longest_down_ms = v->down_for_ms;
    add_budgets(c->ops, p, h, v);
    s->total.bytes_in += v->total.bytes_in;
    s->total.bytes_out += v->total.bytes_out;
    s->total.frames_in += v->total.frames_in;
    s->total.frames_out += v->total.frames_out;
    s->events += v->frames_delivered;
    s->malformed += v->frames_malformed;
    s->duplicate += v->frames_duplicate;
    s->dropped += v->backlog.dropped_total;
    s->gaps += v->backlog.gaps_total;
    return true;
}

static bool sum_end(struct client *c, struct gather *g)
{
    struct sums *s = (struct sums *)g->state;
    const struct ops *ops = c->ops;
    /* Who was removed meanwhile would count twice, or not at all: a total would fall. */
    if (runtime_counts(ops->rt)->removed != s->removed && s->attempts < ATTEMPTS_MAX) {
        const uint32_t attempts = s->attempts + 1;
        memset(s, 0, sizeof *s);
        s->attempts = attempts;
        return g->again = sum_begin(c, g);
    }
    s->loop_known = runtime_loop_delay(ops->rt, &s->loop);
    return write_connections(&g->out, s) && write_counts(&g->out, ops, s) && write_weather(&g->out, ops) && write_trials(&g->out, ops) &&
           write_consumers(&g->out, ops) && write_store(&g->out, ops) && write_daemon(&g->out, ops, s);
}

/* --- lines -------------------------------------------------------------------------------------------------- */

static bool family(struct buffer *out, const char *name, enum metric_type type, const char *help)
{
    static const char *const types[] = { "counter", "gauge", "histogram" };
    return buffer_printf(out, "# HELP holdfast_%s %s\n# TYPE holdfast_%s %s\n", name, help, name, types[type]);
}

/* Label values are names of ours, of policies and of consumers: letters, digits, `.`, `_` and `-`. */
static bool sample(struct buffer *out, const char *name, const char *labels, uint64_t value)
{
    return buffer_printf(out, "holdfast_%s%s %" PRIu64 "\n", name, labels, value);
}

static bool seconds(struct buffer *out, const char *name, const char *labels, uint64_t us)
{
    return buffer_printf(out, "holdfast_%s%s %" PRIu64 ".%06u\n", name, labels, us / 1000000, (unsigned)(us % 1000000));
}

static bool one(struct buffer *out, const char *name, enum metric_type type, const char *help, uint64_t value)
{
    return family(out, name, type, help) && sample(out, name, "", value);
}

/* Steps of a histogram; `label`: `hook="greet"` or "". */
static bool steps(struct buffer *out, const char *name, const char *label, const struct histogram *h)
{
    const char *comma = label[0] ? "," : "";
    char braces[96] = "";
    uint64_t below = 0;
    for (uint32_t i = 0; i < HISTOGRAM_STEPS; i++) {
        const uint64_t us = histogram_bound_us(h->scale, i);
        below += h->counts[i];
        if (!buffer_printf(out, "holdfast_%s_bucket{%s%sle=\"%g\"} %" PRIu64 "\n", name, label, comma, (double)us / 1e6, below))
            return false;
    }
    if (label[0]) snprintf(braces, sizeof braces, "{%s}", label);
    return buffer_printf(out, "holdfast_%s_bucket{%s%sle=\"+Inf\"} %" PRIu64 "\n", name, label, comma, histogram_count(h)) &&
           buffer_printf(out, "holdfast_%s_sum%s %" PRIu64 ".%06u\n", name, braces, h->sum_us / 1000000,
                         (unsigned)(h->sum_us % 1000000)) &&
           buffer_printf(out, "holdfast_%s_count%s %" PRIu64 "\n", name, braces, histogram_count(h));
}

static bool timed(struct buffer *out, const char *name, const char *help, const struct histogram *h)
{
    return family(out, name, HISTOGRAM, help) && steps(out, name, "", h);
}

static const char *labels2(char out[160], const char *policy, const char *key, const char *value)
{
    snprintf(out, 160, "{policy=\"%s\",%s=\"%s\"}", policy, key, value);
    return out;
}

static const char *labels1(char out[160], const char *key, const char *value)
{
    snprintf(out, 160, "{%s=\"%s\"}", key, value);
    return out;
}

/* --- families ----------------------------------------------------------------------------------------------- */

static bool write_connections(struct buffer *out, const struct sums *s)
{
    char labels[160];
    bool ok = family(out, "connections", GAUGE, "Connections by what they do now.");
    for (uint32_t i = 0; ok && i < s->policy_count; i++)
        for (int state = 0; ok && state < CONN_STATE_COUNT; state++)
            ok = sample(out, "connections", labels2(labels, s->policies[i].name, "state", conn_state_name((enum conn_state)state)),
                        s->policies[i].states[state]);
    ok = ok && family(out, "peers", GAUGE, "Connections that are up, by the verdict about their peer.");
    for (uint32_t i = 0; ok && i < s->policy_count; i++)
        for (int life = 0; ok && life < LIFE_COUNT; life++)
            ok = sample(out, "peers", labels2(labels, s->policies[i].name, "verdict", life_name((enum life_verdict)life)),
                        s->policies[i].lives[life]);
    ok = ok && family(out, "connections_given_up", GAUGE, "Connections that a fatal cause stopped: they wait for a person.");
    for (uint32_t i = 0; ok && i < s->policy_count; i++)
        ok = sample(out, "connections_given_up", labels1(labels, "policy", s->policies[i].name), s->policies[i].fatal);
    ok = ok && family(out, "longest_outage_seconds", GAUGE, "How long the connection has been down that is wanted and down the longest.");
    for (uint32_t i = 0; ok && i < s->policy_count; i++)
        ok = seconds(out, "longest_outage_seconds", labels1(labels, "policy", s->policies[i].name), s->policies[i].longest_down_ms * 1000);
    ok = ok && family(out, "down", GAUGE, "Connections that should be up and are not, by whose doing that is.");
    for (int b = 0; ok && b < BLAME_COUNT; b++)
        ok = sample(out, "down", labels1(labels, "whose", blame_name((enum blame)b)), s->down[b]);
    ok = ok && family(out, "backlog_frames", GAUGE, "Frames accepted and not yet acknowledged by every consumer.");
    for (uint32_t i = 0; ok && i < s->policy_count; i++)
        ok = sample(out, "backlog_frames", labels1(labels, "policy", s->policies[i].name), s->policies[i].backlog_frames);
    ok = ok && family(out, "backlog_bytes", GAUGE, "Bytes of these frames.");
    for (uint32_t i = 0; ok && i < s->policy_count; i++)
        ok = sample(out, "backlog_bytes", labels1(labels, "policy", s->policies[i].name), s->policies[i].backlog_bytes);
    ok = ok && family(out, "budget_left", GAUGE, "What the budget still allows now, of the account that has least left.");
    for (uint32_t i = 0; ok && i < s->policy_count; i++)
        for (int b = 0; ok && b < BUDGET_COUNT; b++)
            if (s->policies[i].budget_on[b])
                ok = sample(out, "budget_left", labels2(labels, s->policies[i].name, "budget", budget_name((enum budget_kind)b)),
                            s->policies[i].budget_left[b]);
    ok = ok && family(out, "budget_queued", GAUGE, "Connections that wait for a budget.");
    for (uint32_t i = 0; ok && i < s->policy_count; i++)
        for (int b = 0; ok && b < BUDGET_COUNT; b++)
            if (s->policies[i].budget_on[b])
                ok = sample(out, "budget_queued", labels2(labels, s->policies[i].name, "budget", budget_name((enum budget_kind)b)),
                            s->policies[i].queued[b]);
    return ok;
}

static bool write_counts(struct buffer *out, const struct ops *ops, const struct sums *s)
{
    const struct runtime_counts *n = runtime_counts(ops->rt);
    char labels[160];
    bool ok = one(out, "attempts_total", COUNTER, "Attempts to come up.", n->attempts) &&
              one(out, "ready_total", COUNTER, "Attempts that did.", n->ready) &&
              family(out, "endings_total", COUNTER, "Links and attempts that ended, by kind of cause and what was decided.");
    for (int kind = CAUSE_NONE + 1; ok && kind < CAUSE_KIND_COUNT; kind++)
        for (uint32_t v = 0; ok && v < RUNTIME_VERDICTS_MAX; v++) {
            if (!n->endings[kind][v]) continue;
            snprintf(labels, sizeof labels, "{kind=\"%s\",verdict=\"%s\"}", cause_kind_name((enum cause_kind)kind),
                     runtime_verdict_name(v));
            ok = sample(out, "endings_total", labels, n->endings[kind][v]);
        }
    ok = ok && timed(out, "time_to_ready_seconds", "From the begin of an attempt until the platform accepted the greeting.", &n->time_to_ready) &&
         timed(out, "outage_seconds", "From a link that served to the next that does.", &n->outage) &&
         timed(out, "round_trip_seconds", "From a heartbeat or ping to its answer.", &n->round_trip) &&
         timed(out, "delivery_delay_seconds", "From the acceptance of a frame to its writing to a consumer.", deliver_delay(ops->deliver));
    ok = ok && family(out, "hook_duration_seconds", HISTOGRAM, "Time inside a policy's Lua, per entry and resumption.");
    for (int hook = 0; ok && hook <= HOOK_EVERY; hook++) {
        if (!histogram_count(&n->hook[hook])) continue;
        snprintf(labels, sizeof labels, "hook=\"%s\"", hook_name((enum hook)hook));
        ok = steps(out, "hook_duration_seconds", labels, &n->hook[hook]);
    }
    ok = ok && family(out, "hook_failures_total", COUNTER, "Hooks that raised, ran over budget or answered nonsense.");
    for (int hook = 0; ok && hook <= HOOK_EVERY; hook++)
        ok = sample(out, "hook_failures_total", labels1(labels, "hook", hook_name((enum hook)hook)), n->hook_failures[hook]);
    return ok && one(out, "received_frames_total", COUNTER, "Messages from platforms.", s->total.frames_in + n->gone.frames_in) &&
           one(out, "sent_frames_total", COUNTER, "Messages to platforms.", s->total.frames_out + n->gone.frames_out) &&
           one(out, "received_bytes_total", COUNTER, "Bytes from platforms, TLS not counted.", s->total.bytes_in + n->gone.bytes_in) &&
           one(out, "sent_bytes_total", COUNTER, "Bytes to platforms, TLS not counted.", s->total.bytes_out + n->gone.bytes_out) &&
           one(out, "events_total", COUNTER, "Frames accepted for consumers.", s->events + n->events_gone) &&
           one(out, "malformed_frames_total", COUNTER, "Of these, not what the codec says.", s->malformed + n->malformed_gone) &&
           one(out, "duplicate_frames_total", COUNTER, "Frames that came again and were not accepted twice.", s->duplicate + n->duplicate_gone) &&
           one(out, "backlog_dropped_frames", GAUGE, "Frames that fell out of a full backlog, of the connections that there are.", s->dropped) &&
           one(out, "gaps_told", GAUGE, "Holes that consumers were told of, of the connections that there are.", s->gaps);
}

static uint64_t taken_back(const struct ops *ops)
{
    return ops->options.taken_back ? ops->options.taken_back(ops->options.self, NULL) : 0;
}

static bool write_trials(struct buffer *out, const struct ops *ops)
{
    static const char *const sides[] = { "tried", "others" };
    const struct runtime_counts *n = runtime_counts(ops->rt);
    struct runtime_trial t;
    uint64_t connections[2] = { 0 };
    char labels[160];
    for (uint32_t i = 0; runtime_trial_next(ops->rt, &i, &t); i++) {
        connections[0] += t.facts.tried.connections;
        connections[1] += t.facts.others.connections;
    }
    bool ok = family(out, "policy_trials_total", COUNTER, "New versions of policies that ran on a share first, by how it ended.") &&
              sample(out, "policy_trials_total", "{end=\"adopted\"}", n->trials_adopted) &&
              sample(out, "policy_trials_total", "{end=\"taken_back\"}", n->trials_taken_back) &&
              family(out, "policy_trial_connections", GAUGE, "Connections in trials under way: tried, and those to compare with.");
    for (int s = 0; ok && s < 2; s++) ok = sample(out, "policy_trial_connections", labels1(labels, "side", sides[s]), connections[s]);
    return ok && one(out, "policy_files_not_running", GAUGE, "Policies whose file holds a version that was taken back.", taken_back(ops));
}

static bool write_weather(struct buffer *out, const struct ops *ops)
{
    struct weather_front fronts[WEATHER_FRONTS_MAX];
    const uint32_t count = runtime_weather(ops->rt, fronts);
    const struct runtime_held held = runtime_held(ops->rt);
    const struct runtime_turns turns = runtime_turns(ops->rt);
    uint32_t fronts_of[WEATHER_SCOPES] = { 0 }, failing[WEATHER_SCOPES] = { 0 };
    char labels[160];
    for (uint32_t i = 0; i < count; i++) {
        fronts_of[fronts[i].scope]++;
        failing[fronts[i].scope] += fronts[i].failing;
    }
    bool ok = family(out, "weather_fronts", GAUGE, "Outages that several connections have in common, by what that is.");
    for (int scope = 0; ok && scope < WEATHER_SCOPES; scope++)
        ok = sample(out, "weather_fronts", labels1(labels, "scope", weather_scope_name((enum weather_scope)scope)), fronts_of[scope]);
    ok = ok && family(out, "weather_connections", GAUGE, "Connections that fail in them.");
    for (int scope = 0; ok && scope < WEATHER_SCOPES; scope++)
        ok = sample(out, "weather_connections", labels1(labels, "scope", weather_scope_name((enum weather_scope)scope)), failing[scope]);
    return ok && one(out, "hosts_deaf", GAUGE, "Hosts, or platforms' preparations, that answer none of many connections.", held.hosts) &&
           one(out, "attempts_held", GAUGE, "Attempts that are put off because of them.", held.now) &&
           one(out, "attempts_held_total", COUNTER, "Attempts that were.", held.total) &&
           one(out, "attempts_under_way", GAUGE, "Attempts that work was begun for and whose link does not serve yet.", turns.under_way) &&
           one(out, "attempts_awaiting_turn", GAUGE, "Attempts that wait because so many others are under way.", turns.waiting) &&
           one(out, "attempts_awaiting_turn_total", COUNTER, "Attempts that did.", turns.waited_total);
}

static bool write_consumers(struct buffer *out, const struct ops *ops)
{
    struct deliver_consumer_view v;
    char labels[160];
    uint32_t attached = 0, detached = 0, named = 0;
    bool ok = family(out, "consumer_lag_frames", GAUGE, "Frames that wait for a named consumer, or for its acknowledgement.");
    for (uint32_t i = 0; ok && deliver_consumer_next(ops->deliver, &i, &v); i++) {
        if (v.attached) attached++;
        else detached++;
        if (!v.name[0] || named++ >= CONSUMERS_MAX) continue;
        ok = sample(out, "consumer_lag_frames", labels1(labels, "consumer", v.name), v.lag);
    }
    return ok && family(out, "consumers", GAUGE, "Consumers, attached and registered but away.") &&
           sample(out, "consumers", "{attached=\"true\"}", attached) &&
           sample(out, "consumers", "{attached=\"false\"}", detached);
}

static bool write_store(struct buffer *out, const struct ops *ops)
{
    struct store_health h;
    memset(&h, 0, sizeof h);
    h.commit.scale = HISTOGRAM_MIDDLE;
    const bool durable = ops->options.store && ops->options.store(ops->options.self, &h);
    h.commit.scale = HISTOGRAM_MIDDLE;
    return one(out, "store_durable", GAUGE, "1: frames and sessions are kept on disk.", durable) &&
           one(out, "store_degraded", GAUGE, "1: the store cannot write.", h.degraded) &&
           one(out, "store_pending_bytes", GAUGE, "Bytes submitted and not on disk.", h.pending_bytes) &&
           one(out, "store_file_bytes", GAUGE, "Size of the file and of its log.", h.file_bytes + h.wal_bytes) &&
           one(out, "store_commits_total", COUNTER, "Transactions that are on disk.", h.commits) &&
           one(out, "store_failures_total", COUNTER, "Transactions that failed and were tried again.", h.failures) &&
           one(out, "store_dropped_events_total", COUNTER, "Events that will never be on disk.", h.dropped) &&
           timed(out, "commit_duration_seconds", "Time of one transaction, sync included.", &h.commit);
}

static bool write_reloads(struct buffer *out, const struct ops *ops)
{
    struct ops_reload_view v;
    char labels[160];
    if (!reload_view__get(ops, &v)) return true;
    return one(out, "reload_refused", GAUGE, "1 while files on disk are others than what runs, because the last reload was refused.",
               v.refused) &&
           family(out, "reloads_total", COUNTER, "Reloads that ended, by what came of them.") &&
           sample(out, "reloads_total", labels1(labels, "result", "refused"), v.refused_total) &&
           sample(out, "reloads_total", labels1(labels, "result", "taken"), v.taken_total);
}

static bool write_loop(struct buffer *out, const struct host_loop_delay *loop)
{
    static const char *const parts[] = {
#define X(name, text) text,
        HOST_LOOP_MAP(X)
#undef X
    };
    char labels[160];
    bool ok = family(out, "loop_part_worst_seconds", GAUGE, "How long each part of one turn of the loop lasted, at most, in the last minute.");
    for (int i = 0; ok && i < HOST_LOOP_PARTS; i++)
        ok = seconds(out, "loop_part_worst_seconds", labels1(labels, "part", parts[i]), loop->part_worst_us[i]);
    ok = ok && family(out, "loop_part_busy_worst_seconds", GAUGE, "Likewise, CPU time: without what the machine ran meanwhile.");
    for (int i = 0; ok && i < HOST_LOOP_PARTS; i++)
        ok = seconds(out, "loop_part_busy_worst_seconds", labels1(labels, "part", parts[i]), loop->part_worst_busy_us[i]);
    return ok;
}

static bool write_daemon(struct buffer *out, const struct ops *ops, const struct sums *s)
{
    struct rusage usage;
    char labels[160];
    getrusage(RUSAGE_SELF, &usage);
    const uint64_t cpu_us = (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 +
                            (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
    bool ok = family(out, "build_info", GAUGE, "Always 1; the version is its label.") &&
              sample(out, "build_info", labels1(labels, "version", ops->options.version ? ops->options.version : "unknown"), 1) &&
              family(out, "uptime_seconds", GAUGE, "Since this process began to serve.") &&
              seconds(out, "uptime_seconds", "", (uv_now(ops->loop) - ops->began_ms) * 1000) &&
              family(out, "cpu_seconds_total", COUNTER, "Processor time of all threads.") &&
              seconds(out, "cpu_seconds_total", "", cpu_us) &&
              one(out, "resident_bytes_most", GAUGE, "Most memory that was ever resident.", (uint64_t)usage.ru_maxrss * 1024) &&
              one(out, "api_clients", GAUGE, "Connected to the local API now.", ops->client_count) &&
              one(out, "log_lines_left_out_total", COUNTER, "Lines of the log that a storm of one cause was spared.",
                  ops->options.log_left_out ? ops->options.log_left_out(ops->options.self) : 0) &&
              write_reloads(out, ops);
    if (ok && s->loop_known) {
        ok = family(out, "loop_delay_seconds", GAUGE, "How long the loop kept its sockets waiting, at most, in the last second.") &&
             seconds(out, "loop_delay_seconds", "", s->loop.last_us) &&
             family(out, "loop_delay_worst_seconds", GAUGE, "The same, in the last minute.") &&
             seconds(out, "loop_delay_worst_seconds", "", s->loop.worst_us) &&
             family(out, "loop_busy_worst_seconds", GAUGE, "Most CPU time of the loop's thread between two looks at its sockets, in the last minute.") &&
             seconds(out, "loop_busy_worst_seconds", "", s->loop.worst_busy_us) && write_loop(out, &s->loop);
    }
    return ok;
}
