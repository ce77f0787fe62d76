/* Upgrade: the running daemon's side of being replaced. Starts the new process, gives way only once that
 * one is ready, and goes on by itself whenever the new one fails before its last word, which it never
 * says twice: a new process that did not take over is dead before a link is opened again.
 *
 *   checking   the new one reads its configuration         links are up, nothing changed
 *   draining   links are closed, what is pending is stored
 *   handing    the new one takes listeners, locks, store   nobody dials
 *   done       the new one dials; this one only says goodbye
 *   failing    the new one is being killed */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/text.h"
#include "ops/daemon_internal.h"

#define WITHIN_DEFAULT_MS 30000
#define HUNG_UP_MS 1000 /* from its hanging up to its end, for a better sentence */
#define CHILD_FD 3
#define CMDLINE_BYTES_MAX (128u << 10)

extern char **environ;

enum upgrade_phase { UPGRADE_CHECKING, UPGRADE_DRAINING, UPGRADE_HANDING, UPGRADE_DONE, UPGRADE_FAILING };

struct upgrade {
    struct daemon *d; /* NULL: only its handles wait to be closed */
    enum upgrade_phase phase;
    uv_process_t process;
    uv_poll_t poll;
    uv_timer_t limit;
    uint32_t handles; /* open ones */
    int fd;           /* our end of the socketpair */
    bool alive, hung_up, store_closed;
    uint64_t within_ms;
    char version[64], why[HANDOVER_TEXT_BYTES + 128];
};

static bool is_possible(struct daemon *d, const struct ops_upgrade *wish, struct ops_problems *out);
static bool binary_is_fit(const char *path, char *why, size_t why_bytes);
static struct upgrade *upgrade_start(struct daemon *d, const char *binary, char *why, size_t why_bytes);
static int child_spawn(struct upgrade *u, const char *binary, int fd);
static char **child_arguments(const char *binary, char **text_out);
static char **child_environment(char variable[64]);
static void upgrade_free(struct upgrade *u);
static void on_message(uv_poll_t *handle, int status, int events);
static bool message_take(struct upgrade *u);
static void on_ready(struct upgrade *u, const struct handover_message *m);
static void on_taken(struct upgrade *u);
static void on_exit_of(uv_process_t *handle, int64_t status, int signal_number);
static void on_limit(uv_timer_t *handle);
static void fail(struct upgrade *u, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void failed(struct upgrade *u);
static void on_handle_closed(uv_handle_t *handle);

/* Where the program is: as it was called, when that is it, because a link there may point to the next
 * version by then; otherwise what the kernel says. */
void daemon__upgrade_init(struct daemon *d)
{
    char exe[PATH_MAX], real[PATH_MAX], cwd[PATH_MAX];
    handover_message_init(&d->started_with, HANDOVER_READY);
    daemon__takeover_describe(&d->roster.config, &d->started_with);
    const char *program = d->options.program;
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    exe[n > 0 ? n : 0] = 0;
    text_copy(d->binary, sizeof d->binary, exe, strlen(exe));
    if (!program || !strchr(program, '/') || !realpath(program, real) || strcmp(real, exe) != 0) return;
    if (program[0] == '/') text_copy(d->binary, sizeof d->binary, program, strlen(program));
    else if (getcwd(cwd, sizeof cwd) && strlen(cwd) + strlen(program) + 2 < sizeof d->binary) {
        size_t len = text_copy(d->binary, sizeof d->binary, cwd, strlen(cwd));
        d->binary[len++] = '/';
        text_copy(d->binary + len, sizeof d->binary - len, program, strlen(program));
    }
}

int daemon__upgrade(void *self, const struct ops_upgrade *wish, struct ops_problems *out)
{
    struct daemon *d = self;
    char why[HANDOVER_TEXT_BYTES];
    const char *binary = wish->binary ? wish->binary : d->binary;
    if (!is_possible(d, wish, out)) return 409;
    struct upgrade *u = NULL;
    if (binary_is_fit(binary, why, sizeof why)) u = upgrade_start(d, binary, why, sizeof why);
    if (!u) {
        log_printf(d->options.log, LOG_WARNING, NULL, "upgrade refused: %s", why);
        ops_problem_add(out, "", OPS_UPGRADE_GOES_ON, "%s", why);
        return 409;
    }
    u->within_ms = wish->within_ms ? wish->within_ms : WITHIN_DEFAULT_MS;
    uv_timer_start(&u->limit, on_limit, u->within_ms, 0);
    d->upgrade = u;
    log_printf(d->options.log, LOG_INFO, NULL, "upgrade: process %d checks the configuration with %s", u->process.pid,
               binary);
    return 202;
}

static bool is_possible(struct daemon *d, const struct ops_upgrade *wish, struct ops_problems *out)
{
    const char *by_systemd = getenv("SYSTEMD_EXEC_PID");
    char why[256];
    if (d->upgrade || d->handed_over) {
        ops_problem_add(out, "", "wait for its end", "an upgrade is under way already");
    } else if (d->stopping) {
        ops_problem_add(out, "", "another holdfast", "this one is shutting down");
    } else if (getpid() == 1) {
        ops_problem_add(out, "", "a new container",
                        "holdfast is process 1 here, and the container ends with it");
    } else if (by_systemd && atol(by_systemd) == (long)getpid() && !getenv("NOTIFY_SOCKET")) {
        ops_problem_add(out, "", "Type=notify in the unit",
                        "systemd would take this process's end for the service's");
    } else if (!wish->cold && !daemon__store_is_durable(d)) {
        ops_problem_add(out, "", "--cold, to upgrade all the same",
                        "sessions and frames that nobody acknowledged are kept in memory and would be lost");
    } else if (daemon__trial_forbids(d, why, sizeof why)) {
        ops_problem_add(out, "", "wait for its end, or `holdfast reload --adopt` or `--take-back`, and the old text in the file", "%s", why);
    } else {
        return true;
    }
    return false;
}

static bool binary_is_fit(const char *path, char *why, size_t why_bytes)
{
    struct stat st;
    if (stat(path, &st) != 0) {
        snprintf(why, why_bytes, "cannot run %.400s: %s", path, strerror(errno));
    } else if (!S_ISREG(st.st_mode)) {
        snprintf(why, why_bytes, "cannot run %.400s: it is no file", path);
    } else if (st.st_mode & S_IWOTH) {
        snprintf(why, why_bytes, "%.400s can be written by anybody: it is not run", path);
    } else if (access(path, X_OK) != 0) {
        snprintf(why, why_bytes, "cannot run %.400s: %s", path, strerror(errno));
    } else {
        return true;
    }
    return false;
}

/* --- the new process ----------------------------------------------------------------------------------------- */

static struct upgrade *upgrade_start(struct daemon *d, const char *binary, char *why, size_t why_bytes)
{
    int ends[2];
    struct upgrade *u = calloc(1, sizeof *u);
    ASSERT(u != NULL);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) {
        snprintf(why, why_bytes, "no socketpair: %s", strerror(errno));
        free(u);
        return NULL;
    }
    u->d = d;
    u->fd = ends[0];
    uv_timer_init(&d->loop, &u->limit);
    u->process.data = u->poll.data = u->limit.data = u;
    u->handles = 1;
    int result = child_spawn(u, binary, ends[1]);
    close(ends[1]);
    u->handles++; /* libuv initialised it, also where it failed */
    u->alive = result == 0;
    if (result != 0) {
        snprintf(why, why_bytes, "cannot run %.400s: %s", binary, uv_strerror(result));
        upgrade_free(u);
        return NULL;
    }
    result = uv_poll_init(&d->loop, &u->poll, u->fd);
    ASSERT(result == 0);
    u->handles++;
    uv_poll_start(&u->poll, UV_READABLE | UV_DISCONNECT, on_message);
    return u;
}

static int child_spawn(struct upgrade *u, const char *binary, int fd)
{
    char variable[64], *text = NULL;
    char **args = child_arguments(binary, &text), **env = child_environment(variable);
    uv_stdio_container_t stdio[CHILD_FD + 1];
    for (int i = 0; i < CHILD_FD; i++) {
        stdio[i].flags = UV_INHERIT_FD;
        stdio[i].data.fd = i;
    }
    stdio[CHILD_FD].flags = UV_INHERIT_FD;
    stdio[CHILD_FD].data.fd = fd;
    uv_process_options_t options = { .exit_cb = on_exit_of,
                                     .file = binary,
                                     .args = args,
                                     .env = env,
                                     .stdio_count = CHILD_FD + 1,
                                     .stdio = stdio };
    int result = uv_spawn(&u->d->loop, &u->process, &options);
    free(args);
    free(env);
    free(text);
    return result;
}

/* This process's own, with another program. Owned: the list and *text_out. */
static char **child_arguments(const char *binary, char **text_out)
{
    char *text = malloc(CMDLINE_BYTES_MAX + 1), **args;
    size_t len = 0, count = 0, at = 0;
    ssize_t n = 0;
    ASSERT(text != NULL);
    int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    while (fd >= 0 && len < CMDLINE_BYTES_MAX && (n = read(fd, text + len, CMDLINE_BYTES_MAX - len)) > 0)
        len += (size_t)n;
    if (fd >= 0) close(fd);
    text[len] = 0;
    args = calloc(len + 2, sizeof *args);
    ASSERT(args != NULL);
    for (; at < len; at += strlen(text + at) + 1) args[count++] = text + at;
    if (count == 0) count = 1;
    args[0] = (char *)binary;
    args[count] = NULL;
    *text_out = text;
    return args;
}

/* Whether HOLDFAST_LUA is from whoever started us: `holdfast` sets it for itself otherwise. */
static bool lua_was_given(void)
{
    static const char name[] = "HOLDFAST_LUA=";
    FILE *f = fopen("/proc/self/environ", "re");
    char *line = NULL;
    size_t room = 0;
    bool found = false;
    while (f && !found && getdelim(&line, &room, 0, f) > 0) found = strncmp(line, name, strlen(name)) == 0;
    free(line);
    if (f) fclose(f);
    return found;
}

/* This process's own, less what was meant for it alone. Owned: the list. */
static char **child_environment(char variable[64])
{
    static const char *const own[] = { HANDOVER_VARIABLE "=", "WATCHDOG_PID=" };
    size_t count = 0, kept = 0;
    bool found = !lua_was_given(); /* beside the old program: the new one looks for itself */
    while (environ[count]) count++;
    char **env = calloc(count + 2, sizeof *env);
    ASSERT(env != NULL);
    for (size_t i = 0; i < count; i++) {
        bool skip = found && strncmp(environ[i], "HOLDFAST_LUA=", 13) == 0;
        for (size_t k = 0; k < sizeof own / sizeof *own; k++)
            skip = skip || strncmp(environ[i], own[k], strlen(own[k])) == 0;
        if (!skip) env[kept++] = environ[i];
    }
    snprintf(variable, 64, HANDOVER_VARIABLE "=%d", CHILD_FD);
    env[kept] = variable;
    return env;
}

static void upgrade_free(struct upgrade *u)
{
    uv_handle_t *all[] = { (uv_handle_t *)&u->limit, (uv_handle_t *)&u->process, (uv_handle_t *)&u->poll };
    u->d = NULL;
    for (uint32_t i = 0, count = u->handles; i < count; i++) uv_close(all[i], on_handle_closed);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct upgrade *u = handle->data;
    if (--u->handles > 0) return;
    close(u->fd);
    free(u);
}

/* --- what it says, and how it ends --------------------------------------------------------------------------- */

static void on_message(uv_poll_t *handle, int status, int events)
{
    struct upgrade *u = handle->data;
    (void)status, (void)events;
    while (message_take(u)) continue;
}

/* True when there may be more. */
static bool message_take(struct upgrade *u)
{
    struct handover_message m;
    if (u->phase >= UPGRADE_DONE || u->hung_up) {
        uv_poll_stop(&u->poll);
        return false;
    }
    switch (handover_receive(u->fd, 0, &m)) {
    case HANDOVER_NOTHING: return false;
    case HANDOVER_BAD: fail(u, "what the new program said is not understood: is it a holdfast?"); return false;
    case HANDOVER_ENDED:
        u->hung_up = true; /* its exit status says more, and comes next */
        uv_poll_stop(&u->poll);
        uv_timer_start(&u->limit, on_limit, HUNG_UP_MS, 0);
        return false;
    case HANDOVER_GOT: break;
    }
    handover_message_close(&m);
    if (m.kind == HANDOVER_FAILED) fail(u, "the new holdfast cannot run: %.1000s", m.why);
    else if (m.kind == HANDOVER_READY && u->phase == UPGRADE_CHECKING) on_ready(u, &m);
    else if (m.kind == HANDOVER_TAKEN && u->phase == UPGRADE_HANDING) on_taken(u);
    else fail(u, "the new holdfast said something out of turn");
    return true;
}

static void on_ready(struct upgrade *u, const struct handover_message *m)
{
    struct daemon *d = u->d;
    const char *other = strcmp(m->unix_path, d->started_with.unix_path) != 0 ? "listen.unix"
                        : strcmp(m->http, d->started_with.http) != 0         ? "listen.http"
                        : strcmp(m->store, d->started_with.store) != 0       ? "store"
                                                                             : NULL;
    if (other) {
        fail(u, "%s changed in the configuration: that needs a restart", other);
        return;
    }
    char status[128];
    text_copy(u->version, sizeof u->version, m->version, strlen(m->version));
    log_printf(d->options.log, LOG_INFO, NULL,
               "upgrade: holdfast %s (process %d) is ready: closing %u connection%s so that sessions can be resumed",
               u->version, u->process.pid, runtime_count(d->rt), runtime_count(d->rt) == 1 ? "" : "s");
    snprintf(status, sizeof status, "handing over to holdfast %s, process %d", u->version, u->process.pid);
    notify_status(&d->notify, status);
    u->phase = UPGRADE_DRAINING;
    uv_timer_stop(&u->limit); /* the links' own limit holds now */
    daemon__links_close(d, OPS_BEING_UPGRADED, false);
}

void daemon__upgrade_drained(struct daemon *d)
{
    struct upgrade *u = d->upgrade;
    struct handover_message take;
    if (u->phase != UPGRADE_DRAINING) return;
    u->phase = UPGRADE_HANDING;
    daemon__store_close(d);
    u->store_closed = true;
    struct ops_listeners listeners = ops_listeners(d->ops);
    handover_message_init(&take, HANDOVER_TAKE);
    take.fds[HANDOVER_FD_UNIX] = listeners.unix_fd;
    take.fds[HANDOVER_FD_UNIX_LOCK] = listeners.unix_lock_fd;
    take.fds[HANDOVER_FD_HTTP] = listeners.http_fd;
    take.fds[HANDOVER_FD_STORE_LOCK] = d->store_lock.fd;
    uv_timer_stop(&d->grace);
    uv_timer_start(&u->limit, on_limit, u->within_ms, 0);
    if (!handover_send(u->fd, &take)) fail(u, "the new holdfast cannot be told to take over: %s", strerror(errno));
}

static void on_taken(struct upgrade *u)
{
    struct daemon *d = u->d;
    struct handover_message go;
    handover_message_init(&go, HANDOVER_GO);
    /* The manager first: then the new one's own words are the service's. */
    notify_main_pid(&d->notify, u->process.pid);
    if (!handover_send(u->fd, &go)) {
        notify_main_pid(&d->notify, (long)getpid());
        fail(u, "the new holdfast died before it took over");
        return;
    }
    u->phase = UPGRADE_DONE;
    uv_timer_stop(&u->limit);
    d->handed_over = true;
    ops_leave_listeners(d->ops);
    log_printf(d->options.log, LOG_INFO, NULL, "upgrade: process %d took over", u->process.pid);
    ops_upgrade_answer(d->ops, NULL, u->process.pid, u->version);
    daemon__end_when_quiet(d);
}

static void on_exit_of(uv_process_t *handle, int64_t status, int signal_number)
{
    struct upgrade *u = handle->data;
    u->alive = false;
    if (!u->d) return;
    u->hung_up = false;
    while (u->phase < UPGRADE_DONE && message_take(u)) continue; /* its last words come first */
    if (u->phase == UPGRADE_DONE) {
        log_printf(u->d->options.log, LOG_ALARM, NULL, "the new holdfast (process %d) ended right after it took over",
                   handle->pid);
    } else if (u->phase == UPGRADE_FAILING) {
        failed(u);
    } else if (signal_number) {
        fail(u, "the new holdfast was ended by signal %d before it took over", signal_number);
    } else {
        fail(u, "the new holdfast ended with exit status %lld before it took over", (long long)status);
    }
}

static void on_limit(uv_timer_t *handle)
{
    struct upgrade *u = handle->data;
    if (u->hung_up) fail(u, "the new holdfast hung up before it took over");
    else fail(u, "the new holdfast did not %s within %llu ms",
              u->phase == UPGRADE_CHECKING ? "get ready" : "take over", (unsigned long long)u->within_ms);
}

void daemon__upgrade_cancel(struct daemon *d, const char *why)
{
    if (d->upgrade && d->upgrade->phase < UPGRADE_DONE) fail(d->upgrade, "%s", why);
}

/* --- back --------------------------------------------------------------------------------------------------- */

static void fail(struct upgrade *u, const char *format, ...)
{
    va_list args;
    ASSERT(u->phase != UPGRADE_DONE);
    if (u->phase == UPGRADE_FAILING) return;
    va_start(args, format);
    vsnprintf(u->why, sizeof u->why, format, args);
    va_end(args);
    bool already = !u->alive;
    u->phase = UPGRADE_FAILING;
    uv_timer_stop(&u->limit);
    uv_poll_stop(&u->poll);
    log_printf(u->d->options.log, LOG_WARNING, NULL, "upgrade failed: %s", u->why);
    /* Dead before anything is opened again: on_exit_of() goes on. */
    if (already) failed(u);
    else uv_process_kill(&u->process, SIGKILL);
}

static void failed(struct upgrade *u)
{
    struct daemon *d = u->d;
    char why[512], both[sizeof u->why + sizeof why + 64];
    d->upgrade = NULL;
    d->broken = u->store_closed && !d->end_wanted && !daemon__store_reopen(d, why, sizeof why);
    snprintf(both, sizeof both, "%s%s%s", u->why, d->broken ? "; and the old one cannot go on: " : "",
             d->broken ? why : "");
    ops_upgrade_answer(d->ops, both, 0, "");
    upgrade_free(u);
    if (d->broken) {
        log_printf(d->options.log, LOG_ALARM, NULL, "ending: cannot go on after the upgrade failed: %s", why);
        daemon__end_when_quiet(d); /* whoever restarts it starts with what is on disk */
    }
    if (!d->stopping || d->end_wanted || d->broken) return;
    log_line(d->options.log, LOG_INFO, NULL, "this one goes on: opening its links again");
    daemon__links_open(d);
}

void daemon__upgrade_deinit(struct daemon *d)
{
    struct upgrade *u = d->upgrade;
    if (!u) return;
    d->upgrade = NULL;
    if (u->alive && u->phase != UPGRADE_DONE) uv_process_kill(&u->process, SIGKILL);
    upgrade_free(u);
}
