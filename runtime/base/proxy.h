/* Proxies: what HTTPS_PROXY, http_proxy, ALL_PROXY and NO_PROXY mean, and whether one target goes through
 * one of them. Reads the variables through its caller, keeps no state, dials nothing.
 *
 * As curl has it: the lower-case name goes before the upper-case one, an empty value is none, and
 * HTTP_PROXY in upper case is not read (a web server makes it of a client's header). */
#ifndef HOLDFAST_BASE_PROXY_H
#define HOLDFAST_BASE_PROXY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/url.h"

struct proxy {
    char host[URL_HOST_MAX]; /* "": none */
    uint16_t port;
    char *authorization;     /* owned, wiped at the end; value of Proxy-Authorization; NULL: none */
    const char *variable;    /* that it came from; static */
};

struct proxy_rule; /* one entry of NO_PROXY */

struct proxy_env {
    struct proxy https, http;  /* for wss and https, for ws and http */
    struct proxy_rule *rules;  /* owned */
    uint32_t rule_count;
    const char *rules_from;    /* NO_PROXY as it is spelled; static; NULL: not set */
};

/* A variable's value or NULL; borrowed until the next call. */
typedef const char *(*proxy_get)(void *self, const char *variable);

/* False with a sentence that names the variable, and never shows a proxy's address, since a password may
 * be in it; `*out` is empty then. Port 80 where none is written. */
bool proxy_env_read(struct proxy_env *out, proxy_get get, void *self, char *why, size_t why_bytes);
void proxy_env_deinit(struct proxy_env *env);
/* The proxy for a target, NULL: none. Loopback goes through none. `host`: lower case, no brackets.
 * `env` may be NULL. Borrowed from it. */
const struct proxy *proxy_choose(const struct proxy_env *env, bool tls, const char *host, uint16_t port);

/* "Basic ...". NULL with a sentence when the two cannot be sent so. Owned: wipe it before it is freed. */
char *proxy_basic(const char *user, size_t user_len, const char *password, size_t password_len,
                  const char **why);

#endif
