/* Addresses: where a dial goes, made from what prepare answered. Refuses what the policy may not reach, so
 * that a token cannot be sent elsewhere by a server's word. Wipes texts that may hold secrets. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/text.h"
#include "base/url.h"
#include "runtime_internal.h"

#define SHOWN_BYTES_MAX 16384

static char *copy_bytes(const char *bytes, size_t len)
{
    char *copy = malloc(len + 1);
    ASSERT(copy != NULL);
    if (len) memcpy(copy, bytes, len);
    copy[len] = 0;
    return copy;
}

/* Text of a string or a secret; NULL for anything else. */
static const char *text_of(const struct value *v, size_t *len)
{
    if (v && v->kind == VALUE_STRING) {
        *len = v->string.len;
        return v->string.bytes;
    }
    if (v && v->kind == VALUE_SECRET) return secret_bytes(v->secret, len);
    return NULL;
}

static void wipe(char *text)
{
    if (!text) return;
    explicit_bzero(text, strlen(text));
    free(text);
}

void rt_address_free(struct rt_address *a)
{
    if (!a) return;
    for (uint32_t i = 0; i < a->header_count; i++) {
        free((char *)a->headers[i].name);
        wipe((char *)a->headers[i].value);
    }
    free(a->authority);
    wipe(a->target);
    wipe(a->protocol);
    free(a);
}

/* Path as it is, names of query parameters with `*` for their values. What has no name is a value. */
static void show(const struct url *u, char *out, size_t out_bytes)
{
    struct buffer b;
    buffer_init(&b, SHOWN_BYTES_MAX);
    bool ok = buffer_append_text(&b, u->scheme) && buffer_append_text(&b, u->v6 ? "://[" : "://") &&
              buffer_append_text(&b, u->host) && buffer_append_text(&b, u->v6 ? "]:" : ":") &&
              buffer_append_decimal(&b, u->port);
    const char *p = u->target, *end = u->target + u->target_len;
    const char *query = u->target_len ? memchr(p, '?', u->target_len) : NULL;
    if (ok && u->target_len) ok = buffer_append(&b, p, (size_t)((query ? query : end) - p));
    for (p = query; ok && p && p < end;) {
        const char *item = p + 1; /* after ? or & */
        const char *next = memchr(item, '&', (size_t)(end - item));
        const char *item_end = next ? next : end;
        const char *equals = memchr(item, '=', (size_t)(item_end - item));
        ok = buffer_append(&b, p, (size_t)((equals ? equals + 1 : item) - p));
        if (item < item_end) ok = ok && buffer_append_char(&b, '*');
        p = next;
    }
    text_copy(out, out_bytes, (const char *)b.data, b.len);
    buffer_deinit(&b);
}

static bool headers_fill(struct rt_address *a, const struct value *headers, char *why,
                         size_t why_bytes)
{
    if (!headers) return true;
    for (uint32_t i = 0; i < headers->table->count; i++) {
        const struct value_pair *p = &headers->table->pairs[i];
        size_t len;
        const char *name = value_text(&p->key), *value = text_of(&p->value, &len);
        if (!name || !value || a->header_count == RT_HEADERS_MAX) {
            snprintf(why, why_bytes, "prepare: headers are at most %d names with text values",
                     RT_HEADERS_MAX);
            return false;
        }
        a->headers[a->header_count++] =
            (struct upgrade_header){ copy_bytes(name, strlen(name)), copy_bytes(value, len) };
    }
    return true;
}

struct rt_address *rt_address_create(const struct rt_conn *c, const struct policy_build *build,
                                     const struct value *prepared, char *why, size_t why_bytes)
{
    size_t len = 0;
    const char *text = text_of(value_get(prepared, "url"), &len);
    struct url u;
    const char *fault = "prepare answered no url";
    if (!text || !url_parse(text, len, &u, &fault)) {
        snprintf(why, why_bytes, "the prepared address: %s", fault);
        return NULL;
    }
    if (!u.websocket) {
        snprintf(why, why_bytes, "the prepared address is %s://, expected wss:// or ws://", u.scheme);
        return NULL;
    }
    if (!policy_host_allowed(build, u.host)) {
        snprintf(why, why_bytes, "%s is not on the policy's hosts", u.host);
        return NULL;
    }
    if (!u.tls && !c->plain && !url_is_loopback(&u)) {
        snprintf(why, why_bytes, "plain ws:// to %s: only towards loopback, or with plain = true",
                 u.host);
        return NULL;
    }
    struct rt_address *a = calloc(1, sizeof *a);
    ASSERT(a != NULL);
    a->tls = u.tls;
    a->port = u.port;
    text_copy(a->host, sizeof a->host, u.host, strlen(u.host));
    char authority[300];
    bool standard = u.port == (u.tls ? 443 : 80);
    int n = snprintf(authority, sizeof authority, u.v6 ? "[%s]" : "%s", u.host);
    if (!standard) snprintf(authority + n, sizeof authority - (size_t)n, ":%u", u.port);
    a->authority = copy_bytes(authority, strlen(authority));
    bool slash = u.target_len == 0 || u.target[0] != '/';
    a->target = malloc(u.target_len + 2);
    ASSERT(a->target != NULL);
    if (slash) a->target[0] = '/';
    if (u.target_len) memcpy(a->target + slash, u.target, u.target_len);
    a->target[slash + u.target_len] = 0;
    show(&u, a->shown, sizeof a->shown);

    const char *inflate = value_get_text(prepared, "inflate");
    if (inflate && !inflate_mode_parse(inflate, &a->inflate)) {
        snprintf(why, why_bytes, "prepare: inflate is zlib-stream or zstd-stream, not \"%.32s\"",
                 inflate);
        goto fail_address;
    }
    const char *protocol = text_of(value_get(prepared, "protocol"), &len);
    if (protocol) a->protocol = copy_bytes(protocol, len);
    const struct value *headers = value_get(prepared, "headers");
    if (headers && headers->kind != VALUE_TABLE) {
        snprintf(why, why_bytes, "prepare: headers is a table of names and texts");
        goto fail_address;
    }
    if (!headers_fill(a, headers, why, why_bytes)) goto fail_address;
    return a;

fail_address:
    rt_address_free(a);
    return NULL;
}
