/* Spare: small blocks that were given back, kept for the next who wants one of their size. For whom memory is taken
 * and given back hundreds of times a millisecond, by somebody who knows its size (Lua): malloc() looks at the
 * neighbours each time, and of ten thousand connections those are in no cache. One thread. */
#ifndef HOLDFAST_BASE_SPARE_H
#define HOLDFAST_BASE_SPARE_H

#include <stddef.h>
#include <stdint.h>

#define SPARE_STEP  16u
#define SPARE_SIZES 32u /* up to 512 bytes */
#define SPARE_BYTES 16384u /* of each size that are kept: what a collector gives back at once */

struct spare_block {
    struct spare_block *next;
};

/* All zero: empty. */
struct spare {
    struct spare_block *first[SPARE_SIZES]; /* owned */
    uint16_t count[SPARE_SIZES];
};

/* As realloc(): `memory` may be NULL, then `old_bytes` is 0; `bytes` is not 0. NULL: memory is out, and `memory` is as
 * it was; never when it becomes smaller. What came from here goes back here alone, with the size it has (a smaller
 * one is right, too). */
void *spare_resize(struct spare *s, void *memory, size_t old_bytes, size_t bytes);
void spare_give(struct spare *s, void *memory, size_t bytes);
/* Gives all that is kept back to the system. */
void spare_deinit(struct spare *s);

#endif
