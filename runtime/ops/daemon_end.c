/* End: how a daemon closes its links, tells its consumers and waits for its store, for good or for an
 * upgrade. Every wait here has a limit. */
#include <signal.h>

#include "base/assert.h"
#include "ops/daemon_internal.h"

#define SHUTDOWN_GRACE_MS 10000
#define LEAVE_MS 1000 /* for consumers' last lines and close frames */
#define LEAVE_TICK_MS 10

static void on_grace(uv_timer_t *handle);
static void on_leave(uv_timer_t *handle);
static void on_wake(uv_idle_t *handle);

void daemon__end(struct daemon *d, int number)
{
    const char *name = number == SIGTERM ? "SIGTERM" : "SIGINT";
    uint32_t count = runtime_count(d->rt);
    if (d->handed_over) {
        daemon__end_when_quiet(d);
        return;
    }
    if (d->end_wanted) {
        log_line(d->options.log, LOG_WARNING, NULL, "second signal: what is open is dropped");
        d->down = true;
        return;
    }
    d->end_wanted = true;
    log_printf(d->options.log, LOG_INFO, NULL, "%s: closing %u connection%s so that sessions can be resumed",
               name, count, count == 1 ? "" : "s");
    notify_stopping(&d->notify);
    if (d->upgrade) daemon__upgrade_cancel(d, "holdfast is shutting down");
    if (!d->stopping) daemon__links_close(d, OPS_SHUTTING_DOWN, true);
}

void daemon__links_close(struct daemon *d, const char *why, bool accept)
{
    ASSERT(!d->stopping);
    d->stopping = true;
    d->links_down = d->left = false;
    daemon__reload_pause(d);
    ops_suspend(d->ops, why, accept);
    runtime_shutdown(d->rt);
    uv_timer_start(&d->grace, on_grace, SHUTDOWN_GRACE_MS, 0);
}

void daemon__links_open(struct daemon *d)
{
    ASSERT(d->stopping);
    uv_timer_stop(&d->grace);
    uv_timer_stop(&d->leave);
    d->stopping = d->links_down = d->left = false;
    runtime_shutdown_undo(d->rt);
    ops_resume(d->ops);
    daemon__reload_resume(d);
}

void daemon__end_step(struct daemon *d)
{
    if (!d->stopping || d->down) return;
    if (!d->links_down && runtime_is_down(d->rt)) {
        d->links_down = true;
        ops_let_go(d->ops); /* now nothing can come any more that they would miss */
        if (!d->upgrade) daemon__end_when_quiet(d);
    }
    if (!d->links_down || !daemon__store_is_safe(d)) return;
    if (d->upgrade && !d->handed_over) {
        daemon__upgrade_drained(d);
        return;
    }
    if (!uv_is_active((uv_handle_t *)&d->leave) && !d->left) daemon__end_when_quiet(d);
    /* A manager that never heard who is next would take this end for the service's. */
    if (!d->left && (!ops_is_quiet(d->ops) || d->notify.owes_main_pid)) return;
    d->down = true;
    d->in_order = !d->broken;
    uv_idle_start(&d->again, on_wake); /* daemon_run() */
}

void daemon__end_when_quiet(struct daemon *d)
{
    d->left = false;
    uv_timer_start(&d->leave, on_leave, LEAVE_TICK_MS, LEAVE_TICK_MS);
    d->leave_until_ms = uv_now(&d->loop) + LEAVE_MS;
}

static void on_leave(uv_timer_t *handle)
{
    struct daemon *d = handle->data;
    if (d->notify.owes_main_pid) notify_main_pid(&d->notify, d->notify.owes_main_pid);
    if (uv_now(&d->loop) < d->leave_until_ms) return; /* each tick turns the loop, and so end_step() */
    d->left = true;
    uv_timer_stop(handle);
}

static void on_grace(uv_timer_t *handle)
{
    struct daemon *d = handle->data;
    if (d->upgrade && !d->end_wanted) {
        daemon__upgrade_cancel(d, "not all links were closed and all writes safe in time");
        return;
    }
    if (!d->links_down) {
        log_printf(d->options.log, LOG_WARNING, NULL, "not all links closed within %d s: the rest is dropped",
                   SHUTDOWN_GRACE_MS / 1000);
    } else if (!daemon__store_is_safe(d)) {
        log_printf(d->options.log, LOG_ALARM, NULL,
                   "the store did not finish within %d s: what it had not written is lost",
                   SHUTDOWN_GRACE_MS / 1000);
    } else {
        d->in_order = !d->broken; /* only readers were still busy */
    }
    d->down = true;
}

static void on_wake(uv_idle_t *handle)
{
    (void)handle;
}
