/* Value trees and secrets. Owns every byte it holds; wipes those of secrets. */
#include "base/value.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/buffer.h"
#include "base/rng.h"
#include "base/text.h"

#define PAIRS_FEW 16 /* of a table that is written without allocating */

struct secret {
    uint32_t references;
    uint32_t name_at; /* in bytes[] */
    size_t len;
    char bytes[];     /* wiped; after their NUL the name */
};

static bool json_write(const struct value *v, struct buffer *out, int indent);

static void *must(void *memory)
{
    ASSERT(memory != NULL);
    return memory;
}

struct secret *secret_create(const char *name, const void *bytes, size_t len)
{
    const size_t name_bytes = strlen(name) + 1;
    ASSERT(len < UINT32_MAX);
    struct secret *s = must(malloc(sizeof *s + len + 1 + name_bytes));
    s->references = 1;
    s->len = len;
    s->name_at = (uint32_t)len + 1;
    if (len) memcpy(s->bytes, bytes, len);
    s->bytes[len] = 0;
    memcpy(s->bytes + s->name_at, name, name_bytes);
    return s;
}

struct secret *secret_ref(struct secret *s)
{
    ASSERT(s->references > 0);
    s->references++;
    return s;
}

void secret_unref(struct secret *s)
{
    if (!s) return;
    ASSERT(s->references > 0);
    if (--s->references) return;
    explicit_bzero(s->bytes, s->len);
    free(s);
}

const char *secret_name(const struct secret *s)
{
    return s->bytes + s->name_at;
}

const char *secret_bytes(const struct secret *s, size_t *len_out)
{
    *len_out = s->len;
    return s->bytes;
}

uint64_t secret_fingerprint(const struct secret *s)
{
    return rng_mix(hash_bytes(s->bytes, s->len) ^ 0x686f6c6466617374u);
}

struct value value_nil(void)
{
    return (struct value){ .kind = VALUE_NIL };
}

struct value value_bool(bool b)
{
    return (struct value){ .kind = VALUE_BOOL, .boolean = b };
}

struct value value_number(double n)
{
    return (struct value){ .kind = VALUE_NUMBER, .number = n };
}

struct value value_bytes(const void *bytes, size_t len)
{
    struct value v = { .kind = VALUE_STRING };
    v.string.bytes = must(malloc(len + 1));
    if (len) memcpy(v.string.bytes, bytes, len);
    v.string.bytes[len] = 0;
    v.string.len = len;
    return v;
}

struct value value_string(const char *text)
{
    return value_bytes(text, strlen(text));
}

struct value value_secret(struct secret *s)
{
    return (struct value){ .kind = VALUE_SECRET, .secret = secret_ref(s) };
}

struct value value_table(void)
{
    struct value v = { .kind = VALUE_TABLE };
    v.table = must(calloc(1, sizeof *v.table));
    return v;
}

struct value value_copy(const struct value *v)
{
    struct value out = *v;
    switch (v->kind) {
    case VALUE_STRING:
        out = value_bytes(v->string.bytes, v->string.len);
        break;
    case VALUE_SECRET:
        secret_ref(v->secret);
        break;
    case VALUE_TABLE: {
        out = value_table();
        uint32_t count = v->table->count;
        if (count) out.table->pairs = must(malloc(count * sizeof *out.table->pairs));
        out.table->count = out.table->capacity = count;
        for (uint32_t i = 0; i < count; i++) {
            out.table->pairs[i].key = value_copy(&v->table->pairs[i].key);
            out.table->pairs[i].value = value_copy(&v->table->pairs[i].value);
        }
        break;
    }
    default:
        break;
    }
    out.line = v->line;
    return out;
}

/* --- packed ------------------------------------------------------------------------------------------------- */

/* Of one value: tables and pairs, each aligned, and the bytes of texts. */
static void pack_measure(const struct value *v, size_t *fixed, size_t *texts)
{
    if (v->kind == VALUE_STRING) *texts += v->string.len + 1;
    if (v->kind != VALUE_TABLE) return;
    *fixed += sizeof *v->table + v->table->count * sizeof *v->table->pairs;
    for (uint32_t i = 0; i < v->table->count; i++) {
        pack_measure(&v->table->pairs[i].key, fixed, texts);
        pack_measure(&v->table->pairs[i].value, fixed, texts);
    }
}

static struct value pack_into(const struct value *v, char **fixed, char **texts)
{
    struct value out = *v;
    if (v->kind == VALUE_SECRET) secret_ref(v->secret);
    if (v->kind == VALUE_STRING) {
        out.string.bytes = memcpy(*texts, v->string.bytes, v->string.len + 1);
        *texts += v->string.len + 1;
    }
    if (v->kind != VALUE_TABLE) return out;
    const uint32_t count = v->table->count;
    struct value_table *t = out.table = (struct value_table *)*fixed;
    *fixed += sizeof *t;
    *t = (struct value_table){ .pairs = (struct value_pair *)*fixed, .count = count, .capacity = VALUE_PACKED };
    *fixed += count * sizeof *t->pairs;
    for (uint32_t i = 0; i < count; i++) {
        t->pairs[i].key = pack_into(&v->table->pairs[i].key, fixed, texts);
        t->pairs[i].value = pack_into(&v->table->pairs[i].value, fixed, texts);
    }
    return out;
}

struct value value_pack(const struct value *v)
{
    size_t fixed = 0, texts = 0;
    if (v->kind != VALUE_TABLE) return value_copy(v);
    pack_measure(v, &fixed, &texts);
    char *block = must(malloc(fixed + texts)), *texts_at = block + fixed;
    return pack_into(v, &block, &texts_at);
}

static void packed_drop(const struct value *v)
{
    if (v->kind == VALUE_SECRET) secret_unref(v->secret);
    if (v->kind != VALUE_TABLE) return;
    for (uint32_t i = 0; i < v->table->count; i++) packed_drop(&v->table->pairs[i].value);
}

void value_clear(struct value *v)
{
    if (v->kind == VALUE_TABLE && v->table->capacity == VALUE_PACKED) {
        packed_drop(v);
        free(v->table); /* the block begins with the root */
        *v = value_nil();
        return;
    }
    if (v->kind == VALUE_STRING) free(v->string.bytes);
    if (v->kind == VALUE_SECRET) secret_unref(v->secret);
    if (v->kind == VALUE_TABLE) {
        for (uint32_t i = 0; i < v->table->count; i++) {
            value_clear(&v->table->pairs[i].key);
            value_clear(&v->table->pairs[i].value);
        }
        free(v->table->pairs);
        free(v->table);
    }
    *v = value_nil();
}

static struct value_pair *pair_find(const struct value_table *t, const struct value *key)
{
    for (uint32_t i = 0; i < t->count; i++) {
        if (value_equal(&t->pairs[i].key, key)) return &t->pairs[i];
    }
    return NULL;
}

bool value_equal(const struct value *a, const struct value *b)
{
    if (a->kind != b->kind) return false;
    switch (a->kind) {
    case VALUE_NIL:
        return true;
    case VALUE_FUNCTION:
        return false; /* two functions are never known to be the same */
    case VALUE_BOOL:
        return a->boolean == b->boolean;
    case VALUE_NUMBER:
        return a->number == b->number;
    case VALUE_STRING:
        return a->string.len == b->string.len &&
               memcmp(a->string.bytes, b->string.bytes, a->string.len) == 0;
    case VALUE_SECRET:
        return a->secret == b->secret ||
               (a->secret->len == b->secret->len &&
                memcmp(a->secret->bytes, b->secret->bytes, a->secret->len) == 0);
    case VALUE_TABLE:
        if (a->table->count != b->table->count) return false;
        for (uint32_t i = 0; i < a->table->count; i++) {
            struct value_pair *other = pair_find(b->table, &a->table->pairs[i].key);
            if (!other || !value_equal(&other->value, &a->table->pairs[i].value)) return false;
        }
        return true;
    }
    return false;
}

uint64_t value_fingerprint(const struct value *v)
{
    uint64_t h = rng_mix((uint64_t)v->kind + 1), bits = 0;
    switch (v->kind) {
    case VALUE_NIL: break;
    case VALUE_BOOL: return rng_mix(h ^ v->boolean);
    case VALUE_NUMBER:
        memcpy(&bits, &v->number, sizeof bits);
        return rng_mix(h ^ bits);
    case VALUE_STRING: return rng_mix(h ^ hash_bytes(v->string.bytes, v->string.len));
    case VALUE_SECRET: return rng_mix(h ^ secret_fingerprint(v->secret));
    case VALUE_FUNCTION: return rng_mix(h ^ v->line);
    case VALUE_TABLE:
        for (uint32_t i = 0; i < v->table->count; i++) {
            h = rng_mix(h ^ value_fingerprint(&v->table->pairs[i].key));
            h = rng_mix(h ^ value_fingerprint(&v->table->pairs[i].value));
        }
        return rng_mix(h ^ v->table->count);
    }
    return h;
}

static struct value_pair *pair_by_name(const struct value_table *t, const char *key)
{
    size_t len = strlen(key);
    for (uint32_t i = 0; i < t->count; i++) {
        const struct value *k = &t->pairs[i].key;
        if (k->kind == VALUE_STRING && k->string.len == len &&
            memcmp(k->string.bytes, key, len) == 0) {
            return &t->pairs[i];
        }
    }
    return NULL;
}

struct value *value_get(const struct value *table, const char *key)
{
    if (!table || table->kind != VALUE_TABLE) return NULL;
    struct value_pair *p = pair_by_name(table->table, key);
    return p ? &p->value : NULL;
}

struct value *value_at(const struct value *table, uint32_t index_from_1)
{
    if (!table || table->kind != VALUE_TABLE) return NULL;
    const struct value_table *t = table->table;
    /* Arrays are nearly always inserted in order: look there first. */
    if (index_from_1 >= 1 && index_from_1 <= t->count) {
        struct value_pair *p = &t->pairs[index_from_1 - 1];
        if (p->key.kind == VALUE_NUMBER && p->key.number == (double)index_from_1) return &p->value;
    }
    struct value key = value_number((double)index_from_1);
    struct value_pair *p = pair_find(t, &key);
    return p ? &p->value : NULL;
}

uint32_t value_length(const struct value *table)
{
    uint32_t n = 0;
    while (value_at(table, n + 1)) n++;
    return n;
}

static void pair_add(struct value_table *t, struct value key, struct value v)
{
    ASSERT(t->capacity != VALUE_PACKED);
    if (t->count == t->capacity) {
        t->capacity = t->capacity ? t->capacity * 2 : 4;
        t->pairs = must(realloc(t->pairs, t->capacity * sizeof *t->pairs));
    }
    t->pairs[t->count++] = (struct value_pair){ key, v };
}

void value_set(struct value *table, const char *key, struct value v)
{
    ASSERT(table->kind == VALUE_TABLE);
    ASSERT(table->table->capacity != VALUE_PACKED);
    struct value_table *t = table->table;
    struct value_pair *p = pair_by_name(t, key);
    if (p) {
        value_clear(&p->value);
        p->value = v;
        if (v.kind != VALUE_NIL) return;
        value_clear(&p->key);
        memmove(p, p + 1, (size_t)(t->pairs + t->count - (p + 1)) * sizeof *p);
        t->count--;
        return;
    }
    if (v.kind != VALUE_NIL) pair_add(t, value_string(key), v);
}

void value_append(struct value *table, struct value v)
{
    ASSERT(table->kind == VALUE_TABLE);
    ASSERT(v.kind != VALUE_NIL);
    pair_add(table->table, value_number((double)value_length(table) + 1), v);
}

const char *value_text(const struct value *v)
{
    return v && v->kind == VALUE_STRING ? v->string.bytes : NULL;
}

const char *value_get_text(const struct value *table, const char *key)
{
    return value_text(value_get(table, key));
}

double value_get_number(const struct value *table, const char *key, double otherwise)
{
    const struct value *v = value_get(table, key);
    return v && v->kind == VALUE_NUMBER ? v->number : otherwise;
}

size_t value_weight(const struct value *v)
{
    size_t weight = sizeof *v;
    if (v->kind == VALUE_STRING) weight += v->string.len + 1;
    if (v->kind != VALUE_TABLE) return weight;
    for (uint32_t i = 0; i < v->table->count; i++) {
        weight += value_weight(&v->table->pairs[i].key) + value_weight(&v->table->pairs[i].value);
    }
    return weight;
}

static bool number_write(double n, struct buffer *out)
{
    if (!isfinite(n)) return buffer_append_text(out, "null");
    if (n == floor(n) && fabs(n) < 0x1p53) return buffer_append_decimal(out, (int64_t)n);
    return buffer_printf(out, "%.17g", n);
}

static int pair_compare(const void *a, const void *b)
{
    const struct value *x = &(*(struct value_pair *const *)a)->key;
    const struct value *y = &(*(struct value_pair *const *)b)->key;
    if (x->kind != y->kind) return x->kind == VALUE_NUMBER ? -1 : 1;
    if (x->kind == VALUE_NUMBER) return (x->number > y->number) - (x->number < y->number);
    return strcmp(x->string.bytes, y->string.bytes);
}

static bool break_line(struct buffer *out, int indent)
{
    if (indent < 0) return true;
    bool ok = buffer_append_char(out, '\n');
    for (int i = 0; ok && i < indent; i++) ok = buffer_append_text(out, "  ");
    return ok;
}

static bool table_write(const struct value *v, struct buffer *out, int indent)
{
    const struct value_table *t = v->table;
    bool array = t->count > 0 && value_length(v) == t->count;
    if (t->count == 0) return buffer_append_text(out, "{}");
    /* A session is written with every read that brought frames: that must not allocate. */
    struct value_pair *few[PAIRS_FEW], **order = few;
    if (t->count > PAIRS_FEW) order = must(malloc(t->count * sizeof(void *)));
    for (uint32_t i = 0; i < t->count; i++) order[i] = &t->pairs[i];
    qsort(order, t->count, sizeof(void *), pair_compare);

    int inner = indent < 0 ? -1 : indent + 1;
    bool ok = buffer_append_char(out, array ? '[' : '{');
    for (uint32_t i = 0; ok && i < t->count; i++) {
        if (i) ok = buffer_append_char(out, ',');
        ok = ok && break_line(out, inner);
        const struct value *key = &order[i]->key;
        if (!array && key->kind == VALUE_STRING) {
            ok = ok && text_json_string(out, key->string.bytes, key->string.len);
        } else if (!array) {
            ok = ok && buffer_append_char(out, '"') && number_write(key->number, out) &&
                 buffer_append_char(out, '"');
        }
        if (!array) ok = ok && buffer_append_text(out, indent < 0 ? ":" : ": ");
        ok = ok && json_write(&order[i]->value, out, inner);
    }
    if (order != few) free(order);
    return ok && break_line(out, indent) && buffer_append_char(out, array ? ']' : '}');
}

static bool json_write(const struct value *v, struct buffer *out, int indent)
{
    switch (v->kind) {
    case VALUE_NIL:
        return buffer_append_text(out, "null");
    case VALUE_BOOL:
        return buffer_append_text(out, v->boolean ? "true" : "false");
    case VALUE_NUMBER:
        return number_write(v->number, out);
    case VALUE_STRING:
        return text_json_string(out, v->string.bytes, v->string.len);
    case VALUE_SECRET:
        return buffer_printf(out, "\"<secret %s>\"", secret_name(v->secret));
    case VALUE_TABLE:
        return table_write(v, out, indent);
    case VALUE_FUNCTION:
        return buffer_append_text(out, "\"<function>\"");
    }
    return false;
}

bool value_to_json(const struct value *v, struct buffer *out)
{
    return json_write(v, out, -1);
}

bool value_to_json_pretty(const struct value *v, struct buffer *out)
{
    return json_write(v, out, 0);
}
