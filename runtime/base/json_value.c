/* JSON as a value: parsed by cJSON, which bounds the depth, and copied. */
#include "base/json_value.h"

#include <stdio.h>
#include <string.h>

#include <cjson/cJSON.h>

static struct value copy(const cJSON *item)
{
    if (cJSON_IsBool(item)) return value_bool(cJSON_IsTrue(item));
    if (cJSON_IsNumber(item)) return value_number(item->valuedouble);
    if (cJSON_IsString(item)) return value_string(item->valuestring);
    if (!cJSON_IsObject(item) && !cJSON_IsArray(item)) return value_nil();
    struct value table = value_table();
    const cJSON *child;
    cJSON_ArrayForEach(child, item)
    {
        struct value v = copy(child);
        if (v.kind == VALUE_NIL) continue;
        if (cJSON_IsArray(item)) value_append(&table, v);
        else value_set(&table, child->string, v);
    }
    return table;
}

bool json_value_parse(const char *text, size_t len, struct value *out, char *error, size_t error_bytes)
{
    const char *end = NULL;
    *out = value_nil();
    cJSON *root = cJSON_ParseWithLengthOpts(text, len, &end, 0);
    bool whole = root != NULL;
    while (whole && end < text + len) whole = strchr(" \t\r\n", *end) && *end++;
    if (whole) {
        *out = copy(root);
    } else {
        snprintf(error, error_bytes, "not JSON at byte %zu", end ? (size_t)(end - text) + 1 : 1);
    }
    cJSON_Delete(root);
    return whole;
}
