/* Single values of a policy: durations, pairs, sizes, numbers, names, words. Each reader stores
 * what is good and says what is wrong with the rest, at the pass's path. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/duration.h"
#include "base/text.h"
#include "policy/schema_internal.h"

bool schema__duration(struct schema *s, const struct value *v, double low, double high,
                      uint64_t *out)
{
    char text[96], a[DURATION_TEXT_MAX], b[DURATION_TEXT_MAX];
    if (high <= 0) high = (double)DURATION_MS_MAX;
    if (v->kind != VALUE_STRING || !duration_parse(v->string.bytes, v->string.len, out)) {
        schema__error(s, "expected a duration with a unit, such as \"30s\" (ms s m h d), got %s",
                      schema__describe(s, v, text));
        return false;
    }
    if ((double)*out < low) {
        schema__error(s, "is %s; the least possible is %s", duration_format(*out, a),
                      duration_format((uint64_t)low, b));
        return false;
    }
    if ((double)*out > high) {
        schema__error(s, "is %s; the most possible is %s", duration_format(*out, a),
                      duration_format((uint64_t)high, b));
        return false;
    }
    return true;
}

bool schema__span(struct schema *s, const struct value *v, double low, double high,
                  struct span_ms *out)
{
    if (v->kind != VALUE_TABLE) {
        if (!schema__duration(s, v, low, high, &out->low)) return false;
        out->high = out->low;
        return true;
    }
    if (value_length(v) != 2 || v->table->count != 2) {
        schema__error(s, "expected one duration or a pair, such as { \"1s\", \"5s\" }");
        return false;
    }
    bool ok = true;
    for (uint32_t i = 1; i <= 2; i++) {
        schema__enter(s, NULL, i, value_at(v, i));
        ok = schema__duration(s, value_at(v, i), low, high, i == 1 ? &out->low : &out->high) && ok;
        schema__leave(s);
    }
    if (ok && out->low > out->high) {
        schema__error(s, "the pair is the wrong way round: the smaller duration comes first");
        return false;
    }
    return ok;
}

bool schema__size(struct schema *s, const struct value *v, double low, double high, uint64_t *out)
{
    char text[96];
    bool ok = false;
    if (v->kind == VALUE_NUMBER) {
        ok = v->number >= 0 && v->number <= 0x1p50 && v->number == floor(v->number);
        if (ok) *out = (uint64_t)v->number;
    } else if (v->kind == VALUE_STRING) {
        ok = size_parse(v->string.bytes, v->string.len, out);
    }
    if (!ok) {
        schema__error(s, "expected a size, such as \"64MiB\" or 4096, got %s",
                      schema__describe(s, v, text));
        return false;
    }
    if ((double)*out < low || (double)*out > high) {
        schema__error(s, "is %llu bytes; possible are %.0f to %.0f", (unsigned long long)*out, low,
                      high);
        return false;
    }
    return true;
}

bool schema__integer(struct schema *s, const struct value *v, double low, double high, int64_t *out)
{
    char text[96];
    if (v->kind != VALUE_NUMBER || v->number != floor(v->number) || fabs(v->number) > 0x1p53) {
        schema__error(s, "expected a whole number, got %s", schema__describe(s, v, text));
        return false;
    }
    if (v->number < low || v->number > high) {
        schema__error(s, "is %.0f; possible are %.0f to %.0f", v->number, low, high);
        return false;
    }
    *out = (int64_t)v->number;
    return true;
}

bool schema__number(struct schema *s, const struct value *v, double low, double high, double *out)
{
    char text[96];
    if (v->kind != VALUE_NUMBER || !isfinite(v->number)) {
        schema__error(s, "expected a number, got %s", schema__describe(s, v, text));
        return false;
    }
    if (v->number < low || v->number > high) {
        schema__error(s, "is %.14g; possible are %.14g to %.14g", v->number, low, high);
        return false;
    }
    *out = v->number;
    return true;
}

bool schema__is_name(const char *text, size_t bytes_max)
{
    size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.");
    return n > 0 && n <= bytes_max && text[n] == 0;
}

bool schema__name(struct schema *s, const struct value *v, char *out, size_t width)
{
    char text[96];
    if (v->kind != VALUE_STRING || strlen(v->string.bytes) != v->string.len ||
        !schema__is_name(v->string.bytes, width - 1)) {
        schema__error(s, "expected a name (letters, digits, - _ . and at most %zu bytes), got %s",
                      width - 1, schema__describe(s, v, text));
        return false;
    }
    text_copy(out, width, v->string.bytes, v->string.len);
    return true;
}

int schema__word(struct schema *s, const struct value *v, const char *const *words)
{
    char text[96], list[240] = "";
    size_t used = 0, count = 0;
    for (; words[count]; count++) {
        if (v->kind == VALUE_STRING && strcmp(words[count], v->string.bytes) == 0)
            return (int)count;
        if (used < sizeof list - 40) {
            used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", count ? ", " : "",
                                     words[count]);
        }
    }
    const char *near = v->kind == VALUE_STRING ? text_nearest(v->string.bytes, words, count) : NULL;
    schema__describe(s, v, text);
    if (near) {
        bool quoted = text[0] == '"';
        schema__error(s, "unknown word%s%s; did you mean \"%s\"?", quoted ? " " : "",
                      quoted ? text : "", near);
    } else {
        schema__error(s, "expected one of %s, got %s", list, text);
    }
    return -1;
}

void *schema__alloc(size_t count, size_t size)
{
    void *memory = calloc(count ? count : 1, size);
    ASSERT(memory != NULL);
    return memory;
}
