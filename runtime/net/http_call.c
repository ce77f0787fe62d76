/* One HTTP call: what is asked of libcurl, what it may keep of an answer, and what its result means in
 * our causes. */
#include <ctype.h>
#include <errno.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "net/http_internal.h"

static bool read_url(struct http_call *call, const struct http_request *request);
static bool set_headers(struct http_call *call, const struct http_request *request);
static bool set_proxy(struct http_call *call, const struct http_request *request);
static bool set_method(struct http_call *call, const struct http_request *request);
static size_t on_head(char *bytes, size_t one, size_t len, void *data);
static size_t on_body(char *bytes, size_t one, size_t len, void *data);
static CURLcode on_ssl_context(CURL *easy, void *context, void *data);
static void on_info(const SSL *ssl, int where, int result);
static curl_socket_t on_open_socket(void *data, curlsocktype purpose, struct curl_sockaddr *address);
static bool is_token(const char *text);

bool http_call__prepare(struct http_call *call, const struct http_request *request)
{
    call->easy = curl_easy_init();
    if (!call->easy) return false;
    if (request->ca_file && !(call->ca_file = strdup(request->ca_file))) return false;
    if (!read_url(call, request)) return false;
    if (call->cause.kind != CAUSE_NONE) return true;
    bool ok = set_headers(call, request) && set_proxy(call, request) && set_method(call, request);
    CURL *easy = call->easy;
    curl_easy_setopt(easy, CURLOPT_PRIVATE, (char *)call);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, call->error);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)INT32_MAX); /* our timer bounds it */
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
    /* Only our store counts. Without a cache of libcurl's own: it tells stores apart by file names. */
    curl_easy_setopt(easy, CURLOPT_CAINFO, NULL);
    curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    curl_easy_setopt(easy, CURLOPT_CA_CACHE_TIMEOUT, 0L);
    curl_easy_setopt(easy, CURLOPT_SSL_CTX_FUNCTION, on_ssl_context);
    curl_easy_setopt(easy, CURLOPT_SSL_CTX_DATA, call);
    if (call->ca_file) {
        /* Nor does it see our store when it looks for a connection or a session to use again. */
        curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
        curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
        curl_easy_setopt(easy, CURLOPT_SSL_SESSIONID_CACHE, 0L);
    }
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_head);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, call);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, call);
    curl_easy_setopt(easy, CURLOPT_MAXFILESIZE_LARGE, (curl_off_t)call->body.bytes_max);
    return ok;
}

/* So that libcurl never looks up a name itself. */
bool http_call__set_addresses(struct http_call *call)
{
    struct buffer text;
    union address literal;
    if (address__parse(call->lookup_host, &literal)) return true;
    buffer_init(&text, 8192);
    /* `+`: such an entry may grow old. Without it, it would be used for ever. */
    bool ok = buffer_printf(&text, "+%s:%u:", call->lookup_host, (unsigned)call->port);
    for (uint32_t i = 0; i < call->addresses.count; i++) {
        const union address *a = &call->addresses.items[i];
        char name[INET6_ADDRSTRLEN];
        ok = ok && buffer_printf(&text, a->any.sa_family == AF_INET6 ? "%s[%s]" : "%s%s",
                                 i ? "," : "", address__text(a, name));
    }
    ok = ok && buffer_append_char(&text, '\0');
    if (ok) call->addresses_text = curl_slist_append(NULL, (const char *)text.data);
    buffer_deinit(&text);
    if (!call->addresses_text) return false;
    return curl_easy_setopt(call->easy, CURLOPT_RESOLVE, call->addresses_text) == CURLE_OK;
}

void http_call__free(struct http_call *call)
{
    ASSERT(!call->added);
    ASSERT(call->timer == NULL);
    if (call->easy) curl_easy_cleanup(call->easy);
    curl_slist_free_all(call->headers);
    curl_slist_free_all(call->proxy_headers);
    curl_slist_free_all(call->addresses_text);
    X509_STORE_free(call->store);
    free(call->ca_file);
    free(call->host);
    free(call->lookup_host);
    buffer_deinit(&call->head);
    buffer_deinit(&call->body);
    free(call);
}

enum stage http_call__stage(struct http_call *call)
{
    if (!call->added && !call->over) return call->stage;
    curl_off_t tcp = 0, tls = 0, sent = 0;
    curl_easy_getinfo(call->easy, CURLINFO_PRETRANSFER_TIME_T, &sent);
    curl_easy_getinfo(call->easy, CURLINFO_APPCONNECT_TIME_T, &tls);
    curl_easy_getinfo(call->easy, CURLINFO_CONNECT_TIME_T, &tcp);
    if (sent > 0) return STAGE_READY;
    if (tls > 0 || (tcp > 0 && call->tls)) return STAGE_SECURING;
    return STAGE_CONNECTING;
}

static struct cause certificate_cause(struct http_call *call, enum stage stage)
{
    long verdict = 0;
    curl_easy_getinfo(call->easy, CURLINFO_SSL_VERIFYRESULT, &verdict);
    struct cause cause;
    if (strstr(call->error, "target host name")) { /* the chain was good: libcurl compares names itself */
        cause = net__cause(stage, CAUSE_CERTIFICATE, X509_V_ERR_HOSTNAME_MISMATCH,
                           "the certificate is not for %s", call->host);
    } else {
        cause = net__cause(stage, CAUSE_CERTIFICATE, verdict, "certificate refused: %s",
                           X509_verify_cert_error_string(verdict));
    }
    cause.by = BY_PEER;
    return cause;
}

static struct cause connect_cause(struct http_call *call, long error)
{
    if (error == 0) error = ECONNREFUSED;
    return net__cause(STAGE_CONNECTING, net__connect_kind((int)error), error, "%s port %u: %s",
                      call->lookup_host, (unsigned)call->port, uv_strerror(-(int)error));
}

bool http_call__at_proxy(struct http_call *call)
{
    long tunnel = 0, connections = 0;
    if (!call->proxied) return false;
    if (!call->added && !call->over) return true;
    curl_easy_getinfo(call->easy, CURLINFO_HTTP_CONNECTCODE, &tunnel);
    curl_easy_getinfo(call->easy, CURLINFO_NUM_CONNECTS, &connections);
    /* A connection that is used again has its tunnel. */
    if (call->tls) return tunnel / 100 != 2 && (connections > 0 || http_call__stage(call) < STAGE_SECURING);
    return http_call__stage(call) == STAGE_CONNECTING;
}

struct cause http_call__proxy_cause(struct http_call *call, int64_t code, const char *words)
{
    char shown[PROXY_SHOWN_BYTES];
    return net__cause(STAGE_CONNECTING, CAUSE_PROXY, code, "the proxy at %.80s %s",
                      proxy__shown(call->lookup_host, call->port, shown), words);
}

/* What libcurl says of a proxy that did not make the tunnel. */
static struct cause proxy_cause(struct http_call *call, CURLcode code, long error)
{
    char shown[PROXY_SHOWN_BYTES];
    long status = 0;
    curl_easy_getinfo(call->easy, CURLINFO_HTTP_CONNECTCODE, &status);
    proxy__shown(call->lookup_host, call->port, shown);
    if (status && status / 100 != 2) return proxy__refused(shown, (int)status, NULL, 0);
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
        return net__cause(STAGE_RESOLVING, CAUSE_PROXY, 0, "cannot resolve the proxy's name %s",
                          call->lookup_host);
    case CURLE_COULDNT_CONNECT:
        if (error == 0) error = ECONNREFUSED;
        return net__cause(STAGE_CONNECTING, CAUSE_PROXY, error, "cannot reach the proxy: %.60s: %s", shown,
                          uv_strerror(-(int)error));
    case CURLE_OPERATION_TIMEDOUT: return http_call__proxy_cause(call, ETIMEDOUT, "gave no answer in time");
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_WEIRD_SERVER_REPLY: return http_call__proxy_cause(call, 0, "does not speak HTTP");
    default: return http_call__proxy_cause(call, error, "closed the connection during CONNECT");
    }
}

struct cause http_call__cause(struct http_call *call, CURLcode code, int alert)
{
    long error = 0;
    curl_easy_getinfo(call->easy, CURLINFO_OS_ERRNO, &error);
    enum stage stage = http_call__stage(call);
    const char *text = call->error[0] ? call->error : curl_easy_strerror(code);
    /* libcurl keeps the errno of connect() alone; of a stream's errors there are only the words. */
    if (strstr(text, strerror(ECONNRESET))) error = ECONNRESET;
    else if (strstr(text, strerror(EPIPE))) error = EPIPE;
    if (call->too_big || code == CURLE_FILESIZE_EXCEEDED) {
        struct cause cause = net__cause(stage, CAUSE_TOO_BIG, 0, "the answer is over the limit");
        cause.by = BY_PEER;
        return cause;
    }
    if (http_call__at_proxy(call)) return proxy_cause(call, code, error);
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
        return net__cause(STAGE_RESOLVING, CAUSE_RESOLVE, 0, "cannot resolve %s", call->lookup_host);
    case CURLE_COULDNT_CONNECT: return connect_cause(call, error);
    case CURLE_PEER_FAILED_VERIFICATION: return certificate_cause(call, STAGE_SECURING);
    case CURLE_SSL_CONNECT_ERROR:
        if (alert) {
            return net__cause(STAGE_SECURING, CAUSE_TLS, alert, "the peer sent TLS alert %d: %s", alert,
                              SSL_alert_desc_string_long(alert));
        }
        if (error == ECONNRESET || error == EPIPE) {
            return net__cause(STAGE_SECURING, CAUSE_RESET, error, "%s during the TLS handshake",
                              uv_strerror(-(int)error));
        }
        if (strstr(text, "unexpected eof") || strstr(text, "SSL_ERROR_SYSCALL")) {
            return net__cause(STAGE_SECURING, CAUSE_EOF, 0,
                              "the peer closed the connection during the TLS handshake");
        }
        return net__cause(STAGE_SECURING, CAUSE_TLS, 0, "%s", text);
    case CURLE_GOT_NOTHING:
        return net__cause(stage, CAUSE_EOF, 0, "the peer closed the connection without an answer");
    case CURLE_PARTIAL_FILE:
        return net__cause(stage, CAUSE_EOF, 0, "the peer closed the connection inside its answer");
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
        if (error == 0) return net__cause(stage, CAUSE_EOF, 0, "%s", text);
        if (net__stream_kind((int)error) == CAUSE_RESET) {
            return net__cause(stage, CAUSE_RESET, error, "%s", uv_strerror(-(int)error));
        }
        return net__cause(stage, CAUSE_IO, error, "%s", uv_strerror(-(int)error));
    case CURLE_OPERATION_TIMEDOUT: return net__cause(stage, CAUSE_TIMEOUT, 0, "no answer in time");
    case CURLE_UNSUPPORTED_PROTOCOL: /* also an answer that is no HTTP/1 */
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_BAD_CONTENT_ENCODING:
        return net__cause(stage, CAUSE_PROTOCOL, 0, "not an HTTP answer: %s", text);
    default: return net__cause(stage, CAUSE_IO, error, "%s", text);
    }
}

/* Reads host, port and scheme; anything but http(s) with a host is refused. */
static bool read_url(struct http_call *call, const struct http_request *request)
{
    CURLU *url = curl_url();
    if (!url) return false;
    char *scheme = NULL, *host = NULL, *port = NULL;
    bool ok = true;
    bool good = curl_url_set(url, CURLUPART_URL, request->url, 0) == CURLUE_OK &&
                curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
                curl_url_get(url, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
                curl_url_get(url, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK &&
                (strcmp(scheme, "https") == 0 || strcmp(scheme, "http") == 0);
    if (good) {
        call->tls = strcmp(scheme, "https") == 0;
        call->port = (uint16_t)atoi(port);
        call->host = strdup(host);
        size_t len = strlen(host);
        bool brackets = len > 2 && host[0] == '[';
        call->lookup_host = brackets ? strndup(host + 1, len - 2) : strdup(host);
        ok = call->host && call->lookup_host &&
             curl_easy_setopt(call->easy, CURLOPT_URL, request->url) == CURLE_OK;
    } else {
        /* The URL itself may hold a secret. */
        call->cause = net__cause(STAGE_PREPARING, CAUSE_ADDRESS, 0, "not an http or https address");
        call->cause.by = BY_US;
    }
    curl_free(scheme);
    curl_free(host);
    curl_free(port);
    curl_url_cleanup(url);
    return ok;
}

static bool append(struct curl_slist **list, const char *name, const char *value)
{
    struct buffer line;
    buffer_init(&line, 0);
    /* libcurl takes "Name;" for a header without a value. */
    bool ok = value[0] ? buffer_printf(&line, "%s: %s", name, value)
                       : buffer_printf(&line, "%s;", name);
    ok = ok && buffer_append_char(&line, '\0');
    struct curl_slist *longer = ok ? curl_slist_append(*list, (const char *)line.data) : NULL;
    buffer_deinit(&line);
    if (!longer) return false;
    *list = longer;
    return true;
}

static bool set_headers(struct http_call *call, const struct http_request *request)
{
    bool typed = false;
    for (uint32_t i = 0; i < request->header_count; i++) {
        const struct http_header *h = &request->headers[i];
        if (!is_token(h->name) || strpbrk(h->value, "\r\n")) {
            call->cause = net__cause(STAGE_PREPARING, CAUSE_ADDRESS, 0, "a header that cannot be sent");
            call->cause.by = BY_US;
            return true;
        }
        typed |= strcasecmp(h->name, "Content-Type") == 0;
        if (!append(&call->headers, h->name, h->value)) return false;
    }
    /* What libcurl would add by itself. A line that ends after the colon removes the header. */
    struct curl_slist *longer = curl_slist_append(call->headers, "Expect:");
    if (!longer) return false;
    call->headers = longer;
    if (!typed) {
        longer = curl_slist_append(call->headers, "Content-Type:");
        if (!longer) return false;
        call->headers = longer;
    }
    return curl_easy_setopt(call->easy, CURLOPT_HTTPHEADER, call->headers) == CURLE_OK;
}

static bool set_proxy(struct http_call *call, const struct http_request *request)
{
    const struct host_proxy *proxy = &request->proxy;
    if (!proxy->host) {
        /* "": none, whatever the environment says; the runtime decides about proxies. */
        return curl_easy_setopt(call->easy, CURLOPT_PROXY, "") == CURLE_OK;
    }
    free(call->lookup_host);
    call->lookup_host = strdup(proxy->host);
    call->port = proxy->port;
    if (!call->lookup_host) return false;
    call->proxied = true;
    union address literal;
    bool v6 = address__parse(proxy->host, &literal) && literal.any.sa_family == AF_INET6;
    char text[NET_HOST_BYTES_MAX + 32];
    snprintf(text, sizeof text, v6 ? "http://[%s]:%u" : "http://%s:%u", proxy->host,
             (unsigned)proxy->port);
    curl_easy_setopt(call->easy, CURLOPT_NOPROXY, "");
    curl_easy_setopt(call->easy, CURLOPT_HEADEROPT, (long)CURLHEADER_SEPARATE);
    curl_easy_setopt(call->easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    if (proxy->authorization && !strpbrk(proxy->authorization, "\r\n")) {
        if (!append(&call->proxy_headers, "Proxy-Authorization", proxy->authorization)) return false;
        curl_easy_setopt(call->easy, CURLOPT_PROXYHEADER, call->proxy_headers);
        /* libcurl would lend this one's tunnel to a call with other credentials, or none. */
        curl_easy_setopt(call->easy, CURLOPT_FRESH_CONNECT, 1L);
        curl_easy_setopt(call->easy, CURLOPT_FORBID_REUSE, 1L);
    }
    return curl_easy_setopt(call->easy, CURLOPT_PROXY, text) == CURLE_OK;
}

static bool set_method(struct http_call *call, const struct http_request *request)
{
    const char *method = request->method ? request->method : "GET";
    if (!is_token(method)) {
        call->cause = net__cause(STAGE_PREPARING, CAUSE_ADDRESS, 0, "not an HTTP method");
        call->cause.by = BY_US;
        return true;
    }
    bool has_body = request->body_len > 0 || strcmp(method, "POST") == 0 ||
                    strcmp(method, "PUT") == 0 || strcmp(method, "PATCH") == 0;
    if (has_body) {
        curl_easy_setopt(call->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body_len);
        const void *body = request->body ? request->body : "";
        if (curl_easy_setopt(call->easy, CURLOPT_COPYPOSTFIELDS, body) != CURLE_OK) return false;
    }
    if (strcmp(method, "HEAD") == 0) curl_easy_setopt(call->easy, CURLOPT_NOBODY, 1L);
    return curl_easy_setopt(call->easy, CURLOPT_CUSTOMREQUEST, method) == CURLE_OK;
}

/* Keeps the lines of the final answer alone: each status line begins anew. */
static size_t on_head(char *bytes, size_t one, size_t len, void *data)
{
    struct http_call *call = data;
    ASSERT(one == 1);
    if (len >= 5 && memcmp(bytes, "HTTP/", 5) == 0) {
        buffer_clear(&call->head);
        return len;
    }
    if (len <= 2 && len > 0 && (bytes[0] == '\r' || bytes[0] == '\n')) return len;
    if (buffer_append(&call->head, bytes, len)) return len;
    call->too_big = true;
    return 0;
}

static size_t on_body(char *bytes, size_t one, size_t len, void *data)
{
    struct http_call *call = data;
    ASSERT(one == 1);
    if (buffer_append(&call->body, bytes, len)) return len;
    call->too_big = true;
    return 0;
}

static CURLcode on_ssl_context(CURL *easy, void *context, void *data)
{
    struct http_call *call = data;
    (void)easy;
    X509_STORE_up_ref(call->store);
    SSL_CTX_set_cert_store(context, call->store);
    /* The connection may outlive the call, so what the callback knows is the net's. */
    SSL_CTX_set_app_data(context, call->net->http);
    SSL_CTX_set_info_callback(context, on_info);
    return CURLE_OK;
}

static void on_info(const SSL *ssl, int where, int result)
{
    struct http *http = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    if (where != SSL_CB_READ_ALERT || (result & 0xff) == SSL_AD_CLOSE_NOTIFY) return;
    http->alert = result & 0xff;
}

static curl_socket_t on_open_socket(void *data, curlsocktype purpose, struct curl_sockaddr *address)
{
    (void)data;
    (void)purpose;
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static bool is_token(const char *text)
{
    if (!text || !text[0]) return false;
    for (const char *c = text; *c; c++) {
        if (!isalnum((unsigned char)*c) && !strchr("!#$%&'*+-.^_`|~", *c)) return false;
    }
    return true;
}
