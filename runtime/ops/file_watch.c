/* File watch: one look at a time, in libuv's pool; one timer that waits until nothing moves; one handle of inotify for
 * each folder on the way to a file, those of symlinks included. */
#include "ops/file_watch.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/rng.h"
#include "ops/file_look.h"

struct folder {
    uv_fs_event_t handle;
    char *path; /* owned */
    struct file_watch *watch;
};

/* A look under way. */
struct looking {
    uv_work_t work;
    struct file_watch *watch; /* NULL: it went away */
    uint64_t list;            /* which list this is about */
    struct file_look look;
};

struct file_watch {
    uv_loop_t *loop;
    uv_timer_t still;
    void (*changed)(void *self);
    void *self;
    struct watched *items; /* owned */
    uint32_t count;
    uint64_t list;
    struct folder *folders[FILE_FOLDERS_MAX]; /* owned until closed */
    uint32_t folder_count;
    struct looking *looking; /* NULL: none is under way */
    bool stirred;         /* something moved during that look */
    bool moving;          /* the last look found another state than the one before: not told yet */
};

static void look_begin(struct file_watch *w);
static void on_work(uv_work_t *work);
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

/* Where in `before` the path is; `index`: of a table of twice the size, by hash, with 1 added. */
static struct watched *find(struct watched *before, const uint32_t *index, uint32_t mask, const struct file_watch_path *p)
{
    for (uint64_t at = hash_text(p->path);; at++) {
        uint32_t k = index[at & mask];
        if (!k) return NULL;
        if (strcmp(before[k - 1].path, p->path) == 0 && before[k - 1].beside == p->beside) return &before[k - 1];
    }
}

bool file_watch_set(struct file_watch *w, const struct file_watch_path *paths, uint32_t count)
{
    struct watched *before = w->items;
    const uint32_t before_count = w->count;
    uint32_t mask = 15;
    while (mask < before_count * 2) mask = mask * 2 + 1;
    uint32_t *index = calloc(mask + 1u, sizeof *index);
    w->count = count < FILE_WATCH_PATHS_MAX ? count : FILE_WATCH_PATHS_MAX;
    w->items = calloc(w->count + 1, sizeof *w->items);
    ASSERT(index && w->items);
    for (uint32_t k = 0; k < before_count; k++) {
        uint64_t at = hash_text(before[k].path);
        while (index[at & mask]) at++;
        index[at & mask] = k + 1;
    }
    w->list++;
    for (uint32_t i = 0; i < w->count; i++) {
        const struct watched *was = find(before, index, mask, &paths[i]);
        w->items[i] = (struct watched){ .path = strdup(paths[i].path), .beside = paths[i].beside };
        ASSERT(w->items[i].path != NULL);
        if (!was) continue;
        w->items[i].known = was->known;
        w->items[i].print = was->print;
        w->items[i].latest = was->latest;
    }
    watched_free(before, before_count);
    free(index);
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
    watched_free(w->items, w->count);
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
    /* From the first event on, not from the last: a log or a store in the same folder never stands still. */
    if (f->watch->looking) f->watch->stirred = true;
    else if (!uv_is_active((uv_handle_t *)&f->watch->still)) uv_timer_start(&f->watch->still, on_still, FILE_WATCH_STILL_MS, 0);
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
    struct looking *l = calloc(1, sizeof *l);
    ASSERT(l != NULL);
    l->watch = w;
    l->work.data = l;
    l->list = w->list;
    l->look.count = w->count;
    l->look.items = calloc(w->count + 1, sizeof *l->look.items);
    ASSERT(l->look.items != NULL);
    for (uint32_t i = 0; i < w->count; i++) {
        l->look.items[i] = w->items[i];
        l->look.items[i].path = strdup(w->items[i].path);
        ASSERT(l->look.items[i].path != NULL);
    }
    w->stirred = false;
    w->looking = l;
    int failed = uv_queue_work(w->loop, &l->work, on_work, on_looked);
    ASSERT(failed == 0);
}

/* Always anew: a handle whose folder was replaced by another of the same name hears nothing any more. */
static void folders_set(struct file_watch *w, const struct file_look *l)
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

static void on_work(uv_work_t *work)
{
    file_look(&((struct looking *)work->data)->look);
}

static void looking_free(struct looking *l)
{
    file_look_deinit(&l->look);
    free(l);
}

static void on_looked(uv_work_t *work, int status)
{
    struct looking *l = work->data;
    struct file_watch *w = l->watch;
    bool moved = l->look.is_written, differs = false;
    if (!w || status != 0) {
        if (w) w->looking = NULL;
        looking_free(l);
        return;
    }
    w->looking = NULL;
    if (l->list != w->list) { /* about an older list */
        looking_free(l);
        look_begin(w);
        return;
    }
    for (uint32_t i = 0; i < w->count; i++) {
        struct watched *item = &w->items[i];
        uint64_t now = l->look.items[i].latest;
        if (!item->known) {
            item->known = true;
            item->print = item->latest = now;
        }
        moved = moved || now != item->latest;
        item->latest = now;
        differs = differs || now != item->print;
    }
    folders_set(w, &l->look);
    looking_free(l);
    /* Handles that were just opened may have missed something: what moved is looked at once more. So it is when
     * something was stirred meanwhile, but whatever stood still from one look to the next is told first. */
    if (moved || w->stirred || (differs && !w->moving)) uv_timer_start(&w->still, on_still, FILE_WATCH_STILL_MS, 0);
    const bool moving = moved || (differs && !w->moving);
    w->stirred = false;
    w->moving = moving && differs;
    if (moving) return;
    if (!differs) return;
    for (uint32_t i = 0; i < w->count; i++) w->items[i].print = w->items[i].latest;
    w->changed(w->self);
}
