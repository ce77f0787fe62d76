/* Link, upgrade: from the open socket to the WebSocket: the request of the prepared address, its answer, and what that
 * means when it is another than was asked for. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "runtime_internal.h"

void rt_upgrade_begin(struct runtime *rt, struct rt_conn *c, struct rt_link *l)
{
    struct upgrade_request request = { .host = c->address->authority,
                                       .target = c->address->target,
                                       .protocol = c->address->protocol,
                                       .headers = c->address->headers,
                                       .header_count = c->address->header_count };
    rt->options.host.ops->random(rt->options.host.self, request.nonce, sizeof request.nonce);
    struct buffer text;
    buffer_init(&text, 0);
    /* At once in one place: a buffer that grows leaves copies behind, and there may be secrets in it. */
    bool ok = buffer_reserve(&text, UPGRADE_HEAD_BYTES_MAX) && upgrade_write_request(&text, &request);
    struct cause cause = cause_make(STAGE_UPGRADING, CAUSE_ADDRESS, BY_POLICY,
                                    "the prepared headers or address cannot be sent");
    if (ok) {
        l->upgrade = malloc(sizeof *l->upgrade);
        ASSERT(l->upgrade != NULL);
        upgrade_reader_init(l->upgrade, request.nonce, request.protocol);
        l->phase = RT_LINK_UPGRADING;
        ok = rt->options.host.ops->link_write(rt->options.host.self, rt_link_id(l), text.data, text.len);
        l->pulse.bytes_out += text.len;
        if (!ok) cause = cause_make(STAGE_UPGRADING, CAUSE_IO, BY_US, "the upgrade could not be written");
    }
    if (!ok) {
        rt_dial_failed(rt, l, &cause);
        rt->options.host.ops->link_abort(rt->options.host.self, rt_link_id(l));
    }
    if (text.data) explicit_bzero(text.data, text.len);
    buffer_deinit(&text);
}

void rt_upgrade_over(struct rt_link *l)
{
    upgrade_reader_deinit(l->upgrade);
    /* The protocol that was asked for may carry a token. */
    explicit_bzero(l->upgrade, sizeof *l->upgrade);
    free(l->upgrade);
    l->upgrade = NULL;
}

struct cause rt_upgrade_cause(struct runtime *rt, const struct rt_link *l)
{
    const struct upgrade_reader *u = l->upgrade;
    struct cause cause;
    if (u->state == UPGRADE_REFUSED) {
        size_t len;
        const char *said = upgrade_status_text(u, &len);
        cause = cause_make(STAGE_UPGRADING, CAUSE_UPGRADE_REFUSED, BY_PEER, "");
        struct rt_conn *c = rt_conn_get(rt, l->conn);
        if (c) rt_cause_said(rt, c, &cause, said, len);
        cause.http_status = u->status;
        cause.retry_after_ms = upgrade_retry_after_ms((const char *)u->head.data, u->head.len,
                                                      rt_clock(rt).wall_ms);
    } else {
        cause = cause_make(STAGE_UPGRADING, CAUSE_UPGRADE_BAD, BY_PEER, u->why);
    }
    cause.head = (const char *)u->head.data;
    cause.head_len = u->head.len;
    cause.body = (const char *)u->body.data;
    cause.body_len = u->body.len;
    return cause;
}

size_t rt_upgrade_bytes(struct runtime *rt, struct rt_link *l, const uint8_t *bytes, size_t len)
{
    size_t consumed = 0;
    enum upgrade_state state = upgrade_read(l->upgrade, bytes, len, &consumed);
    if (state == UPGRADE_MORE) return len;
    struct rt_conn *c = rt_conn_get(rt, l->conn);
    ASSERT(c != NULL);
    struct cause cause;
    if (state == UPGRADE_DONE && c->address && c->address_generation == l->generation &&
        path_init(&l->path, l->build->build->rules, c->address->inflate)) {
        l->path_on = true;
        if (l->path.codec && l->path.codec->ops->random) {
            uint8_t seed[CODEC_RANDOM_BYTES];
            rt->options.host.ops->random(rt->options.host.self, seed, sizeof seed);
            l->path.codec->ops->random(l->path.codec, seed);
            explicit_bzero(seed, sizeof seed);
        }
        l->phase = RT_LINK_OPEN;
        rt_upgrade_over(l);
        /* Its texts may hold secrets, and are not needed any more. */
        rt_address_free(c->address);
        c->address = NULL;
        struct event ev = rt_event(EV_UPGRADED, l->conn, l->generation);
        rt_post(rt, &ev);
        rt_pump(rt);
        return consumed;
    }
    cause = state == UPGRADE_DONE
                ? cause_make(STAGE_UPGRADING, CAUSE_INTERNAL, BY_US, "no memory for the frame path")
                : rt_upgrade_cause(rt, l);
    rt_dial_failed(rt, l, &cause);
    rt_upgrade_over(l);
    rt->options.host.ops->link_abort(rt->options.host.self, rt_link_id(l));
    rt_pump(rt);
    return len;
}
