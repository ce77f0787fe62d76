/* Matchers over causes: what an ending must look like for a row of classify or climb. Compiles the
 * keys into the plan; judges no cause. */
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/text.h"
#include "policy/schema_internal.h"

static const char *const stage_words[] = {
#define X(name, text) text,
    STAGE_MAP(X)
#undef X
        NULL
};
static const char *const by_words[] = { "peer", "network", "us", "policy", "operator", NULL };

_Static_assert(BY_OPERATOR == 4, "the words stand in their order");

const struct key schema__cause_keys[] = { SCHEMA_CAUSE_KEYS, { .name = NULL } };

void schema__cause_check(struct schema *s, const struct value *row, const struct cause_matcher *m)
{
    uint32_t set = 0;
    for (const struct key *k = schema__cause_keys; k->name; k++) {
        if (value_get(row, k->name)) set++;
    }
    if (set == 0) {
        schema__error(s, "matches nothing: name what it is about, or any = true");
    } else if (m->any && set > 1) {
        schema__error(s, "`any` stands alone; leave it away to match the rest");
    }
    if (m->reason && !m->close && !m->http && !m->code && !m->causes) {
        schema__error(s, "reason alone never classifies; put it beside close, http, code or cause");
    }
}

void schema__on_any(struct schema *s, const struct value *v, void *base)
{
    struct cause_matcher *m = base;
    if (v->kind != VALUE_BOOL || !v->boolean) {
        schema__error(s, "can only be true");
        return;
    }
    m->any = true;
}

/* 4004 or "4900-4913" */
static bool range_read(struct schema *s, const struct value *v, double low, double high,
                       struct code_range *out)
{
    char text[96];
    if (v->kind == VALUE_NUMBER) {
        if (!schema__integer(s, v, low, high, &out->low)) return false;
        out->high = out->low;
        return true;
    }
    const char *p = value_text(v);
    long long a = 0, b = 0;
    int used = 0;
    if (!p || strspn(p, "0123456789- ") != v->string.len || v->string.len > 40 ||
        sscanf(p, "%lld - %lld%n", &a, &b, &used) != 2 || (size_t)used != v->string.len) {
        schema__error(s, "expected a number or a range such as \"4900-4913\", got %s",
                      schema__describe(s, v, text));
        return false;
    }
    if ((double)a < low || (double)b > high) {
        schema__error(s, "%s is outside %.0f to %.0f", schema__describe(s, v, text), low, high);
        return false;
    }
    if (a > b) {
        schema__error(s, "the range %s is the wrong way round", schema__describe(s, v, text));
        return false;
    }
    *out = (struct code_range){ a, b };
    return true;
}

static void ranges_read(struct schema *s, const struct value *v, double low, double high,
                        struct code_range **out, uint32_t *count_out)
{
    bool list = v->kind == VALUE_TABLE;
    if (list && !schema__is_list(s, v, "codes", SCHEMA_WANTS_MAX)) return;
    uint32_t count = list ? value_length(v) : 1;
    if (count == 0) schema__error(s, "names no code");
    *out = schema__alloc(count, sizeof **out);
    for (uint32_t i = 1; i <= count; i++) {
        const struct value *item = list ? value_at(v, i) : v;
        if (list) schema__enter(s, NULL, i, item);
        if (range_read(s, item, low, high, &(*out)[*count_out])) (*count_out)++;
        if (list) schema__leave(s);
    }
}

void schema__on_close_codes(struct schema *s, const struct value *v, void *base)
{
    struct cause_matcher *m = base;
    ranges_read(s, v, 1000, 4999, &m->close, &m->close_count);
}

void schema__on_statuses(struct schema *s, const struct value *v, void *base)
{
    struct cause_matcher *m = base;
    ranges_read(s, v, 100, 999, &m->http, &m->http_count);
}

void schema__on_codes(struct schema *s, const struct value *v, void *base)
{
    struct cause_matcher *m = base;
    ranges_read(s, v, -0x1p53, 0x1p53, &m->code, &m->code_count);
}

/* One word or a list of them, as bits. */
static uint32_t words_read(struct schema *s, const struct value *v, const char *const *words)
{
    bool list = v->kind == VALUE_TABLE;
    if (list && !schema__is_list(s, v, "words", SCHEMA_WANTS_MAX)) return 0;
    uint32_t bits = 0, count = list ? value_length(v) : 1;
    if (count == 0) schema__error(s, "names nothing");
    for (uint32_t i = 1; i <= count; i++) {
        const struct value *item = list ? value_at(v, i) : v;
        if (list) schema__enter(s, NULL, i, item);
        int word = schema__word(s, item, words);
        if (word >= 0) bits |= (uint32_t)1 << word;
        if (list) schema__leave(s);
    }
    return bits;
}

void schema__on_stages(struct schema *s, const struct value *v, void *base)
{
    struct cause_matcher *m = base;
    m->stages = words_read(s, v, stage_words);
}

void schema__on_by(struct schema *s, const struct value *v, void *base)
{
    struct cause_matcher *m = base;
    m->by = words_read(s, v, by_words);
}

/* One letter added, lost, changed, or two swapped: a slip of the hand, not another name. */
static bool is_slip(const char *a, const char *b)
{
    size_t la = strlen(a), lb = strlen(b), i = 0;
    while (a[i] && a[i] == b[i]) i++;
    if (la == lb + 1) return strcmp(a + i + 1, b + i) == 0;
    if (lb == la + 1) return strcmp(a + i, b + i + 1) == 0;
    if (la != lb || la < 4 || i == la) return false;
    if (strcmp(a + i + 1, b + i + 1) == 0) return true;
    return a[i + 1] && a[i] == b[i + 1] && a[i + 1] == b[i] && strcmp(a + i + 2, b + i + 2) == 0;
}

static const char *const kinds[] = {
#define X(name, text) text,
    CAUSE_KIND_MAP(X)
#undef X
};

/* The names that frames.ends and `as` give. A hook may give others with conn:fail(), which no table
 * shows; so a name is refused only when it looks like a slip in one that is known. */
static void cause_check(struct schema *s, const char *name)
{
    const char *slip = NULL;
    for (size_t i = 1; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strcmp(kinds[i], name) == 0) return;
        if (is_slip(name, kinds[i])) slip = kinds[i];
    }
    const struct value *lists[] = { value_get(value_get(&s->tables, "frames"), "ends"),
                                    value_get(&s->tables, "classify") };
    const char *keys[] = { "cause", "as" };
    for (size_t l = 0; l < 2; l++) {
        uint32_t count = value_length(lists[l]);
        for (uint32_t i = 0; i <= count; i++) { /* 0: the table is itself the one row */
            const struct value *row = i ? value_at(lists[l], i) : lists[l];
            const char *known = value_get_text(row, keys[l]);
            if (!known) continue;
            if (strcmp(known, name) == 0) return;
            if (is_slip(name, known)) slip = known;
        }
    }
    if (slip) schema__error(s, "no cause is named \"%s\"; did you mean \"%s\"?", name, slip);
}

void schema__on_causes(struct schema *s, const struct value *v, void *base)
{
    struct cause_matcher *m = base;
    bool list = v->kind == VALUE_TABLE;
    if (list && !schema__is_list(s, v, "names", SCHEMA_WANTS_MAX)) return;
    uint32_t count = list ? value_length(v) : 1;
    if (count == 0) schema__error(s, "names nothing");
    m->causes = schema__alloc(count, sizeof *m->causes);
    for (uint32_t i = 1; i <= count; i++) {
        const struct value *item = list ? value_at(v, i) : v;
        if (list) schema__enter(s, NULL, i, item);
        if (schema__name(s, item, m->causes[m->cause_count], CAUSE_NAME_MAX)) {
            cause_check(s, m->causes[m->cause_count]);
            m->cause_count++;
        }
        if (list) schema__leave(s);
    }
}

void schema__on_reason(struct schema *s, const struct value *v, void *base)
{
    struct cause_matcher *m = base;
    char text[96];
    if (v->kind != VALUE_STRING || v->string.len == 0 || v->string.len >= CAUSE_REASON_MAX ||
        strlen(v->string.bytes) != v->string.len) {
        schema__error(s, "expected a text of 1 to %d bytes, got %s", CAUSE_REASON_MAX - 1,
                      schema__describe(s, v, text));
        return;
    }
    m->reason = strdup(v->string.bytes);
    ASSERT(m->reason != NULL);
}

void schema__on_header(struct schema *s, const struct value *v, void *base)
{
    struct cause_matcher *m = base;
    const char *name = NULL, *wanted = NULL;
    if (v->kind == VALUE_TABLE && v->table->count == 1) {
        name = value_text(&v->table->pairs[0].key);
        wanted = value_text(&v->table->pairs[0].value);
    }
    if (!name || !wanted || !schema__is_name(name, 64) || strpbrk(wanted, "\r\n")) {
        schema__error(s, "expected one header and its value: { [\"name\"] = \"value\" }");
        return;
    }
    m->header_name = strdup(name);
    m->header_value = strdup(wanted);
    ASSERT(m->header_name != NULL && m->header_value != NULL);
}

void schema__on_with_session(struct schema *s, const struct value *v, void *base)
{
    struct cause_matcher *m = base;
    char text[96];
    if (v->kind != VALUE_BOOL) {
        schema__error(s, "expected true or false, got %s", schema__describe(s, v, text));
        return;
    }
    m->session = v->boolean ? 1 : 0;
}
