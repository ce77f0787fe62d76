/* Watch: GET /v1/watch, everything that changes as server-sent events, for a page or a tool that shows thousands
 * of connections live. Owns one bounded ring of recent events that all watchers read at their own pace; whoever
 * falls out of it is ended, and comes back with a snapshot. Costs nothing while nobody watches. What is found by
 * looking at all connections, once a second, is in watch_sweep.c.
 *
 *   id: EPOCH-N            of each event but the snapshot's; EPOCH differs from process to process
 *   event: snapshot        {"connections":[...],"more":BOOL}: all of them, as GET /v1/connections has them, in
 *                          pieces; after the last (`more` false) come the changes since the first
 *   event: state           a connection as it is now: it is new, or its state changed
 *   event: gone            {"connection":NAME}
 *   event: journal         {"connection":NAME,"entry":{...}}, as in GET /v1/connections/NAME/journal
 *   event: pulse           {"at":T,"connections":{NAME:{"life","in","out","delivered","backlog","round_trip_ms"}}}:
 *                          of those whose numbers changed, each at most once a second
 *   event: summary         as GET /v1/summary, when it changed, at most once a second
 *   event: missed          {"journal":N}: so many entries were left out of a storm; `state` is never left out
 *   : (a comment)          when nothing was said for fifteen seconds
 *
 * ?connection=PATTERN (repeatable) selects; `summary` and `missed` are of all. `Last-Event-ID`, or ?last_event_id=,
 * goes on where a stream broke off, without a snapshot, if the ring still has it. A state is told at once, or within
 * a second when more than two hundred change in one. Times are UTC. The scope `read` is enough. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/duration.h"
#include "base/text.h"
#include "ops/journal.h"
#include "ops/watch_internal.h"

#define RING_BYTES_MAX ((size_t)8 << 20)
#define FILL_BYTES ((size_t)48 << 10)
#define SNAPSHOT_PIECE 64u
#define STATES_IN_ONE_GO 64u
#define STATES_AT_ONCE 200u    /* a second; the rest with the sweep */
#define JOURNAL_AT_ONCE 500u
#define SILENT_MS 15000u
#define STUCK_MS 30000u
#define PATTERNS_MAX 8u

struct watcher {
    uint64_t next_id;
    bool snapshot;          /* still to be written, from `index` on */
    uint32_t index;
    uint64_t wrote_ms;
    uint32_t pattern_count;
    char patterns[PATTERNS_MAX][128];
};

static struct watch *watch_get(struct ops *ops);
static void on_soon(uv_timer_t *handle);
static bool snapshot_piece(struct client *c);
static bool event_write(struct client *c, const struct event_kept *e);
static bool wants(const struct watcher *x, const char *name);

/* --- asking ------------------------------------------------------------------------------------------------- */

int watch__get(struct client *c, const char *name)
{
    (void)name;
    char item[256], *value, last[48] = "";
    struct watch *w = watch_get(c->ops);
    struct watcher *x = w ? calloc(1, sizeof *x) : NULL;
    if (!x) return http__refuse(c, 503, "memory is out", "try again later");
    lws_hdr_custom_copy(c->wsi, last, sizeof last, "last-event-id:", 14);
    for (int index = 0; api__query_next(c, &index, item, sizeof item, &value);) {
        const bool connection = strcmp(item, "connection") == 0;
        if (connection && x->pattern_count < PATTERNS_MAX && strlen(value) < sizeof x->patterns[0]) {
            text_copy(x->patterns[x->pattern_count++], sizeof x->patterns[0], value, strlen(value));
        } else if (strcmp(item, "last_event_id") == 0) {
            text_copy(last, sizeof last, value, strlen(value));
        } else {
            free(x);
            return http__refuse(c, 400, "the query is not understood", "connection (at most 8), last_event_id");
        }
    }
    unsigned long long epoch = 0, id = 0;
    const bool known = sscanf(last, "%llx-%llu", &epoch, &id) == 2 && epoch == w->epoch && id + 1 >= w->first_id && id < w->end_id;
    x->snapshot = !known;
    x->next_id = known ? id + 1 : w->end_id;
    x->wrote_ms = uv_now(c->ops->loop);
    c->watch = x;
    c->kind = CLIENT_WATCH;
    if (!w->watchers && !w->idle_since_ms) {
        w->priming = true;
        w->at = 0;
        w->tally = (struct tally){ 0 };
        uv_timer_stop(&w->sweep);
    }
    w->watchers++;
    w->idle_since_ms = 0;
    if (!uv_is_active((uv_handle_t *)&w->sweep)) uv_timer_start(&w->sweep, watch__on_sweep, 0, 0);
    return http__stream(c, "text/event-stream");
}

void watch__gone(struct client *c)
{
    struct watch *w = c->ops->watch;
    if (!c->watch) return;
    free(c->watch);
    c->watch = NULL;
    ASSERT(w->watchers > 0);
    if (--w->watchers == 0) w->idle_since_ms = uv_now(c->ops->loop) + 1;
}

/* The socket takes more. */
int watch__writeable(struct client *c)
{
    static const uint8_t room[LWS_PRE];
    struct watch *w = c->ops->watch;
    struct watcher *x = c->watch;
    buffer_clear(&c->out);
    if (!buffer_append(&c->out, room, sizeof room)) return -1;
    if (!x->snapshot && x->next_id < w->first_id) return -1; /* too slow: it comes back with a snapshot */
    bool ok = true;
    while (ok && c->out.len < FILL_BYTES) {
        if (x->snapshot && w->priming) break;
        if (x->snapshot) ok = snapshot_piece(c);
        else if (x->next_id < w->end_id) ok = event_write(c, w->ring[x->next_id++ % WATCH_EVENTS_MAX]);
        else break;
    }
    if (!ok) return -1;
    const size_t len = c->out.len - LWS_PRE;
    if (!len) return 0;
    if (lws_write(c->wsi, c->out.data + LWS_PRE, len, LWS_WRITE_HTTP) < 0) return -1;
    lws_set_timeout(c->wsi, NO_PENDING_TIMEOUT, 0);
    x->wrote_ms = uv_now(c->ops->loop);
    buffer_clear(&c->out);
    buffer_trim(&c->out, 4096);
    if ((x->snapshot && !w->priming) || (!x->snapshot && x->next_id < w->end_id)) lws_callback_on_writable(c->wsi);
    return 0;
}

/* True: its reader does not read, or is gone. Otherwise says now and then that the stream lives. */
bool watch__judge(struct client *c, uint64_t now_ms)
{
    const struct watch *w = c->ops->watch;
    struct watcher *x = c->watch;
    const bool owes = x->snapshot || x->next_id < w->end_id;
    if (owes) return now_ms - x->wrote_ms >= STUCK_MS || (!x->snapshot && x->next_id < w->first_id);
    if (now_ms - x->wrote_ms < SILENT_MS) return false;
    static const char comment[] = ":\n\n";
    uint8_t line[LWS_PRE + sizeof comment - 1];
    memcpy(line + LWS_PRE, comment, sizeof comment - 1);
    x->wrote_ms = now_ms;
    return !lws_send_pipe_choked(c->wsi) && lws_write(c->wsi, line + LWS_PRE, sizeof comment - 1, LWS_WRITE_HTTP) < 0;
}

/* --- what happens ------------------------------------------------------------------------------------------- */

static void second_begins(struct watch *w)
{
    const uint64_t second = uv_now(w->ops->loop) / 1000;
    if (second == w->second) return;
    w->second = second;
    w->states_told = w->journal_told = 0;
}

void ops_journaled(struct ops *ops, struct handle conn, const char *name, const struct journal_entry *entry)
{
    struct watch *w = ops->watch;
    if (!w || (!w->watchers && !w->idle_since_ms)) return;
    second_begins(w);
    if (entry->kind == JOURNAL_STATE && conn.index < w->seen_count) w->seen[conn.index].changed = true;
    if (w->journal_told++ >= JOURNAL_AT_ONCE) {
        w->journal_missed++;
    } else {
        buffer_clear(&w->scratch);
        bool ok = buffer_append(&w->scratch, name, strlen(name) + 1) && buffer_append_text(&w->scratch, "{\"connection\":") &&
                  text_json_string(&w->scratch, name, strlen(name)) && buffer_append_text(&w->scratch, ",\"entry\":") &&
                  journal__entry_json(&w->scratch, entry) && buffer_append(&w->scratch, "}", 2);
        if (ok) watch__push(w, "journal", false, 1);
    }
    if (entry->kind != JOURNAL_STATE || w->states_told >= STATES_AT_ONCE) return;
    /* Not now: this comes from inside a step, and the connection is not what it will be in a moment. */
    w->states_due = true;
    uv_timer_start(&w->soon, on_soon, 0, 0);
}

bool watch__told_state(struct watch *w, struct handle conn)
{
    struct connection_view view;
    buffer_clear(&w->scratch);
    if (!runtime_view(w->ops->rt, conn, &view)) return false;
    if (conn.index < w->seen_count) w->seen[conn.index].changed = false;
    if (!buffer_append(&w->scratch, view.name, strlen(view.name) + 1) ||
        !runtime_view_json(&view, &w->scratch) || !buffer_append_char(&w->scratch, 0))
        return false;
    watch__push(w, "state", false, 1);
    return true;
}

/* --- the ring ------------------------------------------------------------------------------------------------ */

void watch__ring_drop(struct watch *w)
{
    struct event_kept *e = w->ring[w->first_id++ % WATCH_EVENTS_MAX];
    w->ring_bytes -= sizeof *e + e->len;
    free(e);
}

/* What scratch holds becomes an event. */
void watch__push(struct watch *w, const char *kind, bool joined, uint32_t pieces)
{
    struct event_kept *e = malloc(sizeof *e + w->scratch.len);
    if (!e) return; /* the next sweep tells what matters of it */
    *e = (struct event_kept){ .id = w->end_id, .kind = kind, .joined = joined, .pieces = pieces, .len = w->scratch.len };
    memcpy(e->bytes, w->scratch.data, w->scratch.len);
    const uint32_t most = w->ops->options.watch_events_max;
    while (w->end_id - w->first_id >= most || (w->first_id < w->end_id && w->ring_bytes + e->len > RING_BYTES_MAX))
        watch__ring_drop(w);
    w->ring[w->end_id++ % WATCH_EVENTS_MAX] = e;
    w->ring_bytes += sizeof *e + e->len;
    if (!uv_is_active((uv_handle_t *)&w->soon)) uv_timer_start(&w->soon, on_soon, 0, 0);
}

static bool wants(const struct watcher *x, const char *name)
{
    if (!x->pattern_count || !name[0]) return true;
    for (uint32_t i = 0; i < x->pattern_count; i++)
        if (text_glob(x->patterns[i], name)) return true;
    return false;
}

static bool event_write(struct client *c, const struct event_kept *e)
{
    const struct watch *w = c->ops->watch;
    const char *at = e->bytes;
    char now[TIMESTAMP_TEXT_MAX];
    bool ok = true, any = false;
    for (uint32_t i = 0; ok && i < e->pieces; i++) {
        const char *name = at, *json = at + strlen(at) + 1;
        at = json + strlen(json) + 1;
        if (!wants(c->watch, name)) continue;
        if (!any) ok = buffer_printf(&c->out, "id: %" PRIx64 "-%" PRIu64 "\nevent: %s\ndata: ", w->epoch, e->id, e->kind);
        if (ok && !any && e->joined) {
            timestamp_format(ops__wall_ms(), now);
            ok = buffer_printf(&c->out, "{\"at\":\"%s\",\"connections\":{", now);
        }
        if (ok && e->joined) {
            ok = (!any || buffer_append_char(&c->out, ',')) && text_json_string(&c->out, name, strlen(name)) &&
                 buffer_append_char(&c->out, ':');
        }
        ok = ok && buffer_append_text(&c->out, json);
        any = true;
    }
    return ok && (!any || buffer_append_text(&c->out, e->joined ? "}}\n\n" : "\n\n"));
}

static bool snapshot_piece(struct client *c)
{
    struct watcher *x = c->watch;
    struct connection_view view;
    struct handle h;
    uint32_t n = 0;
    bool ok = buffer_append_text(&c->out, "event: snapshot\ndata: {\"connections\":[");
    for (; ok && n < SNAPSHOT_PIECE && runtime_next(c->ops->rt, &x->index, &h); x->index++) {
        if (!runtime_view(c->ops->rt, h, &view) || !wants(x, view.name)) continue;
        ok = (n == 0 || buffer_append_char(&c->out, ',')) && runtime_view_json(&view, &c->out);
        n++;
    }
    uint32_t after = x->index;
    x->snapshot = runtime_next(c->ops->rt, &after, &h);
    return ok && buffer_printf(&c->out, "],\"more\":%s}\n\n", x->snapshot ? "true" : "false");
}

/* States that changed in this turn, then all who wait for events. */
static void on_soon(uv_timer_t *handle)
{
    struct watch *w = handle->data;
    uint32_t told = 0, i = 0;
    for (; w->states_due && i < w->seen_count && w->states_told < STATES_AT_ONCE && told < STATES_IN_ONE_GO; i++) {
        if (!w->seen[i].changed || handle_is_none(w->seen[i].conn)) continue;
        w->states_told++;
        told++;
        watch__told_state(w, w->seen[i].conn);
    }
    w->states_due = told == STATES_IN_ONE_GO && i < w->seen_count && w->states_told < STATES_AT_ONCE;
    uv_timer_stop(&w->soon);
    watch__wake(w);
    if (w->states_due) uv_timer_start(&w->soon, on_soon, 1, 0);
}

void watch__wake(struct watch *w)
{
    for (struct client *c = w->ops->clients; c; c = c->next)
        if (c->kind == CLIENT_WATCH && c->wsi && !c->closing) lws_callback_on_writable(c->wsi);
}

/* --- its life ------------------------------------------------------------------------------------------------ */

static struct watch *watch_get(struct ops *ops)
{
    if (ops->watch) return ops->watch;
    struct watch *w = calloc(1, sizeof *w);
    if (!w) return NULL;
    w->ops = ops;
    w->epoch = ops__wall_ms();
    w->first_id = w->end_id = w->round = 1;
    buffer_init(&w->scratch, 0);
    buffer_init(&w->summary_told, 0);
    uv_timer_init(ops->loop, &w->sweep);
    uv_timer_init(ops->loop, &w->soon);
    w->sweep.data = w->soon.data = w;
    uv_unref((uv_handle_t *)&w->sweep);
    uv_unref((uv_handle_t *)&w->soon);
    ops->watch = w;
    return w;
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct watch *w = handle->data;
    ASSERT(w->ops->handles > 0);
    w->ops->handles--;
}

void watch__close(struct ops *ops)
{
    if (!ops->watch) return;
    uv_close((uv_handle_t *)&ops->watch->sweep, on_timer_closed);
    uv_close((uv_handle_t *)&ops->watch->soon, on_timer_closed);
    ops->handles += 2;
}

void watch__free(struct ops *ops)
{
    struct watch *w = ops->watch;
    if (!w) return;
    while (w->first_id < w->end_id) watch__ring_drop(w);
    free(w->seen);
    buffer_deinit(&w->scratch);
    buffer_deinit(&w->summary_told);
    free(w);
    ops->watch = NULL;
}
