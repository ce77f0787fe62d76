/* A reload, for the connections that were put over the API: one piece at a time. Others may be put, changed and deleted
 * between two pieces, so the list is gone through until nobody touched it meanwhile. */
#include "ops/daemon_internal.h"

#include <string.h>

#include "base/assert.h"

/* The next one, from `*at` on. NULL: all were seen since the list was last touched. */
static struct added *added_next(struct daemon *d, uint32_t *at)
{
    if (*at >= d->added_count && d->added_touched) {
        d->added_touched = false;
        *at = 0;
    }
    return *at < d->added_count ? &d->added[*at] : NULL;
}

/* The version that it goes on with; one that was just put with a policy of its own keeps that. */
static struct policy_version *version_of(const struct roster *next, const struct added *a)
{
    struct policy_version *v = roster_policy(next, policy_name(a->version));
    return v ? v : a->version;
}

static struct policy_build *build(const struct added *a, struct policy_version *v, struct problems *problems)
{
    return policy_build_create(v, &a->config.settings, "", problems);
}

/* Put while the new text was read, or proven: that must hold with this tune as well. */
static bool lacks_proof(const struct daemon *d, const struct added *a, const struct policy_version *v)
{
    const struct policy_version *tried = runtime_trial_after(d->rt, policy_name(v));
    if (v == a->version || (tried && policy_text_hash(tried) == policy_text_hash(v))) return false;
    return !daemon__proof_is_known(d, v, a->overlay);
}

bool daemon__added_build_one(struct daemon *d, const struct roster *next, uint32_t *at, struct problems *problems)
{
    struct added *a = added_next(d, at);
    if (!a) return false;
    ++*at;
    if (config_connection_find(&next->config, a->config.name)) return true; /* the file wins */
    struct policy_version *v = version_of(next, a), *tried = roster_candidate(next, policy_name(a->version));
    if (tried) policy_build_destroy(build(a, tried, problems)); /* it must fit it as well, once it is adopted */
    uint64_t identity = a->identity;
    if (v != a->version) {
        if (!a->next || a->next->version != v) {
            policy_build_destroy(a->next);
            a->next = build(a, v, problems);
        }
        if (!a->next) return true;
        identity = a->next->identity;
    }
    if (lacks_proof(d, a, v) || (tried && lacks_proof(d, a, tried))) d->reloading.lacks_proof = true;
    const char *owner = roster_claimant(next, identity);
    if (owner) {
        problems_add(problems, false, "", 0, a->config.name,
                     "was added over the API and has the same identity as %s: delete it first", owner);
    }
    return true;
}

/* What was put after the first swap has the new version already. */
bool daemon__added_swap_one(struct daemon *d, uint32_t *at)
{
    struct added *a = added_next(d, at);
    if (!a) return false;
    struct handle h = runtime_find(d->rt, a->config.name);
    if (config_connection_find(&d->roster.config, a->config.name)) {
        log_line(d->options.log, LOG_WARNING, a->config.name,
                 "was added over the API and is in the file now: the file wins");
        if (!a->build && !handle_is_none(h)) {
            runtime_remove(d->rt, h);
            runtime_carry_out(d->rt);
        }
        daemon__added_forget(d, a); /* the last one is here now */
        return true;
    }
    ++*at;
    struct policy_version *v = version_of(&d->roster, a);
    struct policy_build *next = a->next;
    a->next = NULL;
    if (v == a->version) {
        policy_build_destroy(next);
        daemon__put_reread(d, a);
        return true;
    }
    ASSERT(next && next->version == v); /* the last look before the first swap saw to it */
    policy_unref(a->version);
    a->version = policy_ref(v);
    a->identity = next->identity;
    if (a->build) {
        daemon__added_wait(d, a, next);
    } else if (!handle_is_none(h)) {
        runtime_swap(d->rt, h, next);
        daemon__proof_note(d, h, v, a->overlay);
    } else {
        policy_build_destroy(next);
    }
    daemon__put_reread(d, a);
    return true;
}

bool daemon__added_sweep_one(struct daemon *d, uint32_t *at)
{
    if (*at >= d->added_count) return false;
    struct added *a = &d->added[(*at)++];
    policy_build_destroy(a->next);
    a->next = NULL;
    return true;
}
