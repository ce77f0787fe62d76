/* why: what a connection is doing and how that came about, in words, newest first. Facts come from
 * the API; why_words.c and why_advice.c put them into sentences. */
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "cli/ask.h"
#include "cli/term.h"
#include "cli/cli.h"
#include "cli/why.h"

#define JOURNAL_ENTRIES "64" /* all that is kept */
#define LABEL_COLUMNS   12

static enum cli_exit run(struct cli *cli);

static const struct cli_option options[] = {
    { "--all", NULL, NULL, "every journal entry by itself, nothing left out or put together",
      false },
    { "--json", NULL, NULL, "summary, connection and journal as JSON", false },
    CLIENT_OPTIONS,
    { 0 },
};

const struct cli_command cli_why = {
    .name = "why",
    .usage = "why NAME [--all] [--json] [--socket PATH | -c FILE]",
    .about = "Tell why a connection is as it is: what happened, what comes next, what helps",
    .text = "  holdfast why support-bot\n"
            "  holdfast why support-bot --json | jq -r '.summary.do[]'\n\n"
            "First what is true now and what can be done; then the story, newest first: each "
            "ending with its\n"
            "cause, what was decided, and the line of the policy that decided it.\n",
    .options = options,
    .words_max = 1,
    .run = run,
};

/* --- lines that fit the terminal -------------------------------------------------------------- */

/* `text` printable and broken at blanks; lines after the first begin with `indent` blanks. */
static void wrap(struct buffer *out, const struct term *t, uint32_t column, uint32_t indent,
                 const char *text)
{
    struct buffer clean;
    buffer_init(&clean, 0);
    text_printable(&clean, text, strlen(text));
    buffer_append_char(&clean, 0);
    const char *at = (const char *)clean.data;
    bool first = true;
    while (*at) {
        size_t len = strcspn(at, " ");
        char word[WHY_TEXT_MAX + 1];
        text_copy(word, sizeof word, at, len);
        uint32_t width = term_width(word);
        if (!first && column + 1 + width > t->columns) {
            buffer_printf(out, "\n%*s", (int)indent, "");
            column = indent;
        } else if (!first) {
            buffer_append_char(out, ' ');
            column++;
        }
        buffer_append(out, at, len);
        column += width;
        at += len + (at[len] == ' ');
        first = false;
    }
    buffer_append_char(out, '\n');
    buffer_deinit(&clean);
}

static void line(struct buffer *out, const struct term *t, const char *label, const char *text)
{
    if (!text[0]) return;
    buffer_printf(out, "  %s%-*s%s", term_on(t, TERM_DIM), LABEL_COLUMNS - 2, label,
                  term_off(t, TERM_DIM));
    wrap(out, t, LABEL_COLUMNS, LABEL_COLUMNS, text);
}

static void print_summary(struct buffer *out, const struct term *t, const cJSON *view,
                          const struct why_summary *s)
{
    bool fatal = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(view, "stop_is_fatal"));
    enum term_colour colour = words_state_colour(words_text(view, "state"), fatal);
    bool up = strcmp(words_text(view, "state"), "up") == 0;
    buffer_printf(out, "%s%s", term_on(t, TERM_BOLD), term_on(t, colour));
    wrap(out, t, 0, 2, s->headline);
    buffer_printf(out, "%s%s", term_off(t, colour), term_off(t, TERM_BOLD));
    line(out, t, "since", s->since);
    line(out, t, "down", s->down);
    line(out, t, up ? "before" : "because", s->because);
    line(out, t, "whose", s->whose);
    line(out, t, "decided", s->decided);
    line(out, t, "weather", s->weather);
    line(out, t, "trial", s->trial);
    line(out, t, "life", s->life);
    line(out, t, "budget", s->budget);
    line(out, t, "next", s->next);
    line(out, t, "recovers", s->recovers);
    line(out, t, "warning",
         words_text(view, "warning")[0] && strcmp(words_text(view, "warning"), s->note) != 0
             ? words_text(view, "warning")
             : "");
    for (uint32_t i = 0; i < s->step_count; i++) line(out, t, i ? "" : "do", s->steps[i]);
}

/* --- the story -------------------------------------------------------------------------------- */

static bool kind_is(const cJSON *e, const char *kind)
{
    return e && strcmp(words_text(e, "kind"), kind) == 0;
}

/* Endings that differ only in when they were. */
static bool same_ending(const cJSON *a, const cJSON *b)
{
    static const char *const keys[] = { "kind", "name", "stage", "reason" };
    const cJSON *x = cJSON_GetObjectItemCaseSensitive(a, "cause"),
                *y = cJSON_GetObjectItemCaseSensitive(b, "cause");
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (strcmp(words_text(x, keys[i]), words_text(y, keys[i])) != 0) return false;
    }
    return words_number(x, "close_code") == words_number(y, "close_code") &&
           words_number(x, "http_status") == words_number(y, "http_status") &&
           words_number(a, "line") == words_number(b, "line") &&
           strcmp(words_text(a, "pace"), words_text(b, "pace")) == 0 &&
           strcmp(words_text(a, "drop"), words_text(b, "drop")) == 0;
}

/* What the story leaves out: states between an ending and coming up, and the alarm that repeats its
 * stop. */
static bool tells(const cJSON *e, const cJSON *newer)
{
    if (kind_is(e, "decision")) return true;
    if (kind_is(e, "state")) {
        return strcmp(words_text(e, "to"), "up") == 0;
    }
    if (kind_is(e, "alarm")) {
        return !newer || strstr(words_text(newer, "text"), words_text(e, "text")) == NULL;
    }
    return true;
}

static void begin(struct buffer *out, const struct term *t, const cJSON *e, uint64_t now_ms,
                  uint32_t *column)
{
    char clock[WORDS_MAX];
    uint64_t at_ms = words_time(words_text(e, "at"));
    why_clock(at_ms, now_ms, clock);
    buffer_printf(out, "  %s%s%s  ", term_on(t, TERM_DIM), clock, term_off(t, TERM_DIM));
    *column = 4 + (uint32_t)strlen(clock);
}

static void print_entry(struct buffer *out, const struct term *t, const cJSON *e, uint64_t now_ms)
{
    char text[WHY_TEXT_MAX * 2 + 8], a[WHY_TEXT_MAX], b[WHY_TEXT_MAX];
    uint32_t column;
    begin(out, t, e, now_ms, &column);
    if (kind_is(e, "state")) {
        snprintf(text, sizeof text, "up (link %.0f)", words_number(e, "generation"));
        buffer_append_text(out, term_on(t, TERM_GREEN));
        wrap(out, t, column, column, text);
        buffer_append_text(out, term_off(t, TERM_GREEN));
        return;
    }
    if (!kind_is(e, "decision")) {
        enum term_colour colour = kind_is(e, "alarm")  ? TERM_RED
                                  : kind_is(e, "hook") ? TERM_YELLOW
                                                       : TERM_PLAIN;
        buffer_append_text(out, term_on(t, colour));
        wrap(out, t, column, column, words_text(e, "text"));
        buffer_append_text(out, term_off(t, colour));
        return;
    }
    bool stop =
        strcmp(words_text(e, "pace"), "stop") == 0 && strcmp(words_text(e, "by"), "operator") != 0;
    buffer_append_text(out, term_on(t, stop ? TERM_RED : TERM_YELLOW));
    wrap(out, t, column, column, why_cause(cJSON_GetObjectItemCaseSensitive(e, "cause"), a));
    buffer_append_text(out, term_off(t, stop ? TERM_RED : TERM_YELLOW));
    snprintf(text, sizeof text, "%s, %s", why_outcome(e, a), why_by(e, words_text(e, "file"), b));
    buffer_printf(out, "%*s-> ", (int)column, "");
    wrap(out, t, column + 3, column + 3, text);
}

static void print_all(struct buffer *out, const struct term *t, const cJSON *journal,
                      uint64_t now_ms)
{
    const cJSON *e;
    uint32_t column;
    cJSON_ArrayForEach(e, journal)
    {
        begin(out, t, e, now_ms, &column);
        wrap(out, t, column, column, words_text(e, "text"));
    }
}

static void print_story(struct buffer *out, const struct term *t, const cJSON *journal,
                        uint64_t now_ms)
{
    const cJSON *newest = NULL, *e; /* of a run of endings that are the same */
    const cJSON *oldest = NULL;
    uint32_t repeats = 0, told = 0;
    char clock[WORDS_MAX];
    for (e = journal ? journal->child : NULL;; e = e->next) {
        if (e && !tells(e, e == journal->child ? NULL : e->prev)) continue;
        if (e && newest && kind_is(e, "decision") && same_ending(newest, e)) {
            oldest = e;
            repeats++;
            continue;
        }
        if (repeats) {
            why_clock(words_time(words_text(oldest, "at")), now_ms, clock);
            buffer_printf(out, "  %*s  and %u time%s more before that, since %s\n", 8, "", repeats,
                          repeats > 1 ? "s" : "", clock);
        }
        if (!e) break;
        repeats = 0;
        newest = kind_is(e, "decision") ? e : NULL;
        print_entry(out, t, e, now_ms);
        told++;
    }
    if (!told) buffer_append_text(out, "  nothing happened yet\n");
}

/* --- JSON ------------------------------------------------------------------------------------- */

static void print_json(struct buffer *out, const struct ask_answer *view, const cJSON *journal,
                       const struct why_summary *s)
{
    cJSON *root = cJSON_CreateObject(), *sum = cJSON_AddObjectToObject(root, "summary");
    const struct {
        const char *key, *text;
    } texts[] = { { "headline", s->headline }, { "since", s->since },
                  { "because", s->because },   { "decided", s->decided },
                  { "note", s->note },         { "budget", s->budget },
                  { "next", s->next },         { "recovers", s->recovers },
                  { "life", s->life },         { "down", s->down },
                  { "whose", s->whose },
                  { "weather", s->weather },   { "trial", s->trial } };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (texts[i].text[0]) cJSON_AddStringToObject(sum, texts[i].key, texts[i].text);
    }
    cJSON *steps = cJSON_AddArrayToObject(sum, "do");
    for (uint32_t i = 0; i < s->step_count; i++)
        cJSON_AddItemToArray(steps, cJSON_CreateString(s->steps[i]));
    cJSON_AddItemReferenceToObject(root, "connection", view->json);
    if (journal) cJSON_AddItemReferenceToObject(root, "journal", (cJSON *)journal);
    char *text = cJSON_Print(root);
    if (text) {
        buffer_append_text(out, text);
        buffer_append_char(out, '\n');
    }
    cJSON_free(text);
    cJSON_Delete(root);
}

static enum cli_exit run(struct cli *cli)
{
    char path[CLIENT_PATH_MAX], why[512];
    struct ask_answer view, entries;
    if (cli->word_count == 0) return cli_misuse(cli, "why needs a connection's name");
    if (!client_find(cli, path, why, sizeof why)) {
        cli_complain("%s", why);
        return CLI_FAILED;
    }
    const char *name = cli->words[0];
    if (!ask_connection(path, name, "", &view)) return CLI_FAILED;
    if (!ask_connection(path, name, "/journal?limit=" JOURNAL_ENTRIES, &entries)) {
        ask_deinit(&view);
        return CLI_FAILED;
    }
    const cJSON *journal = cJSON_GetObjectItemCaseSensitive(entries.json, "journal");
    uint64_t now_ms = words_now_ms();
    struct term term = term_find();
    struct why_summary s;
    struct buffer out;
    buffer_init(&out, 0);
    why_summarise(view.json, journal, now_ms, &s);
    struct ask_answer store;
    const bool asked = ask(path, "GET", "/v1/store", NULL, NULL, 0, &store);
    if (cli_get(cli, "--json")) {
        print_json(&out, &view, journal, &s);
    } else {
        if (asked) words_store(&out, &term, store.json);
        print_summary(&out, &term, view.json, &s);
        buffer_append_char(&out, '\n');
        if (cli_get(cli, "--all"))
            print_all(&out, &term, journal, now_ms);
        else
            print_story(&out, &term, journal, now_ms);
    }
    ask_print(&out);
    buffer_deinit(&out);
    if (asked) ask_deinit(&store);
    ask_deinit(&view);
    ask_deinit(&entries);
    return CLI_OK;
}
