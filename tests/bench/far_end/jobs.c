/* Jobs of the load peer: what takes a while, and answers with one line when it is over. What is under way is
 * bounded by what the consumer has counted. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "peer_internal.h"

static int by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static void say_sent(struct peer *p, bool timed)
{
    unsigned long received = atomic_load(&p->tally->received) - p->received_before;
    uint64_t cpu = cpu_ns(p->watched) - p->cpu_began_ns, ns = now_ns() - p->began_ns;
    char tail[128] = "";
    if (timed) {
        uint32_t *l = p->tally->latency_ns;
        atomic_store(&p->tally->timing, false);
        usleep(1000); /* the consumer's last glance at `timing` */
        uint32_t n = atomic_load(&p->tally->latency_count);
        qsort(l, n, sizeof *l, by_size);
        if (n) snprintf(tail, sizeof tail, " p50 %u p99 %u max %u", l[n / 2], l[(uint64_t)n * 99 / 100], l[n - 1]);
    }
    peer__say("sent %lu received %lu cpu %llu ns %llu%s", p->sent, received, (unsigned long long)cpu, (unsigned long long)ns,
        tail);
    p->job = JOB_NONE;
}

static void blast(struct peer *p, uint64_t now)
{
    unsigned long received = atomic_load(&p->tally->received) - p->received_before;
    unsigned long under_way_max = UNDER_WAY_BYTES / p->frame_len;
    if (now < p->until_ns) {
        for (uint32_t i = 0; i < p->open_count && i < 64; i++) {
            if (p->sent - received > under_way_max) {
                received = atomic_load(&p->tally->received) - p->received_before;
                if (p->sent - received > under_way_max) usleep(200);
                break;
            }
            struct conn *c = p->open[p->cursor++ % p->open_count];
            if (!c->rest && !frames__send(p, c, p->burst, false)) conn__close(p, c, true);
        }
        return;
    }
    if (received >= p->sent || now > p->until_ns + 20000000000u) say_sent(p, false);
}

static void pace(struct peer *p, uint64_t now)
{
    unsigned long received = atomic_load(&p->tally->received) - p->received_before;
    if (now >= p->until_ns) {
        if (received >= p->sent || now > p->until_ns + 10000000000u) say_sent(p, true);
        return;
    }
    for (int i = 0; i < 64 && p->open_count; i++) {
        if (now < p->next_ns) {
            struct timespec at = { (time_t)(p->next_ns / 1000000000u), (long)(p->next_ns % 1000000000u) };
            clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
        }
        struct conn *c = p->open[p->cursor++ % p->open_count];
        if (!c->rest && !frames__send(p, c, 1, true)) conn__close(p, c, true);
        now = now_ns();
        /* Time that was lost (another process had the core) is not made up: that would be a burst. */
        p->next_ns = now > p->next_ns + 4 * p->gap_ns ? now : p->next_ns + p->gap_ns;
        if (now >= p->until_ns) return;
    }
}

void jobs__step(struct peer *p)
{
    uint64_t now = now_ns();
    switch (p->job) {
    case JOB_NONE: break;
    case JOB_GONE:
    case JOB_WAIT:
    case JOB_DROP:
        if ((p->job == JOB_GONE ? p->conn_count > 0 : p->open_count < p->want) && now < p->until_ns) break;
        peer__say("open %u ms %llu cpu %llu resumed %lu handshakes %lu refused %lu", p->open_count,
            (unsigned long long)((now - p->began_ns) / 1000000), (unsigned long long)(cpu_ns(p->watched) - p->cpu_began_ns),
            p->resumed, p->handshakes, p->refused);
        p->job = JOB_NONE;
        break;
    case JOB_LAUNCH:
        if (!atomic_load(&p->launch.over)) break;
        peer__say("attached %llu first %llu", (unsigned long long)p->launch.attached_ns, (unsigned long long)p->launch.first_ns);
        p->job = JOB_NONE;
        break;
    case JOB_BLAST: blast(p, now); break;
    case JOB_PACE: pace(p, now); break;
    case JOB_IDLE:
        if (now < p->until_ns) break;
        peer__say("cpu %llu ns %llu", (unsigned long long)(cpu_ns(p->watched) - p->cpu_began_ns),
            (unsigned long long)(now - p->began_ns));
        p->job = JOB_NONE;
        break;
    }
}

void jobs__begin(struct peer *p, enum job job, unsigned long ms)
{
    p->job = job;
    p->sent = 0;
    p->received_before = atomic_load(&p->tally->received);
    p->began_ns = p->next_ns = now_ns();
    p->until_ns = p->began_ns + ms * 1000000u;
    p->cpu_began_ns = cpu_ns(p->watched);
}
