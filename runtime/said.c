/* Said: what a far end or a policy says, made fit for people: printable, cut to fit, and without the
 * connection's secrets. A server may repeat what it was sent, a token too, in a status line, the reason of
 * a close frame, a body that a policy quotes; and all that is logged, kept and told to consumers. */
#include <string.h>

#include "base/text.h"
#include "runtime_internal.h"

/* Fewer bytes than this in common are chance, not a secret. More are one, its end missing or not: the
 * words of a close frame are cut to 123 bytes. */
#define COMMON_BYTES_MIN 8
#define SECRET_BYTES_MIN 6 /* what is shorter is no secret, and may be part of any word */

static void hide(struct buffer *text, const char *secret, size_t len, const char *name)
{
    size_t least = len < COMMON_BYTES_MIN ? len : COMMON_BYTES_MIN;
    if (least < SECRET_BYTES_MIN) return;
    for (size_t at = 0; at + least <= text->len; at++) {
        size_t same = 0;
        while (same < len && at + same < text->len && text->data[at + same] == (uint8_t)secret[same]) same++;
        if (same < least) continue;
        struct buffer hidden;
        buffer_init(&hidden, 0);
        bool ok = buffer_append(&hidden, text->data, at) && buffer_printf(&hidden, "<%s>", name);
        size_t next = hidden.len;
        ok = ok && buffer_append(&hidden, text->data + at + same, text->len - at - same);
        /* Without memory rather no words than these. */
        buffer_clear(text);
        if (!ok || !buffer_append(text, hidden.data, hidden.len)) buffer_clear(text);
        buffer_deinit(&hidden);
        at = next - 1;
    }
}

/* `fetched`: the name of the fetch, whose texts may be tokens as well (an address is none); NULL: secrets
 * alone. */
static void hide_of(struct buffer *text, const struct value *v, const char *fetched)
{
    if (v->kind == VALUE_SECRET) {
        size_t len;
        const char *bytes = secret_bytes(v->secret, &len);
        hide(text, bytes, len, secret_name(v->secret));
    }
    if (fetched && v->kind == VALUE_STRING && v->string.len >= COMMON_BYTES_MIN && !strstr(v->string.bytes, "://")) {
        hide(text, v->string.bytes, v->string.len, fetched);
    }
    for (uint32_t i = 0; v->kind == VALUE_TABLE && i < v->table->count; i++) {
        hide_of(text, &v->table->pairs[i].value, fetched);
    }
}

/* Values of a prepared address are never shown: a ticket may be among them. */
static void hide_query(struct buffer *text, const char *target)
{
    const char *at = strchr(target, '?');
    while (at && *at) {
        size_t len = strcspn(at + 1, "&"), name = strcspn(at + 1, "&=");
        if (name < len && len - name - 1 >= COMMON_BYTES_MIN) hide(text, at + 2 + name, len - name - 1, "hidden");
        at += 1 + len;
    }
}

static void hide_all(const struct runtime *rt, const struct rt_conn *c, struct buffer *text)
{
    if (!c->build) return;
    const struct policy_build *build = c->build->build;
    hide_of(text, &build->options, NULL);
    for (uint32_t i = 0; i < build->fetch_count; i++) {
        const struct value *v = rt_fetch_value(rt, build, &build->fetch[i]);
        if (v) hide_of(text, v, build->fetch[i].name);
    }
    if (c->proxy.authorization) {
        hide(text, c->proxy.authorization, strlen(c->proxy.authorization), "proxy authorization");
    }
    if (c->address) hide_query(text, c->address->target);
}

void rt_hide(const struct runtime *rt, const struct rt_conn *c, char *shown, size_t bytes)
{
    size_t len = strlen(shown);
    struct buffer text;
    buffer_init(&text, 0);
    if (len && buffer_append(&text, shown, len)) {
        hide_all(rt, c, &text);
        text_copy(shown, bytes, text.len ? (const char *)text.data : "", text.len);
    }
    buffer_deinit(&text);
}

void rt_cause_said(const struct runtime *rt, const struct rt_conn *c, struct cause *cause, const void *bytes,
                   size_t len)
{
    struct buffer text, shown;
    buffer_init(&text, 0);
    buffer_init(&shown, 0);
    if (len && buffer_append(&text, bytes, len)) hide_all(rt, c, &text);
    if (text.len && text_printable(&shown, text.data, text.len)) {
        text_copy(cause->reason, sizeof cause->reason, (const char *)shown.data, shown.len);
    }
    buffer_deinit(&text);
    buffer_deinit(&shown);
}
