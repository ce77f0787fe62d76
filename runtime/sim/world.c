/* World: creates the world, runs its queue, hands time to the machine. Decides nothing about the
 * network (link.c, stream.c, server.c, call.c) and owns no rule of holdfast. */
#include "sim/world.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/rng.h"
#include "base/text.h"
#include "engine/engine.h"
#include "sim/world_internal.h"

static void handle_happening(struct world *w, const struct happening *h, uint64_t *user_out,
                             bool *user);
static bool machine_due(const struct world *w, uint64_t *at_out);
static void thaw(struct world *w);

struct world *world_create(const struct world_options *options)
{
    struct world *w = world__alloc(sizeof *w);
    w->options = *options;
    trace_init(&w->trace, options->trace_whole);
    slots_init(&w->streams, sizeof(struct stream), WORLD_STREAMS_MAX);
    slots_init(&w->calls, sizeof(struct call), WORLD_STREAMS_MAX);
    w->faults.seed = options->seed;
    w->store = world__store_create(w);
    buffer_init(&w->scratch, 0);
    return w;
}

void world_destroy(struct world *w)
{
    if (!w) return;
    if (w->booted) world_unplug(w, GONE_POWER);
    struct handle h;
    struct stream *s;
    for (uint32_t i = 0; (s = slots_next(&w->streams, &i, &h)); i++) {
        s->server_state = SERVER_NONE;
        s->over_queued = false;
        world__stream_free_if_over(w, s);
    }
    slots_deinit(&w->streams);
    slots_deinit(&w->calls);
    for (uint32_t i = 0; i < w->server_count; i++) {
        world__mute_destroy(w->servers[i]->mute);
        idmap_deinit(&w->servers[i]->timers);
        free(w->servers[i]);
    }
    free(w->servers);
    for (uint32_t i = 0; i < w->name_count; i++) free(w->names[i].name);
    free(w->names);
    faults_deinit(&w->faults);
    idmap_deinit(&w->links);
    idmap_deinit(&w->call_ids);
    idmap_deinit(&w->identities);
    free(w->identity_counts);
    world__store_destroy(w->store);
    queue_deinit(&w->queue);
    trace_deinit(&w->trace);
    buffer_deinit(&w->scratch);
    free(w);
}

struct host world_host(struct world *w)
{
    return (struct host){ .ops = &world__host_ops, .self = w };
}

struct trace *world_trace(struct world *w)
{
    return &w->trace;
}

/* ---- clocks -------------------------------------------------------------------------------------- */

uint64_t world_now_ms(const struct world *w)
{
    return w->now_ms;
}

struct clock world_clock(const struct world *w)
{
    uint64_t asleep = w->asleep_ms;
    if (w->sleeping) asleep += w->now_ms - w->frozen_since_ms;
    return (struct clock){
        .mono_ms = WORLD_MONO_START_MS + w->now_ms - w->boot_at_ms - asleep,
        .boot_ms = WORLD_BOOT_START_MS + w->now_ms - w->boot_at_ms,
        .wall_ms = w->options.wall_ms + w->now_ms + (uint64_t)w->wall_shift_ms,
    };
}

uint64_t world_of_mono(const struct world *w, uint64_t mono_ms)
{
    if (mono_ms == ENGINE_NEVER) return mono_ms;
    uint64_t asleep = w->asleep_ms;
    if (w->sleeping) asleep += w->frozen_until_ms - w->frozen_since_ms;
    uint64_t zero = WORLD_MONO_START_MS;
    return w->boot_at_ms + (mono_ms <= zero ? 0 : mono_ms - zero + asleep);
}

uint64_t world_boot_number(const struct world *w)
{
    return w->boots;
}

bool world_is_frozen(const struct world *w)
{
    return w->frozen_until_ms > w->now_ms;
}

uint64_t world_frozen_ms(const struct world *w)
{
    return w->frozen_total_ms + (w->frozen_until_ms > w->frozen_since_ms
                                     ? w->now_ms - w->frozen_since_ms : 0);
}

static void freeze(struct world *w, uint64_t ms, bool sleeping)
{
    if (ms == 0) return;
    if (world_is_frozen(w)) thaw(w); /* the new one takes over */
    w->frozen_since_ms = w->now_ms;
    w->frozen_until_ms = w->now_ms + ms;
    w->sleeping = sleeping;
    trace_line(&w->trace, w->now_ms, "machine %s for %llums", sleeping ? "sleeps" : "stalls",
               (unsigned long long)ms);
    world__put(w, w->frozen_until_ms, HAPPENING_THAW, HANDLE_NONE, w->frozen_until_ms, 0);
}

void world_stall(struct world *w, uint64_t ms)
{
    freeze(w, ms, false);
}

void world_suspend(struct world *w, uint64_t ms)
{
    freeze(w, ms, true);
}

static void thaw(struct world *w)
{
    uint64_t lost = w->now_ms - w->frozen_since_ms;
    w->frozen_total_ms += lost;
    if (w->sleeping) w->asleep_ms += lost;
    w->sleeping = false;
    w->frozen_since_ms = w->frozen_until_ms = w->now_ms;
    w->wake = true; /* the real loop returns from its poll as well */
    trace_line(&w->trace, w->now_ms, "machine runs again after %llums", (unsigned long long)lost);
}

void world_step_wall(struct world *w, int64_t ms)
{
    w->wall_shift_ms += ms;
    w->wake = true;
    trace_line(&w->trace, w->now_ms, "wall clock stepped by %lldms", (long long)ms);
}

uint64_t world_draw(const struct world *w, const char *purpose, uint64_t a, uint64_t b)
{
    return rng_draw(w->options.seed, hash_text(purpose), a, b);
}

/* ---- the machine ----------------------------------------------------------------------------------- */

void world__power_on(struct world *w)
{
    if (!w->power_off && w->boots) return;
    w->boots++;
    w->power_off = false;
    w->boot_at_ms = w->now_ms;
    w->asleep_ms = 0;
}

void world_boot(struct world *w, const struct machine *m)
{
    ASSERT(!w->booted);
    ASSERT(m->sink != NULL);
    w->machine = *m;
    world__power_on(w);
    w->booted = true;
    w->wake = true;
    trace_line(&w->trace, w->now_ms, "machine boots");
}

void world_unplug(struct world *w, enum world_gone how)
{
    ASSERT(w->booted);
    w->booted = false;
    w->wake = false;
    if (how == GONE_POWER) {
        if (world_is_frozen(w)) thaw(w); /* without power nothing sleeps */
        w->power_off = true;
        w->wake = false;
    }
    static const char *const words[] = { [GONE_CRASH] = "process crashes",
                                         [GONE_POWER] = "power is cut",
                                         [GONE_END] = "process ends" };
    trace_line(&w->trace, w->now_ms, "%s", words[how]);
    struct handle h;
    struct stream *s;
    for (uint32_t i = 0; (s = slots_next(&w->streams, &i, &h)); i++) {
        if (how == GONE_POWER && !s->far_gone && s->descriptor) {
            /* The other side hears nothing. */
            s->up.hole = s->down.hole = true;
            s->far_gone = true;
            buffer_clear(&s->up.out);
        }
        if (s->link) idmap_remove(&w->links, s->link);
        s->link = 0;
        world__link_let_go(w, s);
        s->closed_told = true;
        world__stream_free_if_over(w, s);
    }
    struct call *c;
    for (uint32_t i = 0; (c = slots_next(&w->calls, &i, &h)); i++) world__call_free(w, c);
    world__store_gone(w, how == GONE_POWER);
}

void world_stop(struct world *w)
{
    w->stopped = true;
}

void world_user_at(struct world *w, uint64_t at_ms, uint64_t user)
{
    if (at_ms < w->now_ms) at_ms = w->now_ms;
    world__put(w, at_ms, HAPPENING_USER, HANDLE_NONE, user, 0);
}

void world_check_at(struct world *w, uint64_t at_ms, uint64_t a, uint64_t b)
{
    if (at_ms < w->now_ms) at_ms = w->now_ms;
    world__put(w, at_ms, HAPPENING_CHECK, HANDLE_NONE, a, b);
}

/* ---- the loop ---------------------------------------------------------------------------------------- */

static bool machine_due(const struct world *w, uint64_t *at_out)
{
    if (!w->booted || !w->machine.tick) return false;
    uint64_t at = w->now_ms;
    if (!w->wake) {
        uint64_t deadline = w->machine.deadline_ms(w->machine.self);
        if (deadline == ENGINE_NEVER) return false;
        at = world_of_mono(w, deadline);
        if (at < w->now_ms) at = w->now_ms;
    }
    if (at < w->frozen_until_ms) at = w->frozen_until_ms;
    *at_out = at;
    return true;
}

static void advance_to(struct world *w, uint64_t at_ms)
{
    ASSERT(at_ms >= w->now_ms);
    if (at_ms == w->now_ms) return;
    w->now_ms = at_ms;
    w->spins = 0;
}

static bool is_inbound(enum happening_kind kind)
{
    return kind == HAPPENING_ARRIVE_DOWN || kind == HAPPENING_FIN_DOWN ||
           kind == HAPPENING_RESET_DOWN;
}

enum world_ran world_run(struct world *w, uint64_t until_ms, bool one, uint64_t *user_out)
{
    w->stopped = false;
    for (;;) {
        world__store_flush(w);
        const struct happening *first = queue_first(&w->queue);
        uint64_t at = first ? first->at_ms : WORLD_NEVER, due;
        bool tick = machine_due(w, &due) && (!first || due < at);
        if (tick) at = due;
        if (at > until_ms || at == WORLD_NEVER) {
            advance_to(w, until_ms);
            return RAN_TIME;
        }
        advance_to(w, at);
        w->steps++;
        if (++w->spins > WORLD_SPIN_MAX) return RAN_STUCK;
        bool user = false;
        if (tick) {
            w->wake = false;
            w->machine.tick(w->machine.self);
        } else {
            struct happening h;
            queue_take(&w->queue, &h);
            if (w->sleeping && is_inbound(h.kind)) {
                /* Nobody takes packets while the machine sleeps: they come again after it. */
                h.at_ms = w->frozen_until_ms + WORLD_RETRANSMIT_MS;
                queue_put(&w->queue, h);
                continue;
            }
            if (happening_is_machine(h.kind) && world_is_frozen(w)) {
                h.at_ms = w->frozen_until_ms;
                queue_put(&w->queue, h);
                continue;
            }
            handle_happening(w, &h, user_out, &user);
        }
        if (w->stopped) return RAN_STOPPED;
        if (user) return RAN_USER;
        if (one) return RAN_ON;
    }
}

static void handle_happening(struct world *w, const struct happening *h, uint64_t *user_out,
                             bool *user)
{
    struct stream *s = world__stream_get(w, h->who);
    struct call *c = world__call_get(w, h->who);
    switch (h->kind) {
    case HAPPENING_DIAL: if (s) world__link_on_dial(w, s); break;
    case HAPPENING_READABLE: if (s) world__link_on_readable(w, s); break;
    case HAPPENING_WRITABLE: if (s) world__link_on_writable(w, s); break;
    case HAPPENING_DRAIN: if (s) world__link_on_drain(w, s); break;
    case HAPPENING_CLOSED: if (s) world__link_on_closed(w, s); break;
    case HAPPENING_ARRIVE_UP: if (s) world__stream_on_arrive(w, s, true, h->a); break;
    case HAPPENING_ARRIVE_DOWN: if (s) world__stream_on_arrive(w, s, false, h->a); break;
    case HAPPENING_FIN_UP: if (s) world__stream_on_fin(w, s, true); break;
    case HAPPENING_FIN_DOWN: if (s) world__stream_on_fin(w, s, false); break;
    case HAPPENING_RESET_UP: if (s) world__stream_on_reset(w, s, true); break;
    case HAPPENING_RESET_DOWN: if (s) world__stream_on_reset(w, s, false); break;
    case HAPPENING_SERVER_OVER: if (s) world__server_on_over(w, s); break;
    case HAPPENING_SERVER_LIMIT: if (s) world__server_on_limit(w, s); break;
    case HAPPENING_CALL: if (c) world__call_on_step(w, c, h->a); break;
    case HAPPENING_CALL_DONE: if (c) world__call_on_done(w, c); break;
    case HAPPENING_PEER_TIMER:
        world__server_on_timer(w, world__server(w, (uint32_t)h->b), h->a, h->order);
        break;
    case HAPPENING_STORED: world__store_on_due(w, h->a, h->b != 0); break;
    case HAPPENING_CHECK:
        if (w->machine.check) w->machine.check(w->machine.self, h->a, h->b);
        break;
    case HAPPENING_USER:
        *user = true;
        if (user_out) *user_out = h->a;
        break;
    case HAPPENING_THAW:
        if (w->frozen_until_ms == h->a && w->frozen_since_ms < h->a) thaw(w);
        break;
    }
}

/* ---- shared --------------------------------------------------------------------------------------- */

void *world__alloc(size_t bytes)
{
    void *p = calloc(1, bytes ? bytes : 1);
    ASSERT(p != NULL); /* a test tool: out of memory is out of luck */
    return p;
}

char *world__copy(const char *text, size_t len)
{
    char *copy = world__alloc(len + 1);
    if (len) memcpy(copy, text, len);
    return copy;
}

uint64_t world__put(struct world *w, uint64_t at_ms, enum happening_kind kind, struct handle who,
                    uint64_t a, uint64_t b)
{
    ASSERT(at_ms >= w->now_ms);
    return queue_put(&w->queue,
                     (struct happening){ .at_ms = at_ms, .kind = kind, .who = who, .a = a, .b = b });
}

uint64_t world__latency_ms(const struct world *w, uint64_t serial, uint64_t purpose, uint64_t n)
{
    uint64_t base = w->options.latency_ms;
    uint64_t draw = rng_draw(w->options.seed, 0x1a7e, serial ^ (purpose << 56), n);
    return base + rng_range(draw, 0, base / 4);
}

struct server *world__server(const struct world *w, uint32_t number)
{
    return number >= 1 && number <= w->server_count ? w->servers[number - 1] : NULL;
}

uint32_t world__resolve(const struct world *w, const char *name)
{
    size_t len = strlen(name);
    for (uint32_t i = 0; i < w->name_count; i++) {
        const char *known = w->names[i].name;
        if (strlen(known) == len && text_equal_ignoring_case(known, name, len)) {
            return w->names[i].server;
        }
    }
    return 0;
}

struct fault_subject world__subject(const struct world *w, const char *host, uint32_t server,
                                    const char *connection, uint32_t what, enum stage stage)
{
    const struct server *sv = world__server(w, server);
    return (struct fault_subject){ .host = host,
                                   .peer = sv ? sv->name : NULL,
                                   .connection = connection && connection[0] ? connection : NULL,
                                   .what = what,
                                   .stage = stage };
}

void world_name(struct world *w, const char *name, uint32_t server)
{
    size_t len = strlen(name);
    for (uint32_t i = 0; i < w->name_count; i++) {
        if (strlen(w->names[i].name) != len) continue;
        if (!text_equal_ignoring_case(w->names[i].name, name, len)) continue;
        w->names[i].server = server;
        return;
    }
    w->names = realloc(w->names, (w->name_count + 1) * sizeof *w->names);
    ASSERT(w->names != NULL);
    w->names[w->name_count].name = world__copy(name, len);
    w->names[w->name_count++].server = server;
}

uint32_t world_add_server(struct world *w, const char *name, bool tls)
{
    struct server *sv = world__alloc(sizeof *sv);
    w->servers = realloc(w->servers, (w->server_count + 1) * sizeof *w->servers);
    ASSERT(w->servers != NULL);
    w->servers[w->server_count++] = sv;
    sv->number = w->server_count;
    sv->world = w;
    sv->tls = tls;
    text_copy(sv->name, sizeof sv->name, name, strlen(name));
    return sv->number;
}

void world_server_ops(struct world *w, uint32_t server, const struct server_ops *ops, void *self)
{
    struct server *sv = world__server(w, server);
    ASSERT(sv != NULL);
    sv->ops = *ops;
    sv->self = self;
}
