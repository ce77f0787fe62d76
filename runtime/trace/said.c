/* Said: lines of words, without secrets: values name theirs, and the mask hides what stands in bytes. */
#include "trace/said.h"

#include <string.h>

#include "base/rng.h"
#include "base/text.h"

/* A frame or body longer than this is kept by its front and a hash of all. */
#define SHOWN_BYTES_MAX ((size_t)2000)

void said_init(struct said *s, const struct mask *mask)
{
    memset(s, 0, sizeof *s);
    s->mask = mask;
    buffer_init(&s->lines, 0);
    buffer_init(&s->line, 0);
}

void said_deinit(struct said *s)
{
    buffer_deinit(&s->lines);
    buffer_deinit(&s->line);
}

void said_begin(struct said *s)
{
    buffer_clear(&s->lines);
    buffer_clear(&s->line);
}

static void flush(struct said *s)
{
    if (s->line.len) mask_apply(s->mask, s->line.data, s->line.len);
    size_t shown = s->line.len < SHOWN_BYTES_MAX ? s->line.len : SHOWN_BYTES_MAX;
    text_printable(&s->lines, s->line.data, shown);
    if (shown < s->line.len) {
        buffer_printf(&s->lines, " ... %016llx", (unsigned long long)hash_bytes(s->line.data, s->line.len));
    }
    buffer_append_char(&s->lines, '\n');
    buffer_clear(&s->line);
}

void said_send(struct said *s, const void *bytes, size_t len, bool text)
{
    buffer_append_text(&s->line, text ? "sends " : "sends bytes ");
    buffer_append(&s->line, bytes, len);
    flush(s);
}

void said_number(struct said *s, const char *what, uint64_t number)
{
    buffer_printf(&s->line, "%s %llu", what, (unsigned long long)number);
    flush(s);
}

void said_text(struct said *s, const char *what, const char *text)
{
    buffer_printf(&s->line, "%s %s", what, text);
    flush(s);
}

void said_value(struct said *s, const char *what, const struct value *v)
{
    buffer_append_text(&s->line, what);
    buffer_append_char(&s->line, ' ');
    if (v->kind == VALUE_NIL) buffer_append_text(&s->line, "nothing");
    else value_to_json(v, &s->line);
    flush(s);
}

void said_end(struct said *s, const struct cause *c)
{
    buffer_printf(&s->line, "ends with %s (%s): close %d, http %d, code %lld, after %lld: %s", c->name,
                  cause_kind_name(c->kind), (int)c->close_code, (int)c->http_status, (long long)c->code,
                  (long long)c->retry_after_ms, c->reason);
    flush(s);
}

void said_budget(struct said *s, enum budget_kind budget, int64_t left, uint64_t reset_ms, uint32_t lanes)
{
    buffer_printf(&s->line, "tells of budget %s: left %lld, reset %llu, lanes %u", budget_name(budget),
                  (long long)left, (unsigned long long)reset_ms, lanes);
    flush(s);
}

static void match_write(struct buffer *out, const struct frame_matchers *m)
{
    for (uint32_t i = 0; i < m->count; i++) {
        buffer_append_text(out, i ? " or" : "");
        for (uint32_t f = 0; f < m->items[i].field_count; f++) {
            const struct field_match *fm = &m->items[i].fields[f];
            buffer_append_text(out, " field ");
            buffer_append_decimal(out, fm->field);
            for (uint32_t k = 0; k < fm->want_count; k++) {
                const struct field_want *want = &fm->wants[k];
                buffer_append_char(out, k ? ',' : '=');
                buffer_append_decimal(out, (int)want->kind);
                buffer_append_char(out, '/');
                buffer_append_decimal(out, want->low);
                buffer_append_char(out, '/');
                buffer_append_decimal(out, want->high);
                if (want->text) buffer_append(out, want->text, want->len);
            }
        }
    }
}

static void wait_write(struct said *s, const struct call_wait *w)
{
    struct buffer *out = &s->line;
    switch (w->kind) {
    case WAIT_HTTP:
        buffer_printf(out, "calls %s ", w->http.method);
        buffer_append(out, w->http.url.data, w->http.url.len);
        flush(s);
        if (w->http.headers.len) {
            buffer_append_text(out, "  with ");
            buffer_append(out, w->http.headers.data, w->http.headers.len);
            flush(s);
        }
        if (w->http.body.len) {
            buffer_append_text(out, "  body ");
            buffer_append(out, w->http.body.data, w->http.body.len);
            flush(s);
        }
        return;
    case WAIT_FRAME:
        buffer_append_text(out, "awaits a frame:");
        match_write(out, &w->frame);
        if (w->progress.count) {
            buffer_append_text(out, "; progress:");
            match_write(out, &w->progress);
        }
        if (w->within_ms) buffer_printf(out, "; within %llu ms", (unsigned long long)w->within_ms);
        flush(s);
        return;
    case WAIT_FETCH: said_text(s, "asks for", w->fetch); return;
    }
}

/* The place of an error is of one text of the policy. */
static const char *without_place(const char *error)
{
    const char *colon = strstr(error, ".lua:");
    if (!colon) return error;
    colon += 5;
    while (*colon >= '0' && *colon <= '9') colon++;
    return *colon == ':' ? colon + 1 : error;
}

void said_answer(struct said *s, enum call_result result, const struct call_answer *answer)
{
    static const char *const failed[] = { [CALL_RAISED] = "raises", [CALL_OVER_BUDGET] = "goes over its budget",
                                          [CALL_BAD_ANSWER] = "answers badly" };
    switch (result) {
    case CALL_WAITING: wait_write(s, &answer->wait); return;
    case CALL_OK:
        if (answer->ended) return; /* it said so */
        if (answer->frame.len) said_send(s, answer->frame.data, answer->frame.len, answer->frame_text);
        said_value(s, "answers", &answer->value);
        if (answer->info.kind != VALUE_NIL) said_value(s, "  and", &answer->info);
        return;
    case CALL_RAISED:
    case CALL_OVER_BUDGET:
    case CALL_BAD_ANSWER: said_text(s, failed[result], without_place(answer->error)); return;
    }
}
