/* Notify: one datagram per call, states in front of the watchdog's line. Keeps the manager's
 * address and not a connection, because a manager that is replaced binds the same name again. */
#include "ops/notify.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/buffer.h"
#include "base/text.h"

#define MESSAGE_BYTES_MAX 512
_Static_assert(NOTIFY_STATUS_BYTES_MAX + 20 +
                       sizeof "MAINPID=\nREADY=1\nSTOPPING=1\nSTATUS=\nWATCHDOG=1\n" <=
                   MESSAGE_BYTES_MAX,
               "every line at once fits one message");

static bool address_parse(struct notify *n, const char *name);
static uint64_t watchdog_find(struct notify *n);
static bool number_parse(const char *text, uint64_t *out);
static void tell(struct notify *n, bool watchdog);
static void complain(struct notify *n, const char *what, const char *why);

bool notify_open(struct notify *n, struct log *log)
{
    const char *name = getenv("NOTIFY_SOCKET");
    memset(n, 0, sizeof *n);
    n->log = log;
    n->fd = -1;
    if (!name || !*name) return false;
    if (!address_parse(n, name)) {
        complain(n, name, "NOTIFY_SOCKET must be an absolute path, or @name");
        return false;
    }
    n->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (n->fd < 0) {
        complain(n, name, strerror(errno));
        return false;
    }
    n->watchdog_ms = watchdog_find(n);
    return true;
}

void notify_close(struct notify *n)
{
    if (n->fd >= 0) close(n->fd);
    n->fd = -1;
}

void notify_ready(struct notify *n)
{
    n->owes_ready = true;
    tell(n, false);
}

/* On its own: nothing else may stand between the clock and its being told. */
void notify_reloading(struct notify *n)
{
    struct timespec now;
    char text[96];
    if (n->fd < 0) return;
    clock_gettime(CLOCK_MONOTONIC, &now);
    int len = snprintf(text, sizeof text, "RELOADING=1\nMONOTONIC_USEC=%llu\n",
                       (unsigned long long)now.tv_sec * 1000000 + (unsigned long long)now.tv_nsec / 1000);
    /* Lost when the queue is full: then READY says nothing new, and that is all. */
    sendto(n->fd, text, (size_t)len, MSG_NOSIGNAL, (const struct sockaddr *)&n->to, n->to_len);
}

void notify_main_pid(struct notify *n, long pid)
{
    n->owes_main_pid = pid;
    tell(n, false);
}

void notify_stopping(struct notify *n)
{
    n->owes_stopping = true;
    tell(n, false);
}

void notify_status(struct notify *n, const char *text)
{
    struct buffer line;
    buffer_init(&line, 0);
    /* A little more than can stay: a character cut here is cut off below, and not escaped. */
    if (text_printable(&line, text, strnlen(text, NOTIFY_STATUS_BYTES_MAX + 4))) {
        text_copy(n->status, sizeof n->status, (const char *)line.data, line.len);
        n->owes_status = true;
    }
    buffer_deinit(&line);
    tell(n, false);
}

void notify_watchdog(struct notify *n)
{
    tell(n, n->watchdog_ms != 0);
}

uint64_t notify_next_ms(const struct notify *n)
{
    bool owes = n->owes_ready || n->owes_stopping || n->owes_status || n->owes_main_pid;
    if (n->fd < 0) return 0;
    if (owes && (n->watchdog_ms == 0 || n->watchdog_ms > NOTIFY_RETRY_MS)) return NOTIFY_RETRY_MS;
    return n->watchdog_ms;
}

/* --- the message -------------------------------------------------------------------------- */

static void tell(struct notify *n, bool watchdog)
{
    char text[MESSAGE_BYTES_MAX];
    int len = 0;
    if (n->fd >= 0 &&
        (n->owes_main_pid || n->owes_ready || n->owes_stopping || n->owes_status || watchdog)) {
        char main_pid[32] = "";
        if (n->owes_main_pid) snprintf(main_pid, sizeof main_pid, "MAINPID=%ld\n", n->owes_main_pid);
        len = snprintf(text, sizeof text, "%s%s%s%s%s%s%s", main_pid, n->owes_ready ? "READY=1\n" : "",
                       n->owes_stopping ? "STOPPING=1\n" : "", n->owes_status ? "STATUS=" : "",
                       n->owes_status ? n->status : "", n->owes_status ? "\n" : "",
                       watchdog ? "WATCHDOG=1\n" : "");
        ASSERT(len > 0 && len < (int)sizeof text);
        const struct sockaddr *to = (const struct sockaddr *)&n->to;
        if (sendto(n->fd, text, (size_t)len, MSG_NOSIGNAL, to, n->to_len) < 0) {
            /* A full queue empties again; anything else would only fail once more at each retry. */
            if (errno == EAGAIN || errno == ENOBUFS || errno == EINTR) return;
            complain(n, n->to.sun_path[0] ? n->to.sun_path : n->to.sun_path + 1, strerror(errno));
        }
    }
    n->owes_ready = n->owes_stopping = n->owes_status = false;
    n->owes_main_pid = 0;
}

static void complain(struct notify *n, const char *what, const char *why)
{
    if (n->failed) return;
    n->failed = true;
    log_printf(n->log, LOG_WARNING, NULL,
               "the service manager is not told how holdfast is: %.108s: %s", what, why);
}

/* --- the environment ---------------------------------------------------------------------- */

static bool address_parse(struct notify *n, const char *name)
{
    size_t len = strlen(name);
    if ((name[0] != '/' && name[0] != '@') || len < 2 || len >= sizeof n->to.sun_path) return false;
    n->to.sun_family = AF_UNIX;
    memcpy(n->to.sun_path, name, len);
    n->to_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    if (name[0] == '@')
        n->to.sun_path[0] = 0; /* abstract: the length ends it, not a NUL */
    else
        n->to_len++;
    return true;
}

/* Half of the interval, as systemd's manual asks for, so that one late turn is no death. */
static uint64_t watchdog_find(struct notify *n)
{
    const char *interval = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    uint64_t us, whom;
    if (!interval || !*interval) return 0;
    if (pid && *pid && (!number_parse(pid, &whom) || whom != (uint64_t)getpid())) return 0;
    if (!number_parse(interval, &us) || us == 0) {
        log_printf(n->log, LOG_WARNING, NULL,
                   "WATCHDOG_USEC is %.40s, and must be a number of microseconds", interval);
        return 0;
    }
    return us < 2000 ? 1 : us / 2000;
}

static bool number_parse(const char *text, uint64_t *out)
{
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 18 || text[digits]) return false;
    *out = strtoull(text, NULL, 10);
    return true;
}
