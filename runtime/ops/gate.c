/* Gate: one thread, one uv_async for its last word. The thread yields to everybody else: links come first. */
#include "ops/gate.h"
#include "ops/gate_texts.h"

#include <errno.h>
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

struct gate_policy *gate_run_add(struct gate_run *run)
{
    if (run->count == run->room) {
        run->room = run->room ? run->room * 2 : 4;
        run->policies = realloc(run->policies, run->room * sizeof *run->policies);
        ASSERT(run->policies != NULL);
    }
    struct gate_policy *p = &run->policies[run->count++];
    memset(p, 0, sizeof *p);
    return p;
}

void gate_run_deinit(struct gate_run *run)
{
    for (uint32_t i = 0; i < run->count; i++) {
        free(run->policies[i].path);
        free(run->policies[i].settings);
        free(run->policies[i].text);
        gate_texts_free(&run->policies[i]);
    }
    free(run->policies);
    memset(run, 0, sizeof *run);
}

struct gate *gate_start(uv_loop_t *loop, struct gate_run *run)
{
    struct gate *g = calloc(1, sizeof *g);
    ASSERT(g != NULL);
    g->run = *run;
    memset(run, 0, sizeof *run);
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
    struct gate *g = handle->data;
    gate_run_deinit(&g->run);
    free(g);
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

static char *line_of(const struct buffer *text)
{
    size_t len = 0;
    while (len < text->len && text->data[len] != '\n') len++;
    char *line = strndup(len ? (const char *)text->data : "", len);
    ASSERT(line != NULL);
    return line;
}

static void play(struct gate *g, struct gate_policy *p, const char *path, uint64_t cap_ms)
{
    const char *lua = getenv("HOLDFAST_LUA");
    struct prove_options o = { .policy = path,
                               .lua_path = lua && lua[0] ? lua : "lua",
                               .settings = p->settings,
                               .seed = 1,
                               .depth = 1,
                               .gate = true,
                               .cap_ms = cap_ms,
                               .cancel = &g->cancel };
    struct prove_outcome out;
    prove_run(&o, &out);
    p->schedules = out.schedules;
    p->capped = out.capped;
    p->changed = false;
    switch (out.result) {
    case PROVE_HELD:
        p->changed = strcmp(out.hash, p->hash) != 0;
        break;
    case PROVE_BROKEN:
        p->refused = true;
        p->text = strdup(out.headline);
        ASSERT(p->text != NULL);
        break;
    case PROVE_UNFIT: /* it loaded a moment ago; what is laid over it may not fit what the prover gives it */
        p->changed = !p->settings;
        p->capped = true;
        break;
    case PROVE_CANCELLED:
    case PROVE_FAILED:
        p->refused = true;
        p->text = line_of(&out.text);
        break;
    }
    prove_outcome_deinit(&out);
}

/* What runs is not what its file has: it is played from a copy. Words name the file that it was. */
static void play_texts(struct gate *g, struct gate_policy *p, uint64_t cap_ms)
{
    char folder[256], path[1024];
    if (!gate_texts_write(p, folder, sizeof folder, path, sizeof path)) {
        char why[512];
        p->changed = false;
        p->refused = true;
        snprintf(why, sizeof why,
                 "it cannot be played: what runs is not what its file has, and no copy can be made as %s: %s (TMPDIR says where)",
                 folder, strerror(errno));
        p->text = strdup(why);
        ASSERT(p->text != NULL);
        return;
    }
    play(g, p, path, cap_ms);
    if (p->text) gate_texts_scrub(p->text, folder);
    gate_texts_remove(p, folder);
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
    uint32_t refused = 0;
    for (uint32_t i = 0; i < g->run.count && refused < GATE_REFUSED_MAX && !atomic_load(&g->cancel); i++) {
        struct gate_policy *p = &g->run.policies[i];
        uint64_t now = now_ms(), left = until_ms > now ? until_ms - now : 0;
        p->capped = true;
        if (i > 0 && !left) continue;
        /* Each has a fair part of what is left. */
        uint64_t cap = left / (g->run.count - i);
        if (cap < CAP_LEAST_MS) cap = CAP_LEAST_MS;
        if (!gate_texts_differ(p)) play(g, p, p->path, cap);
        else p->changed = true;
        if (p->changed && p->texts) play_texts(g, p, cap);
        refused += p->refused;
    }
    atomic_store(&g->over, true);
    uv_async_send(&g->over_wake);
}
