/* Field paths as a tree of keys, so that the scanner compares each key of an object with the few keys
 * that matter there, and with none inside objects that no path enters. */
#include "frame/json.h"

#include <string.h>

#include "base/assert.h"
#include "frame/json_internal.h"

_Static_assert(FIELDS_MAX <= 16, "a bit per field in uint16_t");
_Static_assert(JSON_NODES_MAX <= 256, "node numbers fit uint8_t");
_Static_assert(FIELDS_MAX * FIELD_PATH_MAX <= UINT16_MAX, "key_at fits uint16_t");

static uint32_t node_add(struct json_paths *p, uint32_t parent, const char *key, size_t len);

bool json_path_is_valid(const char *path)
{
    size_t len = strnlen(path, FIELD_PATH_MAX);
    if (len == 0 || len >= FIELD_PATH_MAX) return false;
    uint32_t parts = 1;
    if (path[0] == '.' || path[len - 1] == '.') return false;
    for (size_t i = 1; i < len; i++) {
        if (path[i] != '.') continue;
        if (path[i - 1] == '.') return false;
        parts++;
    }
    return parts <= FIELD_DEPTH_MAX;
}

bool json_paths_init(struct json_paths *p, const struct frame_rules *rules)
{
    ASSERT(rules->field_count <= FIELDS_MAX);
    memset(p, 0, sizeof *p);
    p->node_count = 1;
    p->count = rules->field_count;
    size_t key_at = 0;
    for (uint32_t i = 0; i < rules->field_count; i++) {
        const char *path = rules->fields[i].path;
        if (!json_path_is_valid(path)) return false;
        memcpy(p->keys + key_at, path, strlen(path));
        uint32_t node = 0;
        const char *part = p->keys + key_at, *end = part + strlen(path);
        p->nodes[0].below |= (uint16_t)(1u << i);
        while (part <= end) {
            const char *dot = memchr(part, '.', (size_t)(end - part));
            if (!dot) dot = end;
            node = node_add(p, node, part, (size_t)(dot - part));
            p->nodes[node].below |= (uint16_t)(1u << i);
            part = dot + 1;
        }
        p->nodes[node].fields |= (uint16_t)(1u << i);
        key_at += FIELD_PATH_MAX;
    }
    return true;
}

uint32_t json__child(const struct json_paths *p, uint32_t node, const uint8_t *key, size_t len,
                     bool escaped)
{
    uint32_t c = p->nodes[node].child;
    if (escaped) {
        struct field_value decoded = { .text = key, .len = len, .escaped = true };
        for (; c; c = p->nodes[c].next) {
            if (json_string_equal(&decoded, p->keys + p->nodes[c].key_at, p->nodes[c].key_len)) return c;
        }
        return 0;
    }
    for (; c; c = p->nodes[c].next) {
        const struct json_node *n = &p->nodes[c];
        if (n->key_len != len || n->first != *key) continue;
        if (len == 1 || memcmp(p->keys + n->key_at, key, len) == 0) return c;
    }
    return 0;
}

/* Finds or adds the child; `key` lies in p->keys. */
static uint32_t node_add(struct json_paths *p, uint32_t parent, const char *key, size_t len)
{
    uint32_t found = json__child(p, parent, (const uint8_t *)key, len, false);
    if (found) return found;
    ASSERT(p->node_count < JSON_NODES_MAX);
    uint32_t added = p->node_count++;
    p->nodes[added].key_at = (uint16_t)(key - p->keys);
    p->nodes[added].key_len = (uint8_t)len;
    p->nodes[added].first = (uint8_t)*key;
    p->nodes[added].next = p->nodes[parent].child;
    p->nodes[parent].child = (uint8_t)added;
    return added;
}
