/* Acknowledgement templates: JSON text in which a whole string "@name" stands for a field. Knows
 * nothing of when an acknowledgement is due. */
#include "frame/path.h"

#include <stdlib.h>
#include <string.h>

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
