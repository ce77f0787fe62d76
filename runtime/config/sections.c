/* The sections of the configuration but its connections: listen, store, policies. */
#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "base/assert.h"
#include "base/duration.h"
#include "base/text.h"
#include "config/config_internal.h"

#define CONFIG_PROVE_MS_MAX 600000u
#define CONFIG_TRIAL_MS_MIN 1000u
#define CONFIG_TRIAL_MS_MAX (24u * 3600 * 1000)

static void trial_read(const struct config_place *p, const struct value *v, struct config *out);
static void http_read(const struct config_place *p, const struct value *v,
                      struct config_listen *out);
static void tokens_read(const struct config_place *p, const struct value *v,
                        struct config_listen *out);
static void token_read(const struct config_place *p, const struct value *row, const char *key,
                       struct config_listen *out);
static unsigned scopes_read(const struct config_place *p, const struct value *v, const char *key);
static void token_add(struct config_listen *out, struct secret *s, unsigned scopes,
                      const char *consumer);

void config__listen(const struct config_place *p, const struct value *v, struct config_listen *out)
{
    static const char *const names[] = { "unix", "http", "token", "tokens" };
    if (!config__keys(p, v, names, 4) && v->kind != VALUE_TABLE) return;
    const struct value *path = value_get(v, "unix"), *http = value_get(v, "http");
    const struct value *token = value_get(v, "token"), *tokens = value_get(v, "tokens");
    if (path) {
        bool off = path->kind == VALUE_BOOL && !path->boolean;
        free(out->unix_path);
        out->unix_path = off ? NULL : config__path(p, v, "unix");
        size_t most = sizeof(((struct sockaddr_un *)0)->sun_path) - 1;
        if (out->unix_path && strlen(out->unix_path) > most) {
            config__error(p, path, "unix",
                          "is %zu bytes long with its folder; a socket's path may have %zu",
                          strlen(out->unix_path), most);
        }
    }
    if (http && !(http->kind == VALUE_BOOL && !http->boolean)) http_read(p, http, out);
    if (token && tokens) {
        config__error(p, token, "token", "excludes `tokens`; put it into that list");
    } else if (token && token->kind == VALUE_SECRET) {
        token_add(out, token->secret, SCOPE_OPERATE, "");
    } else if (token) {
        config__error(p, token, "token", "expected secret { ... }, got %s", config__kind(token));
    }
    if (tokens) tokens_read(p, tokens, out);
    if (!out->unix_path && !out->http) {
        config__error(p, v, NULL, "listens nowhere: give it `unix` or `http`");
    }
}

void config__store(const struct config_place *p, const struct value *v, struct config *out)
{
    static const char *const names[] = { "path", "memory", "journal_age" };
    if (!config__keys(p, v, names, 3) && v->kind != VALUE_TABLE) return;
    const struct value *memory = value_get(v, "memory"), *age = value_get(v, "journal_age");
    const char *age_text = age ? value_text(age) : NULL;
    if (age && (!age_text || !duration_parse(age_text, age->string.len, &out->store_journal_age_ms) ||
                out->store_journal_age_ms == 0)) {
        config__error(p, age, "journal_age", "expected a duration such as \"30d\", got %s",
                      config__kind(age));
        out->store_journal_age_ms = 0;
    }
    if (memory && memory->kind != VALUE_BOOL) {
        config__error(p, memory, "memory", "expected true or false, got %s", config__kind(memory));
    } else if (memory && memory->boolean && value_get(v, "path")) {
        config__error(p, memory, "memory", "excludes `path`: nothing is written then");
    } else if (memory) {
        out->store_memory = memory->boolean;
    }
    char *path = config__path(p, v, "path");
    if (!path) return;
    free(out->store_path);
    out->store_path = path;
}

void config__policies(const struct config_place *p, const struct value *v, struct config *out)
{
    static const char *const names[] = { "path", "prove", "watch", "trial" };
    if (!config__keys(p, v, names, 4) && v->kind != VALUE_TABLE) return;
    const struct value *path = value_get(v, "path"), *prove = value_get(v, "prove");
    const struct value *watch = value_get(v, "watch");
    const char *cap = value_text(prove);
    if (value_get(v, "trial")) trial_read(p, value_get(v, "trial"), out);
    if (watch && watch->kind == VALUE_BOOL) out->watch = watch->boolean;
    else if (watch) config__error(p, watch, "watch", "expected true or false, got %s", config__kind(watch));
    if (prove && prove->kind == VALUE_BOOL && !prove->boolean) {
        out->prove_ms = 0;
    } else if (prove && (!cap || !duration_parse(cap, prove->string.len, &out->prove_ms) ||
                         out->prove_ms == 0 || out->prove_ms > CONFIG_PROVE_MS_MAX)) {
        config__error(p, prove, "prove", "expected a duration from \"1ms\" to \"10m\", or false, got %s",
                      config__kind(prove));
        out->prove_ms = CONFIG_PROVE_MS;
    }
    if (!path) return;
    uint32_t count = path->kind == VALUE_TABLE ? value_length(path) : 1;
    if (path->kind == VALUE_TABLE && (count == 0 || count != path->table->count)) {
        config__error(p, path, "path", "expected a path or a list of paths");
        return;
    }
    for (uint32_t i = 0; i < out->policy_path_count; i++) free(out->policy_paths[i]);
    free(out->policy_paths);
    out->policy_paths = calloc(count, sizeof *out->policy_paths);
    ASSERT(out->policy_paths != NULL);
    out->policy_path_count = 0;
    for (uint32_t i = 1; i <= count; i++) {
        const struct value *item = path->kind == VALUE_TABLE ? value_at(path, i) : path;
        const char *text = value_text(item);
        if (!text || !text[0] || strlen(text) != item->string.len) {
            config__error(p, item, "path", "expected a path, got %s", config__kind(item));
            continue;
        }
        out->policy_paths[out->policy_path_count++] = config__join(p->folder, text);
    }
}

/* "10%": above 0 and at most 100, with at most two decimals. */
static bool share_parse(const char *text, size_t len, double *share)
{
    char *end;
    if (!text || strlen(text) != len || len < 2 || text[len - 1] != '%' || strspn(text, "0123456789.") != len - 1) return false;
    double percent = strtod(text, &end);
    *share = percent / 100;
    return end == text + len - 1 && percent > 0 && percent <= 100;
}

/* trial = { share = "10%", watch = "10m", rehearse = true }, or false. */
static void trial_read(const struct config_place *p, const struct value *v, struct config *out)
{
    static const char *const names[] = { "share", "watch", "rehearse" };
    char name[96];
    snprintf(name, sizeof name, "%s.trial", p->name);
    struct config_place here = { p->problems, p->file, p->folder, name };
    out->trial.share = 0;
    if (v->kind == VALUE_BOOL && !v->boolean) return;
    if (v->kind != VALUE_TABLE) {
        config__error(p, v, "trial", "expected { share = \"10%%\", watch = \"10m\" }, or false, got %s", config__kind(v));
        return;
    }
    config__keys(&here, v, names, 3);
    const struct value *share = value_get(v, "share"), *watch = value_get(v, "watch"), *rehearse = value_get(v, "rehearse");
    const char *share_text = value_text(share), *watch_text = value_text(watch);
    if (!share || !share_parse(share_text, share->string.len, &out->trial.share)) {
        config__error(&here, share ? share : v, "share", "expected a part of the connections such as \"10%%\", got %s",
                      share ? config__kind(share) : "nothing");
        out->trial.share = 0;
    }
    if (!watch || !watch_text || !duration_parse(watch_text, watch->string.len, &out->trial.watch_ms) ||
        out->trial.watch_ms < CONFIG_TRIAL_MS_MIN || out->trial.watch_ms > CONFIG_TRIAL_MS_MAX) {
        config__error(&here, watch ? watch : v, "watch", "expected a duration from \"1s\" to \"24h\", got %s",
                      watch ? config__kind(watch) : "nothing");
        out->trial.share = 0;
    }
    if (rehearse && rehearse->kind == VALUE_BOOL) out->trial.rehearse = rehearse->boolean;
    else if (rehearse) config__error(&here, rehearse, "rehearse", "expected true or false, got %s", config__kind(rehearse));
}

/* "127.0.0.1:7600" or "[::1]:7600": addresses alone, because a name may mean something else
 * tomorrow. */
static void http_read(const struct config_place *p, const struct value *v,
                      struct config_listen *out)
{
    const char *text = value_text(v), *colon = text ? strrchr(text, ':') : NULL;
    struct in_addr v4;
    struct in6_addr v6;
    char host[64] = "", *end = NULL;
    unsigned long port = 0;
    bool good = colon && strlen(text) == v->string.len && colon[1] >= '0' && colon[1] <= '9';
    if (good) {
        port = strtoul(colon + 1, &end, 10);
        good = *end == 0 && port <= 65535 && (size_t)(colon - text) < sizeof host;
    }
    if (good) {
        size_t n = (size_t)(colon - text);
        bool brackets = n > 2 && text[0] == '[' && text[n - 1] == ']';
        text_copy(host, sizeof host, text + (brackets ? 1 : 0), n - (brackets ? 2 : 0));
        good = brackets ? inet_pton(AF_INET6, host, &v6) == 1 : inet_pton(AF_INET, host, &v4) == 1;
    }
    if (!good) {
        config__error(p, v, "http", "expected an address and a port, such as \"127.0.0.1:7600\"");
        return;
    }
    out->http = true;
    out->http_port = (uint16_t)port;
    memcpy(out->http_host, host, sizeof host);
    bool loopback = strchr(host, ':') ? IN6_IS_ADDR_LOOPBACK(&v6) : ntohl(v4.s_addr) >> 24 == 127;
    if (!loopback) {
        problems_add(p->problems, true, p->file, v->line, "listen.http",
                     "%s is reachable from other machines, without TLS: tokens travel readable",
                     host);
    }
}

static void tokens_read(const struct config_place *p, const struct value *v,
                        struct config_listen *out)
{
    uint32_t count = value_length(v);
    if (v->kind != VALUE_TABLE || count == 0 || count != v->table->count ||
        count > CONFIG_TOKENS_MAX) {
        config__error(p, v, "tokens",
                      "expected a list of 1 to %d of { secret = secret { ... }, scope = \"read\" }",
                      CONFIG_TOKENS_MAX);
        return;
    }
    for (uint32_t i = 1; i <= count; i++) {
        char key[32];
        snprintf(key, sizeof key, "tokens[%u]", i);
        token_read(p, value_at(v, i), key, out);
    }
}

static void token_read(const struct config_place *p, const struct value *row, const char *key,
                       struct config_listen *out)
{
    static const char *const names[] = { "secret", "scope", "consumer" };
    char name[96];
    snprintf(name, sizeof name, "%s.%s", p->name, key);
    struct config_place here = { p->problems, p->file, p->folder, name };
    if (!config__keys(&here, row, names, 3) && row->kind != VALUE_TABLE) return;
    const struct value *secret = value_get(row, "secret"), *scope = value_get(row, "scope");
    const struct value *consumer = value_get(row, "consumer");
    const char *who = "";
    bool good = true;
    if (!secret || secret->kind != VALUE_SECRET) {
        config__error(&here, secret ? secret : row, "secret", "expected secret { ... }, got %s",
                      secret ? config__kind(secret) : "nothing");
        good = false;
    }
    unsigned scopes = scopes_read(&here, scope ? scope : row, "scope");
    if (consumer) {
        who = value_text(consumer) ? value_text(consumer) : "";
        if (!config_name_is_valid(who) || !(scopes & SCOPE_CONSUME)) {
            config__error(&here, consumer, "consumer",
                          "expected a consumer's name, beside the scope \"consume\"");
            good = false;
        }
    }
    if (good && scopes) token_add(out, secret->secret, scopes, who);
}

static unsigned scopes_read(const struct config_place *p, const struct value *v, const char *key)
{
    static const char *const words[] = { "read", "consume", "operate" };
    bool list = v->kind == VALUE_TABLE && value_length(v) > 0;
    unsigned scopes = 0;
    for (uint32_t i = 1; i <= (list ? value_length(v) : 1); i++) {
        const char *word = value_text(list ? value_at(v, i) : v);
        unsigned bit = 0;
        for (unsigned k = 0; word && k < 3; k++) {
            if (strcmp(word, words[k]) == 0) bit = 1u << k;
        }
        if (!bit) {
            config__error(p, v, key,
                          "expected \"read\", \"consume\", \"operate\", or a list of them");
            return 0;
        }
        scopes |= bit;
    }
    return scopes;
}

static void token_add(struct config_listen *out, struct secret *s, unsigned scopes,
                      const char *consumer)
{
    out->tokens = realloc(out->tokens, (out->token_count + 1) * sizeof *out->tokens);
    ASSERT(out->tokens != NULL);
    struct config_token *t = &out->tokens[out->token_count++];
    if (scopes & SCOPE_OPERATE) scopes |= SCOPE_READ | SCOPE_CONSUME;
    *t = (struct config_token){ .secret = secret_ref(s), .scopes = scopes };
    text_copy(t->consumer, sizeof t->consumer, consumer, strlen(consumer));
}
