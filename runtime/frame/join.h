/* Join: messages that come in parts, of one link. Parts may come in any order, of several messages at once;
 * whatever is not whole in time is forgotten, and the platform sends it again. Pure: `now_ms` comes in.
 *
 * Every bound holds against a hostile peer: parts and bytes of all unfinished messages together, and how many
 * of them there are. Over a bound the oldest unfinished message gives way. */
#ifndef HOLDFAST_FRAME_JOIN_H
#define HOLDFAST_FRAME_JOIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JOIN_MESSAGES_MAX 64
#define JOIN_KEY_BYTES_MAX 128

struct join; /* opaque */

struct join_limits {
    uint64_t within_ms; /* from a message's first part on */
    uint32_t parts;     /* of one message */
    uint64_t bytes;     /* of all unfinished messages, with what it takes to keep their order */
};

enum join_result {
    JOIN_HELD,     /* kept, or there already */
    JOIN_COMPLETE, /* that was the last one */
    JOIN_REFUSED,  /* index or count make no sense, or it is over a bound; nothing is kept of it */
};

struct join_part {
    const void *key; /* what the parts of a message share */
    size_t key_len;
    int64_t index, count; /* as the peer says: 0 to count - 1 */
    const void *bytes;    /* borrowed until return; an empty part is a part */
    size_t len;
};

struct join_counts {
    uint32_t messages; /* unfinished */
    uint64_t bytes;    /* held for them, as join_limits.bytes counts */
    uint64_t refused, expired, displaced; /* so far; refused: parts, the others: messages */
};

/* NULL when memory is out. */
struct join *join_create(void);
void join_destroy(struct join *j);
/* COMPLETE: *whole_out is all parts in the order of their index, borrowed until the next call. A part with
 * another `count` than those before it begins its message anew. */
enum join_result join_add(struct join *j, const struct join_limits *limits, const struct join_part *part,
                          uint64_t now_ms, const uint8_t **whole_out, size_t *whole_len_out);
/* Forgets what is older than within_ms. */
void join_expire(struct join *j, const struct join_limits *limits, uint64_t now_ms);
struct join_counts join_counts(const struct join *j);

#endif
