/* Fuzzes the frame path with what a server may send: byte 0 chooses the compression, byte 1 how the
 * bytes are cut, the rest are the bytes. They must yield the same items in one piece and cut. */
#include "frame/path.h"
#include "frame/protobuf.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/rng.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MESSAGE_BYTES_MAX 65536

static struct field_want want_low = { .kind = WANT_RANGE, .low = 0, .high = 5 };
static struct field_want want_text = { .kind = WANT_STRING, .text = (char *)"READY", .len = 5 };
static struct field_match match_low = { .field = 0, .wants = &want_low, .want_count = 1 };
static struct field_match match_text = { .field = 1, .wants = &want_text, .want_count = 1 };
static struct frame_matcher matcher_low = { .fields = &match_low, .field_count = 1 };
static struct frame_matcher matcher_text = { .fields = &match_text, .field_count = 1 };

static uint64_t mix(uint64_t sum, const void *bytes, size_t len)
{
    return rng_mix(sum ^ hash_bytes(len ? bytes : "", len) ^ len);
}

static uint64_t check_item(uint64_t sum, const struct frame_rules *rules, const struct path_item *item)
{
    sum = mix(sum, &item->kind, sizeof item->kind);
    if (item->kind == PATH_ERROR) return mix(sum, &item->error_close_code, sizeof item->error_close_code);
    sum = mix(sum, item->data, item->len);
    if (item->kind == PATH_CLOSE) return mix(sum, &item->close_code, sizeof item->close_code);
    if (item->kind != PATH_MESSAGE) return sum;
    /* JSON of a packet may be longer than the packet. */
    ASSERT(item->len <= MESSAGE_BYTES_MAX * (rules->layout ? 2u : 1u) + (rules->layout ? 4096u : 0u));
    sum = mix(sum, item->raw, item->raw_len);
    if (rules->codec == CODEC_JSON && !item->malformed) {
        for (size_t i = 0; i < item->len; i++) ASSERT(item->data[i] >= 0x20);
    }
    if (item->malformed) ASSERT(item->deliver && !item->inspect);
    for (uint32_t i = 0; i < rules->field_count; i++) {
        const struct field_value *v = &item->fields[i];
        sum = mix(sum, &v->kind, sizeof v->kind);
        if (v->kind == FIELD_ABSENT) continue;
        ASSERT(v->text >= item->data && v->text + v->len <= item->data + item->len);
        sum = mix(sum, v->text, v->len);
    }
    uint8_t flags[] = { item->text, item->malformed, item->deliver, item->inspect, item->beat_asked,
                        item->beat_answer, (uint8_t)item->ends };
    return mix(sum, flags, sizeof flags);
}

static uint64_t run(const struct frame_rules *rules, enum inflate_mode mode, const uint8_t *data,
                    size_t size, size_t piece_max)
{
    struct frame_path path;
    struct path_item item;
    uint64_t sum = 0;
    if (!path_init(&path, rules, mode)) return 0;
    for (size_t from = 0; from < size;) {
        size_t piece = size - from < piece_max ? size - from : piece_max;
        uint8_t *bytes = malloc(piece);
        if (!bytes) abort();
        memcpy(bytes, data + from, piece);
        size_t at = 0, consumed;
        while (path_next(&path, bytes + at, piece - at, &consumed, &item) != PATH_MORE) {
            sum = check_item(sum, rules, &item);
            at += consumed;
            ASSERT(at <= piece);
        }
        ASSERT(at + consumed == piece);
        free(bytes);
        from += piece;
    }
    path_deinit(&path);
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) return 0;
    struct ends_rule ends = { .match = { &matcher_text, 1 } };
    struct frame_rules rules;
    memset(&rules, 0, sizeof rules);
    rules.codec = data[0] & 8 ? CODEC_PROTOBUF : data[0] & 4 ? CODEC_BYTES : CODEC_JSON;
    static struct protobuf_layout layout = {
        .fields = { { 1, PROTOBUF_UINT64, true, 0, 0, "op" }, { 2, PROTOBUF_MAP, false, 1, 2, "d" },
                    { 3, PROTOBUF_JSON, false, 0, 0, "t" } },
        .count = 3,
    };
    if (rules.codec == CODEC_PROTOBUF) {
        rules.layout = &layout;
        rules.join.on = true;
        rules.join.by = 2;
        rules.join.index = 0;
        rules.join.count = 1;
        rules.join.of = 3;
        rules.join.within_ms = 1000;
        rules.join.parts = 8;
        rules.join.bytes = 4096;
    }
    rules.message_bytes_max = MESSAGE_BYTES_MAX;
    strcpy(rules.fields[0].path, "op");
    strcpy(rules.fields[1].path, "t");
    strcpy(rules.fields[2].path, "d.id");
    strcpy(rules.fields[3].path, "d");
    rules.field_count = 4;
    rules.deliver = (struct frame_matchers){ &matcher_low, 1 };
    rules.inspect = (struct frame_matchers){ &matcher_text, 1 };
    rules.beat_asked = rules.deliver;
    rules.ends = &ends;
    rules.ends_count = 1;
    if (!frame_rules_prepare(&rules)) return 0;

    static const enum inflate_mode modes[] = { INFLATE_NONE, INFLATE_ZLIB_STREAM, INFLATE_ZSTD_STREAM, INFLATE_NONE };
    enum inflate_mode mode = modes[data[0] & 3];
    uint64_t whole = run(&rules, mode, data + 2, size - 2, SIZE_MAX);
    ASSERT(run(&rules, mode, data + 2, size - 2, 1u + data[1]) == whole);
    free(rules.paths);
    return 0;
}
