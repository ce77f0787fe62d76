/* Why, in words: state, cause, decision and what follows. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/why.h"

static void say(char out[WHY_TEXT_MAX], const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Appends. */
static void say(char out[WHY_TEXT_MAX], const char *format, ...)
{
    size_t len = strlen(out);
    va_list args;
    va_start(args, format);
    vsnprintf(out + len, WHY_TEXT_MAX - len, format, args);
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

const char *why_clock(uint64_t wall_ms, uint64_t now_ms, char out[WORDS_MAX])
{
    time_t then = (time_t)(wall_ms / 1000), now = (time_t)(now_ms / 1000);
    struct tm a, b;
    localtime_r(&then, &a);
    localtime_r(&now, &b);
    bool today = a.tm_yday == b.tm_yday && a.tm_year == b.tm_year;
    strftime(out, WORDS_MAX, today ? "%H:%M:%S" : "%a %d %b %H:%M:%S", &a);
    return out;
}

const char *why_cause(const cJSON *cause, char out[WHY_TEXT_MAX])
{
    static const struct {
        const char *stage, *words;
    } stages[] = {
        { "preparing", "before the dial" },   { "resolving", "while looking up the name" },
        { "connecting", "while connecting" }, { "securing", "in the TLS handshake" },
        { "upgrading", "in the upgrade" },    { "greeting", "in the greeting" },
        { "ready", "while it was up" },       { "draining", "in a handover" },
        { "closing", "while closing" },
    };
    char words[WORDS_MAX];
    const char *kind = words_text(cause, "kind"), *by = words_text(cause, "by"), *stage = "";
    out[0] = 0;
    if (!cJSON_IsObject(cause) || is(kind, "none")) return out;
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++) {
        if (is(stages[i].stage, words_text(cause, "stage"))) stage = stages[i].words;
    }
    if (is(kind, "timeout")) {
        say(out, "%s took longer than its limit", words_text(cause, "stage"));
        return out;
    }
    words_cause(cause, words);
    const bool answered = words_number(cause, "http_status") > 0 || words_number(cause, "code") != 0;
    say(out, "%s%s", is(kind, "failed") && !answered ? "the policy gave up: " : "", words);
    if (is(by, "operator")) return out;
    bool told = is(kind, "failed") || is(kind, "ended") || is(kind, "wished");
    by = told ? "" : is(by, "peer") ? "by the platform" : is(by, "policy") ? "by the policy" : "";
    if (by[0] || stage[0]) say(out, " (%s%s%s)", by, by[0] && stage[0] ? ", " : "", stage);
    return out;
}

const char *why_outcome(const cJSON *decision, char out[WHY_TEXT_MAX])
{
    char a[WORDS_MAX], b[WORDS_MAX];
    const char *drop = words_text(decision, "drop"), *pace = words_text(decision, "pace");
    const cJSON *wish = get(decision, "wish_ms");
    double low = cJSON_GetNumberValue(cJSON_GetArrayItem(wish, 0));
    double high = cJSON_GetNumberValue(cJSON_GetArrayItem(wish, 1));
    double backoff = words_number(decision, "backoff_ms"),
           delay = words_number(decision, "delay_ms");
    out[0] = 0;
    if (!cJSON_IsObject(decision)) return out;
    if (is(pace, "stop")) {
        say(out, "stop");
        return out;
    }
    say(out, "dial again after %s", words_span((uint64_t)delay, a));
    if (is(pace, "slow")) say(out, ", at the slow pace");
    if (is(drop, "fresh")) say(out, ", with a new session");
    if (is(drop, "renew")) say(out, ", with a new session and newly fetched values");
    if (cJSON_IsTrue(get(decision, "planned"))) say(out, ", as planned");
    if (!(high > 0)) return out;
    if (low == high)
        say(out, " (asked for: %s", words_span((uint64_t)high, a));
    else
        say(out, " (asked for: %s to %s", words_span((uint64_t)low, a),
            words_span((uint64_t)high, b));
    if (cJSON_IsTrue(get(decision, "clamped"))) {
        if (backoff > 0)
            say(out, "; held to the backoff, which drew %s", words_span((uint64_t)backoff, a));
        else
            say(out, "; held to the floor");
    }
    say(out, ")");
    return out;
}

const char *why_by(const cJSON *decision, const char *file, char out[WHY_TEXT_MAX])
{
    const char *by = words_text(decision, "by"), *note = words_text(decision, "note");
    double line = words_number(decision, "line");
    out[0] = 0;
    if (is(by, "operator")) {
        say(out, "by an operator");
        return out;
    }
    if (is(by, "engine"))
        say(out, "by holdfast itself");
    else
        say(out, "by %s",
            is(by, "hook")    ? "on_ended"
            : is(by, "climb") ? "the climb rule"
                              : "the rule");
    if (line > 0) say(out, " %s:%.0f", file, line);
    if (note[0]) say(out, ": \"%s\"", note);
    return out;
}

/* --- the summary ------------------------------------------------------------------------------ */

static void say_headline(const cJSON *view, struct why_summary *s)
{
    const char *name = words_text(view, "name"), *state = words_text(view, "state");
    const cJSON *link = get(view, "link");
    double failed = words_number(view, "attempt");
    say(s->headline, "%s ", name);
    if (is(state, "up")) {
        say(s->headline, "is up%s",
            cJSON_IsFalse(get(link, "settled")) ? ", but not for long yet" : "");
    } else if (is(state, "stopped")) {
        bool fatal = cJSON_IsTrue(get(view, "stop_is_fatal"));
        bool never = words_number(view, "attempts_total") == 0 && !get(view, "cause");
        if (fatal)
            say(s->headline, "is stopped and does not try again by itself");
        else
            say(s->headline, never ? "was never started" : "is stopped, as an operator wanted");
    } else if (is(state, "waiting")) {
        say(s->headline, "is down and waits for its next attempt");
    } else if (is(state, "queued")) {
        say(s->headline, "is down and queued for its budget");
    } else if (is(state, "preparing")) {
        say(s->headline, is(words_text(get(view, "next"), "what"), "turn") ? "waits for its turn to dial"
                                                                           : "is preparing its next dial");
    } else if (is(state, "linking")) {
        const char *stage = words_text(link, "state");
        say(s->headline, "is on its way up%s%s", stage[0] ? ": " : "", stage);
    } else {
        say(s->headline, "is closing its link");
    }
    if (failed > 0 && !is(state, "stopped")) {
        say(s->headline, " (%.0f failure%s in a row)", failed, failed > 1 ? "s" : "");
    }
}

static void say_next(const cJSON *view, uint64_t now_ms, struct why_summary *s)
{
    static const struct {
        const char *what, *words;
    } nexts[] = {
        { "dial", "it dials" },
        { "budget", "its turn comes" },
        { "beat", "a heartbeat is due" },
        { "ping", "a ping is due" },
        { "silence", "silence would be judged" },
        { "settled", "it counts as settled" },
        { "retire", "the link is replaced as planned" },
        { "close limit", "the link is dropped, closed or not" },
        { "abort limit", "the link is given up" },
        { "drained", "the old link is closed" },
        { "sends", "queued sends go on" },
        { "verdict limit", "on_ended must have answered" },
    };
    char clock[WORDS_MAX], span[WORDS_MAX];
    const cJSON *next = get(view, "next");
    const char *what = words_text(next, "what"), *state = words_text(view, "state");
    uint64_t at_ms = words_time(words_text(next, "at"));
    size_t len = strlen(what);
    if (!at_ms) {
        say(s->next, is(state, "stopped") ? "nothing, until somebody starts it" : "nothing is due");
        return;
    }
    if (is(what, "turn")) {
        const double ahead = words_number(next, "ahead");
        /* Its deadline is only when the wait would be a fault. */
        if (ahead > 0) say(s->next, "it dials when %.0f others, which asked before it, have begun to", ahead);
        else say(s->next, "it dials as soon as others, which do now, are through");
        return;
    }
    const char *words = NULL;
    for (size_t i = 0; i < sizeof nexts / sizeof *nexts; i++) {
        if (is(nexts[i].what, what)) words = nexts[i].words;
    }
    if (words)
        say(s->next, "%s", words);
    else if (len > 6 && is(what + len - 6, " limit"))
        say(s->next, "the limit for `%.*s` is over", (int)len - 6, what);
    else
        say(s->next, "%s", what);
    if (at_ms <= now_ms)
        say(s->next, " now");
    else
        say(s->next, " at %s, in %s", why_clock(at_ms, now_ms, clock),
            words_span(at_ms - now_ms, span));
    if (cJSON_IsTrue(get(next, "held")))
        say(s->next, "; put off: its host answers nobody, a few others try it meanwhile");
}

/* While it is queued: which budget holds it up, what is left of it, and why the next one is not now. */
static void say_budget(const cJSON *view, uint64_t now_ms, struct why_summary *s)
{
    const cJSON *b;
    cJSON_ArrayForEach(b, get(view, "budgets"))
    {
        bool has_left = get(b, "left") != NULL;
        double left = words_number(b, "left"), used = words_number(b, "used");
        double people = words_number(b, "left_for_people");
        const char *held_by = words_text(b, "held_by");
        if (is(b->string, "send") || words_time(words_text(b, "next")) <= now_ms) continue;
        say(s->budget, "%s%s: ", s->budget[0] ? "; " : "", b->string);
        if (is(held_by, "told"))
            say(s->budget, "the platform says that none is left, %.0f used here", used);
        else if (is(held_by, "window"))
            say(s->budget, "used up, %.0f in its window; %.0f in %s are allowed", used,
                words_number(b, "window_count"), words_text(b, "window"));
        else if (has_left)
            say(s->budget, "%.0f used, %.0f left; the gap between two holds it up", used, left);
        else
            say(s->budget, "%.0f used", used);
        if (people > 0 && !is(held_by, "gap")) say(s->budget, "; %.0f kept for people", people);
    }
}

/* The newest decision: of the view, or of the journal while it is up again. */
static const cJSON *decision_find(const cJSON *view, const cJSON *journal)
{
    const cJSON *e;
    if (get(view, "decision")) return get(view, "decision");
    cJSON_ArrayForEach(e, journal)
    {
        if (is(words_text(e, "kind"), "decision")) return e;
    }
    return NULL;
}

/* Whose doing it is, and how anybody would know. */
static void say_whose(const cJSON *view, struct why_summary *s)
{
    static const struct {
        const char *whose, *words;
    } all[] = {
        { "platform", "the platform's" },
        { "platform_or_network", "the platform's or the network's: from here nobody can tell which" },
        { "network", "the network's, on the way from this machine to the platform" },
        { "machine", "this machine's" },
        { "credentials", "the credentials': the platform does not take them" },
        { "limits", "this account's: it asked for more than the platform allows" },
        { "another_client", "another client's, which uses the same credentials" },
        { "configuration", "the configuration's" },
        { "policy", "the policy's own: nothing was wrong with the link that it closed" },
        { "consumer", "a consumer's, which does not take its frames" },
        { "holdfast", "holdfast's own" },
    };
    const char *whose = words_text(view, "whose"), *kind = words_text(get(view, "cause"), "kind");
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (!is(all[i].whose, whose)) continue;
        say(s->whose, "%s", is(whose, "policy") && !is(kind, "wished") ? "the policy's own" : all[i].words);
    }
}

static void say_down(const cJSON *view, uint64_t now_ms, struct why_summary *s)
{
    char clock[WORDS_MAX], span[WORDS_MAX];
    const uint64_t down_ms = words_time(words_text(view, "down_since"));
    const bool wanted = cJSON_IsTrue(get(view, "wanted")) || cJSON_IsTrue(get(view, "stop_is_fatal"));
    if (!down_ms || !wanted || is(words_text(view, "state"), "up")) return;
    say(s->down, "since %s, for %s", why_clock(down_ms, now_ms, clock), words_span(down_ms < now_ms ? now_ms - down_ms : 0, span));
}

void why_summarise(const cJSON *view, const cJSON *journal, uint64_t now_ms, struct why_summary *s)
{
    char a[WHY_TEXT_MAX], b[WHY_TEXT_MAX], clock[WORDS_MAX], span[WORDS_MAX];
    const char *state = words_text(view, "state");
    const cJSON *decision = decision_find(view, journal);
    uint64_t since_ms = words_time(words_text(view, "since"));
    memset(s, 0, sizeof *s);
    say_headline(view, s);
    say(s->since, "%s, for %s", why_clock(since_ms, now_ms, clock),
        words_span(since_ms < now_ms ? now_ms - since_ms : 0, span));
    why_cause(get(view, "cause"), s->because);
    say_whose(view, s);
    say_down(view, now_ms, s);
    if (decision && s->because[0]) {
        const char *file = words_text(decision, "file");
        say(s->decided, "%s, %s", why_outcome(decision, a), why_by(decision, file, b));
        say(s->note, "%s", words_text(decision, "note"));
    }
    if (is(state, "up") && get(view, "life")) {
        say(s->life, "%s: %s", words_text(get(view, "life"), "verdict"), words_text(get(view, "life"), "evidence"));
    }
    say(s->weather, "%s", words_text(view, "weather"));
    say(s->trial, "%s", words_text(view, "trial"));
    say_next(view, now_ms, s);
    if (is(state, "queued")) say_budget(view, now_ms, s);
    why_advise(view, now_ms, s);
}
