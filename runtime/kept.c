/* Kept: what outlives the process. Turns what happens in deliver and in the journal into requests to the
 * store, and what an earlier process left into what it was: permits to the engine, streams and cursors to
 * deliver at once; sessions, keeps, wishes, seen keys and the journal when their connection is added. Daemon
 * and simulator share it; it knows no disk. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/failpoint.h"
#include "base/json_value.h"
#include "base/rng.h"
#include "base/text.h"
#include "runtime_internal.h"

/* Connections that are added so soon after an unclean start are taken for those of the killed process. */
#define UNCLEAN_ADD_MS 60000

struct rt_seen {
    struct dedupe_key key;
    uint64_t offset, wall_ms;
};

struct rt_old_entry {
    uint64_t wall_ms;
    char *json; /* owned */
    size_t len;
};

/* Of one name, until its connection is added. */
struct rt_parked {
    char name[64];
    struct rt_parked *next;      /* of the same bucket */
    struct value session, keep;  /* nil: none */
    uint64_t session_of, session_saved_wall_ms;
    bool stopped, backlog;       /* an operator's wish; it had a stream */
    struct rt_seen *seen;        /* owned */
    uint32_t seen_count, seen_capacity;
    struct rt_old_entry *journal; /* owned; a ring of journal_entries */
    uint32_t journal_count, journal_next;
    struct history history;
};

static void submit(struct runtime *rt, const struct store_request *request)
{
    /* The store tells its own troubles; what it refuses here is missing after a restart only. */
    rt->options.store.ops->submit(rt->options.store.self, request);
}

/* --- what deliver tells ------------------------------------------------------------------------------------- */

/* Once per frame: the other fields of its request stay what they are, nothing. */
static void on_event(void *self, const char *connection, bool gap, uint64_t epoch, uint64_t offset,
                     uint64_t wall_ms, const void *line, size_t len)
{
    struct store_request *request = &((struct runtime *)self)->event_request;
    request->op = STORE_OP_EVENT;
    request->connection = connection;
    request->kind = gap ? STORE_EVENT_GAP : STORE_EVENT_FRAME;
    request->epoch = epoch;
    request->offset = offset;
    request->wall_ms = wall_ms;
    request->bytes = line;
    request->len = len;
    submit(self, request);
}

static void on_trim(void *self, const char *connection, uint64_t epoch, uint64_t offset)
{
    FAILPOINT("trim");
    submit(self, &(struct store_request){ .op = STORE_OP_TRIM,
                                          .connection = connection,
                                          .epoch = epoch,
                                          .offset = offset });
}

static void on_consumer(void *self, const char *name, const void *patterns, size_t len,
                        uint64_t wall_ms)
{
    FAILPOINT("consumer");
    submit(self, &(struct store_request){ .op = STORE_OP_CONSUMER,
                                          .consumer = name,
                                          .bytes = patterns,
                                          .len = len,
                                          .wall_ms = wall_ms });
}

static void on_consumer_gone(void *self, const char *name)
{
    submit(self, &(struct store_request){ .op = STORE_OP_CONSUMER_GONE, .consumer = name });
}

static void on_cursor(void *self, const char *consumer, const char *connection, uint64_t epoch,
                      uint64_t offset, uint64_t wall_ms)
{
    FAILPOINT("cursor");
    submit(self, &(struct store_request){ .op = STORE_OP_CURSOR,
                                          .consumer = consumer,
                                          .connection = connection,
                                          .epoch = epoch,
                                          .offset = offset,
                                          .wall_ms = wall_ms });
}

void rt_keep_init(struct runtime *rt)
{
    struct deliver_keeper keeper = { .self = rt,
                                     .event = on_event,
                                     .trim = on_trim,
                                     .consumer = on_consumer,
                                     .consumer_gone = on_consumer_gone,
                                     .cursor = on_cursor };
    deliver_set_keeper(rt->options.deliver, &keeper);
}

/* --- what the runtime keeps --------------------------------------------------------------------------------- */

void rt_keep_wish(struct runtime *rt, const struct rt_conn *c, bool stopped)
{
    submit(rt, &(struct store_request){ .op = STORE_OP_WISH, .connection = c->name, .count = stopped });
}

void rt_keep_gone(struct runtime *rt, const struct rt_conn *c)
{
    submit(rt, &(struct store_request){ .op = STORE_OP_CONNECTION_GONE, .connection = c->name });
}

void rt_keep_seen(struct runtime *rt, const struct rt_conn *c, struct dedupe_key key, uint64_t offset,
                  uint64_t wall_ms, uint64_t over_ms)
{
    FAILPOINT("seen");
    submit(rt, &(struct store_request){ .op = STORE_OP_SEEN,
                                        .connection = c->name,
                                        .key_high = key.high,
                                        .key_low = key.low,
                                        .offset = offset,
                                        .wall_ms = wall_ms,
                                        .until_wall_ms = wall_ms + over_ms });
}

static bool key_text(struct buffer *json, const char *key, const char *text)
{
    return buffer_append_char(json, '"') && buffer_append_text(json, key) && buffer_append_text(json, "\":") &&
           text_json_string(json, text, strlen(text));
}

void rt_keep_journal(struct runtime *rt, const struct rt_conn *c, uint64_t wall_ms,
                     const struct journal_entry *entry)
{
    /* Some eight of them for each attempt of a herd: written at once, not through a table. */
    struct buffer *json = &rt->scratch_note;
    const bool state = entry->kind == JOURNAL_STATE;
    buffer_clear(json);
    bool ok = buffer_append_char(json, '{') &&
              (!state || (key_text(json, "cause", cause_kind_name(entry->cause_kind)) && buffer_append_char(json, ','))) &&
              key_text(json, "file", entry->file) && buffer_append_char(json, ',') &&
              (!state || (key_text(json, "from", conn_state_name(entry->from)) && buffer_append_char(json, ','))) &&
              (!state || !entry->given_up || buffer_append_text(json, "\"given_up\":true,")) &&
              buffer_append_text(json, "\"kind\":") &&
              buffer_append_decimal(json, entry->kind == JOURNAL_DECISION ? JOURNAL_NOTE : entry->kind) &&
              buffer_append_text(json, ",\"link\":") && buffer_append_decimal(json, entry->generation) &&
              buffer_append_char(json, ',') && key_text(json, "text", entry->text) &&
              (!state || (buffer_append_char(json, ',') && key_text(json, "to", conn_state_name(entry->to)))) &&
              buffer_append_char(json, '}');
    if (ok) {
        submit(rt, &(struct store_request){ .op = STORE_OP_JOURNAL,
                                            .connection = c->name,
                                            .wall_ms = wall_ms,
                                            .bytes = json->data,
                                            .len = json->len });
    }
}

/* --- what was left ------------------------------------------------------------------------------------------- */

static struct rt_parked *parked_find(const struct runtime *rt, const char *name)
{
    if (!rt->parked) return NULL;
    struct rt_parked *p = rt->parked[hash_text(name) & rt->bucket_mask];
    while (p && strcmp(p->name, name) != 0) p = p->next;
    return p;
}

static struct rt_parked *parked_get(struct runtime *rt, const char *name)
{
    struct rt_parked *p = parked_find(rt, name);
    if (p) return p;
    if (!rt->parked) rt->parked = calloc(rt->bucket_mask + 1, sizeof *rt->parked);
    p = calloc(1, sizeof *p);
    ASSERT(rt->parked != NULL && p != NULL);
    text_copy(p->name, sizeof p->name, name, strlen(name));
    p->session = p->keep = value_nil();
    struct rt_parked **bucket = &rt->parked[hash_text(name) & rt->bucket_mask];
    p->next = *bucket;
    *bucket = p;
    return p;
}

static void parked_free(struct runtime *rt, struct rt_parked *p)
{
    value_clear(&p->session);
    value_clear(&p->keep);
    free(p->seen);
    for (uint32_t i = 0; p->journal && i < rt->options.journal_entries; i++) free(p->journal[i].json);
    free(p->journal);
    history_clear(&p->history);
    free(p);
}

void rt_parked_free(struct runtime *rt)
{
    for (uint32_t i = 0; rt->parked && i <= rt->bucket_mask; i++) {
        for (struct rt_parked *p = rt->parked[i], *next; p; p = next) {
            next = p->next;
            parked_free(rt, p);
        }
    }
    free(rt->parked);
    rt->parked = NULL;
}

/* What was on disk was done by somebody who still lived. */
static void lived(struct runtime *rt, uint64_t wall_ms)
{
    if (wall_ms > rt->left_wall_ms && wall_ms <= rt_clock(rt).wall_ms) rt->left_wall_ms = wall_ms;
}

static void left_wish(void *self, const char *connection, bool stopped)
{
    parked_get(self, connection)->stopped = stopped;
}

static void left_table(struct value *to, const void *json, size_t len)
{
    char why[64];
    struct value v;
    if (!json_value_parse(json, len, &v, why, sizeof why)) return;
    if (v.kind != VALUE_TABLE) {
        value_clear(&v);
        return;
    }
    value_clear(to);
    *to = v;
}

static void left_session(void *self, const char *connection, uint64_t session_of,
                         uint64_t saved_wall_ms, const void *json, size_t len)
{
    struct rt_parked *p = parked_get(self, connection);
    lived(self, saved_wall_ms);
    left_table(&p->session, json, len);
    p->session_of = session_of;
    p->session_saved_wall_ms = saved_wall_ms;
}

static void left_keep(void *self, const char *connection, const void *json, size_t len)
{
    left_table(&parked_get(self, connection)->keep, json, len);
}

static void left_permit(void *self, uint64_t account, enum budget_kind budget, int64_t lane,
                        bool same_boot, uint64_t wall_ms, uint64_t boot_ms)
{
    runtime_restore_permit(self, account, budget, lane, same_boot, wall_ms, boot_ms);
}

static void left_told(void *self, uint64_t account, enum budget_kind budget, int64_t left,
                      uint32_t lanes, bool same_boot, uint64_t until_wall_ms, uint64_t until_boot_ms)
{
    runtime_restore_told(self, account, budget, left, lanes, same_boot, until_wall_ms, until_boot_ms);
}

static void left_epoch(void *self, const char *connection, uint64_t epoch, uint64_t after,
                       uint64_t last)
{
    struct runtime *rt = self;
    parked_get(rt, connection)->backlog = true;
    if (rt->options.deliver) deliver_restore_epoch(rt->options.deliver, connection, epoch, after, last);
}

static void left_event(void *self, const char *connection, enum store_event_kind kind,
                       uint64_t epoch, uint64_t offset, uint64_t wall_ms, const void *line, size_t len)
{
    struct runtime *rt = self;
    lived(rt, wall_ms);
    if (!rt->options.deliver) return;
    deliver_restore_event(rt->options.deliver, connection, kind == STORE_EVENT_GAP, epoch, offset,
                          wall_ms, line, len);
}

static void left_consumer(void *self, const char *name, const void *patterns, size_t len,
                          uint64_t wall_ms)
{
    struct runtime *rt = self;
    if (rt->options.deliver) {
        deliver_restore_consumer(rt->options.deliver, name, patterns, len, wall_ms);
    }
}

static void left_cursor(void *self, const char *consumer, const char *connection, uint64_t epoch,
                        uint64_t offset, uint64_t wall_ms)
{
    struct runtime *rt = self;
    if (!rt->options.deliver) return;
    deliver_restore_cursor(rt->options.deliver, consumer, connection, epoch, offset, wall_ms);
}

static void left_seen(void *self, const char *connection, uint64_t key_high, uint64_t key_low,
                      uint64_t offset, uint64_t wall_ms)
{
    struct rt_parked *p = parked_get(self, connection);
    if (p->seen_count == p->seen_capacity) {
        p->seen_capacity = p->seen_capacity ? p->seen_capacity * 2 : 64;
        p->seen = realloc(p->seen, p->seen_capacity * sizeof *p->seen);
        ASSERT(p->seen != NULL);
    }
    p->seen[p->seen_count++] =
        (struct rt_seen){ .key = { key_high, key_low }, .offset = offset, .wall_ms = wall_ms };
}

/* The text of a key whose value is a word of ours. Without parsing: a hundred thousand entries may have to be looked
 * at. A quote inside of a text has a backslash before it, so nothing but a key looks like this. */
static bool word_at(const char *json, size_t len, const char *key, char out[32])
{
    char wanted[32];
    const size_t wanted_len = (size_t)snprintf(wanted, sizeof wanted, "\"%s\":\"", key);
    const char *at = memmem(json, len, wanted, wanted_len), *end = at ? json + len : NULL;
    if (!at) return false;
    at += wanted_len;
    const char *quote = memchr(at, '"', (size_t)(end - at));
    if (!quote || quote - at >= 32) return false;
    text_copy(out, 32, at, (size_t)(quote - at));
    return true;
}

static void left_mark(struct rt_parked *p, uint64_t wall_ms, const char *json, size_t len)
{
    char word[32];
    uint8_t cause = CAUSE_NONE;
    if (!word_at(json, len, "to", word)) return;
    int state = 0;
    while (state < CONN_STATE_COUNT && strcmp(conn_state_name((enum conn_state)state), word) != 0) state++;
    if (state == CONN_STATE_COUNT) return;
    if (memmem(json, len, "\"given_up\":true", 15)) state = HISTORY_GIVEN_UP;
    if (word_at(json, len, "cause", word))
        for (int kind = 0; kind < CAUSE_KIND_COUNT; kind++)
            if (strcmp(cause_kind_name((enum cause_kind)kind), word) == 0) cause = (uint8_t)kind;
    history_add(&p->history, wall_ms, (uint8_t)state, cause);
}

static void left_journal(void *self, const char *connection, uint64_t wall_ms, const void *json,
                         size_t len)
{
    struct runtime *rt = self;
    uint32_t most = rt->options.journal_entries;
    if (!connection) return;
    struct rt_parked *p = parked_get(rt, connection);
    lived(rt, wall_ms);
    left_mark(p, wall_ms, json, len);
    if (!p->journal) p->journal = calloc(most, sizeof *p->journal);
    ASSERT(p->journal != NULL);
    struct rt_old_entry *e = &p->journal[p->journal_next];
    free(e->json);
    *e = (struct rt_old_entry){ .wall_ms = wall_ms, .json = malloc(len + 1), .len = len };
    ASSERT(e->json != NULL);
    memcpy(e->json, json, len);
    p->journal_next = (p->journal_next + 1) % most;
    if (p->journal_count < most) p->journal_count++;
}

struct store_visitor runtime_restore(struct runtime *rt)
{
    return (struct store_visitor){ .self = rt,
                                   .wish = left_wish,
                                   .session = left_session,
                                   .keep = left_keep,
                                   .permit = left_permit,
                                   .told = left_told,
                                   .epoch = left_epoch,
                                   .event = left_event,
                                   .consumer = left_consumer,
                                   .cursor = left_cursor,
                                   .seen = left_seen,
                                   .journal = left_journal };
}

void runtime_restored(struct runtime *rt, bool clean)
{
    if (!clean) rt->unclean_until_ms = rt_clock(rt).mono_ms + UNCLEAN_ADD_MS;
    if (rt->options.deliver) deliver_restore_done(rt->options.deliver, clean);
}

bool rt_parked_get(struct runtime *rt, const char *name, struct connection_spec *spec)
{
    const struct rt_parked *p = parked_find(rt, name);
    /* A process that was killed may have had a session, and nothing of it on disk yet. */
    if (rt_clock(rt).mono_ms < rt->unclean_until_ms) spec->restarted = true;
    if (!p) return false;
    if (!spec->session && p->session.kind == VALUE_TABLE) {
        spec->session = &p->session;
        spec->session_of = p->session_of;
        spec->session_saved_wall_ms = p->session_saved_wall_ms;
    }
    if (!spec->keep && p->keep.kind == VALUE_TABLE) spec->keep = &p->keep;
    spec->restarted = spec->restarted || p->backlog;
    spec->stopped = spec->stopped || p->stopped;
    return true;
}

static void seen_again(struct runtime *rt, struct rt_conn *c, const struct rt_parked *p)
{
    struct clock now = rt_clock(rt);
    for (uint32_t i = 0; c->dedupe && i < p->seen_count; i++) {
        const struct rt_seen *seen = &p->seen[i];
        /* Ages by the wall: nothing else outlives a boot. One that seems to come from the future is new. */
        uint64_t age = now.wall_ms > seen->wall_ms ? now.wall_ms - seen->wall_ms : 0;
        uint64_t at = now.mono_ms > age ? now.mono_ms - age : 0;
        dedupe_add(c->dedupe, seen->key, at, seen->offset);
        if (seen->offset > c->acks_safe) c->acks_safe = seen->offset; /* it was read from disk */
    }
}

static void journal_again(struct runtime *rt, struct rt_conn *c, const struct rt_parked *p)
{
    uint32_t most = rt->options.journal_entries;
    for (uint32_t i = 0; i < p->journal_count; i++) {
        const struct rt_old_entry *e = &p->journal[(p->journal_next + most - p->journal_count + i) % most];
        struct value v = value_nil();
        left_table(&v, e->json, e->len);
        if (v.kind == VALUE_TABLE) rt_journal_restore(rt, c, e->wall_ms, &v);
        value_clear(&v);
    }
}

void rt_parked_take(struct runtime *rt, struct rt_conn *c)
{
    struct rt_parked *p = parked_find(rt, c->name);
    if (!p) return;
    seen_again(rt, c, p);
    journal_again(rt, c, p);
    history_clear(&c->history);
    c->history = p->history;
    p->history = (struct history){ 0 };
    /* What it did after its last sign of life nobody wrote down. */
    if (c->history.count && c->history.marks[c->history.count - 1].state < HISTORY_GIVEN_UP &&
        c->history.marks[c->history.count - 1].state != CONN_STOPPED)
        history_add(&c->history, rt->left_wall_ms, HISTORY_UNKNOWN, CAUSE_NONE);
    struct rt_parked **at = &rt->parked[hash_text(p->name) & rt->bucket_mask];
    while (*at != p) at = &(*at)->next;
    *at = p->next;
    parked_free(rt, p);
}
