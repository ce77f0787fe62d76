/* check: configuration and policies, without starting anything. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "cli/cli.h"
#include "cli/files.h"
#include "ops/roster.h"

static enum cli_exit run(struct cli *cli);
static bool check_config(const char *path, struct problems *problems);
static bool check_policy(const char *path, struct problems *problems);

static const struct cli_option options[] = {
    { "--config", "-c", "FILE", "the configuration (./holdfast.lua)", false },
    { 0 },
};

const struct cli_command cli_check = {
    .name = "check",
    .usage = "check [-c FILE | POLICY.lua...]",
    .about = "Check a configuration with all that it names, or policy files, and start nothing",
    .text = "  holdfast check                        ./holdfast.lua, its policies and connections\n"
            "  holdfast check -c /etc/holdfast/holdfast.lua\n"
            "  holdfast check policies/*.lua         policy files alone\n\n"
            "All problems are told at once, as file:line: key: text. Exits 1 when one of them is an error.\n",
    .options = options,
    .words_max = CLI_WORDS_ANY,
    .run = run,
};

static enum cli_exit run(struct cli *cli)
{
    struct problems problems;
    bool ok = true;
    if (cli->word_count && cli_get(cli, "--config")) {
        return cli_misuse(cli, "a configuration and policy files are checked one at a time");
    }
    if (!cli->word_count && !files_config_is_there(files_config(cli))) return CLI_FAILED;
    problems_init(&problems);
    if (!cli->word_count) ok = check_config(files_config(cli), &problems);
    for (uint32_t i = 0; i < cli->word_count; i++) ok = check_policy(cli->words[i], &problems) && ok;
    files_print_problems(&problems);
    if (!ok) {
        fflush(stdout);
        fprintf(stderr, "%u error%s\n", problems.errors, problems.errors == 1 ? "" : "s");
    }
    problems_deinit(&problems);
    return ok ? CLI_OK : CLI_FAILED;
}

static bool check_config(const char *path, struct problems *problems)
{
    struct roster roster;
    struct roster_load load = { .path = path, .seed = 1 };
    if (!roster_load(&load, &roster, problems)) return false;
    printf("%s: ok, %u connection%s, %u polic%s\n", path, roster.config.connection_count,
           roster.config.connection_count == 1 ? "" : "s", roster.version_count,
           roster.version_count == 1 ? "y" : "ies");
    roster_deinit(&roster);
    return true;
}

/* "policies/discord.lua" is called discord. */
static bool check_policy(const char *path, struct problems *problems)
{
    char name[64];
    const char *base = strrchr(path, '/');
    base = base ? base + 1 : path;
    size_t len = strlen(base);
    if (len > 4 && strcmp(base + len - 4, ".lua") == 0) len -= 4;
    text_copy(name, sizeof name, base, len);
    struct policy_load load = { .name = name, .path = path, .version = 1, .seed = 1 };
    struct policy_version *v = policy_load(&load, problems);
    if (!v) return false;
    printf("%s: ok, platform %s\n", path, policy_platform(v));
    policy_unref(v);
    return true;
}
