/* URLs and host patterns. Pure: resolves nothing, sends nothing, keeps nothing but what it returns.
 */
#include "base/url.h"

#include <arpa/inet.h>
#include <string.h>

static const struct {
    const char *name;
    uint16_t port;
    bool tls, websocket;
} schemes[] = {
    { "https", 443, true, false },
    { "wss", 443, true, true },
    { "http", 80, false, false },
    { "ws", 80, false, true },
};

static bool scheme_take(const char **at, const char *end, struct url *out);
static const char *authority_parse(const char *at, const char *end, struct url *out);
static bool port_parse(const char *at, const char *end, struct url *out);
static bool host_is_valid(const char *host);
static char lower(char c);

static bool fail(const char **why, const char *text)
{
    *why = text;
    return false;
}

bool url_parse(const char *text, size_t len, struct url *out, const char **why)
{
    memset(out, 0, sizeof *out);
    if (len > URL_BYTES_MAX) return fail(why, "is longer than 8192 bytes");
    for (size_t i = 0; i < len; i++) {
        uint8_t c = (uint8_t)text[i];
        if (c <= 0x20 || c >= 0x7f) return fail(why, "has a blank or a byte that must be encoded");
        if (c == '#') return fail(why, "has a fragment (#)");
        if (c == '\\') return fail(why, "has a backslash");
    }
    const char *at = text, *end = text + len;
    if (!scheme_take(&at, end, out)) {
        return fail(why, "must begin with https://, http://, wss:// or ws://");
    }
    const char *stop = at;
    while (stop < end && *stop != '/' && *stop != '?') stop++;
    const char *wrong = authority_parse(at, stop, out);
    if (wrong) return fail(why, wrong);
    out->target = stop;
    out->target_len = (size_t)(end - stop);
    return true;
}

bool url_is_loopback(const struct url *u)
{
    if (u->v6) {
        struct in6_addr address;
        return inet_pton(AF_INET6, u->host, &address) == 1 && IN6_IS_ADDR_LOOPBACK(&address);
    }
    struct in_addr address;
    if (inet_pton(AF_INET, u->host, &address) == 1) return ntohl(address.s_addr) >> 24 == 127;
    return strcmp(u->host, "localhost") == 0;
}

bool url_host_pattern_is_valid(const char *pattern)
{
    for (const char *p = pattern; *p; p++) {
        if (*p >= 'A' && *p <= 'Z') return false;
    }
    if (strncmp(pattern, "*.", 2) == 0) {
        const char *rest = pattern + 2;
        struct in_addr address;
        return host_is_valid(rest) && strchr(rest, '.') != NULL &&
               inet_pton(AF_INET, rest, &address) != 1;
    }
    struct in6_addr v6;
    return host_is_valid(pattern) || inet_pton(AF_INET6, pattern, &v6) == 1;
}

bool url_host_matches(const char *pattern, const char *host)
{
    if (strncmp(pattern, "*.", 2) != 0) return strcmp(pattern, host) == 0;
    const char *tail = pattern + 1; /* with the dot */
    size_t host_len = strlen(host), tail_len = strlen(tail);
    return host_len > tail_len && strcmp(host + host_len - tail_len, tail) == 0 && host[0] != '.';
}

static bool scheme_take(const char **at, const char *end, struct url *out)
{
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++) {
        size_t n = strlen(schemes[i].name);
        if ((size_t)(end - *at) < n + 3 || memcmp(*at + n, "://", 3) != 0) continue;
        size_t k = 0;
        while (k < n && lower((*at)[k]) == schemes[i].name[k]) k++;
        if (k < n) continue;
        memcpy(out->scheme, schemes[i].name, n + 1);
        out->tls = schemes[i].tls;
        out->websocket = schemes[i].websocket;
        out->port = schemes[i].port;
        *at += n + 3;
        return true;
    }
    return false;
}

/* NULL when host and port are good, else what is wrong. */
static const char *authority_parse(const char *at, const char *end, struct url *out)
{
    if (memchr(at, '@', (size_t)(end - at))) {
        return "has a user name or password in it; use options for credentials";
    }
    const char *host_end;
    if (at < end && *at == '[') {
        at++;
        host_end = memchr(at, ']', (size_t)(end - at));
        if (!host_end) return "has an opening [ without ]";
        out->v6 = true;
    } else {
        host_end = memchr(at, ':', (size_t)(end - at));
        if (!host_end) host_end = end;
    }
    size_t n = (size_t)(host_end - at);
    if (n == 0) return "has no host";
    if (n >= sizeof out->host) return "has a host longer than 253 bytes";
    for (size_t i = 0; i < n; i++) out->host[i] = lower(at[i]);
    out->host[n] = 0;

    struct in6_addr v6;
    if (out->v6 && inet_pton(AF_INET6, out->host, &v6) != 1) return "has no IPv6 address in [ ]";
    if (!out->v6 && !host_is_valid(out->host)) return "has a host that is no name and no address";
    const char *rest = host_end + (out->v6 ? 1 : 0);
    if (rest == end) return NULL;
    if (*rest != ':' || !port_parse(rest + 1, end, out)) return "has no port from 1 to 65535";
    return NULL;
}

static bool port_parse(const char *at, const char *end, struct url *out)
{
    uint32_t port = 0;
    if (at == end || end - at > 5) return false;
    for (; at < end; at++) {
        if (*at < '0' || *at > '9') return false;
        port = port * 10 + (uint32_t)(*at - '0');
    }
    if (port == 0 || port > 65535) return false;
    out->port = (uint16_t)port;
    out->port_written = true;
    return true;
}

/* Letters, digits, '-', '_' in labels of 1 to 63 bytes. A last label of digits alone must be part
 * of a dotted quad: other spellings (127.1, 0x7f.1, 2130706433) mean different things to different
 * libraries. */
static bool host_is_valid(const char *host)
{
    size_t len = strlen(host), label = 0;
    if (len == 0 || len > 253) return false;
    for (size_t i = 0; i < len; i++) {
        char c = lower(host[i]);
        if (c == '.') {
            if (label == 0) return false;
            label = 0;
            continue;
        }
        bool good =
            (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || (c == '-' && label > 0);
        if (!good || ++label > 63) return false;
    }
    if (label == 0) return false;
    const char *last = strrchr(host, '.');
    last = last ? last + 1 : host;
    if (last[0] >= '0' && last[0] <= '9') {
        struct in_addr address;
        return inet_pton(AF_INET, host, &address) == 1;
    }
    return true;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}
