/* Attach: what a consumer asks for, from a query or from a JSON line. Pure: fills a struct, refuses
 * with a sentence. */
#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#include "deliver/deliver_internal.h"

static bool set_bool(bool *out, const char *value, const char *wrong, const char **why);
static bool parse_position(const char *value, struct attach *a);
static bool parse_item(const cJSON *item, struct attach *a, const char **why);

void attach_init(struct attach *a)
{
    memset(a, 0, sizeof *a);
    a->states = true;
    a->gaps = true;
}

bool attach_set(struct attach *a, const char *key, const char *value, const char **why)
{
    *why = NULL;
    if (strcmp(key, "consumer") == 0) {
        if (!consumer__name_is_valid(value))
            *why = "a consumer's name has 1 to 63 of A-Z a-z 0-9 . _ -";
        else if (a->consumer) *why = "consumer is given twice";
        a->consumer = value;
    } else if (strcmp(key, "connection") == 0) {
        if (a->pattern_count == ATTACH_PATTERNS_MAX) *why = "at most 32 patterns of connections";
        else if (!value[0] || strlen(value) >= PATTERN_BYTES) *why = "a pattern has 1 to 127 bytes";
        else a->patterns[a->pattern_count++] = value;
    } else if (strcmp(key, "from") == 0) {
        a->has_from = true;
        if (strcmp(value, "now") == 0) a->from = ATTACH_NOW;
        else if (strcmp(value, "start") == 0) a->from = ATTACH_START;
        else if (strcmp(value, "cursor") == 0) a->from = ATTACH_CURSOR;
        else if (!parse_position(value, a)) *why = "from is now, start, cursor or EPOCH.OFFSET";
    } else if (strcmp(key, "states") == 0) {
        return set_bool(&a->states, value, "states is true or false", why);
    } else if (strcmp(key, "gaps") == 0) {
        return set_bool(&a->gaps, value, "gaps is true or false", why);
    } else {
        *why = "known are connection, consumer, from, states and gaps";
    }
    return *why == NULL;
}

bool attach_parse_json(const char *line, size_t len, struct attach *out, struct buffer *scratch,
                       const char **why)
{
    attach_init(out);
    *why = "not one JSON object {\"attach\":{...}}";
    while (len > 0 && (line[len - 1] == '\n' || line[len - 1] == '\r')) len--;
    if (len == 0 || len > DELIVER_LINE_BYTES_MAX) return false;

    /* Our own scanner is strict and bounds the depth; cJSON then only builds the tree. */
    buffer_clear(scratch);
    if (!buffer_append(scratch, line, len)) return false;
    if (json_scan(scratch->data, scratch->len, NULL, NULL, NULL) != JSON_OK) return false;
    cJSON *root = cJSON_ParseWithLength((const char *)scratch->data, scratch->len);
    const cJSON *attach = cJSON_GetObjectItemCaseSensitive(root, "attach");
    bool ok = cJSON_IsObject(root) && cJSON_IsObject(attach) && !root->child->next;
    for (const cJSON *item = ok ? attach->child : NULL; ok && item; item = item->next)
        ok = parse_item(item, out, why);

    /* The tree goes; its strings move to scratch, which has room: they were all in the line. */
    const char **texts[ATTACH_PATTERNS_MAX + 1];
    uint32_t count = 0;
    if (out->consumer) texts[count++] = &out->consumer;
    for (uint32_t i = 0; i < out->pattern_count; i++) texts[count++] = &out->patterns[i];
    buffer_clear(scratch);
    ok = ok && buffer_reserve(scratch, (size_t)count * PATTERN_BYTES);
    for (uint32_t i = 0; ok && i < count; i++) {
        size_t bytes = strlen(*texts[i]) + 1;
        memcpy(scratch->data + scratch->len, *texts[i], bytes);
        *texts[i] = (const char *)scratch->data + scratch->len;
        scratch->len += bytes;
    }
    cJSON_Delete(root);
    if (ok) *why = NULL;
    else attach_init(out); /* nothing borrowed from the tree stays */
    return ok;
}

static bool parse_item(const cJSON *item, struct attach *a, const char **why)
{
    if (strcmp(item->string, "connections") == 0) {
        *why = "connections is a list of patterns";
        if (!cJSON_IsArray(item)) return false;
        for (const cJSON *at = item->child; at; at = at->next) {
            *why = "connections is a list of patterns";
            if (!cJSON_IsString(at) || !attach_set(a, "connection", at->valuestring, why))
                return false;
        }
        return true;
    }
    if (strcmp(item->string, "connection") == 0) {
        *why = "a line's key is connections, with a list of patterns";
        return false;
    }
    if (cJSON_IsBool(item))
        return attach_set(a, item->string, cJSON_IsTrue(item) ? "true" : "false", why);
    if (cJSON_IsNull(item) && strcmp(item->string, "consumer") == 0) return true;
    *why = "consumer and from are texts";
    return cJSON_IsString(item) && attach_set(a, item->string, item->valuestring, why);
}

static bool set_bool(bool *out, const char *value, const char *wrong, const char **why)
{
    bool yes = strcmp(value, "true") == 0;
    if (!yes && strcmp(value, "false") != 0) {
        *why = wrong;
        return false;
    }
    *out = yes;
    return true;
}

/* EPOCH.OFFSET, both plain decimal counts. */
static bool parse_position(const char *value, struct attach *a)
{
    uint64_t parts[2] = { 0, 0 };
    const char *at = value;
    for (int i = 0; i < 2; i++) {
        int digits = 0;
        for (; *at >= '0' && *at <= '9'; at++, digits++) {
            if (digits == 18) return false;
            parts[i] = parts[i] * 10 + (uint64_t)(*at - '0');
        }
        if (digits == 0 || (i == 0 && *at++ != '.')) return false;
    }
    if (*at) return false;
    a->from = ATTACH_POSITION;
    a->epoch = parts[0];
    a->offset = parts[1];
    return true;
}
