/* Terminal: widths, colours, tables. */
#include "cli/term.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/text.h"

#define COLUMN_GAP 2
#define SHRUNK_MIN 12
#define SHRUNK_WELL 24 /* rather than read less of it, columns that can be spared are left out */

struct term term_find(void)
{
    struct term t = { .terminal = isatty(STDOUT_FILENO), .columns = TERM_WIDE };
    const char *no_colour = getenv("NO_COLOR"), *name = getenv("TERM"), *columns = getenv("COLUMNS");
    struct winsize size;
    t.colours = t.terminal && !(no_colour && *no_colour) && !(name && strcmp(name, "dumb") == 0);
    if (t.terminal && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col >= 20) {
        t.columns = size.ws_col;
        t.lines = size.ws_row;
    } else if (columns && atoi(columns) >= 20) {
        t.columns = (uint32_t)atoi(columns);
    }
    return t;
}

const char *term_on(const struct term *t, enum term_colour c)
{
    static const char *const codes[] = { "",           "\033[2m",  "\033[1m", "\033[1;31m",
                                         "\033[32m", "\033[33m", "\033[36m" };
    return t->colours ? codes[c] : "";
}

const char *term_off(const struct term *t, enum term_colour c)
{
    return t->colours && c != TERM_PLAIN ? "\033[0m" : "";
}

uint32_t term_width(const char *text)
{
    uint32_t n = 0;
    for (; *text; text++) n += ((uint8_t)*text & 0xc0) != 0x80;
    return n;
}

void grid_init(struct grid *t, const char *const *heads, uint32_t columns, uint32_t shrinks)
{
    ASSERT(columns <= GRID_COLUMNS_MAX);
    memset(t, 0, sizeof *t);
    t->heads = heads;
    t->columns = columns;
    t->shrinks = shrinks;
}

void grid_deinit(struct grid *t)
{
    for (uint32_t i = 0; i < t->count; i++) free(t->cells[i].text);
    free(t->cells);
}

void grid_add(struct grid *t, enum term_colour colour, const char *text)
{
    struct buffer b;
    if (t->count == t->capacity) {
        t->capacity = t->capacity ? t->capacity * 2 : 64;
        t->cells = realloc(t->cells, t->capacity * sizeof *t->cells);
        ASSERT(t->cells != NULL);
    }
    buffer_init(&b, 0);
    if (!text || !*text) text = "-";
    ASSERT(text_printable(&b, text, strlen(text)) && buffer_append_char(&b, 0));
    t->cells[t->count++] = (struct grid_cell){ .text = (char *)b.data, .colour = colour };
}

/* At most `width` columns; what is cut ends in "…". */
static void put(struct buffer *out, const struct term *term, enum term_colour colour, const char *text,
                uint32_t width, bool last)
{
    uint32_t full = term_width(text), shown = full <= width ? full : width - 1;
    const char *end = text;
    for (uint32_t n = 0; *end; end++) {
        if (((uint8_t)*end & 0xc0) != 0x80 && n++ == shown) break;
    }
    buffer_append_text(out, term_on(term, colour));
    buffer_append(out, text, (size_t)(end - text));
    if (full > width) {
        buffer_append_text(out, "…");
        shown++;
    }
    buffer_append_text(out, term_off(term, colour));
    for (; !last && shown < width + COLUMN_GAP; shown++) buffer_append_char(out, ' ');
}

/* Of all columns that are shown. */
static uint32_t total_of(const struct grid *t, const uint32_t *widths)
{
    uint32_t total = 0;
    for (uint32_t c = 0; c < t->columns; c++) total += widths[c] ? widths[c] + COLUMN_GAP : 0;
    return total ? total - COLUMN_GAP : 0;
}

/* Columns that can be spared are, the rest shrinks: first the one that is meant to, then the first. */
static void fit(const struct grid *t, uint32_t columns, uint32_t *widths)
{
    uint32_t *give = &widths[t->shrinks];
    for (;;) {
        const uint32_t total = total_of(t, widths), spare = *give > SHRUNK_WELL ? *give - SHRUNK_WELL : 0;
        uint32_t out = 0;
        if (total <= columns + spare) break;
        for (uint32_t c = 0; c < t->columns; c++)
            if (widths[c] && t->rank[c] > t->rank[out]) out = c;
        if (!t->rank[out]) break;
        widths[out] = 0;
    }
    for (int i = 0; i < 2; i++) {
        const uint32_t total = total_of(t, widths);
        if (total <= columns || *give <= SHRUNK_MIN) {
            give = &widths[0];
            continue;
        }
        const uint32_t over = total - columns;
        *give = *give > over + SHRUNK_MIN ? *give - over : SHRUNK_MIN;
        give = &widths[0];
    }
}

void grid_print(const struct grid *t, const struct term *term, struct buffer *out)
{
    uint32_t widths[GRID_COLUMNS_MAX], last = 0, rows = t->count / t->columns;
    for (uint32_t c = 0; c < t->columns; c++) {
        bool any = false;
        widths[c] = term_width(t->heads[c]);
        for (uint32_t r = 0; r < rows; r++) {
            const char *text = t->cells[r * t->columns + c].text;
            uint32_t w = term_width(text);
            any = any || strcmp(text, "-") != 0;
            if (w > widths[c]) widths[c] = w;
        }
        if (!any) widths[c] = 0;
    }
    fit(t, term->columns, widths);
    for (uint32_t c = 0; c < t->columns; c++)
        if (widths[c]) last = c;
    for (uint32_t c = 0; c < t->columns; c++) {
        if (widths[c]) put(out, term, TERM_DIM, t->heads[c], widths[c], c == last);
    }
    buffer_append_char(out, '\n');
    for (uint32_t r = 0; r < rows; r++) {
        for (uint32_t c = 0; c < t->columns; c++) {
            const struct grid_cell *cell = &t->cells[r * t->columns + c];
            if (widths[c]) put(out, term, cell->colour, cell->text, widths[c], c == last);
        }
        buffer_append_char(out, '\n');
    }
}
