/* Acknowledgement templates: JSON text in which a whole string "@name" stands for a field. Knows
 * nothing of when an acknowledgement is due. */
#include "frame/path.h"

#include <stdlib.h>
#include <string.h>

#include "crypto/digest.h"
#include "frame/protobuf.h"

static bool next_name(const char *from, const char **start, const char **end);
static int name_field(const struct frame_rules *rules, const char *name, size_t len);

bool path_ack_expand(const struct frame_rules *rules, const char *template_text,
                     const struct field_value *values, struct buffer *out)
{
    const char *from = template_text, *start, *end;
    size_t before = out->len;
    while (next_name(from, &start, &end)) {
        int field = name_field(rules, start + 2, (size_t)(end - start) - 3);
        const struct field_value *v = field < 0 ? NULL : &values[field];
        if (!v || v->kind == FIELD_ABSENT) goto fail;
        size_t quote = v->kind == FIELD_STRING ? 1 : 0;
        if (!buffer_append(out, from, (size_t)(start - from))) goto fail;
        if (quote && !buffer_append_char(out, '"')) goto fail;
        if (!buffer_append(out, v->text, v->len)) goto fail;
        if (quote && !buffer_append_char(out, '"')) goto fail;
        from = end;
    }
    if (!buffer_append_text(out, from)) goto fail;
    if (rules->send_bytes_max && out->len - before > rules->send_bytes_max) goto fail;
    return true;

fail:
    out->len = before;
    return false;
}

bool path_ack_check(const struct frame_rules *rules, const char *template_text,
                    char bad_out[RULE_NAME_MAX])
{
    if (bad_out) bad_out[0] = 0;
    size_t len = strlen(template_text);
    uint8_t *copy = malloc(len + 1);
    if (!copy) return false;
    memcpy(copy, template_text, len + 1);
    enum json_result result = json_scan(copy, len, NULL, NULL, NULL);
    free(copy);
    if (result != JSON_OK) return false;
    const char *start, *end;
    for (const char *from = template_text; next_name(from, &start, &end); from = end) {
        size_t name_len = (size_t)(end - start) - 3;
        if (name_field(rules, start + 2, name_len) >= 0) continue;
        if (name_len > RULE_NAME_MAX - 1) name_len = RULE_NAME_MAX - 1;
        if (bad_out) {
            memcpy(bad_out, start + 2, name_len);
            bad_out[name_len] = 0;
        }
        return false;
    }
    return true;
}

bool path_ack_make(const struct frame_rules *rules, const struct ack_rule *rule,
                   const struct field_value *values, const void *raw, size_t raw_len, struct buffer *out)
{
    size_t before = out->len;
    if (rule->frame) return path_ack_expand(rules, rule->frame, values, out);
    if (rule->change_count == 0 || !raw) return false;
    if (protobuf_echo(raw, raw_len, rule->changes, rule->change_count, out) != PROTOBUF_OK) return false;
    if (!rules->send_bytes_max || out->len - before <= rules->send_bytes_max) return true;
    out->len = before;
    return false;
}

static bool name_is(const char *start, const char *end, const char *name)
{
    size_t len = strlen(name);
    return (size_t)(end - start) == len + 2 && memcmp(start + 1, name, len) == 0;
}

bool path_reply_check(const char *template_text)
{
    const char *start, *end;
    for (const char *from = template_text; next_name(from, &start, &end); from = end) {
        if (name_is(start, end, "@reply") || name_is(start, end, "@reply_base64")) return true;
    }
    return false;
}

static bool reply_text(const char *template_text, const void *answer, size_t len, struct buffer *out)
{
    const char *from = template_text, *start, *end;
    for (; next_name(from, &start, &end); from = end) {
        if (!buffer_append(out, from, (size_t)(start - from))) return false;
        if (name_is(start, end, "@reply")) {
            if (!buffer_append(out, answer, len)) return false;
        } else if (name_is(start, end, "@reply_base64")) {
            if (!buffer_append_char(out, '"') || !buffer_reserve(out, BASE64_TEXT_BYTES(len) + 1)) return false;
            out->len += base64_encode(answer, len, (char *)out->data + out->len);
            if (!buffer_append_char(out, '"')) return false;
        } else if (!buffer_append(out, start, (size_t)(end - start))) {
            return false;
        }
    }
    return buffer_append_text(out, from);
}

bool path_reply_expand(const struct frame_rules *rules, const struct ack_rule *rule, const void *ack,
                       size_t ack_len, const void *answer, size_t answer_len, struct buffer *out)
{
    struct buffer text, field;
    size_t before = out->len;
    buffer_init(&text, 0);
    buffer_init(&field, 0);
    struct protobuf_change change = { .number = rule->reply_number, .kind = PROTOBUF_REPLACE };
    bool ok = rule->reply && reply_text(rule->reply, answer, answer_len, &text) &&
              protobuf_put_bytes(&field, change.number, text.data, text.len);
    change.bytes = field.data;
    change.len = field.len;
    ok = ok && protobuf_echo(ack, ack_len, &change, 1, out) == PROTOBUF_OK;
    if (ok && rules->send_bytes_max && out->len - before > rules->send_bytes_max) ok = false;
    if (!ok) out->len = before;
    buffer_deinit(&text);
    buffer_deinit(&field);
    return ok;
}

/* Finds the next string "@name", quotes included: [*start, *end). Walks string by string, so that an
 * escaped quote cannot begin one. */
static bool next_name(const char *from, const char **start, const char **end)
{
    for (const char *p = strchr(from, '"'); p; p = strchr(p, '"')) {
        const char *begin = p++;
        size_t name = 0;
        if (*p == '@') {
            name = strspn(p + 1, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");
        }
        if (name && p[1 + name] == '"') {
            *start = begin;
            *end = p + name + 2;
            return true;
        }
        while (*p && *p != '"') p += p[0] == '\\' && p[1] ? 2 : 1;
        if (!*p) return false;
        p++;
    }
    return false;
}

static int name_field(const struct frame_rules *rules, const char *name, size_t len)
{
    for (uint32_t i = 0; i < rules->field_count; i++) {
        if (strlen(rules->fields[i].name) == len && memcmp(rules->fields[i].name, name, len) == 0) {
            return (int)i;
        }
    }
    return -1;
}
