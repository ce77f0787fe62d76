/* trace: what happened to a connection lately, written to a file that `holdfast replay` plays. */
#include <stdio.h>
#include <string.h>

#include "base/duration.h"
#include "cli/ask.h"
#include "cli/files.h"
#include "cli/words.h"

static enum cli_exit run(struct cli *cli);

static const struct cli_option options[] = {
    { "--out", "-o", "FILE", "where to (NAME.trace); - is standard output", false },
    { "--last", NULL, "TIME", "only what is younger: 1h, 30m (all that is kept)", false },
    CLIENT_OPTIONS,
    { 0 },
};

const struct cli_command cli_trace = {
    .name = "trace",
    .usage = "trace NAME [-o FILE] [--last 1h] [--socket PATH | -c FILE]",
    .about = "Write what happened to a connection lately to a file that `holdfast replay` plays",
    .text = "  holdfast trace support-bot                       to support-bot.trace\n"
            "  holdfast trace support-bot --last 1h -o x.trace\n\n"
            "Recorded all the time: the engine's steps with their clocks, what hooks were given (inspected frames\n"
            "after decryption, HTTP answers) and what they did, the policy and the connection's settings. Bounded:\n"
            "quiet hours go first, then the oldest. Secrets stand in it by name alone; what else the platform\n"
            "wrote into frames that hooks read (names, session ids) is there. Data frames are not.\n",
    .options = options,
    .words_max = 1,
    .run = run,
};

static enum cli_exit run(struct cli *cli)
{
    char socket[CLIENT_PATH_MAX], why[512], target[64], path[300], words[WORDS_MAX];
    const char *last = cli_get(cli, "--last"), *out = cli_get(cli, "--out");
    uint64_t last_ms = 0;
    struct ask_answer a;
    if (cli->word_count == 0) return cli_misuse(cli, "trace needs a connection's name");
    const char *name = cli->words[0];
    if (last && (!duration_parse(last, strlen(last), &last_ms) || last_ms == 0)) {
        return cli_misuse(cli, "--last takes a time such as 1h, not `%s`", last);
    }
    if (!client_find(cli, socket, why, sizeof why)) {
        cli_complain("%s", why);
        return CLI_FAILED;
    }
    snprintf(target, sizeof target, "/trace");
    if (last) snprintf(target, sizeof target, "/trace?last=%llums", (unsigned long long)last_ms);
    if (!ask_connection(socket, name, target, &a)) return CLI_FAILED;
    bool ok = a.status == 200;
    if (!ok) {
        ask_complain(socket, &a);
    } else {
        snprintf(path, sizeof path, "%.280s.trace", name);
        for (char *p = path; *p; p++) {
            if (*p == '/') *p = '_';
        }
        if (!out) out = path;
        ok = files_put(out, a.body.data, a.body.len);
        if (ok && strcmp(out, "-") != 0) {
            printf("%s: %s; `holdfast replay %s` plays it\n", out, words_bytes((double)a.body.len, words), out);
        }
    }
    ask_deinit(&a);
    return ok ? CLI_OK : CLI_FAILED;
}
