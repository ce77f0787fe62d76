/* RFC 6455, inbound, for both roles. Owns the carry: what came of a frame or message that is not
 * whole yet. Never copies a frame that lies whole in the caller's bytes, never allocates for one,
 * and yields the same items however the bytes are cut.
 *
 * Each rule is checked at the byte that breaks it: reserved bits and opcode at the first byte of a
 * header, mask and control length at the second, limits when the length is known, UTF-8 in text as
 * it arrives. */
#include "frame/ws.h"

#include <string.h>

#include "base/assert.h"
#include "frame/ws_internal.h"

/* Carry memory that outlives its message: while input goes on, so that a busy link does not
 * allocate for each read that cuts a frame; and while idle, so that quiet links cost little. */
#define CARRY_BUSY_BYTES ((size_t)64 * 1024)
#define CARRY_IDLE_BYTES ((size_t)1024)
/* A longer payload is reserved as it arrives: the length is only the peer's word. */
#define CARRY_TRUSTED_BYTES ((size_t)16 * 1024)

static bool take_whole_text(struct ws_decoder *d, uint8_t *bytes, size_t len, size_t *consumed,
                            struct ws_item *item);
static enum ws_error read_header(struct ws_decoder *d, const uint8_t *bytes, size_t len,
                                 size_t *at);
static enum ws_error check_first_byte(struct ws_decoder *d);
static enum ws_error check_second_byte(struct ws_decoder *d);
static enum ws_error check_length(struct ws_decoder *d);
static bool take_control(struct ws_decoder *d, uint8_t *bytes, size_t available, size_t *at,
                         struct ws_item *item);
static bool take_data(struct ws_decoder *d, uint8_t *bytes, size_t available, size_t *at,
                      struct ws_item *item);
static enum ws_error carry_payload(struct ws_decoder *d, const uint8_t *bytes, size_t len);
static void read_close(struct ws_item *item);
static void next_frame(struct ws_decoder *d);

void ws_decoder_init(struct ws_decoder *d, enum ws_role role, size_t message_bytes_max)
{
    memset(d, 0, sizeof *d);
    d->role = role;
    d->message_bytes_max = message_bytes_max;
    buffer_init(&d->carry, message_bytes_max);
    next_frame(d);
}

void ws_decoder_deinit(struct ws_decoder *d)
{
    buffer_deinit(&d->carry);
}

enum ws_item_kind ws_decode(struct ws_decoder *d, uint8_t *bytes, size_t len, size_t *consumed,
                            struct ws_item *item)
{
    ASSERT(bytes || len == 0);
    if (take_whole_text(d, bytes, len, consumed, item)) return item->kind;
    size_t at = 0;
    memset(item, 0, sizeof *item);
    item->kind = WS_ITEM_MORE;
    if (d->release) {
        d->release = false;
        buffer_clear(&d->carry);
        buffer_trim(&d->carry, CARRY_BUSY_BYTES);
    }
    if (d->over) at = len;

    while (!d->over && item->kind == WS_ITEM_MORE) {
        if (!d->in_payload) {
            item->error = read_header(d, bytes, len, &at);
            if (item->error != WS_ERROR_NONE) {
                item->kind = WS_ITEM_ERROR;
                break;
            }
            if (!d->in_payload) break;
        }
        size_t available = len - at;
        if (available > d->payload_left) available = (size_t)d->payload_left;
        bool whole = d->opcode & 0x8 ? take_control(d, bytes, available, &at, item)
                                     : take_data(d, bytes, available, &at, item);
        if (!whole) break;
    }

    if (item->kind == WS_ITEM_CLOSE || item->kind == WS_ITEM_ERROR) {
        d->over = true;
        buffer_clear(&d->carry);
        buffer_trim(&d->carry, 0);
    } else if (item->kind == WS_ITEM_MORE && ws_decoder_is_idle(d)) {
        buffer_trim(&d->carry, CARRY_IDLE_BYTES);
    }
    *consumed = at;
    return item->kind;
}

/* Nearly all that comes to a client: a text of one frame that is at hand. False: nothing happened, and what is
 * wrong with it, if anything is, is found below. */
static bool take_whole_text(struct ws_decoder *d, uint8_t *bytes, size_t len, size_t *consumed,
                            struct ws_item *item)
{
    if (len < 4 || bytes[0] != (0x80 | WS_TEXT) || d->role != WS_CLIENT) return false;
    if (d->header_len || d->message_opcode || d->release || d->over) return false;
    size_t head = 2, payload_len = bytes[1];
    if (payload_len == 126) {
        head = 4;
        payload_len = (size_t)bytes[2] << 8 | bytes[3];
        if (payload_len < 126) return false;
    } else if (payload_len > 126) {
        return false;
    }
    if (payload_len > len - head || payload_len > d->message_bytes_max) return false;
    struct utf8_state utf8;
    utf8_start(&utf8);
    if (!utf8_feed(&utf8, bytes + head, payload_len) || !utf8_end(&utf8)) return false;
    *item = (struct ws_item){ .kind = WS_ITEM_MESSAGE, .data = bytes + head, .len = payload_len, .text = true };
    *consumed = head + payload_len;
    return true;
}

const char *ws_error_text(enum ws_error error)
{
    static const char *const texts[] = {
#define X(name, text, code) [WS_ERROR_##name] = text,
        WS_ERROR_MAP(X)
#undef X
    };
    ASSERT((size_t)error < sizeof texts / sizeof texts[0]);
    return texts[error];
}

uint16_t ws_error_close_code(enum ws_error error)
{
    static const uint16_t codes[] = {
#define X(name, text, code) [WS_ERROR_##name] = code,
        WS_ERROR_MAP(X)
#undef X
    };
    ASSERT((size_t)error < sizeof codes / sizeof codes[0]);
    return codes[error];
}

bool ws_close_code_is_valid(uint16_t code)
{
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
           (code >= 3000 && code <= 4999);
}

bool ws_decoder_is_idle(const struct ws_decoder *d)
{
    return d->over || (d->header_len == 0 && d->message_opcode == 0);
}

/* Gathers the header; sets in_payload when it is whole. */
static enum ws_error read_header(struct ws_decoder *d, const uint8_t *bytes, size_t len,
                                 size_t *at)
{
    while (d->header_len < d->header_need) {
        if (*at == len) return WS_ERROR_NONE;
        d->header[d->header_len++] = bytes[(*at)++];
        enum ws_error error = WS_ERROR_NONE;
        if (d->header_len == 1) error = check_first_byte(d);
        if (d->header_len == 2) error = check_second_byte(d);
        /* At the end of the length, before the mask: a limit does not wait for it. */
        size_t mask_len = d->role == WS_SERVER ? 4 : 0;
        if (!error && d->header_len >= 2 && d->header_len == d->header_need - mask_len) {
            error = check_length(d);
        }
        if (error) return error;
    }
    if (d->role == WS_SERVER) memcpy(d->mask, d->header + d->header_need - 4, 4);
    if (d->opcode == WS_TEXT) utf8_start(&d->utf8);
    if (d->opcode == WS_TEXT || d->opcode == WS_BINARY) d->message_opcode = d->opcode;
    d->payload_left = d->payload_len;
    d->control_len = 0;
    d->in_payload = true;
    return WS_ERROR_NONE;
}

static enum ws_error check_first_byte(struct ws_decoder *d)
{
    d->fin = (d->header[0] & 0x80) != 0;
    d->opcode = d->header[0] & 0x0f;
    if (d->header[0] & 0x70) return WS_ERROR_RESERVED_BITS;
    switch (d->opcode) {
    case WS_CONTINUATION:
        return d->message_opcode ? WS_ERROR_NONE : WS_ERROR_CONTINUATION_ALONE;
    case WS_TEXT:
    case WS_BINARY:
        return d->message_opcode ? WS_ERROR_DATA_INTERLEAVED : WS_ERROR_NONE;
    case WS_CLOSE:
    case WS_PING:
    case WS_PONG:
        return d->fin ? WS_ERROR_NONE : WS_ERROR_CONTROL_FRAGMENTED;
    default:
        return WS_ERROR_OPCODE;
    }
}

static enum ws_error check_second_byte(struct ws_decoder *d)
{
    bool masked = (d->header[1] & 0x80) != 0;
    uint8_t length = d->header[1] & 0x7f;
    if (masked && d->role == WS_CLIENT) return WS_ERROR_MASKED;
    if (!masked && d->role == WS_SERVER) return WS_ERROR_UNMASKED;
    if ((d->opcode & 0x8) && length > WS_CONTROL_BYTES_MAX) return WS_ERROR_CONTROL_TOO_LONG;
    if (d->opcode == WS_CLOSE && length == 1) return WS_ERROR_CLOSE_LENGTH;
    d->header_need = (uint8_t)(2 + (length == 126 ? 2 : length == 127 ? 8 : 0) + (masked ? 4 : 0));
    return WS_ERROR_NONE;
}

static enum ws_error check_length(struct ws_decoder *d)
{
    uint8_t short_form = d->header[1] & 0x7f;
    uint64_t length = short_form;
    if (short_form == 126) {
        length = (uint64_t)d->header[2] << 8 | d->header[3];
        if (length < 126) return WS_ERROR_LENGTH_NOT_MINIMAL;
    } else if (short_form == 127) {
        length = 0;
        for (int i = 0; i < 8; i++) length = length << 8 | d->header[2 + i];
        if (length >> 63) return WS_ERROR_LENGTH_TOO_LARGE;
        if (length <= 0xffff) return WS_ERROR_LENGTH_NOT_MINIMAL;
    }
    if (!(d->opcode & 0x8)) {
        ASSERT(d->carry.len <= d->message_bytes_max);
        if (length > d->message_bytes_max - d->carry.len) return WS_ERROR_TOO_BIG;
    }
    d->payload_len = length;
    return WS_ERROR_NONE;
}

/* False when the frame is not whole yet. */
static bool take_control(struct ws_decoder *d, uint8_t *bytes, size_t available, size_t *at,
                         struct ws_item *item)
{
    uint8_t *payload = bytes + *at;
    bool in_place = available == d->payload_len;
    if (!in_place) {
        ASSERT(d->control_len + available <= sizeof d->control);
        memcpy(d->control + d->control_len, payload, available);
        d->control_len = (uint8_t)(d->control_len + available);
        payload = d->control;
    }
    *at += available;
    d->payload_left -= available;
    if (d->payload_left) return false;

    if (d->role == WS_SERVER) ws__mask(payload, (size_t)d->payload_len, d->mask, 0);
    item->data = payload;
    item->len = (size_t)d->payload_len;
    item->kind = d->opcode == WS_PING   ? WS_ITEM_PING
                 : d->opcode == WS_PONG ? WS_ITEM_PONG
                                        : WS_ITEM_CLOSE;
    if (item->kind == WS_ITEM_CLOSE) read_close(item);
    next_frame(d);
    return true;
}

/* False when the frame is not whole yet; a whole one may still leave its message incomplete. */
static bool take_data(struct ws_decoder *d, uint8_t *bytes, size_t available, size_t *at,
                      struct ws_item *item)
{
    uint8_t *payload = bytes + *at;
    bool text = d->message_opcode == WS_TEXT;
    bool in_place = d->fin && d->opcode != WS_CONTINUATION && available == d->payload_len;
    /* Only the header came: the payload may still come whole. */
    if (available == 0 && d->payload_left) return false;
    *at += available;
    if (in_place) {
        if (d->role == WS_SERVER) ws__mask(payload, available, d->mask, 0);
        if (text && !utf8_feed(&d->utf8, payload, available)) item->error = WS_ERROR_TEXT_UTF8;
        item->len = available;
    } else {
        item->error = carry_payload(d, payload, available);
        if (item->error == WS_ERROR_NONE) {
            if (d->payload_left) return false;
            if (!d->fin) {
                next_frame(d);
                return true;
            }
        }
        /* An empty message may never have allocated; its address is still one to read from. */
        payload = d->carry.data ? d->carry.data : d->control;
        item->len = d->carry.len;
        d->release = true;
    }
    if (item->error == WS_ERROR_NONE && text && !utf8_end(&d->utf8)) {
        item->error = WS_ERROR_TEXT_UTF8;
    }
    if (item->error != WS_ERROR_NONE) {
        item->kind = WS_ITEM_ERROR;
        item->len = 0;
        return true;
    }
    item->kind = WS_ITEM_MESSAGE;
    item->text = text;
    item->data = payload;
    d->message_opcode = 0;
    next_frame(d);
    return true;
}

static enum ws_error carry_payload(struct ws_decoder *d, const uint8_t *bytes, size_t len)
{
    if (d->payload_left == d->payload_len && d->payload_len <= CARRY_TRUSTED_BYTES &&
        !buffer_reserve(&d->carry, (size_t)d->payload_len)) {
        return WS_ERROR_MEMORY;
    }
    /* check_length() has kept the sum within the buffer's limit: only memory can fail here. */
    if (!buffer_append(&d->carry, bytes, len)) return WS_ERROR_MEMORY;
    uint8_t *added = d->carry.len ? d->carry.data + d->carry.len - len : NULL;
    if (len && d->role == WS_SERVER) {
        ws__mask(added, len, d->mask, d->payload_len - d->payload_left);
    }
    d->payload_left -= len;
    if (d->message_opcode == WS_TEXT && !utf8_feed(&d->utf8, added, len)) return WS_ERROR_TEXT_UTF8;
    return WS_ERROR_NONE;
}

/* Takes the code off the payload, leaving the reason. */
static void read_close(struct ws_item *item)
{
    if (item->len == 0) return;
    ASSERT(item->len >= 2);
    struct utf8_state s;
    uint16_t code = (uint16_t)(item->data[0] << 8 | item->data[1]);
    utf8_start(&s);
    item->close_code = code; /* of a refused frame too: people want to know which it was */
    if (!ws_close_code_is_valid(code)) {
        item->error = WS_ERROR_CLOSE_CODE;
    } else if (!utf8_feed(&s, item->data + 2, item->len - 2) || !utf8_end(&s)) {
        item->error = WS_ERROR_CLOSE_UTF8;
    }
    if (item->error != WS_ERROR_NONE) {
        item->kind = WS_ITEM_ERROR;
        item->data = NULL;
        item->len = 0;
        return;
    }
    item->data += 2;
    item->len -= 2;
}

static void next_frame(struct ws_decoder *d)
{
    d->header_len = 0;
    d->header_need = 2;
    d->in_payload = false;
}
