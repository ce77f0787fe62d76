/* Join: parts of messages until they are whole. A message's bytes lie in one buffer in the order of their
 * coming, with a span for each part; finished ones leave their memory to those that follow. */
#include "frame/join.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/buffer.h"

#define KEPT_BYTES 65536 /* memory that an idle slot keeps */

struct part_span {
    size_t at, len;
    bool here;
};

struct join_message {
    bool used;
    uint64_t first_ms;
    uint32_t count, received;
    size_t key_len;
    uint8_t key[JOIN_KEY_BYTES_MAX];
    struct part_span *parts; /* owned; `capacity` of them */
    uint32_t capacity;
    struct buffer bytes;     /* owned */
};

struct join {
    struct join_message messages[JOIN_MESSAGES_MAX];
    struct buffer whole; /* owned */
    struct join_counts counts;
};

static struct join_message *message_find(struct join *j, const struct join_part *part);
static struct join_message *message_begin(struct join *j, const struct join_limits *limits,
                                          const struct join_part *part, uint64_t now_ms);
static void message_end(struct join *j, struct join_message *m);
static bool room_make(struct join *j, const struct join_limits *limits, uint64_t bytes,
                      const struct join_message *keep);
static bool whole_make(struct join *j, const struct join_message *m);

struct join *join_create(void)
{
    struct join *j = calloc(1, sizeof *j);
    if (!j) return NULL;
    for (uint32_t i = 0; i < JOIN_MESSAGES_MAX; i++) buffer_init(&j->messages[i].bytes, 0);
    buffer_init(&j->whole, 0);
    return j;
}

void join_destroy(struct join *j)
{
    if (!j) return;
    for (uint32_t i = 0; i < JOIN_MESSAGES_MAX; i++) {
        free(j->messages[i].parts);
        buffer_deinit(&j->messages[i].bytes);
    }
    buffer_deinit(&j->whole);
    free(j);
}

enum join_result join_add(struct join *j, const struct join_limits *limits, const struct join_part *part,
                          uint64_t now_ms, const uint8_t **whole_out, size_t *whole_len_out)
{
    buffer_clear(&j->whole);
    buffer_trim(&j->whole, KEPT_BYTES);
    join_expire(j, limits, now_ms);
    if (part->count < 1 || part->count > limits->parts) goto refused;
    if (part->index < 0 || part->index >= part->count) goto refused;
    if (part->key_len > JOIN_KEY_BYTES_MAX) goto refused;

    struct join_message *m = message_find(j, part);
    if (m && m->count != (uint32_t)part->count) {
        message_end(j, m);
        m = NULL;
    }
    if (!m) m = message_begin(j, limits, part, now_ms);
    if (!m) goto refused;
    struct part_span *span = &m->parts[part->index];
    if (span->here) return JOIN_HELD;
    if (!room_make(j, limits, part->len, m) || !buffer_append(&m->bytes, part->bytes, part->len)) {
        /* It can never become whole. */
        message_end(j, m);
        goto refused;
    }
    j->counts.bytes += part->len;
    *span = (struct part_span){ m->bytes.len - part->len, part->len, true };
    m->received++;
    if (m->received < m->count) return JOIN_HELD;
    bool made = whole_make(j, m);
    message_end(j, m);
    if (!made) goto refused;
    *whole_out = j->whole.data;
    *whole_len_out = j->whole.len;
    return JOIN_COMPLETE;

refused:
    j->counts.refused++;
    return JOIN_REFUSED;
}

void join_expire(struct join *j, const struct join_limits *limits, uint64_t now_ms)
{
    for (uint32_t i = 0; j->counts.messages > 0 && i < JOIN_MESSAGES_MAX; i++) {
        struct join_message *m = &j->messages[i];
        if (!m->used || now_ms < m->first_ms + limits->within_ms) continue;
        message_end(j, m);
        j->counts.expired++;
    }
}

struct join_counts join_counts(const struct join *j)
{
    return j->counts;
}

static struct join_message *message_find(struct join *j, const struct join_part *part)
{
    for (uint32_t i = 0; i < JOIN_MESSAGES_MAX; i++) {
        struct join_message *m = &j->messages[i];
        if (m->used && m->key_len == part->key_len &&
            (part->key_len == 0 || memcmp(m->key, part->key, part->key_len) == 0)) {
            return m;
        }
    }
    return NULL;
}

static uint64_t order_bytes(uint32_t count)
{
    return (uint64_t)count * sizeof(struct part_span);
}

static struct join_message *oldest(struct join *j, const struct join_message *keep)
{
    struct join_message *found = NULL;
    for (uint32_t i = 0; i < JOIN_MESSAGES_MAX; i++) {
        struct join_message *m = &j->messages[i];
        if (m->used && m != keep && (!found || m->first_ms < found->first_ms)) found = m;
    }
    return found;
}

static bool room_make(struct join *j, const struct join_limits *limits, uint64_t bytes,
                      const struct join_message *keep)
{
    uint64_t own = bytes + (keep ? keep->bytes.len + order_bytes(keep->count) : 0);
    if (own > limits->bytes) return false;
    while (j->counts.bytes + bytes > limits->bytes) {
        struct join_message *m = oldest(j, keep);
        ASSERT(m != NULL); /* `own` fits, so others are in the way */
        message_end(j, m);
        j->counts.displaced++;
    }
    return true;
}

static struct join_message *message_begin(struct join *j, const struct join_limits *limits,
                                          const struct join_part *part, uint64_t now_ms)
{
    uint32_t count = (uint32_t)part->count;
    if (!room_make(j, limits, order_bytes(count), NULL)) return NULL;
    if (j->counts.messages == JOIN_MESSAGES_MAX) {
        message_end(j, oldest(j, NULL));
        j->counts.displaced++;
    }
    struct join_message *m = j->messages;
    while (m->used) m++;
    ASSERT(m < j->messages + JOIN_MESSAGES_MAX);
    if (m->capacity < count) {
        struct part_span *parts = realloc(m->parts, count * sizeof *parts);
        if (!parts) return NULL;
        m->parts = parts;
        m->capacity = count;
    }
    memset(m->parts, 0, count * sizeof *m->parts);
    m->used = true;
    m->first_ms = now_ms;
    m->count = count;
    m->received = 0;
    m->key_len = part->key_len;
    if (part->key_len) memcpy(m->key, part->key, part->key_len);
    j->counts.messages++;
    j->counts.bytes += order_bytes(count);
    return m;
}

static void message_end(struct join *j, struct join_message *m)
{
    ASSERT(m->used);
    ASSERT(j->counts.messages > 0);
    uint64_t bytes = m->bytes.len + order_bytes(m->count);
    ASSERT(j->counts.bytes >= bytes);
    j->counts.bytes -= bytes;
    j->counts.messages--;
    m->used = false;
    buffer_clear(&m->bytes);
    buffer_trim(&m->bytes, KEPT_BYTES);
    if (order_bytes(m->capacity) > KEPT_BYTES) {
        free(m->parts);
        m->parts = NULL;
        m->capacity = 0;
    }
}

static bool whole_make(struct join *j, const struct join_message *m)
{
    for (uint32_t i = 0; i < m->count; i++) {
        const struct part_span *span = &m->parts[i];
        ASSERT(span->here);
        if (span->len && !buffer_append(&j->whole, m->bytes.data + span->at, span->len)) return false;
    }
    return true;
}
