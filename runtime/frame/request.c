/* The server's side of HTTP/1.1, for the simulator's peers: reads a request, writes answers. Owns
 * the request's head and body. Strict, so that a mistake of our own client shows. */
#include <string.h>

#include "base/assert.h"
#include "crypto/digest.h"
#include "frame/http_internal.h"
#include "frame/upgrade.h"

static enum upgrade_state bad(struct request_reader *r, const char *why);
static enum upgrade_state read_head(struct request_reader *r, const uint8_t *bytes, size_t len,
                                    size_t *at);
static const char *read_request_line(struct request_reader *r, bool *version_11_out);
static enum upgrade_state judge_fields(struct request_reader *r, bool version_11);
static enum upgrade_state read_body(struct request_reader *r, const uint8_t *bytes, size_t len,
                                    size_t *at);
static const char *reason_phrase(int status);

void request_reader_init(struct request_reader *r)
{
    memset(r, 0, sizeof *r);
    buffer_init(&r->head, UPGRADE_HEAD_BYTES_MAX + 1);
    buffer_init(&r->body, REQUEST_BODY_BYTES_MAX);
}

void request_reader_deinit(struct request_reader *r)
{
    buffer_deinit(&r->head);
    buffer_deinit(&r->body);
}

enum upgrade_state request_read(struct request_reader *r, const uint8_t *bytes, size_t len,
                                size_t *consumed)
{
    size_t at = 0;
    if (r->state == UPGRADE_BAD) at = len;
    if (r->state == UPGRADE_MORE && !r->head_done) r->state = read_head(r, bytes, len, &at);
    if (r->state == UPGRADE_MORE && r->head_done) r->state = read_body(r, bytes, len, &at);
    *consumed = at;
    return r->state;
}

bool upgrade_write_accept(struct buffer *out, const char *key, const char *protocol)
{
    char accept[HTTP_ACCEPT_BYTES];
    size_t start = out->len;
    if (protocol && strpbrk(protocol, "\r\n")) return false;
    if (!http__accept_of(key, accept)) return false;
    bool ok = buffer_append_text(out, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                                      "Connection: Upgrade\r\nSec-WebSocket-Accept: ") &&
              buffer_append_text(out, accept) && buffer_append_text(out, "\r\n");
    if (protocol) {
        ok = ok && buffer_append_text(out, "Sec-WebSocket-Protocol: ") &&
             buffer_append_text(out, protocol) && buffer_append_text(out, "\r\n");
    }
    ok = ok && buffer_append_text(out, "\r\n");
    if (!ok) out->len = start;
    return ok;
}

bool upgrade_write_response(struct buffer *out, int status, const char *headers, const void *body,
                            size_t body_len)
{
    ASSERT(status >= 100 && status <= 999);
    bool bodyless = status < 200 || status == 204 || status == 304;
    size_t start = out->len;
    bool ok = buffer_printf(out, "HTTP/1.1 %d %s\r\n", status, reason_phrase(status)) &&
              buffer_append_text(out, headers);
    if (ok && !bodyless) ok = buffer_printf(out, "Content-Length: %zu\r\n", body_len);
    ok = ok && buffer_append_text(out, "\r\n");
    if (ok && !bodyless) ok = buffer_append(out, body, body_len);
    if (!ok) out->len = start;
    return ok;
}

static enum upgrade_state bad(struct request_reader *r, const char *why)
{
    r->why = why;
    return r->state = UPGRADE_BAD;
}

static enum upgrade_state read_head(struct request_reader *r, const uint8_t *bytes, size_t len,
                                    size_t *at)
{
    bool version_11 = false;
    for (;;) {
        switch (http__read_head(&r->head, bytes, len, at, UPGRADE_HEAD_BYTES_MAX)) {
        case HTTP_HEAD_MORE: return UPGRADE_MORE;
        case HTTP_HEAD_OVER: return bad(r, "the request's head is over 16 KiB");
        case HTTP_HEAD_NUL: return bad(r, "a NUL byte in the request's head");
        case HTTP_HEAD_MEMORY: return bad(r, "out of memory for the request's head");
        case HTTP_HEAD_DONE: break;
        }
        if (r->head.len > 2) break;
        buffer_clear(&r->head); /* an empty line after the body of the request before */
    }
    r->head_done = true;
    const char *why = read_request_line(r, &version_11);
    return why ? bad(r, why) : judge_fields(r, version_11);
}

/* NULL, or what is wrong. */
static const char *read_request_line(struct request_reader *r, bool *version_11_out)
{
    const char *method = (const char *)r->head.data;
    size_t line_len = strcspn(method, "\r\n");
    const char *space = memchr(method, ' ', line_len);
    if (!space || !http__is_token(method, (size_t)(space - method))) {
        return "the request line has no method";
    }
    size_t method_len = (size_t)(space - method);
    const char *target = space + 1;
    space = memchr(target, ' ', line_len - method_len - 1);
    if (!space || target[0] != '/') return "the request line has no path";
    size_t target_len = (size_t)(space - target);
    if (method_len >= sizeof r->method) return "the request's method is over 15 bytes";
    if (target_len >= sizeof r->target) return "the request's path is over 2047 bytes";

    size_t version_len = line_len - (size_t)(space + 1 - method);
    if (version_len != 8 || memcmp(space + 1, "HTTP/1.", 7) ||
        (space[8] != '0' && space[8] != '1')) {
        return "the request is not HTTP/1.0 or HTTP/1.1";
    }
    *version_11_out = space[8] == '1';
    memcpy(r->method, method, method_len);
    memcpy(r->target, target, target_len);
    return NULL;
}

static enum upgrade_state judge_fields(struct request_reader *r, bool version_11)
{
    const char *head = (const char *)r->head.data;
    int hosts = 0, keys = 0, versions_13 = 0;
    bool upgrade = false, connection = false, sized = false;
    uint8_t nonce[16];
    size_t at = 0, nonce_len = 0;
    struct http_field f;
    for (;;) {
        enum http_line line = http__next_field(head, r->head.len, &at, &f);
        if (line == HTTP_LINE_END) break;
        if (line == HTTP_LINE_BAD) return bad(r, "a malformed header line in the request");
        if (http__field_is(&f, "Host")) {
            hosts++;
        } else if (http__field_is(&f, "Upgrade")) {
            upgrade = upgrade || http__field_lists(&f, "websocket");
        } else if (http__field_is(&f, "Connection")) {
            connection = connection || http__field_lists(&f, "upgrade");
        } else if (http__field_is(&f, "Sec-WebSocket-Version")) {
            versions_13 += f.value_len == 2 && memcmp(f.value, "13", 2) == 0;
        } else if (http__field_is(&f, "Sec-WebSocket-Key")) {
            keys++;
            if (base64_decode(f.value, f.value_len, nonce, sizeof nonce, &nonce_len) &&
                nonce_len == sizeof nonce) {
                memcpy(r->key, f.value, f.value_len);
            }
        } else if (http__field_is(&f, "Transfer-Encoding")) {
            if (!http__field_lists(&f, "chunked")) return bad(r, "an unknown transfer coding");
            r->chunked = true;
        } else if (http__field_is(&f, "Content-Length")) {
            uint64_t length;
            if (!http__parse_length(f.value, f.value_len, &length) ||
                (sized && length != r->body_left)) {
                return bad(r, "a Content-Length that is no length");
            }
            r->body_left = length;
            sized = true;
        }
    }
    if (version_11 && hosts != 1) return bad(r, "the request needs exactly one Host");
    if (sized && r->chunked) return bad(r, "Content-Length and Transfer-Encoding together");
    if (r->body_left > REQUEST_BODY_BYTES_MAX) return bad(r, "the request's body is over 1 MiB");
    r->is_upgrade = version_11 && strcmp(r->method, "GET") == 0 && upgrade && connection &&
                    versions_13 == 1 && keys == 1 && r->key[0] && !r->chunked && r->body_left == 0;
    return UPGRADE_MORE;
}

static enum upgrade_state read_body(struct request_reader *r, const uint8_t *bytes, size_t len,
                                    size_t *at)
{
    enum http_body result;
    if (r->chunked) {
        struct http_chunks c = { r->chunk_left, r->chunk_state };
        result = http__read_chunks(&r->body, &c, bytes, len, at, REQUEST_BODY_BYTES_MAX);
        r->chunk_left = c.left;
        r->chunk_state = c.state;
    } else {
        result = http__read_plain(&r->body, &r->body_left, bytes, len, at, REQUEST_BODY_BYTES_MAX);
    }
    switch (result) {
    case HTTP_BODY_MORE: return UPGRADE_MORE;
    case HTTP_BODY_DONE: return UPGRADE_DONE;
    case HTTP_BODY_FULL: return bad(r, "the request's body is over 1 MiB");
    default: return bad(r, "the request's chunks are broken");
    }
}

static const char *reason_phrase(int status)
{
    switch (status) {
    case 200: return "OK";
    case 201: return "Created";
    case 204: return "No Content";
    case 301: return "Moved Permanently";
    case 302: return "Found";
    case 304: return "Not Modified";
    case 307: return "Temporary Redirect";
    case 308: return "Permanent Redirect";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 409: return "Conflict";
    case 413: return "Content Too Large";
    case 426: return "Upgrade Required";
    case 429: return "Too Many Requests";
    case 500: return "Internal Server Error";
    case 502: return "Bad Gateway";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    default: return status < 400 ? "Status" : "Error";
    }
}
