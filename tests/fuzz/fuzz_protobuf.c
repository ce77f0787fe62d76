/* Fuzzes protobuf both ways and the joining of parts. What was read is JSON; written from that JSON and read
 * again it is the same; an echo without changes is the message itself; a join never holds more than it may. */
#include "frame/protobuf.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "frame/join.h"
#include "frame/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct protobuf_layout layout = {
    .fields = {
        { 1, PROTOBUF_UINT64, true, 0, 0, "a" },  { 2, PROTOBUF_SINT64, false, 0, 0, "b" },
        { 3, PROTOBUF_INT32, false, 0, 0, "c" },  { 4, PROTOBUF_SINT32, false, 0, 0, "d" },
        { 5, PROTOBUF_MAP, false, 1, 2, "e" },    { 6, PROTOBUF_STRING, false, 0, 0, "f" },
        { 7, PROTOBUF_BYTES, false, 0, 0, "g" },  { 8, PROTOBUF_JSON, false, 0, 0, "h" },
        { 9, PROTOBUF_FIXED64, false, 0, 0, "i" }, { 10, PROTOBUF_SFIXED32, false, 0, 0, "j" },
        { 11, PROTOBUF_BOOL, false, 0, 0, "k" },  { 12, PROTOBUF_INT64, false, 0, 0, "l" },
    },
    .count = 12,
};

static void message(const uint8_t *data, size_t size)
{
    struct buffer json, again, packet, echo;
    buffer_init(&json, 0);
    buffer_init(&again, 0);
    buffer_init(&packet, 0);
    buffer_init(&echo, 0);
    if (protobuf_echo(data, size, NULL, 0, &echo) == PROTOBUF_OK) {
        ASSERT(echo.len == size);
        ASSERT(size == 0 || memcmp(echo.data, data, size) == 0);
    }
    if (protobuf_to_json(&layout, data, size, &json) == PROTOBUF_OK) {
        ASSERT(echo.len == size);
        ASSERT(json_scan(json.data, json.len, NULL, NULL, NULL) == JSON_OK);
        uint8_t *copy = malloc(json.len);
        if (!copy) abort();
        memcpy(copy, json.data, json.len);
        /* A map's key or value of more than 4096 bytes is taken, but not given. */
        if (protobuf_from_json(&layout, copy, json.len, &packet, NULL) == PROTOBUF_OK) {
            ASSERT(protobuf_to_json(&layout, packet.data, packet.len, &again) == PROTOBUF_OK);
            ASSERT(again.len == json.len && memcmp(again.data, json.data, json.len) == 0);
        } else {
            ASSERT(size > 680); /* the shortest text that becomes 4096 bytes, U+FFFD for each */
        }
        free(copy);
    }
    buffer_deinit(&json);
    buffer_deinit(&again);
    buffer_deinit(&packet);
    buffer_deinit(&echo);
}

static void text(const uint8_t *data, size_t size)
{
    struct buffer packet, json;
    uint8_t *copy = malloc(size ? size : 1);
    if (!copy) abort();
    if (size) memcpy(copy, data, size);
    buffer_init(&packet, 512);
    buffer_init(&json, 0);
    if (protobuf_from_json(&layout, copy, size, &packet, NULL) == PROTOBUF_OK) {
        ASSERT(protobuf_to_json(&layout, packet.data, packet.len, &json) == PROTOBUF_OK);
    } else {
        ASSERT(packet.len == 0);
    }
    free(copy);
    buffer_deinit(&packet);
    buffer_deinit(&json);
}

static void joins(const uint8_t *data, size_t size)
{
    const struct join_limits limits = { .within_ms = 40, .parts = 8, .bytes = 1024 };
    struct join *j = join_create();
    uint64_t now_ms = 0;
    if (!j) abort();
    for (size_t at = 0; at + 5 <= size;) {
        const uint8_t *op = data + at;
        size_t len = op[4] * 4u;
        at += 5;
        if (len > size - at) len = size - at;
        const struct join_part part = { op, 1, (int8_t)op[1], (int8_t)op[2], data + at, len };
        const uint8_t *whole;
        size_t whole_len;
        now_ms += op[3];
        if (join_add(j, &limits, &part, now_ms, &whole, &whole_len) == JOIN_COMPLETE) {
            ASSERT(whole_len >= len);
            ASSERT(whole_len <= limits.bytes);
            for (size_t i = 0; i < whole_len; i++) ASSERT(whole[i] <= 0xff);
        }
        struct join_counts counts = join_counts(j);
        ASSERT(counts.bytes <= limits.bytes);
        ASSERT(counts.messages <= JOIN_MESSAGES_MAX);
        ASSERT((counts.messages == 0) == (counts.bytes == 0));
        at += len;
    }
    join_expire(j, &limits, now_ms + limits.within_ms);
    ASSERT(join_counts(j).messages == 0);
    join_destroy(j);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    message(data, size);
    text(data, size);
    joins(data, size);
    return 0;
}
