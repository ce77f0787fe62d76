/* Said: what a hook did, line by line, in words that two runs of it can be compared by and people can read. A
 * record keeps the words and no hash of them, so that a secret that becomes known later can still be hidden. */
#ifndef HOLDFAST_TRACE_SAID_H
#define HOLDFAST_TRACE_SAID_H

#include "policy/policy.h"
#include "trace/mask.h"

struct said {
    struct buffer lines; /* owned: each with its end of line */
    struct buffer line;  /* owned: the one under way */
    const struct mask *mask; /* borrowed */
};

void said_init(struct said *s, const struct mask *mask);
void said_deinit(struct said *s);
void said_begin(struct said *s);

void said_send(struct said *s, const void *bytes, size_t len, bool text);
void said_number(struct said *s, const char *what, uint64_t number);
void said_text(struct said *s, const char *what, const char *text);
void said_value(struct said *s, const char *what, const struct value *v);
void said_end(struct said *s, const struct cause *cause);
void said_budget(struct said *s, enum budget_kind budget, int64_t left, uint64_t reset_ms, uint32_t lanes);
/* What it answered, or waits for. */
void said_answer(struct said *s, enum call_result result, const struct call_answer *answer);

#endif
