/* File look: paths are walked through their symlinks, for the folders; a file's print is made of what stat() says. */
#include "ops/file_look.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/rng.h"
#include "base/text.h"

#define LINKS_MAX 40
#define ENTRIES_MAX 32768 /* of a folder that are looked at */
#define WRITER_S 60      /* whoever wrote nothing for so long is not waited for */

static void folders_find(struct file_look *l, const char *path);
static uint64_t print_of(struct file_look *l, const char *path);
static uint64_t print_beside(struct file_look *l, const char *path, bool all);

void watched_free(struct watched *items, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) free(items[i].path);
    free(items);
}

void file_look_deinit(struct file_look *l)
{
    watched_free(l->items, l->count);
    for (uint32_t i = 0; i < l->folder_count; i++) free(l->folders[i]);
}

/* In the folder of the one before, and no symlink itself: its folders are known. Thousands of secrets are side by side. */
static bool is_beside(const char *path, const char *before)
{
    struct stat st;
    const char *slash = strrchr(path, '/'), *other = before ? strrchr(before, '/') : NULL;
    if (!slash || !other || slash - path != other - before || strncmp(path, before, (size_t)(slash - path)) != 0) return false;
    return lstat(path, &st) == 0 && S_ISREG(st.st_mode);
}

void file_look(struct file_look *l)
{
    const char *walked = NULL;
    for (uint32_t i = 0; i < l->count; i++) {
        struct watched *item = &l->items[i];
        if (!is_beside(item->path, walked)) folders_find(l, walked = item->path);
        item->latest = print_of(l, item->path);
        if (item->latest && item->beside) item->latest = rng_mix(item->latest ^ print_beside(l, item->path, item->beside == FILE_BESIDE_ALL)) | 1;
    }
}

/* ---- folders --------------------------------------------------------------------------------------------- */

static bool folder_is_in(const struct file_look *l, const char *path)
{
    for (uint32_t i = 0; i < l->folder_count; i++) {
        if (strcmp(l->folders[i], path) == 0) return true;
    }
    return false;
}

static void folder_add(struct file_look *l, const char *path)
{
    if (l->folder_count == FILE_FOLDERS_MAX || folder_is_in(l, path)) return;
    l->folders[l->folder_count] = strdup(path);
    ASSERT(l->folders[l->folder_count] != NULL);
    l->folder_count++;
}

/* Every folder whose change may make the path lead elsewhere: those of symlinks, and the one it ends in; where it
 * ends early, the last one that is there. */
static void folders_find(struct file_look *l, const char *path)
{
    char done[PATH_MAX] = "/", left[PATH_MAX], at[PATH_MAX * 2], target[PATH_MAX], rest[PATH_MAX];
    text_copy(left, sizeof left, path, strlen(path));
    for (int links = 0; links < LINKS_MAX;) {
        const char *from = left + strspn(left, "/");
        size_t len = strcspn(from, "/");
        struct stat st;
        if (len == 0) return;
        snprintf(rest, sizeof rest, "%s", from + len);
        snprintf(at, sizeof at, "%s%s%.*s", done, strcmp(done, "/") == 0 ? "" : "/", (int)len, from);
        if (lstat(at, &st) != 0) {
            folder_add(l, done);
            return;
        }
        if (S_ISLNK(st.st_mode)) {
            ssize_t n = readlink(at, target, sizeof target - 1);
            folder_add(l, done);
            if (n <= 0 || (size_t)n + strlen(rest) + 2 > sizeof left) return;
            target[n] = 0;
            if (target[0] == '/') snprintf(done, sizeof done, "/");
            memcpy(left, target, (size_t)n);
            memcpy(left + n, rest, strlen(rest) + 1);
            links++;
            continue;
        }
        if (!S_ISDIR(st.st_mode) || rest[strspn(rest, "/")] == 0) {
            folder_add(l, done);
            return;
        }
        if (strlen(at) >= sizeof done) return;
        memcpy(done, at, strlen(at) + 1);
        memmove(left, rest, strlen(rest) + 1);
    }
}

/* ---- files ------------------------------------------------------------------------------------------------- */

/* The kernel grants a lease for reading on what nobody has open for writing, and on nothing else. Where it has none to
 * grant, of a file of somebody else, the file is taken as it is. */
static bool is_written(const char *path, const struct stat *st)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (!S_ISREG(st->st_mode) || st->st_mtim.tv_sec + WRITER_S < now.tv_sec || st->st_mtim.tv_sec > now.tv_sec + 1) return false;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) return false;
    bool written = fcntl(fd, F_SETLEASE, F_RDLCK) != 0 && errno == EAGAIN;
    close(fd); /* and with it the lease */
    return written;
}

/* Who may read it counts as what is in it: it may be forbidden first, and allowed later. */
static uint64_t print_of(struct file_look *l, const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0) return 0;
    l->is_written = l->is_written || is_written(path, &st);
    uint64_t print = rng_mix((uint64_t)st.st_dev ^ rng_mix((uint64_t)st.st_ino));
    print = rng_mix(print ^ (uint64_t)st.st_size ^ rng_mix(((uint64_t)st.st_mode << 32) ^ st.st_uid ^ rng_mix(st.st_gid)));
    return rng_mix(print ^ ((uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec)) | 1;
}

/* In any order: a sum. */
static uint64_t print_beside(struct file_look *l, const char *path, bool all)
{
    char folder[PATH_MAX], file[PATH_MAX + 300];
    const char *slash = strrchr(path, '/');
    uint64_t sum = 0;
    uint32_t seen = 0;
    struct dirent *e;
    text_copy(folder, sizeof folder, path, slash ? (size_t)(slash - path) : 0);
    DIR *d = opendir(folder[0] ? folder : "/");
    while (d && seen++ < ENTRIES_MAX && (e = readdir(d))) {
        size_t len = strlen(e->d_name);
        if (e->d_name[0] == '.' || (!all && (len < 5 || strcmp(e->d_name + len - 4, ".lua") != 0))) continue;
        snprintf(file, sizeof file, "%s/%s", folder, e->d_name);
        sum += rng_mix(print_of(l, file) ^ hash_text(e->d_name));
    }
    if (d) closedir(d);
    return sum;
}
