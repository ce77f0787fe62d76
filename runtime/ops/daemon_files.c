/* Files: which ones are watched, and what happens when they changed. */
#include "ops/daemon_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"

static void on_files_changed(void *self)
{
    struct daemon *d = self;
    if (d->stopping) return;
    log_line(d->options.log, LOG_INFO, NULL, "files changed: reading configuration and policies again");
    daemon__reload_all(d, "files changed");
}

/* A relative path is one from where the process stands. */
static void path_add(struct file_watch_path *paths, uint32_t *count, char *text, size_t *at, size_t bytes,
                     const char *path, bool beside)
{
    char cwd[PATH_MAX];
    if (*count == FILE_WATCH_PATHS_MAX) return;
    if (path[0] != '/' && !getcwd(cwd, sizeof cwd)) return;
    int n = snprintf(text + *at, bytes - *at, "%s%s%s", path[0] == '/' ? "" : cwd, path[0] == '/' ? "" : "/", path);
    if (n < 0 || (size_t)n >= bytes - *at) return;
    paths[(*count)++] = (struct file_watch_path){ text + *at, beside };
    *at += (size_t)n + 1;
}

void daemon__watch(struct daemon *d)
{
    const size_t bytes = (size_t)FILE_WATCH_PATHS_MAX * 512;
    struct file_watch_path paths[FILE_WATCH_PATHS_MAX];
    uint32_t count = 0;
    size_t at = 0;
    if (!d->roster.config.watch) {
        file_watch_destroy(d->watch);
        d->watch = NULL;
        return;
    }
    char *text = malloc(bytes);
    ASSERT(text != NULL);
    path_add(paths, &count, text, &at, bytes, d->roster.config.path, false);
    for (uint32_t i = 0; i < d->roster.version_count; i++) {
        path_add(paths, &count, text, &at, bytes, policy_path(d->roster.versions[i]), true);
    }
    for (uint32_t i = 0; i < d->added_count; i++) {
        if (roster_policy(&d->roster, policy_name(d->added[i].version))) continue;
        path_add(paths, &count, text, &at, bytes, policy_path(d->added[i].version), true);
    }
    if (!d->watch) d->watch = file_watch_create(&d->loop, on_files_changed, d);
    file_watch_set(d->watch, paths, count);
    free(text);
}
