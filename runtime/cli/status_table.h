/* Status table: GET /v1/connections as people read it: a line of counts, the weather, one row per connection,
 * trouble first. Pure: reads the API's JSON, appends text that is made printable. */
#ifndef HOLDFAST_CLI_STATUS_TABLE_H
#define HOLDFAST_CLI_STATUS_TABLE_H

#include <cjson/cJSON.h>

#include "base/buffer.h"
#include "cli/term.h"

struct status_table {
    uint64_t now_ms;    /* wall */
    uint32_t rows_max;  /* healthy ones beyond it are counted, not shown; 0: all are shown */
};

void status_table(struct buffer *out, const struct term *t, const cJSON *root, const struct status_table *how);
/* "41 of 43 are up (40 alive, 1 suspect), 2 waiting", and its colour. */
void status_counts(const cJSON *list, char *text, size_t text_bytes, enum term_colour *colour);

#endif
