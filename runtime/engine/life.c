/* Life: the rule of life.h, from the strongest sign to the weakest. Keeps nothing, and never looks at events
 * to find a peer dead: only at what it owes. */
#include "engine/life.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/assert.h"
#include "base/duration.h"


struct words {
    char *text; /* NULL: nobody reads them */
    int len;
};

static enum life_verdict judge(const struct life_facts *f, struct words *w);
static bool is_dead(const struct life_facts *f, struct words *w);
static bool is_suspect(const struct life_facts *f, struct words *w);
static void proofs(const struct life_facts *f, struct words *w);
static void say(struct words *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
static uint64_t age(const struct life_facts *f, uint64_t at_ms);

const char *life_name(enum life_verdict v)
{
    static const char *const names[] = {
#define X(name, text) text,
        LIFE_MAP(X)
#undef X
    };
    ASSERT(v < LIFE_COUNT);
    return names[v];
}

void life_judge(const struct life_facts *f, struct life *out)
{
    struct words w = { .text = out->evidence };
    out->evidence[0] = 0;
    out->verdict = judge(f, &w);
    if (f->up) proofs(f, &w);
    else say(&w, "no link serves: %s", f->down ? f->down : "down");
    ASSERT(out->evidence[0] != 0);
}

enum life_verdict life_verdict(const struct life_facts *f)
{
    struct words none = { 0 };
    return judge(f, &none);
}

static enum life_verdict judge(const struct life_facts *f, struct words *w)
{
    char span[DURATION_TEXT_MAX];
    if (!f->up || is_dead(f, w)) return LIFE_DEAD;
    if (is_suspect(f, w)) return LIFE_SUSPECT;
    const bool event = f->event_here && f->last_event_ms;
    const uint64_t quiet_ms = age(f, event ? f->last_event_ms : f->ready_ms);
    if (w->text && event) say(w, "an event %s ago", duration_span(quiet_ms, span));
    else if (w->text) say(w, "no event yet, up for %s", duration_span(quiet_ms, span));
    return quiet_ms >= LIFE_QUIET_MS ? LIFE_QUIET : LIFE_ALIVE;
}

/* Late by our own loop's doing is not late. */
static bool passed(const struct life_facts *f, uint64_t due_ms)
{
    return due_ms != UINT64_MAX && f->now_ms > due_ms && f->now_ms - due_ms > f->loop_delay_ms;
}

static bool is_dead(const struct life_facts *f, struct words *w)
{
    char a[DURATION_TEXT_MAX], b[DURATION_TEXT_MAX];
    if (f->paused) return false;
    if (f->beat_since_ms && f->beat_due_ms && passed(f, f->beat_due_ms) && f->beats_missed + 1 >= f->beats_dead) {
        say(w, "%u beat%s unanswered, the last for %s: over the limit", f->beats_missed + 1,
            f->beats_missed ? "s" : "", duration_span(age(f, f->beat_since_ms), a));
        return true;
    }
    if (f->silence_ms && passed(f, f->silence_due_ms) && age(f, f->last_byte_ms) >= f->silence_ms) {
        say(w, "not one byte for %s: over the limit of %s", duration_span(age(f, f->last_byte_ms), a),
            duration_span(f->silence_ms, b));
        return true;
    }
    return false;
}

static bool is_suspect(const struct life_facts *f, struct words *w)
{
    char a[DURATION_TEXT_MAX], b[DURATION_TEXT_MAX];
    uint64_t owes_ms = LIFE_OWES_MS;
    bool found = false;
    if (f->round_trip_known && f->round_trip_ms * 4 > owes_ms) owes_ms = f->round_trip_ms * 4;
    owes_ms += f->loop_delay_ms;
    /* A byte that came in the same millisecond as the ping does not answer it. */
    const bool ping = f->ping_since_ms && f->last_byte_ms <= f->ping_since_ms;
    const bool kernel = f->kernel && f->kernel_repeats >= LIFE_REPEATS_MIN;
    if (f->beat_since_ms && !f->paused && (f->beats_missed || age(f, f->beat_since_ms) > owes_ms)) {
        say(w, "a beat is unanswered for %s", duration_span(age(f, f->beat_since_ms), a));
        if (f->beats_missed) say(w, "%u before it too", f->beats_missed);
        found = true;
    }
    if (ping && !f->paused && age(f, f->ping_since_ms) > owes_ms) {
        say(w, "a ping is unanswered for %s", duration_span(age(f, f->ping_since_ms), a));
        found = true;
    }
    if (f->promised && !f->paused && f->silence_ms && age(f, f->last_byte_ms) > f->silence_ms - f->silence_ms / 4) {
        say(w, "the promised keep-alive is late: nothing for %s of %s",
            duration_span(age(f, f->last_byte_ms), a), duration_span(f->silence_ms, b));
        found = true;
    }
    if (kernel) {
        say(w, "the kernel sent %u segment%s again, %u times in a row, and nothing acknowledges",
            f->kernel_unacked ? f->kernel_unacked : 1, f->kernel_unacked > 1 ? "s" : "", f->kernel_repeats);
        found = true;
    }
    if (found && f->round_trip_known) say(w, "usual is %llu ms", (unsigned long long)f->round_trip_ms);
    return found;
}

/* The newest thing that only a living peer sends. */
static void proofs(const struct life_facts *f, struct words *w)
{
    char a[DURATION_TEXT_MAX];
    if (f->paused) say(w, "we do not read now: what it sends waits in the kernel");
    if (f->last_answer_ms >= f->last_pong_ms && f->last_answer_ms)
        say(w, "a beat was answered %s ago", duration_span(age(f, f->last_answer_ms), a));
    else if (f->last_pong_ms)
        say(w, "a ping was answered %s ago", duration_span(age(f, f->last_pong_ms), a));
    if (f->last_byte_ms) say(w, "last byte %s ago", duration_span(age(f, f->last_byte_ms), a));
}

static void say(struct words *w, const char *format, ...)
{
    va_list args;
    if (!w->text) return;
    if (w->len >= LIFE_TEXT_MAX - 1) return;
    if (w->len) w->len += snprintf(w->text + w->len, (size_t)(LIFE_TEXT_MAX - w->len), "; ");
    if (w->len >= LIFE_TEXT_MAX - 1) return;
    va_start(args, format);
    w->len += vsnprintf(w->text + w->len, (size_t)(LIFE_TEXT_MAX - w->len), format, args);
    va_end(args);
}

static uint64_t age(const struct life_facts *f, uint64_t at_ms)
{
    return at_ms < f->now_ms ? f->now_ms - at_ms : 0;
}
