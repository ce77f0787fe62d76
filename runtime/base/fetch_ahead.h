/* Fetch ahead: asks the processor for memory that will be looked at soon, so that it comes while other work is done.
 * A hint and nothing else: `memory` may be NULL, or freed. */
#ifndef HOLDFAST_BASE_FETCH_AHEAD_H
#define HOLDFAST_BASE_FETCH_AHEAD_H

#include <stddef.h>
#include <stdint.h>

#define FETCH_LINE 64 /* bytes; another size costs a hint more or less */

static inline void fetch_ahead(const void *memory, size_t bytes)
{
    /* As numbers: nobody says that all of it is one object. */
    for (size_t at = 0; at < bytes; at += FETCH_LINE) __builtin_prefetch((const void *)((uintptr_t)memory + at));
}

#endif
