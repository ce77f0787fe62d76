/* Segments: where the lines of streams lie. Owns free segments of four sizes, so that a busy stream
 * takes big ones and ten thousand quiet ones small ones, and neither allocates per frame. */
#include <stdlib.h>

#include "deliver/deliver_internal.h"

static const uint32_t class_bytes[SEGMENT_CLASSES] = { 1u << 10, 4u << 10, 16u << 10, 64u << 10 };

struct segment *segment__take(struct segment_pool *p, uint8_t class, size_t len)
{
    ASSERT(class < SEGMENT_CLASSES);
    size_t capacity = 0;
    for (; class < SEGMENT_CLASSES; class ++) {
        capacity = class_bytes[class] - sizeof(struct segment);
        if (len <= capacity) break;
    }
    struct segment *s = NULL;
    if (class == SEGMENT_CLASSES) {
        if (len > UINT32_MAX) return NULL;
        class = SEGMENT_ALONE;
        capacity = len;
    } else if (p->free[class]) {
        s = p->free[class];
        p->free[class] = s->next;
        ASSERT(p->bytes >= class_bytes[class]);
        p->bytes -= class_bytes[class];
    }
    if (!s) s = malloc(sizeof *s + capacity);
    if (!s) return NULL;
    s->next = NULL;
    s->capacity = (uint32_t)capacity;
    s->used = 0;
    s->records = 0;
    s->class = class;
    return s;
}

void segment__give(struct segment_pool *p, struct segment *s)
{
    ASSERT(s->records == 0);
    if (s->class == SEGMENT_ALONE || p->bytes + class_bytes[s->class] > SEGMENTS_POOLED_BYTES_MAX) {
        free(s);
        return;
    }
    s->next = p->free[s->class];
    p->free[s->class] = s;
    p->bytes += class_bytes[s->class];
}

void segment_pool__deinit(struct segment_pool *p)
{
    for (int i = 0; i < SEGMENT_CLASSES; i++) {
        while (p->free[i]) {
            struct segment *s = p->free[i];
            p->free[i] = s->next;
            free(s);
        }
    }
    p->bytes = 0;
}
