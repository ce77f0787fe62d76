/* Handover: messages and descriptors between two processes. Decides nothing: who acts on a message, and
 * for how long one is waited for, is daemon_upgrade.c's and `holdfast run`'s. What comes from the other
 * side may be of another version, or no holdfast at all: everything is checked. */
#include "ops/handover.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/buffer.h"
#include "base/text.h"

#define PACKET_BYTES_MAX ((size_t)16 << 10)

static const char *const kind_names[] = {
#define X(name, text) text,
    HANDOVER_KIND_MAP(X)
#undef X
};
static const char *const fd_names[] = {
#define X(name, text) text,
    HANDOVER_FD_MAP(X)
#undef X
};

static bool message_write(struct buffer *out, const struct handover_message *m);
static bool message_read(const char *text, size_t len, struct handover_message *out, int *fds,
                         int fd_count);
static void text_get(const cJSON *object, const char *key, char *out, size_t out_bytes);

void handover_message_init(struct handover_message *m, enum handover_kind kind)
{
    memset(m, 0, sizeof *m);
    m->kind = kind;
    for (int i = 0; i < HANDOVER_FD_COUNT; i++) m->fds[i] = -1;
}

bool handover_send(int fd, const struct handover_message *m)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof m->fds)];
    } control;
    struct buffer text;
    int fds[HANDOVER_FD_COUNT], count = 0;
    buffer_init(&text, PACKET_BYTES_MAX);
    for (int i = 0; i < HANDOVER_FD_COUNT; i++) {
        if (m->fds[i] >= 0) fds[count++] = m->fds[i];
    }
    bool ok = message_write(&text, m);
    struct iovec part = { .iov_base = text.data, .iov_len = text.len };
    struct msghdr packet = { .msg_iov = &part, .msg_iovlen = 1 };
    if (count) {
        memset(&control, 0, sizeof control);
        packet.msg_control = control.bytes;
        packet.msg_controllen = CMSG_SPACE(sizeof *fds * (size_t)count);
        struct cmsghdr *head = CMSG_FIRSTHDR(&packet);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof *fds * (size_t)count);
        memcpy(CMSG_DATA(head), fds, sizeof *fds * (size_t)count);
    }
    ssize_t n = -1;
    do {
        if (ok) n = sendmsg(fd, &packet, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (ok && n < 0 && errno == EINTR);
    ok = ok && n == (ssize_t)text.len;
    buffer_deinit(&text);
    return ok;
}

enum handover_received handover_receive(int fd, int wait_ms, struct handover_message *out)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * 16)];
    } control;
    char text[PACKET_BYTES_MAX];
    int fds[16], count = 0;
    handover_message_init(out, HANDOVER_FAILED);
    struct pollfd at = { .fd = fd, .events = POLLIN };
    int ready = poll(&at, 1, wait_ms);
    if (ready == 0 || (ready < 0 && errno == EINTR)) return HANDOVER_NOTHING;

    struct iovec part = { .iov_base = text, .iov_len = sizeof text };
    struct msghdr packet = { .msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes };
    ssize_t n = recvmsg(fd, &packet, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0) return errno == EAGAIN || errno == EINTR ? HANDOVER_NOTHING : HANDOVER_ENDED;
    for (struct cmsghdr *head = CMSG_FIRSTHDR(&packet); head; head = CMSG_NXTHDR(&packet, head)) {
        if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) continue;
        int some = (int)((head->cmsg_len - CMSG_LEN(0)) / sizeof *fds);
        for (int i = 0; i < some; i++) {
            int one;
            memcpy(&one, CMSG_DATA(head) + (size_t)i * sizeof one, sizeof one);
            if (count < 16) fds[count++] = one;
            else close(one);
        }
    }
    if (n == 0) return HANDOVER_ENDED;
    if (!(packet.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) &&
        message_read(text, (size_t)n, out, fds, count))
        return HANDOVER_GOT;
    for (int i = 0; i < count; i++) close(fds[i]);
    handover_message_init(out, HANDOVER_FAILED);
    return HANDOVER_BAD;
}

void handover_message_close(struct handover_message *m)
{
    for (int i = 0; i < HANDOVER_FD_COUNT; i++) {
        if (m->fds[i] >= 0) close(m->fds[i]);
        m->fds[i] = -1;
    }
}

int handover_inherited(void)
{
    const char *text = getenv(HANDOVER_VARIABLE);
    int type = 0, fd = text ? atoi(text) : -1;
    socklen_t len = sizeof type;
    unsetenv(HANDOVER_VARIABLE);
    if (fd <= STDERR_FILENO || getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) != 0 ||
        type != SOCK_SEQPACKET)
        return -1;
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    /* A descriptor of a library that forgot close-on-exec would keep somebody's socket open. */
    if (fd > STDERR_FILENO + 1) close_range(STDERR_FILENO + 1, (unsigned)fd - 1, 0);
    close_range((unsigned)fd + 1, ~0U, 0);
    return fd;
}

void handover_fail(int fd, const char *why)
{
    struct handover_message m;
    if (fd < 0) return;
    handover_message_init(&m, HANDOVER_FAILED);
    text_copy(m.why, sizeof m.why, why, strlen(why));
    handover_send(fd, &m);
}

/* --- JSON ------------------------------------------------------------------------------------------ */

static bool text_put(struct buffer *out, const char *key, const char *text)
{
    return !text[0] || (buffer_printf(out, ",\"%s\":", key) && text_json_string(out, text, strlen(text)));
}

/* {"handover":1,"is":"ready",...,"fds":["unix","store_lock"]} */
static bool message_write(struct buffer *out, const struct handover_message *m)
{
    ASSERT(m->kind < HANDOVER_KIND_COUNT);
    bool first = true, ok = buffer_printf(out, "{\"handover\":%d,\"is\":\"%s\"", HANDOVER_PROTOCOL,
                                          kind_names[m->kind]) &&
                            text_put(out, "version", m->version) && text_put(out, "why", m->why) &&
                            text_put(out, "unix", m->unix_path) && text_put(out, "http", m->http) &&
                            text_put(out, "store", m->store) && buffer_append_text(out, ",\"fds\":[");
    for (int i = 0; ok && i < HANDOVER_FD_COUNT; i++) {
        if (m->fds[i] < 0) continue;
        ok = buffer_printf(out, "%s\"%s\"", first ? "" : ",", fd_names[i]);
        first = false;
    }
    return ok && buffer_append_text(out, "]}");
}

static bool fds_read(const cJSON *list, struct handover_message *out, int *fds, int fd_count)
{
    const cJSON *name;
    int used = 0;
    if (cJSON_GetArraySize(list) != fd_count) return false;
    cJSON_ArrayForEach(name, list)
    {
        int which = 0;
        while (which < HANDOVER_FD_COUNT &&
               !(cJSON_IsString(name) && strcmp(fd_names[which], name->valuestring) == 0))
            which++;
        if (which == HANDOVER_FD_COUNT || out->fds[which] >= 0) return false;
        out->fds[which] = fds[used++];
    }
    return true;
}

static bool message_read(const char *text, size_t len, struct handover_message *out, int *fds,
                         int fd_count)
{
    cJSON *root = cJSON_ParseWithLength(text, len);
    const cJSON *protocol = cJSON_GetObjectItemCaseSensitive(root, "handover");
    const cJSON *is = cJSON_GetObjectItemCaseSensitive(root, "is");
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(root, "fds");
    int kind = 0;
    bool ok = cJSON_IsNumber(protocol) && protocol->valueint == HANDOVER_PROTOCOL && cJSON_IsString(is);
    while (ok && kind < HANDOVER_KIND_COUNT && strcmp(kind_names[kind], is->valuestring) != 0) kind++;
    ok = ok && kind < HANDOVER_KIND_COUNT && (list ? fds_read(list, out, fds, fd_count) : fd_count == 0);
    if (ok) {
        out->kind = (enum handover_kind)kind;
        text_get(root, "version", out->version, sizeof out->version);
        text_get(root, "why", out->why, sizeof out->why);
        text_get(root, "unix", out->unix_path, sizeof out->unix_path);
        text_get(root, "http", out->http, sizeof out->http);
        text_get(root, "store", out->store, sizeof out->store);
    }
    cJSON_Delete(root);
    return ok;
}

static void text_get(const cJSON *object, const char *key, char *out, size_t out_bytes)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(object, key);
    out[0] = 0;
    if (cJSON_IsString(v)) text_copy(out, out_bytes, v->valuestring, strlen(v->valuestring));
}
