/* Words: causes, times and sizes as people say them. */
#include "cli/words.h"

#include "base/duration.h"
#include "base/text.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* By the cause's kind. */
static const struct {
    const char *kind, *phrase;
} phrases[] = {
    { "hook", "the policy's own code failed" },
    { "call", "no answer to an HTTP call" },
    { "timeout", "" }, /* said with its stage */
    { "address", "not an address to dial" },
    { "resolve", "the name did not resolve" },
    { "refused", "connection refused" },
    { "unreachable", "no way to the host" },
    { "connect", "could not connect" },
    { "proxy", "the proxy was no help" },
    { "tls", "no TLS with the peer" },
    { "certificate", "the certificate is not good" },
    { "upgrade_refused", "the upgrade was refused" },
    { "upgrade_bad", "no proper answer to the upgrade" },
    { "closed", "closed" },
    { "eof", "the stream ended without a close frame" },
    { "reset", "the stream was reset" },
    { "io", "the socket failed" },
    { "protocol", "the peer broke the WebSocket protocol" },
    { "too_big", "a message was too big" },
    { "inflate", "compressed data could not be read" },
    { "silence", "nothing came, and probes stayed unanswered" },
    { "beat", "a heartbeat stayed unanswered" },
    { "wished", "closed by the policy" },
    { "retired", "replaced as planned" },
    { "suspend", "the machine slept" },
    { "conflict", "somebody else holds the identity" },
    { "backlog_full", "the backlog stayed full" },
    { "stopped", "stopped by an operator" },
    { "restarted", "restarted by an operator" },
    { "shutdown", "the daemon ends" },
    { "store", "the store failed" },
    { "internal", "a bug of holdfast, kept to this connection" },
};

const char *words_text(const cJSON *object, const char *key)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));
    return text ? text : "";
}

double words_number(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

const char *words_cause(const cJSON *cause, char out[WORDS_MAX])
{
    const char *kind = words_text(cause, "kind"), *name = words_text(cause, "name");
    const char *stage = words_text(cause, "stage"), *reason = words_text(cause, "reason");
    int close_code = (int)words_number(cause, "close_code"), http = (int)words_number(cause, "http_status");
    int n = 0;
    out[0] = 0;
    if (!cJSON_IsObject(cause)) return out;
    const char *phrase = NULL;
    for (size_t i = 0; i < sizeof phrases / sizeof *phrases; i++) {
        if (strcmp(phrases[i].kind, kind) == 0) phrase = phrases[i].phrase;
    }
    if (phrase && strcmp(kind, "timeout") == 0) {
        n = snprintf(out, WORDS_MAX, "%s took too long", stage);
    } else if (strcmp(kind, "ended") == 0) {
        n = snprintf(out, WORDS_MAX, "%s%s", strcmp(name, "conflict") == 0 ? "somebody else took over its identity" : "the platform announced ",
                     strcmp(name, "conflict") == 0 ? "" : name);
    } else {
        /* What the policy named itself needs no other words. */
        n = snprintf(out, WORDS_MAX, "%s", phrase ? phrase : name);
    }
    if (close_code && n < WORDS_MAX) n += snprintf(out + n, WORDS_MAX - (size_t)n, " with %d", close_code);
    if (http && n < WORDS_MAX) n += snprintf(out + n, WORDS_MAX - (size_t)n, ", HTTP %d", http);
    /* "stopped by an operator" need not be said twice. */
    bool says_more = !phrase || strcmp(reason, phrase) != 0;
    if (reason[0] && says_more && n < WORDS_MAX) snprintf(out + n, WORDS_MAX - (size_t)n, ": %.150s", reason);
    return out;
}

const char *words_next(const char *what, const char *at, uint64_t now_ms, char out[WORDS_MAX])
{
    char span[WORDS_MAX];
    uint64_t at_ms = words_time(at);
    out[0] = 0;
    if (!at_ms) return out;
    if (at_ms <= now_ms) {
        snprintf(out, WORDS_MAX, "%.60s now", *what ? what : "next");
    } else {
        snprintf(out, WORDS_MAX, "%.60s in %.60s", *what ? what : "next", words_span(at_ms - now_ms, span));
    }
    return out;
}

uint64_t words_time(const char *timestamp)
{
    struct tm t = { 0 };
    int ms = 0;
    if (sscanf(timestamp, "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ", &t.tm_year, &t.tm_mon, &t.tm_mday, &t.tm_hour,
               &t.tm_min, &t.tm_sec, &ms) != 7) {
        return 0;
    }
    t.tm_year -= 1900;
    t.tm_mon -= 1;
    time_t seconds = timegm(&t);
    return seconds < 0 ? 0 : (uint64_t)seconds * 1000 + (uint64_t)ms;
}

uint64_t words_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

const char *words_span(uint64_t ms, char out[WORDS_MAX])
{
    return duration_span(ms, out);
}

const char *words_clock(uint64_t wall_ms, char out[WORDS_MAX])
{
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm local;
    localtime_r(&seconds, &local);
    snprintf(out, WORDS_MAX, "%02d:%02d:%02d.%03d", local.tm_hour, local.tm_min, local.tm_sec,
             (int)(wall_ms % 1000));
    return out;
}

const char *words_bytes(double bytes, char out[WORDS_MAX])
{
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
    unsigned u = 0;
    while (bytes >= 1024 && u < 4) {
        bytes /= 1024;
        u++;
    }
    snprintf(out, WORDS_MAX, u ? "%.1f %s" : "%.0f %s", bytes, units[u]);
    return out;
}

enum term_colour words_state_colour(const char *state, bool fatal)
{
    if (strcmp(state, "up") == 0) return TERM_GREEN;
    if (strcmp(state, "stopped") == 0) return fatal ? TERM_RED : TERM_DIM;
    if (strcmp(state, "waiting") == 0 || strcmp(state, "queued") == 0) return TERM_YELLOW;
    return TERM_CYAN;
}

/* Ahead of everything else: it concerns every connection. */
void words_store(struct buffer *out, const struct term *t, const cJSON *store)
{
    char a[WORDS_MAX];
    const char *why = words_text(store, "why");
    if (!cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(store, "degraded"))) return;
    buffer_printf(out, "%sthe store cannot write:%s ", term_on(t, TERM_RED), term_off(t, TERM_RED));
    text_printable(out, why, strlen(why));
    buffer_printf(out, " (since %s; %s wait in memory; early acknowledgements and session starts are held back)\n",
                  words_text(store, "since"), words_bytes(words_number(store, "pending_bytes"), a));
}
