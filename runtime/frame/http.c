/* HTTP/1.1 heads, fields and bodies for both roles of the upgrade. Owns nothing. Takes a bare LF as
 * a line's end, as RFC 9112 allows; everything else that a field line may not be is named bad, and
 * the caller decides whether that matters. */
#include "frame/http_internal.h"

#include <string.h>

#include "base/text.h"
#include "crypto/digest.h"
#include "frame/upgrade.h"

enum {
    CHUNK_SIZE,      /* hexadecimal digits; none seen yet */
    CHUNK_SIZE_MORE, /* at least one seen */
    CHUNK_EXTENSION, /* ignored, up to LF */
    CHUNK_DATA,
    CHUNK_DATA_END,  /* the line end after the data */
    CHUNK_TRAILER,   /* at the start of a trailer line */
    CHUNK_TRAILER_REST,
    CHUNK_OVER,
};
#define CHUNK_BYTES_MAX ((uint64_t)1 << 56)

static enum http_line field_at(const char *head, size_t len, size_t *at, struct http_field *out);
static bool ends_with_blank_line(const struct buffer *b);
static bool is_token_char(unsigned char c);
static int hex_value(uint8_t c);

enum http_head http__read_head(struct buffer *head, const uint8_t *bytes, size_t len, size_t *at,
                               size_t bytes_max)
{
    while (*at < len) {
        const uint8_t *from = bytes + *at;
        const uint8_t *line_end = memchr(from, '\n', len - *at);
        size_t n = line_end ? (size_t)(line_end - from) + 1 : len - *at;
        bool over = n > bytes_max - head->len;
        if (over) n = bytes_max - head->len;
        if (!buffer_reserve(head, n + 1)) return HTTP_HEAD_MEMORY;
        memcpy(head->data + head->len, from, n);
        head->len += n;
        head->data[head->len] = 0;
        *at += n;
        if (memchr(from, 0, n)) return HTTP_HEAD_NUL;
        if (over) return HTTP_HEAD_OVER;
        if (line_end && ends_with_blank_line(head)) return HTTP_HEAD_DONE;
    }
    return HTTP_HEAD_MORE;
}

enum http_line http__next_field(const char *head, size_t len, size_t *at, struct http_field *out)
{
    if (*at == 0) {
        const char *first_end = memchr(head, '\n', len);
        if (!first_end) return HTTP_LINE_END;
        *at = (size_t)(first_end - head) + 1;
    }
    return field_at(head, len, at, out);
}

static enum http_line field_at(const char *head, size_t len, size_t *at, struct http_field *out)
{
    const char *line = head + *at;
    const char *line_end = memchr(line, '\n', len - *at);
    size_t n = line_end ? (size_t)(line_end - line) : len - *at;
    *at += n + (line_end ? 1 : 0);
    if (n && line[n - 1] == '\r') n--;
    if (n == 0) return HTTP_LINE_END;
    if (memchr(line, '\r', n)) return HTTP_LINE_BAD;

    const char *colon = memchr(line, ':', n);
    if (!colon || !http__is_token(line, (size_t)(colon - line))) return HTTP_LINE_BAD;
    const char *value = colon + 1, *end = line + n;
    while (value < end && (*value == ' ' || *value == '\t')) value++;
    while (end > value && (end[-1] == ' ' || end[-1] == '\t')) end--;
    *out = (struct http_field){ line, (size_t)(colon - line), value, (size_t)(end - value) };
    return HTTP_LINE_FIELD;
}

bool http__field_is(const struct http_field *f, const char *name)
{
    return f->name_len == strlen(name) && text_equal_ignoring_case(f->name, name, f->name_len);
}

bool http__field_lists(const struct http_field *f, const char *token)
{
    size_t token_len = strlen(token);
    const char *p = f->value, *end = f->value + f->value_len;
    while (p < end) {
        const char *comma = memchr(p, ',', (size_t)(end - p));
        const char *stop = comma ? comma : end;
        const char *from = p, *to = stop;
        while (from < to && (*from == ' ' || *from == '\t')) from++;
        while (to > from && (to[-1] == ' ' || to[-1] == '\t')) to--;
        size_t n = (size_t)(to - from);
        if (n == token_len && text_equal_ignoring_case(from, token, n)) return true;
        p = comma ? comma + 1 : end;
    }
    return false;
}

bool http__is_token(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (!is_token_char((unsigned char)text[i])) return false;
    }
    return len > 0;
}

bool http__parse_length(const char *text, size_t len, uint64_t *out)
{
    uint64_t n = 0;
    if (len == 0 || len > 18) return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9') return false;
        n = n * 10 + (uint64_t)(text[i] - '0');
    }
    *out = n;
    return true;
}

enum http_body http__read_plain(struct buffer *body, uint64_t *left, const uint8_t *bytes,
                                size_t len, size_t *at, size_t bytes_max)
{
    size_t n = len - *at;
    if (n > *left) n = (size_t)*left;
    if (n > bytes_max - body->len) n = bytes_max - body->len;
    if (!buffer_append(body, bytes + *at, n)) return HTTP_BODY_BAD;
    *at += n;
    if (*left != UINT64_MAX) *left -= n;
    if (*left == 0) return HTTP_BODY_DONE;
    return body->len == bytes_max ? HTTP_BODY_FULL : HTTP_BODY_MORE;
}

enum http_body http__read_chunks(struct buffer *body, struct http_chunks *c, const uint8_t *bytes,
                                 size_t len, size_t *at, size_t bytes_max)
{
    while (c->state != CHUNK_OVER) {
        if (c->state == CHUNK_DATA) {
            enum http_body r = http__read_plain(body, &c->left, bytes, len, at, bytes_max);
            if (r != HTTP_BODY_DONE) return r;
            c->state = CHUNK_DATA_END;
            continue;
        }
        if (*at == len) return HTTP_BODY_MORE;
        uint8_t byte = bytes[(*at)++];
        switch (c->state) {
        case CHUNK_SIZE:
        case CHUNK_SIZE_MORE:
            if (hex_value(byte) >= 0) {
                if (c->left >= CHUNK_BYTES_MAX) return HTTP_BODY_BAD;
                c->left = c->left << 4 | (uint64_t)hex_value(byte);
                c->state = CHUNK_SIZE_MORE;
                break;
            }
            if (c->state == CHUNK_SIZE) return HTTP_BODY_BAD;
            if (byte == 0 || !strchr("\r\n; \t", byte)) return HTTP_BODY_BAD;
            c->state = CHUNK_EXTENSION;
            /* fall through */
        case CHUNK_EXTENSION:
            if (byte == '\n') c->state = c->left ? CHUNK_DATA : CHUNK_TRAILER;
            break;
        case CHUNK_DATA_END:
            if (byte == '\r') break;
            if (byte != '\n') return HTTP_BODY_BAD;
            *c = (struct http_chunks){ .state = CHUNK_SIZE };
            break;
        case CHUNK_TRAILER:
            if (byte == '\r') break;
            c->state = byte == '\n' ? CHUNK_OVER : CHUNK_TRAILER_REST;
            break;
        default:
            if (byte == '\n') c->state = CHUNK_TRAILER;
            break;
        }
    }
    return HTTP_BODY_DONE;
}

bool http__accept_of(const char *key, char out[HTTP_ACCEPT_BYTES])
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    char text[128];
    uint8_t digest[SHA1_BYTES];
    size_t key_len = strlen(key);
    if (key_len + sizeof guid > sizeof text) return false;
    memcpy(text, key, key_len);
    memcpy(text + key_len, guid, sizeof guid);
    if (!digest_sha1(text, key_len + sizeof guid - 1, digest)) return false;
    base64_encode(digest, sizeof digest, out);
    return true;
}

bool upgrade_header_get(const char *head, size_t head_len, const char *name, char *out,
                        size_t out_bytes)
{
    struct http_field f;
    size_t at = 0;
    /* A call's answer comes as header lines alone, an upgrade's with its status line. */
    bool status_line = head_len >= 5 && memcmp(head, "HTTP/", 5) == 0;
    for (;;) {
        enum http_line line = status_line || at ? http__next_field(head, head_len, &at, &f)
                                                : field_at(head, head_len, &at, &f);
        if (line == HTTP_LINE_END) return false;
        if (line == HTTP_LINE_FIELD && http__field_is(&f, name)) break;
    }
    text_copy(out, out_bytes, f.value, f.value_len);
    return true;
}

static bool ends_with_blank_line(const struct buffer *b)
{
    const uint8_t *end = b->data + b->len;
    if (b->len == 1) return true;
    if (b->len == 2 && end[-2] == '\r') return true;
    if (end[-2] == '\n') return true;
    return b->len >= 3 && end[-2] == '\r' && end[-3] == '\n';
}

static bool is_token_char(unsigned char c)
{
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')) return true;
    return c && strchr("!#$%&'*+-.^_`|~", c) != NULL;
}

static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}
