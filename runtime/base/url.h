/* URLs: absolute addresses as options, hooks and servers give them. Strict: what is not plainly an
 * address with a host is refused, because a token is sent where it points. */
#ifndef HOLDFAST_BASE_URL_H
#define HOLDFAST_BASE_URL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define URL_BYTES_MAX 8192
#define URL_HOST_MAX  254

struct url {
    char scheme[8];          /* lower case: http, https, ws, wss */
    bool tls;                /* https, wss */
    bool websocket;          /* ws, wss */
    char host[URL_HOST_MAX]; /* lower case; a name, or an address without brackets */
    bool v6;                 /* host is an IPv6 address: brackets in a Host header */
    uint16_t port;           /* the scheme's own when none was written */
    bool port_written;
    /* Path and query as written: "", "/a?b=c" or "?b=c" (a request then puts "/" in front).
     * Borrowed from the text. */
    const char *target;
    size_t target_len;
};

/* False with a sentence in *why (never NULL then; it holds nothing of the text) for other schemes,
 * user names, fragments, white space and bytes outside printable ASCII, ports outside 1..65535, and
 * hosts that are neither a name, nor four decimals, nor [IPv6]. */
bool url_parse(const char *text, size_t len, struct url *out, const char **why);
/* localhost, 127.0.0.0/8, ::1: what plain http and ws may reach. */
bool url_is_loopback(const struct url *u);
/* "name", "1.2.3.4" or "*.example.org" with at least two labels behind the star; lower case. */
bool url_host_pattern_is_valid(const char *pattern);
/* "*.example.org" covers one or more labels in front, not example.org itself. `host` in lower case.
 */
bool url_host_matches(const char *pattern, const char *host);

#endif
