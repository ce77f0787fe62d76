/* stop, start, restart: tell the running holdfast what a connection shall be, and wait until it is.
 * Waits on the stream of states, so that nothing is asked twice a second; it subscribes before it
 * orders. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/duration.h"
#include "base/text.h"
#include "cli/ask.h"
#include "cli/words.h"

#define WAIT_DEFAULT   "15s"
#define LINE_BYTES_MAX ((size_t)128 << 20)

struct order {
    const char *path, *name, *verb; /* borrowed */
    uint64_t wait_ms, began_ms;     /* monotonic */
    bool json;
    bool spend_reserve;
    double generation; /* a restart wants a newer one than this */
    int fd;            /* states; -1: none */
    struct buffer in;  /* owned */
};

static enum cli_exit run(struct cli *cli);

static const struct cli_option options[] = {
    { "--wait", NULL, "TIME",
      "how long to wait for the new state (" WAIT_DEFAULT "; 0: not at all)", false },
    { "--json", NULL, NULL, "the connection's JSON once it is done", false },
    CLIENT_OPTIONS,
    { 0 },
};

static const struct cli_option start_options[] = {
    { "--wait", NULL, "TIME",
      "how long to wait for the new state (" WAIT_DEFAULT "; 0: not at all)", false },
    { "--spend-reserve", NULL, NULL,
      "its next session start may be of the share that the policy keeps for people", false },
    { "--json", NULL, NULL, "the connection's JSON once it is done", false },
    CLIENT_OPTIONS,
    { 0 },
};

const struct cli_command cli_stop = {
    .name = "stop",
    .usage = "stop NAME [--wait TIME] [--json] [--socket PATH | -c FILE]",
    .about = "Close a connection for good and keep it closed until `holdfast start`",
    .text = "  holdfast stop support-bot\n\n"
            "The close is final: the platform ends the session, a later start makes a new one. The "
            "exit code is\n"
            "0 once the connection is stopped, 1 when it is not within --wait.\n",
    .options = options,
    .words_max = 1,
    .run = run,
};

const struct cli_command cli_start = {
    .name = "start",
    .usage = "start NAME [--spend-reserve] [--wait TIME] [--json] [--socket PATH | -c FILE]",
    .about = "Start a connection that is stopped, or let one that waits dial at once",
    .text = "  holdfast start support-bot\n"
            "  holdfast start support-bot --wait 2m    for a budget that has no permit now\n"
            "  holdfast start support-bot --spend-reserve\n\n"
            "Forgets the failures so far; budgets are kept all the same. The exit code is 0 once "
            "the connection\n"
            "is up, 1 when it is stopped again or not up within --wait; then it goes on trying.\n"
            "--spend-reserve lets one session start be of the share that `budgets.start.operators` "
            "keeps for\n"
            "people; it is refused, with the time of the next one, when that is used up as well.\n",
    .options = start_options,
    .words_max = 1,
    .run = run,
};

const struct cli_command cli_restart = {
    .name = "restart",
    .usage = "restart NAME [--wait TIME] [--json] [--socket PATH | -c FILE]",
    .about = "Close a connection's link so that its session can be resumed, and dial again",
    .text = "  holdfast restart support-bot\n\n"
            "The exit code is 0 once a new link is up, 1 when there is none within --wait.\n",
    .options = options,
    .words_max = 1,
    .run = run,
};

static uint64_t mono_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* --- the stream of states --------------------------------------------------------------------- */

static bool states_open(struct order *o)
{
    char why[512], line[256];
    o->fd = client_connect(o->path, why, sizeof why);
    if (o->fd < 0) {
        cli_complain("%s", why);
        return false;
    }
    int n = snprintf(line, sizeof line,
                     "{\"attach\":{\"connections\":[\"%s\"],\"from\":\"now\"}}\n", o->name);
    if (client_write(o->fd, line, (size_t)n)) return true;
    cli_complain("the holdfast at %s hung up", o->path);
    return false;
}

/* The next line of the kind `begin`; others are dropped. False with *why when there is none in
 * time. */
static bool states_next(struct order *o, const char *begin, const char **why)
{
    for (;;) {
        char *end;
        while (o->in.len && (end = memchr(o->in.data, '\n', o->in.len))) {
            size_t len = (size_t)(end - (char *)o->in.data) + 1;
            bool found = len > strlen(begin) && memcmp(o->in.data, begin, strlen(begin)) == 0;
            buffer_consume(&o->in, len);
            if (found) return true;
        }
        uint64_t spent = mono_ms() - o->began_ms;
        *why = "time";
        if (spent >= o->wait_ms) return false;
        uint64_t left = o->wait_ms - spent;
        struct pollfd p = { .fd = o->fd, .events = POLLIN };
        if (poll(&p, 1, left > 1000000 ? 1000000 : (int)left) <= 0) continue;
        *why = "the holdfast went away";
        if (!buffer_reserve(&o->in, 65536)) return false;
        ssize_t n = recv(o->fd, o->in.data + o->in.len, 65536, 0);
        if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (n <= 0) return false;
        o->in.len += (size_t)n;
    }
}

/* --- what is true, and what was wanted -------------------------------------------------------- */

enum outcome { GOES_ON, DONE, FAILED };

static enum outcome judge(const struct order *o, const cJSON *view)
{
    const char *state = words_text(view, "state");
    bool stopped = strcmp(state, "stopped") == 0;
    if (strcmp(o->verb, "stop") == 0) return stopped ? DONE : GOES_ON;
    if (stopped && cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(view, "stop_is_fatal")))
        return FAILED;
    if (strcmp(state, "up") != 0) return GOES_ON;
    return words_number(view, "generation") > o->generation ? DONE : GOES_ON;
}

static enum cli_exit tell(const struct order *o, const struct ask_answer *a, const char *already)
{
    char words[WORDS_MAX], text[WORDS_MAX * 2 + 64] = "";
    const cJSON *next = cJSON_GetObjectItemCaseSensitive(a->json, "next");
    const char *state = words_text(a->json, "state");
    bool up = strcmp(state, "up") == 0;
    if (o->json) {
        ask_print(&a->body);
    } else if (already[0]) {
        printf("%s is %s%s\n", o->name, state, already);
    } else if (up) {
        printf("%s is up, link %.0f, after %s\n", o->name, words_number(a->json, "generation"),
               words_span(mono_ms() - o->began_ms, words));
    } else {
        const cJSON *cause = cJSON_GetObjectItemCaseSensitive(a->json, "cause");
        words_cause(cause, words);
        /* What an operator did before this order explains nothing now. */
        bool old = strcmp(words_text(cause, "by"), "operator") == 0 && strcmp(o->verb, "stop") != 0;
        if (words[0] && !old) snprintf(text, sizeof text, ": %s", words);
        if (next) {
            size_t len = strlen(text);
            words_next(words_text(next, "what"), words_text(next, "at"), words_now_ms(), words);
            if (words[0]) snprintf(text + len, sizeof text - len, "; next: %s", words);
        }
        struct buffer line;
        buffer_init(&line, 0);
        text_printable(&line, text, strlen(text));
        printf("%s is %s%.*s\n", o->name, state, (int)line.len, (const char *)line.data);
        buffer_deinit(&line);
    }
    return CLI_OK;
}

/* Waits until it is so, it cannot be any more, or the time is over. */
static enum cli_exit follow(struct order *o)
{
    struct ask_answer a;
    const char *why = "";
    char words[WORDS_MAX];
    for (;;) {
        bool told = states_next(o, "{\"state\":", &why);
        if (!told && strcmp(why, "time") != 0) {
            cli_complain("%s", why);
            return CLI_FAILED;
        }
        if (!ask_connection(o->path, o->name, "", &a)) return CLI_FAILED;
        enum outcome outcome = judge(o, a.json);
        if (outcome != GOES_ON || !told) {
            tell(o, &a, "");
            ask_deinit(&a);
            if (outcome == DONE) return CLI_OK;
            if (outcome == FAILED) {
                cli_complain("that did not help: `holdfast why %s` tells more", o->name);
            } else {
                cli_complain("not done after %s, and it goes on: `holdfast why %s` tells more",
                             words_span(o->wait_ms, words), o->name);
            }
            return CLI_FAILED;
        }
        ask_deinit(&a);
    }
}

static enum cli_exit give(struct order *o)
{
    struct ask_answer before, a;
    const char *why = "";
    if (!ask_connection(o->path, o->name, "", &before)) return CLI_FAILED;
    const char *state = words_text(before.json, "state");
    bool restart = strcmp(o->verb, "restart") == 0;
    bool already = strcmp(state, strcmp(o->verb, "stop") == 0 ? "stopped" : "up") == 0 && !restart;
    if (already) {
        enum cli_exit result = tell(o, &before, " already");
        ask_deinit(&before);
        return result;
    }
    ask_deinit(&before);
    if (o->wait_ms && (!states_open(o) || !states_next(o, "{\"hello\":", &why))) {
        if (why[0]) cli_complain("the holdfast at %s does not tell its states", o->path);
        return CLI_FAILED;
    }
    const char *verb = o->spend_reserve ? "start?spend_reserve=1" : o->verb;
    if (!ask_order(o->path, o->name, verb, NULL, NULL, 0, &a)) return CLI_FAILED;
    if (a.status >= 300) {
        ask_complain(o->path, &a);
        ask_deinit(&a);
        return CLI_FAILED;
    }
    /* The answer tells what was true before the order took effect. */
    state = words_text(a.json, "state");
    bool open =
        strcmp(state, "up") == 0 || strcmp(state, "linking") == 0 || strcmp(state, "closing") == 0;
    if (restart && open) o->generation = words_number(a.json, "generation");
    enum cli_exit result = CLI_OK;
    bool done =
        !(restart && open) && strcmp(state, strcmp(o->verb, "stop") == 0 ? "stopped" : "up") == 0;
    if (done)
        tell(o, &a, " already");
    else if (!o->wait_ms && o->json)
        ask_print(&a.body);
    else if (!o->wait_ms)
        printf("%s: %s was asked for\n", o->name, o->verb);
    else
        result = follow(o);
    ask_deinit(&a);
    return result;
}

static enum cli_exit run(struct cli *cli)
{
    char path[CLIENT_PATH_MAX], why[512];
    const char *wait = cli_get(cli, "--wait");
    struct order o = { .path = path,
                       .verb = cli->command->name,
                       .json = cli_get(cli, "--json") != NULL,
                       .spend_reserve = strcmp(cli->command->name, "start") == 0 &&
                                        cli_get(cli, "--spend-reserve") != NULL,
                       .generation = -1,
                       .fd = -1 };
    if (cli->word_count == 0) return cli_misuse(cli, "%s needs a connection's name", o.verb);
    if (!wait) wait = WAIT_DEFAULT;
    if (strcmp(wait, "0") != 0 && !duration_parse(wait, strlen(wait), &o.wait_ms)) {
        return cli_misuse(cli, "--wait must be a time such as 30s or 2m, and is %.40s", wait);
    }
    if (!client_find(cli, path, why, sizeof why)) {
        cli_complain("%s", why);
        return CLI_FAILED;
    }
    o.name = cli->words[0];
    o.began_ms = mono_ms();
    buffer_init(&o.in, LINE_BYTES_MAX);
    enum cli_exit result = give(&o);
    if (o.fd >= 0) close(o.fd);
    buffer_deinit(&o.in);
    return result;
}
