/* Ask: requests about one connection, and complaints in the words of `status`. */
#include "cli/ask.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "cli/words.h"

static bool name_is_good(const char *name);
static void complain_unknown(const char *path, const char *name);
static void take(struct ask_answer *out, struct client_answer *from);

bool ask(const char *path, const char *method, const char *target, const char *type,
         const void *body, size_t len, struct ask_answer *out)
{
    struct client_answer a;
    char why[512];
    memset(out, 0, sizeof *out);
    if (!client_request_typed(path, method, target, type, body, len, &a, why, sizeof why)) {
        cli_complain("%s", why);
        return false;
    }
    take(out, &a);
    return true;
}

bool ask_within(const char *path, const char *method, const char *target, unsigned wait_s, struct ask_answer *out)
{
    struct client_answer a;
    char why[512];
    memset(out, 0, sizeof *out);
    if (!client_request_within(path, method, target, NULL, NULL, 0, wait_s, &a, why, sizeof why)) {
        cli_complain("%s", why);
        return false;
    }
    take(out, &a);
    return true;
}

static void take(struct ask_answer *out, struct client_answer *from)
{
    const struct client_answer a = *from;
    out->status = a.status;
    out->body = a.body; /* moved */
    out->json = cJSON_ParseWithLength((const char *)a.body.data, a.body.len);
}

void ask_deinit(struct ask_answer *a)
{
    cJSON_Delete(a->json);
    buffer_deinit(&a->body);
    memset(a, 0, sizeof *a);
}

bool ask_connection(const char *path, const char *name, const char *sub, struct ask_answer *out)
{
    char target[CLIENT_PATH_MAX];
    memset(out, 0, sizeof *out);
    if (!name_is_good(name)) {
        cli_complain("`%s` cannot be a connection's name", name);
        return false;
    }
    snprintf(target, sizeof target, "/v1/connections/%s%s", name, sub);
    if (!ask(path, "GET", target, NULL, NULL, 0, out)) return false;
    bool bytes = strncmp(sub, "/trace", 6) == 0; /* the one answer that is no JSON */
    if (out->status == 200 && (bytes || cJSON_IsObject(out->json))) return true;
    if (out->status == 404)
        complain_unknown(path, name);
    else
        ask_complain(path, out);
    ask_deinit(out);
    return false;
}

bool ask_order(const char *path, const char *name, const char *verb, const char *type,
               const void *body, size_t len, struct ask_answer *out)
{
    char target[CLIENT_PATH_MAX];
    memset(out, 0, sizeof *out);
    if (!name_is_good(name)) {
        cli_complain("`%s` cannot be a connection's name", name);
        return false;
    }
    snprintf(target, sizeof target, "/v1/connections/%s/%s", name, verb);
    if (!ask(path, "POST", target, type, body, len, out)) return false;
    if (out->status != 404) return true;
    complain_unknown(path, name);
    ask_deinit(out);
    return false;
}

void ask_complain(const char *path, const struct ask_answer *a)
{
    const cJSON *error = cJSON_GetObjectItemCaseSensitive(a->json, "error");
    const char *what = words_text(error, "what"), *expected = words_text(error, "expected");
    if (what[0]) {
        cli_complain("%s%s%s", what, expected[0] ? "; expected: " : "", expected);
    } else {
        cli_complain("the holdfast at %s answered with HTTP %d", path, a->status);
    }
}

void ask_print(const struct buffer *out)
{
    fwrite(out->data, 1, out->len, stdout);
    fflush(stdout);
}

static bool name_is_good(const char *name)
{
    size_t len = strlen(name);
    return len && len < 64 &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == len;
}

static void complain_unknown(const char *path, const char *name)
{
    char hint[96];
    struct ask_answer a;
    const cJSON *c;
    size_t count = 0;
    if (!ask(path, "GET", "/v1/connections", NULL, NULL, 0, &a)) return;
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(a.json, "connections");
    const char **names =
        calloc((size_t)(cJSON_IsArray(list) ? cJSON_GetArraySize(list) : 0) + 1, sizeof *names);
    cJSON_ArrayForEach(c, list)
    {
        if (names) names[count++] = words_text(c, "name");
    }
    cli_complain(
        "no connection is called `%s`%s", name,
        cli_did_you_mean(names ? text_nearest(name, names, count) : NULL, hint, sizeof hint));
    free(names);
    ask_deinit(&a);
}
