/* JSON of the local API as the table that a configuration file would have written: same values, and
 * { "credential": "name" } where the file says secret { credential = "name" }. Bounded in depth and
 * width, since it comes from outside; never repeats what it was given. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "config/config_internal.h"
#include "frame/json.h"

#define JSON_DEPTH_HERE_MAX 16
#define JSON_ITEMS_MAX      256 /* of one object or list: each is looked up once per other */
#define JSON_PATH_BYTES     120

struct json_read {
    struct problems *problems;
    char path[JSON_PATH_BYTES];
    int depth;
};

static struct value item_read(struct json_read *r, const cJSON *item);

static void error(struct json_read *r, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void error(struct json_read *r, const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    problems_add(r->problems, false, "", 0, r->path, "%s", text);
}

/* One key more on the path; what restores it is its length before. */
static size_t path_enter(struct json_read *r, const char *key, uint32_t index)
{
    size_t len = strlen(r->path), left = sizeof r->path - len;
    if (key)
        snprintf(r->path + len, left, "%s%.60s", len ? "." : "", key);
    else
        snprintf(r->path + len, left, "[%u]", index);
    return len;
}

static struct value credential_read(struct json_read *r, const cJSON *name)
{
    char why[256];
    bool open;
    struct value place = value_table(), result = value_nil();
    value_set(&place, "credential", value_string(name->valuestring));
    struct secret *s = config_secret_read(&place, "", &open, why, sizeof why);
    if (s)
        result = value_secret(s);
    else
        error(r, "%s", why);
    secret_unref(s);
    value_clear(&place);
    return result;
}

static struct value object_read(struct json_read *r, const cJSON *object)
{
    struct value table = value_table();
    uint32_t count = 0;
    const cJSON *first = object->child, *item;
    if (first && !first->next && strcmp(first->string, "credential") == 0 &&
        cJSON_IsString(first)) {
        value_clear(&table);
        return credential_read(r, first);
    }
    cJSON_ArrayForEach(item, object)
    {
        size_t before = path_enter(r, item->string, 0);
        if (++count > JSON_ITEMS_MAX) {
            error(r, "too many keys; at most %d are possible in one object", JSON_ITEMS_MAX);
        } else if (value_get(&table, item->string)) {
            error(r, "stands here twice");
        } else {
            value_set(&table, item->string, item_read(r, item));
        }
        r->path[before] = 0;
        if (count > JSON_ITEMS_MAX) break;
    }
    return table;
}

static struct value list_read(struct json_read *r, const cJSON *list)
{
    struct value table = value_table();
    uint32_t count = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, list)
    {
        size_t before = path_enter(r, NULL, ++count);
        if (count > JSON_ITEMS_MAX) {
            error(r, "too many values; at most %d are possible in one list", JSON_ITEMS_MAX);
        } else {
            value_append(&table, item_read(r, item));
        }
        r->path[before] = 0;
        if (count > JSON_ITEMS_MAX) break;
    }
    return table;
}

static struct value item_read(struct json_read *r, const cJSON *item)
{
    struct value v = value_nil();
    if (cJSON_IsBool(item)) return value_bool(cJSON_IsTrue(item));
    if (cJSON_IsNumber(item)) return value_number(item->valuedouble);
    if (cJSON_IsString(item)) return value_string(item->valuestring);
    if (!cJSON_IsObject(item) && !cJSON_IsArray(item)) {
        error(r, "null is no value: leave the key out");
        return v;
    }
    if (r->depth >= JSON_DEPTH_HERE_MAX) {
        error(r, "is nested too deep; at most %d levels are possible", JSON_DEPTH_HERE_MAX);
        return v;
    }
    r->depth++;
    v = cJSON_IsObject(item) ? object_read(r, item) : list_read(r, item);
    r->depth--;
    return v;
}

bool config_json_read(const void *json, size_t len, struct value *out, struct problems *problems)
{
    struct json_read r = { .problems = problems };
    uint32_t errors_before = problems->errors;
    *out = value_nil();
    /* Our own scanner is strict and bounds the depth; cJSON then only builds the tree. */
    struct buffer copy;
    buffer_init(&copy, 0);
    bool good = buffer_append(&copy, json, len) &&
                json_scan(copy.data, copy.len, NULL, NULL, NULL) == JSON_OK;
    cJSON *root = good ? cJSON_ParseWithLength((const char *)copy.data, copy.len) : NULL;
    buffer_deinit(&copy);
    /* cJSON would end the text there, in silence. */
    if (len && memmem(json, len, "\\u0000", 6))
        error(&r, "a text with a NUL in it is not possible");
    else if (!root)
        error(&r, "expected one JSON object, got something that is no JSON");
    else if (!cJSON_IsObject(root))
        error(&r, "expected one JSON object, got another value");
    else
        *out = object_read(&r, root);
    cJSON_Delete(root);
    if (problems->errors == errors_before && out->kind != VALUE_TABLE) {
        error(&r, "expected one JSON object, got a credential alone");
    }
    if (problems->errors == errors_before) return true;
    value_clear(out);
    return false;
}
