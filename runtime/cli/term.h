/* Terminal: how wide it is, whether it has colours, and tables that fit it. Writes to standard output only.
 * Everything shown passes text_printable: most of it was said by a server somewhere. */
#ifndef HOLDFAST_CLI_TERM_H
#define HOLDFAST_CLI_TERM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"

struct term {
    bool terminal;    /* standard output is one */
    bool colours;
    uint32_t columns; /* of the terminal, COLUMNS, or TERM_WIDE when it is none */
    uint32_t lines;   /* of the terminal; 0 when it is none */
};

#define TERM_WIDE 1000

enum term_colour { TERM_PLAIN, TERM_DIM, TERM_BOLD, TERM_RED, TERM_GREEN, TERM_YELLOW, TERM_CYAN };

struct term term_find(void);
/* Start and end of a colour: "" without colours. */
const char *term_on(const struct term *t, enum term_colour c);
const char *term_off(const struct term *t, enum term_colour c);
/* Columns that UTF-8 text takes, one per character: names and causes are rarely wider. */
uint32_t term_width(const char *text);

#define GRID_COLUMNS_MAX 12

struct grid_cell {
    char *text; /* owned, printable */
    enum term_colour colour;
};

struct grid {
    uint32_t columns;
    const char *const *heads;        /* borrowed */
    uint32_t shrinks;                /* this column gives way when the terminal is narrow */
    uint8_t rank[GRID_COLUMNS_MAX];  /* then the highest of these are left out; 0: never */
    struct grid_cell *cells;        /* owned, row by row */
    uint32_t count, capacity;
};

void grid_init(struct grid *t, const char *const *heads, uint32_t columns, uint32_t shrinks);
void grid_deinit(struct grid *t);
/* The next cell, row by row. `text`: copied; NULL: "-". */
void grid_add(struct grid *t, enum term_colour colour, const char *text);
/* Appends all to `out`; a column in which no row has a word is left out. */
void grid_print(const struct grid *t, const struct term *term, struct buffer *out);

#endif
