/* Proof: which texts went through the gate, which must, and what is said of it. */
#include "ops/daemon_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/text.h"

static const struct proven *proven_find(const struct daemon *d, const struct policy_version *v);
static void proven_add(struct daemon *d, const char *name, uint64_t hash, bool capped, bool unproven);
static void wants_proof(const struct policy_version *v, struct gate_run *run);
static bool judge(struct daemon *d, const struct gate_run *run);
static void on_proven(void *self, const struct gate_run *run);

void daemon__proof_wanted(const struct daemon *d, const struct roster *next, const struct roster_running *running,
                          uint32_t running_count, struct gate_run *run)
{
    for (uint32_t k = 0; k < next->version_count; k++) {
        const struct policy_version *v = next->candidates[k] ? next->candidates[k] : next->versions[k];
        bool runs = next->candidates[k] && runtime_trial_after(d->rt, next->names[k]) &&
                    policy_text_hash(runtime_trial_after(d->rt, next->names[k])) == policy_text_hash(v);
        for (uint32_t i = 0; i < running_count && !runs; i++) {
            runs = running[i].hash == policy_text_hash(v) && strcmp(running[i].name, policy_name(v)) == 0;
        }
        if (!runs && !proven_find(d, v)) wants_proof(v, run);
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
        proven_add(d, run->policies[i].name, strtoull(run->policies[i].hash, NULL, 16), false, true);
        log_printf(d->options.log, LOG_WARNING, NULL, "policy %s is taken unproven: %s", run->policies[i].name,
                   operator_wished ? "an operator wished so" : "the configuration says so");
    }
}

/* What an operator or the clock let past the gate is in the journal of each that runs it. */
void daemon__proof_note(struct daemon *d, struct handle h, const struct policy_version *v)
{
    const struct proven *p = proven_find(d, v);
    if (!p || (!p->capped && !p->unproven)) return;
    runtime_note(d->rt, h, p->unproven ? "goes on with a version that is unproven, because an operator wished so"
                                       : "goes on with a version that is not fully proven: the time was over");
}

static const struct proven *proven_find(const struct daemon *d, const struct policy_version *v)
{
    for (uint32_t i = 0; i < PROVEN_MAX; i++) {
        const struct proven *p = &d->reloading.proven[i];
        if (p->name[0] && p->hash == policy_text_hash(v) && strcmp(p->name, policy_name(v)) == 0) return p;
    }
    return NULL;
}

static void proven_add(struct daemon *d, const char *name, uint64_t hash, bool capped, bool unproven)
{
    struct proven *p = &d->reloading.proven[d->reloading.proven_next++ % PROVEN_MAX];
    *p = (struct proven){ .hash = hash, .capped = capped, .unproven = unproven };
    text_copy(p->name, sizeof p->name, name, strlen(name));
}

static void hash_text_of(const struct policy_version *v, char out[24])
{
    snprintf(out, 24, "%016llx", (unsigned long long)policy_text_hash(v));
}

/* Adds it, unless it is in the list. */
static void wants_proof(const struct policy_version *v, struct gate_run *run)
{
    if (run->count == GATE_POLICIES_MAX) return;
    for (uint32_t i = 0; i < run->count; i++) {
        if (strcmp(run->policies[i].name, policy_name(v)) == 0) return;
    }
    struct gate_policy *p = &run->policies[run->count++];
    memset(p, 0, sizeof *p);
    text_copy(p->name, sizeof p->name, policy_name(v), strlen(policy_name(v)));
    text_copy(p->path, sizeof p->path, policy_path(v), strlen(policy_path(v)));
    hash_text_of(v, p->hash);
}

/* True when all may be taken. */
static bool judge(struct daemon *d, const struct gate_run *run)
{
    char text[1400];
    bool good = true;
    for (uint32_t i = 0; i < run->count; i++) {
        const struct gate_policy *p = &run->policies[i];
        if (p->refused) {
            snprintf(text, sizeof text, "policy %s: refused: %s; `holdfast prove %s` tells more", p->name, p->text,
                     p->path);
            daemon__reload_say(d, LOG_WARNING, text);
            good = false;
        } else if (!p->changed) {
            proven_add(d, p->name, strtoull(p->hash, NULL, 16), p->capped, false);
            snprintf(text, sizeof text, "policy %s: %s, %u schedules of faults", p->name,
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
