/* Trace: a ring of recent lines, and the whole text when asked for. Reads no clock. */
#include "sim/trace.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/rng.h"

void trace_init(struct trace *t, bool whole)
{
    memset(t, 0, sizeof *t);
    t->whole = whole;
    buffer_init(&t->text, TRACE_BYTES_MAX);
}

void trace_deinit(struct trace *t)
{
    buffer_deinit(&t->text);
}

void trace_line(struct trace *t, uint64_t now_ms, const char *format, ...)
{
    char *line = t->recent[t->count++ % TRACE_RECENT];
    int head = snprintf(line, TRACE_LINE_MAX, "%llu.%03u ", (unsigned long long)(now_ms / 1000),
                        (unsigned)(now_ms % 1000));
    va_list args;
    va_start(args, format);
    vsnprintf(line + head, TRACE_LINE_MAX - (size_t)head, format, args);
    va_end(args);
    size_t len = strlen(line);
    /* A peer's words may be anything; a trace has one line per line. */
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)line[i];
        if (c < 0x20 || c == 0x7f) line[i] = '?';
    }
    t->hash = rng_mix(t->hash ^ hash_bytes(line, len));
    if (!t->whole || t->cut) return;
    if (!buffer_reserve(&t->text, len + 1)) {
        t->cut = true;
        return;
    }
    buffer_append(&t->text, line, len);
    buffer_append_char(&t->text, '\n');
}

void trace_tail(const struct trace *t, uint32_t most, struct buffer *out)
{
    uint64_t held = t->count < TRACE_RECENT ? t->count : TRACE_RECENT;
    if (most > held) most = (uint32_t)held;
    for (uint64_t i = t->count - most; i < t->count; i++) {
        buffer_append_text(out, t->recent[i % TRACE_RECENT]);
        buffer_append_char(out, '\n');
    }
}
