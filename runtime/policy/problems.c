/* Problems: the list of everything wrong with a policy or configuration, each with its place. Owns
 * the items; never prints, and never holds a secret's bytes: callers describe values, not copy
 * them. */
#include "policy/policy.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/text.h"

/* A hostile or hopeless file shall not fill memory with its own errors. */
#define PROBLEMS_MAX 500

static void clean(char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f) *text = '?';
    }
}

void problems_init(struct problems *p)
{
    *p = (struct problems){ 0 };
}

void problems_deinit(struct problems *p)
{
    free(p->items);
    problems_init(p);
}

void problems_add(struct problems *p, bool warning, const char *file, uint32_t line,
                  const char *key, const char *format, ...)
{
    if (!warning) p->errors++; /* counted even when not kept: a full list is still a failure */
    if (p->count >= PROBLEMS_MAX) return;
    if ((p->count & (p->count - 1)) == 0) { /* grows at the powers of two */
        p->items = realloc(p->items, (p->count ? p->count * 2u : 1u) * sizeof *p->items);
        ASSERT(p->items != NULL);
    }
    struct problem *item = &p->items[p->count++];
    *item = (struct problem){ .line = line, .warning = warning };
    text_copy(item->file, sizeof item->file, file ? file : "", file ? strlen(file) : 0);
    text_copy(item->key, sizeof item->key, key ? key : "", key ? strlen(key) : 0);
    char whole[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(whole, sizeof whole, format, args);
    va_end(args);
    text_copy(item->text, sizeof item->text, whole, strlen(whole));
    /* Names and words come from files: no byte of them may move a cursor or forge a log line. */
    clean(item->key);
    clean(item->text);
}

const char *problem_format(const struct problem *p, char *out, size_t out_bytes)
{
    char place[16] = "";
    if (p->line) snprintf(place, sizeof place, "%u:", p->line);
    snprintf(out, out_bytes, "%s%s%s%s%s%s%s%s", p->file, p->file[0] ? ":" : "", place,
             p->file[0] || p->line ? " " : "", p->warning ? "warning: " : "", p->key,
             p->key[0] ? ": " : "", p->text);
    return out;
}
