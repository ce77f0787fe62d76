/* reload: has the running holdfast read its configuration and policies again. */
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "cli/ask.h"
#include "cli/words.h"

#define WAIT_S 900 /* a reload may prove for ten minutes */

static enum cli_exit run(struct cli *cli);

static const struct cli_option options[] = {
    { "--unproven", NULL, NULL, "take changed policies without playing schedules of faults against them first", false },
    { "--now", NULL, NULL, "take changed policies everywhere at once, without a trial", false },
    { "--again", NULL, NULL, "try a version that was taken back once more", false },
    { "--adopt", NULL, NULL, "end the trial of POLICY: its new version runs everywhere", false },
    { "--take-back", NULL, NULL, "end the trial of POLICY: the version before it runs everywhere", false },
    { "--json", NULL, NULL, "the API's own JSON", false },
    CLIENT_OPTIONS,
    { 0 },
};

const struct cli_command cli_reload = {
    .name = "reload",
    .usage = "reload [POLICY] [--unproven] [--now | --again | --adopt | --take-back] [--json] [--socket PATH | -c FILE]",
    .about = "Read configuration and policies again, or the configuration and one policy",
    .text = "  holdfast check && holdfast reload   everything\n"
            "  holdfast reload discord             the configuration and this policy; others stay "
            "as they are\n"
            "  holdfast reload discord --unproven  this version at once; the journal says that it is unproven\n\n"
            "Changed policies are proved first, as `holdfast prove --depth 1` does, for at most ten seconds\n"
            "(`policies { prove = \"30s\" }`, or false); what runs goes on meanwhile, and afterwards when a\n"
            "promise is broken. A connection's `tune` makes another policy of it: it is proved as it is\n"
            "tuned, once for all that are tuned alike; one that is put over the API as well (?unproven=1).\n\n"
            "With `policies { trial = { share = \"10%\", watch = \"10m\" } }` a new version runs on that share of a\n"
            "policy's connections first. One that does worse than the version before it is taken back by itself, one\n"
            "that does well is adopted; `holdfast status` shows both sides meanwhile. A text that was taken back is\n"
            "not tried again until it changes, or with --again.\n\n"
            "Links stay open. When anything is wrong nothing changes: the problems are printed as\n"
            "FILE:LINE: KEY: TEXT, and the exit code is 1. SIGHUP does the same; its answer is in "
            "the log,\nand `holdfast status` tells of a refusal until a reload is taken.\n",
    .options = options,
    .words_max = 1,
    .run = run,
};

static void print_problem(FILE *to, const char *text)
{
    struct buffer line;
    buffer_init(&line, 0);
    text_printable(&line, text, strlen(text));
    fprintf(to, "%.*s\n", (int)line.len, (const char *)line.data);
    buffer_deinit(&line);
}

static enum cli_exit run(struct cli *cli)
{
    char path[CLIENT_PATH_MAX], why[512], target[256];
    struct ask_answer a;
    const cJSON *problem;
    const char *policy = cli->word_count ? cli->words[0] : NULL;
    if (policy && (!policy[0] || strlen(policy) > 63 ||
                   strspn(policy, "abcdefghijklmnopqrstuvwxyz0123456789._-") != strlen(policy))) {
        return cli_misuse(
            cli, "`%s` cannot be a policy's name: give it as in the configuration, such as discord",
            policy);
    }
    const bool adopt = cli_get(cli, "--adopt"), take_back = cli_get(cli, "--take-back");
    if (adopt && take_back) return cli_misuse(cli, "--adopt and --take-back exclude each other");
    if ((adopt || take_back) && !policy) return cli_misuse(cli, "%s needs the policy's name", adopt ? "--adopt" : "--take-back");
    if (!client_find(cli, path, why, sizeof why)) {
        cli_complain("%s", why);
        return CLI_FAILED;
    }
    snprintf(target, sizeof target, "/v1/reload?%s%s%s%s%s", policy ? (adopt ? "adopt=" : take_back ? "take_back=" : "policy=") : "",
             policy ? policy : "", cli_get(cli, "--unproven") ? "&unproven=1" : "", cli_get(cli, "--now") ? "&now=1" : "",
             cli_get(cli, "--again") ? "&again=1" : "");
    if (!ask_within(path, "POST", target, WAIT_S, &a)) return CLI_FAILED;
    const cJSON *problems = cJSON_GetObjectItemCaseSensitive(a.json, "problems");
    bool done = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(a.json, "reloaded"));
    if (cli_get(cli, "--json") && a.json) {
        ask_print(&a.body);
    } else if (!cJSON_IsArray(problems)) {
        ask_complain(path, &a);
        done = false;
    } else {
        cJSON_ArrayForEach(problem, problems)
        {
            if (cJSON_IsString(problem)) print_problem(stderr, problem->valuestring);
        }
        if (done)
            printf("%s%s%s\n", adopt ? "adopted" : take_back ? "taken back" : "reloaded", policy ? " " : "", policy ? policy : "");
        else
            cli_complain("nothing was changed: what ran goes on as it was");
    }
    ask_deinit(&a);
    return done ? CLI_OK : CLI_FAILED;
}
