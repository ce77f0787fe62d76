/* Proof: which texts went through the gate, which must, and what is said of it. A text is proven as it is tuned: other
 * numbers are another policy. What is tuned alike is proven once. */
#include "ops/daemon_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/text.h"

#define PROVEN_MAX 65536u   /* then they are forgotten: what runs is not proven again for that */
#define LINES_EACH_MAX 8    /* of one policy, for each of its tunes; more are told in one */

/* What a roster wants to be proven. */
struct wanting {
    const struct daemon *d;
    struct proof_set laid; /* what somebody has laid over the same policy already */
    struct proof_set seen; /* what is in the run */
    struct gate_run *run;
};

static void want(struct wanting *w, const struct policy_version *v, bool runs, uint64_t overlay, const char *json,
                 const char *whose);
static void want_added(struct wanting *w, const struct roster *next, const bool *runs, const bool *tries);
static void laid_fill(const struct daemon *d, struct proof_set *laid);
static void proven_add(struct daemon *d, const struct gate_policy *of, uint8_t flags);
static void on_proven(void *self, const struct gate_run *run);

static uint64_t key_of(const struct policy_version *v, uint64_t overlay)
{
    return proof_key(policy_name(v), policy_text_hash(v), overlay);
}

static bool version_runs(const struct policy_version *v, const struct roster_running *running, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (running[i].hash == policy_text_hash(v) && strcmp(running[i].name, policy_name(v)) == 0) return true;
    }
    return false;
}

static bool is_trying(const struct daemon *d, const struct policy_version *v)
{
    const struct policy_version *after = runtime_trial_after(d->rt, policy_name(v));
    return after && policy_text_hash(after) == policy_text_hash(v);
}

/* A new text that no connection of the file has as it is, is proven as it is for those that are put over the API. */
void daemon__proof_wanted(const struct daemon *d, const struct roster *next, const struct roster_running *running,
                          uint32_t running_count, struct gate_run *run)
{
    struct wanting w = { .d = d, .run = run };
    bool *runs = calloc(next->version_count + 1, sizeof *runs), *tries = calloc(next->version_count + 1, sizeof *tries);
    bool *listed = calloc(next->version_count + 1, sizeof *listed);
    ASSERT(runs && tries && listed);
    laid_fill(d, &w.laid);
    for (uint32_t k = 0; k < next->version_count; k++) {
        runs[k] = version_runs(next->versions[k], running, running_count);
        tries[k] = next->candidates[k] && is_trying(d, next->candidates[k]);
    }
    for (uint32_t i = 0; i < next->overlay_count; i++) {
        const struct roster_overlay *o = &next->overlays[i];
        const char *whose = next->config.connections[o->connection].name;
        listed[o->version] = true;
        want(&w, next->versions[o->version], runs[o->version], o->hash, o->json, whose);
        if (next->candidates[o->version]) want(&w, next->candidates[o->version], tries[o->version], o->hash, o->json, whose);
    }
    for (uint32_t k = 0; k < next->version_count; k++) {
        if (listed[k]) continue;
        want(&w, next->versions[k], runs[k], 0, NULL, "");
        if (next->candidates[k]) want(&w, next->candidates[k], tries[k], 0, NULL, "");
    }
    want_added(&w, next, runs, tries);
    proof_set_clear(&w.laid);
    proof_set_clear(&w.seen);
    free(runs);
    free(tries);
    free(listed);
}

/* Their tunes ran with the text before; a new one is proven with them as well. */
static void want_added(struct wanting *w, const struct roster *next, const bool *runs, const bool *tries)
{
    const struct daemon *d = w->d;
    for (uint32_t i = 0; i < d->added_count; i++) {
        const struct added *a = &d->added[i];
        uint32_t k = 0;
        while (k < next->version_count && strcmp(next->names[k], policy_name(a->version)) != 0) k++;
        if (k == next->version_count || config_connection_find(&next->config, a->config.name)) continue;
        const struct policy_version *of[] = { next->versions[k], next->candidates[k] };
        for (int n = 0; n < 2; n++) {
            if (!of[n] || (n ? tries[k] : runs[k]) || daemon__proof_is_known(d, of[n], a->overlay)) continue;
            if (proof_set_has(&w->seen, key_of(of[n], a->overlay), NULL)) continue;
            char *json = NULL;
            if (a->overlay) roster_overlay_of(a->version, &a->config.settings, &json);
            want(w, of[n], false, a->overlay, json, a->config.name);
            free(json);
        }
    }
}

bool daemon__proof_is_known(const struct daemon *d, const struct policy_version *v, uint64_t overlay)
{
    return proof_set_has(&d->proven, key_of(v, overlay), NULL);
}

void daemon__proof_want_one(const struct daemon *d, const struct policy_version *v, bool runs,
                            const struct config_connection *c, struct gate_run *run)
{
    struct wanting w = { .d = d, .run = run };
    char *json;
    uint64_t overlay = roster_overlay_of(v, &c->settings, &json);
    if (overlay) laid_fill(d, &w.laid);
    want(&w, v, runs, overlay, json, c->name);
    proof_set_clear(&w.laid);
    proof_set_clear(&w.seen);
    free(json);
}

static void laid_fill(const struct daemon *d, struct proof_set *laid)
{
    const struct roster *r = &d->roster;
    for (uint32_t i = 0; i < r->config.connection_count; i++) {
        if (r->who[i].overlay) proof_set_put(laid, proof_key(r->config.connections[i].policy, 0, r->who[i].overlay), 0);
    }
    for (uint32_t i = 0; i < d->added_count; i++) {
        const struct added *a = &d->added[i];
        if (a->overlay) proof_set_put(laid, proof_key(policy_name(a->version), 0, a->overlay), 0);
    }
}

static void want(struct wanting *w, const struct policy_version *v, bool runs, uint64_t overlay, const char *json,
                 const char *whose)
{
    if (runs && (!overlay || proof_set_has(&w->laid, proof_key(policy_name(v), 0, overlay), NULL))) return;
    if (daemon__proof_is_known(w->d, v, overlay) || proof_set_has(&w->seen, key_of(v, overlay), NULL)) return;
    proof_set_put(&w->seen, key_of(v, overlay), 0);
    struct gate_policy *p = gate_run_add(w->run);
    text_copy(p->name, sizeof p->name, policy_name(v), strlen(policy_name(v)));
    snprintf(p->hash, sizeof p->hash, "%016llx", (unsigned long long)policy_text_hash(v));
    p->path = strdup(policy_path(v));
    ASSERT(p->path != NULL);
    struct policy_source source;
    for (uint32_t i = 0; runs && policy_source(v, i, &source); i++) gate_policy_text(p, source.name, source.text, source.len);
    if (!overlay) return;
    p->overlay = overlay;
    text_copy(p->whose, sizeof p->whose, whose, strlen(whose));
    p->settings = strdup(json);
    ASSERT(p->settings != NULL);
}

/* ---- of a reload ------------------------------------------------------------------------------------------- */

struct gate *daemon__proof_start(struct daemon *d, struct gate_run *run)
{
    char names[400];
    size_t at = 0;
    run->cap_ms = d->roster.config.prove_ms;
    for (uint32_t i = 0; i < run->count && at < sizeof names; i++) {
        if (i > 0 && strcmp(run->policies[i].name, run->policies[i - 1].name) == 0) continue;
        at += (size_t)snprintf(names + at, sizeof names - at, "%s%s", i ? ", " : "", run->policies[i].name);
    }
    if (d->proven.count > PROVEN_MAX) proof_set_clear(&d->proven);
    struct gate *g = gate_start(&d->loop, run);
    if (g) log_printf(d->options.log, LOG_INFO, NULL, "proving %s before it is taken; what runs goes on", names);
    return g;
}

/* Nothing is changed yet: what was read is read again once it is proven. */
bool daemon__proof_begin(struct daemon *d, struct gate_run *run)
{
    run->done = on_proven;
    run->self = d;
    d->reloading.gate = daemon__proof_start(d, run);
    return d->reloading.gate != NULL;
}

static void on_proven(void *self, const struct gate_run *run)
{
    struct daemon *d = self;
    struct buffer lines;
    buffer_init(&lines, 0);
    bool good = daemon__proof_judge(d, run, &lines);
    const char *at = (const char *)lines.data, *end;
    for (size_t left = lines.len; left && (end = memchr(at, '\n', left)); left -= (size_t)(end + 1 - at), at = end + 1) {
        char text[1400];
        text_copy(text, sizeof text, at, (size_t)(end - at));
        daemon__reload_say(d, LOG_WARNING, text);
    }
    buffer_deinit(&lines);
    gate_destroy(d->reloading.gate);
    d->reloading.gate = NULL;
    daemon__proof_over(d, good);
}

/* ---- what came of it --------------------------------------------------------------------------------------- */

static void proven_add(struct daemon *d, const struct gate_policy *of, uint8_t flags)
{
    proof_set_put(&d->proven, proof_key(of->name, strtoull(of->hash, NULL, 16), of->overlay), flags);
}

/* "mine" or "mine as tuned for connection a". */
static const char *as_tuned(const struct gate_policy *p, char out[160])
{
    snprintf(out, 160, "%.64s%s%.64s", p->name, p->whose[0] ? " as tuned for connection " : "", p->whose);
    return out;
}

void daemon__proof_skip(struct daemon *d, const struct gate_run *run, bool operator_wished)
{
    char name[160];
    for (uint32_t i = 0; i < run->count; i++) {
        proven_add(d, &run->policies[i], operator_wished ? PROOF_WAIVED : PROOF_OFF);
        if (i > LINES_EACH_MAX) continue;
        const char *who = operator_wished ? "an operator wished so" : "the configuration says so";
        if (i < LINES_EACH_MAX)
            log_printf(d->options.log, LOG_WARNING, NULL, "policy %s is taken unproven: %s", as_tuned(&run->policies[i], name), who);
        else
            log_printf(d->options.log, LOG_WARNING, NULL, "%u more tunes are taken unproven: %s", run->count - i, who);
    }
}

static void refusal_tell(const struct gate_policy *p, struct buffer *lines)
{
    char name[160];
    bool whole = !p->whose[0]; /* `holdfast prove` knows no tune */
    buffer_printf(lines, "policy %s: refused: %.1000s%s%s%s\n", as_tuned(p, name), p->text, whole ? "; `holdfast prove " : "",
                  whole ? p->path : "", whole ? "` tells more" : "");
}

/* The one policy at `first`, and all of its tunes. */
static void judge_policy(struct daemon *d, const struct gate_run *run, uint32_t first, struct buffer *lines)
{
    const struct gate_policy *capped = NULL;
    uint32_t count = 0, capped_count = 0, schedules = 0;
    char name[160];
    for (uint32_t i = first; i < run->count; i++) {
        const struct gate_policy *p = &run->policies[i];
        if (strcmp(p->name, run->policies[first].name) != 0 || p->refused || p->changed) continue;
        proven_add(d, p, p->capped ? PROOF_CAPPED : 0);
        count++;
        schedules += p->schedules;
        capped_count += p->capped;
        if (p->capped && !capped) capped = p;
    }
    if (!capped) {
        for (uint32_t i = first; count <= LINES_EACH_MAX && i < run->count; i++) {
            const struct gate_policy *p = &run->policies[i];
            if (strcmp(p->name, run->policies[first].name) != 0 || p->refused || p->changed) continue;
            log_printf(d->options.log, LOG_INFO, NULL, "policy %s: proven, %u schedules of faults", as_tuned(p, name), p->schedules);
        }
        if (count > LINES_EACH_MAX)
            log_printf(d->options.log, LOG_INFO, NULL, "policy %s: proven, as %u tunes have it, %u schedules of faults",
                       run->policies[first].name, count, schedules);
        return;
    }
    if (count == 1) {
        buffer_printf(lines, "policy %s: not fully proven: the time was over, %u schedules of faults\n", as_tuned(capped, name),
                      capped->schedules);
    } else {
        buffer_printf(lines, "policy %s: not fully proven: %u of %u tunes%s%s: the time was over, %u schedules of faults\n", capped->name,
                      capped_count, count, capped->whose[0] ? ", such as that of connection " : "", capped->whose, schedules);
    }
}

bool daemon__proof_judge(struct daemon *d, const struct gate_run *run, struct buffer *lines)
{
    bool good = true;
    for (uint32_t i = 0; i < run->count; i++) {
        if (!run->policies[i].refused) continue;
        refusal_tell(&run->policies[i], lines);
        good = false;
    }
    for (uint32_t i = 0; i < run->count; i++) {
        uint32_t k = i; /* the one before is of the same policy, most often */
        while (k > 0 && strcmp(run->policies[k - 1].name, run->policies[i].name) != 0) k--;
        if (k == 0) judge_policy(d, run, i, lines);
    }
    return good;
}

/* ---- what an operator or the clock let past the gate -------------------------------------------------------- */

/* It is in the journal of each that runs it. */
void daemon__proof_note(struct daemon *d, struct handle h, const struct policy_version *v, uint64_t overlay)
{
    uint8_t flags = 0;
    if (!proof_set_has(&d->proven, key_of(v, overlay), &flags) || !flags) return;
    runtime_note(d->rt, h, flags & PROOF_CAPPED   ? "goes on with a version that is not fully proven: the time was over"
                           : flags & PROOF_WAIVED ? "goes on with a version that is unproven, because an operator wished so"
                                                  : "goes on with a version that is unproven, because the configuration says so");
}

const char *daemon__proof_word(const struct daemon *d, const struct policy_version *v, uint64_t overlay)
{
    uint8_t flags;
    if (!proof_set_has(&d->proven, key_of(v, overlay), &flags)) return "runs already";
    return flags & PROOF_CAPPED ? "not fully proven" : flags ? "unproven" : "proven";
}
