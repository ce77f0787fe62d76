/* Problems of a connection that is put over the API, in the API's words: where, what, and what would have been right. */
#include "ops/daemon_internal.h"

#include <stdio.h>
#include <string.h>

#define CREDENTIAL_EXPECTED                                                                        \
    "{\"credential\":\"NAME\"}, NAME a file in the directory that CREDENTIALS_DIRECTORY names"

/* A problem says "unknown key; did you mean `x`?" or "expected a text, got a number". */
static void problem_tell(struct ops_problems *out, const struct problem *p, const char *name)
{
    char prefix[CONFIG_NAME_MAX + 16], expected[256] = "";
    const char *where = p->key, *what = p->text, *at;
    int what_len = (int)strlen(what);
    size_t len = (size_t)snprintf(prefix, sizeof prefix, "connection %s", name);
    if (strncmp(where, prefix, len) == 0) where += len + (where[len] == '.');
    if ((at = strstr(what, "; did you mean `"))) {
        const char *near = at + strlen("; did you mean `");
        snprintf(expected, sizeof expected, "%.*s", (int)strcspn(near, "`"), near);
        what_len = (int)(at - what);
    } else if (strncmp(what, "expected a secret", 17) == 0) {
        snprintf(expected, sizeof expected, "%s", CREDENTIAL_EXPECTED);
        if ((at = strstr(what, ", got "))) what += at - what + 2;
        what_len = (int)strlen(what);
    } else if (strncmp(what, "expected ", 9) == 0 && (at = strstr(what, ", got "))) {
        snprintf(expected, sizeof expected, "%.*s", (int)(at - what) - 9, what + 9);
        what = at + 2;
        what_len = (int)strlen(what);
    }
    ops_problem_add(out,
                    where[0]    ? where
                    : p->key[0] ? name
                                : "body",
                    expected, "%.*s", what_len, what);
}

void daemon__put_problems(struct ops_problems *out, const struct problems *problems, const char *name)
{
    for (uint32_t i = 0; i < problems->count; i++) {
        if (!problems->items[i].warning) problem_tell(out, &problems->items[i], name);
    }
}
