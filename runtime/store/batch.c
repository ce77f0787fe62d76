/* Batch: requests in order of submission, in one run of bytes. Owns the encoding alone, which never leaves
 * the process: numbers as the machine has them, texts with their NUL, so that they can be borrowed. */
#include "store/core.h"

#include <string.h>

#include "base/assert.h"
#include "store/pending.h"

enum { HAS_CONNECTION = 1, HAS_CONSUMER = 2, HAS_BYTES = 4 };

struct record {
    uint32_t size; /* of all, a multiple of 8 */
    uint8_t op, budget, kind, has;
    uint32_t connection_bytes, consumer_bytes; /* NUL included */
    uint32_t len, lanes;
    uint64_t ticket, account;
    int64_t lane, count;
    uint64_t wall_ms, boot_ms, until_wall_ms, until_boot_ms;
    uint64_t epoch, offset, key_high, key_low;
};
_Static_assert(sizeof(struct record) % 8 == 0, "records follow each other aligned");

/* Without its key a row would be refused at every try: such a request is a bug of its maker. */
static bool names_are_there(const struct store_request *r)
{
    switch (r->op) {
    case STORE_OP_PERMIT_RETURN:
    case STORE_OP_TOLD:
    case STORE_OP_FRAMES:
    case STORE_OP_JOURNAL: return true;
    case STORE_OP_CONSUMER:
    case STORE_OP_CONSUMER_GONE: return r->consumer != NULL;
    case STORE_OP_CURSOR: return r->consumer && r->connection;
    default: return r->connection != NULL;
    }
}

static uint32_t text_bytes(const char *text)
{
    return text ? (uint32_t)strlen(text) + 1 : 0;
}

bool store_batch_add(struct buffer *batch, const struct store_request *r)
{
    ASSERT(r->op < STORE_OP_COUNT);
    ASSERT(names_are_there(r));
    if (r->len > STORE_REQUEST_BYTES_MAX) return false;
    struct record head = {
        .op = (uint8_t)r->op, .budget = (uint8_t)r->budget, .kind = (uint8_t)r->kind,
        .has = (uint8_t)((r->connection ? HAS_CONNECTION : 0) | (r->consumer ? HAS_CONSUMER : 0) |
                         (r->bytes ? HAS_BYTES : 0)),
        .connection_bytes = text_bytes(r->connection), .consumer_bytes = text_bytes(r->consumer),
        .len = r->bytes ? (uint32_t)r->len : 0, .lanes = r->lanes,
        .ticket = r->ticket, .account = r->account, .lane = r->lane, .count = r->count,
        .wall_ms = r->wall_ms, .boot_ms = r->boot_ms,
        .until_wall_ms = r->until_wall_ms, .until_boot_ms = r->until_boot_ms,
        .epoch = r->epoch, .offset = r->offset, .key_high = r->key_high, .key_low = r->key_low,
    };
    size_t size = sizeof head + head.connection_bytes + head.consumer_bytes + head.len;
    size = (size + 7) & ~(size_t)7;
    if (size > UINT32_MAX || !buffer_reserve(batch, size)) return false;
    head.size = (uint32_t)size;
    uint8_t *at = batch->data + batch->len;
    memcpy(at, &head, sizeof head);
    at += sizeof head;
    if (r->connection) memcpy(at, r->connection, head.connection_bytes);
    at += head.connection_bytes;
    if (r->consumer) memcpy(at, r->consumer, head.consumer_bytes);
    at += head.consumer_bytes;
    if (head.len) memcpy(at, r->bytes, head.len);
    at += head.len;
    memset(at, 0, (size_t)(batch->data + batch->len + size - at));
    batch->len += size;
    return true;
}

bool store_batch_next(const struct buffer *batch, size_t *at, struct store_request *out)
{
    struct record head;
    if (*at == batch->len) return false;
    ASSERT(*at + sizeof head <= batch->len);
    memcpy(&head, batch->data + *at, sizeof head);
    ASSERT(head.size >= sizeof head + head.connection_bytes + head.consumer_bytes + head.len);
    ASSERT(head.size <= batch->len - *at);
    const uint8_t *data = batch->data + *at + sizeof head;
    *out = (struct store_request){
        .op = head.op, .budget = head.budget, .kind = head.kind, .len = head.len, .lanes = head.lanes,
        .ticket = head.ticket, .account = head.account, .lane = head.lane, .count = head.count,
        .wall_ms = head.wall_ms, .boot_ms = head.boot_ms,
        .until_wall_ms = head.until_wall_ms, .until_boot_ms = head.until_boot_ms,
        .epoch = head.epoch, .offset = head.offset, .key_high = head.key_high, .key_low = head.key_low,
    };
    if (head.has & HAS_CONNECTION) out->connection = (const char *)data;
    data += head.connection_bytes;
    if (head.has & HAS_CONSUMER) out->consumer = (const char *)data;
    data += head.consumer_bytes;
    if (head.has & HAS_BYTES) out->bytes = data;
    *at += head.size;
    return true;
}

void batch__patch(struct buffer *batch, size_t at, enum store_op op, uint64_t ticket)
{
    struct record head;
    ASSERT(at + sizeof head <= batch->len);
    memcpy(&head, batch->data + at, sizeof head);
    head.op = (uint8_t)op;
    head.ticket = ticket;
    memcpy(batch->data + at, &head, sizeof head);
}
