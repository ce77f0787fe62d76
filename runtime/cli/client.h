/* Client: how a command reaches the running holdfast. HTTP/1.1 and NDJSON over its UNIX socket, blocking,
 * with limits on time and size. Used by commands only: nothing of it belongs on a loop. */
#ifndef HOLDFAST_CLI_CLIENT_H
#define HOLDFAST_CLI_CLIENT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buffer.h"
#include "cli/cli.h"

#define CLIENT_PATH_MAX 512

/* The options of every command that talks to a running holdfast. */
#define CLIENT_OPTIONS                                                                        \
    { "--socket", NULL, "PATH", "the running holdfast's UNIX socket", false },                \
    { "--config", "-c", "FILE", "the configuration that names it (./holdfast.lua)", false }

/* --socket, then HOLDFAST_SOCKET, then the configuration's listen.unix. False with a sentence. */
bool client_find(const struct cli *cli, char path[CLIENT_PATH_MAX], char *why, size_t why_bytes);

struct client_answer {
    int status;
    struct buffer body; /* owned; ends with a NUL that is not counted */
};

/* One request, one answer. `body` NULL: none. False with a sentence when there was no answer. */
bool client_request(const char *path, const char *method, const char *target, const void *body,
                    size_t len, struct client_answer *out, char *why, size_t why_bytes);
/* The same with the body's type; NULL: none said, which the API takes for JSON. */
bool client_request_typed(const char *path, const char *method, const char *target, const char *type,
                          const void *body, size_t len, struct client_answer *out, char *why,
                          size_t why_bytes);
/* The same, for an answer that may take longer than the usual ten seconds. */
bool client_request_within(const char *path, const char *method, const char *target, const char *type,
                           const void *body, size_t len, unsigned wait_s, struct client_answer *out,
                           char *why, size_t why_bytes);
void client_answer_deinit(struct client_answer *a);

/* A connected stream for NDJSON, or -1 with a sentence. Owned: close(). */
int client_connect(const char *path, char *why, size_t why_bytes);
bool client_write(int fd, const void *bytes, size_t len);

#endif
