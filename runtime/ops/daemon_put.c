/* PUT: a connection that comes over the API. Checked as those of the configuration are; what it would run that never went
 * through the gate goes through it first, in a thread: until then nothing is dialled and no link is touched. Whatever is
 * asked for meanwhile finds what ran before; once proven, it is read and checked once more from the beginning. */
#include "ops/daemon_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/duration.h"
#include "base/text.h"

#define TRIES_MAX 3 /* the text changed while it was played */
#define EXPECTED_LATER "try again later"
#define EXPECTED_PROVEN "a policy and tune that keep the promises, or ?unproven=1 from whoever knows better"

/* What is to be done about what is not proven. */
enum past_gate { PROVE_IT, LET_PAST, AS_STORED };

static int attempt(struct daemon *d, const char *name, const void *json, size_t len, enum past_gate past, struct gate_run *run,
                   struct ops_problems *out);
static void go_on(struct daemon *d);
static void on_proven(void *self, const struct gate_run *run);
static void refused_forget(struct daemon *d, const char *name);
static void refused_keep(struct daemon *d, const char *name, const char *text);

/* The name of who has the identity already, or will as soon as its namesake is gone. */
static const char *identity_owner(struct daemon *d, const char *name, uint64_t identity,
                                  char out[64])
{
    struct connection_view view;
    const char *of_file = roster_claimant(&d->roster, identity);
    if (!identity || of_file) return of_file;
    struct handle h = runtime_owner(d->rt, identity);
    if (!handle_is_none(h) && runtime_view(d->rt, h, &view) && strcmp(view.name, name) != 0) {
        snprintf(out, 64, "%s", view.name);
        return out;
    }
    for (uint32_t i = 0; d->added_waiting && i < d->added_count; i++) {
        const struct added *a = &d->added[i];
        if (!a->build || a->build->identity != identity || strcmp(a->config.name, name) == 0)
            continue;
        return a->config.name;
    }
    return NULL;
}

/* The version that runs already, wherever, else the file's. Owned reference. */
static struct policy_version *version_for(struct daemon *d, const struct config_connection *c, struct problems *problems,
                                          bool *runs)
{
    char path[1024], why[768];
    bool known;
    struct policy_version *v = roster_policy(&d->roster, c->policy);
    for (uint32_t i = 0; i < d->added_count && !v; i++) {
        if (strcmp(policy_name(d->added[i].version), c->policy) == 0) v = d->added[i].version;
    }
    *runs = v != NULL;
    if (v) return policy_ref(v);
    v = roster_policy_load(&d->roster.config, c->policy, 1, d->seed, problems, &known);
    if (!v && !known &&
        !roster_policy_find(&d->roster.config, c->policy, path, sizeof path, why, sizeof why)) {
        problems_add(problems, false, "", 0, "policy", "%s", why);
    }
    return v;
}

/* False: all of it was, or is let past. A version on trial may be the one that it runs next. */
static bool wants_proof(struct daemon *d, const struct config_connection *c, const struct policy_version *v, bool runs,
                        enum past_gate past, struct gate_run *run)
{
    const struct policy_version *tried = runtime_trial_after(d->rt, c->policy);
    daemon__proof_want_one(d, v, runs, c, run);
    if (tried) daemon__proof_want_one(d, tried, true, c, run);
    if (!run->count) return false;
    if (past == PROVE_IT && d->roster.config.prove_ms) return true;
    daemon__proof_skip(d, run, past == LET_PAST);
    return false;
}

/* What was asked for is good: adds, changes or replaces. Takes config and build. */
static int put_carry_out(struct daemon *d, struct config_connection *config,
                         struct policy_build *build, struct ops_problems *problems)
{
    struct added *a = daemon__added_find(d, config->name);
    struct handle h = runtime_find(d->rt, config->name);
    struct connection_view view;
    char why[256];
    uint64_t overlay = roster_overlay_of(build->version, &config->settings, NULL);
    d->added_touched = true;
    if (!a) {
        a = daemon__added_new(d, config, build->version);
        a->identity = build->identity;
        a->overlay = overlay;
        if (!handle_is_none(h)) {
            daemon__added_wait(d, a, build);
            return 202;
        }
        struct policy_version *version = build->version;
        if (daemon__add_connection(d, &a->config, build, why, sizeof why)) {
            daemon__proof_note(d, runtime_find(d->rt, a->config.name), version, overlay);
            return 201;
        }
        ops_problem_add(problems, a->config.name, "", "%s", why);
        daemon__added_forget(d, a);
        return 409;
    }
    bool runs = !a->build && !handle_is_none(h) && runtime_view(d->rt, h, &view);
    bool replace =
        runs && (view.engine.identity != build->identity || view.engine.account != build->account ||
                 !daemon__dials_the_same(&a->config, config));
    bool same = runs && !replace && a->version == build->version &&
                value_equal(&a->config.settings, &config->settings);
    struct policy_version *old = a->version;
    config_connection_deinit(&a->config);
    a->config = *config;
    a->version = policy_ref(build->version);
    a->identity = build->identity;
    a->overlay = overlay;
    policy_build_destroy(a->next); /* of the settings before */
    a->next = NULL;
    policy_unref(old);
    memset(config, 0, sizeof *config);
    if (same) {
        policy_build_destroy(build);
        return 200;
    }
    if (runs && !replace) {
        runtime_swap(d->rt, h, build);
        daemon__proof_note(d, h, a->version, overlay);
        runtime_trial_align(d->rt, policy_name(a->version));
        /* A verdict's stop waits for an operator or new credentials: here they are. */
        if (view.engine.stop_is_fatal) runtime_start(d->rt, h);
        return 200;
    }
    if (runs) runtime_remove(d->rt, h);
    daemon__added_wait(d, a, build);
    return 202;
}

/* `json` may be what it has already. */
static void json_keep(struct added *a, const void *json, size_t len)
{
    char *copy = json ? malloc(len + 1) : NULL;
    ASSERT(a && (copy || !json));
    if (json) memcpy(copy, json, len);
    free(a->json);
    a->json = copy;
    a->json_len = json ? len : 0;
}

/* 0: what it would run is not proven, and is in `run`; nothing was changed. */
static int attempt(struct daemon *d, const char *name, const void *json, size_t len, enum past_gate past, struct gate_run *run,
                   struct ops_problems *out)
{
    struct problems problems;
    struct config_connection config = { 0 };
    struct value table = value_nil();
    struct policy_version *version = NULL;
    struct policy_build *build = NULL;
    char other[64];
    const char *owner;
    bool runs = false;
    int status = 400;
    if (d->stopping) {
        ops_problem_add(out, name, "another holdfast", "this one is shutting down");
        return 503;
    }
    if (config_connection_find(&d->roster.config, name)) {
        ops_problem_add(out, name, "another name, or a change of the file and a reload",
                        "the configuration file has a connection of this name, and the file wins");
        return 409;
    }
    problems_init(&problems);
    if (config_json_read(json, len, &table, &problems) &&
        config_connection_read(name, &table, "", d->roster.config.folder, &config, &problems) &&
        (version = version_for(d, &config, &problems, &runs))) {
        build = policy_build_create(version, &config.settings, "", &problems);
    }
    if (build && !config.proxy && d->proxies_wrong[0]) {
        policy_build_destroy(build);
        build = NULL;
        ops_problem_add(out, "proxy", "an address, or false for none", "%s", d->proxies_wrong);
    }
    if (!build) {
        daemon__put_problems(out, &problems, name);
        if (!out->count) ops_problem_add(out, name, "", "cannot be built");
    } else if ((owner = identity_owner(d, name, build->identity, other))) {
        ops_problem_add(out, name, "credentials of its own, or only one of the two",
                        "has the same identity as %s: two links would fight", owner);
        policy_build_destroy(build);
        status = 409;
    } else if (past != AS_STORED && wants_proof(d, &config, version, runs, past, run)) {
        policy_build_destroy(build);
        status = 0;
    } else {
        const struct value *proxy = value_get(&table, "proxy");
        bool told = config.proxy_authorization && proxy && proxy->kind == VALUE_STRING;
        status = put_carry_out(d, &config, build, out);
        if (status < 300) daemon__added_keep(d, name, told ? NULL : json, len);
        if (status < 300) json_keep(daemon__added_find(d, name), told ? NULL : json, len);
        if (told && status < 300) {
            log_line(d->options.log, LOG_WARNING, name,
                     "its proxy has a password in plain text: not stored, and gone with this process");
        }
    }
    policy_unref(version);
    config_connection_deinit(&config);
    value_clear(&table);
    problems_deinit(&problems);
    return status;
}

int daemon__put_stored(struct daemon *d, const char *name, const void *json, size_t len, struct ops_problems *problems)
{
    return attempt(d, name, json, len, AS_STORED, NULL, problems);
}

void daemon__put_reread(struct daemon *d, struct added *a)
{
    struct problems problems;
    struct config_connection config = { 0 };
    struct value table = value_nil();
    struct ops_problems wrong = { .count = 0 };
    char name[CONFIG_NAME_MAX], text[400];
    if (!a->json || a->build || !memmem(a->json, a->json_len, "\"credential\"", 12)) return;
    memcpy(name, a->config.name, sizeof name);
    problems_init(&problems);
    bool read = config_json_read(a->json, a->json_len, &table, &problems) &&
                config_connection_read(name, &table, "", d->roster.config.folder, &config, &problems);
    if (!read) {
        log_printf(d->options.log, LOG_WARNING, name, "was put over the API, and goes on with the credentials that it has: %s",
                   problem_format(&problems.items[0], text, sizeof text));
    } else if (!value_equal(&config.settings, &a->config.settings) || !daemon__dials_the_same(&config, &a->config)) {
        log_line(d->options.log, LOG_INFO, name, "its credentials changed");
        int status = attempt(d, name, a->json, a->json_len, AS_STORED, NULL, &wrong);
        if (status >= 400) log_printf(d->options.log, LOG_WARNING, name, "goes on with the credentials that it has: %s", wrong.items[0].what);
    }
    config_connection_deinit(&config);
    value_clear(&table);
    problems_deinit(&problems);
}

/* --- those that wait for their proof ---------------------------------------------------------------- */

static struct put *put_find(struct daemon *d, const char *name)
{
    struct put *p = d->puts.first;
    while (p && strcmp(p->name, name) != 0) p = p->next;
    return p;
}

static void put_free(struct put *p)
{
    explicit_bzero(p->json, p->len);
    free(p->json);
    free(p);
}

/* Out of the list: its answer is given by the caller. The gate goes on: what it finds out is of use. */
static void put_take(struct daemon *d, struct put *p)
{
    struct puts *q = &d->puts;
    struct put **at = &q->first, *before = NULL;
    for (; *at != p; at = &(*at)->next) before = *at;
    *at = p->next;
    if (q->last == p) q->last = before;
    q->count--;
}

static void put_answer(struct daemon *d, struct put *p, int status, const char *proof, const struct ops_problems *problems)
{
    put_take(d, p);
    ops_put_answer(d->ops, p->ticket, p->name, status, proof, problems);
    put_free(p);
}

void daemon__put_call_off(struct daemon *d, const char *name, int status, const char *what, const char *expected)
{
    struct put *p = put_find(d, name);
    struct ops_problems problems = { .count = 0 };
    refused_forget(d, name);
    if (!p) return;
    ops_problem_add(&problems, name, expected, "%s", what);
    put_answer(d, p, status, "", &problems);
}

static uint64_t put_wait(struct daemon *d, const char *name, const void *json, size_t len)
{
    struct puts *q = &d->puts;
    struct put *p = calloc(1, sizeof *p);
    ASSERT(p != NULL);
    text_copy(p->name, sizeof p->name, name, strlen(name));
    p->json = malloc(len + 1);
    ASSERT(p->json != NULL);
    memcpy(p->json, json, len);
    p->len = len;
    p->ticket = ++q->tickets;
    if (q->last) q->last->next = p;
    else q->first = p;
    q->last = p;
    q->count++;
    return p->ticket;
}

static const char *word_of(const struct daemon *d, const char *name)
{
    const struct added *a = daemon__added_find((struct daemon *)d, name);
    return a ? daemon__proof_word(d, a->version, a->overlay) : "";
}

int daemon__put(void *self, const char *name, const void *json, size_t len, struct ops_put *how, struct ops_problems *problems)
{
    struct daemon *d = self;
    struct gate_run run = { 0 };
    int status = attempt(d, name, json, len, how->unproven ? LET_PAST : PROVE_IT, &run, problems);
    /* The last one that is good counts. */
    if (status < 300) daemon__put_call_off(d, name, 409, "another PUT of it came after this one", "one at a time");
    if (status == 0 && d->puts.count >= PUTS_MAX) {
        ops_problem_add(problems, name, EXPECTED_LATER, "%u others wait for their proof already", d->puts.count);
        status = 503;
    }
    if (status >= 200 && status < 300) {
        how->proof = word_of(d, name);
    } else if (status == 0) {
        how->ticket = put_wait(d, name, json, len);
        if (!d->puts.gate) go_on(d);
    }
    gate_run_deinit(&run);
    return status;
}

/* The first one is looked at anew: it may be proven by now, with another one's proof. Until one is being proven. */
static void go_on(struct daemon *d)
{
    struct puts *q = &d->puts;
    ASSERT(!q->gate);
    while (q->first) {
        struct put *p = q->first;
        struct gate_run run = { 0 };
        struct ops_problems problems = { .count = 0 };
        int status = attempt(d, p->name, p->json, p->len, PROVE_IT, &run, &problems);
        if (status == 0 && p->tries++ == TRIES_MAX) {
            ops_problem_add(&problems, p->name, EXPECTED_LATER,
                            "cannot be proven: the text of policy %.64s changes all the time", run.policies[0].name);
            status = 409;
        }
        if (status == 0) {
            run.done = on_proven;
            run.self = d;
            q->gate = daemon__proof_start(d, &run);
            q->proving = p->ticket;
            if (q->gate) return;
            ops_problem_add(&problems, p->name, EXPECTED_LATER, "no thread can be had to prove it");
            status = 503;
        }
        if (status < 300) refused_forget(d, p->name);
        else refused_keep(d, p->name, problems.items[0].what);
        put_answer(d, p, status, word_of(d, p->name), &problems);
        gate_run_deinit(&run);
    }
}

/* Whom a refusal concerns: nobody's link was touched. */
static void refuse(struct daemon *d, struct put *p, const struct buffer *lines)
{
    struct ops_problems problems = { .count = 0 };
    char text[1300];
    const char *end = memchr(lines->data, '\n', lines->len);
    text_copy(text, sizeof text, (const char *)lines->data, end ? (size_t)(end - (const char *)lines->data) : lines->len);
    struct handle h = runtime_find(d->rt, p->name);
    log_printf(d->options.log, LOG_WARNING, p->name, "what was put over the API is refused: %s", text);
    if (!handle_is_none(h)) runtime_note(d->rt, h, "a change over the API was refused by the gate: what runs goes on");
    refused_keep(d, p->name, text);
    ops_problem_add(&problems, p->name, EXPECTED_PROVEN, "%s", text);
    put_answer(d, p, 409, "", &problems);
}

static void on_proven(void *self, const struct gate_run *run)
{
    struct daemon *d = self;
    struct puts *q = &d->puts;
    struct buffer lines;
    buffer_init(&lines, 0);
    bool good = daemon__proof_judge(d, run, &lines);
    if (good && lines.len) log_printf(d->options.log, LOG_WARNING, NULL, "%.*s", (int)lines.len - 1, (const char *)lines.data);
    /* It may have been called off meanwhile: then nobody waits for this. */
    if (!good && q->first && q->first->ticket == q->proving) refuse(d, q->first, &lines);
    buffer_deinit(&lines);
    gate_destroy(q->gate);
    q->gate = NULL;
    go_on(d);
}

void daemon__puts_pause(struct daemon *d)
{
    while (d->puts.first) {
        daemon__put_call_off(d, d->puts.first->name, 503, "this one is shutting down", "another holdfast");
    }
    gate_destroy(d->puts.gate);
    d->puts.gate = NULL;
}

void daemon__puts_deinit(struct daemon *d)
{
    while (d->puts.first) {
        struct put *p = d->puts.first;
        put_take(d, p);
        put_free(p);
    }
    gate_destroy(d->puts.gate);
    d->puts.gate = NULL;
}

/* --- for status ------------------------------------------------------------------------------------- */

static void refused_forget(struct daemon *d, const char *name)
{
    for (uint32_t i = 0; i < PUTS_REFUSED_MAX; i++) {
        if (strcmp(d->puts.refused[i].name, name) == 0) d->puts.refused[i].name[0] = 0;
    }
}

static void refused_keep(struct daemon *d, const char *name, const char *text)
{
    struct puts *q = &d->puts;
    uint32_t at = 0;
    refused_forget(d, name);
    for (uint32_t i = 0; i < PUTS_REFUSED_MAX; i++) {
        if (!q->refused[i].name[0] || (q->refused[at].name[0] && q->refused[i].wall_ms < q->refused[at].wall_ms)) at = i;
    }
    text_copy(q->refused[at].name, sizeof q->refused[at].name, name, strlen(name));
    text_copy(q->refused[at].text, sizeof q->refused[at].text, text, strlen(text));
    q->refused[at].wall_ms = runtime_clock(d->rt).wall_ms;
}

bool daemon__puts_view(void *self, struct buffer *out)
{
    const struct daemon *d = self;
    char at[TIMESTAMP_TEXT_MAX];
    bool ok = buffer_append_text(out, "{\"proving\":["), first = true;
    for (const struct put *p = d->puts.first; ok && p; p = p->next)
        ok = (p == d->puts.first || buffer_append_char(out, ',')) && text_json_string(out, p->name, strlen(p->name));
    ok = ok && buffer_append_text(out, "],\"refused\":[");
    for (uint32_t i = 0; ok && i < PUTS_REFUSED_MAX; i++) {
        const char *name = d->puts.refused[i].name, *text = d->puts.refused[i].text;
        if (!name[0]) continue;
        ok = buffer_append_text(out, first ? "{\"connection\":" : ",{\"connection\":") && text_json_string(out, name, strlen(name)) &&
             buffer_printf(out, ",\"at\":\"%s\",\"why\":", timestamp_format(d->puts.refused[i].wall_ms, at)) &&
             text_json_string(out, text, strlen(text)) && buffer_append_char(out, '}');
        first = false;
    }
    return ok && buffer_append_text(out, "]}");
}
