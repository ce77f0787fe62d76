/* The HTTP/1.1 upgrade, both roles. Pure: bytes in, a verdict out; bounded headers; every refusal
 * keeps status, headers and the first body bytes, because platforms tell the reason there. */
#ifndef HOLDFAST_FRAME_UPGRADE_H
#define HOLDFAST_FRAME_UPGRADE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

#define UPGRADE_HEAD_BYTES_MAX 16384 /* status line and headers together */
#define UPGRADE_BODY_BYTES_MAX 4096  /* how much of a refusal's body is kept */

struct upgrade_header {
    const char *name;
    const char *value;
};

struct upgrade_request {
    const char *host;      /* as in Host:, port included when not the default */
    const char *target;    /* path and query, begins with '/' */
    const char *protocol;  /* Sec-WebSocket-Protocol, or NULL */
    const struct upgrade_header *headers; /* extra; names that the upgrade owns are refused */
    size_t header_count;
    uint8_t nonce[16];     /* from the host */
};

/* Appends the request. False (nothing appended) for control bytes in any part, spaces in host or
 * target, names that are no token, a protocol of 64 bytes or more, or for one of Host, Connection,
 * Upgrade, Sec-WebSocket-*, Content-Length, Transfer-Encoding among the extra headers. */
bool upgrade_write_request(struct buffer *out, const struct upgrade_request *request);

enum upgrade_state {
    UPGRADE_MORE,     /* not complete */
    UPGRADE_DONE,     /* 101 and everything right */
    UPGRADE_REFUSED,  /* another status of 200 or more; complete as far as it is kept */
    UPGRADE_BAD,      /* not HTTP, header flood, wrong Sec-WebSocket-Accept, unasked protocol ... */
};

struct upgrade_reader {
    struct buffer head;    /* owned: raw status line and headers; a NUL follows, not counted */
    struct buffer body;    /* owned: first bytes of a refusal's body */
    enum upgrade_state state;
    int status;            /* 0 until known */
    const char *why;       /* BAD: a sentence, static */
    char accept[29];       /* expected */
    char protocol[64];     /* asked for, "" when none */
    uint64_t body_left;    /* Content-Length left, or UINT64_MAX until the end of the stream */
    bool head_done;
    bool chunked;
    uint64_t chunk_left;
    uint8_t chunk_state;
};

/* `nonce` and `protocol` as in the request, which was written: protocol is below 64 bytes. */
void upgrade_reader_init(struct upgrade_reader *r, const uint8_t nonce[16], const char *protocol);
void upgrade_reader_deinit(struct upgrade_reader *r);
/* Consumes what belongs to the answer; bytes after a 101's blank line are left to the caller. What
 * comes after REFUSED or BAD is consumed and dropped. Until then `status` and `head` tell what came
 * so far, so a deadline in the middle of a refusal's body still has its status (upgrade_read_end()). */
enum upgrade_state upgrade_read(struct upgrade_reader *r, const uint8_t *bytes, size_t len,
                                size_t *consumed);
/* The stream ended, or the caller waits no longer: a refusal whose body was still under way becomes
 * UPGRADE_REFUSED, anything else that was not complete UPGRADE_BAD. */
enum upgrade_state upgrade_read_end(struct upgrade_reader *r);
/* What the status line says after its number, trimmed; borrowed from `head`. "" when it says nothing. */
const char *upgrade_status_text(const struct upgrade_reader *r, size_t *len_out);
/* Value of a header of the answer, trimmed; false when absent. Case-insensitive name. Copies. */
bool upgrade_header_get(const char *head, size_t head_len, const char *name, char *out,
                        size_t out_bytes);
/* Retry-After of a head in milliseconds: seconds (with decimals, as some platforms send), or an HTTP
 * date against `wall_ms`. UINT64_MAX when absent or nonsense. */
uint64_t upgrade_retry_after_ms(const char *head, size_t head_len, uint64_t wall_ms);

#define REQUEST_BODY_BYTES_MAX ((size_t)1024 * 1024)

/* Server role, for the simulator's peers: a request, WebSocket upgrade or plain HTTP/1.1. */
struct request_reader {
    struct buffer head; /* owned: raw request line and headers; a NUL follows, not counted */
    struct buffer body; /* owned */
    enum upgrade_state state;
    const char *why;    /* BAD: a sentence, static */
    bool head_done;
    uint64_t body_left;
    bool chunked;
    uint64_t chunk_left;
    uint8_t chunk_state;
    bool is_upgrade;    /* asks for a WebSocket, correctly */
    char method[16];
    char target[2048];
    char key[64];       /* Sec-WebSocket-Key */
};
void request_reader_init(struct request_reader *r);
void request_reader_deinit(struct request_reader *r);
/* UPGRADE_MORE, UPGRADE_DONE (head and body complete) or UPGRADE_BAD. Bytes after a request are left
 * to the caller: frames, or the next request for a reader that was set up anew. */
enum upgrade_state request_read(struct request_reader *r, const uint8_t *bytes, size_t len,
                                size_t *consumed);
/* The 101. False over the buffer's limit, or for CR, LF or NUL in the protocol. */
bool upgrade_write_accept(struct buffer *out, const char *key, const char *protocol);
/* A plain HTTP answer with Content-Length (none for 1xx, 204 and 304, which have no body).
 * `headers`: "Name: value\r\n" lines or "", written as they are. */
bool upgrade_write_response(struct buffer *out, int status, const char *headers, const void *body,
                            size_t body_len);

#endif
