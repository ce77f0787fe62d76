/* Assertions end the process: a state that cannot be must not go on writing. Marks are the one
 * process-wide list of the project; they exist in test builds only. */
#include "base/assert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void assert_failed(const char *expression, const char *file, int line)
{
    fprintf(stderr, "holdfast: %s:%d: assertion failed: %s\n", file, line, expression);
    fflush(stderr);
    abort();
}

#ifdef HOLDFAST_TEST
static struct mark *marks;

void mark_hit(struct mark *m)
{
    m->hits++;
    if (m->listed) return;
    m->listed = 1;
    m->next = marks;
    marks = m;
}

unsigned long mark_hits(const char *name)
{
    unsigned long hits = 0;
    for (struct mark *m = marks; m; m = m->next) {
        if (strcmp(m->name, name) == 0) hits += m->hits;
    }
    return hits;
}

void mark_reset_all(void)
{
    for (struct mark *m = marks; m; m = m->next) m->hits = 0;
}
#endif
