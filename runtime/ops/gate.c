/* Gate: one thread, one uv_async for its last word. The thread yields to everybody else: links come first. */
#include "ops/gate.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/text.h"
#include "sim/prove.h"

#define NICE 10
#define CAP_LEAST_MS 1u

struct gate {
    struct gate_run run;     /* the thread's until `over` */
    uv_thread_t thread;
    uv_async_t over_wake;
    atomic_bool cancel, over;
    bool joined;
};

static void work(void *arg);
static void on_over(uv_async_t *handle);
static void on_closed(uv_handle_t *handle);

struct gate *gate_start(uv_loop_t *loop, const struct gate_run *run)
{
    struct gate *g = calloc(1, sizeof *g);
    ASSERT(g != NULL);
    ASSERT(run->count <= GATE_POLICIES_MAX);
    g->run = *run;
    uv_async_init(loop, &g->over_wake, on_over);
    g->over_wake.data = g;
    if (uv_thread_create(&g->thread, work, g) == 0) return g;
    g->joined = true;
    gate_destroy(g);
    return NULL;
}

void gate_destroy(struct gate *g)
{
    if (!g) return;
    atomic_store(&g->cancel, true);
    if (!g->joined) uv_thread_join(&g->thread);
    g->joined = true;
    uv_close((uv_handle_t *)&g->over_wake, on_closed);
}

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void on_over(uv_async_t *handle)
{
    struct gate *g = handle->data;
    if (g->joined || !atomic_load(&g->over)) return;
    uv_thread_join(&g->thread);
    g->joined = true;
    g->run.done(g->run.self, &g->run);
}

/* ---- the thread ---------------------------------------------------------------------------------------- */

static void take_line(char *out, size_t bytes, const struct buffer *text)
{
    size_t len = 0;
    while (len < text->len && text->data[len] != '\n') len++;
    text_copy(out, bytes, (const char *)text->data, len);
}

static void play(struct gate *g, struct gate_policy *p, uint64_t cap_ms)
{
    const char *lua = getenv("HOLDFAST_LUA");
    struct prove_options o = { .policy = p->path,
                               .lua_path = lua && lua[0] ? lua : "lua",
                               .settings = p->settings[0] ? p->settings : NULL,
                               .seed = 1,
                               .depth = 1,
                               .gate = true,
                               .cap_ms = cap_ms,
                               .cancel = &g->cancel };
    struct prove_outcome out;
    prove_run(&o, &out);
    p->schedules = out.schedules;
    p->capped = out.capped || p->too_long;
    switch (out.result) {
    case PROVE_HELD:
        p->changed = strcmp(out.hash, p->hash) != 0;
        break;
    case PROVE_BROKEN:
        p->refused = true;
        text_copy(p->text, sizeof p->text, out.headline, strlen(out.headline));
        break;
    case PROVE_UNFIT: /* it loaded a moment ago; what is laid over it may not fit what the prover gives it */
        p->changed = !p->settings[0];
        p->capped = true;
        break;
    case PROVE_CANCELLED:
    case PROVE_FAILED:
        p->refused = true;
        take_line(p->text, sizeof p->text, &out.text);
        break;
    }
    prove_outcome_deinit(&out);
}

static uint64_t now_ms(void)
{
    return uv_hrtime() / 1000000;
}

static void work(void *arg)
{
    struct gate *g = arg;
    uint64_t until_ms = now_ms() + g->run.cap_ms;
    /* Of this thread alone, as Linux has it. */
    setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE);
    for (uint32_t i = 0; i < g->run.count && !atomic_load(&g->cancel); i++) {
        uint64_t now = now_ms(), left = until_ms > now ? until_ms - now : 0;
        /* Each has a fair part of what is left. */
        uint64_t cap = left / (g->run.count - i);
        play(g, &g->run.policies[i], cap > CAP_LEAST_MS ? cap : CAP_LEAST_MS);
    }
    atomic_store(&g->over, true);
    uv_async_send(&g->over_wake);
}
