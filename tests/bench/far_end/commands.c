/* Commands, one a line; each is answered by one line:
 *   watch PID           whose CPU time and memory are measured
 *   attach PATH         be holdfast's consumer
 *   wait N MS           -> open N ms M cpu NS        until N links are upgraded
 *   none MS             -> open 0 ...                until no link is left
 *   blast MS SIZE BURST -> sent N received N cpu NS ns NS
 *   pace MS SIZE RATE   -> sent N received N cpu NS ns NS p50 NS p99 NS max NS
 *   memory              -> rss KB pss KB
 *   drop N MS           -> open N ms M cpu NS resumed N handshakes N refused N    all cut, until N are back
 *   refuse MS           -> ok                        from the next drop on, new links are cut for so long
 *   attempts MS N       -> attempts, in N parts of MS since the last drop
 *   idle MS             -> cpu NS ns NS                                           nothing is sent
 *   stop                -> nothing: a pace or blast that is under way ends now, and answers
 *   links               -> open N closed N           closed: ever, by either side
 *   tally               -> sent N sum N received N got N holes N gaps N   since the start; sums of the frames' numbers
 *   probe PATH          -> ok                        asks holdfast's socket for /healthz from now on
 *   unprobe             -> ok
 *   probed              -> probes N max US over5 N over20 N over100 N pieces N piece US worst US
 *                          since the last time, over so many ms; pieces: what the machine itself does, see probe.c
 *   manners PERIOD_MS   -> ok                        greets and answers beats from now on (manners.h); 0: no more
 *   late                -> beats N p50 US p99 US max US twice N
 *   launch SOCKET CMD   -> attached NS first NS      see launch.h; with manners */
#include <stdio.h>
#include <string.h>

#include "peer_internal.h"

static void say_memory(const struct peer *p)
{
    char path[64], line[256];
    unsigned long rss = 0, pss = 0;
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)p->watched);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f)) {
        sscanf(line, "Rss: %lu", &rss);
        sscanf(line, "Pss: %lu", &pss);
    }
    if (f) fclose(f);
    peer__say("rss %lu pss %lu", rss, pss);
}

static void say_attempts(const struct peer *p, unsigned long part_ms, unsigned long parts)
{
    unsigned long counts[64] = { 0 };
    if (parts > 64) parts = 64;
    for (uint32_t i = 0; i < p->attempt_count; i++) {
        unsigned long at = p->attempt_us[i] / 1000 / (part_ms ? part_ms : 1);
        counts[at < parts ? at : parts - 1]++;
    }
    printf("attempts");
    for (unsigned long i = 0; i < parts; i++) printf(" %lu", counts[i]);
    peer__say(" ");
}

static void drop_all(struct peer *p)
{
    p->dropped_ns = now_ns();
    p->refuse_until_ns = p->refuse_ns ? p->dropped_ns + p->refuse_ns : 0;
    p->refuse_ns = 0;
    p->attempt_count = 0;
    p->handshakes = p->resumed = p->refused = 0;
    while (p->open_count) conn__close(p, p->open[p->open_count - 1], true);
}

void command__run(struct peer *p, const char *line)
{
    unsigned long a = 0, b = 0, c = 0;
    char path[200];
    if (sscanf(line, "watch %lu", &a) == 1) {
        p->watched = (pid_t)a;
        peer__say("ok");
    } else if (sscanf(line, "attach %199s", path) == 1) {
        consumer_attach(p->tally, path);
        peer__say("ok");
    } else if (sscanf(line, "wait %lu %lu", &a, &b) == 2) {
        jobs__begin(p, JOB_WAIT, b);
        p->want = (uint32_t)a;
    } else if (sscanf(line, "none %lu", &a) == 1) {
        jobs__begin(p, JOB_GONE, a);
    } else if (sscanf(line, "blast %lu %lu %lu", &a, &b, &c) == 3) {
        frames__make(p, b);
        p->burst = c > OUT_BYTES / (b + 64) ? (uint32_t)(OUT_BYTES / (b + 64)) : (uint32_t)c;
        jobs__begin(p, JOB_BLAST, a);
    } else if (sscanf(line, "pace %lu %lu %lu", &a, &b, &c) == 3 && c) {
        frames__make(p, b);
        p->gap_ns = 1000000000u / c;
        atomic_store(&p->tally->latency_count, 0);
        atomic_store(&p->tally->timing, true);
        jobs__begin(p, JOB_PACE, a);
    } else if (strcmp(line, "stop") == 0) {
        if (p->job == JOB_PACE || p->job == JOB_BLAST) p->until_ns = now_ns();
    } else if (strcmp(line, "links") == 0) {
        peer__say("open %u closed %lu", p->open_count, p->closed);
    } else if (strcmp(line, "tally") == 0) {
        struct tally *t = p->tally;
        peer__say("sent %lu sum %llu received %lu got %llu holes %lu gaps %lu", p->sent_ever, p->seq_sum, atomic_load(&t->received),
            atomic_load(&t->seq_sum), atomic_load(&t->holes), atomic_load(&t->gaps));
    } else if (strcmp(line, "probed") == 0) {
        probe_tell(path, sizeof path);
        peer__say("%s", path);
    } else if (strcmp(line, "unprobe") == 0) {
        probe_end();
        peer__say("ok");
    } else if (sscanf(line, "probe %199s", path) == 1) {
        probe_start(path);
        peer__say("ok");
    } else if (strcmp(line, "memory") == 0) {
        say_memory(p);
    } else if (sscanf(line, "refuse %lu", &a) == 1) {
        p->refuse_ns = a * 1000000u;
        peer__say("ok");
    } else if (sscanf(line, "drop %lu %lu", &a, &b) == 2) {
        jobs__begin(p, JOB_DROP, b);
        p->want = (uint32_t)a;
        drop_all(p);
    } else if (sscanf(line, "attempts %lu %lu", &a, &b) == 2) {
        say_attempts(p, a, b);
    } else if (sscanf(line, "manners %lu", &a) == 1) {
        manners_set(&p->manners, a);
        peer__say("ok");
    } else if (strcmp(line, "late") == 0) {
        char text[200];
        manners_say(&p->manners, text, sizeof text);
        peer__say("%s", text);
    } else if (strncmp(line, "launch ", 7) == 0) {
        jobs__begin(p, JOB_LAUNCH, 0);
        launch_begin(&p->launch, line + 7, ++p->manners.mark);
    } else if (sscanf(line, "idle %lu", &a) == 1) {
        jobs__begin(p, JOB_IDLE, a);
    } else {
        peer__say("unknown: %s", line);
    }
}
