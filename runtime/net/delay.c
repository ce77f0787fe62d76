/* Delay: how long the loop lately kept its sockets waiting, and for whose work. Owns a few numbers, reads no clock. */
#include "net/delay.h"

#include <string.h>

/* Forgets what lies more than the window back. */
static void turn_to(struct delay *d, uint64_t now_us)
{
    const uint64_t slot = now_us / DELAY_SLOT_US, second = now_us / 1000000;
    if (second != d->second) {
        d->last_us = second == d->second + 1 ? d->this_us : 0;
        d->this_us = 0;
        d->second = second;
    }
    for (uint32_t n = 0; d->slot < slot && n < DELAY_SLOTS; n++) memset(&d->worst[++d->slot % DELAY_SLOTS], 0, sizeof *d->worst);
    d->slot = slot;
}

static void keep_most(uint64_t *most, uint64_t us)
{
    if (us > *most) *most = us;
}

void delay_note(struct delay *d, uint64_t now_us, uint64_t delay_us, uint64_t busy_us)
{
    turn_to(d, now_us);
    struct delay_worst *worst = &d->worst[d->slot % DELAY_SLOTS];
    keep_most(&d->this_us, delay_us);
    keep_most(&worst->us, delay_us);
    keep_most(&worst->busy_us, busy_us);
}

void delay_note_part(struct delay *d, uint64_t now_us, enum host_loop_part part, uint64_t us, uint64_t busy_us)
{
    turn_to(d, now_us);
    struct delay_worst *worst = &d->worst[d->slot % DELAY_SLOTS];
    keep_most(&worst->part_us[part], us);
    keep_most(&worst->part_busy_us[part], busy_us);
}

void delay_get(const struct delay *d, uint64_t now_us, struct host_loop_delay *out)
{
    struct delay now = *d;
    turn_to(&now, now_us);
    memset(out, 0, sizeof *out);
    out->last_us = now.last_us > now.this_us ? now.last_us : now.this_us;
    for (uint32_t i = 0; i < DELAY_SLOTS; i++) {
        const struct delay_worst *worst = &now.worst[i];
        keep_most(&out->worst_us, worst->us);
        keep_most(&out->worst_busy_us, worst->busy_us);
        for (uint32_t part = 0; part < HOST_LOOP_PARTS; part++) {
            keep_most(&out->part_worst_us[part], worst->part_us[part]);
            keep_most(&out->part_worst_busy_us[part], worst->part_busy_us[part]);
        }
    }
}
