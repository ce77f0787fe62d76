/* Guard: who may ask for what. On the UNIX socket the file's mode decided already; on TCP every
 * request shows a token, names a host that is ours (or a page elsewhere could have a browser's name
 * rebound to us), and comes from no foreign page. */
#include <string.h>
#include <strings.h>

#include "ops/ops_internal.h"

#define HEADER_BYTES 1100

static bool header_get(struct client *c, enum lws_token_indexes token, char *out, size_t out_bytes,
                       bool *too_long);
static bool host_is_ours(const struct ops *ops, const char *host);
static bool token_find(struct client *c, const char *given);

int guard__check(struct client *c, bool open, const char **what, const char **expected)
{
    char host[256], origin[300], authorization[HEADER_BYTES];
    bool too_long = false;
    c->scope = 0;
    c->own_consumer = NULL;
    if (!c->tcp) {
        c->scope = OPS_OPERATE;
        return 0;
    }
    bool has_host = header_get(c, WSI_TOKEN_HOST, host, sizeof host, &too_long);
    if (too_long || !has_host || !host_is_ours(c->ops, host)) {
        *what = "this host name is not served here";
        *expected = "Host: the listen address or localhost";
        return 403;
    }
    if (header_get(c, WSI_TOKEN_ORIGIN, origin, sizeof origin, &too_long) || too_long) {
        const char *at = strncmp(origin, "http://", 7) == 0 ? origin + 7 : "";
        if (too_long || strcasecmp(at, host) != 0) {
            *what = "a page from elsewhere may not ask";
            *expected = "no Origin, or the same host";
            return 403;
        }
    }
    bool has_token = header_get(c, WSI_TOKEN_HTTP_AUTHORIZATION, authorization,
                                sizeof authorization, &too_long);
    if (has_token && !too_long && strncasecmp(authorization, "Bearer ", 7) == 0 &&
        token_find(c, authorization + 7))
        return 0;
    if (open) return 0;
    *what = has_token || too_long ? "the token is not known" : "a token is needed";
    *expected = "Authorization: Bearer TOKEN";
    return 401;
}

/* Takes the same time wherever the difference is. */
bool guard__same(const void *a, size_t a_len, const void *b, size_t b_len)
{
    const volatile uint8_t *x = a, *y = b;
    uint8_t difference = a_len != b_len;
    for (size_t i = 0; i < a_len; i++) difference |= (uint8_t)(x[i] ^ y[b_len ? i % b_len : 0]);
    return difference == 0 && a_len > 0;
}

static bool header_get(struct client *c, enum lws_token_indexes token, char *out, size_t out_bytes,
                       bool *too_long)
{
    int len = lws_hdr_total_length(c->wsi, token);
    out[0] = 0;
    if (len <= 0) return false;
    if ((size_t)len >= out_bytes || lws_hdr_copy(c->wsi, out, (int)out_bytes, token) < 0) {
        out[0] = 0;
        *too_long = true;
        return false;
    }
    return true;
}

static bool host_is_ours(const struct ops *ops, const char *host)
{
    char name[256];
    size_t len;
    if (host[0] == '[') {
        const char *end = strchr(host, ']');
        if (!end || (end[1] && end[1] != ':')) return false;
        host++;
        len = (size_t)(end - host);
    } else {
        len = strcspn(host, ":");
    }
    if (len == 0 || len >= sizeof name) return false;
    memcpy(name, host, len);
    name[len] = 0;
    if (strcasecmp(name, "localhost") == 0 || strcmp(name, "127.0.0.1") == 0 ||
        strcmp(name, "::1") == 0 || strcasecmp(name, ops->http_host) == 0)
        return true;
    /* Listening everywhere: a number cannot be rebound, a name can. */
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    return ops->http_any && (uv_ip4_addr(name, 0, &v4) == 0 || uv_ip6_addr(name, 0, &v6) == 0);
}

static bool token_find(struct client *c, const char *given)
{
    const struct ops *ops = c->ops;
    const struct token *found = NULL;
    for (uint32_t i = 0; i < ops->token_count; i++) {
        size_t len;
        const char *bytes = secret_bytes(ops->tokens[i].secret, &len);
        if (guard__same(given, strlen(given), bytes, len)) found = &ops->tokens[i];
    }
    if (!found) return false;
    c->scope = found->scope;
    c->own_consumer = found->consumer[0] ? found->consumer : NULL;
    return true;
}
