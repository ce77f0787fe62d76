/* Effects into the step's list, and the draws that decide them. */
#include <string.h>

#include "base/text.h"
#include "engine/engine_internal.h"

struct effect *fx(struct step *s, enum effect_kind kind, uint32_t generation)
{
    ASSERT(s->out->count < EFFECTS_MAX);
    struct effect *f = &s->out->items[s->out->count++];
    memset(f, 0, sizeof *f);
    f->kind = kind;
    f->conn = s->c->self;
    f->generation = generation;
    return f;
}

void fx_alarm(struct step *s, const char *text)
{
    struct effect *f = fx(s, FX_ALARM, 0);
    text_copy(f->alarm.text, sizeof f->alarm.text, text, strlen(text));
}

uint64_t conn_draw(const struct step *s, uint32_t generation, enum draw purpose, uint32_t count)
{
    return rng_draw(s->e->options.seed, s->c->stream, generation,
                    (uint64_t)purpose << 32 | count);
}

uint64_t span_draw(struct span_ms span, uint64_t draw)
{
    if (span.high < span.low) span.high = span.low;
    return rng_range(draw, span.low, span.high);
}
