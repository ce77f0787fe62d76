/* Specs of traces: what `holdfast replay --spec` writes. */
#ifndef HOLDFAST_CLI_REPLAY_SPEC_H
#define HOLDFAST_CLI_REPLAY_SPEC_H

#include "trace/compare.h"

/* Writes FILE and, beside it, the trace. `policy`: what the spec plays it against; NULL: the trace's own. False
 * after a complaint. */
bool replay_spec_write(const struct trace_file *t, const struct buffer *bytes, const char *trace_path,
                       const char *policy, const char *spec_path);

#endif
