/* The wire format, shared by the files of protobuf. */
#ifndef HOLDFAST_FRAME_PROTOBUF_INTERNAL_H
#define HOLDFAST_FRAME_PROTOBUF_INTERNAL_H

#include "frame/protobuf.h"

enum protobuf_wire { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_GROUP = 3, WIRE_END = 4, WIRE_32 = 5 };
enum protobuf_step { STEP_FIELD, STEP_END, STEP_BAD };

struct protobuf__reader {
    const uint8_t *at, *end;
};

struct protobuf__item {
    uint32_t number;
    enum protobuf_wire wire;
    uint64_t bits;              /* VARINT, 64, 32 */
    const uint8_t *bytes;       /* BYTES: its content */
    size_t len;
    const uint8_t *start, *end; /* the whole field, with its tag */
};

/* An empty message may be a NULL pointer, to which not even 0 may be added. */
static inline struct protobuf__reader protobuf__read(const uint8_t *data, size_t len)
{
    return (struct protobuf__reader){ data, len ? data + len : data };
}

/* A group is one field, skipped as a whole. */
enum protobuf_step protobuf__next(struct protobuf__reader *r, struct protobuf__item *out);
enum protobuf_wire protobuf__wire_of(enum protobuf_kind kind);
bool protobuf__put_varint(struct buffer *out, uint64_t value);
bool protobuf__put_tag(struct buffer *out, uint32_t number, enum protobuf_wire wire);

#endif
