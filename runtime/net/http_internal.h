/* What http.c and http_call.c share: one call, and libcurl's side of the loop. */
#ifndef HOLDFAST_NET_HTTP_INTERNAL_H
#define HOLDFAST_NET_HTTP_INTERNAL_H

#include <curl/curl.h>

#include "net/net_internal.h"

#define HTTP_HEAD_BYTES_MAX ((size_t)64 << 10)
#define HTTP_BODY_BYTES_MAX ((uint64_t)64 << 20) /* when the request names no limit, or a larger one */
#define HTTP_TIMEOUT_MS 60000                    /* when the request names none */
#define HTTP_IDLE_CONNECTIONS_MAX 16

struct http {
    struct net *net;
    CURLM *multi;     /* owned */
    uv_timer_t timer; /* libcurl's; made with the first call */
    bool timer_made;
    bool closing;
    int alert;        /* last TLS alert that came during the action under way; 0 none */
};

struct http_socket {
    uv_poll_t poll;
    struct net *net;
    struct http *http; /* NULL once libcurl let go of it */
    curl_socket_t fd;
    int events;
};

struct http_call {
    struct table_entry entry; /* by id */
    struct net *net;
    struct turn turn;
    struct wait trust_wait;
    struct resolve_wait resolve_wait;
    uv_timer_t *timer;        /* moved to libuv when closed */
    enum stage stage;
    bool added;               /* libcurl has it */
    bool over;                /* `cause` is final; to be told */
    bool tls;
    bool proxied;             /* lookup_host and port are the proxy's */
    bool too_big;
    CURL *easy;               /* owned */
    struct curl_slist *headers, *proxy_headers, *addresses_text; /* owned */
    X509_STORE *store;        /* owned reference; NULL without TLS */
    char *ca_file;            /* owned, or NULL */
    char *host;               /* owned; as in the URL */
    char *lookup_host;        /* owned; the proxy's where there is one, without brackets */
    uint16_t port;            /* of lookup_host */
    struct address_list addresses;
    char error[CURL_ERROR_SIZE];
    struct buffer head, body; /* owned */
    int status;
    struct cause cause;
};

/* Copies the request into an easy handle. False when memory is out; a request that cannot be made
 * sets call->cause. */
bool http_call__prepare(struct http_call *call, const struct http_request *request);
bool http_call__set_addresses(struct http_call *call);
void http_call__free(struct http_call *call);
enum stage http_call__stage(struct http_call *call);
struct cause http_call__cause(struct http_call *call, CURLcode code, int alert);
/* Through a proxy, and not yet (or never) with the target: what goes wrong now is the proxy's doing. */
bool http_call__at_proxy(struct http_call *call);
/* "the proxy at H:P " and the words; kind PROXY. */
struct cause http_call__proxy_cause(struct http_call *call, int64_t code, const char *words);

#endif
