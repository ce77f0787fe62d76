/* Concealed values: no byte of a secret passes through here. */
#include "base/conceal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

static const char mark[] = "<secret ";

void conceal_placeholder(const char *name, char *out, size_t len)
{
    char unit[48];
    size_t n = 0;
    for (const char *p = name; *p && n < sizeof unit - 2; p++) {
        bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9');
        unit[n++] = plain ? *p : '_';
    }
    unit[n++] = '.';
    for (size_t i = 0; i < len; i++) out[i] = unit[i % n];
}

struct value conceal_copy(const struct value *v)
{
    if (v->kind == VALUE_SECRET) {
        char text[160];
        size_t len;
        secret_bytes(v->secret, &len);
        snprintf(text, sizeof text, "%s%.120s:%zu>", mark, secret_name(v->secret), len);
        return value_string(text);
    }
    struct value copy = value_copy(v);
    for (uint32_t i = 0; copy.kind == VALUE_TABLE && i < copy.table->count; i++) {
        struct value *inner = &copy.table->pairs[i].value, shown = conceal_copy(inner);
        value_clear(inner);
        *inner = shown;
    }
    return copy;
}

void conceal_reveal(struct value *v)
{
    for (uint32_t i = 0; v->kind == VALUE_TABLE && i < v->table->count; i++) {
        conceal_reveal(&v->table->pairs[i].value);
    }
    const char *text = value_text(v), *colon = text ? strrchr(text, ':') : NULL;
    if (!colon || strncmp(text, mark, sizeof mark - 1) != 0) return;
    char name[128], *end;
    unsigned long len = strtoul(colon + 1, &end, 10);
    size_t name_len = (size_t)(colon - text) - (sizeof mark - 1);
    if (end == colon + 1 || strcmp(end, ">") != 0 || len > CONCEAL_BYTES_MAX || name_len >= sizeof name) return;
    memcpy(name, text + sizeof mark - 1, name_len);
    name[name_len] = 0;
    char *bytes = malloc(len + 1);
    ASSERT(bytes != NULL);
    conceal_placeholder(name, bytes, len);
    struct secret *secret = secret_create(name, bytes, len);
    free(bytes);
    value_clear(v);
    *v = value_secret(secret);
    secret_unref(secret);
}
