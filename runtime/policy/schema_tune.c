/* Overlays: a connection's own values laid over the policy's tables, and the way back from a path
 * to the file that holds its value. Tables with named keys merge; lists, matchers and single values
 * are replaced whole, because half a rule is no rule. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/text.h"
#include "policy/schema_internal.h"

static void direct_collect(struct schema *s);
static void path_set(struct value *table, const char *path, const struct value *v);
static void merge(struct schema *s, struct overlay *o, const struct key *keys, struct value *into,
                  const struct value *over, const char *path);
static void merge_rows(struct schema *s, struct overlay *o, const struct key *keys,
                       struct value *into, const struct value *over, const char *path);
static bool resolve(const struct value *root, const char *path, bool as_overlay,
                    const struct value *policy, uint32_t *line_out);
static void key_name(const struct schema *s, const struct overlay *o, const char *path,
                     char *key_out);
static const struct key *key_find(const struct key *keys, const char *name);
static bool merges(const struct key *k, const struct value *v);

void schema__overlay(struct schema *s)
{
    s->direct = (struct overlay){ .values = value_table(), .file = s->settings_file };
    s->tune =
        (struct overlay){ .values = value_table(), .prefix = "tune.", .file = s->settings_file };
    if (!s->settings || s->settings->kind != VALUE_TABLE) return;
    direct_collect(s);
    const struct value *tune = value_get(s->settings, "tune");
    if (tune && tune->kind != VALUE_TABLE) {
        problems_add(s->problems, false, s->settings_file, tune->line, "tune",
                     "expected a table of the policy's tables");
    } else if (tune) {
        value_clear(&s->tune.values);
        s->tune.values = value_copy(tune);
    }
}

void schema__merge(struct schema *s)
{
    s->tables = value_copy(s->policy);
    merge(s, &s->direct, schema__root, &s->tables, &s->direct.values, "");
    merge(s, &s->tune, schema__root, &s->tables, &s->tune.values, "");
}

bool schema__origin(const struct schema *s, const char *path, const char **file_out,
                    uint32_t *line_out, char *key_out)
{
    const struct overlay *overlays[] = { &s->tune, &s->direct };
    for (size_t i = 0; i < 2; i++) {
        const struct overlay *o = overlays[i];
        if (o->values.kind != VALUE_TABLE || o->values.table->count == 0) continue;
        if (!resolve(&o->values, path, true, s->policy, line_out)) continue;
        *file_out = o->file;
        key_name(s, o, path, key_out);
        return true;
    }
    return false;
}

/* `backlog`, and the options that stand for one of the policy's tables. */
static void direct_collect(struct schema *s)
{
    const struct value *options = value_get(s->policy, "options");
    const struct value *backlog = value_get(s->settings, "backlog");
    if (backlog) value_set(&s->direct.values, "backlog", value_copy(backlog));
    for (uint32_t i = 0; options && options->kind == VALUE_TABLE && i < options->table->count;
         i++) {
        const char *name = value_text(&options->table->pairs[i].key);
        const struct value *row = &options->table->pairs[i].value;
        const char *type = value_get_text(row, "type"), *at = value_get_text(row, "at");
        if (!name || !type || strcmp(type, "tune") != 0) continue;
        const struct value *v = value_get(s->settings, name);
        if (v) path_set(&s->direct.values, at ? at : name, v);
    }
}

static void path_set(struct value *table, const char *path, const struct value *v)
{
    const char *dot = strchr(path, '.');
    char name[64];
    text_copy(name, sizeof name, path, dot ? (size_t)(dot - path) : strlen(path));
    if (!dot) {
        value_set(table, name, value_copy(v));
        return;
    }
    struct value *below = value_get(table, name);
    if (!below || below->kind != VALUE_TABLE) {
        struct value fresh = value_table();
        fresh.line = v->line;
        value_set(table, name, fresh);
        below = value_get(table, name);
    }
    path_set(below, dot + 1, v);
}

static void merge(struct schema *s, struct overlay *o, const struct key *keys, struct value *into,
                  const struct value *over, const char *path)
{
    for (uint32_t i = 0; i < over->table->count; i++) {
        const char *name = value_text(&over->table->pairs[i].key);
        const struct value *v = &over->table->pairs[i].value;
        if (!name) {
            problems_add(s->problems, false, o->file, v->line, o->prefix[0] ? "tune" : path,
                         "a value without a name; only named keys can be laid over a policy");
            continue;
        }
        char below_path[128];
        snprintf(below_path, sizeof below_path, "%s%s%.64s", path, path[0] ? "." : "", name);
        const struct key *k = key_find(keys, name);
        if (k && k->flags & KEY_FIXED) {
            char key[144];
            snprintf(key, sizeof key, "%s%s", o->prefix, below_path);
            problems_add(s->problems, false, o->file, v->line, key,
                         "belongs to the policy alone; a connection cannot change it");
            continue;
        }
        struct value *below = value_get(into, name);
        bool both = below && below->kind == VALUE_TABLE && v->kind == VALUE_TABLE;
        if (both && merges(k, v) && merges(k, below)) {
            merge(s, o, k->keys, below, v, below_path);
        } else if (both && k && k->flags & KEY_NAMED) {
            merge_rows(s, o, k->keys, below, v, below_path);
        } else {
            value_set(into, name, value_copy(v));
        }
    }
}

static void merge_rows(struct schema *s, struct overlay *o, const struct key *keys,
                       struct value *into, const struct value *over, const char *path)
{
    for (uint32_t i = 0; i < over->table->count; i++) {
        const char *name = value_text(&over->table->pairs[i].key);
        const struct value *v = &over->table->pairs[i].value;
        if (!name) continue;
        struct value *row = value_get(into, name);
        char below_path[128];
        snprintf(below_path, sizeof below_path, "%.60s.%.60s", path, name);
        if (row && row->kind == VALUE_TABLE && v->kind == VALUE_TABLE) {
            merge(s, o, keys, row, v, below_path);
        } else {
            value_set(into, name, value_copy(v));
        }
    }
}

/* Takes one part off a path: a name, or (name empty) an index. */
static const char *part_take(const char *path, char name[64], uint32_t *index)
{
    name[0] = 0;
    if (*path == '[') {
        *index = (uint32_t)strtoul(path + 1, NULL, 10);
        path += strcspn(path, "]");
        return *path ? path + 1 : path;
    }
    if (*path == '.') path++;
    size_t n = strcspn(path, ".[");
    text_copy(name, 64, path, n);
    return path + n;
}

/* Does `root` hold what the path names? In an overlay a replaced value holds all below it, and a
 * table that both files write holds what neither of them says. */
static bool resolve(const struct value *root, const char *path, bool as_overlay,
                    const struct value *policy, uint32_t *line_out)
{
    const struct key *keys = schema__root;
    const char *whole = path;
    bool rows = false, replaced = false;
    uint32_t depth = 0, line = 0, ignored;
    const struct value *v = root;
    while (*path) {
        char name[64];
        uint32_t index = 0;
        path = part_take(path, name, &index);
        const struct value *below = name[0] ? value_get(v, name) : value_at(v, index);
        if (!below) break;
        if (below->line) line = below->line;
        v = below;
        depth++;
        if (!as_overlay || replaced) continue;
        if (rows) { /* the name of a row */
            rows = false;
            continue;
        }
        const struct key *k = key_find(keys, name);
        if (v->kind == VALUE_TABLE && merges(k, v)) {
            keys = k->keys;
        } else if (k && k->flags & KEY_NAMED && v->kind == VALUE_TABLE) {
            keys = k->keys;
            rows = true;
        } else {
            replaced = true;
        }
        if (!*path) goto found;
    }
    if (!as_overlay) return !*path && depth > 0;
    if (depth == 0) return false;
    if (!replaced && resolve(policy, whole, false, NULL, &ignored)) return false;
found:
    *line_out = line;
    return true;
}

static void key_name(const struct schema *s, const struct overlay *o, const char *path,
                     char *key_out)
{
    if (o == &s->direct) {
        const struct value *options = value_get(s->policy, "options");
        for (uint32_t i = 0; options && options->kind == VALUE_TABLE && i < options->table->count;
             i++) {
            const char *name = value_text(&options->table->pairs[i].key);
            const char *at = value_get_text(&options->table->pairs[i].value, "at");
            size_t n = at ? strlen(at) : 0;
            if (!name || !at || strncmp(path, at, n) != 0) continue;
            if (path[n] != 0 && path[n] != '.' && path[n] != '[') continue;
            snprintf(key_out, 128, "%.60s%s", name, path + n);
            return;
        }
    }
    snprintf(key_out, 128, "%s%.100s", o->prefix, path);
}

/* Is `v`, a table, laid over another one key by key? */
static bool merges(const struct key *k, const struct value *v)
{
    return k && (k->type == KEY_TABLE || (k->flags & KEY_ROW && value_length(v) == 0));
}

static const struct key *key_find(const struct key *keys, const char *name)
{
    for (; keys && keys->name; keys++) {
        if (strcmp(keys->name, name) == 0) return keys;
    }
    return NULL;
}
