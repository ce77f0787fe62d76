/* Lock: see the header. Knows nothing of what the store is; never waits on a loop thread. */
#include "store/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"

#define POLL_MS 10

static bool path_of(const char *store_path, char *out, size_t out_bytes, char *why,
                    size_t why_bytes);
static bool is_the_file(int fd, const char *path);
static void pid_write(int fd);
static void held_tell(int fd, const char *store_path, char *why, size_t why_bytes);
static uint64_t now_ms(void);

enum store_lock_result store_lock_try(struct store_lock *lock, const char *store_path, char *why,
                                      size_t why_bytes)
{
    char path[PATH_MAX];
    *lock = STORE_LOCK_NONE;
    if (!path_of(store_path, path, sizeof path, why, why_bytes)) return STORE_LOCK_FAILED;
    for (;;) {
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK, 0600);
        struct stat st;
        if (fd < 0 || fstat(fd, &st) != 0) {
            if (errno == ENOENT)
                snprintf(why, why_bytes, "the store %.300s cannot be made: its folder is"
                         " missing; create it, or correct `store.path`", store_path);
            else
                snprintf(why, why_bytes, "cannot open the store's lock %.300s: %s", path,
                         strerror(errno));
            if (fd >= 0) close(fd);
            return STORE_LOCK_FAILED;
        }
        if (!S_ISREG(st.st_mode)) {
            snprintf(why, why_bytes, "the store's lock %.300s is there and is no regular file", path);
            close(fd);
            return STORE_LOCK_FAILED;
        }
        if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
            int error = errno;
            bool held = error == EWOULDBLOCK;
            if (held)
                held_tell(fd, store_path, why, why_bytes);
            else
                snprintf(why, why_bytes, "cannot lock %.300s: %s", path, strerror(error));
            close(fd);
            if (error == EINTR) continue;
            return held ? STORE_LOCK_HELD : STORE_LOCK_FAILED;
        }
        /* Somebody who tidies up may have removed the file between open and lock: then it would
         * keep nobody away who comes later. */
        if (!is_the_file(fd, path)) {
            close(fd);
            continue;
        }
        pid_write(fd);
        lock->fd = fd;
        if (why_bytes) why[0] = 0;
        return STORE_LOCK_TAKEN;
    }
}

enum store_lock_result store_lock_wait(struct store_lock *lock, const char *store_path,
                                       uint64_t wait_ms, char *why, size_t why_bytes)
{
    uint64_t started_ms = now_ms();
    enum store_lock_result result;
    while ((result = store_lock_try(lock, store_path, why, why_bytes)) == STORE_LOCK_HELD) {
        if (now_ms() - started_ms >= wait_ms) break;
        poll(NULL, 0, POLL_MS);
    }
    return result;
}

enum store_lock_result store_lock_adopt(struct store_lock *lock, const char *store_path, int fd,
                                        char *why, size_t why_bytes)
{
    char path[PATH_MAX];
    *lock = STORE_LOCK_NONE;
    ASSERT(fd >= 0);
    if (!path_of(store_path, path, sizeof path, why, why_bytes)) {
        close(fd);
        return STORE_LOCK_FAILED;
    }
    if (!is_the_file(fd, path)) {
        snprintf(why, why_bytes, "what was handed over is not the lock of the store %.300s",
                 store_path);
        close(fd);
        return STORE_LOCK_FAILED;
    }
    /* The same open file: nothing to wait for, and taken now if it was unlocked by mistake. */
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        held_tell(fd, store_path, why, why_bytes);
        close(fd);
        return STORE_LOCK_HELD;
    }
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    pid_write(fd);
    lock->fd = fd;
    if (why_bytes) why[0] = 0;
    return STORE_LOCK_TAKEN;
}

void store_lock_release(struct store_lock *lock)
{
    if (lock->fd < 0) return;
    /* The pid goes first: one that is not ours must never be read while another holds it. */
    int emptied = ftruncate(lock->fd, 0);
    (void)emptied;
    flock(lock->fd, LOCK_UN);
    close(lock->fd);
    lock->fd = -1;
}

void store_lock_leave(struct store_lock *lock)
{
    if (lock->fd >= 0) close(lock->fd);
    lock->fd = -1;
}

static bool path_of(const char *store_path, char *out, size_t out_bytes, char *why, size_t why_bytes)
{
    int n = snprintf(out, out_bytes, "%s.lock", store_path);
    if (n > 0 && (size_t)n < out_bytes) return true;
    snprintf(why, why_bytes, "the store's path is too long");
    return false;
}

static bool is_the_file(int fd, const char *path)
{
    struct stat open_one, there;
    return fstat(fd, &open_one) == 0 && lstat(path, &there) == 0 &&
           open_one.st_dev == there.st_dev && open_one.st_ino == there.st_ino;
}

/* For people alone; the lock itself is the kernel's. A disk that is full costs only the number. */
static void pid_write(int fd)
{
    char text[24];
    int len = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    ssize_t n = ftruncate(fd, 0) == 0 ? pwrite(fd, text, (size_t)len, 0) : 0;
    (void)n;
}

static void held_tell(int fd, const char *store_path, char *why, size_t why_bytes)
{
    char text[24] = "", by[48] = "";
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    size_t digits = n > 0 ? strspn(text, "0123456789") : 0;
    if (digits > 0 && digits < 11) snprintf(by, sizeof by, " (process %.*s)", (int)digits, text);
    snprintf(why, why_bytes, "another holdfast%s has the store %.300s", by, store_path);
}

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}
