/* tail: events, states and gaps as they come, from the running holdfast: lines for people on a terminal,
 * the NDJSON itself otherwise. With --consumer it acknowledges what it has printed. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/client.h"
#include "cli/term.h"
#include "cli/words.h"
#include "ops/ops.h"

#define READ_BYTES ((size_t)64 << 10)
#define LINE_BYTES_MAX ((size_t)128 << 20)

/* The last position printed of one connection, not yet acknowledged. */
struct position {
    char connection[64];
    double epoch, offset;
};

struct tail {
    const char *path, *consumer; /* borrowed */
    int fd;
    bool pretty;
    struct term term;
    struct buffer in, out;       /* owned */
    struct position *positions;  /* owned */
    uint32_t position_count, position_capacity;
    char said[WORDS_MAX + 64];   /* connection and cause of the last state line */
    bool refused, again;         /* again: another holdfast will listen there in a moment */
};

static volatile sig_atomic_t interrupted;

static enum cli_exit run(struct cli *cli);
static enum cli_exit follow(struct tail *t, struct cli *cli);
static void take_line(struct tail *t, const char *line, size_t len);
static bool attach(struct tail *t, struct cli *cli, const char *from);
static bool names_exist(const struct tail *t, const struct cli *cli);

static const struct cli_option options[] = {
    { "--from", NULL, "WHERE", "now, start (the oldest frame held), cursor, or EPOCH.OFFSET", false },
    { "--consumer", NULL, "NAME", "be this named consumer, and acknowledge what was printed", false },
    { "--pretty", NULL, NULL, "one readable line each, also when this is no terminal", false },
    { "--json", NULL, NULL, "the NDJSON itself, also on a terminal", false },
    CLIENT_OPTIONS,
    { 0 },
};

const struct cli_command cli_tail = {
    .name = "tail",
    .usage = "tail [NAME...] [--from WHERE] [--consumer NAME] [--pretty | --json]",
    .about = "Follow events, state changes and gaps of all connections or of those named",
    .text = "  holdfast tail                         everything from now on\n"
            "  holdfast tail 'support-*'             patterns with * and ?\n"
            "  holdfast tail --from start            also what the backlog still holds\n"
            "  holdfast tail --consumer bot-a | ./bot\n"
            "                                        at least once: goes on after the last line printed\n\n"
            "It ends when holdfast ends, or with Ctrl-C; after an upgrade of holdfast it goes on.\n",
    .options = options,
    .words_max = 32,
    .run = run,
};

static void on_signal(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
}

static enum cli_exit run(struct cli *cli)
{
    char path[CLIENT_PATH_MAX], why[512];
    struct tail t = { .path = path, .consumer = cli_get(cli, "--consumer"), .fd = -1 };
    if (cli_get(cli, "--pretty") && cli_get(cli, "--json")) {
        return cli_misuse(cli, "--pretty and --json exclude each other");
    }
    if (!client_find(cli, path, why, sizeof why)) {
        cli_complain("%s", why);
        return CLI_FAILED;
    }
    t.term = term_find();
    t.pretty = cli_get(cli, "--pretty") || (t.term.terminal && !cli_get(cli, "--json"));
    buffer_init(&t.in, LINE_BYTES_MAX);
    buffer_init(&t.out, 0);

    /* Not restarted: a Ctrl-C must end a read that waits. */
    struct sigaction action = { .sa_handler = on_signal };
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);

    enum cli_exit result = CLI_FAILED;
    if (names_exist(&t, cli) && attach(&t, cli, cli_get(cli, "--from"))) result = follow(&t, cli);
    if (t.fd >= 0) close(t.fd);
    buffer_deinit(&t.in);
    buffer_deinit(&t.out);
    free(t.positions);
    return result;
}

static bool has_wildcard(const char *name)
{
    return strpbrk(name, "*?") != NULL;
}

/* A pattern may wait for what comes later; a plain name that nobody has is a slip. */
static bool names_exist(const struct tail *t, const struct cli *cli)
{
    char why[512], hint[96];
    struct client_answer a;
    bool plain = false, ok = true;
    for (uint32_t i = 0; i < cli->word_count; i++) plain = plain || !has_wildcard(cli->words[i]);
    if (!plain) return true;
    if (!client_request(t->path, "GET", "/v1/connections", NULL, 0, &a, why, sizeof why)) {
        cli_complain("%s", why);
        return false;
    }
    cJSON *root = cJSON_ParseWithLength((const char *)a.body.data, a.body.len), *c;
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(root, "connections");
    size_t count = 0, most = (size_t)(cJSON_IsArray(list) ? cJSON_GetArraySize(list) : 0);
    const char **names = calloc(most + 1, sizeof *names);
    cJSON_ArrayForEach(c, list)
    {
        if (names && count < most) names[count++] = words_text(c, "name");
    }
    for (uint32_t i = 0; ok && names && i < cli->word_count; i++) {
        bool found = has_wildcard(cli->words[i]);
        for (size_t n = 0; n < count && !found; n++) found = strcmp(names[n], cli->words[i]) == 0;
        if (found) continue;
        ok = false;
        cli_complain("no connection is called `%s`%s", cli->words[i],
                     cli_did_you_mean(text_nearest(cli->words[i], names, count), hint, sizeof hint));
    }
    free(names);
    cJSON_Delete(root);
    client_answer_deinit(&a);
    return ok;
}

static bool append_quoted(struct buffer *out, const char *text)
{
    return text_json_string(out, text, strlen(text));
}

static bool attach(struct tail *t, struct cli *cli, const char *from)
{
    char why[512];
    struct timeval for_ever = { 0 };
    t->fd = client_connect(t->path, why, sizeof why);
    if (t->fd < 0) {
        cli_complain("%s", why);
        return false;
    }
    setsockopt(t->fd, SOL_SOCKET, SO_RCVTIMEO, &for_ever, sizeof for_ever);
    buffer_append_text(&t->out, "{\"attach\":{\"connections\":[");
    for (uint32_t i = 0; i < cli->word_count; i++) {
        if (i) buffer_append_char(&t->out, ',');
        append_quoted(&t->out, cli->words[i]);
    }
    buffer_append_char(&t->out, ']');
    if (t->consumer) {
        buffer_append_text(&t->out, ",\"consumer\":");
        append_quoted(&t->out, t->consumer);
    }
    if (from) {
        buffer_append_text(&t->out, ",\"from\":");
        append_quoted(&t->out, from);
    }
    buffer_append_text(&t->out, "}}\n");
    bool ok = client_write(t->fd, t->out.data, t->out.len);
    if (!ok) cli_complain("the holdfast at %s hung up", t->path);
    buffer_clear(&t->out);
    return ok;
}

/* --- lines -------------------------------------------------------------------------------------------------- */

static void note_position(struct tail *t, const cJSON *event)
{
    const char *connection = words_text(event, "connection");
    struct position *p = NULL;
    for (uint32_t i = 0; i < t->position_count && !p; i++) {
        if (strcmp(t->positions[i].connection, connection) == 0) p = &t->positions[i];
    }
    if (!p) {
        if (t->position_count == t->position_capacity) {
            t->position_capacity = t->position_capacity ? t->position_capacity * 2 : 16;
            t->positions = realloc(t->positions, t->position_capacity * sizeof *t->positions);
            ASSERT(t->positions != NULL);
        }
        p = &t->positions[t->position_count++];
        text_copy(p->connection, sizeof p->connection, connection, strlen(connection));
    }
    p->epoch = words_number(event, "epoch");
    p->offset = words_number(event, "offset");
}

static bool acknowledge(struct tail *t)
{
    struct buffer acks;
    buffer_init(&acks, 0);
    for (uint32_t i = 0; i < t->position_count; i++) {
        const struct position *p = &t->positions[i];
        buffer_append_text(&acks, "{\"ack\":{\"connection\":");
        append_quoted(&acks, p->connection);
        buffer_printf(&acks, ",\"epoch\":%.0f,\"offset\":%.0f}}\n", p->epoch, p->offset);
    }
    t->position_count = 0;
    bool ok = !acks.len || client_write(t->fd, acks.data, acks.len);
    buffer_deinit(&acks);
    return ok;
}

static void begin(struct tail *t, const char *at, const char *connection)
{
    char clock[WORDS_MAX];
    uint64_t at_ms = words_time(at);
    buffer_printf(&t->out, "%s%.12s%s  %s", term_on(&t->term, TERM_DIM),
                  words_clock(at_ms ? at_ms : words_now_ms(), clock), term_off(&t->term, TERM_DIM),
                  term_on(&t->term, TERM_BOLD));
    text_printable(&t->out, connection, strlen(connection));
    buffer_printf(&t->out, "%s  ", term_off(&t->term, TERM_BOLD));
}

static void coloured(struct tail *t, enum term_colour colour, const char *text)
{
    buffer_append_text(&t->out, term_on(&t->term, colour));
    text_printable(&t->out, text, strlen(text));
    buffer_append_text(&t->out, term_off(&t->term, colour));
}

/* The frame as text, cut to what is left of the terminal's line. */
static void append_frame(struct tail *t, const cJSON *event, uint32_t used)
{
    const cJSON *frame = cJSON_GetObjectItemCaseSensitive(event, "frame");
    char *json = frame ? cJSON_PrintUnformatted(frame) : NULL;
    const char *text = json ? json : words_text(event, "frame_base64");
    uint32_t left = t->term.columns > used + 20 ? t->term.columns - used : 20;
    size_t len = strlen(text), shown = len;
    if (len > left) {
        shown = left - 1;
        while (shown && ((uint8_t)text[shown] & 0xc0) == 0x80) shown--;
    }
    buffer_append_text(&t->out, term_on(&t->term, TERM_DIM));
    text_printable(&t->out, text, shown);
    if (shown < len) buffer_append_text(&t->out, "…");
    buffer_append_text(&t->out, term_off(&t->term, TERM_DIM));
    cJSON_free(json);
}

static void show_event(struct tail *t, const cJSON *e)
{
    char head[160];
    const char *kind = words_text(cJSON_GetObjectItemCaseSensitive(e, "take"), "kind");
    const char *connection = words_text(e, "connection");
    begin(t, words_text(e, "at"), connection);
    snprintf(head, sizeof head, "#%.0f %.100s%s", words_number(e, "offset"), kind, *kind ? " " : "");
    coloured(t, TERM_CYAN, head);
    append_frame(t, e, 16 + term_width(connection) + term_width(head));
}

static void show_state(struct tail *t, const cJSON *s)
{
    char words[WORDS_MAX], said[WORDS_MAX + 64];
    const char *state = words_text(s, "state");
    bool up = strcmp(state, "up") == 0;
    begin(t, words_text(s, "since"), words_text(s, "connection"));
    coloured(t, words_state_colour(state, false), state);
    /* A new attempt has the old cause until it ends; said once is enough. */
    bool trying = strcmp(state, "preparing") == 0 || strcmp(state, "linking") == 0;
    const cJSON *cause = cJSON_GetObjectItemCaseSensitive(s, "cause");
    if (up || trying) {
        t->said[0] = 0;
        return;
    }
    snprintf(said, sizeof said, "%.63s %s", words_text(s, "connection"), words_cause(cause, words));
    bool again = strcmp(said, t->said) == 0;
    memcpy(t->said, said, sizeof said);
    if (*words && !again) {
        buffer_append_text(&t->out, "  ");
        text_printable(&t->out, words, strlen(words));
    }
    words_next(words_text(s, "what"), words_text(s, "next"), words_now_ms(), words);
    if (*words && strcmp(state, "closing") != 0) {
        buffer_append_text(&t->out, "  ");
        text_printable(&t->out, words, strlen(words));
    }
}

static void show_gap(struct tail *t, const cJSON *g)
{
    char text[256];
    begin(t, words_text(g, "to"), words_text(g, "connection"));
    snprintf(text, sizeof text, "gap after #%.0f: frames %s missing (%.100s)", words_number(g, "after"),
             cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(g, "certain")) ? "are" : "may be",
             words_text(g, "cause"));
    coloured(t, TERM_YELLOW, text);
}

static void show(struct tail *t, const cJSON *root, const char *line, size_t len)
{
    const cJSON *item;
    if ((item = cJSON_GetObjectItemCaseSensitive(root, "event"))) {
        show_event(t, item);
    } else if ((item = cJSON_GetObjectItemCaseSensitive(root, "state"))) {
        show_state(t, item);
    } else if ((item = cJSON_GetObjectItemCaseSensitive(root, "gap"))) {
        show_gap(t, item);
    } else if (cJSON_GetObjectItemCaseSensitive(root, "hello")) {
        return;
    } else {
        text_printable(&t->out, line, len);
    }
    buffer_append_char(&t->out, '\n');
}

static void take_line(struct tail *t, const char *line, size_t len)
{
    static const char error_head[] = "{\"error\"";
    bool error = len > sizeof error_head && memcmp(line, error_head, sizeof error_head - 1) == 0;
    cJSON *root = NULL;
    if (t->pretty || t->consumer || error) root = cJSON_ParseWithLength(line, len);
    if (error) {
        const cJSON *e = cJSON_GetObjectItemCaseSensitive(root, "error");
        const char *what = words_text(e, "what");
        bool ends = strcmp(what, OPS_SHUTTING_DOWN) == 0;
        t->again = strcmp(what, OPS_BEING_UPGRADED) == 0;
        t->refused = !ends && !t->again;
        if (t->refused) cli_complain("%s (expected: %s)", words_text(e, "what"), words_text(e, "expected"));
    } else if (t->pretty) {
        show(t, root, line, len);
    } else {
        buffer_append(&t->out, line, len);
        buffer_append_char(&t->out, '\n');
    }
    const cJSON *event = cJSON_GetObjectItemCaseSensitive(root, "event");
    if (t->consumer && event) note_position(t, event);
    cJSON_Delete(root);
}

static bool print_out(struct tail *t)
{
    size_t done = 0;
    while (done < t->out.len) {
        ssize_t n = write(STDOUT_FILENO, t->out.data + done, t->out.len - done);
        if (n < 0 && errno == EINTR && !interrupted) continue;
        if (n <= 0) return false;
        done += (size_t)n;
    }
    buffer_clear(&t->out);
    return true;
}

static enum cli_exit follow(struct tail *t, struct cli *cli)
{
    while (!interrupted) {
        if (!buffer_reserve(&t->in, READ_BYTES)) {
            cli_complain("a line is longer than %zu MiB", LINE_BYTES_MAX >> 20);
            return CLI_FAILED;
        }
        ssize_t n = recv(t->fd, t->in.data + t->in.len, READ_BYTES, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0 && t->again) {
            fprintf(stderr, "holdfast: the holdfast at %s is being upgraded: attaching again\n", t->path);
            close(t->fd);
            t->again = false;
            buffer_clear(&t->in);
            /* A consumer goes on at its cursor; anybody else from now on, or all would come twice. */
            if (!attach(t, cli, t->consumer ? NULL : "now")) return CLI_FAILED;
            continue;
        }
        if (n <= 0) {
            if (!t->refused) fprintf(stderr, "holdfast: the holdfast at %s ended\n", t->path);
            return t->refused ? CLI_FAILED : CLI_OK;
        }
        size_t from = t->in.len, used = 0;
        t->in.len += (size_t)n;
        for (;;) {
            size_t start = used > from ? used : from;
            const uint8_t *end = memchr(t->in.data + start, '\n', t->in.len - start);
            if (!end) break;
            size_t stop = (size_t)(end - t->in.data);
            take_line(t, (const char *)t->in.data + used, stop - used);
            used = stop + 1;
        }
        buffer_consume(&t->in, used);
        /* Printed first, acknowledged after: what a crash loses between the two comes again. */
        if (!print_out(t)) return interrupted ? CLI_OK : CLI_FAILED;
        if (t->consumer && !acknowledge(t)) cli_complain("the last lines could not be acknowledged");
    }
    return CLI_OK;
}
