/* Client: one connection per request, `Connection: close`, an answer of bounded size and time. */
#include "cli/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli/files.h"
#include "config/config.h"

#define ANSWER_BYTES_MAX ((size_t)256 << 20)
#define ANSWER_WAIT_S 10

static bool read_all(int fd, struct buffer *raw, unsigned wait_s, char *why, size_t why_bytes);
static bool answer_parse(struct buffer *raw, struct client_answer *out);
static bool unchunk(const char *text, size_t len, struct buffer *out);
static const char *header_get(const char *head, const char *name);

bool client_find(const struct cli *cli, char path[CLIENT_PATH_MAX], char *why, size_t why_bytes)
{
    path[0] = 0;
    const char *given = cli_get(cli, "--socket"), *file = files_config(cli);
    if (!given) given = getenv("HOLDFAST_SOCKET");
    if (given && given[0]) {
        snprintf(path, CLIENT_PATH_MAX, "%s", given);
        return true;
    }
    if (access(file, R_OK) != 0) {
        snprintf(why, why_bytes, "cannot tell which holdfast is meant: there is no %.200s here; give "
                                 "--socket PATH or -c FILE, or set HOLDFAST_SOCKET", file);
        return false;
    }
    char *found = config_find_socket(file, NULL);
    if (found) snprintf(path, CLIENT_PATH_MAX, "%s", found);
    else snprintf(why, why_bytes, "%.200s names no UNIX socket: `holdfast check` may say why", file);
    free(found);
    return path[0] != 0;
}

int client_connect(const char *path, char *why, size_t why_bytes)
{
    struct sockaddr_un to = { .sun_family = AF_UNIX };
    struct timeval wait = { .tv_sec = ANSWER_WAIT_S };
    if (strlen(path) >= sizeof to.sun_path) {
        snprintf(why, why_bytes, "the socket's path is too long: %s", path);
        return -1;
    }
    memcpy(to.sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        snprintf(why, why_bytes, "cannot make a socket: %s", strerror(errno));
        return -1;
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0) return fd;
    int error = errno;
    close(fd);
    if (error == ENOENT || error == ECONNREFUSED || error == ENOTDIR) {
        snprintf(why, why_bytes, "no holdfast is running at %s", path);
    } else if (error == EACCES) {
        snprintf(why, why_bytes, "%s belongs to another user: run this as the one who runs holdfast",
                 path);
    } else {
        snprintf(why, why_bytes, "cannot reach %s: %s", path, strerror(error));
    }
    return -1;
}

bool client_write(int fd, const void *bytes, size_t len)
{
    const char *at = bytes;
    while (len) {
        ssize_t n = send(fd, at, len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        at += n;
        len -= (size_t)n;
    }
    return true;
}

bool client_request(const char *path, const char *method, const char *target, const void *body,
                    size_t len, struct client_answer *out, char *why, size_t why_bytes)
{
    return client_request_typed(path, method, target, NULL, body, len, out, why, why_bytes);
}

bool client_request_typed(const char *path, const char *method, const char *target, const char *type,
                          const void *body, size_t len, struct client_answer *out, char *why,
                          size_t why_bytes)
{
    return client_request_within(path, method, target, type, body, len, ANSWER_WAIT_S, out, why, why_bytes);
}

bool client_request_within(const char *path, const char *method, const char *target, const char *type,
                           const void *body, size_t len, unsigned wait_s, struct client_answer *out,
                           char *why, size_t why_bytes)
{
    struct timeval wait = { .tv_sec = wait_s };
    struct buffer raw;
    buffer_init(&raw, ANSWER_BYTES_MAX);
    buffer_init(&out->body, ANSWER_BYTES_MAX);
    out->status = 0;
    int fd = client_connect(path, why, why_bytes);
    if (fd < 0) return false;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);

    bool ok = buffer_printf(&raw, "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n", method,
                            target);
    if (ok && strcmp(method, "GET") != 0) ok = buffer_printf(&raw, "Content-Length: %zu\r\n", len);
    if (ok && type) ok = buffer_printf(&raw, "Content-Type: %s\r\n", type);
    ok = ok && buffer_append_text(&raw, "\r\n") && (!len || buffer_append(&raw, body, len));
    if (!ok) {
        snprintf(why, why_bytes, "out of memory");
    } else if (!client_write(fd, raw.data, raw.len)) {
        ok = false;
        snprintf(why, why_bytes, "the holdfast at %s hung up", path);
    }
    buffer_clear(&raw);
    ok = ok && read_all(fd, &raw, wait_s, why, why_bytes);
    close(fd);
    if (ok && !answer_parse(&raw, out)) {
        ok = false;
        snprintf(why, why_bytes, "what listens at %s gave no answer that can be read", path);
    }
    buffer_deinit(&raw);
    if (!ok) client_answer_deinit(out);
    return ok;
}

void client_answer_deinit(struct client_answer *a)
{
    buffer_deinit(&a->body);
}

static bool read_all(int fd, struct buffer *raw, unsigned wait_s, char *why, size_t why_bytes)
{
    for (;;) {
        if (!buffer_reserve(raw, 65536)) {
            snprintf(why, why_bytes, "the answer is too long");
            return false;
        }
        ssize_t n = recv(fd, raw->data + raw->len, 65535, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            if (errno == EAGAIN) {
                snprintf(why, why_bytes, "a holdfast listens there and gave no answer within %u s",
                         wait_s);
            } else {
                snprintf(why, why_bytes, "the answer broke off: %s", strerror(errno));
            }
            return false;
        }
        if (n == 0) break;
        raw->len += (size_t)n;
    }
    raw->data[raw->len] = 0;
    return true;
}

static bool answer_parse(struct buffer *raw, struct client_answer *out)
{
    char *text = (char *)raw->data;
    int status;
    if (sscanf(text, "HTTP/1.%*1d %3d", &status) != 1) return false;
    char *end = strstr(text, "\r\n\r\n");
    if (!end) return false;
    *end = 0;
    const char *body = end + 4;
    size_t len = raw->len - (size_t)(body - text);
    const char *length = header_get(text, "content-length");
    const char *coding = header_get(text, "transfer-encoding");
    out->status = status;
    bool ok;
    if (coding && strncasecmp(coding, "chunked", 7) == 0) {
        ok = unchunk(body, len, &out->body);
    } else {
        size_t told = length ? strtoull(length, NULL, 10) : len;
        ok = told <= len && buffer_append(&out->body, body, told);
    }
    ok = ok && buffer_append_char(&out->body, 0);
    if (ok) out->body.len--;
    return ok;
}

/* The value's start, in a head of CRLF lines; NULL when absent. */
static const char *header_get(const char *head, const char *name)
{
    size_t len = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line; line = strstr(line, "\r\n")) {
        line += 2;
        if (strncasecmp(line, name, len) != 0 || line[len] != ':') continue;
        line += len + 1;
        return line + strspn(line, " \t");
    }
    return NULL;
}

static bool unchunk(const char *text, size_t len, struct buffer *out)
{
    const char *end = text + len;
    while (text < end) {
        char *rest;
        size_t n = strtoull(text, &rest, 16);
        const char *data = rest == text ? NULL : strstr(rest, "\r\n");
        if (!data) return false;
        if (n == 0) return true;
        data += 2;
        if (n > (size_t)(end - data) || !buffer_append(out, data, n)) return false;
        text = data + n + 2;
    }
    return false;
}
