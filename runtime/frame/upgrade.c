/* The upgrade as a client: writes the request, reads the answer. Owns the answer's head and the
 * first bytes of a refusal's body. Strict about a 101, because what follows it is taken for frames;
 * lenient about a refusal, because its status and words are worth more than its grammar. */
#include "frame/upgrade.h"

#include <string.h>

#include "base/assert.h"
#include "base/text.h"
#include "crypto/digest.h"
#include "frame/http_internal.h"

static bool request_is_sane(const struct upgrade_request *q);
static bool extra_header_is_sane(const struct upgrade_header *h);
static bool has_byte_below(const char *text, unsigned char lowest, bool tab_too);
static enum upgrade_state bad(struct upgrade_reader *r, const char *why);
static enum upgrade_state read_head(struct upgrade_reader *r, const uint8_t *bytes, size_t len,
                                    size_t *at);
static enum upgrade_state judge_head(struct upgrade_reader *r);
static enum upgrade_state judge_switch(struct upgrade_reader *r);
static void find_body_length(struct upgrade_reader *r);
static enum upgrade_state read_body(struct upgrade_reader *r, const uint8_t *bytes, size_t len,
                                    size_t *at);

bool upgrade_write_request(struct buffer *out, const struct upgrade_request *q)
{
    char key[BASE64_TEXT_BYTES(sizeof q->nonce) + 1];
    size_t start = out->len;
    if (!request_is_sane(q)) return false;

    base64_encode(q->nonce, sizeof q->nonce, key);
    bool ok = buffer_append_text(out, "GET ") && buffer_append_text(out, q->target) &&
              buffer_append_text(out, " HTTP/1.1\r\nHost: ") && buffer_append_text(out, q->host) &&
              buffer_append_text(out, "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                      "Sec-WebSocket-Key: ") &&
              buffer_append_text(out, key) &&
              buffer_append_text(out, "\r\nSec-WebSocket-Version: 13\r\n");
    if (q->protocol) {
        ok = ok && buffer_append_text(out, "Sec-WebSocket-Protocol: ") &&
             buffer_append_text(out, q->protocol) && buffer_append_text(out, "\r\n");
    }
    for (size_t i = 0; ok && i < q->header_count; i++) {
        ok = buffer_append_text(out, q->headers[i].name) && buffer_append_text(out, ": ") &&
             buffer_append_text(out, q->headers[i].value) && buffer_append_text(out, "\r\n");
    }
    ok = ok && buffer_append_text(out, "\r\n");
    if (!ok) out->len = start;
    return ok;
}

void upgrade_reader_init(struct upgrade_reader *r, const uint8_t nonce[16], const char *protocol)
{
    char key[BASE64_TEXT_BYTES(16) + 1];
    memset(r, 0, sizeof *r);
    buffer_init(&r->head, UPGRADE_HEAD_BYTES_MAX + 1);
    buffer_init(&r->body, UPGRADE_BODY_BYTES_MAX);
    if (protocol) {
        ASSERT(strlen(protocol) < sizeof r->protocol);
        strcpy(r->protocol, protocol);
    }
    base64_encode(nonce, 16, key);
    if (!http__accept_of(key, r->accept)) bad(r, "SHA-1 is not available");
}

void upgrade_reader_deinit(struct upgrade_reader *r)
{
    buffer_deinit(&r->head);
    buffer_deinit(&r->body);
}

enum upgrade_state upgrade_read(struct upgrade_reader *r, const uint8_t *bytes, size_t len,
                                size_t *consumed)
{
    size_t at = 0;
    switch (r->state) {
    case UPGRADE_MORE:
        if (!r->head_done) r->state = read_head(r, bytes, len, &at);
        if (r->state == UPGRADE_MORE && r->head_done) r->state = read_body(r, bytes, len, &at);
        break;
    case UPGRADE_DONE:
        break;
    default:
        at = len;
        break;
    }
    *consumed = at;
    return r->state;
}

enum upgrade_state upgrade_read_end(struct upgrade_reader *r)
{
    if (r->state != UPGRADE_MORE) return r->state;
    if (r->head_done) return r->state = UPGRADE_REFUSED;
    if (r->head.len == 0) return bad(r, "the stream ended without an answer");
    return bad(r, "the stream ended inside the answer's head");
}

const char *upgrade_status_text(const struct upgrade_reader *r, size_t *len_out)
{
    const char *line = (const char *)r->head.data;
    size_t len = r->head_done && line ? strcspn(line, "\r\n") : 0, from = 12;
    *len_out = 0;
    while (from < len && line[from] == ' ') from++;
    while (len > from && line[len - 1] == ' ') len--;
    if (from >= len) return "";
    *len_out = len - from;
    return line + from;
}

static bool request_is_sane(const struct upgrade_request *q)
{
    if (q->host[0] == 0 || has_byte_below(q->host, 0x21, false)) return false;
    if (q->target[0] != '/' || has_byte_below(q->target, 0x21, false)) return false;
    if (q->protocol) {
        if (strlen(q->protocol) >= sizeof ((struct upgrade_reader *)0)->protocol) return false;
        if (q->protocol[0] == 0 || has_byte_below(q->protocol, 0x20, false)) return false;
    }
    for (size_t i = 0; i < q->header_count; i++) {
        if (!extra_header_is_sane(&q->headers[i])) return false;
    }
    return true;
}

static bool extra_header_is_sane(const struct upgrade_header *h)
{
    static const char *const owned[] = { "Host", "Connection", "Upgrade", "Content-Length",
                                         "Transfer-Encoding" };
    static const char prefix[] = "Sec-WebSocket-";
    size_t len = strlen(h->name);
    if (!http__is_token(h->name, len) || has_byte_below(h->value, 0x20, true)) return false;
    for (size_t i = 0; i < sizeof owned / sizeof owned[0]; i++) {
        bool same = len == strlen(owned[i]) && text_equal_ignoring_case(h->name, owned[i], len);
        if (same) return false;
    }
    size_t prefix_len = sizeof prefix - 1;
    return len < prefix_len || !text_equal_ignoring_case(h->name, prefix, prefix_len);
}

static bool has_byte_below(const char *text, unsigned char lowest, bool tab_too)
{
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (*p == 0x7f || (*p < lowest && !(tab_too && *p == '\t'))) return true;
    }
    return false;
}

static enum upgrade_state bad(struct upgrade_reader *r, const char *why)
{
    r->why = why;
    return r->state = UPGRADE_BAD;
}

static enum upgrade_state read_head(struct upgrade_reader *r, const uint8_t *bytes, size_t len,
                                    size_t *at)
{
    static const char start[] = "HTTP/1.";
    enum http_head result = http__read_head(&r->head, bytes, len, at, UPGRADE_HEAD_BYTES_MAX);
    /* At the first byte that differs: a TLS alert or an SSH banner has no line end to wait for. */
    size_t known = r->head.len < sizeof start - 1 ? r->head.len : sizeof start - 1;
    if (known && memcmp(r->head.data, start, known) != 0) return bad(r, "the answer is not HTTP/1");
    switch (result) {
    case HTTP_HEAD_MORE: return UPGRADE_MORE;
    case HTTP_HEAD_OVER: return bad(r, "the answer's head is over 16 KiB");
    case HTTP_HEAD_NUL: return bad(r, "a NUL byte in the answer's head");
    case HTTP_HEAD_MEMORY: return bad(r, "out of memory for the answer's head");
    case HTTP_HEAD_DONE: break;
    }
    r->head_done = true;
    return judge_head(r);
}

/* Status line: "HTTP/1.1 101 Switching Protocols"; the reason and the space before it may lack. */
static enum upgrade_state judge_head(struct upgrade_reader *r)
{
    const char *line = (const char *)r->head.data;
    size_t line_len = strcspn(line, "\r\n");
    int status = 0;
    if (line_len < 12 || line[7] < '0' || line[7] > '9' || line[8] != ' ' ||
        (line_len > 12 && line[12] != ' ')) {
        return bad(r, "the answer's status line is malformed");
    }
    for (int i = 9; i < 12; i++) {
        if (line[i] < '0' || line[i] > '9') return bad(r, "the answer's status line is malformed");
        status = status * 10 + (line[i] - '0');
    }
    r->status = status;
    if (status < 100) return bad(r, "the answer's status is below 100");
    if (status == 101 && line[7] == '0') return bad(r, "HTTP/1.0 cannot switch protocols");
    if (status == 101) return judge_switch(r);
    if (status < 200) return bad(r, "an interim status (1xx) that was not asked for");
    find_body_length(r);
    return UPGRADE_MORE;
}

static enum upgrade_state judge_switch(struct upgrade_reader *r)
{
    const char *head = (const char *)r->head.data;
    int accepts = 0, protocols = 0;
    bool upgrade = false, connection = false;
    struct http_field f;
    size_t at = 0;
    for (;;) {
        enum http_line line = http__next_field(head, r->head.len, &at, &f);
        if (line == HTTP_LINE_END) break;
        if (line == HTTP_LINE_BAD) return bad(r, "a malformed header line in the 101");
        if (http__field_is(&f, "Upgrade")) {
            upgrade = upgrade || http__field_lists(&f, "websocket");
        } else if (http__field_is(&f, "Connection")) {
            connection = connection || http__field_lists(&f, "upgrade");
        } else if (http__field_is(&f, "Sec-WebSocket-Accept")) {
            bool right = f.value_len == strlen(r->accept) &&
                         memcmp(f.value, r->accept, f.value_len) == 0;
            if (!right) return bad(r, "Sec-WebSocket-Accept is wrong");
            accepts++;
        } else if (http__field_is(&f, "Sec-WebSocket-Extensions")) {
            if (f.value_len) return bad(r, "an extension that was not asked for");
        } else if (http__field_is(&f, "Sec-WebSocket-Protocol")) {
            struct http_field asked = { "", 0, r->protocol, strlen(r->protocol) };
            char name[sizeof r->protocol];
            text_copy(name, sizeof name, f.value, f.value_len);
            if (f.value_len >= sizeof name || !http__is_token(name, strlen(name)) ||
                !http__field_lists(&asked, name)) {
                return bad(r, "a subprotocol that was not asked for");
            }
            protocols++;
        }
    }
    if (!upgrade) return bad(r, "the 101 has no Upgrade: websocket");
    if (!connection) return bad(r, "the 101 has no Connection: Upgrade");
    if (accepts == 0) return bad(r, "the 101 has no Sec-WebSocket-Accept");
    if (accepts > 1) return bad(r, "the 101 has more than one Sec-WebSocket-Accept");
    if (protocols > 1) return bad(r, "the 101 has more than one subprotocol");
    return UPGRADE_DONE;
}

/* Framing that contradicts itself is read until the end of the stream: the words still come. */
static void find_body_length(struct upgrade_reader *r)
{
    struct http_field f;
    enum http_line line;
    size_t at = 0;
    bool contradicted = false;
    r->body_left = UINT64_MAX;
    if (r->status == 204 || r->status == 304) {
        r->body_left = 0;
        return;
    }
    do {
        uint64_t length;
        line = http__next_field((const char *)r->head.data, r->head.len, &at, &f);
        if (line != HTTP_LINE_FIELD) continue;
        if (http__field_is(&f, "Transfer-Encoding") && http__field_lists(&f, "chunked")) {
            r->chunked = true;
        } else if (http__field_is(&f, "Content-Length")) {
            if (!http__parse_length(f.value, f.value_len, &length) ||
                (r->body_left != UINT64_MAX && r->body_left != length)) {
                contradicted = true;
            } else {
                r->body_left = length;
            }
        }
    } while (line != HTTP_LINE_END);
    if (contradicted || r->chunked) r->body_left = UINT64_MAX;
}

static enum upgrade_state read_body(struct upgrade_reader *r, const uint8_t *bytes, size_t len,
                                    size_t *at)
{
    enum http_body result;
    if (r->chunked) {
        struct http_chunks c = { r->chunk_left, r->chunk_state };
        result = http__read_chunks(&r->body, &c, bytes, len, at, UPGRADE_BODY_BYTES_MAX);
        r->chunk_left = c.left;
        r->chunk_state = c.state;
    } else {
        result = http__read_plain(&r->body, &r->body_left, bytes, len, at, UPGRADE_BODY_BYTES_MAX);
    }
    /* Broken framing or no memory: what came until then is what is kept. */
    return result == HTTP_BODY_MORE ? UPGRADE_MORE : UPGRADE_REFUSED;
}
