/* Words: what the API says in JSON, said to people. Pure, but for the clock that ages are counted from.
 * Results are raw text: whoever prints them makes them printable. */
#ifndef HOLDFAST_CLI_WORDS_H
#define HOLDFAST_CLI_WORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cjson/cJSON.h>

#include "base/buffer.h"
#include "cli/term.h"

#define WORDS_MAX 320

/* Text of an object's key; "" when absent or no text. */
const char *words_text(const cJSON *object, const char *key);
double words_number(const cJSON *object, const char *key);

/* A cause as one phrase without a verb at its start: "closed by the peer with 4000: kicked". "" for null. */
const char *words_cause(const cJSON *cause, char out[WORDS_MAX]);
/* "dial in 3s", "greeting limit in 12s", "" for null; of the `next` of a connection or the `next` and
 * `what` of a state line. */
const char *words_next(const char *what, const char *at, uint64_t now_ms, char out[WORDS_MAX]);
/* Unix milliseconds of "2026-11-22T10:00:00.123Z"; 0 for anything else. */
uint64_t words_time(const char *timestamp);
uint64_t words_now_ms(void);
/* "0.4s", "42s", "3m 5s", "2h 10m", "4d 3h". */
const char *words_span(uint64_t ms, char out[WORDS_MAX]);
/* Local "10:00:00.123". */
const char *words_clock(uint64_t wall_ms, char out[WORDS_MAX]);
/* "812", "3.1 KiB". */
const char *words_bytes(double bytes, char out[WORDS_MAX]);
/* A line about a store that is ill, of GET /v1/store; nothing about a well one. Printable. */
void words_store(struct buffer *out, const struct term *t, const cJSON *store);
enum term_colour words_state_colour(const char *state, bool fatal);

#endif
