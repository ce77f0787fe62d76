/* Log: lines for people on a terminal, logfmt or JSON for machines otherwise. All text is made printable here,
 * once, so that nothing from outside can forge a line or move a cursor.
 *
 * Lines are written by a thread of the log's own: a terminal that was stopped with Ctrl-S or a full pipe
 * must not stop the loop. What does not fit its queue is dropped and counted, and the count is told. */
#ifndef HOLDFAST_OPS_LOG_H
#define HOLDFAST_OPS_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime.h"

struct log; /* opaque */

enum log_form { LOG_FORM_HUMAN, LOG_FORM_LOGFMT, LOG_FORM_JSON };

struct log_field {
    const char *key;  /* a word of ours */
    const char *text; /* NULL: the number */
    uint64_t number;
};

struct log_options {
    int fd;               /* borrowed until log_destroy() */
    enum log_level level; /* what is above it is left out */
    enum log_form form;
    bool colours;
};

/* For this descriptor and environment: HOLDFAST_LOG names the level, a terminal gets the human form, and
 * colours unless NO_COLOR is set. False with a sentence when HOLDFAST_LOG names no level. */
bool log_options_find(struct log_options *options, int fd, char *why, size_t why_bytes);
/* "human", "logfmt", "json"; false for anything else. */
bool log_form_parse(const char *text, enum log_form *form_out);
/* False when `text` is none of debug, info, warning, alarm. */
bool log_level_parse(const char *text, enum log_level *level_out);
const char *log_level_name(enum log_level level);

struct log *log_create(const struct log_options *options); /* owned; NULL: memory or threads are out */
/* Waits at most a second for what is queued. */
void log_destroy(struct log *log);

/* `connection` NULL: none. All text is borrowed until return; a line end in it is escaped. */
void log_line(struct log *log, enum log_level level, const char *connection, const char *text);
/* With fields behind the text; the human form leaves them out. */
void log_fields(struct log *log, enum log_level level, const char *connection, const char *text,
                const struct log_field *fields, uint32_t count);
bool log_wants(const struct log *log, enum log_level level); /* whether lines of this level are written */
void log_printf(struct log *log, enum log_level level, const char *connection, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#endif
