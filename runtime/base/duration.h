/* Durations and sizes as people write them: "250ms", "45s", "1.5m", "6h", "24h", "2d"; "64MiB",
 * "4096", "16 KiB". */
#ifndef HOLDFAST_BASE_DURATION_H
#define HOLDFAST_BASE_DURATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A year: everything above is a mistake of units. */
#define DURATION_MS_MAX ((uint64_t)366 * 24 * 3600 * 1000)
#define DURATION_TEXT_MAX 24

/* Milliseconds; false for anything that is no duration with a unit or is above DURATION_MS_MAX. */
bool duration_parse(const char *text, size_t len, uint64_t *ms_out);
/* The shortest exact form with at most one decimal: "0s", "1.4s", "6h". Returns `out`. */
const char *duration_format(uint64_t ms, char out[DURATION_TEXT_MAX]);
/* As people say ages: "0.4s", "42s", "3m 5s", "2h 10m", "4d 3h". Returns `out`. */
const char *duration_span(uint64_t ms, char out[DURATION_TEXT_MAX]);
/* Bytes; plain number, or KiB, MiB, GiB, kB, MB. */
bool size_parse(const char *text, size_t len, uint64_t *bytes_out);
/* "2026-11-22T10:00:00.123Z" from Unix milliseconds. `out` holds TIMESTAMP_TEXT_MAX bytes. */
#define TIMESTAMP_TEXT_MAX 32
const char *timestamp_format(uint64_t wall_ms, char out[TIMESTAMP_TEXT_MAX]);

#endif
