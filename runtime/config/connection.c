/* One connection's table: holdfast's own keys are split from the policy's options. Also the small
 * checks that all sections share. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/proxy.h"
#include "base/text.h"
#include "base/url.h"
#include "config/config_internal.h"

static bool boolean_read(const struct config_place *p, const struct value *table, const char *key);
/* As they are read, each a block of its own: owned. */
struct texts {
    char *policy, *ca_file, *proxy, *proxy_authorization;
};

static void proxy_read(const struct config_place *p, const struct value *table, struct texts *out);
static void texts_pack(const struct texts *t, const char *file, struct config_connection *out);
static void texts_free(struct texts *t);

bool config_connection_read(const char *name, const struct value *table, const char *file,
                            const char *folder, struct config_connection *out,
                            struct problems *problems)
{
    static const char *const not_options[] = { "policy", "trial", "owner", "ca_file", "proxy" };
    uint32_t errors_before = problems->errors;
    char key[96];
    snprintf(key, sizeof key, "connection %.*s", CONFIG_NAME_MAX, name);
    struct config_place p = { problems, file, folder, key };
    *out = (struct config_connection){ .line = table->line };
    struct texts texts = { 0 };
    out->settings = value_nil();
    text_copy(out->name, sizeof out->name, name, strlen(name));
    if (!config_name_is_valid(name)) {
        config__error(&p, table, NULL,
                      "a name has 1 to %d of a-z 0-9 . _ - and begins with a letter or digit",
                      CONFIG_NAME_MAX - 1);
    }
    if (table->kind != VALUE_TABLE) {
        config__error(&p, table, NULL, "expected a table, got %s", config__kind(table));
        goto done;
    }
    const struct value *policy = value_get(table, "policy"), *owner = value_get(table, "owner");
    if (!policy) {
        config__error(&p, table, "policy",
                      "is missing: which policy decides, such as \"discord\"?");
    } else if (!value_text(policy) || !config_name_is_valid(value_text(policy))) {
        config__error(&p, policy, "policy", "expected the name of a policy, got %s",
                      config__kind(policy));
    } else {
        texts.policy = config__copy(value_text(policy));
    }
    if (owner && (!value_text(owner) || !config_name_is_valid(value_text(owner)))) {
        config__error(&p, owner, "owner", "expected the name of a consumer, got %s",
                      config__kind(owner));
    } else if (owner) {
        text_copy(out->owner, sizeof out->owner, value_text(owner), owner->string.len);
    }
    if (value_get(table, "trial")) out->trial = boolean_read(&p, table, "trial") ? 1 : -1;
    out->plain = boolean_read(&p, table, "plain");
    texts.ca_file = config__path(&p, table, "ca_file");
    proxy_read(&p, table, &texts);
    struct value settings = value_copy(table);
    for (size_t i = 0; i < sizeof not_options / sizeof not_options[0]; i++) {
        value_set(&settings, not_options[i], value_nil());
    }
    out->settings = value_pack(&settings);
    value_clear(&settings);
    texts_pack(&texts, file, out);
done:
    texts_free(&texts);
    if (problems->errors == errors_before) return true;
    config_connection_deinit(out);
    return false;
}

/* Few blocks for each of thousands: they are freed while others wait. */
static void texts_pack(const struct texts *t, const char *file, struct config_connection *out)
{
    const char *const from[] = { t->policy, file, t->ca_file, t->proxy, t->proxy_authorization };
    const char **const to[] = { &out->policy, &out->file, &out->ca_file, &out->proxy, &out->proxy_authorization };
    size_t bytes = 0;
    for (size_t i = 0; i < sizeof from / sizeof from[0]; i++) bytes += from[i] ? strlen(from[i]) + 1 : 0;
    char *at = out->texts = malloc(bytes);
    ASSERT(at != NULL);
    for (size_t i = 0; i < sizeof from / sizeof from[0]; i++) {
        if (!from[i]) continue;
        *to[i] = strcpy(at, from[i]);
        at += strlen(at) + 1;
    }
}

static void wipe(char *text)
{
    if (text) explicit_bzero(text, strlen(text));
    free(text);
}

static void texts_free(struct texts *t)
{
    free(t->policy);
    free(t->ca_file);
    free(t->proxy);
    wipe(t->proxy_authorization);
}

void config_connection_deinit(struct config_connection *c)
{
    /* The only one that is secret stands last. */
    if (c->proxy_authorization) explicit_bzero((char *)c->proxy_authorization, strlen(c->proxy_authorization));
    free(c->texts);
    value_clear(&c->settings);
    *c = (struct config_connection){ 0 };
}

bool config_name_is_valid(const char *name)
{
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._-");
    return n > 0 && n < CONFIG_NAME_MAX && name[n] == 0 && !strchr("._-", name[0]);
}

static bool boolean_read(const struct config_place *p, const struct value *table, const char *key)
{
    const struct value *v = value_get(table, key);
    if (!v) return false;
    if (v->kind == VALUE_BOOL) return v->boolean;
    config__error(p, v, key, "expected true or false, got %s", config__kind(v));
    return false;
}

static void proxy_url_read(const struct config_place *p, const struct value *v, const char *key,
                           struct texts *out)
{
    struct url u;
    const char *why = "must be a text such as \"http://host:port\"";
    if (v->kind == VALUE_STRING && url_parse(v->string.bytes, v->string.len, &u, &why)) {
        bool bare = u.target_len == 0 || (u.target_len == 1 && u.target[0] == '/');
        if (!u.tls && !u.websocket && bare) {
            out->proxy = config__copy(v->string.bytes);
            return;
        }
        why = "must be http://host:port without a path";
    }
    if (strstr(why, "user name")) {
        why = "has a user name or password in it; say { url = ..., user = ..., password = secret { ... } }";
    }
    config__error(p, v, key, "the address %s", why);
}

/* proxy = { url =, user =, password = }: a password in a configuration is a secret. */
static void proxy_table_read(const struct config_place *p, const struct value *table, struct texts *out)
{
    static const char *const names[] = { "url", "user", "password" };
    const struct value *url = value_get(table, "url"), *user = value_get(table, "user");
    const struct value *password = value_get(table, "password");
    char name[160];
    snprintf(name, sizeof name, "%s.proxy", p->name);
    struct config_place place = *p;
    place.name = name;
    const char *user_text = NULL, *password_text = "", *why;
    size_t user_len = 0, password_len = 0;
    config__keys(&place, table, names, 3);
    if (url) proxy_url_read(&place, url, "url", out);
    else config__error(&place, table, "url", "is missing: which proxy, such as \"http://host:port\"?");
    if (user && user->kind == VALUE_SECRET) {
        user_text = secret_bytes(user->secret, &user_len);
    } else if (user && user->kind == VALUE_STRING) {
        user_text = user->string.bytes;
        user_len = user->string.len;
    } else if (user) {
        config__error(&place, user, "user", "expected a text or secret { ... }, got %s", config__kind(user));
    } else if (password) {
        config__error(&place, password, "user", "is missing beside a password");
    }
    if (password && password->kind == VALUE_SECRET) {
        password_text = secret_bytes(password->secret, &password_len);
    } else if (password) {
        config__error(&place, password, "password", "expected secret { ... }, got %s", config__kind(password));
    }
    if (!user_text) return;
    out->proxy_authorization = proxy_basic(user_text, user_len, password_text, password_len, &why);
    if (!out->proxy_authorization) config__error(p, table, "proxy", "%s", why);
}

static void proxy_read(const struct config_place *p, const struct value *table, struct texts *out)
{
    const struct value *v = value_get(table, "proxy");
    if (!v) return;
    if (v->kind == VALUE_BOOL && !v->boolean) {
        out->proxy = config__copy("");
    } else if (v->kind == VALUE_TABLE) {
        proxy_table_read(p, v, out);
    } else if (v->kind == VALUE_STRING) {
        proxy_url_read(p, v, "proxy", out);
    } else {
        config__error(p, v, "proxy",
                      "expected a text such as \"http://host:port\", { url = ..., user = ..., password = "
                      "secret { ... } }, or false for none, got %s", config__kind(v));
    }
}

/* --- shared -------------------------------------------------------------------------------------
 */

void config__error(const struct config_place *p, const struct value *v, const char *key,
                   const char *format, ...)
{
    char text[400], path[160];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    snprintf(path, sizeof path, "%s%s%s", p->name, key ? "." : "", key ? key : "");
    problems_add(p->problems, false, p->file, v ? v->line : 0, path, "%s", text);
}

bool config__keys(const struct config_place *p, const struct value *table, const char *const *names,
                  size_t count)
{
    if (table->kind != VALUE_TABLE) {
        config__error(p, table, NULL, "expected a table, got %s", config__kind(table));
        return false;
    }
    bool good = true;
    for (uint32_t i = 0; i < table->table->count; i++) {
        const char *key = value_text(&table->table->pairs[i].key);
        const struct value *v = &table->table->pairs[i].value;
        bool known = false;
        for (size_t k = 0; key && k < count; k++) known = known || strcmp(names[k], key) == 0;
        if (known) continue;
        good = false;
        const char *near = key ? text_nearest(key, names, count) : NULL;
        if (near) {
            config__error(p, v, key, "unknown key; did you mean `%s`?", near);
        } else {
            config__error(p, v, key, key ? "unknown key" : "a value without a name");
        }
    }
    return good;
}

char *config__path(const struct config_place *p, const struct value *table, const char *key)
{
    const struct value *v = value_get(table, key);
    if (!v) return NULL;
    const char *text = value_text(v);
    if (!text || !text[0] || strlen(text) != v->string.len) {
        config__error(p, v, key, "expected a path, got %s",
                      text ? "an empty one" : config__kind(v));
        return NULL;
    }
    return config__join(p->folder, text);
}

char *config__copy(const char *text)
{
    char *copy = strdup(text ? text : "");
    ASSERT(copy != NULL);
    return copy;
}

char *config__join(const char *folder, const char *path)
{
    if (path[0] == '/' || !folder || !folder[0] || strcmp(folder, ".") == 0)
        return config__copy(path);
    size_t len = strlen(folder) + strlen(path) + 2;
    char *joined = malloc(len);
    ASSERT(joined != NULL);
    snprintf(joined, len, "%s%s%s", folder, folder[strlen(folder) - 1] == '/' ? "" : "/", path);
    return joined;
}

char *config__folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash) return config__copy(".");
    char *folder = strndup(path, slash == path ? 1 : (size_t)(slash - path));
    ASSERT(folder != NULL);
    return folder;
}

const char *config__kind(const struct value *v)
{
    switch (v->kind) {
    case VALUE_NIL: return "nothing";
    case VALUE_BOOL: return v->boolean ? "true" : "false";
    case VALUE_NUMBER: return "a number";
    case VALUE_STRING: return "a text that does not fit";
    case VALUE_SECRET: return "a secret";
    case VALUE_TABLE: return "a table";
    case VALUE_FUNCTION: return "a function";
    }
    return "something else";
}
