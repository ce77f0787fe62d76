/* Mask: what must not stand in a trace, and what stands there instead. Secrets that holdfast knows of, and what
 * looks like one, are replaced by their names, written over and over to the same length, so that a replayed
 * hook that passes one on passes on the same text. A name is all that is told; equal length is the price for
 * frames that keep their size. */
#ifndef HOLDFAST_TRACE_MASK_H
#define HOLDFAST_TRACE_MASK_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buffer.h"
#include "base/value.h"

#define MASK_BYTES_MIN 6    /* what is shorter is no secret, and may be part of any word */
#define MASK_BYTES_MAX 4096 /* a longer one is known in pieces */
#define MASKS_MAX 48        /* known at a time; what was learned goes first */

struct mask_one {
    char *bytes;  /* owned, wiped */
    char *shown;  /* owned, the same length */
    size_t len;
    uint64_t age; /* the higher, the newer */
    bool learned; /* from an answer or a frame, and not a setting */
};

struct mask {
    struct mask_one *items; /* owned; the longest first */
    uint32_t count, capacity;
    uint64_t ages; /* given so far: grows with each that is learned */
};

void mask_init(struct mask *m);
void mask_deinit(struct mask *m);
/* False: too short, or known already. */
bool mask_add(struct mask *m, const char *name, const void *bytes, size_t len, bool learned);
/* Bytes that stand for others of the same length, whatever they are called. */
bool mask_add_pair(struct mask *m, const void *bytes, const void *shown, size_t len, bool learned);
/* Bytes that were made of a secret, as they are, as hex and as base64; `out`, `len` long: what a replay has in
 * their place. */
void mask_add_digest(struct mask *m, const void *bytes, size_t len);
void mask_digest(void *out, size_t len);
/* All secrets of a value; with `texts` the texts of it too, addresses apart. */
void mask_add_value(struct mask *m, const struct value *v, const char *name, bool texts);
/* The values of an address' query: "wss://host/path?ticket=..." */
void mask_add_query(struct mask *m, const char *url, size_t len);
/* Learns from a text of the far end: JSON strings whose key says that they are secret, values of queries in
 * addresses, header lines that carry one. True when something new was learned. */
bool mask_learn(struct mask *m, const void *text, size_t len);
/* Replaces in place. Also where JSON wrote a slash with an escape. True when something was. */
bool mask_apply(const struct mask *m, void *bytes, size_t len);
/* A copy, masked. */
bool mask_append(const struct mask *m, struct buffer *out, const void *bytes, size_t len);

#endif
