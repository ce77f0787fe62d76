/* Summary: GET /v1/summary, what a host application polls instead of running a watchdog of its own. It answers the
 * three questions of one: is it well, what is the worst, and whose doing is it. holdfast restarts and dials by
 * itself: an application never has to, whatever this says.
 *
 *   well         true: whatever is wanted is up, no peer in doubt, the store writes
 *   needs_person true: something was given up, or the store is ill: time mends neither
 *   connections  how many there are, and by state; `wanted` of them are not stopped by an operator
 *   peers        those that are up, by verdict
 *   worst        the connection in most trouble, absent when all is well: name, state, since, down_since, life, attempt,
 *                cause, whose (doing it is), note (of the policy's rule, to people), next, next_at
 *   weather      what failing ones have in common
 *   trials       versions of policies that run on a share of the connections, with the counts of both sides
 *   taken_back   versions that did worse and were taken back, while their text is still in its file
 *   held         attempts put off because their host answers nobody
 *   store        degraded or not
 *   reload       refused: files on disk are others than what runs, since `at`, because of `problems`
 *   puts         connections put over the API: those that are being proven, and those that the gate refused
 *
 * 200 always: whoever can read it reads `well`. It is cheap, but once in five seconds is often enough. */
#include <inttypes.h>
#include <string.h>

#include "base/duration.h"
#include "base/text.h"
#include "ops/gather.h"
#include "ops/ops_internal.h"

/* Higher is worse; 0: nothing is wrong. */
static int rank(const struct connection_view *v)
{
    const struct engine_view *e = &v->engine;
    if (e->state == CONN_STOPPED) return e->stop_is_fatal ? 5 : 0;
    if (e->state != CONN_UP) return e->failed > 0 || v->down_for_ms > 60000 ? 4 : 1;
    if (v->life.verdict == LIFE_DEAD) return 3;
    return v->life.verdict == LIFE_SUSPECT ? 2 : 0;
}

void summary__count(struct tally *t, const struct connection_view *view)
{
    const struct engine_view *e = &view->engine;
    const int r = rank(view);
    t->all++;
    t->wanted += e->state != CONN_STOPPED || e->stop_is_fatal;
    t->fatal += e->state == CONN_STOPPED && e->stop_is_fatal;
    t->states[e->state]++;
    if (e->state == CONN_UP) t->lives[view->life.verdict]++;
    if (!r || r < t->worst_rank || (r == t->worst_rank && view->down_for_ms <= t->worst_ms)) return;
    t->worst_rank = r;
    t->worst_ms = view->down_for_ms;
    t->worst = *view;
}

static bool worst_json(struct buffer *out, const struct connection_view *v)
{
    const struct engine_view *e = &v->engine;
    char since[TIMESTAMP_TEXT_MAX];
    bool ok = buffer_append_text(out, ",\"worst\":{\"name\":") && text_json_string(out, v->name, strlen(v->name)) &&
              buffer_printf(out, ",\"state\":\"%s\",\"since\":\"%s\",\"life\":\"%s\",\"attempt\":%" PRIu32,
                            conn_state_name(e->state), timestamp_format(e->since_wall_ms, since), life_name(v->life.verdict), e->failed);
    if (ok && e->cause.kind != CAUSE_NONE) {
        ok = buffer_printf(out, ",\"cause\":{\"kind\":\"%s\",\"stage\":\"%s\",\"by\":\"%s\",\"name\":", cause_kind_name(e->cause.kind),
                           stage_name(e->cause.stage), cause_by_name(e->cause.by)) &&
             text_json_string(out, e->cause.name, strlen(e->cause.name)) && buffer_append_text(out, ",\"reason\":") &&
             text_json_string(out, e->cause.reason, strlen(e->cause.reason)) && buffer_append_char(out, '}');
    }
    if (ok && e->cause.kind != CAUSE_NONE) ok = buffer_printf(out, ",\"whose\":\"%s\"", blame_name(v->whose));
    if (ok && v->down_for_ms && (e->wanted || e->stop_is_fatal))
        ok = buffer_printf(out, ",\"down_since\":\"%s\"", timestamp_format(v->now.wall_ms - v->down_for_ms, since));
    if (ok && e->decision.note[0] && e->decision.cause.kind == e->cause.kind)
        ok = buffer_append_text(out, ",\"note\":") && text_json_string(out, e->decision.note, strlen(e->decision.note));
    if (ok && e->next) ok = buffer_printf(out, ",\"next\":\"%s\"", e->next);
    if (ok && e->next && e->deadline_ms != ENGINE_NEVER)
        ok = buffer_printf(out, ",\"next_at\":\"%s\"", timestamp_format(v->now.wall_ms - v->now.mono_ms + e->deadline_ms, since));
    return ok && buffer_append_char(out, '}');
}

bool summary__json(const struct ops *ops, const struct tally *t, struct buffer *out)
{
    struct runtime_held held = runtime_held(ops->rt);
    const bool ill = store_view__is_ill(ops);
    const bool well = t->worst_rank == 0 && !ill;
    bool ok = buffer_printf(out, "{\"well\":%s,\"needs_person\":%s,\"connections\":{\"all\":%" PRIu32 ",\"wanted\":%" PRIu32 ",\"given_up\":%" PRIu32,
                            well ? "true" : "false", t->fatal || ill ? "true" : "false", t->all, t->wanted, t->fatal);
    for (int s = 0; ok && s < CONN_STATE_COUNT; s++)
        ok = buffer_printf(out, ",\"%s\":%" PRIu32, conn_state_name((enum conn_state)s), t->states[s]);
    ok = ok && buffer_append_text(out, "},\"peers\":{");
    for (int l = 0; ok && l < LIFE_COUNT; l++)
        ok = buffer_printf(out, "%s\"%s\":%" PRIu32, l ? "," : "", life_name((enum life_verdict)l), t->lives[l]);
    ok = ok && buffer_append_char(out, '}') && (!t->worst_rank || worst_json(out, &t->worst));
    return ok && buffer_append_text(out, ",\"weather\":") && runtime_weather_json(ops->rt, out) &&
           buffer_append_char(out, ',') && trial_view__json(ops, out) &&
           buffer_printf(out, ",\"held\":%" PRIu32 ",\"store\":{\"degraded\":%s},\"reload\":", held.now, ill ? "true" : "false") &&
           reload_view__json(ops, out) && buffer_append_text(out, ",\"puts\":") && manage__puts_json(ops, out) &&
           buffer_append_char(out, '}');
}

static bool each(struct client *c, struct gather *g, struct handle conn, const struct connection_view *view)
{
    (void)c;
    (void)conn;
    summary__count((struct tally *)g->state, view);
    return true;
}

static bool end(struct client *c, struct gather *g)
{
    return summary__json(c->ops, (struct tally *)g->state, &g->out) && buffer_append_char(&g->out, '\n');
}

int summary__get(struct client *c, const char *name)
{
    static const struct gather_ops summary = { .type = "application/json", .facts = true, .each = each, .end = end };
    (void)name;
    return gather_begin(c, gather_create(sizeof(struct tally), &summary));
}
