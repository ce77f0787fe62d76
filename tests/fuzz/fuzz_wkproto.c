/* Fuzzes WKProto. Byte 0: bit 0 which end reads, bit 1 whether both ends shook hands before, bit 2 whether the
 * rest is JSON to be written instead; bits 3 to 5 the version. Byte 1: how the bytes are cut. What is read must be
 * the same in one piece and cut, must be valid JSON, and the packets must cover the bytes. */
#include "frame/wkproto.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/rng.h"
#include "frame/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void say(struct wkproto *from, struct wkproto *to, const char *text)
{
    struct buffer out;
    struct codec_item item;
    uint8_t json[300];
    char why[160];
    size_t len = strlen(text);
    ASSERT(len < sizeof json);
    memcpy(json, text, len);
    buffer_init(&out, 0);
    ASSERT(wkproto_encode(from, json, len, &out, why, sizeof why));
    if (to) {
        ASSERT(wkproto_feed(to, out.data, out.len, SIZE_MAX));
        ASSERT(wkproto_next(to, &item) == CODEC_PACKET);
    }
    buffer_deinit(&out);
}

static void ends(struct wkproto *client, struct wkproto *server, unsigned version, bool shaken)
{
    static const uint8_t a[WK_SEED_BYTES] = { 1 }, b[WK_SEED_BYTES] = { 2 };
    char text[200];
    snprintf(text, sizeof text, "{\"packet\":\"connect\",\"version\":%u,\"uid\":\"u\",\"token\":\"t\",\"device_id\":\"d\"}",
             version);
    wkproto_init(client, WK_CLIENT);
    wkproto_init(server, WK_SERVER);
    wkproto_seed(client, a);
    wkproto_seed(server, b);
    server->server.latest = WK_VERSION_MAX;
    strcpy(server->server.salt, "0123456789abcdef");
    say(client, shaken ? server : NULL, text);
    if (shaken) say(server, client, "{\"packet\":\"connack\",\"reason_code\":1}");
}

static uint64_t read_all(struct wkproto *w, const uint8_t *data, size_t size, size_t piece_max)
{
    uint64_t sum = 0;
    size_t covered = 0;
    for (size_t from = 0; from < size;) {
        size_t piece = size - from < piece_max ? size - from : piece_max;
        struct codec_item item;
        uint8_t *bytes = malloc(piece); /* so that reading one more is seen */
        if (!bytes) abort();
        memcpy(bytes, data + from, piece);
        ASSERT(wkproto_feed(w, bytes, piece, SIZE_MAX));
        free(bytes);
        from += piece;
        enum codec_result result;
        while ((result = wkproto_next(w, &item)) == CODEC_PACKET) {
            ASSERT(item.raw_len > 0 && memcmp(item.raw, data + covered, item.raw_len) == 0);
            covered += item.raw_len;
            ASSERT(item.json_len > 0);
            sum = rng_mix(sum ^ hash_bytes(item.json, item.json_len));
            for (size_t i = 0; i < item.json_len; i++) ASSERT(item.json[i] >= 0x20);
            ASSERT(json_scan(item.json, item.json_len, NULL, NULL, NULL) == JSON_OK);
        }
        ASSERT(covered <= from);
        if (result == CODEC_BAD) {
            ASSERT(item.why != NULL);
            return rng_mix(sum ^ hash_text(item.why));
        }
    }
    return sum;
}

static void write_one(struct wkproto *w, struct wkproto *reader, const uint8_t *data, size_t size)
{
    struct buffer out;
    struct codec_item item;
    char why[160];
    uint8_t *json = malloc(size ? size : 1);
    if (!json) abort();
    memcpy(json, data, size);
    buffer_init(&out, 0);
    if (wkproto_encode(w, json, size, &out, why, sizeof why)) {
        /* What one end writes the other reads, whole and without a fault. */
        if (reader->stage != WK_STAGE_NEW) {
            ASSERT(wkproto_feed(reader, out.data, out.len, SIZE_MAX));
            ASSERT(wkproto_next(reader, &item) == CODEC_PACKET);
            ASSERT(item.raw_len == out.len);
            ASSERT(wkproto_next(reader, &item) == CODEC_MORE);
            if (w->side == WK_CLIENT) ASSERT(reader->faults == 0);
        }
    } else {
        ASSERT(out.len == 0 && why[0]);
    }
    memcpy(json, data, size);
    wkproto_encode(NULL, json, size, &out, why, sizeof why);
    free(json);
    buffer_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) return 0;
    uint64_t sums[2];
    bool client_reads = data[0] & 1, shaken = data[0] & 2;
    unsigned version = 1 + (data[0] >> 3 & 7) % WK_VERSION_MAX;
    for (int i = 0; i < (data[0] & 4 ? 1 : 2); i++) {
        struct wkproto client, server;
        ends(&client, &server, version, shaken);
        if (data[0] & 4) {
            write_one(client_reads ? &server : &client, client_reads ? &client : &server, data + 2, size - 2);
        } else {
            sums[i] = read_all(client_reads ? &client : &server, data + 2, size - 2, i ? 1u + data[1] : SIZE_MAX);
        }
        wkproto_deinit(&client);
        wkproto_deinit(&server);
    }
    if (!(data[0] & 4)) ASSERT(sums[0] == sums[1]);
    return 0;
}
