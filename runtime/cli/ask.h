/* Ask: what the commands about one connection have in common: its view, what the API refused, and
 * the nearest name for one that is not there. Complains on standard error by itself. */
#ifndef HOLDFAST_CLI_ASK_H
#define HOLDFAST_CLI_ASK_H

#include <cjson/cJSON.h>

#include "cli/client.h"

struct ask_answer {
    int status;
    cJSON *json;        /* owned; NULL when the body is no JSON */
    struct buffer body; /* owned */
};

/* False after a complaint: there was no answer. `type`: of the body, NULL for JSON. */
bool ask(const char *path, const char *method, const char *target, const char *type,
         const void *body, size_t len, struct ask_answer *out);
/* The same without a body, for what may take so many seconds. */
bool ask_within(const char *path, const char *method, const char *target, unsigned wait_s, struct ask_answer *out);
void ask_deinit(struct ask_answer *a);
/* GET of a connection's `sub` ("" or "/journal?limit=64"). False after a complaint, which names the
 * nearest connection when there is none of that name. */
bool ask_connection(const char *path, const char *name, const char *sub, struct ask_answer *out);
/* POST of /v1/connections/NAME/VERB; 404 is complained about, any other answer is the caller's. */
bool ask_order(const char *path, const char *name, const char *verb, const char *type,
               const void *body, size_t len, struct ask_answer *out);
/* Says what the API refused: what, where, expected. */
void ask_complain(const char *path, const struct ask_answer *a);
/* Writes all and flushes. */
void ask_print(const struct buffer *out);

#endif
