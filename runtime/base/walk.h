/* Walk: one description of a struct's fields that writes them down or reads them back, so that the two can
 * never differ. Whole numbers are written short (LEB128), text by its length. Reading is bounded by what was
 * given: after a fault every field reads as zero, and `bad` says so once, with the place.
 *
 *   static void walk_thing(struct walk *w, struct thing *t)
 *   {
 *       walk_u64(w, &t->at_ms);
 *       WALK_ENUM(w, t->kind, THING_COUNT);
 *   } */
#ifndef HOLDFAST_BASE_WALK_H
#define HOLDFAST_BASE_WALK_H

#include "base/buffer.h"

struct walk {
    struct buffer *out; /* writing: borrowed; NULL: reading */
    const uint8_t *begin, *at, *end; /* reading: borrowed */
    bool bad;
    const char *why; /* static; NULL while good */
};

struct walk walk_write(struct buffer *out);
struct walk walk_read(const void *bytes, size_t len);
static inline bool walk_reads(const struct walk *w)
{
    return w->out == NULL;
}
/* `why`: static. Only the first counts. */
void walk_fail(struct walk *w, const char *why);
/* Reading: all was read, and nothing was wrong. */
bool walk_is_over(const struct walk *w);

void walk_u64(struct walk *w, uint64_t *v);
void walk_i64(struct walk *w, int64_t *v); /* small ones of either sign are short */
void walk_u32(struct walk *w, uint32_t *v);
void walk_u16(struct walk *w, uint16_t *v);
void walk_u8(struct walk *w, uint8_t *v);
void walk_i32(struct walk *w, int32_t *v);
void walk_bool(struct walk *w, bool *v);
void walk_double(struct walk *w, double *v); /* its very bits */
void walk_hash(struct walk *w, uint64_t *v); /* eight bytes */
/* A text in a fixed array, with its NUL. */
void walk_text(struct walk *w, char *text, size_t bytes);
/* How many of something follow; reading: at most `most`. */
void walk_count(struct walk *w, uint32_t *count, uint32_t most);
/* Bytes of any length. Reading: `*bytes` is borrowed from what is read. */
void walk_bytes(struct walk *w, const void **bytes, size_t *len);
/* Instants lie close together: written as what `*v` differs from `near`. */
void walk_near(struct walk *w, uint64_t *v, uint64_t near);
/* `*v` below `limit`. */
void walk_below(struct walk *w, uint32_t *v, uint32_t limit);

#define WALK_ENUM(w, field, limit)                 \
    do {                                           \
        uint32_t walk_enum_ = (uint32_t)(field);   \
        walk_below((w), &walk_enum_, (limit));     \
        (field) = (__typeof__(field))walk_enum_;   \
    } while (0)

#endif
