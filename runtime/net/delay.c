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

void delay_note(struct delay *d, uint64_t now_us, uint64_t delay_us)
{
    turn_to(d, now_us);
    struct delay_worst *worst = &d->worst[d->slot % DELAY_SLOTS];
    if (delay_us > d->this_us) d->this_us = delay_us;
    if (delay_us > worst->us) worst->us = delay_us;
}

void delay_note_part(struct delay *d, uint64_t now_us, enum host_loop_part part, uint64_t us)
{
    turn_to(d, now_us);
    struct delay_worst *worst = &d->worst[d->slot % DELAY_SLOTS];
    if (us > worst->part_us[part]) worst->part_us[part] = us;
}

void delay_get(const struct delay *d, uint64_t now_us, struct host_loop_delay *out)
{
    struct delay now = *d;
    turn_to(&now, now_us);
    memset(out, 0, sizeof *out);
    out->last_us = now.last_us > now.this_us ? now.last_us : now.this_us;
    for (uint32_t i = 0; i < DELAY_SLOTS; i++) {
        if (now.worst[i].us > out->worst_us) out->worst_us = now.worst[i].us;
        for (uint32_t part = 0; part < HOST_LOOP_PARTS; part++)
            if (now.worst[i].part_us[part] > out->part_worst_us[part]) out->part_worst_us[part] = now.worst[i].part_us[part];
    }
}
