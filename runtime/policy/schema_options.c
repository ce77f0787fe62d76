/* Options: what a policy lets a connection set. Checks the declarations, and single values against
 * them; a value of a connection is never repeated in a problem's text. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/duration.h"
#include "base/text.h"
#include "base/url.h"
#include "policy/schema_internal.h"

static void nothing(struct schema *s, const struct value *v, void *base);
static void declare(struct schema *s, const char *name, const struct value *row);
static bool scalar_check(struct schema *s, const struct value *row, const struct value *v);
static bool bounds_check(struct schema *s, const struct value *row, double got, bool duration);
static bool url_check(struct schema *s, const struct value *v);

static const char *const type_words[] = { "secret",  "string",   "url",   "integer", "number",
                                          "boolean", "duration", "table", "tune",    NULL };
/* A connection's keys that are holdfast's own. */
static const char *const own_keys[] = { "policy",  "tune",  "trial", "owner",
                                        "ca_file", "proxy", "plain", "backlog" };
#define OWN_KEYS (sizeof own_keys / sizeof own_keys[0])

const struct key schema__option_row[] = {
    { "type", KEY_CUSTOM, KEY_REQUIRED, .custom = nothing,
      .about = "secret, string, url, integer, number, boolean, duration, table or tune" },
    { "required", KEY_BOOL, .about = "a connection must set it" },
    { "default", KEY_CUSTOM, .custom = nothing, .about = "when a connection does not set it" },
    { "many", KEY_BOOL, .about = "a list of such values is taken too" },
    { "public", KEY_CUSTOM, .custom = nothing,
      .about = "of a secret: the pattern of its front part that is none and survives a rotation" },
    { "min", KEY_CUSTOM, .custom = nothing, .about = "the least number or duration" },
    { "max", KEY_CUSTOM, .custom = nothing, .about = "the most" },
    { "one_of", KEY_CUSTOM, .custom = nothing, .about = "the texts that are possible" },
    { "at", KEY_CUSTOM, .custom = nothing,
      .about = "of type tune: the key of the policy that it sets; its own name when left away" },
    { "about", KEY_TEXT, .high = 500, .about = "for people" },
    { .name = NULL },
};

static void nothing(struct schema *s, const struct value *v, void *base)
{
    (void)s, (void)v, (void)base;
}

/* --- what the policy declares -------------------------------------------------------------------
 */

void schema__options(struct schema *s, const struct value *v, void *base)
{
    (void)base;
    char text[96];
    if (v->kind != VALUE_TABLE) {
        schema__error(s, "expected a table of options by name, got %s",
                      schema__describe(s, v, text));
        return;
    }
    if (v->table->count > SCHEMA_OPTIONS_MAX) {
        schema__error(s, "at most %d options are possible", SCHEMA_OPTIONS_MAX);
        return;
    }
    for (uint32_t i = 0; i < v->table->count; i++) {
        const char *name = value_text(&v->table->pairs[i].key);
        const struct value *row = &v->table->pairs[i].value;
        schema__enter(s, name, i + 1, row);
        if (!name || !schema__is_name(name, PLAN_NAME_MAX - 1) || strpbrk(name, "-.")) {
            schema__error(s, "expected a name of letters, digits and _, at most %d bytes",
                          PLAN_NAME_MAX - 1);
        } else {
            declare(s, name, row);
        }
        schema__leave(s);
    }
}

enum option_type schema__option_type(const struct value *row)
{
    const char *type = value_get_text(row, "type");
    for (int i = 0; type && type_words[i]; i++) {
        if (strcmp(type, type_words[i]) == 0) return (enum option_type)i;
    }
    return OPT_NONE;
}

/* A key of the row that only some types may have. */
static const struct value *only_for(struct schema *s, const struct value *row, const char *key,
                                    bool fits, const char *types)
{
    const struct value *v = value_get(row, key);
    if (!v || fits) return v;
    schema__enter(s, key, 0, v);
    schema__error(s, "belongs to options of the type %s", types);
    schema__leave(s);
    return NULL;
}

static void bound_declare(struct schema *s, const struct value *row, const char *key, int type)
{
    bool numeric = type == OPT_INTEGER || type == OPT_NUMBER || type == OPT_DURATION;
    const struct value *v = only_for(s, row, key, numeric, "integer, number or duration");
    if (!v) return;
    double number;
    uint64_t ms;
    schema__enter(s, key, 0, v);
    if (type == OPT_DURATION) {
        schema__duration(s, v, 0, 0, &ms);
    } else {
        schema__number(s, v, -0x1p53, 0x1p53, &number);
    }
    schema__leave(s);
}

static void one_of_declare(struct schema *s, const struct value *row, int type)
{
    const struct value *v = only_for(s, row, "one_of", type == OPT_STRING, "string");
    if (!v) return;
    schema__enter(s, "one_of", 0, v);
    bool ok = schema__is_list(s, v, "texts", SCHEMA_WANTS_MAX);
    if (ok && value_length(v) == 0) schema__error(s, "leaves nothing possible");
    for (uint32_t i = 1; ok && i <= value_length(v); i++) {
        if (value_at(v, i)->kind == VALUE_STRING) continue;
        schema__error(s, "expected a list of texts");
        break;
    }
    schema__leave(s);
}

static void public_declare(struct schema *s, const struct value *row, int type)
{
    const struct value *v = only_for(s, row, "public", type == OPT_SECRET, "secret");
    if (!v) return;
    schema__enter(s, "public", 0, v);
    if (v->kind != VALUE_STRING || strlen(v->string.bytes) != v->string.len ||
        !public_pattern_is_valid(v->string.bytes)) {
        schema__error(s, "expected a simple pattern that begins with ^, such as \"^[^.]+\" "
                         "(no captures, no lazy repeats)");
    }
    schema__leave(s);
}

static void at_declare(struct schema *s, const char *name, const struct value *row, int type)
{
    const struct value *v = only_for(s, row, "at", type == OPT_TUNE, "tune");
    const char *path = type == OPT_TUNE && !value_get(row, "at") ? name : v ? value_text(v) : NULL;
    if (type != OPT_TUNE) return;
    const struct key *keys = schema__root, *found = NULL;
    for (const char *p = path; p && keys;) {
        size_t n = strcspn(p, ".");
        for (found = keys; found->name; found++) {
            if (strlen(found->name) == n && memcmp(found->name, p, n) == 0) break;
        }
        if (!found->name || found->flags & KEY_FIXED) {
            found = NULL;
            break;
        }
        keys = found->type == KEY_TABLE ? found->keys : NULL;
        if (p[n] == 0) break;
        p += n + 1;
        found = NULL;
    }
    if (found) return;
    schema__error(s, "the type tune stands for a key of the policy: no key \"%.60s\" can be tuned",
                  path ? path : "");
}

static void declare(struct schema *s, const char *name, const struct value *row)
{
    for (size_t i = 0; i < OWN_KEYS; i++) {
        if (strcmp(own_keys[i], name) == 0) {
            schema__error(s, "the name is taken: it is holdfast's own key of a connection");
        }
    }
    schema__keys(s, schema__option_row, row, NULL);
    if (row->kind != VALUE_TABLE) return;
    const struct value *written = value_get(row, "type");
    if (!written) return;
    schema__enter(s, "type", 0, written);
    int type = schema__word(s, written, type_words);
    schema__leave(s);
    if (type < 0) return;
    bound_declare(s, row, "min", type);
    bound_declare(s, row, "max", type);
    one_of_declare(s, row, type);
    public_declare(s, row, type);
    at_declare(s, name, row, type);
    only_for(s, row, "many", type != OPT_TABLE && type != OPT_TUNE, "other than table and tune");
    const struct value *standard = only_for(
        s, row, "default", type != OPT_SECRET && type != OPT_TUNE, "other than secret and tune");
    if (!standard) return;
    schema__enter(s, "default", 0, standard);
    const struct value *required = value_get(row, "required");
    if (required && required->kind == VALUE_BOOL && required->boolean) {
        schema__error(s, "a required option has no use for a default");
    } else {
        schema__option_check(s, row, standard);
    }
    schema__leave(s);
}

void schema__option_names(struct schema *s, const struct value *v, void *base)
{
    (void)base;
    char text[96];
    const struct value *options = value_get(s->policy, "options");
    bool list = v->kind == VALUE_TABLE;
    if (list && !schema__is_list(s, v, "names of options", SCHEMA_OPTIONS_MAX)) return;
    uint32_t count = list ? value_length(v) : 1;
    if (count == 0) schema__error(s, "names no option");
    for (uint32_t i = 1; i <= count; i++) {
        const struct value *item = list ? value_at(v, i) : v;
        const char *name = value_text(item);
        if (list) schema__enter(s, NULL, i, item);
        const char *names[SCHEMA_OPTIONS_MAX];
        size_t known = 0;
        for (uint32_t k = 0; options && options->kind == VALUE_TABLE && k < options->table->count;
             k++) {
            const char *option = value_text(&options->table->pairs[k].key);
            if (option && known < SCHEMA_OPTIONS_MAX) names[known++] = option;
        }
        const char *near = name ? text_nearest(name, names, known) : NULL;
        if (!name || !value_get(options, name)) {
            schema__error(s, "%s is no option of this policy%s%s%s",
                          schema__describe(s, item, text), near ? "; did you mean \"" : "",
                          near ? near : "", near ? "\"?" : "");
        }
        for (uint32_t k = 1; list && k < i; k++) {
            if (!value_equal(value_at(v, k), item)) continue;
            schema__error(s, "is named twice");
            break;
        }
        if (list) schema__leave(s);
    }
}

void schema__lane(struct schema *s, const struct value *v, void *base)
{
    (void)base;
    char text[96];
    const struct value *row =
        value_get(value_get(s->policy, "options"), value_text(v) ? value_text(v) : "");
    if (schema__option_type(row) != OPT_INTEGER) {
        schema__error(s, "expected the name of an integer option, got %s",
                      schema__describe(s, v, text));
    }
}

void schema__hosts(struct schema *s, const struct value *v, void *base)
{
    (void)base;
    char text[96];
    bool list = v->kind == VALUE_TABLE;
    if (list && !schema__is_list(s, v, "hosts", SCHEMA_HOSTS_MAX)) return;
    uint32_t count = list ? value_length(v) : 1;
    for (uint32_t i = 1; i <= count; i++) {
        const struct value *item = list ? value_at(v, i) : v;
        const char *host = value_text(item);
        if (list) schema__enter(s, NULL, i, item);
        if (!host || strlen(host) != item->string.len || !url_host_pattern_is_valid(host)) {
            schema__error(
                s, "expected a host in lower case or \"*.\" before at least two labels, got %s",
                schema__describe(s, item, text));
        } else {
            schema__host_add(&s->shape->hosts, &s->shape->host_count, host);
        }
        if (list) schema__leave(s);
    }
}

/* --- one value ----------------------------------------------------------------------------------
 */

bool schema__option_check(struct schema *s, const struct value *row, const struct value *v)
{
    const struct value *many = value_get(row, "many");
    bool list = many && many->kind == VALUE_BOOL && many->boolean && v->kind == VALUE_TABLE;
    if (!list) return scalar_check(s, row, v);
    if (!schema__is_list(s, v, "values", SCHEMA_WANTS_MAX)) return false;
    bool ok = value_length(v) > 0;
    if (!ok) schema__error(s, "the list is empty");
    for (uint32_t i = 1; i <= value_length(v); i++) {
        schema__enter(s, NULL, i, value_at(v, i));
        ok = scalar_check(s, row, value_at(v, i)) && ok;
        schema__leave(s);
    }
    return ok;
}

static bool one_of_check(struct schema *s, const struct value *row, const struct value *v)
{
    const struct value *list = value_get(row, "one_of");
    if (!list || list->kind != VALUE_TABLE) return true;
    const char *words[SCHEMA_WANTS_MAX + 1];
    uint32_t count = 0;
    while (count < SCHEMA_WANTS_MAX && value_text(value_at(list, count + 1))) {
        words[count] = value_text(value_at(list, count + 1));
        count++;
    }
    words[count] = NULL;
    return schema__word(s, v, words) >= 0;
}

static bool holds_function(const struct value *v)
{
    if (v->kind == VALUE_FUNCTION) return true;
    for (uint32_t i = 0; v->kind == VALUE_TABLE && i < v->table->count; i++) {
        if (holds_function(&v->table->pairs[i].value)) return true;
    }
    return false;
}

static bool scalar_check(struct schema *s, const struct value *row, const struct value *v)
{
    char text[96];
    int64_t integer;
    double number;
    uint64_t ms;
    switch (schema__option_type(row)) {
    case OPT_SECRET:
        if (v->kind == VALUE_SECRET) return true;
        schema__error(s, "expected a secret, such as secret { env = \"NAME\" }, got %s",
                      v->kind == VALUE_STRING ? "a text" : schema__describe(s, v, text));
        return false;
    case OPT_STRING:
        if (v->kind != VALUE_STRING) {
            schema__error(s, "expected a text, got %s", schema__describe(s, v, text));
            return false;
        }
        return one_of_check(s, row, v);
    case OPT_URL: return url_check(s, v);
    case OPT_INTEGER:
        return schema__integer(s, v, -0x1p53, 0x1p53, &integer) &&
               bounds_check(s, row, (double)integer, false);
    case OPT_NUMBER:
        return schema__number(s, v, -HUGE_VAL, HUGE_VAL, &number) &&
               bounds_check(s, row, number, false);
    case OPT_BOOLEAN:
        if (v->kind == VALUE_BOOL) return true;
        schema__error(s, "expected true or false, got %s", schema__describe(s, v, text));
        return false;
    case OPT_DURATION:
        return schema__duration(s, v, 0, 0, &ms) && bounds_check(s, row, (double)ms, true);
    case OPT_TABLE:
        if (v->kind != VALUE_TABLE) {
            schema__error(s, "expected a table, got %s", schema__describe(s, v, text));
            return false;
        }
        if (!holds_function(v)) return true;
        schema__error(s, "holds a function; an option is data, functions belong into the policy");
        return false;
    default: return true; /* tune: checked where it is laid; no type: the declaration's own error */
    }
}

static bool bound_of(const struct value *row, const char *key, bool duration, double *out)
{
    const struct value *v = value_get(row, key);
    uint64_t ms;
    if (v && !duration && v->kind == VALUE_NUMBER) {
        *out = v->number;
        return true;
    }
    if (v && duration && v->kind == VALUE_STRING &&
        duration_parse(v->string.bytes, v->string.len, &ms)) {
        *out = (double)ms;
        return true;
    }
    return false;
}

static bool bounds_check(struct schema *s, const struct value *row, double got, bool duration)
{
    double bound;
    char text[DURATION_TEXT_MAX];
    for (int most = 0; most < 2; most++) {
        if (!bound_of(row, most ? "max" : "min", duration, &bound)) continue;
        if (most ? got <= bound : got >= bound) continue;
        if (duration) {
            duration_format((uint64_t)bound, text);
        } else {
            snprintf(text, sizeof text, "%.14g", bound);
        }
        schema__error(s, "the %s possible is %s", most ? "most" : "least", text);
        return false;
    }
    return true;
}

static bool plain_wanted(const struct schema *s)
{
    const struct value *plain = value_get(s->settings, "plain");
    return plain && plain->kind == VALUE_BOOL && plain->boolean;
}

static bool url_check(struct schema *s, const struct value *v)
{
    struct url u;
    char text[96];
    const char *why;
    if (v->kind != VALUE_STRING) {
        schema__error(s, "expected an address, such as \"https://host/path\", got %s",
                      schema__describe(s, v, text));
        return false;
    }
    if (!url_parse(v->string.bytes, v->string.len, &u, &why)) {
        schema__error(s, "the address %s", why);
        return false;
    }
    if (!u.tls && !url_is_loopback(&u) && !plain_wanted(s)) {
        schema__error(s, "%s:// is for loopback addresses only; use %s:// or set plain = true",
                      u.scheme, u.websocket ? "wss" : "https");
        return false;
    }
    return true;
}

void schema__host_add(char ***hosts, uint32_t *count, const char *host)
{
    for (uint32_t i = 0; i < *count; i++) {
        if (strcmp((*hosts)[i], host) == 0) return;
    }
    if ((*count & (*count - 1)) == 0) { /* grows at the powers of two */
        *hosts = realloc(*hosts, (*count ? *count * 2u : 1u) * sizeof **hosts);
        ASSERT(*hosts != NULL);
    }
    (*hosts)[*count] = strdup(host);
    ASSERT((*hosts)[*count] != NULL);
    ++*count;
}
