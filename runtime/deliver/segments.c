/* Segments: where the lines of streams lie. Owns free segments of four sizes, so that a busy stream takes big
 * ones and ten thousand quiet ones small ones, and neither allocates per frame.
 *
 * They are cut from chunks that come from the system and go back to it whole: what a burst on thousands of
 * streams took would else stay with the process, as holes between what was allocated meanwhile. */
#include <stdlib.h>
#include <sys/mman.h>

#include "deliver/deliver_internal.h"

#define CHUNK_BYTES ((size_t)256 << 10)
#define REST_BYTES_MAX ((size_t)2 << 20) /* given back in one go: the kernel takes its time for each page */

static const uint32_t class_bytes[SEGMENT_CLASSES] = { 1u << 10, 4u << 10, 16u << 10, 64u << 10 };

struct chunk {
    struct chunk *next, *prev; /* of a class, those with free segments */
    struct segment *free;      /* given back */
    uint32_t used;             /* segments taken */
    size_t cut;                /* bytes that were ever a segment: the others have no memory yet */
    uint8_t *bytes;            /* owned: CHUNK_BYTES of the system */
};

static bool has_free(const struct chunk *c)
{
    return c->free || c->cut < CHUNK_BYTES;
}

static void chunk_link(struct segment_pool *p, uint8_t class, struct chunk *c)
{
    c->prev = NULL;
    c->next = p->chunks[class];
    if (c->next) c->next->prev = c;
    p->chunks[class] = c;
}

static void chunk_unlink(struct segment_pool *p, uint8_t class, struct chunk *c)
{
    if (c->prev) c->prev->next = c->next;
    else p->chunks[class] = c->next;
    if (c->next) c->next->prev = c->prev;
}

static struct chunk *chunk_create(struct segment_pool *p, uint8_t class)
{
    struct chunk *c = calloc(1, sizeof *c);
    void *bytes = MAP_FAILED;
    /* Who takes the biggest fills them soon, and a page that is first written to costs twice as much by itself. */
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | (class == SEGMENT_CLASSES - 1 ? MAP_POPULATE : 0);
    if (c) bytes = mmap(NULL, CHUNK_BYTES, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (bytes == MAP_FAILED) {
        free(c);
        return NULL;
    }
    c->bytes = bytes;
    chunk_link(p, class, c);
    p->bytes += CHUNK_BYTES;
    return c;
}

static void chunk_destroy(struct segment_pool *p, uint8_t class, struct chunk *c)
{
    ASSERT(c->used == 0);
    chunk_unlink(p, class, c);
    p->bytes -= CHUNK_BYTES;
    munmap(c->bytes, CHUNK_BYTES);
    free(c);
}

uint8_t segment__class_for(uint64_t bytes)
{
    uint8_t class = 0;
    while (class + 1 < SEGMENT_CLASSES && class_bytes[class + 1] <= bytes) class++;
    return class;
}

struct segment *segment__take(struct segment_pool *p, uint8_t class, size_t len)
{
    ASSERT(class < SEGMENT_CLASSES);
    size_t capacity = 0;
    struct segment *s;
    for (; class < SEGMENT_CLASSES; class ++) {
        capacity = class_bytes[class] - sizeof(struct segment);
        if (len <= capacity) break;
    }
    if (class == SEGMENT_CLASSES) {
        if (len > UINT32_MAX) return NULL;
        class = SEGMENT_ALONE;
        capacity = len;
        s = malloc(sizeof *s + capacity);
        if (!s) return NULL;
    } else {
        struct chunk *c = p->chunks[class] ? p->chunks[class] : chunk_create(p, class);
        if (!c) return NULL;
        s = c->free;
        if (s) {
            c->free = s->next;
        } else {
            s = (struct segment *)(c->bytes + c->cut);
            s->chunk = c;
            c->cut += class_bytes[class];
        }
        c->used++;
        p->bytes -= class_bytes[class];
        if (p->bytes < p->spare) p->spare = p->bytes;
        if (!has_free(c)) chunk_unlink(p, class, c);
    }
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
    if (s->class == SEGMENT_ALONE) {
        free(s);
        return;
    }
    struct chunk *c = s->chunk;
    ASSERT(c->used > 0);
    if (!has_free(c)) chunk_link(p, s->class, c);
    s->next = c->free;
    c->free = s;
    c->used--;
    p->bytes += class_bytes[s->class];
    p->rests_due = 2; /* the first says what nobody needed until the second */
}

/* A consumer that acknowledges in strides gives much back at once and takes it again soon: to map it anew each
 * time costs more than the frames. So nothing goes back at once; and what is free was in use a moment ago. */
bool segment_pool__rest(struct segment_pool *p)
{
    size_t freed = 0;
    size_t keep = p->bytes - (p->spare < p->bytes ? p->spare : p->bytes);
    if (keep < SEGMENTS_IDLE_BYTES_MAX) keep = SEGMENTS_IDLE_BYTES_MAX;
    for (uint8_t i = 0; i < SEGMENT_CLASSES; i++) {
        for (struct chunk *c = p->chunks[i], *next; c && p->bytes > keep; c = next) {
            next = c->next;
            if (c->used) continue;
            if (freed == REST_BYTES_MAX) return true;
            chunk_destroy(p, i, c);
            freed += CHUNK_BYTES;
            p->spare -= p->spare < CHUNK_BYTES ? p->spare : CHUNK_BYTES;
        }
    }
    p->spare = p->bytes;
    if (p->rests_due) p->rests_due--;
    return false;
}

bool segment_pool__wants_rest(const struct segment_pool *p)
{
    return p->rests_due && p->bytes > SEGMENTS_IDLE_BYTES_MAX;
}

void segment_pool__deinit(struct segment_pool *p)
{
    for (uint8_t i = 0; i < SEGMENT_CLASSES; i++) {
        while (p->chunks[i]) chunk_destroy(p, i, p->chunks[i]);
    }
    ASSERT(p->bytes == 0);
}
