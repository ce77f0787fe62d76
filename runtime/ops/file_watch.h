/* File watch: tells when files that count are others than they were. Events of the kernel only wake it: what changed is
 * found by looking, off the loop, and told once it has stood still for a moment. So an editor's atomic replace, a
 * `git checkout`, a symlink that is swapped, a file half-written and one deleted are all the same to it. What somebody has
 * open for writing still moves. */
#ifndef HOLDFAST_OPS_FILE_WATCH_H
#define HOLDFAST_OPS_FILE_WATCH_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct file_watch; /* opaque */

#define FILE_WATCH_PATHS_MAX 32768
#define FILE_WATCH_STILL_MS 300 /* nothing may change for so long before it is told */

/* What of the folder that a file is in counts with it. */
enum file_beside {
    FILE_ALONE,
    FILE_BESIDE_LUA, /* its .lua files: it may require them */
    FILE_BESIDE_ALL, /* path "FOLDER/.": all of it but what begins with a dot */
};

struct file_watch_path {
    const char *path; /* absolute; borrowed until file_watch_set() returns */
    enum file_beside beside;
};

/* `changed`: from the loop. It may call file_watch_set(). */
struct file_watch *file_watch_create(uv_loop_t *loop, void (*changed)(void *self), void *self);
/* From now on these; what they are like when this is first looked at is what they are compared with, for those that
 * were not watched before. More than FILE_WATCH_PATHS_MAX: the rest is not watched, and false. */
bool file_watch_set(struct file_watch *w, const struct file_watch_path *paths, uint32_t count);
/* The loop must go on until its handles are closed. */
void file_watch_destroy(struct file_watch *w); /* NULL is allowed */

#endif
