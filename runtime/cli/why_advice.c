/* Why, the useful half: what would make it recover, and what an operator can do about it. Advice
 * goes by the kind of the cause, because codes mean something else on each platform; their meaning
 * is in the rule's note.
 *
 * To add advice: a line in `kinds`, or a case of its own in advise_down() when it depends on more.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cli/why.h"

static void step(struct why_summary *s, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void step(struct why_summary *s, const char *format, ...)
{
    va_list args;
    if (s->step_count == WHY_STEPS_MAX) return;
    va_start(args, format);
    vsnprintf(s->steps[s->step_count++], WHY_TEXT_MAX, format, args);
    va_end(args);
}

static const cJSON *get(const cJSON *object, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

static bool is(const char *text, const char *other)
{
    return strcmp(text, other) == 0;
}

/* A refused credential: told by HTTP, or by the words of the rule that knows the platform. */
static bool credential_refused(const cJSON *cause, const struct why_summary *s)
{
    int http = (int)words_number(cause, "http_status");
    return http == 401 || strcasestr(s->note, "token") || strcasestr(s->note, "credential") ||
           strcasestr(s->note, "secret");
}

/* What needs no more than the kind. `%s` stands for the connection's name, where there is one. */
static const struct {
    const char *kind, *first, *second;
} kinds[] = {
    { "refused",
      "nobody listens at the address: see whether the platform is down, or the address in the "
      "configuration is wrong",
      NULL },
    { "unreachable",
      "this machine has no way to the host: look at its network, routes and firewall", NULL },
    { "connect", "look at this machine's network and firewall, and at the proxy if there is one",
      NULL },
    { "resolve", "look at the host name in the configuration and at this machine's DNS", NULL },
    { "address",
      "correct the address, or allow its host in the policy's `hosts`; then `holdfast reload`",
      NULL },
    { "proxy",
      "look at the proxy of the connection (`proxy`, or HTTPS_PROXY of the daemon): is it there, are "
      "user and password right, does it let CONNECT pass to this host?",
      "`proxy = false` on the connection goes there without it" },
    { "tls",
      "what answers there speaks no TLS that holdfast takes (1.2 at least): look at address and "
      "proxy",
      NULL },
    { "certificate",
      "if the platform has a CA of its own: ca_file = \"PATH\" on the connection, then `holdfast "
      "reload`",
      "otherwise somebody stands in between, or this machine's clock is wrong: find "
      "out before trusting it" },
    { "upgrade_bad",
      "what answers there is no WebSocket server: look at the address and at what stands in "
      "front of it",
      NULL },
    { "protocol",
      "tell the platform's owner: its server breaks RFC 6455; the connection goes on by itself",
      NULL },
    { "too_big",
      "if such messages are meant to come: tune = { sizes = { message = \"...\" } } on the "
      "connection",
      NULL },
    { "inflate", "if it repeats, leave `compress` out of the connection", NULL },
    { "silence",
      "nothing, unless it repeats: then something on the way drops quiet connections (firewall, "
      "NAT, "
      "proxy)",
      NULL },
    { "beat", "nothing, unless it repeats: then the platform or something on the way is deaf",
      NULL },
    { "conflict", "find the other installation that uses these credentials and stop one of the two",
      NULL },
    { "backlog_full",
      "a consumer is too slow or gone: see `holdfast status %s`; it must acknowledge, or the "
      "backlog needs more room",
      NULL },
    { "store", "look at the disk that holds the store: full, slow or read-only?", NULL },
    { "internal",
      "report it with the log of that minute: it is a bug of holdfast, and costs this connection "
      "alone",
      NULL },
    { "wished",
      "look at what in the policy closes it: a link on which nothing happens is quiet and not dead, "
      "pings prove it alive, and no watchdog of events is needed",
      NULL },
    { "suspend", "nothing: the machine slept, the link could not outlive that", NULL },
    { "hook", "correct the policy where the story below says it failed, then `holdfast reload`",
      NULL },
};

static void advise_http(const cJSON *cause, struct why_summary *s)
{
    int http = (int)words_number(cause, "http_status");
    if (http == 429)
        step(s, "nothing: the platform asked for patience, and more attempts make it worse");
    else if (http == 401 || http == 403)
        step(s, "look at the credentials, and at whether this machine's address is blocked");
    else if (http == 404)
        step(s, "look at the address in the configuration: the platform knows no such page");
    else if (http >= 500)
        step(s, "nothing here: the platform has trouble of its own; see its status page");
    else if (http >= 300 && http < 400)
        step(s, "the platform redirects elsewhere: put the new address into the configuration");
    else if (http)
        step(s, "look at the address and at what stands in front of the platform");
}

static void advise_timeout(const cJSON *cause, struct why_summary *s)
{
    const char *stage = words_text(cause, "stage");
    if (is(stage, "resolving"))
        step(s, "look at this machine's DNS");
    else if (is(stage, "connecting"))
        step(s, "packets get lost on the way: look at firewall, routes and proxy");
    else if (is(stage, "securing"))
        step(s, "the TCP connection stands and nobody speaks TLS: look at address and proxy");
    else
        step(s, "nothing here: the platform took the connection and then said nothing in time; see "
                "its status page");
}

/* A policy that gives up over an HTTP call repeats the call's own cause: "certificate: ...". */
static void kind_find(const cJSON *cause, char out[32])
{
    const char *kind = words_text(cause, "kind"), *reason = words_text(cause, "reason");
    size_t len = strcspn(reason, ": ");
    if (is(words_text(cause, "name"), "conflict")) kind = "conflict"; /* so policies call a second client */
    bool repeats = (is(kind, "failed") || is(kind, "call")) && reason[len] == ':' && len < 32;
    snprintf(out, 32, "%.*s", repeats ? (int)len : 31, repeats ? reason : kind);
}

/* Down, or coming up after failures: it goes on by itself; what helps it along? */
static void advise_down(const cJSON *view, const cJSON *cause, struct why_summary *s)
{
    const char *name = words_text(view, "name");
    char kind[32];
    kind_find(cause, kind);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (!is(kinds[i].kind, kind)) continue;
        char text[WHY_TEXT_MAX];
        const char *at = strstr(kinds[i].first, "%s");
        int before = at ? (int)(at - kinds[i].first) : (int)strlen(kinds[i].first);
        snprintf(text, sizeof text, "%.*s%s%s", before, kinds[i].first, at ? name : "",
                 at ? at + 2 : "");
        step(s, "%s", text);
        if (kinds[i].second) step(s, "%s", kinds[i].second);
    }
    if (is(kind, "timeout"))
        advise_timeout(cause, s);
    else if (words_number(cause, "http_status") > 0)
        advise_http(cause, s);
    if (!s->step_count && is(words_text(view, "whose"), "another_client"))
        step(s, "find the other installation that uses these credentials and stop one of the two");
    if (!s->step_count && is(words_text(view, "whose"), "platform") && words_number(view, "attempt") >= 3)
        step(s, "nothing here: the platform ends each attempt; see its status page");
    if (s->note[0] && !s->step_count) step(s, "see the rule's note above");
    if (!s->step_count) step(s, "nothing");
}

static void advise_stopped(const cJSON *view, const cJSON *cause, struct why_summary *s)
{
    const char *name = words_text(view, "name");
    if (!cJSON_IsTrue(get(view, "stop_is_fatal"))) {
        snprintf(s->recovers, sizeof s->recovers, "when somebody starts it");
        step(s, "holdfast start %s", name);
        return;
    }
    if (credential_refused(cause, s)) {
        snprintf(s->recovers, sizeof s->recovers,
                 "never with these credentials: the platform refused them for good");
        step(s, "put good credentials where the configuration reads them");
        step(s, "holdfast reload   (changed settings start it again; new variables of the "
                "environment need a "
                "restart of holdfast)");
        step(s, "holdfast start %s   if it was the platform that was wrong", name);
        return;
    }
    snprintf(s->recovers, sizeof s->recovers,
             "never as it is: the policy holds this cause for fatal");
    if (s->note[0])
        step(s, "change what the rule names: \"%.300s\"", s->note);
    else
        step(s, "find out what the platform means by it");
    step(s, "holdfast reload   (changed settings start it again)");
    step(s, "holdfast start %s   if nothing had to change on this side", name);
}

static void say_bound(const cJSON *view, struct why_summary *s)
{
    char span[WORDS_MAX];
    double bound = words_number(view, "recovers_within_ms");
    snprintf(s->recovers, sizeof s->recovers, "by itself");
    if (!(bound > 0)) return;
    snprintf(s->recovers, sizeof s->recovers,
             "by itself: it goes on trying, and is up within %s at the very most once the "
             "platform is well and reachable",
             words_span((uint64_t)bound, span));
}

static bool people_have(const cJSON *view)
{
    const cJSON *start = get(get(view, "budgets"), "start");
    return words_number(start, "left_for_people") > 0 && words_number(start, "left") == 0;
}

void why_advise(const cJSON *view, uint64_t now_ms, struct why_summary *s)
{
    const char *state = words_text(view, "state"), *name = words_text(view, "name");
    const cJSON *cause = get(view, "cause"), *next = get(view, "next");
    uint64_t at_ms = words_time(words_text(next, "at"));
    if (is(state, "stopped")) {
        advise_stopped(view, cause, s);
    } else if (is(state, "up")) {
        /* Up again, and not for the first time. */
        if (words_number(view, "attempt") >= 2) advise_down(view, cause, s);
        if (!s->step_count) step(s, "nothing");
    } else if (is(state, "queued")) {
        snprintf(s->recovers, sizeof s->recovers,
                 "by itself, when its turn comes and the platform is well");
        step(s, "nothing: the budget keeps the platform from blocking the account; waiting costs "
                "less than that");
        if (people_have(view)) {
            step(s, "holdfast start %s --spend-reserve   takes one of those kept for people", name);
        }
    } else {
        say_bound(view, s);
        advise_down(view, cause, s);
        if (is(state, "waiting") && at_ms > now_ms + 5000 && s->step_count < WHY_STEPS_MAX) {
            step(s, "holdfast start %s   dials now instead of then", name);
        }
    }
}
