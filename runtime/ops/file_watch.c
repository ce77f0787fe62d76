/* File watch: one look at a time, in libuv's pool; one timer that waits until nothing moves; one handle of inotify for
 * each folder on the way to a file, those of symlinks included. */
#include "ops/file_watch.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/rng.h"
#include "base/text.h"

#define FOLDERS_MAX 128
#define LINKS_MAX 40
#define ENTRIES_MAX 4096 /* of a folder that are looked at */

struct watched {
    char *path; /* owned */
    bool beside, known;
    uint64_t print;  /* what it was like when it was last told, or first seen; 0: not there */
    uint64_t latest; /* what it was like at the last look */
};

struct folder {
    uv_fs_event_t handle;
    char *path; /* owned */
    struct file_watch *watch;
};

/* A look: its own copies, because the list may change meanwhile. */
struct look {
    uv_work_t work;
    struct file_watch *watch; /* NULL: it went away */
    uint64_t list;       /* which list this is about */
    struct watched items[FILE_WATCH_PATHS_MAX];
    uint32_t count;
    char *folders[FOLDERS_MAX]; /* owned */
    uint32_t folder_count;
};

struct file_watch {
    uv_loop_t *loop;
    uv_timer_t still;
    void (*changed)(void *self);
    void *self;
    struct watched items[FILE_WATCH_PATHS_MAX];
    uint32_t count;
    uint64_t list;
    struct folder *folders[FOLDERS_MAX]; /* owned until closed */
    uint32_t folder_count;
    struct look *looking; /* NULL: none is under way */
    bool stirred;         /* something moved during that look */
    bool moving;          /* the last look found another state than the one before: not told yet */
};

static void look_begin(struct file_watch *w);
static void look(uv_work_t *work);
static void on_looked(uv_work_t *work, int status);
static void on_still(uv_timer_t *handle);
static void on_event(uv_fs_event_t *handle, const char *name, int events, int status);

struct file_watch *file_watch_create(uv_loop_t *loop, void (*changed)(void *self), void *self)
{
    struct file_watch *w = calloc(1, sizeof *w);
    ASSERT(w != NULL);
    w->loop = loop;
    w->changed = changed;
    w->self = self;
    uv_timer_init(loop, &w->still);
    w->still.data = w;
    return w;
}

bool file_watch_set(struct file_watch *w, const struct file_watch_path *paths, uint32_t count)
{
    struct watched before[FILE_WATCH_PATHS_MAX];
    uint32_t before_count = w->count;
    memcpy(before, w->items, sizeof before);
    w->count = 0;
    w->list++;
    for (uint32_t i = 0; i < count && w->count < FILE_WATCH_PATHS_MAX; i++) {
        struct watched *item = &w->items[w->count++];
        *item = (struct watched){ .path = strdup(paths[i].path), .beside = paths[i].beside };
        ASSERT(item->path != NULL);
        for (uint32_t k = 0; k < before_count; k++) {
            if (strcmp(before[k].path, item->path) != 0 || before[k].beside != item->beside) continue;
            item->known = before[k].known;
            item->print = before[k].print;
            item->latest = before[k].latest;
        }
    }
    for (uint32_t k = 0; k < before_count; k++) free(before[k].path);
    look_begin(w);
    return count <= FILE_WATCH_PATHS_MAX;
}

static void on_folder_closed(uv_handle_t *handle)
{
    struct folder *f = handle->data;
    free(f->path);
    free(f);
}

static void folder_close(struct folder *f)
{
    f->watch = NULL;
    uv_close((uv_handle_t *)&f->handle, on_folder_closed);
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct file_watch *w = handle->data;
    for (uint32_t i = 0; i < w->count; i++) free(w->items[i].path);
    free(w);
}

void file_watch_destroy(struct file_watch *w)
{
    if (!w) return;
    if (w->looking) w->looking->watch = NULL;
    for (uint32_t i = 0; i < w->folder_count; i++) folder_close(w->folders[i]);
    w->folder_count = 0;
    uv_close((uv_handle_t *)&w->still, on_timer_closed);
}

/* ---- on the loop --------------------------------------------------------------------------------------- */

static void on_event(uv_fs_event_t *handle, const char *name, int events, int status)
{
    struct folder *f = handle->data;
    (void)name, (void)events, (void)status;
    if (!f->watch) return;
    if (f->watch->looking) f->watch->stirred = true;
    else uv_timer_start(&f->watch->still, on_still, FILE_WATCH_STILL_MS, 0);
}

static void on_still(uv_timer_t *handle)
{
    look_begin(handle->data);
}

static void look_begin(struct file_watch *w)
{
    if (w->looking) {
        w->stirred = true;
        return;
    }
    struct look *l = calloc(1, sizeof *l);
    ASSERT(l != NULL);
    l->watch = w;
    l->work.data = l;
    l->list = w->list;
    l->count = w->count;
    for (uint32_t i = 0; i < w->count; i++) {
        l->items[i] = w->items[i];
        l->items[i].path = strdup(w->items[i].path);
        ASSERT(l->items[i].path != NULL);
    }
    w->stirred = false;
    w->looking = l;
    int failed = uv_queue_work(w->loop, &l->work, look, on_looked);
    ASSERT(failed == 0);
}

static bool folder_is_in(char *const *list, uint32_t count, const char *path)
{
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(list[i], path) == 0) return true;
    }
    return false;
}

/* Always anew: a handle whose folder was replaced by another of the same name hears nothing any more. */
static void folders_set(struct file_watch *w, const struct look *l)
{
    for (uint32_t i = 0; i < w->folder_count; i++) folder_close(w->folders[i]);
    w->folder_count = 0;
    for (uint32_t i = 0; i < l->folder_count; i++) {
        struct folder *f = calloc(1, sizeof *f);
        ASSERT(f != NULL);
        f->path = strdup(l->folders[i]);
        f->watch = w;
        ASSERT(f->path != NULL);
        uv_fs_event_init(w->loop, &f->handle);
        f->handle.data = f;
        if (uv_fs_event_start(&f->handle, on_event, f->path, 0) != 0) {
            folder_close(f); /* too many watches: SIGHUP and the API are still there */
            continue;
        }
        w->folders[w->folder_count++] = f;
    }
}

static void look_free(struct look *l)
{
    for (uint32_t i = 0; i < l->count; i++) free(l->items[i].path);
    for (uint32_t i = 0; i < l->folder_count; i++) free(l->folders[i]);
    free(l);
}

static void on_looked(uv_work_t *work, int status)
{
    struct look *l = work->data;
    struct file_watch *w = l->watch;
    bool moved = false, differs = false;
    if (!w || status != 0) {
        if (w) w->looking = NULL;
        look_free(l);
        return;
    }
    w->looking = NULL;
    if (l->list != w->list) { /* about an older list */
        look_free(l);
        look_begin(w);
        return;
    }
    for (uint32_t i = 0; i < w->count; i++) {
        struct watched *item = &w->items[i];
        uint64_t now = l->items[i].latest;
        if (!item->known) {
            item->known = true;
            item->print = item->latest = now;
        }
        moved = moved || now != item->latest;
        item->latest = now;
        differs = differs || now != item->print;
    }
    folders_set(w, l);
    look_free(l);
    /* Handles that were just opened may have missed something: what moved is looked at once more. */
    if (moved || w->stirred || (differs && !w->moving)) {
        w->moving = differs;
        w->stirred = false;
        uv_timer_start(&w->still, on_still, FILE_WATCH_STILL_MS, 0);
        return;
    }
    w->moving = false;
    if (!differs) return;
    for (uint32_t i = 0; i < w->count; i++) w->items[i].print = w->items[i].latest;
    w->changed(w->self);
}

/* ---- in the pool ----------------------------------------------------------------------------------------- */

static void folder_add(struct look *l, const char *path)
{
    if (l->folder_count == FOLDERS_MAX || folder_is_in(l->folders, l->folder_count, path)) return;
    l->folders[l->folder_count] = strdup(path);
    ASSERT(l->folders[l->folder_count] != NULL);
    l->folder_count++;
}

/* Every folder whose change may make the path lead elsewhere: those of symlinks, and the one it ends in; where it
 * ends early, the last one that is there. */
static void folders_find(struct look *l, const char *path)
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

static uint64_t print_of(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0) return 0;
    uint64_t print = rng_mix((uint64_t)st.st_dev ^ rng_mix((uint64_t)st.st_ino));
    print = rng_mix(print ^ (uint64_t)st.st_size);
    return rng_mix(print ^ ((uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec)) | 1;
}

/* In any order: a sum. */
static uint64_t print_beside(const char *path)
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
        if (e->d_name[0] == '.' || len < 5 || strcmp(e->d_name + len - 4, ".lua") != 0) continue;
        snprintf(file, sizeof file, "%s/%s", folder, e->d_name);
        sum += rng_mix(print_of(file) ^ hash_text(e->d_name));
    }
    if (d) closedir(d);
    return sum;
}

static void look(uv_work_t *work)
{
    struct look *l = work->data;
    for (uint32_t i = 0; i < l->count; i++) {
        struct watched *item = &l->items[i];
        folders_find(l, item->path);
        item->latest = print_of(item->path);
        if (item->latest && item->beside) item->latest = rng_mix(item->latest ^ print_beside(item->path)) | 1;
    }
}
