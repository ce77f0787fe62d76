/* Connections: added, found, started, stopped, given another build, removed. Asks the engine for everything
 * that is a decision. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/rng.h"
#include "base/text.h"
#include "runtime_internal.h"

struct rt_build *rt_build_ref(struct rt_build *b)
{
    ASSERT(b->references > 0);
    b->references++;
    return b;
}

void rt_build_unref(struct rt_build *b)
{
    if (!b) return;
    ASSERT(b->references > 0);
    if (--b->references) return;
    policy_build_destroy(b->build);
    free(b);
}

static struct rt_build *build_wrap(struct policy_build *build)
{
    struct rt_build *b = calloc(1, sizeof *b);
    ASSERT(b != NULL);
    b->references = 1;
    b->build = build;
    return b;
}

static struct deliver_limits limits_of(const struct plan *plan)
{
    return (struct deliver_limits){ .bytes_max = plan->backlog.bytes_max,
                                    .age_ms = plan->backlog.age_ms,
                                    .full = plan->backlog.full };
}

static struct dedupe *dedupe_of(const struct runtime *rt, const struct rt_conn *c)
{
    const struct frame_rules *rules = c->build->build->rules;
    if (!rules->dedupe.on) return NULL;
    return dedupe_create(rules->dedupe.most, rules->dedupe.over_ms, rt->options.dedupe_seed);
}

/* Nobody can reply then: such frames are acknowledged once they are safe, as the others are. */
static void owner_missing_tell(struct runtime *rt, struct rt_conn *c, const struct policy_build *before)
{
    const struct policy_build *build = c->build->build;
    if (c->owner[0] || !frame_rules_ack_through(build->rules)) return;
    if (before && frame_rules_ack_through(before->rules)) return;
    rt_journal_note(rt, c, 0, JOURNAL_NOTE,
                    "policy %s lets a consumer reply to some frames, and the connection names none "
                    "(owner = \"NAME\"): they are acknowledged without a reply", policy_name(build->version));
}

static bool spec_check(struct runtime *rt, const struct connection_spec *spec, char *why,
                       size_t why_bytes)
{
    if (!spec->name[0] || strlen(spec->name) > 63) {
        snprintf(why, why_bytes, "a connection's name has 1 to 63 bytes");
        return false;
    }
    if (!handle_is_none(runtime_find(rt, spec->name))) {
        snprintf(why, why_bytes, "connection \"%s\" exists already", spec->name);
        return false;
    }
    return true;
}

static char *copy_or_null(const char *text)
{
    if (!text) return NULL;
    char *copy = strdup(text);
    ASSERT(copy != NULL);
    return copy;
}

static void request(struct runtime *rt, enum event_kind kind, struct handle conn)
{
    if (!rt_conn_get(rt, conn)) return;
    struct event ev = rt_event(kind, conn, 0);
    rt_post(rt, &ev);
    rt->options.host.ops->wake(rt->options.host.self);
}

/* What an earlier process had accepted may be missing, unless the platform sends it again by itself. A
 * session that comes back and turns out to be lost is the engine's to tell. */
static bool hole_of_restart(const struct plan *plan, bool session)
{
    switch (plan->session.replay) {
    case REPLAY_SESSION: return !session;
    case REPLAY_UNACKED: return false;
    case REPLAY_NONE: return true;
    }
    return true;
}

struct handle runtime_add(struct runtime *rt, const struct connection_spec *asked, char *why,
                          size_t why_bytes)
{
    struct connection_spec whole = *asked, *spec = &whole;
    if (!spec_check(rt, spec, why, why_bytes)) {
        policy_build_destroy(spec->build);
        return HANDLE_NONE;
    }
    rt_parked_get(rt, spec->name, spec);
    struct policy_build *build = spec->build;
    bool session = spec->session && spec->session->kind == VALUE_TABLE &&
                   spec->session->table->count > 0 && spec->session_of == build->session_of;
    /* A policy that names no identity: then only the name tells connections apart. */
    uint64_t own = rng_mix(hash_text(spec->name)) | 1;
    struct engine_add add = { .name = spec->name,
                              .identity = build->identity ? build->identity : own,
                              .account = build->account ? build->account : own,
                              .lane = build->lane,
                              .plan = build->plan,
                              .session_present = session,
                              .session_saved_wall_ms = session ? spec->session_saved_wall_ms : 0,
                              .session_begun_wall_ms = session ? rt_session_begun_ms(spec->session) : 0,
                              .at = rt_clock(rt) };
    struct handle self = HANDLE_NONE, owner = HANDLE_NONE, stream = HANDLE_NONE;
    if (rt->options.deliver) {
        struct deliver_limits limits = limits_of(build->plan);
        stream = deliver_stream_add(rt->options.deliver, spec->name, &limits);
        if (handle_is_none(stream)) {
            snprintf(why, why_bytes, "no backlog for \"%s\": its name is taken, or memory is out",
                     spec->name);
            policy_build_destroy(build);
            return HANDLE_NONE;
        }
    }
    enum engine_add_result result = engine_add(rt->engine, &add, &self, &owner);
    if (result != ENGINE_ADDED) {
        const struct rt_conn *other = rt_conn_get(rt, owner);
        if (result == ENGINE_IDENTITY_TAKEN) {
            snprintf(why, why_bytes,
                     "connection \"%s\" has the same identity as \"%s\": one of them must go",
                     spec->name, other ? other->name : "another");
        } else {
            snprintf(why, why_bytes, "no room for more than %u connections", rt->conns_max);
        }
        if (rt->options.deliver) deliver_stream_remove(rt->options.deliver, stream);
        policy_build_destroy(build);
        return HANDLE_NONE;
    }

    ASSERT(self.index < rt->conns_max);
    ASSERT(rt->conns[self.index] == NULL);
    struct rt_conn *c = calloc(1, sizeof *c);
    ASSERT(c != NULL);
    rt->conns[self.index] = c;
    rt->conn_count++;
    c->self = self;
    text_copy(c->name, sizeof c->name, spec->name, strlen(spec->name));
    c->name_hash = hash_text(c->name);
    struct rt_conn **bucket = &rt->buckets[c->name_hash & rt->bucket_mask];
    c->hash_next = *bucket;
    *bucket = c;
    c->build = build_wrap(build);
    rt_weather_added(rt, c);
    c->lately.since_ms = rt_clock(rt).mono_ms;
    c->ca_file = copy_or_null(spec->ca_file);
    c->plain = spec->plain;
    if (spec->owner) text_copy(c->owner, sizeof c->owner, spec->owner, strlen(spec->owner));
    c->proxy.host = copy_or_null(spec->proxy.host);
    c->proxy.port = spec->proxy.port;
    c->proxy.authorization = copy_or_null(spec->proxy.authorization);
    c->proxy.of_environment = spec->proxy_of_environment && !spec->proxy.host;
    c->session = session ? value_copy(spec->session) : value_table();
    c->keep = spec->keep && spec->keep->kind == VALUE_TABLE ? value_copy(spec->keep)
                                                            : value_table();
    c->session_told_present = session;
    c->session_begun_wall_ms = session ? rt_session_begun_ms(&c->session) : 0;
    c->dedupe = dedupe_of(rt, c);
    c->stream = stream;
    rt_parked_take(rt, c); /* `spec` borrows from it no longer */
    bool hole = asked->restarted || (spec->restarted && hole_of_restart(build->plan, session));
    if (hole && rt->options.deliver) {
        deliver_gap(rt->options.deliver, stream, "restarted", false, rt_clock(rt).wall_ms);
    }
    owner_missing_tell(rt, c, NULL);
    if (!spec->stopped) rt_start_ask(rt, c);
    return self;
}

void rt_conn_free(struct runtime *rt, struct rt_conn *c)
{
    rt_turn_gone(rt, c);
    rt_cancel(rt, c, 0, true);
    while (c->links) {
        rt->options.host.ops->link_abort(rt->options.host.self, rt_link_id(c->links));
        rt_link_free(rt, c->links);
    }
    rt_count_gone(rt, c);
    rt_weather_gone(rt, c);
    rt_trial_gone(rt, c);
    uint32_t i = 0;
    struct handle h;
    struct rt_send *s;
    for (i = 0; c->send_count && (s = slots_next(&rt->sends, &i, &h)); i++) {
        if (!handle_equal(s->conn, c->self)) continue;
        uint64_t deliver_id = s->deliver_id;
        rt_send_free(rt, s);
        if (!deliver_id || !rt->options.deliver) continue;
        deliver_send_answer(rt->options.deliver, deliver_id,
                            rt->destroying ? "shutting down" : "the connection was removed",
                            rt->destroying);
    }
    ASSERT(c->send_count == 0);
    if (rt->options.deliver) deliver_stream_remove(rt->options.deliver, c->stream);
    if (!rt->destroying) rt_keep_gone(rt, c);
    rt_acks_drop(rt, c);
    rt_record_free(rt, c);
    rt_address_free(c->address);
    rt_journal_free(c);
    value_clear(&c->session);
    value_clear(&c->keep);
    dedupe_destroy(c->dedupe);
    free(c->ca_file);
    free(c->proxy.host);
    if (c->proxy.authorization) {
        explicit_bzero(c->proxy.authorization, strlen(c->proxy.authorization));
        free(c->proxy.authorization);
    }
    struct rt_conn **at = &rt->buckets[c->name_hash & rt->bucket_mask];
    while (*at != c) {
        ASSERT(*at != NULL);
        at = &(*at)->hash_next;
    }
    *at = c->hash_next;
    ASSERT(rt->conns[c->self.index] == c);
    rt->conns[c->self.index] = NULL;
    rt->conn_count--;
    rt_build_unref(c->build);
    free(c);
}

struct host_proxy rt_conn_proxy(const struct runtime *rt, const struct rt_conn *c, bool tls,
                                const char *host, uint16_t port)
{
    if (!c->proxy.of_environment) {
        return (struct host_proxy){ c->proxy.host, c->proxy.port, c->proxy.authorization };
    }
    const struct proxy *p = proxy_choose(rt->options.proxies, tls, host, port);
    return p ? (struct host_proxy){ p->host, p->port, p->authorization } : (struct host_proxy){ 0 };
}

struct rt_conn *rt_conn_get(const struct runtime *rt, struct handle conn)
{
    if (handle_is_none(conn) || conn.index >= rt->conns_max) return NULL;
    struct rt_conn *c = rt->conns[conn.index];
    return c && handle_equal(c->self, conn) ? c : NULL;
}

struct handle runtime_find(const struct runtime *rt, const char *name)
{
    uint64_t hash = hash_text(name);
    const struct rt_conn *c = rt->buckets[hash & rt->bucket_mask];
    while (c && (c->name_hash != hash || strcmp(c->name, name) != 0)) c = c->hash_next;
    return c ? c->self : HANDLE_NONE;
}

bool runtime_next(const struct runtime *rt, uint32_t *index, struct handle *conn_out)
{
    for (; *index < rt->conns_max; (*index)++) {
        if (!rt->conns[*index]) continue;
        *conn_out = rt->conns[*index]->self;
        return true;
    }
    *conn_out = HANDLE_NONE;
    return false;
}

struct handle runtime_owner(const struct runtime *rt, uint64_t identity)
{
    return engine_owner(rt->engine, identity);
}

uint32_t runtime_count_up(const struct runtime *rt)
{
    return rt->conns_up;
}

uint32_t runtime_count(const struct runtime *rt)
{
    return rt->conn_count;
}

/* An operator's stop survives a restart. */
static void wish(struct runtime *rt, struct handle conn, bool stopped)
{
    const struct rt_conn *c = rt_conn_get(rt, conn);
    if (c) rt_keep_wish(rt, c, stopped);
}

void runtime_start(struct runtime *rt, struct handle conn)
{
    wish(rt, conn, false);
    request(rt, EV_START_REQUESTED, conn);
}

void runtime_stop(struct runtime *rt, struct handle conn)
{
    wish(rt, conn, true);
    request(rt, EV_STOP_REQUESTED, conn);
}

void runtime_restart(struct runtime *rt, struct handle conn)
{
    wish(rt, conn, false);
    request(rt, EV_RESTART_REQUESTED, conn);
}

void runtime_remove(struct runtime *rt, struct handle conn)
{
    request(rt, EV_REMOVE_REQUESTED, conn);
}

void runtime_carry_out(struct runtime *rt)
{
    rt_pump(rt);
    rt->options.host.ops->wake(rt->options.host.self);
}

void runtime_shutdown(struct runtime *rt)
{
    uint32_t i = 0;
    struct handle conn;
    rt->shutting_down = true;
    for (; runtime_next(rt, &i, &conn); i++) {
        struct rt_conn *c = rt_conn_get(rt, conn);
        struct engine_brief view;
        c->ended_by_shutdown = rt_start_is_due(rt, c) ||
                               (engine_get_brief(rt->engine, conn, &view) && view.wanted && !view.stop_is_fatal);
        request(rt, EV_SHUTDOWN_REQUESTED, conn);
    }
}

void runtime_shutdown_undo(struct runtime *rt)
{
    uint32_t i = 0;
    struct handle conn;
    rt->shutting_down = false;
    for (; runtime_next(rt, &i, &conn); i++) {
        struct rt_conn *c = rt_conn_get(rt, conn);
        if (c->ended_by_shutdown) request(rt, EV_START_REQUESTED, conn);
        c->ended_by_shutdown = false;
    }
}

bool runtime_is_down(const struct runtime *rt)
{
    return rt->shutting_down && rt->links.count == 0 && rt->queue_count == 0;
}

void runtime_swap(struct runtime *rt, struct handle conn, struct policy_build *build)
{
    ASSERT(!rt->pumping);
    rt_start_first(rt, conn);
    rt_pump(rt); /* what was asked for before may remove the connection */
    struct rt_conn *c = rt_conn_get(rt, conn);
    if (!c) {
        policy_build_destroy(build);
        return;
    }
    struct rt_build *old = c->build;
    c->build = build_wrap(build);
    rt_weather_swapped(c);
    owner_missing_tell(rt, c, old->build);
    bool same_session = old->build->session_of == build->session_of;
    /* What another text of the policy fetched may have another shape; if it may serve stale, it still does. */
    if (policy_text_hash(old->build->version) != policy_text_hash(build->version)) {
        rt_fetch_drop(rt, c, "");
    }
    /* The engine lets go of the old plan in this very step. Not queued: the old build may go then. */
    struct event ev = rt_event(EV_POLICY_SWAPPED, conn, 0);
    ev.policy_swapped.plan = build->plan;
    rt->pumping = true; /* whatever its effects call back posts, and never steps from inside */
    rt_step(rt, &ev);
    rt->pumping = false;
    for (struct rt_link *l = c->links; l; l = l->next) rt_link_adopt_build(rt, l);
    rt_every_swap(rt, c, old->build);
    if (!same_session) {
        value_clear(&c->session);
        c->session = value_table();
        c->session_epoch++;
        rt_session_flush(rt, c);
    }
    bool dedupe_same = old->build->rules->dedupe.on == build->rules->dedupe.on &&
                       old->build->rules->dedupe.most == build->rules->dedupe.most &&
                       old->build->rules->dedupe.over_ms == build->rules->dedupe.over_ms;
    if (!dedupe_same) {
        dedupe_destroy(c->dedupe);
        c->dedupe = dedupe_of(rt, c);
    }
    if (rt->options.deliver) {
        struct deliver_limits limits = limits_of(build->plan);
        deliver_stream_set_limits(rt->options.deliver, c->stream, &limits);
    }
    rt_build_unref(old);
    rt_pump(rt);
    rt->options.host.ops->wake(rt->options.host.self);
}
