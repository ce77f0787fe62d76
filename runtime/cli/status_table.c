/* Status table: see status_table.h. */
#include "cli/status_table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/text.h"
#include "cli/words.h"

/* Which give way first when the terminal is narrow: the highest; 0 never does. */
static const struct {
    const char *head;
    uint8_t rank;
} columns[] = {
    { "NAME", 0 },    { "STATE", 0 },      { "LIFE", 2 }, { "FOR", 0 },     { "FAILED", 3 }, { "CAUSE", 0 },
    { "NEXT", 0 },    { "ROUND TRIP", 4 }, { "IN", 5 },   { "OUT", 7 },     { "BACKLOG", 6 }, { "POLICY", 8 },
};
#define COLUMN_COUNT (sizeof columns / sizeof *columns)
#define CAUSE_COLUMN 5
_Static_assert(COLUMN_COUNT <= GRID_COLUMNS_MAX, "all columns fit a grid");

/* In the order of the rows. */
enum trouble { TROUBLE_FATAL, TROUBLE_PEER, TROUBLE_DOWN, TROUBLE_COMING, TROUBLE_NONE, TROUBLE_WANTED_DOWN };

struct row {
    const cJSON *c;
    enum trouble trouble;
    double failed;
    const char *name;
};

static const cJSON *get(const cJSON *object, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

static bool is(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

static enum trouble trouble_of(const cJSON *c)
{
    const char *state = words_text(c, "state"), *life = words_text(get(c, "life"), "verdict");
    if (is(state, "stopped")) return cJSON_IsTrue(get(c, "stop_is_fatal")) ? TROUBLE_FATAL : TROUBLE_WANTED_DOWN;
    if (is(state, "up")) return is(life, "suspect") || is(life, "dead") ? TROUBLE_PEER : TROUBLE_NONE;
    if (is(state, "waiting") || is(state, "queued")) return TROUBLE_DOWN;
    return words_number(c, "attempt") > 0 ? TROUBLE_DOWN : TROUBLE_COMING;
}

static int row_compare(const void *left, const void *right)
{
    const struct row *a = left, *b = right;
    if (a->trouble != b->trouble) return a->trouble < b->trouble ? -1 : 1;
    if (a->failed != b->failed) return a->failed > b->failed ? -1 : 1;
    return strcmp(a->name, b->name);
}

static enum term_colour life_colour(const char *life)
{
    return is(life, "suspect") ? TERM_YELLOW : is(life, "dead") ? TERM_RED : is(life, "quiet") ? TERM_DIM : TERM_PLAIN;
}

static void add_count(struct grid *g, double n, bool shown)
{
    char text[32];
    snprintf(text, sizeof text, "%.0f", n);
    grid_add(g, TERM_PLAIN, shown ? text : "");
}

static void add_row(struct grid *g, const cJSON *c, uint64_t now_ms)
{
    char words[WORDS_MAX], text[WORDS_MAX + 64];
    const char *state = words_text(c, "state"), *life = words_text(get(c, "life"), "verdict");
    const cJSON *pulse = get(c, "pulse"), *frames = get(c, "frames"), *policy = get(c, "policy"), *next = get(c, "next");
    const bool up = is(state, "up"), stopped = is(state, "stopped");
    /* Of one that should be up, since when it is not: its states change with each attempt. */
    const uint64_t down_ms = up || stopped ? 0 : words_time(words_text(c, "down_since"));
    const uint64_t since_ms = down_ms ? down_ms : words_time(words_text(c, "since"));

    grid_add(g, TERM_BOLD, words_text(c, "name"));
    grid_add(g, words_state_colour(state, cJSON_IsTrue(get(c, "stop_is_fatal"))), state);
    grid_add(g, up ? life_colour(life) : TERM_DIM, up ? life : "");
    grid_add(g, TERM_PLAIN, since_ms && since_ms <= now_ms ? words_span(now_ms - since_ms, words) : "0.0s");
    add_count(g, words_number(c, "attempt"), words_number(c, "attempt") > 0);
    grid_add(g, up ? TERM_DIM : TERM_PLAIN, words_cause(get(c, "cause"), words));
    grid_add(g, up ? TERM_DIM : TERM_PLAIN, words_next(words_text(next, "what"), words_text(next, "at"), now_ms, words));
    snprintf(text, sizeof text, "%.0f ms", words_number(pulse, "round_trip_ms"));
    grid_add(g, TERM_PLAIN, words_text(pulse, "round_trip_of")[0] ? text : "");
    add_count(g, words_number(frames, "in"), true);
    add_count(g, words_number(frames, "out"), true);
    add_count(g, words_number(get(c, "backlog"), "frames"), true);
    snprintf(text, sizeof text, "%.63s v%.0f", words_text(policy, "name"), words_number(policy, "version"));
    grid_add(g, TERM_PLAIN, text);
}

void status_counts(const cJSON *list, char *text, size_t text_bytes, enum term_colour *colour)
{
    static const char *const states[] = { "waiting", "queued", "preparing", "linking", "closing", "stopped" };
    static const char *const lives[] = { "alive", "quiet", "suspect", "dead" };
    uint32_t in[6] = { 0 }, of[4] = { 0 }, up = 0, all = 0, fatal = 0;
    const cJSON *c;
    cJSON_ArrayForEach(c, list)
    {
        const char *state = words_text(c, "state"), *life = words_text(get(c, "life"), "verdict");
        all++;
        for (int i = 0; i < 6; i++) in[i] += is(state, states[i]);
        fatal += trouble_of(c) == TROUBLE_FATAL;
        if (!is(state, "up")) continue;
        up++;
        for (int i = 0; i < 4; i++) of[i] += is(life, lives[i]);
    }
    int n = snprintf(text, text_bytes, "%u of %u %s up", up, all, all == 1 ? "is" : "are");
    const char *before = " (";
    for (int i = 0; i < 4 && n < (int)text_bytes; i++) {
        if (!of[i]) continue;
        n += snprintf(text + n, text_bytes - (size_t)n, "%s%u %s", before, of[i], lives[i]);
        before = ", ";
    }
    if (before[0] == ',' && n < (int)text_bytes) n += snprintf(text + n, text_bytes - (size_t)n, ")");
    for (int i = 0; i < 6 && n < (int)text_bytes; i++) {
        if (in[i]) n += snprintf(text + n, text_bytes - (size_t)n, ", %u %s", in[i], states[i]);
    }
    if (fatal && n < (int)text_bytes) snprintf(text + n, text_bytes - (size_t)n, " (%u for good)", fatal);
    *colour = fatal || of[3] ? TERM_RED : up + in[5] < all || of[2] ? TERM_YELLOW : TERM_GREEN;
}

static void weather(struct buffer *out, const struct term *t, const cJSON *fronts)
{
    const cJSON *f;
    cJSON_ArrayForEach(f, fronts)
    {
        const char *text = words_text(f, "text");
        buffer_append_text(out, term_on(t, TERM_RED));
        text_printable(out, text, strlen(text));
        buffer_printf(out, "%s\n", term_off(t, TERM_RED));
    }
}

/* Whoever saved a file that was not taken sees it here, until a reload is. */
static void reload(struct buffer *out, const struct term *t, const cJSON *of, uint64_t now_ms)
{
    char when[WORDS_MAX], ago[WORDS_MAX];
    const cJSON *problem;
    uint64_t at_ms = words_time(words_text(of, "at"));
    if (!cJSON_IsTrue(get(of, "refused"))) return;
    buffer_printf(out, "%sreload refused at %s, %s ago: files on disk are not what runs%s\n", term_on(t, TERM_RED),
                  words_clock(at_ms, when), words_span(now_ms > at_ms ? now_ms - at_ms : 0, ago), term_off(t, TERM_RED));
    cJSON_ArrayForEach(problem, get(of, "problems"))
    {
        if (!cJSON_IsString(problem)) continue;
        buffer_append_text(out, "  ");
        text_printable(out, problem->valuestring, strlen(problem->valuestring));
        buffer_append_char(out, '\n');
    }
}

static void printable(struct buffer *out, const char *before, const char *text)
{
    buffer_append_text(out, before);
    text_printable(out, text, strlen(text));
}

static const char *clock_at(const cJSON *e, const char *key, char out[WORDS_MAX])
{
    return words_clock(words_time(words_text(e, key)), out);
}

/* New versions that run on a share first, and files that are not what runs. */
static void trials(struct buffer *out, const struct term *t, const cJSON *root)
{
    const cJSON *e;
    char from[WORDS_MAX], until[WORDS_MAX];
    cJSON_ArrayForEach(e, get(root, "trials"))
    {
        if (!cJSON_IsTrue(get(e, "watching"))) continue;
        buffer_append_text(out, term_on(t, TERM_YELLOW));
        printable(out, "", words_text(e, "policy"));
        buffer_printf(out, " v%.0f is on trial since %s, until %s at least: ", words_number(e, "version"), clock_at(e, "since", from),
                      clock_at(e, "until", until));
        printable(out, "tried: ", words_text(e, "tried_text"));
        printable(out, "; the others: ", words_text(e, "others_text"));
        if (words_text(e, "waits")[0]) printable(out, "; ", words_text(e, "waits"));
        buffer_printf(out, "%s\n", term_off(t, TERM_YELLOW));
    }
    cJSON_ArrayForEach(e, get(root, "taken_back"))
    {
        buffer_append_text(out, term_on(t, TERM_RED));
        printable(out, "", words_text(e, "file"));
        buffer_printf(out, " v%.0f was taken back at %s: ", words_number(e, "version"), clock_at(e, "at", from));
        printable(out, "", words_text(e, "why"));
        buffer_printf(out, "; the file is NOT what runs: v%.0f does%s\n", words_number(e, "serves"), term_off(t, TERM_RED));
    }
}

/* What was put over the API and is not what runs. */
static void puts_told(struct buffer *out, const struct term *t, const cJSON *of, uint64_t now_ms)
{
    char when[WORDS_MAX], ago[WORDS_MAX];
    const cJSON *e;
    cJSON_ArrayForEach(e, get(of, "proving"))
    {
        if (!cJSON_IsString(e)) continue;
        buffer_append_text(out, term_on(t, TERM_YELLOW));
        printable(out, "", e->valuestring);
        buffer_printf(out, ": what was put is being proven before it is taken%s\n", term_off(t, TERM_YELLOW));
    }
    cJSON_ArrayForEach(e, get(of, "refused"))
    {
        uint64_t at_ms = words_time(words_text(e, "at"));
        buffer_append_text(out, term_on(t, TERM_RED));
        printable(out, "", words_text(e, "connection"));
        buffer_printf(out, ": what was put at %s, %s ago, was refused by the gate%s\n  ", words_clock(at_ms, when),
                      words_span(now_ms > at_ms ? now_ms - at_ms : 0, ago), term_off(t, TERM_RED));
        printable(out, "", words_text(e, "why"));
        buffer_append_char(out, '\n');
    }
}

void status_table(struct buffer *out, const struct term *t, const cJSON *root, const struct status_table *how)
{
    const char *heads[COLUMN_COUNT];
    const cJSON *list = get(root, "connections"), *c;
    const uint32_t count = (uint32_t)cJSON_GetArraySize(list);
    struct row *rows = calloc(count + 1, sizeof *rows);
    ASSERT(rows != NULL);
    uint32_t n = 0, healthy = 0, shown = 0;
    cJSON_ArrayForEach(c, list)
    {
        rows[n++] = (struct row){ .c = c, .trouble = trouble_of(c), .failed = words_number(c, "attempt"),
                                  .name = words_text(c, "name") };
    }
    qsort(rows, n, sizeof *rows, row_compare);

    words_store(out, t, get(root, "store"));
    weather(out, t, get(root, "weather"));
    reload(out, t, get(root, "reload"), how->now_ms);
    trials(out, t, root);
    puts_told(out, t, get(root, "puts"), how->now_ms);
    if (n > 1) {
        char text[WORDS_MAX];
        enum term_colour colour;
        status_counts(list, text, sizeof text, &colour);
        buffer_printf(out, "%s%s%s\n", term_on(t, colour), text, term_off(t, colour));
    }
    struct grid g;
    for (size_t i = 0; i < COLUMN_COUNT; i++) heads[i] = columns[i].head;
    grid_init(&g, heads, COLUMN_COUNT, CAUSE_COLUMN);
    for (size_t i = 0; i < COLUMN_COUNT; i++) g.rank[i] = columns[i].rank;
    for (uint32_t i = 0; i < n; i++) {
        const bool well = rows[i].trouble >= TROUBLE_NONE;
        if (well && how->rows_max && shown >= how->rows_max) {
            healthy++;
            continue;
        }
        add_row(&g, rows[i].c, how->now_ms);
        shown++;
    }
    grid_print(&g, t, out);
    grid_deinit(&g);
    if (healthy) {
        buffer_printf(out, "%s... and %u more without trouble (--all shows them)%s\n", term_on(t, TERM_DIM), healthy,
                      term_off(t, TERM_DIM));
    }
    free(rows);
}
