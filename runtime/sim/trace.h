/* Trace: what happened, one line each, with virtual time. The newest lines always; all of them when
 * asked for. Nothing in a line may differ between two processes with one seed. */
#ifndef HOLDFAST_SIM_TRACE_H
#define HOLDFAST_SIM_TRACE_H

#include "base/buffer.h"

#define TRACE_RECENT 64
#define TRACE_LINE_MAX 240
#define TRACE_BYTES_MAX ((size_t)256 << 20)

struct trace {
    bool whole;            /* keep all lines in `text` */
    bool cut;              /* `text` reached its limit */
    struct buffer text;    /* owned */
    char recent[TRACE_RECENT][TRACE_LINE_MAX];
    uint64_t count;        /* lines so far */
    uint64_t hash;         /* over all lines so far */
};

void trace_init(struct trace *t, bool whole);
void trace_deinit(struct trace *t);
void trace_line(struct trace *t, uint64_t now_ms, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The newest `most` lines, oldest of them first. */
void trace_tail(const struct trace *t, uint32_t most, struct buffer *out);

#endif
