/* The frame path of one link: bytes -> frames -> message -> decompress -> take fields -> rules.
 * Pull style: path_next() yields one thing at a time, so that the caller can let hooks and the events
 * they cause take effect before the next frame is looked at (the barrier). Pure: no clock, no I/O. */
#ifndef HOLDFAST_FRAME_PATH_H
#define HOLDFAST_FRAME_PATH_H

#include "frame/codec.h"
#include "frame/inflate.h"
#include "frame/join.h"
#include "frame/json.h"
#include "frame/rules.h"
#include "frame/ws.h"

enum path_kind {
    PATH_MORE,    /* all bytes consumed */
    PATH_MESSAGE,
    PATH_PING,    /* answer with a pong of the same payload */
    PATH_PONG,
    PATH_CLOSE,
    PATH_ERROR,   /* protocol, size or decompression: the link cannot go on */
};

enum path_error {
    PATH_ERROR_NONE,
    PATH_ERROR_PROTOCOL,
    PATH_ERROR_TOO_BIG, /* on the wire or decompressed */
    PATH_ERROR_UTF8,
    PATH_ERROR_INFLATE,
    PATH_ERROR_MEMORY,
};

struct path_item {
    enum path_kind kind;
    /* MESSAGE, PING, PONG, CLOSE (reason). Borrowed until the next path_next(). */
    uint8_t *data;
    size_t len;
    bool text;               /* MESSAGE: came as a text message, or was decompressed */
    uint16_t close_code;     /* CLOSE: 0 when none came; ERROR of a close frame: its code */
    const uint8_t *raw;      /* MESSAGE: the packet as it came, where a codec made `data` of it; otherwise
                                the same bytes. Borrowed likewise. */
    size_t raw_len;
    enum path_error error;   /* ERROR */
    const char *why;         /* ERROR of a codec: in words; otherwise NULL */
    enum ws_error ws_error;  /* ERROR: PROTOCOL, TOO_BIG, UTF8 of framing */
    uint16_t error_close_code; /* ERROR: what to tell the peer */

    /* MESSAGE only */
    bool malformed;          /* not what the codec says: always `deliver` (as
                                base64), never `inspect`; scalars before the fault are in `fields` */
    bool fault;              /* valid, but the codec found something wrong with it */
    struct field_value fields[FIELDS_MAX];
    bool json;               /* `data` is valid JSON, as it came or by the codec */
    bool deliver;
    bool inspect;
    bool beat_asked;
    bool beat_answer;
    int ends;                /* index into rules->ends, or -1 */
};

struct frame_path {
    const struct frame_rules *rules; /* borrowed; path_set_rules() swaps after a reload */
    struct ws_decoder ws;
    struct inflate *inflate;         /* owned, NULL without compression */
    struct codec *codec;             /* owned, NULL where messages are JSON or bytes */
    bool packets;                    /* the codec may have more of the last message */
    struct join *join;               /* owned, NULL before the first part */
    uint64_t now_ms;                 /* mono, by the caller before path_next(): parts grow old */
    uint64_t parts_refused;          /* that made no sense, or were over a bound of frames.join */
    bool over;                       /* after ERROR: nothing but MORE */
};

/* False when memory is out or the codec is not known yet. `rules` must be prepared. */
bool path_init(struct frame_path *p, const struct frame_rules *rules, enum inflate_mode mode);
void path_deinit(struct frame_path *p);
/* The rules of a new policy version, from the next frame on. A changed limit on decompressed size waits
 * for the next link; a changed codec that needs a state of its own is treated as bytes until then. */
void path_set_rules(struct frame_path *p, const struct frame_rules *rules);
/* Consumes a prefix of `bytes` (may change it in place) and fills `item`. A binary message under
 * codec json is decompressed when the mode says so, otherwise malformed.
 * One message may carry several packets: its last byte then counts as consumed only with the last of
 * them, so that who pauses in between gets called again. */
enum path_kind path_next(struct frame_path *p, uint8_t *bytes, size_t len, size_t *consumed,
                         struct path_item *item);
/* For outbound frames (accept, start): takes the fields of one JSON text. Values borrow from `data`,
 * which may be changed in place as in json_scan(). */
enum json_result path_take(const struct frame_path *p, uint8_t *data, size_t len,
                           struct field_value values[FIELDS_MAX]);
/* Whether this link's outbound JSON texts go through a codec; then path_encode() appends the packet's bytes.
 * False with a sentence, and `out` as it was. `json` may be changed in place. */
bool path_encodes(const struct frame_path *p);
/* Whether packets of this link may share a message. */
bool path_joins(const struct frame_path *p);
/* Whether a JSON text can become a packet under these rules, without a link; true where no codec is. `json`
 * may be changed in place. */
bool path_encodable(const struct frame_rules *rules, uint8_t *json, size_t len, char *why,
                    size_t why_bytes);
bool path_encode(struct frame_path *p, uint8_t *json, size_t len, struct buffer *out, char *why,
                 size_t why_bytes);
/* Expands an acknowledgement template with the message's fields: each whole JSON string "@name" becomes
 * the field's raw JSON (a string with its quotes), everything else is copied. False, and nothing
 * appended, over the limit (of `out`, or rules->send_bytes_max) or when a field that it names is absent. */
bool path_ack_expand(const struct frame_rules *rules, const char *template_text,
                     const struct field_value *values, struct buffer *out);
/* Appends what the platform hears of a message: the rule's template with its fields, or its echo of `raw`. False,
 * and nothing appended, as in path_ack_expand(), and where the rule has neither. */
bool path_ack_make(const struct frame_rules *rules, const struct ack_rule *rule,
                   const struct field_value *values, const void *raw, size_t raw_len, struct buffer *out);
/* Makes `ack`, an echo, carry a consumer's answer: each whole JSON string "@reply" of the rule's template
 * becomes the answer, "@reply_base64" a string with its base64. Likewise false. */
bool path_reply_expand(const struct frame_rules *rules, const struct ack_rule *rule, const void *ack,
                       size_t ack_len, const void *answer, size_t answer_len, struct buffer *out);
/* Whether a template says one of them. */
bool path_reply_check(const char *template_text);
/* For the policy check: valid JSON, and every "@name" is a field. *bad_out (RULE_NAME_MAX bytes, may be
 * NULL) then is the unknown name, or "" when the template is not JSON. */
bool path_ack_check(const struct frame_rules *rules, const char *template_text,
                    char bad_out[RULE_NAME_MAX]);

#endif
