/* Proof: which texts went through the gate, which must, and what is said of it. */
#include "ops/daemon_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/text.h"

static const struct proven *proven_find(const struct daemon *d, const struct policy_version *v, uint64_t overlay);
static void proven_add(struct daemon *d, const struct gate_policy *of, bool capped, bool unproven);
static void wants_proof(const struct policy_version *v, const struct roster_overlay *over, const char *whose,
                        struct gate_run *run);
static const char *as_tuned(const struct gate_policy *p, char out[160]);
static bool judge(struct daemon *d, const struct gate_run *run);
static void on_proven(void *self, const struct gate_run *run);

static bool version_runs(const struct policy_version *v, const struct roster_running *running, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (running[i].hash == policy_text_hash(v) && strcmp(running[i].name, policy_name(v)) == 0) return true;
    }
    return false;
}

/* Somebody has it laid over the same policy already. */
static bool overlay_runs(const struct daemon *d, const char *policy, uint64_t overlay)
{
    const struct roster *r = &d->roster;
    for (uint32_t i = 0; i < r->config.connection_count; i++) {
        if (r->who[i].overlay == overlay && strcmp(r->config.connections[i].policy, policy) == 0) return true;
    }
    return false;
}

/* What is tuned is proven as it is tuned: other numbers are another policy. A new text that no connection of the file has
 * as it is, is proven as it is for those that are put over the API. */
void daemon__proof_wanted(const struct daemon *d, const struct roster *next, const struct roster_running *running,
                          uint32_t running_count, struct gate_run *run)
{
    bool listed;
    for (uint32_t k = 0; k < next->version_count; k++) {
        const struct policy_version *v = next->candidates[k] ? next->candidates[k] : next->versions[k];
        bool runs = (next->candidates[k] && runtime_trial_after(d->rt, next->names[k]) &&
                     policy_text_hash(runtime_trial_after(d->rt, next->names[k])) == policy_text_hash(v)) ||
                    version_runs(v, running, running_count);
        listed = false;
        for (uint32_t i = 0; i < next->overlay_count; i++) {
            const struct roster_overlay *o = &next->overlays[i];
            if (o->version != k) continue;
            listed = true;
            if (runs && overlay_runs(d, policy_name(v), o->hash)) continue;
            if (runs && !o->hash) continue; /* the policy as it is, and it runs */
            if (!proven_find(d, v, o->hash)) wants_proof(v, o, next->config.connections[o->connection].name, run);
        }
        if (!runs && !listed && !proven_find(d, v, 0)) wants_proof(v, NULL, "", run);
    }
}

/* Nothing is changed yet: what was read is read again once it is proven. */
bool daemon__proof_begin(struct daemon *d, struct gate_run *run)
{
    char names[400];
    size_t at = 0;
    run->cap_ms = d->roster.config.prove_ms;
    run->done = on_proven;
    run->self = d;
    for (uint32_t i = 0; i < run->count && at < sizeof names; i++) {
        at += (size_t)snprintf(names + at, sizeof names - at, "%s%s", i ? ", " : "", run->policies[i].name);
    }
    d->reloading.gate = gate_start(&d->loop, run);
    if (!d->reloading.gate) return false;
    log_printf(d->options.log, LOG_INFO, NULL, "proving %s before it is taken; what runs goes on", names);
    return true;
}

void daemon__proof_skip(struct daemon *d, const struct gate_run *run, bool operator_wished)
{
    for (uint32_t i = 0; i < run->count; i++) {
        char name[160];
        proven_add(d, &run->policies[i], false, true);
        log_printf(d->options.log, LOG_WARNING, NULL, "policy %s is taken unproven: %s", as_tuned(&run->policies[i], name),
                   operator_wished ? "an operator wished so" : "the configuration says so");
    }
}

/* What an operator or the clock let past the gate is in the journal of each that runs it. */
void daemon__proof_note(struct daemon *d, struct handle h, const struct policy_version *v, uint64_t overlay)
{
    const struct proven *p = proven_find(d, v, overlay);
    if (!p || (!p->capped && !p->unproven)) return;
    runtime_note(d->rt, h, p->unproven ? "goes on with a version that is unproven, because an operator wished so"
                                       : "goes on with a version that is not fully proven: the time was over");
}

static const struct proven *proven_find(const struct daemon *d, const struct policy_version *v, uint64_t overlay)
{
    for (uint32_t i = 0; i < PROVEN_MAX; i++) {
        const struct proven *p = &d->reloading.proven[i];
        if (p->name[0] && p->overlay == overlay && p->hash == policy_text_hash(v) && strcmp(p->name, policy_name(v)) == 0) return p;
    }
    return NULL;
}

static void proven_add(struct daemon *d, const struct gate_policy *of, bool capped, bool unproven)
{
    struct proven *p = &d->reloading.proven[d->reloading.proven_next++ % PROVEN_MAX];
    *p = (struct proven){ .hash = strtoull(of->hash, NULL, 16), .overlay = of->overlay, .capped = capped,
                          .unproven = unproven };
    text_copy(p->name, sizeof p->name, of->name, strlen(of->name));
}

static void hash_text_of(const struct policy_version *v, char out[24])
{
    snprintf(out, 24, "%016llx", (unsigned long long)policy_text_hash(v));
}

/* `over` NULL: the policy as it is. What is too many, or too long, is told as not fully proven. */
static void wants_proof(const struct policy_version *v, const struct roster_overlay *over, const char *whose,
                        struct gate_run *run)
{
    if (run->count == GATE_POLICIES_MAX) return;
    struct gate_policy *p = &run->policies[run->count++];
    memset(p, 0, sizeof *p);
    text_copy(p->name, sizeof p->name, policy_name(v), strlen(policy_name(v)));
    text_copy(p->path, sizeof p->path, policy_path(v), strlen(policy_path(v)));
    hash_text_of(v, p->hash);
    if (!over || !over->hash) return;
    p->overlay = over->hash;
    text_copy(p->whose, sizeof p->whose, whose, strlen(whose));
    if (strlen(over->json) < sizeof p->settings) text_copy(p->settings, sizeof p->settings, over->json, strlen(over->json));
    else p->too_long = true;
}

/* "mine" or "mine as tuned for connection a". */
static const char *as_tuned(const struct gate_policy *p, char out[160])
{
    snprintf(out, 160, "%.64s%s%.64s", p->name, p->whose[0] ? " as tuned for connection " : "", p->whose);
    return out;
}

/* True when all may be taken. */
static bool judge(struct daemon *d, const struct gate_run *run)
{
    char text[1400];
    bool good = true;
    for (uint32_t i = 0; i < run->count; i++) {
        const struct gate_policy *p = &run->policies[i];
        char name[160];
        as_tuned(p, name);
        if (p->refused) {
            snprintf(text, sizeof text, "policy %s: refused: %s%s%s%s", name, p->text,
                     p->whose[0] ? "" : "; `holdfast prove ", p->whose[0] ? "" : p->path,
                     p->whose[0] ? "" : "` tells more");
            daemon__reload_say(d, LOG_WARNING, text);
            good = false;
        } else if (!p->changed) {
            proven_add(d, p, p->capped, false);
            snprintf(text, sizeof text, "policy %s: %s, %u schedules of faults", name,
                     p->capped ? "not fully proven: the time was over" : "proven", p->schedules);
            if (p->capped) daemon__reload_say(d, LOG_WARNING, text);
            else log_line(d->options.log, LOG_INFO, NULL, text);
        }
    }
    return good;
}

static void on_proven(void *self, const struct gate_run *run)
{
    struct daemon *d = self;
    bool good = judge(d, run);
    gate_destroy(d->reloading.gate);
    d->reloading.gate = NULL;
    daemon__proof_over(d, good);
}
