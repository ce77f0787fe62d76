/* Why: a connection's state and its causes as an operator needs them told. Pure: reads the API's
 * JSON, writes sentences; whoever prints them makes them printable. */
#ifndef HOLDFAST_CLI_WHY_H
#define HOLDFAST_CLI_WHY_H

#include <cjson/cJSON.h>

#include "cli/words.h"

#define WHY_TEXT_MAX  700
#define WHY_STEPS_MAX 5

struct why_summary {
    char headline[WHY_TEXT_MAX]; /* "support-bot is stopped, and stays so" */
    char since[WHY_TEXT_MAX];
    char down[WHY_TEXT_MAX];    /* "": it is up, or nobody wants it to be */
    char whose[WHY_TEXT_MAX];   /* doing it is, as far as this side can tell; "" */
    char because[WHY_TEXT_MAX]; /* "": nothing happened yet */
    char decided[WHY_TEXT_MAX]; /* "": nothing was */
    char note[WHY_TEXT_MAX];    /* what the rule says to people; "" */
    char weather[WHY_TEXT_MAX]; /* whom else it concerns; "" */
    char trial[WHY_TEXT_MAX];   /* that it runs a version on trial; "" */
    char budget[WHY_TEXT_MAX];  /* ""; while one holds it up */
    char life[WHY_TEXT_MAX];    /* while it is up: the verdict about the peer, and its evidence */
    char next[WHY_TEXT_MAX];
    char recovers[WHY_TEXT_MAX];
    char steps[WHY_STEPS_MAX][WHY_TEXT_MAX]; /* what an operator can do */
    uint32_t step_count;
};

/* `view`: GET /v1/connections/NAME; `journal`: its array, newest first, or NULL. */
void why_summarise(const cJSON *view, const cJSON *journal, uint64_t now_ms,
                   struct why_summary *out);

/* "closed with 4004: Authentication failed. (by the platform, while greeting)"; "" for no cause. */
const char *why_cause(const cJSON *cause, char out[WHY_TEXT_MAX]);
/* "dial again after 0.8s, session kept" and so on; `file` is where its line stands. */
const char *why_outcome(const cJSON *decision, char out[WHY_TEXT_MAX]);
/* "rule policies/discord.lua:72 (its note)": who decided. */
const char *why_by(const cJSON *decision, const char *file, char out[WHY_TEXT_MAX]);
/* "06:31:12", with the day when that is not today's. */
const char *why_clock(uint64_t wall_ms, uint64_t now_ms, char out[WORDS_MAX]);

/* why_advice.c: fills recovers and steps from the rest. */
void why_advise(const cJSON *view, uint64_t now_ms, struct why_summary *out);

#endif
