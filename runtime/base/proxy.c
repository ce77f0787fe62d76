/* Proxies: parses the environment's words, and judges one target by them. Pure but for its memory. */
#include "base/proxy.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/buffer.h"
#include "base/text.h"

#define PROXY_RULES_MAX 1024
#define PROXY_USERINFO_MAX 4096

struct proxy_rule {
    enum { RULE_ALL, RULE_NAME, RULE_BELOW, RULE_ADDRESS } kind;
    char name[URL_HOST_MAX]; /* NAME: itself and all below; BELOW ("*.x"): below alone */
    int family;              /* ADDRESS */
    uint8_t address[16];
    unsigned bits;           /* of it that count */
    uint16_t port;           /* 0: any */
};

static bool proxy_read(struct proxy *out, const char *variable, const char *value, char *why,
                       size_t why_bytes);
static bool rules_read(struct proxy_env *env, const char *value, char *why, size_t why_bytes);
static bool rule_read(struct proxy_rule *out, const char *text, size_t len);
static void proxy_drop(struct proxy *p);

static const char *variable_of(proxy_get get, void *self, const char *const *names, const char **value)
{
    for (; *names; names++) {
        *value = get(self, *names);
        if (*value && (*value)[0]) return *names;
    }
    return NULL;
}

bool proxy_env_read(struct proxy_env *out, proxy_get get, void *self, char *why, size_t why_bytes)
{
    static const char *const https[] = { "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", NULL };
    static const char *const http[] = { "http_proxy", "all_proxy", "ALL_PROXY", NULL };
    static const char *const none[] = { "no_proxy", "NO_PROXY", NULL };
    const char *value = NULL, *name;
    memset(out, 0, sizeof *out);
    name = variable_of(get, self, https, &value);
    if (name && !proxy_read(&out->https, name, value, why, why_bytes)) goto fail_parts;
    name = variable_of(get, self, http, &value);
    if (name && !proxy_read(&out->http, name, value, why, why_bytes)) goto fail_parts;
    /* Without a proxy the exceptions are nobody's business. */
    if (!out->https.host[0] && !out->http.host[0]) return true;
    out->rules_from = variable_of(get, self, none, &value);
    if (!out->rules_from || rules_read(out, value, why, why_bytes)) return true;

fail_parts:
    proxy_env_deinit(out);
    return false;
}

void proxy_env_deinit(struct proxy_env *env)
{
    proxy_drop(&env->https);
    proxy_drop(&env->http);
    free(env->rules);
    memset(env, 0, sizeof *env);
}

static void proxy_drop(struct proxy *p)
{
    if (!p->authorization) return;
    explicit_bzero(p->authorization, strlen(p->authorization));
    free(p->authorization);
    p->authorization = NULL;
}

/* --- one proxy ------------------------------------------------------------------------------------ */

static int hex(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Percent signs and all. False for a broken escape, or when it is too long. */
static bool decode(const char *text, size_t len, char *out, size_t out_bytes, size_t *out_len)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        if (n == out_bytes) return false;
        if (text[i] != '%') {
            out[n++] = text[i];
            continue;
        }
        int high = i + 2 < len ? hex(text[i + 1]) : -1, low = high < 0 ? -1 : hex(text[i + 2]);
        if (low < 0) return false;
        out[n++] = (char)(high << 4 | low);
        i += 2;
    }
    *out_len = n;
    return true;
}

static bool userinfo_read(struct proxy *out, const char *text, size_t len, const char **why)
{
    char user[PROXY_USERINFO_MAX], password[PROXY_USERINFO_MAX];
    size_t user_len = 0, password_len = 0;
    const char *colon = memchr(text, ':', len), *end = text + len;
    size_t first = (size_t)((colon ? colon : end) - text);
    bool ok = decode(text, first, user, sizeof user, &user_len) &&
              (!colon || decode(colon + 1, (size_t)(end - colon - 1), password, sizeof password,
                                &password_len));
    *why = "has a user name or password with a broken % escape, or one too long";
    if (ok) out->authorization = proxy_basic(user, user_len, password, password_len, why);
    explicit_bzero(user, sizeof user);
    explicit_bzero(password, sizeof password);
    return out->authorization != NULL;
}

static bool proxy_read(struct proxy *out, const char *variable, const char *value, char *why,
                       size_t why_bytes)
{
    char text[URL_HOST_MAX + 32];
    struct url u;
    const char *wrong = "is longer than 8192 bytes", *at = value;
    size_t len = strlen(value);
    if (len > URL_BYTES_MAX) goto fail_value;
    size_t scheme = strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789");
    if (strncmp(value + scheme, "://", 3) == 0) {
        wrong = "names no http:// proxy; https:// and SOCKS proxies are not supported";
        if (scheme != 4 || !text_equal_ignoring_case(value, "http", 4)) goto fail_value;
        at = value + scheme + 3;
    }
    /* A password may hold any byte but `@`, so the last one ends it, wherever a path might begin. */
    const char *host = strrchr(at, '@');
    if (host && !userinfo_read(out, at, (size_t)(host - at), &wrong)) goto fail_value;
    host = host ? host + 1 : at;
    wrong = "must be http://host:port, with nothing behind it";
    int n = snprintf(text, sizeof text, "http://%s", host);
    if (n < 0 || (size_t)n >= sizeof text || !url_parse(text, (size_t)n, &u, &wrong)) goto fail_value;
    if (u.target_len > 1 || (u.target_len == 1 && u.target[0] != '/')) {
        wrong = "must be http://host:port, with nothing behind it";
        goto fail_value;
    }
    memcpy(out->host, u.host, sizeof out->host);
    out->port = u.port;
    out->variable = variable;
    return true;

fail_value:
    snprintf(why, why_bytes, "the environment variable %s %s", variable, wrong);
    return false;
}

char *proxy_basic(const char *user, size_t user_len, const char *password, size_t password_len,
                  const char **why)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t len = user_len + 1 + password_len;
    *why = "has a colon in the user name";
    if (memchr(user, ':', user_len)) return NULL;
    *why = "has a control byte in the user name or password";
    for (size_t i = 0; i < user_len; i++) {
        if ((uint8_t)user[i] < 0x20 || user[i] == 0x7f) return NULL;
    }
    for (size_t i = 0; i < password_len; i++) {
        if ((uint8_t)password[i] < 0x20 || password[i] == 0x7f) return NULL;
    }
    uint8_t *plain = calloc(1, len + 2);
    char *text = malloc(sizeof "Basic " + (len + 2) / 3 * 4), *out;
    ASSERT(plain && text);
    if (user_len) memcpy(plain, user, user_len);
    plain[user_len] = ':';
    if (password_len) memcpy(plain + user_len + 1, password, password_len);
    out = stpcpy(text, "Basic ");
    for (size_t i = 0; i < len; i += 3) {
        uint32_t three = (uint32_t)plain[i] << 16 | (uint32_t)plain[i + 1] << 8 | plain[i + 2];
        *out++ = digits[three >> 18];
        *out++ = digits[three >> 12 & 63];
        *out++ = i + 1 < len ? digits[three >> 6 & 63] : '=';
        *out++ = i + 2 < len ? digits[three & 63] : '=';
    }
    *out = 0;
    explicit_bzero(plain, len + 2);
    free(plain);
    return text;
}

/* --- NO_PROXY -------------------------------------------------------------------------------------- */

static bool rules_read(struct proxy_env *env, const char *value, char *why, size_t why_bytes)
{
    static const char between[] = ", \t\r\n";
    size_t count = 1;
    for (const char *p = value; *p; p++) count += strchr(between, *p) != NULL;
    if (count > PROXY_RULES_MAX) count = PROXY_RULES_MAX;
    env->rules = calloc(count, sizeof *env->rules);
    ASSERT(env->rules != NULL);
    for (const char *p = value + strspn(value, between); *p;) {
        size_t len = strcspn(p, between);
        if (env->rule_count == PROXY_RULES_MAX) {
            snprintf(why, why_bytes, "the environment variable %s has more than %d entries", env->rules_from,
                     PROXY_RULES_MAX);
            return false;
        }
        if (!rule_read(&env->rules[env->rule_count], p, len)) {
            struct buffer shown;
            buffer_init(&shown, 512);
            bool ok = text_printable(&shown, p, len > 60 ? 60 : len) && buffer_append_char(&shown, 0);
            snprintf(why, why_bytes,
                     "the environment variable %s has `%s`, which is no name, .suffix, address, network or *, "
                     "with or without :port",
                     env->rules_from, ok ? (char *)shown.data : "?");
            buffer_deinit(&shown);
            return false;
        }
        env->rule_count++;
        p += len;
        p += strspn(p, between);
    }
    return true;
}

static bool number_read(const char *text, unsigned most, unsigned *out)
{
    unsigned n = 0;
    size_t len = strspn(text, "0123456789");
    if (len == 0 || len > 5 || text[len]) return false;
    for (; *text; text++) n = n * 10 + (unsigned)(*text - '0');
    *out = n;
    return n <= most;
}

/* Four decimals or IPv6, with or without /bits. */
static bool address_read(struct proxy_rule *out, char *text)
{
    char *slash = strchr(text, '/');
    if (slash) *slash = 0;
    if (inet_pton(AF_INET, text, out->address) == 1) out->family = AF_INET;
    else if (inet_pton(AF_INET6, text, out->address) == 1) out->family = AF_INET6;
    if (slash) *slash = '/';
    if (!out->family) return false;
    unsigned most = out->family == AF_INET ? 32 : 128;
    out->kind = RULE_ADDRESS;
    out->bits = most;
    return !slash || number_read(slash + 1, most, &out->bits);
}

static bool rule_read(struct proxy_rule *out, const char *entry, size_t len)
{
    char buffer[URL_HOST_MAX + 16], *text = buffer, *colon;
    unsigned port = 0;
    memset(out, 0, sizeof *out);
    if (len >= sizeof buffer) return false;
    for (size_t i = 0; i < len; i++) {
        buffer[i] = (char)(entry[i] >= 'A' && entry[i] <= 'Z' ? entry[i] | 0x20 : entry[i]);
    }
    buffer[len] = 0;
    if (strcmp(text, "*") == 0) {
        out->kind = RULE_ALL;
        return true;
    }
    if (address_read(out, text)) return true;
    if (text[0] == '[') {
        char *close = strchr(text, ']');
        if (!close || (close[1] && close[1] != ':')) return false;
        if (close[1] && (!number_read(close + 2, 65535, &port) || port == 0)) return false;
        *close = 0;
        out->port = (uint16_t)port;
        return address_read(out, text + 1) && out->family == AF_INET6;
    }
    if ((colon = strchr(text, ':')) != NULL) {
        if (!number_read(colon + 1, 65535, &port) || port == 0) return false;
        *colon = 0;
    }
    out->port = (uint16_t)port;
    if (colon && strcmp(text, "*") == 0) {
        out->kind = RULE_ALL;
        return true;
    }
    if (address_read(out, text)) return out->family == AF_INET;
    out->family = 0;
    out->kind = RULE_NAME;
    if (text[0] == '*' && text[1] == '.') {
        out->kind = RULE_BELOW;
        text++;
    }
    if (text[0] == '.') text++; /* with and without: curl and others take them as the same */
    len = strlen(text);
    if (len && text[len - 1] == '.') text[--len] = 0;
    if (len >= sizeof out->name || strchr(text, '*') || !url_host_pattern_is_valid(text)) return false;
    memcpy(out->name, text, len + 1);
    return true;
}

/* --- one target ------------------------------------------------------------------------------------ */

static bool bits_equal(const uint8_t *a, const uint8_t *b, unsigned bits)
{
    if (memcmp(a, b, bits / 8) != 0) return false;
    if (bits % 8 == 0) return true;
    uint8_t mask = (uint8_t)(0xff00u >> (bits % 8));
    return (a[bits / 8] & mask) == (b[bits / 8] & mask);
}

/* An IPv4 address written as IPv6 is that IPv4 address. */
static int address_of(const char *host, uint8_t out[16])
{
    static const uint8_t mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };
    if (inet_pton(AF_INET, host, out) == 1) return AF_INET;
    if (inet_pton(AF_INET6, host, out) != 1) return 0;
    if (memcmp(out, mapped, sizeof mapped) != 0) return AF_INET6;
    memmove(out, out + 12, 4);
    return AF_INET;
}

static bool name_matches(const struct proxy_rule *r, const char *host, size_t len)
{
    size_t name_len = strlen(r->name);
    if (len < name_len || memcmp(host + len - name_len, r->name, name_len) != 0) return false;
    if (len == name_len) return r->kind == RULE_NAME;
    return host[len - name_len - 1] == '.';
}

static bool is_loopback(const char *host, size_t len, int family, const uint8_t address[16])
{
    static const uint8_t one[16] = { [15] = 1 };
    if (family == AF_INET) return address[0] == 127;
    if (family == AF_INET6) return memcmp(address, one, sizeof one) == 0;
    return (len == 9 || (len > 10 && host[len - 10] == '.')) && memcmp(host + len - 9, "localhost", 9) == 0;
}

const struct proxy *proxy_choose(const struct proxy_env *env, bool tls, const char *host, uint16_t port)
{
    const struct proxy *p = env ? tls ? &env->https : &env->http : NULL;
    uint8_t address[16];
    size_t len = strlen(host);
    if (!p || !p->host[0]) return NULL;
    if (len && host[len - 1] == '.') len--;
    int family = address_of(host, address);
    if (is_loopback(host, len, family, address)) return NULL;
    for (uint32_t i = 0; i < env->rule_count; i++) {
        const struct proxy_rule *r = &env->rules[i];
        if (r->port && r->port != port) continue;
        switch (r->kind) {
        case RULE_ALL: return NULL;
        case RULE_ADDRESS:
            if (family == r->family && bits_equal(address, r->address, r->bits)) return NULL;
            break;
        case RULE_NAME:
        case RULE_BELOW:
            if (!family && name_matches(r, host, len)) return NULL;
            break;
        }
    }
    return p;
}
