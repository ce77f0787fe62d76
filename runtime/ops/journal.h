/* Journal entries as JSON, for the API and `holdfast why`. Pure. */
#ifndef HOLDFAST_OPS_JOURNAL_H
#define HOLDFAST_OPS_JOURNAL_H

#include "base/buffer.h"
#include "runtime.h"

/* Appends `,"cause":{...},...`: a decision's members. */
bool journal__decision_json(struct buffer *out, const struct decision *d);
bool journal__entry_json(struct buffer *out, const struct journal_entry *e);

#endif
