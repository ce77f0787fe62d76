/* status: what is true of all connections, or of one in full. Asks the local API, shows what it says. */
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/status_table.h"
#include "cli/term.h"
#include "cli/words.h"

#define JOURNAL_LINES 12
#define WATCH_EVERY_MS 1000
#define ROWS_BESIDE 6 /* lines of a terminal that are no rows: counts, heads, weather, the prompt */

struct wish {
    bool json, all, watch;
};

static enum cli_exit run(struct cli *cli);
static bool ask(const char *path, const char *target, cJSON **json_out, struct client_answer *a);
static enum cli_exit show_all(const char *path, const struct wish *wish);
static enum cli_exit watch(const char *path, const struct wish *wish);
static void show_token(struct buffer *out, const struct term *t, const char *path);
static enum cli_exit show_one(const char *path, const char *name, bool json);
static bool name_is_good(const char *name);
static void complain_unknown(const char *path, const char *name);

static const struct cli_option options[] = {
    { "--json", NULL, NULL, "the API's own JSON", false },
    { "--watch", "-w", NULL, "again each second, until interrupted", false },
    { "--all", "-a", NULL, "every row, however few lines the terminal has", false },
    CLIENT_OPTIONS,
    { 0 },
};

const struct cli_command cli_status = {
    .name = "status",
    .usage = "status [NAME] [--json] [--watch] [--all] [--socket PATH | -c FILE]",
    .about = "Show every connection, or one in full: state, last cause, what happens next",
    .text = "  holdfast status                  every connection, one line each\n"
            "  holdfast status --watch          the same, each second\n"
            "  holdfast status support-bot      one connection, with its last journal lines\n"
            "  holdfast status --json | jq -r '.connections[] | select(.state != \"up\") | .name'\n\n"
            "Trouble comes first. CAUSE is why the last link or attempt ended; it stays after the connection is\n"
            "up again. LIFE is what proves the peer alive: `quiet` has no events and is well, `suspect` owes an\n"
            "answer. A narrow terminal leaves columns out: POLICY, OUT, BACKLOG, IN, ROUND TRIP, FAILED, in this\n"
            "order.\n",
    .options = options,
    .words_max = 1,
    .run = run,
};

static enum cli_exit run(struct cli *cli)
{
    char path[CLIENT_PATH_MAX], why[512];
    struct wish wish = { .json = cli_get(cli, "--json") != NULL,
                         .all = cli_get(cli, "--all") != NULL,
                         .watch = cli_get(cli, "--watch") != NULL };
    if (!client_find(cli, path, why, sizeof why)) {
        cli_complain("%s", why);
        return CLI_FAILED;
    }
    if (cli->word_count && (wish.watch || wish.all)) {
        return cli_misuse(cli, "%s is for all connections, not for one", wish.watch ? "--watch" : "--all");
    }
    if (wish.watch) return watch(path, &wish);
    return cli->word_count ? show_one(path, cli->words[0], wish.json) : show_all(path, &wish);
}

/* False after a complaint. `a`: owned when true, as is *json_out (NULL when it is no JSON). */
static bool ask(const char *path, const char *target, cJSON **json_out, struct client_answer *a)
{
    char why[512];
    if (!client_request(path, "GET", target, NULL, 0, a, why, sizeof why)) {
        cli_complain("%s", why);
        return false;
    }
    *json_out = cJSON_ParseWithLength((const char *)a->body.data, a->body.len);
    return true;
}

static void print(struct buffer *out)
{
    if (out->len) fwrite(out->data, 1, out->len, stdout);
    fflush(stdout);
    buffer_deinit(out);
}

/* --- all -------------------------------------------------------------------------------------------------- */

/* The token that nobody configured and the daemon made: people look for it here. */
static void show_token(struct buffer *out, const struct term *t, const char *path)
{
    char file[CLIENT_PATH_MAX + 8];
    snprintf(file, sizeof file, "%s.token", path);
    if (access(file, F_OK) != 0) return;
    buffer_printf(out, "%sthe token for http is in ", term_on(t, TERM_DIM));
    text_printable(out, file, strlen(file));
    buffer_printf(out, "%s\n", term_off(t, TERM_DIM));
}

/* The answer as text in `out`. False after a complaint, or with `why` instead of one. */
static bool show_once(const char *path, const struct wish *wish, struct buffer *out, char *why, size_t why_bytes)
{
    struct client_answer a;
    struct term term = term_find();
    if (!client_request(path, "GET", "/v1/connections", NULL, 0, &a, why, why_bytes)) return false;
    cJSON *root = cJSON_ParseWithLength((const char *)a.body.data, a.body.len);
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(root, "connections");
    const bool ok = a.status == 200 && cJSON_IsArray(list);
    if (!ok) {
        snprintf(why, why_bytes, "the holdfast at %s answered with HTTP %d", path, a.status);
    } else if (wish->json) {
        buffer_append(out, a.body.data, a.body.len);
    } else if (cJSON_GetArraySize(list) == 0) {
        buffer_append_text(out, "no connection is configured\n");
    } else {
        struct status_table how = { .now_ms = words_now_ms() };
        if (term.lines > ROWS_BESIDE && !wish->all) how.rows_max = term.lines - ROWS_BESIDE;
        status_table(out, &term, root, &how);
        if (!wish->watch) show_token(out, &term, path);
    }
    cJSON_Delete(root);
    client_answer_deinit(&a);
    return ok;
}

static enum cli_exit show_all(const char *path, const struct wish *wish)
{
    char why[512];
    struct buffer out;
    buffer_init(&out, 0);
    const bool ok = show_once(path, wish, &out, why, sizeof why);
    if (!ok) cli_complain("%s", why);
    print(&out);
    return ok ? CLI_OK : CLI_FAILED;
}

/* --- again and again --------------------------------------------------------------------------------------- */

static volatile sig_atomic_t watch_ended;

static void on_interrupt(int number)
{
    (void)number;
    watch_ended = 1;
}

/* Each second, until interrupted or nobody reads. On a terminal in place, on a screen of its own, so that what
 * stood there before comes back; a daemon that is away is waited for. */
static enum cli_exit watch(const char *path, const struct wish *wish)
{
    const bool screen = isatty(STDOUT_FILENO) && !wish->json;
    struct sigaction action = { .sa_handler = on_interrupt }, before;
    sigaction(SIGINT, &action, &before);
    sigaction(SIGTERM, &action, NULL);
    if (screen) fputs("\033[?1049h\033[?25l", stdout);
    bool failed = false;
    while (!watch_ended && !failed) {
        char why[512];
        struct buffer out;
        buffer_init(&out, 0);
        if (screen) buffer_append_text(&out, "\033[H\033[2J");
        const bool ok = show_once(path, wish, &out, why, sizeof why);
        if (!ok && screen) {
            text_printable(&out, why, strlen(why));
            buffer_append_text(&out, "\n(trying again; Ctrl-C ends)\n");
        } else if (!ok) {
            cli_complain("%s", why);
            failed = true;
        } else if (!wish->json && !screen) {
            buffer_append_char(&out, '\n');
        }
        print(&out);
        if (ferror(stdout)) failed = true;
        if (!failed) poll(NULL, 0, WATCH_EVERY_MS);
    }
    if (screen) fputs("\033[?25h\033[?1049l", stdout);
    fflush(stdout);
    sigaction(SIGINT, &before, NULL);
    return failed ? CLI_FAILED : CLI_OK;
}

/* --- one -------------------------------------------------------------------------------------------------- */

static void line(struct buffer *out, const struct term *t, const char *label, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static void line(struct buffer *out, const struct term *t, const char *label, const char *format, ...)
{
    char raw[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(raw, sizeof raw, format, args);
    va_end(args);
    buffer_printf(out, "  %s%-12s%s", term_on(t, TERM_DIM), label, term_off(t, TERM_DIM));
    text_printable(out, raw, strlen(raw));
    buffer_append_char(out, '\n');
}

static void show_detail(struct buffer *out, const struct term *t, const cJSON *c)
{
    char a[WORDS_MAX], b[WORDS_MAX];
    uint64_t now_ms = words_now_ms(), since_ms = words_time(words_text(c, "since"));
    const char *state = words_text(c, "state"), *name = words_text(c, "name");
    const cJSON *policy = cJSON_GetObjectItemCaseSensitive(c, "policy");
    const cJSON *link = cJSON_GetObjectItemCaseSensitive(c, "link");
    const cJSON *pulse = cJSON_GetObjectItemCaseSensitive(c, "pulse");
    const cJSON *frames = cJSON_GetObjectItemCaseSensitive(c, "frames");
    const cJSON *backlog = cJSON_GetObjectItemCaseSensitive(c, "backlog");
    const cJSON *next = cJSON_GetObjectItemCaseSensitive(c, "next");
    const cJSON *cause = cJSON_GetObjectItemCaseSensitive(c, "cause");
    bool fatal = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(c, "stop_is_fatal"));
    enum term_colour colour = words_state_colour(state, fatal);

    buffer_append_text(out, term_on(t, TERM_BOLD));
    text_printable(out, name, strlen(name));
    buffer_printf(out, "%s  %s%s%s for %s, since %.12s\n", term_off(t, TERM_BOLD), term_on(t, colour),
                  state, term_off(t, colour), words_span(now_ms - (since_ms < now_ms ? since_ms : now_ms), a),
                  words_clock(since_ms, b));
    line(out, t, "policy", "%s v%.0f, %s", words_text(policy, "name"), words_number(policy, "version"),
         words_text(policy, "path"));
    if (cause) {
        line(out, t, "last cause", "%s (%s, at %s, by %s)", words_cause(cause, a),
             words_text(cause, "name"), words_text(cause, "stage"), words_text(cause, "by"));
    }
    if (next) line(out, t, "next", "%s", words_next(words_text(next, "what"), words_text(next, "at"), now_ms, a));
    line(out, t, "attempts", "%.0f so far, %.0f came up, %.0f failed in a row",
         words_number(c, "attempts_total"), words_number(c, "ready_total"), words_number(c, "attempt"));
    if (link) {
        uint64_t link_ms = words_time(words_text(link, "since"));
        line(out, t, "link", "%.0f, %s for %s, %s", words_number(link, "generation"),
             words_text(link, "state"), words_span(now_ms - (link_ms < now_ms ? link_ms : now_ms), a),
             words_text(link, "address"));
    }
    const cJSON *life = cJSON_GetObjectItemCaseSensitive(c, "life");
    if (life) {
        line(out, t, "life", "%s: %s", words_text(life, "verdict"), words_text(life, "evidence"));
    }
    if (words_number(pulse, "bytes_in") > 0) {
        line(out, t, "pulse", "last byte %s ago, %.0f frames in, %.0f out, %s in",
             words_span((uint64_t)words_number(pulse, "last_byte_age_ms"), a),
             words_number(pulse, "frames_in"), words_number(pulse, "frames_out"),
             words_bytes(words_number(pulse, "bytes_in"), b));
    }
    if (words_number(pulse, "beats_sent") > 0) {
        line(out, t, "beats", "%.0f sent, %.0f answered", words_number(pulse, "beats_sent"),
             words_number(pulse, "beats_answered"));
    }
    if (words_text(pulse, "round_trip_of")[0]) {
        line(out, t, "round trip", "%.0f ms, of the last %s", words_number(pulse, "round_trip_ms"),
             words_text(pulse, "round_trip_of"));
    }
    const cJSON *kernel = cJSON_GetObjectItemCaseSensitive(c, "kernel");
    if (kernel) {
        line(out, t, "kernel", "round trip %.1f ms, %.0f segments unacknowledged, %.0f sent again, last data %s ago",
             words_number(kernel, "round_trip_ms"), words_number(kernel, "unacknowledged"),
             words_number(kernel, "repeats_total"),
             words_span((uint64_t)words_number(kernel, "last_data_age_ms"), a));
    }
    const cJSON *loop = cJSON_GetObjectItemCaseSensitive(c, "loop");
    if (loop) {
        line(out, t, "loop", "%.1f ms late in the last second, at most %.1f ms in the last minute",
             words_number(loop, "delay_ms"), words_number(loop, "worst_ms"));
    }
    line(out, t, "frames", "%.0f delivered, %.0f malformed, %.0f duplicate, %.0f other",
         words_number(frames, "delivered"), words_number(frames, "malformed"),
         words_number(frames, "duplicate"), words_number(frames, "other"));
    line(out, t, "backlog", "%.0f frames, %s in %s, %.0f dropped, %.0f gaps, %.0f consumers attached",
         words_number(backlog, "frames"), words_bytes(words_number(backlog, "bytes"), a),
         words_text(backlog, "kept_in"), words_number(backlog, "dropped"), words_number(backlog, "gaps"),
         words_number(backlog, "consumers"));
    if (words_text(c, "warning")[0]) line(out, t, "warning", "%s", words_text(c, "warning"));
}

/* Oldest first, so that the newest stands at the prompt. */
static void show_journal(struct buffer *out, const struct term *t, const char *path, const char *name)
{
    char target[CLIENT_PATH_MAX], at[WORDS_MAX];
    struct client_answer a;
    cJSON *root = NULL;
    snprintf(target, sizeof target, "/v1/connections/%s/journal?limit=%d", name, JOURNAL_LINES);
    if (!ask(path, target, &root, &a)) return;
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(root, "journal");
    int count = cJSON_IsArray(list) ? cJSON_GetArraySize(list) : 0;
    if (count) buffer_printf(out, "  %sjournal%s\n", term_on(t, TERM_DIM), term_off(t, TERM_DIM));
    for (int i = count - 1; i >= 0; i--) {
        const cJSON *e = cJSON_GetArrayItem(list, i);
        const char *text = words_text(e, "text");
        bool alarm = strcmp(words_text(e, "kind"), "alarm") == 0;
        buffer_printf(out, "    %.12s  %s", words_clock(words_time(words_text(e, "at")), at),
                      term_on(t, alarm ? TERM_RED : TERM_PLAIN));
        text_printable(out, text, strlen(text));
        buffer_printf(out, "%s\n", term_off(t, alarm ? TERM_RED : TERM_PLAIN));
    }
    cJSON_Delete(root);
    client_answer_deinit(&a);
}

static enum cli_exit show_one(const char *path, const char *name, bool json)
{
    char target[CLIENT_PATH_MAX];
    struct client_answer a;
    cJSON *root;
    if (!name_is_good(name)) {
        cli_complain("`%s` cannot be a connection's name", name);
        return CLI_FAILED;
    }
    snprintf(target, sizeof target, "/v1/connections/%s", name);
    if (!ask(path, target, &root, &a)) return CLI_FAILED;
    enum cli_exit result = CLI_FAILED;
    struct buffer out;
    buffer_init(&out, 0);
    if (a.status == 404) {
        complain_unknown(path, name);
    } else if (a.status != 200 || !cJSON_IsObject(root)) {
        cli_complain("the holdfast at %s answered with HTTP %d", path, a.status);
    } else {
        struct term term = term_find();
        if (json) {
            buffer_append(&out, a.body.data, a.body.len);
        } else {
            show_detail(&out, &term, root);
            show_journal(&out, &term, path, name);
        }
        result = CLI_OK;
    }
    print(&out);
    cJSON_Delete(root);
    client_answer_deinit(&a);
    return result;
}

static bool name_is_good(const char *name)
{
    size_t len = strlen(name);
    return len && len < 64 && strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == len;
}

static void complain_unknown(const char *path, const char *name)
{
    const char *names[256];
    char hint[96];
    size_t count = 0;
    struct client_answer a;
    cJSON *root, *c;
    if (!ask(path, "/v1/connections", &root, &a)) return;
    cJSON_ArrayForEach(c, cJSON_GetObjectItemCaseSensitive(root, "connections"))
    {
        if (count < 256) names[count++] = words_text(c, "name");
    }
    cli_complain("no connection is called `%s`%s", name,
                 cli_did_you_mean(text_nearest(name, names, count), hint, sizeof hint));
    cJSON_Delete(root);
    client_answer_deinit(&a);
}
