/* Any bytes, as the answer to an upgrade, as a request, and as a head to look for headers in.
 * Input: byte 0 picks the role and whether the stream ends, byte 1 the cut. Claims: the same
 * verdict, status, sentence and body however it is cut; bounds hold; what is consumed was given. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "frame/upgrade.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct outcome {
    enum upgrade_state state;
    int status;
    const char *why;
    size_t consumed; /* when DONE */
    struct buffer head, body; /* owned */
    char words[16 + 2048 + 64];
    bool is_upgrade;
};

static uint8_t *copy(const uint8_t *from, size_t len)
{
    uint8_t *piece = malloc(len ? len : 1);
    ASSERT(piece);
    memcpy(piece, from, len);
    return piece;
}

static void take_buffer(struct buffer *to, struct buffer *from)
{
    *to = *from;
    memset(from, 0, sizeof *from);
}

static void read_answer(struct outcome *o, const uint8_t *data, size_t len, size_t step, bool ends)
{
    struct upgrade_reader r;
    upgrade_reader_init(&r, (const uint8_t *)"the sample nonce", "chat, superchat");
    size_t used = 0;
    for (size_t at = 0; at < len && r.state == UPGRADE_MORE;) {
        size_t n = len - at < step ? len - at : step, consumed;
        uint8_t *piece = copy(data + at, n);
        enum upgrade_state state = upgrade_read(&r, piece, n, &consumed);
        free(piece);
        ASSERT(state == r.state && consumed <= n);
        if (state == UPGRADE_MORE) ASSERT(consumed == n);
        used += consumed;
        at += n;
    }
    if (ends) ASSERT(upgrade_read_end(&r) != UPGRADE_MORE);
    ASSERT(r.head.len <= UPGRADE_HEAD_BYTES_MAX && r.body.len <= UPGRADE_BODY_BYTES_MAX);
    ASSERT((r.state == UPGRADE_BAD) == (r.why != NULL));
    if (r.state == UPGRADE_DONE) ASSERT(r.status == 101 && used == r.head.len);
    if (r.state == UPGRADE_REFUSED) ASSERT(r.status >= 200 && r.status <= 999);
    if (r.head.len) ASSERT(r.head.data[r.head.len] == 0);
    o->state = r.state;
    o->status = r.status;
    o->why = r.why;
    if (r.state == UPGRADE_DONE) o->consumed = used;
    take_buffer(&o->head, &r.head);
    take_buffer(&o->body, &r.body);
    upgrade_reader_deinit(&r);
}

static void read_request(struct outcome *o, const uint8_t *data, size_t len, size_t step)
{
    struct request_reader r;
    request_reader_init(&r);
    size_t used = 0;
    for (size_t at = 0; at < len && r.state == UPGRADE_MORE;) {
        size_t n = len - at < step ? len - at : step, consumed;
        uint8_t *piece = copy(data + at, n);
        enum upgrade_state state = request_read(&r, piece, n, &consumed);
        free(piece);
        ASSERT(state == r.state && state != UPGRADE_REFUSED && consumed <= n);
        if (state == UPGRADE_MORE) ASSERT(consumed == n);
        used += consumed;
        at += n;
    }
    ASSERT((r.state == UPGRADE_BAD) == (r.why != NULL));
    ASSERT(r.head.len <= UPGRADE_HEAD_BYTES_MAX && r.body.len <= REQUEST_BODY_BYTES_MAX);
    if (r.is_upgrade && r.state == UPGRADE_DONE) {
        struct buffer accept;
        buffer_init(&accept, 0);
        ASSERT(upgrade_write_accept(&accept, r.key, NULL));
        buffer_deinit(&accept);
    }
    o->state = r.state;
    o->why = r.why;
    o->is_upgrade = r.is_upgrade;
    if (r.state == UPGRADE_DONE) o->consumed = used;
    strcpy(o->words, r.method);
    strcat(o->words, r.target);
    strcat(o->words, r.key);
    take_buffer(&o->head, &r.head);
    take_buffer(&o->body, &r.body);
    request_reader_deinit(&r);
}

static void compare(const struct outcome *a, const struct outcome *b)
{
    ASSERT(a->state == b->state && a->status == b->status && a->why == b->why);
    ASSERT(a->consumed == b->consumed && a->is_upgrade == b->is_upgrade);
    ASSERT(strcmp(a->words, b->words) == 0);
    ASSERT(a->body.len == b->body.len);
    if (a->body.len) ASSERT(memcmp(a->body.data, b->body.data, a->body.len) == 0);
    /* Of a head that is none, as much is kept as came with the wrong byte. */
    if (a->state == UPGRADE_BAD) return;
    ASSERT(a->head.len == b->head.len);
    if (a->head.len) ASSERT(memcmp(a->head.data, b->head.data, a->head.len) == 0);
}

static void look_for_headers(const uint8_t *data, size_t len)
{
    char out[8];
    char *head = (char *)copy(data, len);
    if (upgrade_header_get(head, len, "Location", out, sizeof out)) {
        ASSERT(memchr(out, 0, sizeof out));
    }
    uint64_t ms = upgrade_retry_after_ms(head, len, 784111777000);
    ASSERT(ms == UINT64_MAX || ms < (uint64_t)1 << 48);
    free(head);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 2) return 0;
    uint8_t what = data[0];
    size_t step = data[1] ? data[1] : 1;
    struct outcome whole = { 0 }, cut = { 0 };
    data += 2;
    len -= 2;
    look_for_headers(data, len);
    if (what & 1) {
        read_request(&whole, data, len, SIZE_MAX);
        read_request(&cut, data, len, step);
    } else {
        read_answer(&whole, data, len, SIZE_MAX, what & 2);
        read_answer(&cut, data, len, step, what & 2);
    }
    compare(&whole, &cut);
    buffer_deinit(&whole.head);
    buffer_deinit(&whole.body);
    buffer_deinit(&cut.head);
    buffer_deinit(&cut.body);
    return 0;
}
