/* Journal entries as JSON. Pure: reads an entry, appends text. */
#include "ops/journal.h"

#include <inttypes.h>
#include <string.h>

#include "base/duration.h"
#include "base/text.h"
#include "deliver/envelope.h"

static const char *const kind_names[] = { "state", "decision", "alarm", "hook", "note" };
static const char *const by_names[] = { "rule", "hook", "climb", "engine", "operator" };

static bool append(struct buffer *out, const char *key, const char *text);

bool journal__entry_json(struct buffer *out, const struct journal_entry *e)
{
    char at[TIMESTAMP_TEXT_MAX];
    bool ok = buffer_printf(out, "{\"at\":\"%s\",\"generation\":%" PRIu32,
                            timestamp_format(e->wall_ms, at), e->generation) &&
              append(out, "kind", kind_names[e->kind]);
    if (ok && e->kind == JOURNAL_STATE)
        ok = append(out, "from", conn_state_name(e->from)) &&
             append(out, "to", conn_state_name(e->to)) &&
             (!e->given_up || buffer_append_text(out, ",\"given_up\":true"));
    if (ok && e->kind == JOURNAL_DECISION) ok = journal__decision_json(out, &e->decision);
    if (ok && e->file[0]) ok = append(out, "file", e->file);
    return ok && append(out, "text", e->text) && buffer_append_char(out, '}');
}

static bool append(struct buffer *out, const char *key, const char *text)
{
    return buffer_printf(out, ",\"%s\":", key) && text_json_string(out, text, strlen(text));
}

bool journal__decision_json(struct buffer *out, const struct decision *d)
{
    bool ok = buffer_append_text(out, ",\"cause\":") && envelope_cause(out, &d->cause) &&
              append(out, "drop", drop_name(d->drop)) && append(out, "pace", pace_name(d->pace)) &&
              append(out, "by", by_names[d->by]) &&
              buffer_printf(out, ",\"planned\":%s,\"attempt\":%" PRIu32 ",\"wish_ms\":[%" PRIu64
                                 ",%" PRIu64 "],\"backoff_ms\":%" PRIu64 ",\"delay_ms\":",
                            d->planned ? "true" : "false", d->attempt, d->wish_low_ms,
                            d->wish_high_ms, d->backoff_ms);
    /* A stop waits for somebody, not for a time. */
    ok = ok && (d->pace == PACE_STOP || d->delay_ms == ENGINE_NEVER
                    ? buffer_append_text(out, "null")
                    : buffer_printf(out, "%" PRIu64, d->delay_ms));
    ok = ok && buffer_printf(out, ",\"clamped\":%s,\"line\":%" PRIu32, d->clamped ? "true" : "false",
                             d->line);
    if (ok && d->note[0]) ok = append(out, "note", d->note);
    return ok;
}
