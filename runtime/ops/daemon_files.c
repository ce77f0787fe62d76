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
    net_trust_look(d->net);
    daemon__reload_all(d, "files changed");
}

struct paths {
    struct file_watch_path *items; /* owned, and their paths */
    uint32_t count, room;
    char cwd[PATH_MAX];
};

/* A relative path is one from where the process stands. */
static void path_add(struct paths *p, const char *path, const char *more, enum file_beside beside)
{
    char text[PATH_MAX];
    int n = snprintf(text, sizeof text, "%s%s%s%s", path[0] == '/' ? "" : p->cwd, path[0] == '/' ? "" : "/", path, more);
    if (n < 0 || (size_t)n >= sizeof text) return;
    if (p->count == p->room) {
        p->room = p->room ? p->room * 2 : 64;
        p->items = realloc(p->items, p->room * sizeof *p->items);
        ASSERT(p->items != NULL);
    }
    p->items[p->count++] = (struct file_watch_path){ strdup(text), beside };
    ASSERT(p->items[p->count - 1].path != NULL);
}

/* The CA file that many connections name is watched once. */
static void ca_add(struct paths *p, struct proof_set *seen, const char *ca_file)
{
    if (!ca_file || proof_set_has(seen, proof_key(ca_file, 0, 0), NULL)) return;
    proof_set_put(seen, proof_key(ca_file, 0, 0), 0);
    path_add(p, ca_file, "", FILE_ALONE);
}

void daemon__watch(struct daemon *d)
{
    const struct config *c = &d->roster.config;
    const char *creds = getenv("CREDENTIALS_DIRECTORY");
    struct paths p = { 0 };
    struct proof_set seen = { 0 };
    if (!c->watch || !getcwd(p.cwd, sizeof p.cwd)) {
        file_watch_destroy(d->watch);
        d->watch = NULL;
        return;
    }
    path_add(&p, c->path, "", FILE_BESIDE_LUA);
    for (uint32_t i = 0; i < d->roster.version_count; i++) {
        path_add(&p, policy_path(d->roster.versions[i]), "", FILE_BESIDE_LUA);
    }
    for (uint32_t i = 0; i < d->added_count; i++) {
        if (roster_policy(&d->roster, policy_name(d->added[i].version))) continue;
        path_add(&p, policy_path(d->added[i].version), "", FILE_BESIDE_LUA);
    }
    for (uint32_t i = 0; i < c->file_count; i++) path_add(&p, c->files[i], "", FILE_ALONE);
    for (uint32_t i = 0; i < c->connection_count; i++) ca_add(&p, &seen, c->connections[i].ca_file);
    for (uint32_t i = 0; i < d->added_count; i++) ca_add(&p, &seen, d->added[i].config.ca_file);
    /* Over the API a secret is a name in there. */
    if (creds && creds[0]) path_add(&p, creds, "/.", FILE_BESIDE_ALL);
    if (!d->watch) d->watch = file_watch_create(&d->loop, on_files_changed, d);
    if (!file_watch_set(d->watch, p.items, p.count) && !d->watch_told) {
        d->watch_told = true;
        log_printf(d->options.log, LOG_WARNING, NULL,
                   "%u files are too many to be watched: of those beyond %u a reload must be asked for", p.count, FILE_WATCH_PATHS_MAX);
    }
    proof_set_clear(&seen);
    for (uint32_t i = 0; i < p.count; i++) free((char *)p.items[i].path);
    free(p.items);
}
