/* The daemon's log of state changes and decisions: which fields they carry, and how many of one cause are written.
 * Owns the limit and its timer. */
#include "ops/daemon_internal.h"

static void say_left_out(void *to, const char *text)
{
    struct daemon *d = to;
    log_line(d->options.log, LOG_WARNING, NULL, text);
}

static void on_limit(uv_timer_t *handle)
{
    struct daemon *d = handle->data;
    log_limit_turn(&d->limit, uv_now(&d->loop), say_left_out, d);
}

bool daemon__logs(void *self, enum log_level level)
{
    const struct daemon *d = self;
    return log_wants(d->options.log, level);
}

/* State changes and decisions: with fields for machines, and not more of one cause than people can read. */
void daemon__log_about(void *self, enum log_level level, const char *connection, const char *text,
                       const struct log_facts *facts)
{
    struct daemon *d = self;
    const struct cause *cause = facts->cause && facts->cause->kind != CAUSE_NONE ? facts->cause : NULL;
    struct log_field fields[14];
    uint32_t n = 0;
    const uint64_t now_ms = uv_now(&d->loop);
    if (log_limit_is_due(&d->limit, now_ms)) log_limit_turn(&d->limit, now_ms, say_left_out, d);
    if (level != LOG_DEBUG &&
        !log_limit_allows(&d->limit, cause ? cause->kind : CAUSE_NONE, cause ? cause->stage : STAGE_NONE, level == LOG_ALARM)) {
        if (!uv_is_active((uv_handle_t *)&d->limit_timer)) uv_timer_start(&d->limit_timer, on_limit, LOG_LIMIT_WINDOW_MS, 0);
        return;
    }
    fields[n++] = (struct log_field){ .key = "kind", .text = facts->kind };
    fields[n++] = (struct log_field){ .key = "generation", .number = facts->generation };
    if (facts->from) fields[n++] = (struct log_field){ .key = "from", .text = facts->from };
    if (facts->to) fields[n++] = (struct log_field){ .key = "to", .text = facts->to };
    if (cause) {
        fields[n++] = (struct log_field){ .key = "cause", .text = cause_kind_name(cause->kind) };
        fields[n++] = (struct log_field){ .key = "stage", .text = stage_name(cause->stage) };
        fields[n++] = (struct log_field){ .key = "by", .text = cause_by_name(cause->by) };
        if (cause->close_code > 0) fields[n++] = (struct log_field){ .key = "close_code", .number = (uint64_t)cause->close_code };
        if (cause->http_status > 0) fields[n++] = (struct log_field){ .key = "http_status", .number = (uint64_t)cause->http_status };
    }
    if (facts->whose) fields[n++] = (struct log_field){ .key = "whose", .text = facts->whose };
    if (facts->verdict) fields[n++] = (struct log_field){ .key = "verdict", .text = facts->verdict };
    if (facts->next) {
        fields[n++] = (struct log_field){ .key = "next", .text = facts->next };
        fields[n++] = (struct log_field){ .key = "next_in_ms", .number = facts->next_in_ms };
    }
    log_fields(d->options.log, level, connection, text, fields, n);
}

void daemon__log_init(struct daemon *d)
{
    uv_timer_init(&d->loop, &d->limit_timer);
    uv_unref((uv_handle_t *)&d->limit_timer);
    d->limit_timer.data = d;
}

void daemon__log_deinit(struct daemon *d)
{
    uv_close((uv_handle_t *)&d->limit_timer, NULL);
    log_limit_turn(&d->limit, uv_now(&d->loop), say_left_out, d);
}
