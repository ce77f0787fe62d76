/* The store of the simulated machine: hands writes to the disk and answers later. Delay and failure
 * come from the fault table; without a fault a write takes a drawn 1 to 10 ms. */
#include "base/assert.h"
#include "base/rng.h"
#include "sim/world_internal.h"

static const char *const names[] = {
#define X(name, text) [STORE_OP_##name] = text,
    STORE_OP_MAP(X)
#undef X
};

static bool submit(void *self, const struct store_request *request)
{
    struct world *w = self;
    if (!w->booted) return false; /* the process is gone: it cannot write */
    struct fault_subject about = { .connection = request->connection,
                                   .what = FAULT_ON_LINKS | FAULT_ON_CALLS };
    const struct fault *slow = faults_strike(&w->faults, FAULT_STORE_DELAY, &about);
    uint64_t delay = slow ? slow->ms : 0;
    bool fails = faults_strike(&w->faults, FAULT_STORE_FAIL, &about) != NULL;
    uint64_t number = disk_submit(w->disk, request, world_clock(w).wall_ms, w->now_ms, w->boots,
                                  fails);
    delay += rng_range(world_draw(w, "disk", number, 0), 1, 10);
    trace_line(&w->trace, w->now_ms, "disk write %llu of %s begins: %s", (unsigned long long)number,
               request->connection ? request->connection : "-", names[request->op]);
    /* One thread writes, in the order in which it was asked. */
    uint64_t at = w->now_ms + delay;
    if (at < w->disk_busy_until_ms) at = w->disk_busy_until_ms;
    w->disk_busy_until_ms = at;
    world__put(w, at, HAPPENING_STORED, HANDLE_NONE, number, 0);
    return true;
}

static const char *kind(void *self)
{
    (void)self;
    return "simulated";
}

static const struct store_ops ops = { .submit = submit, .kind = kind };

struct store world_store(struct world *w)
{
    return (struct store){ .ops = &ops, .self = w };
}

bool world_disk_get(const struct world *w, enum store_op op, const char *connection,
                    struct disk_record *out)
{
    return disk_get(w->disk, op, connection, out);
}

bool world_disk_permit(const struct world *w, uint32_t index, struct disk_permit *out)
{
    return disk_permit(w->disk, index, out);
}

bool world_disk_told(const struct world *w, uint32_t index, struct disk_told *out)
{
    return disk_told(w->disk, index, out);
}

uint64_t world_disk_safe(const struct world *w, const char *connection)
{
    return disk_safe(w->disk, connection);
}

uint32_t world_disk_pending(const struct world *w)
{
    return disk_pending(w->disk);
}
