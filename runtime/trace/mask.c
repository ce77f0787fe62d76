/* Masks: known secrets, and their search in bytes. Owns copies of the secrets, wiped when they go. */
#include "trace/mask.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/conceal.h"
#include "base/text.h"
#include "crypto/digest.h"

/* A word that only looks like a token is left alone: these are the shapes of real ones. */
#define LEARN_BYTES_MIN 12
#define LEARN_TEXT_MAX ((size_t)1 << 20)

void mask_init(struct mask *m)
{
    memset(m, 0, sizeof *m);
}

static void one_free(struct mask_one *one)
{
    if (one->bytes) explicit_bzero(one->bytes, one->len);
    free(one->bytes);
    free(one->shown);
    memset(one, 0, sizeof *one);
}

void mask_deinit(struct mask *m)
{
    for (uint32_t i = 0; i < m->count; i++) one_free(&m->items[i]);
    free(m->items);
    mask_init(m);
}

/* The longest stand first: a text that was made of a secret goes before the secret itself. What was learned
 * longest ago makes room. */
static struct mask_one *place(struct mask *m, size_t len, bool learned)
{
    if (m->count == MASKS_MAX) {
        uint32_t oldest = MASKS_MAX;
        for (uint32_t i = 0; i < m->count; i++) {
            if (!m->items[i].learned && learned) continue;
            if (oldest == MASKS_MAX || m->items[i].age < m->items[oldest].age) oldest = i;
        }
        if (oldest == MASKS_MAX) return NULL;
        one_free(&m->items[oldest]);
        m->count--;
        memmove(&m->items[oldest], &m->items[oldest + 1], (m->count - oldest) * sizeof *m->items);
    } else if (m->count == m->capacity) {
        uint32_t capacity = m->capacity ? m->capacity * 2 : 2;
        struct mask_one *items = realloc(m->items, capacity * sizeof *items);
        if (!items) return NULL;
        m->items = items;
        m->capacity = capacity;
    }
    uint32_t at = 0;
    while (at < m->count && m->items[at].len >= len) at++;
    memmove(&m->items[at + 1], &m->items[at], (m->count - at) * sizeof *m->items);
    m->count++;
    return &m->items[at];
}

bool mask_add(struct mask *m, const char *name, const void *bytes, size_t len, bool learned)
{
    char shown[MASK_BYTES_MAX];
    const char *at = bytes;
    bool added = false;
    do {
        size_t piece = len < MASK_BYTES_MAX ? len : MASK_BYTES_MAX;
        conceal_placeholder(name, shown, piece);
        added |= mask_add_pair(m, at, shown, piece, learned);
        at += piece;
        len -= piece;
    } while (len);
    return added;
}

/* Two values of one name are two: a hook may compare them. */
static bool learn(struct mask *m, const char *name, const void *bytes, size_t len)
{
    char numbered[64];
    for (uint32_t i = 0; i < m->count; i++) {
        if (m->items[i].len == len && memcmp(m->items[i].bytes, bytes, len) == 0) return false;
    }
    snprintf(numbered, sizeof numbered, "%.36s_%llu", name, (unsigned long long)m->ages + 1);
    return mask_add(m, numbered, bytes, len, true);
}

void mask_digest(void *out, size_t len)
{
    conceal_placeholder("digest", out, len);
}

void mask_add_digest(struct mask *m, const void *bytes, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    uint8_t ours[128];
    char real[2 * sizeof ours + 8], shown[2 * sizeof ours + 8];
    const uint8_t *theirs = bytes;
    if (len > sizeof ours) return;
    mask_digest(ours, len);
    mask_add_pair(m, bytes, ours, len, true);
    for (size_t i = 0; i < len; i++) {
        real[2 * i] = digits[theirs[i] >> 4];
        real[2 * i + 1] = digits[theirs[i] & 15];
        shown[2 * i] = digits[ours[i] >> 4];
        shown[2 * i + 1] = digits[ours[i] & 15];
    }
    mask_add_pair(m, real, shown, 2 * len, true);
    size_t n = base64_encode(bytes, len, real);
    base64_encode(ours, len, shown);
    mask_add_pair(m, real, shown, n, true);
}

bool mask_add_pair(struct mask *m, const void *bytes, const void *shown, size_t len, bool learned)
{
    if (len < MASK_BYTES_MIN || len > MASK_BYTES_MAX) return false;
    for (uint32_t i = 0; i < m->count; i++) {
        if (m->items[i].len == len && memcmp(m->items[i].bytes, bytes, len) == 0) return false;
    }
    struct mask_one made = { .len = len, .learned = learned, .age = ++m->ages };
    made.bytes = malloc(len);
    made.shown = malloc(len);
    struct mask_one *one = made.bytes && made.shown ? place(m, len, learned) : NULL;
    if (!one) {
        free(made.bytes);
        free(made.shown);
        return false;
    }
    memcpy(made.bytes, bytes, len);
    memcpy(made.shown, shown, len);
    *one = made;
    return true;
}

void mask_add_value(struct mask *m, const struct value *v, const char *name, bool texts)
{
    if (v->kind == VALUE_SECRET) {
        size_t len;
        const char *bytes = secret_bytes(v->secret, &len);
        mask_add(m, secret_name(v->secret), bytes, len, texts);
    } else if (v->kind == VALUE_STRING && texts) {
        if (strstr(v->string.bytes, "://")) mask_add_query(m, v->string.bytes, v->string.len);
        else if (v->string.len >= LEARN_BYTES_MIN) learn(m, name, v->string.bytes, v->string.len);
    }
    for (uint32_t i = 0; v->kind == VALUE_TABLE && i < v->table->count; i++) {
        mask_add_value(m, &v->table->pairs[i].value, name, texts);
    }
}

static bool query_end(char c)
{
    return c == '&' || c == '"' || c == '\\' || c == '#' || c == ' ' || c == '\r' || c == '\n' || c == 0;
}

/* From behind the "?". */
static bool query_values(struct mask *m, const char *at, const char *end)
{
    bool learned = false;
    while (at < end && !query_end(*at)) {
        const char *name = at;
        while (at < end && *at != '=' && !query_end(*at)) at++;
        if (at == end || *at != '=') break;
        size_t name_len = (size_t)(at - name);
        const char *value = ++at;
        while (at < end && !query_end(*at)) at++;
        char shown[40];
        text_copy(shown, sizeof shown, name, name_len);
        if (at - value >= LEARN_BYTES_MIN && learn(m, shown, value, (size_t)(at - value))) {
            learned = true;
        }
        /* JSON may write the ampersand as \u0026. */
        if (end - at >= 6 && memcmp(at, "\\u0026", 6) == 0) at += 6;
        else if (at < end && *at == '&') at++;
    }
    return learned;
}

void mask_add_query(struct mask *m, const char *url, size_t len)
{
    const char *question = memchr(url, '?', len);
    if (question) query_values(m, question + 1, url + len);
}

/* --- learning ----------------------------------------------------------------------------------------- */

static bool says_secret(const char *key, size_t len)
{
    static const char *const words[] = { "token", "secret", "ticket", "passw", "credential", "authorization",
                                         "cookie", "api_key", "apikey", "access_key", "private", "signature" };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        size_t n = strlen(words[i]);
        for (size_t at = 0; at + n <= len; at++) {
            if (text_equal_ignoring_case(key + at, words[i], n)) return true;
        }
    }
    return false;
}

/* The end of a JSON string whose first byte is `at`: its closing quote, or NULL. */
static const char *string_end(const char *at, const char *end)
{
    for (; at < end; at++) {
        if (*at == '\\') at++;
        else if (*at == '"') return at;
    }
    return NULL;
}

/* As a hook will hold it: without the one escape that tokens meet. */
static bool learn_string(struct mask *m, const char *key, size_t key_len, const char *value, size_t len)
{
    char name[40], plain[MASK_BYTES_MAX];
    size_t n = 0;
    if (len < LEARN_BYTES_MIN) return false;
    for (size_t i = 0; i < len && n < sizeof plain; i++) {
        if (value[i] == '\\' && i + 1 < len && value[i + 1] == '/') i++;
        plain[n++] = value[i];
    }
    text_copy(name, sizeof name, key, key_len);
    bool learned = n >= 3 && memchr(plain, '?', n) && n > 8 && memmem(plain, n, "://", 3)
                       ? query_values(m, (const char *)memchr(plain, '?', n) + 1, plain + n)
                       : says_secret(key, key_len) && !memchr(plain, ' ', n) && learn(m, name, plain, n);
    explicit_bzero(plain, sizeof plain);
    return learned;
}

static bool learn_json(struct mask *m, const char *text, const char *end)
{
    bool learned = false;
    const char *key = NULL;
    size_t key_len = 0;
    for (const char *at = text; at < end; at++) {
        if (*at != '"') {
            if (*at == ',' || *at == '{' || *at == '}') key = NULL;
            continue;
        }
        const char *stop = string_end(at + 1, end);
        if (!stop) break;
        const char *after = stop + 1;
        while (after < end && (*after == ' ' || *after == '\t' || *after == '\n' || *after == '\r')) after++;
        if (after < end && *after == ':') {
            key = at + 1;
            key_len = (size_t)(stop - at - 1);
            at = after;
            continue;
        }
        learned |= learn_string(m, key ? key : "text", key ? key_len : 4, at + 1, (size_t)(stop - at - 1));
        at = stop;
    }
    return learned;
}

static bool learn_lines(struct mask *m, const char *text, const char *end)
{
    bool learned = false;
    for (const char *at = text; at < end;) {
        const char *eol = memchr(at, '\n', (size_t)(end - at)), *stop = eol ? eol : end;
        const char *colon = memchr(at, ':', (size_t)(stop - at));
        if (colon && says_secret(at, (size_t)(colon - at))) {
            char name[40];
            text_copy(name, sizeof name, at, (size_t)(colon - at));
            for (colon++; colon < stop && (*colon == ' ' || *colon == '\t'); colon++) {}
            while (stop > colon && (stop[-1] == '\r' || stop[-1] == ' ')) stop--;
            /* "Bearer ..." and "name=value; ...": the words are none, what follows is. */
            const char *space = memchr(colon, ' ', (size_t)(stop - colon));
            if (space && space + 1 < stop && name[0] != 'S' && name[0] != 's') colon = space + 1;
            if (stop - colon >= LEARN_BYTES_MIN) learned |= learn(m, name, colon, (size_t)(stop - colon));
        }
        at = eol ? eol + 1 : end;
    }
    return learned;
}

bool mask_learn(struct mask *m, const void *text, size_t len)
{
    const char *at = text, *end = at + (len < LEARN_TEXT_MAX ? len : LEARN_TEXT_MAX);
    while (at < end && (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t')) at++;
    if (at == end) return false;
    return *at == '{' || *at == '[' || *at == '"' ? learn_json(m, at, end) : learn_lines(m, at, end);
}

/* --- replacing ------------------------------------------------------------------------------------------ */

/* How many bytes at `at` write this secret; 0: none do. */
static size_t written(const struct mask_one *one, const uint8_t *at, const uint8_t *end)
{
    const uint8_t *p = at;
    for (size_t i = 0; i < one->len; i++) {
        if (p < end && *p == '\\' && one->bytes[i] == '/' && p + 1 < end && p[1] == '/') p++;
        if (p == end || *p != (uint8_t)one->bytes[i]) return 0;
        p++;
    }
    return (size_t)(p - at);
}

bool mask_apply(const struct mask *m, void *bytes, size_t len)
{
    uint8_t *begin = bytes, *end = begin + len;
    bool any = false;
    for (uint32_t i = 0; i < m->count; i++) {
        const struct mask_one *one = &m->items[i];
        for (uint8_t *at = begin; (size_t)(end - at) >= one->len;) {
            at = memchr(at, one->bytes[0], (size_t)(end - at));
            if (!at || (size_t)(end - at) < one->len) break;
            size_t n = written(one, at, end);
            if (!n) {
                at++;
                continue;
            }
            /* Escapes only make it longer; the name goes on to its end. */
            for (size_t k = 0; k < n; k++) at[k] = (uint8_t)one->shown[k % one->len];
            any = true;
            at += n;
        }
    }
    return any;
}

bool mask_append(const struct mask *m, struct buffer *out, const void *bytes, size_t len)
{
    size_t start = out->len;
    if (len && !buffer_append(out, bytes, len)) return false;
    if (len) mask_apply(m, out->data + start, len);
    return true;
}
