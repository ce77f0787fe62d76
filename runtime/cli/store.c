/* store: what lies in the store's file, out of it, and without its holes. Reads and rewrites the file itself,
 * so it never does while a holdfast runs on it; what a running one holds, its API tells (store_live.c). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/duration.h"
#include "cli/files.h"
#include "cli/store.h"
#include "cli/term.h"
#include "cli/words.h"
#include "config/config.h"
#include "store/lock.h"

static enum cli_exit run(struct cli *cli);
static char *find_path(struct cli *cli);
static enum store_lock_result take_lock(struct store_lock *lock, const char *path, bool writes, bool asks);
static enum cli_exit info(struct store_core *core, const char *path);
static enum cli_exit compact(struct store_core *core, const char *path);

static const struct cli_option options[] = {
    { "--path", NULL, "FILE", "the store's file, whatever a configuration says", false },
    { "--config", "-c", "FILE", "the configuration that names it (./holdfast.lua)", false },
    { "--socket", NULL, "PATH", "for info: the UNIX socket of the holdfast that runs on it", false },
    { 0 },
};

const struct cli_command cli_store = {
    .name = "store",
    .usage = "store info|export|compact [-c FILE | --path FILE] [--socket PATH]",
    .about = "Show what a store holds, write it all out, or compact it",
    .text = "  holdfast store info                  sizes, counts, and the backlog of each connection\n"
            "  holdfast store export > store.ndjson every row as a line of JSON; what a damaged file still tells\n"
            "  holdfast store compact               rewrites the file without its free pages\n"
            "  holdfast store info --path old.db    a file that was moved aside\n\n"
            "Exporting and compacting want the file for themselves: stop the holdfast that runs on it first. While\n"
            "one runs, info shows what that one tells of its store.\n\n"
            "A store holds no secrets: no token, no password. It does hold what platforms sent (frames that wait\n"
            "for a consumer) and sessions with their ids: keep an export as private as the bots' messages.\n"
            "Accounts and keys of duplicates are hashes. None of the three is a start: an unclean end is still\n"
            "told to the consumers at the next `holdfast run`. Compacting needs as much free room as the file\n"
            "is large; a running holdfast gives freed pages back by itself.\n",
    .options = options,
    .words_max = 1,
    .run = run,
};

static enum cli_exit run(struct cli *cli)
{
    static const char *const verbs[] = { "info", "export", "compact" };
    const char *verb = cli->word_count ? cli->words[0] : NULL;
    char why[600], hint[96];
    int which = -1;
    for (int i = 0; verb && i < 3; i++)
        if (strcmp(verbs[i], verb) == 0) which = i;
    if (!verb) return cli_misuse(cli, "info, export or compact?");
    if (which < 0)
        return cli_misuse(cli, "`%s` is neither info, export nor compact%s", verb,
                          cli_did_you_mean(text_nearest(verb, verbs, 3), hint, sizeof hint));
    if (cli_get(cli, "--path") && cli_get(cli, "--config"))
        return cli_misuse(cli, "--path and --config name the store twice");
    char *path = find_path(cli);
    if (!path) return CLI_FAILED;

    enum cli_exit result = CLI_FAILED;
    struct store_lock lock = STORE_LOCK_NONE;
    enum store_open opened;
    enum store_lock_result taken = take_lock(&lock, path, which == 2, which == 0);
    if (taken == STORE_LOCK_HELD && which == 0) {
        result = store_live(cli, path);
    } else if (taken == STORE_LOCK_TAKEN) {
        struct store_core_options o = { .path = path, .wall_ms = words_now_ms(), .read_only = which != 2,
                                        .offline = which == 2 };
        struct store_core *core = store_core_open(&o, &opened, why, sizeof why);
        if (!core) cli_complain("%s", why);
        else {
            result = which == 0 ? info(core, path) : which == 1 ? store_export(core) : compact(core, path);
            store_core_close(core, false);
        }
    }
    store_lock_release(&lock);
    free(path);
    return result;
}

static char *find_path(struct cli *cli)
{
    const char *given = cli_get(cli, "--path"), *config = files_config(cli);
    bool memory = false;
    char *path = given ? strdup(given) : NULL;
    if (!given) {
        if (!files_config_is_there(config)) return NULL;
        path = config_find_store(config, NULL, &memory);
        if (memory) cli_complain("%s keeps the store in memory: there is no file", config);
        else if (!path) cli_complain("cannot read the configuration %s (`holdfast check` tells why)", config);
    }
    if (path && access(path, F_OK) != 0) {
        cli_complain(errno == ENOENT ? "there is no store at %s" : "cannot look at the store %s: %s", path,
                     strerror(errno));
        free(path);
        path = NULL;
    }
    return path;
}

/* Reading works where no lock file can be made, a read-only disk for one: the file has locks of its own. */
static enum store_lock_result take_lock(struct store_lock *lock, const char *path, bool writes, bool asks)
{
    char why[600];
    enum store_lock_result r = store_lock_try(lock, path, why, sizeof why);
    if (r == STORE_LOCK_FAILED && !writes) return STORE_LOCK_TAKEN;
    if (r == STORE_LOCK_HELD && !asks)
        cli_complain("%s: stop it first, or ask it (`holdfast store info`, `holdfast status`)", why);
    else if (r == STORE_LOCK_FAILED) cli_complain("%s", why);
    return r;
}

/* --- info ------------------------------------------------------------------------------------------------------ */

static const char *count(uint64_t n, char out[WORDS_MAX])
{
    snprintf(out, WORDS_MAX, "%llu", (unsigned long long)n);
    return out;
}

static void add_stream(void *self, const struct store_stream_info *s)
{
    struct grid *t = self;
    char text[WORDS_MAX], at[TIMESTAMP_TEXT_MAX];
    grid_add(t, TERM_BOLD, s->name);
    grid_add(t, TERM_PLAIN, count(s->events, text));
    grid_add(t, TERM_PLAIN, words_bytes((double)s->event_bytes, text));
    grid_add(t, TERM_PLAIN, s->events ? timestamp_format(s->oldest_wall_ms, at) : NULL);
    snprintf(text, sizeof text, "%llu.%llu", (unsigned long long)s->last_epoch,
             (unsigned long long)s->last_offset);
    grid_add(t, TERM_PLAIN, s->last_epoch ? text : NULL);
    grid_add(t, TERM_PLAIN, count(s->cursors, text));
}

static enum cli_exit info(struct store_core *core, const char *path)
{
    static const char *const heads[] = { "CONNECTION", "EVENTS", "BYTES", "OLDEST", "LAST", "CURSORS" };
    char why[600], a[WORDS_MAX], b[WORDS_MAX], c[WORDS_MAX];
    struct store_core_info i;
    struct buffer out;
    struct grid t;
    struct term term = term_find();
    buffer_init(&out, 0);
    grid_init(&t, heads, 6, 0);
    bool ok = store_core_info(core, &i, why, sizeof why) &&
              store_core_each_stream(core, add_stream, &t, why, sizeof why);
    if (ok) {
        buffer_append_text(&out, "store      ");
        text_printable(&out, path, strlen(path));
        buffer_printf(&out, "\nepoch      %llu, schema %u, %s\n", (unsigned long long)i.epoch,
                      i.schema_version, store_core_was_clean(core) ? "ended clean" : "ended unclean");
        buffer_printf(&out, "size       %s, of which %s free, and a log of %s\n",
                      words_bytes((double)i.file_bytes, a), words_bytes((double)i.free_bytes, b),
                      words_bytes((double)i.wal_bytes, c));
        buffer_printf(&out, "backlog    %llu events, %s\n", (unsigned long long)i.events,
                      words_bytes((double)i.event_bytes, a));
        buffer_printf(&out, "consumers  %llu, with %llu cursors\n", (unsigned long long)i.consumers,
                      (unsigned long long)i.cursors);
        buffer_printf(&out, "sessions   %llu\npermits    %llu\nseen keys  %llu\njournal    %llu entries\n",
                      (unsigned long long)i.sessions, (unsigned long long)i.permits,
                      (unsigned long long)i.seen, (unsigned long long)i.journal_entries);
        if (t.count) {
            buffer_append_char(&out, '\n');
            grid_print(&t, &term, &out);
        }
        fwrite(out.data, 1, out.len, stdout);
    } else cli_complain("%s", why);
    grid_deinit(&t);
    buffer_deinit(&out);
    return ok ? CLI_OK : CLI_FAILED;
}

/* --- compact --------------------------------------------------------------------------------------------------- */

static enum cli_exit compact(struct store_core *core, const char *path)
{
    char why[600], before[WORDS_MAX], after[WORDS_MAX];
    uint64_t file[2] = { 0 }, wal[2] = { 0 };
    store_core_sizes(core, &file[0], &wal[0]);
    if (store_core_compact(core, why, sizeof why) != STORE_APPLIED) {
        cli_complain("%s", why);
        return CLI_FAILED;
    }
    store_core_sizes(core, &file[1], &wal[1]);
    struct buffer shown;
    buffer_init(&shown, 0);
    text_printable(&shown, path, strlen(path));
    printf("%.*s: %s, was %s\n", (int)shown.len, (const char *)shown.data,
           words_bytes((double)(file[1] + wal[1]), after), words_bytes((double)(file[0] + wal[0]), before));
    buffer_deinit(&shown);
    return CLI_OK;
}
