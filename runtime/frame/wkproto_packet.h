/* WKProto packets: bytes <-> one plain struct, versions 1 to 6. Layouts are tables (wkproto_packet.c), so that
 * reading, writing and JSON cannot drift apart. Pure; knows no keys and no order of packets.
 *
 * Glossary
 *   head      packet type, four flag bits, and the length of the body in base 128 (none for PING and PONG)
 *   version   of the protocol, in force since CONNACK; some fields exist only from or up to one
 *   rest      what is left of a body after its fields: the payload, as it is on the wire */
#ifndef HOLDFAST_FRAME_WKPROTO_PACKET_H
#define HOLDFAST_FRAME_WKPROTO_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

#define WK_VERSION_MAX 6
#define WK_BODY_BYTES_MAX 1048576 /* remaining length; the official limit */
#define WK_HEAD_BYTES_MAX 5
#define WK_TEXT_BYTES_MAX 32767   /* the Go side reads the length as signed */

#define WK_TYPE_MAP(X)                                                                               \
    X(1, CONNECT, "connect") X(2, CONNACK, "connack") X(3, SEND, "send") X(4, SENDACK, "sendack")    \
    X(5, RECV, "recv") X(6, RECVACK, "recvack") X(7, PING, "ping") X(8, PONG, "pong")                \
    X(9, DISCONNECT, "disconnect") X(10, SUB, "sub") X(11, SUBACK, "suback") X(12, EVENT, "event")
#define WK_TYPE_ENUM(value, id, name) WK_##id = value,
enum wk_type { WK_TYPE_MAP(WK_TYPE_ENUM) WK_TYPE_COUNT };

/* Flags of all packets but CONNACK, whose bit 0 means HasServerVersion. */
#define WK_FLAG_NO_PERSIST 1
#define WK_FLAG_RED_DOT 2
#define WK_FLAG_SYNC_ONCE 4
#define WK_FLAG_DUP 8
#define WK_FLAG_HAS_SERVER_VERSION 1

#define WK_SETTING_STREAM 0x02
#define WK_SETTING_TOPIC 0x08
#define WK_SETTING_PLAIN 0x10

/* How a field looks in JSON: a number; an identifier (64 bits, a decimal string); a text; nothing, because it
 * is the codec's own business. */
enum wk_form { WK_NUMBER, WK_ID, WK_TEXT, WK_HIDDEN, WK_PAYLOAD };

#define WK_FIELD_MAP(X)                                                                              \
    X(VERSION, NUMBER, "version") X(SERVER_VERSION, NUMBER, "server_version")                        \
    X(DEVICE_FLAG, NUMBER, "device_flag") X(DEVICE_ID, TEXT, "device_id") X(UID, TEXT, "uid")        \
    X(TOKEN, TEXT, "token") X(CLIENT_TIMESTAMP, NUMBER, "client_timestamp")                          \
    X(CLIENT_KEY, HIDDEN, "client_key") X(TIME_DIFF, NUMBER, "time_diff")                            \
    X(REASON_CODE, NUMBER, "reason_code") X(SERVER_KEY, HIDDEN, "server_key") X(SALT, HIDDEN, "salt") \
    X(NODE_ID, ID, "node_id") X(SETTING, NUMBER, "setting") X(MSG_KEY, HIDDEN, "msg_key")            \
    X(FROM_UID, TEXT, "from_uid") X(CHANNEL_ID, TEXT, "channel_id")                                  \
    X(CHANNEL_TYPE, NUMBER, "channel_type") X(EXPIRE, NUMBER, "expire")                              \
    X(CLIENT_MSG_NO, TEXT, "client_msg_no") X(STREAM_FLAG, NUMBER, "stream_flag")                    \
    X(STREAM_NO, TEXT, "stream_no") X(STREAM_ID, ID, "stream_id") X(MESSAGE_ID, ID, "message_id")    \
    X(MESSAGE_SEQ, NUMBER, "message_seq") X(TIMESTAMP, NUMBER, "timestamp") X(TOPIC, TEXT, "topic")  \
    X(CLIENT_SEQ, NUMBER, "client_seq") X(REASON, TEXT, "reason") X(SUB_NO, TEXT, "sub_no")          \
    X(ACTION, NUMBER, "action") X(PARAM, TEXT, "param") X(EVENT_ID, TEXT, "id")                      \
    X(EVENT_TYPE, TEXT, "type") X(EVENT_TIMESTAMP, NUMBER, "timestamp") X(PAYLOAD, PAYLOAD, "payload") \
    X(DATA, PAYLOAD, "data")
#define WK_FIELD_ENUM(id, form, name) WK_F_##id,
enum wk_field { WK_FIELD_MAP(WK_FIELD_ENUM) WK_FIELD_COUNT };
_Static_assert(WK_FIELD_COUNT <= 64, "`have` is one word");

enum wk_wire { WK_U8, WK_U32, WK_U64, WK_I32, WK_I64, WK_SEQ /* u32, from version 6 u64 */, WK_STR, WK_REST };
enum wk_when {
    WK_ALWAYS,
    WK_FROM_3, WK_FROM_4,   /* version */
    WK_IF_SERVER_VERSION,   /* CONNACK's flag */
    WK_IF_STREAM,           /* versions 2 to 4, and the setting */
    WK_IF_TOPIC,            /* the setting */
    WK_IF_LEFT,             /* read when bytes are left, never written: a newer server's addition */
};
struct wk_row {
    uint8_t field, wire, when;
};

struct wk_text {
    const uint8_t *at; /* borrowed */
    size_t len;
};

struct wk_packet {
    uint8_t type, flags;
    uint64_t have;                     /* a bit per field; those that are absent are 0 and "" */
    uint64_t number[WK_FIELD_COUNT];   /* signed ones in two's complement */
    struct wk_text text[WK_FIELD_COUNT];
};

struct wk_head {
    uint8_t type, flags;
    size_t body_at; /* bytes of the head */
    size_t size;    /* head and body */
};

enum wk_split { WK_SPLIT_WHOLE, WK_SPLIT_HALF, WK_SPLIT_BROKEN };
/* The packet at the front of `bytes`. `*why`: static text, when BROKEN. */
enum wk_split wk_split(const uint8_t *bytes, size_t len, struct wk_head *out, const char **why);

/* The fields of a packet of type 1 to 12. Bytes behind the last field are ignored, as newer servers append.
 * `out`: borrows from `body`. False with static text: the body is not what its type says. */
bool wk_packet_read(const struct wk_head *head, const uint8_t *body, unsigned version,
                    struct wk_packet *out, const char **why);
/* Appends head and body. False with static text, and nothing appended: a text or the packet is too long, or
 * memory is out. */
bool wk_packet_write(const struct wk_packet *p, unsigned version, struct buffer *out, const char **why);

/* The rows of a type; none for PING and PONG. */
const struct wk_row *wk_layout(unsigned type, size_t *count_out);
/* Whether the row exists under this version, given the flags and the setting. */
bool wk_row_is_on(const struct wk_row *row, const struct wk_packet *p, unsigned version);
const char *wk_type_name(unsigned type);   /* "recv"; NULL when there is none */
const char *wk_field_name(unsigned field); /* "message_id" */
enum wk_form wk_field_form(unsigned field);

/* Decimal digits of a number whose 64 bits are a signed one; returns their count. */
#define WK_DECIMAL_BYTES 20
size_t wk_decimal(uint64_t number, char out[WK_DECIMAL_BYTES]);

static inline bool wk_has(const struct wk_packet *p, unsigned field)
{
    return p->have >> field & 1;
}

#endif
