/* upgrade: has the running holdfast replaced by the program that is on disk now. Asks, waits, and looks
 * whether the new one answers; all else is the daemon's. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/duration.h"
#include "base/text.h"
#include "cli/ask.h"
#include "ops/ops.h"

#define WITHIN_DEFAULT_MS 30000
#define DRAIN_S 15 /* the links' own limit, and a little more */

static enum cli_exit run(struct cli *cli);

static const struct cli_option options[] = {
    { "--binary", NULL, "PATH", "another program than the one it was started from", false },
    { "--within", NULL, "TIME", "for the new one to get ready, and again to take over (30s)", false },
    { "--cold", NULL, NULL, "even where sessions are kept in memory and end", false },
    { "--json", NULL, NULL, "the API's own JSON", false },
    CLIENT_OPTIONS,
    { 0 },
};

const struct cli_command cli_upgrade = {
    .name = "upgrade",
    .usage = "upgrade [--binary PATH] [--within TIME] [--cold] [--json] [--socket PATH | -c FILE]",
    .about = "Replace the running holdfast by the program that is on disk now",
    .text = "  holdfast upgrade                                 after a new version was installed\n"
            "  holdfast upgrade --binary /opt/holdfast-2/bin/holdfast\n\n"
            "The new one is started beside the old one, with the same arguments, and checks configuration\n"
            "and policies first. Then the old one closes every link so that its session can be resumed,\n"
            "hands over its listeners and the store, and ends; the new one resumes. Nobody who connects is\n"
            "refused meanwhile: it waits. Consumers are told, and attach again.\n"
            "Whatever goes wrong before the new one has taken over, the old one goes on as it was, the reason\n"
            "is printed, and the exit code is 1. It cannot change `listen` and `store`: that needs a restart.\n",
    .options = options,
    .words_max = 0,
    .run = run,
};

static bool body_make(struct cli *cli, const char *binary, uint64_t within_ms, struct buffer *out)
{
    char path[PATH_MAX * 2] = "", cwd[PATH_MAX];
    if (binary && binary[0] != '/') {
        if (!getcwd(cwd, sizeof cwd)) return false;
        snprintf(path, sizeof path, "%s/%s", cwd, binary);
    } else if (binary) {
        snprintf(path, sizeof path, "%s", binary);
    }
    bool ok = buffer_printf(out, "{\"cold\":%s,\"within_ms\":%llu", cli_get(cli, "--cold") ? "true" : "false",
                            (unsigned long long)within_ms);
    if (ok && binary)
        ok = buffer_append_text(out, ",\"binary\":") && text_json_string(out, path, strlen(path));
    return ok && buffer_append_text(out, "}");
}

static void complain(const char *path, const struct ask_answer *a)
{
    const cJSON *error = cJSON_GetObjectItemCaseSensitive(a->json, "error");
    const cJSON *what = cJSON_GetObjectItemCaseSensitive(error, "what");
    const cJSON *expected = cJSON_GetObjectItemCaseSensitive(error, "expected");
    if (!cJSON_IsString(what) || !cJSON_IsString(expected)) {
        ask_complain(path, a);
        return;
    }
    cli_complain("%s", what->valuestring);
    bool goes_on = strcmp(expected->valuestring, OPS_UPGRADE_GOES_ON) == 0;
    cli_complain("%s%s", goes_on ? "nothing was changed: what ran goes on as it was" : "expected: ",
                 goes_on ? "" : expected->valuestring);
}

/* The next answer at the socket is the new one's: whoever connects waits until it listens. */
static bool new_one_answers(const char *path, unsigned wait_s)
{
    struct client_answer a;
    char why[512];
    if (!client_request_within(path, "GET", "/healthz", NULL, NULL, 0, wait_s, &a, why, sizeof why)) {
        cli_complain("it took over, but does not answer: %s", why);
        return false;
    }
    int status = a.status;
    client_answer_deinit(&a);
    return status == 200;
}

static enum cli_exit run(struct cli *cli)
{
    char path[CLIENT_PATH_MAX], why[512];
    struct client_answer answer;
    struct ask_answer a = { 0 };
    struct buffer body;
    uint64_t within_ms = WITHIN_DEFAULT_MS;
    const char *within = cli_get(cli, "--within"), *binary = cli_get(cli, "--binary");
    if (within && (!duration_parse(within, strlen(within), &within_ms) || within_ms < 100 || within_ms > 600000)) {
        return cli_misuse(cli, "--within %s is no time from 100ms to 10m, such as 30s", within);
    }
    if (binary && !binary[0]) return cli_misuse(cli, "--binary needs the path of a program");
    if (!client_find(cli, path, why, sizeof why)) {
        cli_complain("%s", why);
        return CLI_FAILED;
    }
    buffer_init(&body, 0);
    bool ok = body_make(cli, binary, within_ms, &body);
    unsigned wait_s = (unsigned)(within_ms * 2 / 1000) + DRAIN_S;
    if (!ok) snprintf(why, sizeof why, "out of memory");
    ok = ok && client_request_within(path, "POST", "/v1/upgrade", "application/json", body.data, body.len,
                                     wait_s, &answer, why, sizeof why);
    buffer_deinit(&body);
    if (!ok) {
        cli_complain("%s", why);
        return CLI_FAILED;
    }
    a.status = answer.status;
    a.body = answer.body; /* moved */
    a.json = cJSON_ParseWithLength((const char *)a.body.data, a.body.len);
    const cJSON *done = cJSON_GetObjectItemCaseSensitive(a.json, "upgraded");
    const cJSON *pid = cJSON_GetObjectItemCaseSensitive(done, "pid");
    const cJSON *version = cJSON_GetObjectItemCaseSensitive(done, "version");
    ok = a.status == 200 && cJSON_IsNumber(pid) && cJSON_IsString(version);
    if (cli_get(cli, "--json") && a.json) ask_print(&a.body);
    else if (!ok) complain(path, &a);
    ok = ok && new_one_answers(path, wait_s);
    if (ok && !cli_get(cli, "--json")) {
        struct buffer line;
        buffer_init(&line, 0);
        text_printable(&line, version->valuestring, strlen(version->valuestring));
        printf("upgraded: process %.0f runs holdfast %.*s\n", pid->valuedouble, (int)line.len,
               (const char *)line.data);
        buffer_deinit(&line);
    }
    ask_deinit(&a);
    return ok ? CLI_OK : CLI_FAILED;
}
