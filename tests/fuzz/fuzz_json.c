/* Fuzzes the JSON scanner, each way of it, against a plain recursive checker, and checks what it promises about the
 * bytes that it hands on: one line, unchanged but for white space, fields inside the message. */
#include "frame/json.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/text.h"
#include "../support/json_ways.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct reader {
    const uint8_t *at, *end;
    int depth;
    bool too_deep;
};

static bool read_value(struct reader *r);

static void skip(struct reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' || *r->at == '\r' || *r->at == '\n')) r->at++;
}

static bool take(struct reader *r, char c)
{
    if (r->at == r->end || *r->at != (uint8_t)c) return false;
    r->at++;
    return true;
}

static bool read_string(struct reader *r)
{
    if (!take(r, '"')) return false;
    const uint8_t *start = r->at;
    for (; r->at < r->end && *r->at != '"'; r->at++) {
        if (*r->at < 0x20) return false;
        if (*r->at != '\\') continue;
        if (++r->at == r->end || !strchr("\"\\/bfnrtu", *r->at) || !*r->at) return false;
        for (int i = 0; *r->at == 'u' && i < 4; i++) {
            if (r->end - r->at < 5 || !strchr("0123456789abcdefABCDEF", r->at[1 + i]) || !r->at[1 + i]) return false;
        }
    }
    size_t len = (size_t)(r->at - start);
    return take(r, '"') && text_is_utf8(start, len);
}

static bool read_digits(struct reader *r)
{
    const uint8_t *start = r->at;
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9') r->at++;
    return r->at > start;
}

static bool read_number(struct reader *r)
{
    take(r, '-');
    if (!take(r, '0') && !read_digits(r)) return false;
    if (take(r, '.') && !read_digits(r)) return false;
    if (take(r, 'e') || take(r, 'E')) {
        if (!take(r, '-')) take(r, '+');
        return read_digits(r);
    }
    return true;
}

static bool read_members(struct reader *r, char close)
{
    skip(r);
    if (take(r, close)) return true;
    do {
        skip(r);
        if (close == '}') {
            if (!read_string(r)) return false;
            skip(r);
            if (!take(r, ':')) return false;
            skip(r);
        }
        if (!read_value(r)) return false;
        skip(r);
    } while (take(r, ','));
    return take(r, close);
}

static bool read_word(struct reader *r, const char *word)
{
    size_t len = strlen(word);
    if ((size_t)(r->end - r->at) < len || memcmp(r->at, word, len) != 0) return false;
    r->at += len;
    return true;
}

static bool read_value(struct reader *r)
{
    if (r->at == r->end) return false;
    switch (*r->at) {
    case '"': return read_string(r);
    case 't': return read_word(r, "true");
    case 'f': return read_word(r, "false");
    case 'n': return read_word(r, "null");
    case '{':
    case '[': {
        char close = *r->at == '{' ? '}' : ']';
        if (r->depth == JSON_DEPTH_MAX) {
            r->too_deep = true;
            return false;
        }
        r->depth++;
        r->at++;
        bool ok = read_members(r, close);
        r->depth--;
        return ok;
    }
    default: return read_number(r);
    }
}

static enum json_result judge(const uint8_t *data, size_t size)
{
    struct reader r = { data, data + size, 0, false };
    skip(&r);
    bool ok = read_value(&r);
    if (r.too_deep) return JSON_TOO_DEEP;
    skip(&r);
    return ok && r.at == r.end ? JSON_OK : JSON_MALFORMED;
}

static void check_value(const struct field_value *v, const uint8_t *data, size_t size)
{
    if (v->kind == FIELD_ABSENT) return;
    ASSERT(v->text >= data && v->text + v->len <= data + size);
    for (size_t i = 0; i < v->len; i++) ASSERT(v->text[i] >= 0x20);
    if (v->kind != FIELD_STRING) {
        struct reader r = { v->text, v->text + v->len, 0, false };
        ASSERT(read_value(&r) && r.at == r.end);
        return;
    }
    char *out = malloc(v->len + 1);
    if (!out) return;
    long len = json_string_decode(v, out, v->len);
    ASSERT(len >= 0);
    ASSERT(text_is_utf8(out, (size_t)len));
    ASSERT(json_string_equal(v, out, (size_t)len));
    if (len > 0) ASSERT(!json_string_equal(v, out, (size_t)len - 1));
    if (len > 0) ASSERT(json_string_decode(v, out, (size_t)len - 1) == -1);
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const wanted[] = { "op", "s", "t", "d", "d.id", "d.a.b", "d.a.b.c", "a" };
    struct frame_rules rules;
    memset(&rules, 0, sizeof rules);
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        strcpy(rules.fields[i].path, wanted[i]);
        rules.field_count++;
    }
    if (!frame_rules_prepare(&rules)) return 0;
    uint8_t *copy = malloc(size ? size : 1);
    if (!copy) abort();
    if (size) memcpy(copy, data, size);

    struct field_value values[FIELDS_MAX];
    size_t fault = 0;
    enum json_result result = json_scan(copy, size, rules.paths, values, &fault);
    ASSERT(result == judge(data, size));
    if (result != JSON_OK) {
        ASSERT(fault <= size);
        ASSERT(size == 0 || memcmp(copy, data, size) == 0);
    }
    for (size_t i = 0; result == JSON_OK && i < size; i++) {
        ASSERT(copy[i] >= 0x20);
        ASSERT(copy[i] == data[i] || (copy[i] == ' ' && strchr("\t\r\n", data[i])));
    }
    for (uint32_t i = 0; i < rules.field_count; i++) check_value(&values[i], copy, size);
    ASSERT(json_scan(copy, size, NULL, NULL, NULL) == result);
    ASSERT(json_ways_differ(data, size, rules.paths) == NULL);

    free(copy);
    frame_rules_deinit(&rules);
    return 0;
}
