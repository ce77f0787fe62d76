/* Positions: which epoch an offset belongs to. Inside a stream offsets alone decide about order,
 * because they go on over epochs; the epoch of a position only says which process counted it, so
 * that what was handed out and then lost in a crash is never taken for another frame. */
#include <stdlib.h>
#include <string.h>

#include "deliver/deliver_internal.h"

uint64_t stream__oldest(const struct stream *s)
{
    return s->older_count ? s->older[0].after : s->epoch_after;
}

struct position stream__position(const struct deliver *d, const struct stream *s, uint64_t offset)
{
    if (offset > s->epoch_after || s->older_count == 0)
        return (struct position){ d->epoch, offset };
    for (uint32_t i = s->older_count; i-- > 0;) {
        const struct stretch *at = &s->older[i];
        if (offset > at->after)
            return (struct position){ at->epoch, offset < at->last ? offset : at->last };
    }
    return (struct position){ s->older[0].epoch, offset };
}

bool stream__offset(const struct deliver *d, const struct stream *s, struct position at,
                    uint64_t *offset_out)
{
    *offset_out = at.offset;
    if (at.epoch == d->epoch) {
        if (s->older_count && at.offset < s->epoch_after) *offset_out = s->epoch_after;
        return true;
    }
    for (uint32_t i = s->older_count; i-- > 0;) {
        const struct stretch *of = &s->older[i];
        if (of->epoch != at.epoch) continue;
        /* What came before the oldest stretch is not known: that hole is told. */
        if (i > 0 && at.offset < of->after) *offset_out = of->after;
        if (at.offset > of->last) *offset_out = of->last;
        return true;
    }
    return false;
}

bool stream__stretch(struct stream *s, uint64_t epoch, uint64_t after, uint64_t last)
{
    struct stretch *newest = s->older_count ? &s->older[s->older_count - 1] : NULL;
    if (last < after) return false;
    if (newest && epoch == newest->epoch) {
        if (last > newest->last) newest->last = s->epoch_after = last;
        return true;
    }
    if (newest && (epoch < newest->epoch || after < newest->last)) return false;
    if (s->older_count == STRETCHES_MAX) {
        memmove(s->older, s->older + 1, (STRETCHES_MAX - 1) * sizeof *s->older);
        s->older_count--;
    } else if ((s->older_count & (s->older_count - 1)) == 0) {
        uint32_t capacity = s->older_count ? s->older_count * 2 : 1;
        struct stretch *grown = realloc(s->older, capacity * sizeof *grown);
        if (!grown) return false;
        s->older = grown;
    }
    s->older[s->older_count++] = (struct stretch){ epoch, after, last };
    s->epoch_after = last;
    return true;
}
