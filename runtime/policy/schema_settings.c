/* Settings: what a connection set, checked against the policy's options, with defaults filled in,
 * hosts collected, and the fingerprints that tell identities apart. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/buffer.h"
#include "base/rng.h"
#include "base/url.h"
#include "policy/schema_internal.h"

static void hosts_of(struct schema *s, const struct value *row, const struct value *v);
static void hosts_pack(struct policy_build *b);
static uint64_t fingerprint(struct schema *s, const struct value *names);

static void settings_unknown(struct schema *s, const struct value *options)
{
    static const char *const ours[] = { "tune", "plain", "backlog" };
    /* Taken out before, where they are right; a mistyped one is none of the policy's options. */
    static const char *const others[] = { "policy", "trial", "owner", "ca_file", "proxy" };
    const char *names[SCHEMA_OPTIONS_MAX + 8];
    size_t count = 0;
    for (uint32_t i = 0; options && i < options->table->count; i++) {
        const char *name = value_text(&options->table->pairs[i].key);
        if (name && count < SCHEMA_OPTIONS_MAX) names[count++] = name;
    }
    for (size_t i = 0; i < 3; i++) names[count++] = ours[i];
    for (size_t i = 0; i < 5; i++) names[count + i] = others[i];
    for (uint32_t i = 0; i < s->settings->table->count; i++) {
        const char *name = value_text(&s->settings->table->pairs[i].key);
        const struct value *v = &s->settings->table->pairs[i].value;
        bool known = false;
        for (size_t k = 0; name && k < count && !known; k++) known = strcmp(names[k], name) == 0;
        if (known) continue;
        schema__enter(s, name, i + 1, v);
        if (name) {
            schema__unknown(s, name, names, count + 5);
        } else {
            schema__error(s, "a value without a name; options have names");
        }
        schema__leave(s);
    }
}

void schema__settle_options(struct schema *s)
{
    struct policy_build *b = s->out;
    const struct value *options = value_get(s->policy, "options");
    if (options && options->kind != VALUE_TABLE) options = NULL;
    if (!s->settings) return;
    for (uint32_t i = 0; i < s->shape->host_count; i++) {
        schema__host_add(&b->hosts, &b->host_count, s->shape->hosts[i]);
    }
    uint32_t line = s->line;
    s->in_settings = true;
    s->line = s->settings->line;
    if (s->settings->kind != VALUE_TABLE) {
        schema__error(s, "expected a table of options");
        goto done;
    }
    settings_unknown(s, options);
    const struct value *plain = value_get(s->settings, "plain");
    if (plain && plain->kind != VALUE_BOOL) {
        schema__enter(s, "plain", 0, plain);
        schema__error(s, "expected true or false");
        schema__leave(s);
    }
    for (uint32_t i = 0; options && i < options->table->count; i++) {
        const char *name = value_text(&options->table->pairs[i].key);
        const struct value *row = &options->table->pairs[i].value;
        const struct value *v = name ? value_get(s->settings, name) : NULL;
        const struct value *standard = value_get(row, "default"), *about = value_get(row, "about");
        const struct value *required = value_get(row, "required");
        if (!name) continue;
        schema__enter(s, name, 0, v);
        if (!v && required && required->kind == VALUE_BOOL && required->boolean) {
            schema__error(s, "is missing: the policy requires it%s%.100s",
                          value_text(about) ? ": " : "",
                          value_text(about) ? value_text(about) : "");
        }
        if (v && !schema__option_check(s, row, v)) v = NULL;
        schema__leave(s);
        if (!v) v = standard;
        if (!v || schema__option_type(row) == OPT_TUNE) continue;
        hosts_of(s, row, v);
        value_set(&b->options, name, value_copy(v));
    }
    const struct value *identity = value_get(s->policy, "identity");
    const struct value *account = value_get(s->policy, "account");
    b->identity = identity ? fingerprint(s, identity) : 0;
    b->account = account ? fingerprint(s, account) : b->identity;
    b->session_of = s->shape->session_of.kind != VALUE_NIL ? fingerprint(s, &s->shape->session_of) : b->identity;
    const char *lane = value_text(&s->shape->lane);
    b->lane = lane ? (int64_t)value_get_number(&b->options, lane, 0) : 0;
done:
    hosts_pack(b);
    struct value loose = b->options;
    b->options = value_pack(&loose);
    value_clear(&loose);
    s->in_settings = false;
    s->line = line;
}

/* Pointers and texts in one block: there are thousands of builds, and their memory is freed while others wait. */
static void hosts_pack(struct policy_build *b)
{
    size_t bytes = b->host_count * sizeof *b->hosts;
    for (uint32_t i = 0; i < b->host_count; i++) bytes += strlen(b->hosts[i]) + 1;
    if (!b->host_count) return;
    char **packed = malloc(bytes);
    ASSERT(packed != NULL);
    char *text = (char *)(packed + b->host_count);
    for (uint32_t i = 0; i < b->host_count; i++) {
        packed[i] = strcpy(text, b->hosts[i]);
        text += strlen(text) + 1;
        free(b->hosts[i]);
    }
    free(b->hosts);
    b->hosts = packed;
}

static uint64_t value_print(const struct value *row, const struct value *v)
{
    if (!v) return 1;
    if (v->kind == VALUE_SECRET) {
        size_t len;
        const char *bytes = secret_bytes(v->secret, &len), *pattern = value_get_text(row, "public");
        long n = pattern && public_pattern_is_valid(pattern)
                     ? public_pattern_match(pattern, bytes, len)
                     : -1;
        return n > 0 ? hash_bytes(bytes, (size_t)n) : secret_fingerprint(v->secret);
    }
    if (v->kind == VALUE_TABLE) {
        uint64_t h = 2;
        for (uint32_t i = 1; i <= value_length(v); i++) {
            h = rng_mix(h ^ value_print(row, value_at(v, i)));
        }
        if (value_length(v) > 0) return h;
    }
    struct buffer text;
    buffer_init(&text, 0);
    ASSERT(value_to_json(v, &text));
    uint64_t h = hash_bytes(text.data, text.len);
    buffer_deinit(&text);
    return h;
}

/* Of the platform and the named options' values: equal for equal ones, in every process. */
static uint64_t fingerprint(struct schema *s, const struct value *names)
{
    const struct value *options = value_get(s->policy, "options");
    uint64_t h = rng_mix(hash_text(s->shape->plan.platform));
    bool list = names->kind == VALUE_TABLE;
    for (uint32_t i = 1; i <= (list ? value_length(names) : 1); i++) {
        const char *name = value_text(list ? value_at(names, i) : names);
        if (!name) continue;
        const struct value *v = value_get(&s->out->options, name);
        h = rng_mix(h ^ hash_text(name));
        h = rng_mix(h + value_print(value_get(options, name), v));
    }
    return h ? h : 1;
}

static void hosts_of(struct schema *s, const struct value *row, const struct value *v)
{
    struct url u;
    const char *why;
    if (schema__option_type(row) != OPT_URL) return;
    if (v->kind == VALUE_STRING && url_parse(v->string.bytes, v->string.len, &u, &why)) {
        schema__host_add(&s->out->hosts, &s->out->host_count, u.host);
    }
    for (uint32_t i = 1; v->kind == VALUE_TABLE && i <= value_length(v); i++) {
        hosts_of(s, row, value_at(v, i));
    }
}
