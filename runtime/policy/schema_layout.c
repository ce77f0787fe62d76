/* What a binary message is (`layout`), how its parts are joined (`join`), and acknowledgements that are the
 * message itself but for some fields (`echo`, `reply` of a row of `ack`). Compiles them into frame_rules. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/text.h"
#include "frame/json.h"
#include "frame/path.h"
#include "frame/protobuf.h"
#include "policy/schema_internal.h"

#define ECHO_TEXT_MAX 4096
#define ECHO_BYTES_MAX 8192 /* of all changes of a row */

static const char *const kind_words[] = {
#define X(name, text) text,
    PROTOBUF_KIND_MAP(X)
#undef X
        NULL
};

static void number_key(struct schema *s, const struct value *v, void *base)
{
    int64_t n;
    if (schema__integer(s, v, 1, PROTOBUF_NUMBER_MAX, &n)) *(uint32_t *)base = (uint32_t)n;
}

#define FIELD(member) offsetof(struct protobuf_field, member), sizeof(((struct protobuf_field *)0)->member)
/* Beside the number and the kind, which have no names. */
static const struct key field_row[] = {
    { "required", KEY_BOOL, 0, 0, 0, NULL, NULL, NULL, FIELD(required), "false",
      "a message without it is malformed" },
    { "key", KEY_CUSTOM, 0, 0, 0, NULL, NULL, number_key, FIELD(key), "1",
      "kind map: the number of an entry's key" },
    { "value", KEY_CUSTOM, 0, 0, 0, NULL, NULL, number_key, FIELD(value), "2",
      "kind map: the number of an entry's value" },
    { .name = NULL },
};

/* --- layout ------------------------------------------------------------------------------------- */

static bool name_is_good(const char *name)
{
    static const char tail[] = "_base64";
    size_t len = name ? strlen(name) : 0;
    if (!len || !schema__is_name(name, RULE_NAME_MAX - 1) || strpbrk(name, "-.")) return false;
    return len <= sizeof tail - 1 || strcmp(name + len - (sizeof tail - 1), tail) != 0;
}

/* { 5, "map", key = 1, value = 2 } */
static bool field_read(struct schema *s, const char *name, const struct value *row,
                       struct protobuf_field *out)
{
    char text[96];
    *out = (struct protobuf_field){ .key = 1, .value = 2 };
    if (!name_is_good(name)) {
        schema__error(s, "expected a name of letters, digits and _, at most %d bytes, not ending in _base64",
                      RULE_NAME_MAX - 1);
        return false;
    }
    if (row->kind != VALUE_TABLE || value_length(row) != 2) {
        schema__error(s, "expected a number and a kind, such as { 5, \"string\" }, got %s",
                      schema__describe(s, row, text));
        return false;
    }
    schema__enter(s, NULL, 1, value_at(row, 1));
    number_key(s, value_at(row, 1), &out->number);
    schema__leave(s);
    schema__enter(s, NULL, 2, value_at(row, 2));
    int kind = schema__word(s, value_at(row, 2), kind_words);
    schema__leave(s);
    struct value named = value_table();
    for (uint32_t i = 0; i < row->table->count; i++) {
        const struct value_pair *p = &row->table->pairs[i];
        if (p->key.kind == VALUE_STRING) value_set(&named, value_text(&p->key), value_copy(&p->value));
    }
    named.line = row->line;
    schema__keys(s, field_row, &named, out);
    if (kind != PROTOBUF_MAP && (value_get(&named, "key") || value_get(&named, "value"))) {
        schema__error(s, "key and value are of the kind map");
    } else if (kind == PROTOBUF_MAP && out->key == out->value) {
        schema__error(s, "key and value have the same number");
    }
    value_clear(&named);
    if (kind < 0 || out->number == 0) return false;
    out->kind = (enum protobuf_kind)kind;
    text_copy(out->name, sizeof out->name, name, strlen(name));
    return true;
}

static void field_add(struct schema *s, struct protobuf_layout *layout, const struct protobuf_field *f)
{
    uint32_t at = layout->count;
    while (at > 0 && layout->fields[at - 1].number > f->number) at--;
    if (at > 0 && layout->fields[at - 1].number == f->number) {
        schema__error(s, "the number %u is that of %s", f->number, layout->fields[at - 1].name);
        return;
    }
    memmove(&layout->fields[at + 1], &layout->fields[at], (layout->count - at) * sizeof *f);
    layout->fields[at] = *f;
    layout->count++;
}

void schema__layout(struct schema *s, const struct value *v, void *base)
{
    (void)base;
    char text[96];
    struct frame_rules *r = &s->shape->rules;
    if (v->kind != VALUE_TABLE || v->table->count == 0) {
        schema__error(s, "expected fields, such as { id = { 1, \"uint64\" } }, got %s",
                      schema__describe(s, v, text));
        return;
    }
    r->layout = schema__alloc(1, sizeof *r->layout);
    for (uint32_t i = 0; i < v->table->count; i++) {
        const struct value_pair *p = &v->table->pairs[i];
        struct protobuf_field field;
        schema__enter(s, value_text(&p->key), i + 1, &p->value);
        if (r->layout->count == PROTOBUF_FIELDS_MAX) {
            schema__error(s, "at most %d fields are possible", PROTOBUF_FIELDS_MAX);
        } else if (field_read(s, value_text(&p->key), &p->value, &field)) {
            field_add(s, r->layout, &field);
        }
        schema__leave(s);
    }
    if (r->codec != CODEC_PROTOBUF) schema__error(s, "belongs to codec = \"protobuf\"");
}

/* The layout's field that a value names, or NULL and an error. */
static const struct protobuf_field *layout_field(struct schema *s, const char *name)
{
    const struct protobuf_layout *layout = s->shape->rules.layout;
    if (!layout) {
        schema__error(s, "needs frames.layout");
        return NULL;
    }
    int i = name ? protobuf_layout_field(layout, name, strlen(name)) : -1;
    if (i >= 0) return &layout->fields[i];
    const char *names[PROTOBUF_FIELDS_MAX];
    for (uint32_t n = 0; n < layout->count; n++) names[n] = layout->fields[n].name;
    const char *near = name ? text_nearest(name, names, layout->count) : NULL;
    schema__error(s, "no such field in frames.layout%s%s%s", near ? "; did you mean \"" : "",
                  near ? near : "", near ? "\"?" : "");
    return NULL;
}

/* --- join ----------------------------------------------------------------------------------------- */

static void take_key(struct schema *s, const struct value *v, void *base)
{
    int field = schema__field_of(s, v);
    if (field >= 0) *(uint8_t *)base = (uint8_t)field;
}

static void join_of(struct schema *s, const struct value *v, void *base)
{
    const struct protobuf_field *field = layout_field(s, value_text(v));
    if (!field) return;
    if (field->kind != PROTOBUF_JSON && field->kind != PROTOBUF_BYTES) {
        schema__error(s, "is of the kind %s; parts are json or bytes", kind_words[field->kind]);
    }
    *(uint32_t *)base = field->number;
    s->shape->rules.join.on = true;
}

#define JOIN(member)                                                                              \
    offsetof(struct policy_shape, rules.join.member),                                             \
        sizeof(((struct policy_shape *)0)->rules.join.member)

const struct key schema__join_keys[] = {
    { "by", KEY_CUSTOM, KEY_REQUIRED, 0, 0, NULL, NULL, take_key, JOIN(by), NULL,
      "a name of `take`: what the parts of a message share" },
    { "index", KEY_CUSTOM, KEY_REQUIRED, 0, 0, NULL, NULL, take_key, JOIN(index), NULL,
      "a name of `take`: the part's position, from 0" },
    { "count", KEY_CUSTOM, KEY_REQUIRED, 0, 0, NULL, NULL, take_key, JOIN(count), NULL,
      "a name of `take`: the number of parts; a frame without it is whole" },
    { "of", KEY_CUSTOM, KEY_REQUIRED, 0, 0, NULL, NULL, join_of, JOIN(of), NULL,
      "the field of `layout` that is in parts" },
    { "within", KEY_DURATION, 0, 100, 3600000.0, NULL, NULL, NULL, JOIN(within_ms), "10s",
      "from the first part on; what is not whole then is dropped" },
    { "parts", KEY_INTEGER, 0, 2, 65536, NULL, NULL, NULL, JOIN(parts), "256",
      "the most parts of one message" },
    { "bytes", KEY_SIZE, 0, 1024, 1073741824.0, NULL, NULL, NULL, JOIN(bytes), "16MiB",
      "the most bytes held for unfinished messages, for each link" },
    { .name = NULL },
};

/* --- acknowledgements that are echoes -------------------------------------------------------------- */

/* Decoded text of at most ECHO_TEXT_MAX bytes; JSON where the field is JSON. */
static bool echo_text(struct schema *s, const struct protobuf_field *field, const struct value *v)
{
    char text[96];
    if (v->kind != VALUE_STRING || v->string.len > ECHO_TEXT_MAX) {
        schema__error(s, "expected a text of at most %d bytes, got %s", ECHO_TEXT_MAX,
                      schema__describe(s, v, text));
        return false;
    }
    if (field->kind == PROTOBUF_STRING && !text_is_utf8(v->string.bytes, v->string.len)) {
        schema__error(s, "expected a text in UTF-8");
        return false;
    }
    if (field->kind != PROTOBUF_JSON) return true;
    uint8_t *copy = schema__alloc(v->string.len + 1, 1);
    if (v->string.len) memcpy(copy, v->string.bytes, v->string.len);
    bool json = json_scan(copy, v->string.len, NULL, NULL, NULL) == JSON_OK;
    free(copy);
    if (!json) schema__error(s, "is no valid JSON");
    return json;
}

static void echo_pairs(struct schema *s, const struct protobuf_field *field, const struct value *v,
                       struct buffer *out)
{
    char text[96];
    if (v->kind != VALUE_TABLE || v->table->count == 0) {
        schema__error(s, "expected { name = \"text\" }, got %s", schema__describe(s, v, text));
        return;
    }
    for (uint32_t i = 0; i < v->table->count; i++) {
        const struct value *name = &v->table->pairs[i].key, *pair = &v->table->pairs[i].value;
        schema__enter(s, value_text(name), i + 1, pair);
        if (name->kind != VALUE_STRING || pair->kind != VALUE_STRING) {
            schema__error(s, "expected name = \"text\"");
        } else if (!protobuf_put_pair(out, field, name->string.bytes, name->string.len,
                                      pair->string.bytes, pair->string.len)) {
            schema__error(s, "is too long");
        }
        schema__leave(s);
    }
}

static void echo_field(struct schema *s, const struct value_pair *pair, struct ack_rule *rule)
{
    const struct protobuf_field *field = layout_field(s, value_text(&pair->key));
    if (!field) return;
    struct buffer bytes;
    buffer_init(&bytes, ECHO_BYTES_MAX);
    enum protobuf_change_kind kind = field->kind == PROTOBUF_MAP ? PROTOBUF_APPEND : PROTOBUF_REPLACE;
    if (field->kind == PROTOBUF_MAP) {
        echo_pairs(s, field, &pair->value, &bytes);
    } else if (field->kind != PROTOBUF_JSON && field->kind != PROTOBUF_BYTES &&
               field->kind != PROTOBUF_STRING) {
        schema__error(s, "is of the kind %s; only text and maps can be changed", kind_words[field->kind]);
    } else if (echo_text(s, field, &pair->value) &&
               !protobuf_put_bytes(&bytes, field->number, pair->value.string.bytes, pair->value.string.len)) {
        schema__error(s, "is too long");
    }
    rule->changes[rule->change_count++] =
        (struct protobuf_change){ field->number, kind, bytes.data, bytes.len };
}

void schema__ack_echo(struct schema *s, const struct value *v, void *base)
{
    struct ack_rule *rule = base;
    char text[96];
    if (v->kind != VALUE_TABLE || v->table->count == 0 || v->table->count > PROTOBUF_FIELDS_MAX) {
        schema__error(s, "expected the fields that change, such as { payload = '{\"code\":200}' }, got %s",
                      schema__describe(s, v, text));
        return;
    }
    rule->changes = schema__alloc(v->table->count, sizeof *rule->changes);
    for (uint32_t i = 0; i < v->table->count; i++) {
        const struct value_pair *pair = &v->table->pairs[i];
        schema__enter(s, value_text(&pair->key), i + 1, &pair->value);
        echo_field(s, pair, rule);
        schema__leave(s);
    }
}

/* { payload = '{"code":200,"data":"@reply_base64"}' } */
void schema__ack_reply(struct schema *s, const struct value *v, void *base)
{
    struct ack_rule *rule = base;
    char text[96];
    if (v->kind != VALUE_TABLE || v->table->count != 1) {
        schema__error(s, "expected one field of frames.layout and its text, got %s",
                      schema__describe(s, v, text));
        return;
    }
    const struct value_pair *pair = &v->table->pairs[0];
    const struct protobuf_field *field = layout_field(s, value_text(&pair->key));
    if (!field) return;
    if (field->kind != PROTOBUF_JSON) {
        schema__error(s, "is of the kind %s; a reply goes into a field that is JSON", kind_words[field->kind]);
        return;
    }
    if (!echo_text(s, field, &pair->value)) return;
    if (!path_reply_check(pair->value.string.bytes)) {
        schema__error(s, "says nowhere \"@reply\" or \"@reply_base64\", for what the consumer answers");
        return;
    }
    rule->reply_number = field->number;
    rule->reply = strdup(pair->value.string.bytes);
    ASSERT(rule->reply != NULL);
}
