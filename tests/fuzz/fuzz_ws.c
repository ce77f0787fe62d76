/* Any bytes, as frames to either role. Input: byte 0 picks role and limit, byte 1 how the stream is
 * cut, the rest is the stream. Claims: the items are the same however the stream is cut; nothing
 * is read or written outside a piece; every call consumes or yields; what is yielded obeys the RFC;
 * no memory stays once the decoder is idle; each message, encoded again, decodes to itself. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/text.h"
#include "frame/ws.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct run {
    struct buffer items; /* a transcript */
    size_t message_bytes_max;
};

static void note(struct run *r, const struct ws_item *item)
{
    ASSERT(buffer_printf(&r->items, "%d %d %d %d %zu ", item->kind, item->text, item->close_code,
                         item->error, item->len));
    ASSERT(buffer_append(&r->items, item->data, item->len));
}

static void encode_again(const struct ws_item *item, enum ws_role reader)
{
    static const uint8_t mask[4] = { 0x5a, 0, 0xff, 0x31 };
    struct buffer b;
    struct ws_decoder d;
    struct ws_item again;
    size_t consumed;
    buffer_init(&b, 0);
    ASSERT(ws_encode(&b, item->text ? WS_TEXT : WS_BINARY, true, item->data, item->len,
                     reader == WS_SERVER ? mask : NULL));
    ws_decoder_init(&d, reader, item->len);
    ASSERT(ws_decode(&d, b.data, b.len, &consumed, &again) == WS_ITEM_MESSAGE);
    ASSERT(consumed == b.len && again.text == item->text && again.len == item->len);
    ASSERT(memcmp(again.data, item->data, item->len) == 0);
    ASSERT(d.carry.capacity == 0);
    ws_decoder_deinit(&d);
    buffer_deinit(&b);
}

static void check(const struct run *r, const struct ws_item *item)
{
    switch (item->kind) {
    case WS_ITEM_MESSAGE:
        ASSERT(item->data && item->len <= r->message_bytes_max);
        if (item->text) ASSERT(text_is_utf8(item->data, item->len));
        encode_again(item, WS_SERVER);
        encode_again(item, WS_CLIENT);
        break;
    case WS_ITEM_PING:
    case WS_ITEM_PONG:
        ASSERT(item->data && item->len <= 125);
        break;
    case WS_ITEM_CLOSE:
        ASSERT(item->close_code == 0 || ws_close_code_is_valid(item->close_code));
        ASSERT(item->len <= 123 && text_is_utf8(item->data, item->len));
        break;
    default:
        ASSERT(item->kind == WS_ITEM_ERROR && item->error != WS_ERROR_NONE);
        ASSERT(ws_error_close_code(item->error) >= 1002);
        break;
    }
}

static bool run(struct run *r, enum ws_role role, const uint8_t *data, size_t len, size_t step)
{
    struct ws_decoder d;
    bool over = false;
    buffer_init(&r->items, 0);
    ws_decoder_init(&d, role, r->message_bytes_max);
    for (size_t at = 0; at < len;) {
        size_t n = len - at < step ? len - at : step, used = 0;
        uint8_t *piece = malloc(n);
        ASSERT(piece);
        memcpy(piece, data + at, n);
        for (;;) {
            struct ws_item item;
            size_t consumed;
            enum ws_item_kind kind = ws_decode(&d, piece + used, n - used, &consumed, &item);
            ASSERT(consumed <= n - used && kind == item.kind);
            used += consumed;
            if (kind == WS_ITEM_MORE) break;
            ASSERT(!over);
            over = kind == WS_ITEM_CLOSE || kind == WS_ITEM_ERROR;
            check(r, &item);
            note(r, &item);
        }
        ASSERT(used == n);
        ASSERT(d.carry.len <= r->message_bytes_max);
        ASSERT(d.carry.capacity <= r->message_bytes_max);
        if (ws_decoder_is_idle(&d)) ASSERT(d.carry.len == 0 && d.carry.capacity <= 1024);
        free(piece);
        at += n;
    }
    bool idle = ws_decoder_is_idle(&d);
    ws_decoder_deinit(&d);
    return idle;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 2) return 0;
    enum ws_role role = data[0] & 1 ? WS_SERVER : WS_CLIENT;
    size_t step = data[1] ? data[1] : 1;
    size_t bytes_max = data[0] & 2 ? 64 : (size_t)1 << 20;
    struct run whole = { .message_bytes_max = bytes_max }, cut = whole;
    bool idle = run(&whole, role, data + 2, len - 2, SIZE_MAX);
    ASSERT(run(&cut, role, data + 2, len - 2, step) == idle);
    ASSERT(whole.items.len == cut.items.len);
    if (whole.items.len) ASSERT(memcmp(whole.items.data, cut.items.data, cut.items.len) == 0);
    buffer_deinit(&whole.items);
    buffer_deinit(&cut.items);
    return 0;
}
