/* store export: every row as one line of JSON, an object with one key that says what it is. What was stored
 * as JSON is written verbatim when it is JSON, and as base64 when it is not, so that nothing that a platform
 * sent can break a line. Whole numbers of 64 bits that mean nothing but themselves are hexadecimal text. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/duration.h"
#include "cli/store.h"
#include "crypto/digest.h"
#include "frame/json.h"

struct export {
    struct buffer line; /* owned */
    bool full;          /* memory was out for a row */
};

static const char *const budget_names[] = { "start", "dial", "call", "send" };
_Static_assert(sizeof budget_names / sizeof *budget_names == BUDGET_COUNT, "a name a budget");

static struct export *begin(void *self, const char *kind)
{
    struct export *e = self;
    buffer_clear(&e->line);
    e->full |= !buffer_printf(&e->line, "{\"%s\":{", kind);
    return e;
}

static void end(struct export *e)
{
    /* Every member leaves a comma behind; the last one's place takes the brace. */
    if (e->line.len && e->line.data[e->line.len - 1] == ',') e->line.len--;
    e->full |= !buffer_append_text(&e->line, "}}\n");
    if (!e->full) fwrite(e->line.data, 1, e->line.len, stdout);
}

static void text(struct export *e, const char *key, const char *value)
{
    bool ok = buffer_printf(&e->line, "\"%s\":", key);
    ok = ok && (value ? text_json_string(&e->line, value, strlen(value)) : buffer_append_text(&e->line, "null"));
    e->full |= !ok || !buffer_append_char(&e->line, ',');
}

static void number(struct export *e, const char *key, uint64_t n)
{
    e->full |= !buffer_printf(&e->line, "\"%s\":%llu,", key, (unsigned long long)n);
}

static void signed_number(struct export *e, const char *key, int64_t n)
{
    e->full |= !buffer_printf(&e->line, "\"%s\":%lld,", key, (long long)n);
}

static void hex(struct export *e, const char *key, uint64_t n)
{
    e->full |= !buffer_printf(&e->line, "\"%s\":\"%016llx\",", key, (unsigned long long)n);
}

static void flag(struct export *e, const char *key, bool on)
{
    e->full |= !buffer_printf(&e->line, "\"%s\":%s,", key, on ? "true" : "false");
}

static void at(struct export *e, const char *key, uint64_t wall_ms)
{
    char stamp[TIMESTAMP_TEXT_MAX];
    text(e, key, wall_ms && wall_ms != UINT64_MAX ? timestamp_format(wall_ms, stamp) : NULL);
}

static void json(struct export *e, const char *key, const void *bytes, size_t len)
{
    const char *all = bytes;
    while (len && (all[len - 1] == '\n' || all[len - 1] == '\r')) len--;
    bool ok = buffer_printf(&e->line, "\"%s\":", key);
    size_t before = e->line.len;
    ok = ok && buffer_append(&e->line, all, len);
    if (ok && json_scan(e->line.data + before, len, NULL, NULL, NULL) == JSON_OK) {
        e->full |= !buffer_append_char(&e->line, ',');
        return;
    }
    e->line.len = before - 2;
    ok = ok && buffer_append_text(&e->line, "_base64\":\"") && buffer_reserve(&e->line, BASE64_TEXT_BYTES(len) + 1);
    if (ok) e->line.len += base64_encode(bytes, len, (char *)e->line.data + e->line.len);
    e->full |= !ok || !buffer_append_text(&e->line, "\",");
}

static void on_connection(void *self, const char *name, const void *bytes, size_t len)
{
    struct export *e = begin(self, "connection");
    text(e, "name", name);
    json(e, "settings", bytes, len);
    end(e);
}

static void on_wish(void *self, const char *connection, bool stopped)
{
    struct export *e = begin(self, "wish");
    text(e, "connection", connection);
    flag(e, "stopped", stopped);
    end(e);
}

static void on_session(void *self, const char *connection, uint64_t session_of, uint64_t saved_wall_ms,
                       const void *bytes, size_t len)
{
    struct export *e = begin(self, "session");
    text(e, "connection", connection);
    hex(e, "of", session_of);
    at(e, "saved", saved_wall_ms);
    json(e, "values", bytes, len);
    end(e);
}

static void on_keep(void *self, const char *connection, const void *bytes, size_t len)
{
    struct export *e = begin(self, "keep");
    text(e, "connection", connection);
    json(e, "values", bytes, len);
    end(e);
}

static void on_permit(void *self, uint64_t account, enum budget_kind budget, int64_t lane, bool same_boot,
                      uint64_t wall_ms, uint64_t boot_ms)
{
    struct export *e = begin(self, "permit");
    (void)same_boot;
    hex(e, "account", account);
    text(e, "budget", budget_names[budget]);
    signed_number(e, "lane", lane);
    at(e, "at", wall_ms);
    number(e, "boot_ms", boot_ms);
    end(e);
}

static void on_told(void *self, uint64_t account, enum budget_kind budget, int64_t left, uint32_t lanes,
                    bool same_boot, uint64_t until_wall_ms, uint64_t until_boot_ms)
{
    struct export *e = begin(self, "told");
    (void)same_boot;
    hex(e, "account", account);
    text(e, "budget", budget_names[budget]);
    signed_number(e, "left", left);
    number(e, "lanes", lanes);
    at(e, "until", until_wall_ms);
    number(e, "until_boot_ms", until_boot_ms);
    end(e);
}

static void on_epoch(void *self, const char *connection, uint64_t epoch, uint64_t after, uint64_t last)
{
    struct export *e = begin(self, "epoch");
    text(e, "connection", connection);
    number(e, "epoch", epoch);
    number(e, "after", after);
    number(e, "last", last);
    end(e);
}

static void on_event(void *self, const char *connection, enum store_event_kind kind, uint64_t epoch,
                     uint64_t offset, uint64_t wall_ms, const void *line, size_t len)
{
    struct export *e = begin(self, "event");
    text(e, "connection", connection);
    text(e, "kind", kind == STORE_EVENT_GAP ? "gap" : "frame");
    number(e, "epoch", epoch);
    number(e, "offset", offset);
    at(e, "at", wall_ms);
    json(e, "line", line, len);
    end(e);
}

static void on_consumer(void *self, const char *name, const void *patterns, size_t len, uint64_t wall_ms)
{
    struct export *e = begin(self, "consumer");
    text(e, "name", name);
    json(e, "connections", patterns, len);
    at(e, "at", wall_ms);
    end(e);
}

static void on_cursor(void *self, const char *consumer, const char *connection, uint64_t epoch,
                      uint64_t offset, uint64_t wall_ms)
{
    struct export *e = begin(self, "cursor");
    text(e, "consumer", consumer);
    text(e, "connection", connection);
    number(e, "epoch", epoch);
    number(e, "offset", offset);
    at(e, "at", wall_ms);
    end(e);
}

static void on_seen(void *self, const char *connection, uint64_t key_high, uint64_t key_low,
                    uint64_t offset, uint64_t wall_ms)
{
    char key[40];
    struct export *e = begin(self, "seen");
    snprintf(key, sizeof key, "%016llx%016llx", (unsigned long long)key_high, (unsigned long long)key_low);
    text(e, "connection", connection);
    text(e, "key", key);
    number(e, "offset", offset);
    at(e, "at", wall_ms);
    end(e);
}

static void on_journal(void *self, const char *connection, uint64_t wall_ms, const void *bytes, size_t len)
{
    struct export *e = begin(self, "journal");
    text(e, "connection", connection);
    at(e, "at", wall_ms);
    json(e, "entry", bytes, len);
    end(e);
}

enum cli_exit store_export(struct store_core *core)
{
    struct export all = { .full = false };
    char why[600];
    struct store_visitor visitor = {
        .self = &all, .connection = on_connection, .wish = on_wish, .session = on_session,
        .keep = on_keep, .permit = on_permit, .told = on_told, .epoch = on_epoch, .event = on_event,
        .consumer = on_consumer, .cursor = on_cursor, .seen = on_seen, .journal = on_journal,
    };
    buffer_init(&all.line, 0);
    struct export *e = begin(&all, "store");
    number(e, "schema", STORE_SCHEMA_VERSION);
    number(e, "epoch", store_core_epoch(core));
    flag(e, "clean", store_core_was_clean(core));
    end(e);
    bool whole = store_core_visit(core, &visitor, why, sizeof why);
    buffer_deinit(&all.line);
    bool written = fflush(stdout) == 0 && !ferror(stdout);
    if (!whole) cli_complain("the export is not whole: %s", why);
    if (!written) cli_complain("standard output could not be written to its end");
    if (all.full) cli_complain("memory was out: the export is not whole");
    return whole && written && !all.full ? CLI_OK : CLI_FAILED;
}
