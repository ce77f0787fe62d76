/* Echo: a message goes back as it came but for some fields. Works on bytes, so that nothing that a layout
 * does not know is lost or written another way. */
#include "frame/protobuf_internal.h"

#include "base/assert.h"

static bool copy_changed(const uint8_t *data, size_t len, const struct protobuf_change *changes,
                         uint32_t count, struct buffer *out);
static bool is_whole(const uint8_t *data, size_t len);

enum protobuf_result protobuf_echo(const uint8_t *data, size_t len,
                                   const struct protobuf_change *changes, uint32_t count,
                                   struct buffer *out)
{
    size_t before = out->len;
    if (!is_whole(data, len)) return PROTOBUF_MALFORMED;
    if (copy_changed(data, len, changes, count, out)) return PROTOBUF_OK;
    out->len = before;
    return PROTOBUF_TOO_BIG;
}

/* Where a change is written: behind the last field of its number, else before the first higher one, else at
 * the end. */
static const uint8_t *place_of(const uint8_t *data, size_t len, uint32_t number)
{
    struct protobuf__reader r = protobuf__read(data, len);
    struct protobuf__item item;
    const uint8_t *behind = NULL, *higher = NULL;
    while (protobuf__next(&r, &item) == STEP_FIELD) {
        if (item.number == number) behind = item.end;
        if (item.number > number && !higher) higher = item.start;
    }
    return behind ? behind : higher ? higher : r.end;
}

static const struct protobuf_change *change_of(const struct protobuf_change *changes, uint32_t count,
                                               uint32_t number)
{
    for (uint32_t i = 0; i < count; i++) {
        if (changes[i].number == number) return &changes[i];
    }
    return NULL;
}

static bool write_changes(const uint8_t *at, const uint8_t *const *places,
                          const struct protobuf_change *changes, uint32_t count, struct buffer *out)
{
    /* Two absent fields may stand at one place: the lower number goes first. */
    for (uint32_t from = 0, done = 0; done < count; done++) {
        const struct protobuf_change *next = NULL;
        for (uint32_t i = 0; i < count; i++) {
            bool here = places[i] == at && changes[i].number > from;
            if (here && (!next || changes[i].number < next->number)) next = &changes[i];
        }
        if (!next) break;
        if (!buffer_append(out, next->bytes, next->len)) return false;
        from = next->number;
    }
    return true;
}

static bool copy_changed(const uint8_t *data, size_t len, const struct protobuf_change *changes,
                         uint32_t count, struct buffer *out)
{
    const uint8_t *places[PROTOBUF_FIELDS_MAX];
    struct protobuf__reader r = protobuf__read(data, len);
    struct protobuf__item item;
    ASSERT(count <= PROTOBUF_FIELDS_MAX);
    for (uint32_t i = 0; i < count; i++) places[i] = place_of(data, len, changes[i].number);
    if (!write_changes(data, places, changes, count, out)) return false;
    while (protobuf__next(&r, &item) == STEP_FIELD) {
        const struct protobuf_change *change = change_of(changes, count, item.number);
        if (!change || change->kind == PROTOBUF_APPEND) {
            if (!buffer_append(out, item.start, (size_t)(item.end - item.start))) return false;
        }
        if (!write_changes(item.end, places, changes, count, out)) return false;
    }
    return true;
}

static bool is_whole(const uint8_t *data, size_t len)
{
    struct protobuf__reader r = protobuf__read(data, len);
    struct protobuf__item item;
    enum protobuf_step step;
    while ((step = protobuf__next(&r, &item)) == STEP_FIELD) continue;
    return step == STEP_END;
}
