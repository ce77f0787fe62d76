/* Listeners: our own descriptors, because libwebsockets cannot be given one and because a first
 * byte decides what speaks. Owns the socket file and its lock. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/text.h"
#include "ops/ops_internal.h"

/* Also the room for those who wait during an upgrade. */
#define BACKLOG 1024
#define ACCEPTS_PER_TURN 64

static bool unix_adopt(struct ops *ops, const struct sockaddr_un *address, char *why,
                       size_t why_bytes);
static bool tcp_adopt(struct ops *ops, const struct sockaddr_storage *at, char *why,
                      size_t why_bytes);
static bool listens(int fd, int family);
static bool folder_make(const char *path, char *why, size_t why_bytes);
static bool lock_take(struct ops *ops, const char *path, char *why, size_t why_bytes);
static bool stale_remove(const char *path, char *why, size_t why_bytes);
static bool address_parse(const char *text, struct sockaddr_storage *out, socklen_t *len);
static void address_show(struct ops *ops, int fd);
static bool listener_open(struct ops *ops, struct listener *l, int fd, bool tcp);
static void on_incoming(uv_poll_t *handle, int status, int events);

bool listen__unix(struct ops *ops, const char *path, char *why, size_t why_bytes)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct stat st;
    if (strlen(path) >= sizeof address.sun_path) {
        snprintf(why, why_bytes, "the socket's path is longer than %zu bytes: %s",
                 sizeof address.sun_path - 1, path);
        return false;
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    if (ops->adopted.unix_fd >= 0) return unix_adopt(ops, &address, why, why_bytes);
    if (!folder_make(path, why, why_bytes) || !lock_take(ops, path, why, why_bytes) ||
        !stale_remove(path, why, why_bytes))
        return false;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    /* The file gets the descriptor's mode at bind(): never open to others, not for a moment. */
    if (fd < 0 || fchmod(fd, 0600) != 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, BACKLOG) != 0 ||
        lstat(path, &st) != 0) {
        snprintf(why, why_bytes, "cannot listen at %s: %s", path, strerror(errno));
        if (fd >= 0) close(fd);
        return false;
    }
    memcpy(ops->unix_path, path, strlen(path) + 1);
    ops->unix_dev = st.st_dev;
    ops->unix_ino = st.st_ino;
    if (listener_open(ops, &ops->unix_listener, fd, false)) return true;
    snprintf(why, why_bytes, "cannot poll %s", path);
    return false;
}

bool listen__tcp(struct ops *ops, const char *address, char *why, size_t why_bytes)
{
    struct sockaddr_storage at;
    socklen_t len;
    int one = 1;
    if (!address_parse(address, &at, &len)) {
        snprintf(why, why_bytes,
                 "not an address to listen on: %s (expected 127.0.0.1:7600 or [::1]:7600)",
                 address);
        return false;
    }
    if (ops->adopted.http_fd >= 0) return tcp_adopt(ops, &at, why, why_bytes);
    int fd = socket(at.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (fd >= 0 && at.ss_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    if (fd < 0 || bind(fd, (struct sockaddr *)&at, len) != 0 || listen(fd, BACKLOG) != 0) {
        snprintf(why, why_bytes, "cannot listen at %s: %s", address, strerror(errno));
        if (fd >= 0) close(fd);
        return false;
    }
    address_show(ops, fd);
    if (listener_open(ops, &ops->tcp_listener, fd, true)) return true;
    snprintf(why, why_bytes, "cannot poll %s", address);
    return false;
}

void listen__pause(struct ops *ops)
{
    ops->listeners_paused = true;
    server__tick_start(ops);
    if (ops->unix_listener.poller) uv_poll_stop(&ops->unix_listener.poller->handle);
    if (ops->tcp_listener.poller) uv_poll_stop(&ops->tcp_listener.poller->handle);
}

void listen__go_on(struct ops *ops)
{
    ops->listeners_paused = false;
    if (!ops->accepts) return;
    if (ops->unix_listener.poller)
        uv_poll_start(&ops->unix_listener.poller->handle, UV_READABLE, on_incoming);
    if (ops->tcp_listener.poller)
        uv_poll_start(&ops->tcp_listener.poller->handle, UV_READABLE, on_incoming);
}

void listen__close(struct ops *ops)
{
    struct stat st;
    struct listener *all[] = { &ops->unix_listener, &ops->tcp_listener };
    for (size_t i = 0; i < 2; i++) {
        poller__close(all[i]->poller);
        all[i]->poller = NULL;
        if (all[i]->fd >= 0) close(all[i]->fd);
        all[i]->fd = -1;
    }
    /* Only our own: somebody may have put another there. */
    if (ops->unix_path[0] && lstat(ops->unix_path, &st) == 0 && st.st_dev == ops->unix_dev &&
        st.st_ino == ops->unix_ino)
        unlink(ops->unix_path);
    if (ops->lock_fd >= 0) close(ops->lock_fd);
    ops->lock_fd = -1;
}

/* What is handed over keeps its address: ours must be the same. */
static bool unix_adopt(struct ops *ops, const struct sockaddr_un *address, char *why,
                       size_t why_bytes)
{
    struct sockaddr_un at;
    struct stat st;
    socklen_t len = sizeof at;
    int fd = ops->adopted.unix_fd;
    memset(&at, 0, sizeof at);
    if (!listens(fd, AF_UNIX) || getsockname(fd, (struct sockaddr *)&at, &len) != 0 ||
        strncmp(at.sun_path, address->sun_path, sizeof at.sun_path) != 0 ||
        lstat(address->sun_path, &st) != 0 || !S_ISSOCK(st.st_mode)) {
        snprintf(why, why_bytes, "what was handed over does not listen at %s", address->sun_path);
        return false;
    }
    ops->lock_fd = ops->adopted.unix_lock_fd;
    ops->adopted.unix_fd = ops->adopted.unix_lock_fd = -1;
    memcpy(ops->unix_path, address->sun_path, sizeof ops->unix_path);
    ops->unix_dev = st.st_dev;
    ops->unix_ino = st.st_ino;
    if (listener_open(ops, &ops->unix_listener, fd, false)) return true;
    snprintf(why, why_bytes, "cannot poll %s", address->sun_path);
    return false;
}

static bool tcp_adopt(struct ops *ops, const struct sockaddr_storage *at, char *why,
                      size_t why_bytes)
{
    struct sockaddr_storage now;
    socklen_t len = sizeof now;
    int fd = ops->adopted.http_fd;
    memset(&now, 0, sizeof now);
    bool same = listens(fd, at->ss_family) && getsockname(fd, (struct sockaddr *)&now, &len) == 0;
    if (same && at->ss_family == AF_INET) {
        const struct sockaddr_in *x = (const struct sockaddr_in *)at, *y = (struct sockaddr_in *)&now;
        same = x->sin_addr.s_addr == y->sin_addr.s_addr &&
               (x->sin_port == 0 || x->sin_port == y->sin_port);
    } else if (same) {
        const struct sockaddr_in6 *x = (const struct sockaddr_in6 *)at,
                                  *y = (struct sockaddr_in6 *)&now;
        same = memcmp(&x->sin6_addr, &y->sin6_addr, sizeof x->sin6_addr) == 0 &&
               (x->sin6_port == 0 || x->sin6_port == y->sin6_port);
    }
    if (!same) {
        snprintf(why, why_bytes, "what was handed over does not listen at the address of listen.http");
        return false;
    }
    ops->adopted.http_fd = -1;
    address_show(ops, fd);
    if (listener_open(ops, &ops->tcp_listener, fd, true)) return true;
    snprintf(why, why_bytes, "cannot poll the listener of listen.http");
    return false;
}

static bool listens(int fd, int family)
{
    int listening = 0, domain = 0;
    socklen_t len = sizeof listening;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) != 0 || !listening) return false;
    len = sizeof domain;
    return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == family;
}

void listen__drop_adopted(struct ops *ops)
{
    int *all[] = { &ops->adopted.unix_fd, &ops->adopted.unix_lock_fd, &ops->adopted.http_fd };
    for (size_t i = 0; i < 3; i++) {
        if (*all[i] >= 0) close(*all[i]);
        *all[i] = -1;
    }
}

static bool folder_make(const char *path, char *why, size_t why_bytes)
{
    char folder[sizeof((struct sockaddr_un *)0)->sun_path];
    text_copy(folder, sizeof folder, path, strlen(path));
    for (char *at = strchr(folder + 1, '/'); at; at = strchr(at + 1, '/')) {
        *at = 0;
        if (mkdir(folder, 0700) != 0 && errno != EEXIST) {
            snprintf(why, why_bytes, "cannot make the folder %s: %s", folder, strerror(errno));
            return false;
        }
        *at = '/';
    }
    return true;
}

/* Two that start at the same moment must not remove each other's socket. The file stays behind. */
static bool lock_take(struct ops *ops, const char *path, char *why, size_t why_bytes)
{
    char lock[sizeof((struct sockaddr_un *)0)->sun_path + 8];
    snprintf(lock, sizeof lock, "%s.lock", path);
    ops->lock_fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (ops->lock_fd < 0) {
        snprintf(why, why_bytes, "cannot open %s: %s", lock, strerror(errno));
        return false;
    }
    if (flock(ops->lock_fd, LOCK_EX | LOCK_NB) == 0) return true;
    snprintf(why, why_bytes, "another holdfast is running at %s", path);
    return false;
}

static bool stale_remove(const char *path, char *why, size_t why_bytes)
{
    struct stat st;
    if (lstat(path, &st) != 0) {
        if (errno == ENOENT) return true;
        snprintf(why, why_bytes, "cannot look at %s: %s", path, strerror(errno));
        return false;
    }
    if (!S_ISSOCK(st.st_mode)) {
        snprintf(why, why_bytes, "%s is there and is no socket", path);
        return false;
    }
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int result = fd < 0 ? -1 : connect(fd, (struct sockaddr *)&address, sizeof address);
    int error = errno;
    if (fd >= 0) close(fd);
    /* EAGAIN: somebody listens, and its queue is full. */
    if (result == 0 || error == EAGAIN) {
        snprintf(why, why_bytes, "another holdfast is running at %s", path);
        return false;
    }
    if (error == ECONNREFUSED && unlink(path) == 0) return true;
    snprintf(why, why_bytes, "cannot tell whether somebody listens at %s: %s", path,
             strerror(error));
    return false;
}

static bool address_parse(const char *text, struct sockaddr_storage *out, socklen_t *len)
{
    char host[64];
    const char *colon = strrchr(text, ':');
    if (!colon || colon == text || !colon[1]) return false;
    size_t digits = strspn(colon + 1, "0123456789");
    if (colon[1 + digits] || digits > 5) return false;
    int port = atoi(colon + 1);
    size_t host_len = (size_t)(colon - text);
    bool v6 = text[0] == '[';
    if (port > 65535 || host_len >= sizeof host) return false;
    if (v6 && (host_len < 3 || text[host_len - 1] != ']')) return false;
    memcpy(host, text + (v6 ? 1 : 0), host_len - (v6 ? 2 : 0));
    host[host_len - (v6 ? 2 : 0)] = 0;
    memset(out, 0, sizeof *out);
    *len = v6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    if (v6) return uv_ip6_addr(host, port, (struct sockaddr_in6 *)out) == 0;
    if (strcmp(host, "localhost") == 0) memcpy(host, "127.0.0.1", 10);
    return uv_ip4_addr(host, port, (struct sockaddr_in *)out) == 0;
}

static void address_show(struct ops *ops, int fd)
{
    struct sockaddr_storage at;
    socklen_t len = sizeof at;
    if (getsockname(fd, (struct sockaddr *)&at, &len) != 0) return;
    if (at.ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&at;
        uv_ip6_name(v6, ops->http_host, sizeof ops->http_host);
        ops->http_any = IN6_IS_ADDR_UNSPECIFIED(&v6->sin6_addr);
        snprintf(ops->http_address, sizeof ops->http_address, "[%.45s]:%d", ops->http_host,
                 ntohs(v6->sin6_port));
    } else {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)&at;
        uv_ip4_name(v4, ops->http_host, sizeof ops->http_host);
        ops->http_any = v4->sin_addr.s_addr == htonl(INADDR_ANY);
        snprintf(ops->http_address, sizeof ops->http_address, "%.45s:%d", ops->http_host,
                 ntohs(v4->sin_port));
    }
}

static bool listener_open(struct ops *ops, struct listener *l, int fd, bool tcp)
{
    l->fd = fd;
    l->tcp = tcp;
    l->poller = poller__open(ops, fd, ops, UV_READABLE, on_incoming);
    return l->poller != NULL;
}

static void on_incoming(uv_poll_t *handle, int status, int events)
{
    struct poller *p = handle->data;
    struct ops *ops = p->owner;
    (void)status;
    (void)events;
    if (!ops || !ops->accepts) return;
    bool tcp = ops->tcp_listener.poller == p;
    int listening = tcp ? ops->tcp_listener.fd : ops->unix_listener.fd;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        int fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EINTR || errno == ECONNABORTED) continue;
            if (errno != EAGAIN) {
                ops__log(ops, LOG_WARNING, "cannot accept a client: %s", strerror(errno));
                listen__pause(ops); /* the poll would spin */
            }
            return;
        }
        if (ops->client_count >= ops->options.clients_max) {
            close(fd);
            continue;
        }
        int one = 1, quiet_s = 60;
        if (tcp) {
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
            setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &quiet_s, sizeof quiet_s);
        }
        struct client *c = client__create(ops, fd, tcp);
        if (!c) close(fd);
        else if (tcp) http__adopt(c);
        else ndjson__peek(c);
    }
}
