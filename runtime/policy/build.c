/* Builds: a version compiled for one connection's settings, and what may be reached with it. Owns
 * the build and its reference to the version; never enters Lua. */
#include "policy/policy.h"

#include <stdlib.h>
#include <string.h>
#include <string.h>

#include "base/assert.h"
#include "base/conceal.h"
#include "policy/schema.h"
#include "policy/version_internal.h"

struct policy_build *policy_build_create(struct policy_version *v, const struct value *settings,
                                         const char *file, struct problems *problems)
{
    struct policy_build *b = calloc(1, sizeof *b);
    ASSERT(b != NULL);
    struct value none = value_table();
    bool ok = schema_build(policy__tables(v), policy_path(v), settings ? settings : &none, file,
                           policy_version_number(v), policy__shapes(v), b, problems);
    struct buffer text;
    buffer_init(&text, 0);
    if (ok) {
        struct value shown = conceal_copy(settings ? settings : &none);
        ASSERT(value_to_json(&shown, &text));
        value_clear(&shown);
        ASSERT(buffer_append_char(&text, 0));
        b->settings = strdup((const char *)text.data);
        ASSERT(b->settings != NULL);
    }
    buffer_deinit(&text);
    value_clear(&none);
    if (!ok) {
        free(b);
        return NULL;
    }
    b->version = policy_ref(v);
    return b;
}

bool policy_overlay_json(const struct policy_version *v, const struct value *settings, struct buffer *out)
{
    const struct value *options = value_get(policy__tables(v), "options");
    struct value over = value_table();
    bool any = false;
    for (uint32_t i = 0; settings->kind == VALUE_TABLE && i < settings->table->count; i++) {
        const char *name = value_text(&settings->table->pairs[i].key);
        const struct value *of = &settings->table->pairs[i].value;
        const char *type = name ? value_get_text(value_get(options, name), "type") : NULL;
        if (!name || (strcmp(name, "tune") != 0 && (!type || strcmp(type, "tune") != 0))) continue;
        value_set(&over, name, value_copy(of));
        any = any || of->kind != VALUE_TABLE || of->table->count > 0;
    }
    bool ok = any && value_to_json(&over, out) && !memmem(out->data, out->len, "\"<secret ", 9);
    value_clear(&over);
    return ok;
}

void policy_build_destroy(struct policy_build *b)
{
    if (!b) return;
    free(b->settings);
    schema_build_deinit(b);
    policy_unref(b->version);
    free(b);
}
