/* A disk that is ill on demand, between libc and a process that knows nothing of it: preloaded by specs of the
 * real daemon (LD_PRELOAD). Only files of the store (their name holds `.db`) are concerned; what is wrong with
 * them stands in the file that HOLDFAST_DISK names, which is read anew for each call, so that a spec changes
 * the weather while the process runs:
 *   full       what writes says ENOSPC
 *   readonly   what writes or opens for writing says EROFS
 *   sync-fails fsync and fdatasync say EIO
 *   sync N     fsync and fdatasync take N milliseconds
 * An empty or missing file: the disk is well. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

/* As plain symbols: with large files some callers ask for one name and some for the other. */
ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t at);
int ftruncate64(int fd, off64_t len);
int open64(const char *path, int flags, ...);
int posix_fallocate64(int fd, off64_t at, off64_t len);

#define NEXT(name) ((__typeof__(name) *)dlsym(RTLD_NEXT, #name))

static bool of_store(const char *path)
{
    const char *dot = strstr(path, ".db");
    return dot && strcmp(dot, ".db.lock") != 0;
}

/* errno is what the caller had: it tells nothing of our own calls. */
static void weather(char out[32])
{
    int before = errno;
    const char *path = getenv("HOLDFAST_DISK");
    int fd = path ? NEXT(open)(path, O_RDONLY | O_CLOEXEC) : -1;
    ssize_t n = fd >= 0 ? read(fd, out, 31) : 0;
    out[n > 0 ? n : 0] = 0;
    if (fd >= 0) close(fd);
    errno = before;
}

static bool is_of_store(int fd)
{
    char link[64], path[512];
    int before = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    path[n > 0 ? n : 0] = 0;
    errno = before;
    return of_store(path);
}

static bool refused(int fd)
{
    char now[32];
    weather(now);
    if (!now[0] || !is_of_store(fd)) return false;
    if (strcmp(now, "full") == 0) errno = ENOSPC;
    else if (strcmp(now, "readonly") == 0) errno = EROFS;
    else return false;
    return true;
}

/* False with errno: the sync failed. */
static bool sync_goes(int fd)
{
    char now[32];
    long ms;
    weather(now);
    if (!now[0] || !is_of_store(fd)) return true;
    if (strcmp(now, "sync-fails") == 0) {
        errno = EIO;
        return false;
    }
    /* Ends early when the disk becomes well. */
    for (long slept = 0; sscanf(now, "sync %ld", &ms) == 1 && slept < ms; slept += 20) {
        struct timespec left = { 0, 20 * 1000000 };
        nanosleep(&left, NULL);
        weather(now);
    }
    return true;
}

static int opened(int (*next)(const char *, int, ...), const char *path, int flags, mode_t mode)
{
    char now[32];
    weather(now);
    bool writes = (flags & O_ACCMODE) != O_RDONLY;
    if (writes && strcmp(now, "readonly") == 0 && of_store(path)) {
        errno = EROFS;
        return -1;
    }
    return next(path, flags, mode);
}

int open(const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;
    va_end(more);
    return opened(NEXT(open), path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;
    va_end(more);
    return opened(NEXT(open64), path, flags, mode);
}

ssize_t write(int fd, const void *bytes, size_t len)
{
    return refused(fd) ? -1 : NEXT(write)(fd, bytes, len);
}

ssize_t pwrite(int fd, const void *bytes, size_t len, off_t at)
{
    return refused(fd) ? -1 : NEXT(pwrite)(fd, bytes, len, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t at)
{
    return refused(fd) ? -1 : NEXT(pwrite64)(fd, bytes, len, at);
}

int ftruncate(int fd, off_t len)
{
    return refused(fd) ? -1 : NEXT(ftruncate)(fd, len);
}

int ftruncate64(int fd, off64_t len)
{
    return refused(fd) ? -1 : NEXT(ftruncate64)(fd, len);
}

int posix_fallocate(int fd, off_t at, off_t len)
{
    return refused(fd) ? errno : NEXT(posix_fallocate)(fd, at, len);
}

int posix_fallocate64(int fd, off64_t at, off64_t len)
{
    return refused(fd) ? errno : NEXT(posix_fallocate64)(fd, at, len);
}

int fsync(int fd)
{
    return sync_goes(fd) ? NEXT(fsync)(fd) : -1;
}

int fdatasync(int fd)
{
    return sync_goes(fd) ? NEXT(fdatasync)(fd) : -1;
}
