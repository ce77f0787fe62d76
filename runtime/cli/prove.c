/* prove: plays schedules of faults against a policy, in the simulator, and says whether the promises hold. */
#include "sim/prove.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/duration.h"
#include "cli/cli.h"
#include "cli/files.h"

static enum cli_exit run(struct cli *cli);

static const struct cli_option options[] = {
    { "--seed", NULL, "N", "the seed of every draw (1); the same seed plays the same schedules", false },
    { "--for", NULL, "10s", "how long random schedules are played after the exhaustive ones", false },
    { "--schedules", NULL, "N", "so many random schedules instead of a time: the same report each time", false },
    { "--depth", NULL, "N", "how many faults follow each other in the exhaustive part (3, 1 to 4)", false },
    { "--within", NULL, "2m", "what follows depth 1 of the exhaustive part ends then, and the report says how far it came", false },
    { "--json", NULL, NULL, "the report as JSON, on standard output", false },
    { 0 },
};

const struct cli_command cli_prove = {
    .name = "prove",
    .usage = "prove POLICY [--seed N] [--for 10s] [--schedules N] [--depth N] [--within 2m] [--json]",
    .about = "Play schedules of faults against a policy and see that the promises I1 to I8 hold",
    .text = "  holdfast prove policies/discord.lua\n"
            "  holdfast prove discord --depth 2 --for 30s --seed 7\n\n"
            "Each schedule is a world of its own, under virtual time: the connection starts, faults come at\n"
            "its stages (down, greeting, ready, settled), then all is made well, and it must be up within\n"
            "the promised bound, settle, and stay for 24 quiet hours. Faults are those of the network (names,\n"
            "TCP, TLS, HTTP, silence, garbage), of the machine (crash, power cut, reload, suspend, stalls,\n"
            "clock steps) and of the platform's peer. All schedules of one fault, each lasting one for more\n"
            "than an hour, all of two and of three, each state being entered once; 24 quiet hours from each state\n"
            "that they end in; then random ones. Three in a row are tens of thousands of schedules and take some\n"
            "minutes: --depth 1 --for 5s is for those who cannot wait, --within 30s for those who will not.\n\n"
            "A broken promise is told with the shortest schedule that breaks it, and a spec that repeats it is\n"
            "written into the current folder. A policy for whose platform there is no peer is proved against\n"
            "a mute one, and what that cannot show is said.\n\n"
            "Exits 0 when all promises held, 1 when one is broken, 2 for wrong usage, 3 when the policy has\n"
            "errors or could not be played.\n",
    .options = options,
    .words_max = 1,
    .run = run,
};

static bool number(const char *text, uint64_t least, uint64_t most, uint64_t *out)
{
    char *end;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (errno || end == text || *end || text[0] == '-' || n < least || n > most) return false;
    *out = n;
    return true;
}

struct shown {
    bool terminal;
    int width; /* of the last line, to be wiped */
};

static void progress(void *self, const char *text)
{
    struct shown *s = self;
    if (!s->terminal) return;
    int n = fprintf(stderr, "\r%s", text) - 1;
    for (int i = n; i < s->width; i++) fputc(' ', stderr);
    s->width = n;
    fflush(stderr);
}

static void wipe(struct shown *s)
{
    if (s->terminal && s->width) fprintf(stderr, "\r%*s\r", s->width, "");
}

static enum cli_exit run(struct cli *cli)
{
    struct shown shown = { .terminal = isatty(2) };
    struct prove_options o = { .lua_path = files_lua(), .depth = 3, .for_ms = 10000, .progress = progress,
                               .self = &shown };
    uint64_t n = 0;
    char command[512];
    if (cli->word_count != 1) return cli_misuse(cli, "which policy? Give its file, or a shipped one's name");
    o.policy = cli->words[0];
    o.seed = 1;
    if (cli_get(cli, "--seed") && !number(cli_get(cli, "--seed"), 1, UINT32_MAX, &o.seed)) {
        return cli_misuse(cli, "--seed takes a number from 1 to %u", UINT32_MAX);
    }
    if (cli_get(cli, "--depth")) {
        if (!number(cli_get(cli, "--depth"), 1, 4, &n)) return cli_misuse(cli, "--depth takes 1, 2, 3 or 4");
        o.depth = (uint32_t)n;
    }
    if (cli_get(cli, "--schedules")) {
        if (!number(cli_get(cli, "--schedules"), 1, 100000000, &n)) {
            return cli_misuse(cli, "--schedules takes a number from 1");
        }
        o.schedules = (uint32_t)n;
        o.within_ms = 0; /* no clock decides what is played */
    }
    const char *lasts = cli_get(cli, "--for");
    if (lasts && !duration_parse(lasts, strlen(lasts), &o.for_ms)) {
        return cli_misuse(cli, "--for takes a duration with a unit: 10s, 5m");
    }
    const char *within = cli_get(cli, "--within");
    if (within && !duration_parse(within, strlen(within), &o.within_ms)) {
        return cli_misuse(cli, "--within takes a duration with a unit: 30s, 10m");
    }
    snprintf(command, sizeof command, "holdfast prove %s --seed %llu", o.policy, (unsigned long long)o.seed);
    o.command = command;
    bool json = cli_get(cli, "--json") != NULL;
    if (!json) {
        printf("proving %s, seed %llu\n", o.policy, (unsigned long long)o.seed);
        fflush(stdout);
    }

    struct prove_outcome outcome;
    prove_run(&o, &outcome);
    wipe(&shown);
    enum cli_exit result = outcome.result == PROVE_HELD ? CLI_OK
                           : outcome.result == PROVE_BROKEN ? CLI_FAILED
                                                            : CLI_UNFIT;
    const struct buffer *out = json && outcome.json.len ? &outcome.json : &outcome.text;
    FILE *to = outcome.result == PROVE_HELD || outcome.result == PROVE_BROKEN || json ? stdout : stderr;
    fprintf(to, "%.*s\n", (int)out->len, (const char *)out->data);
    prove_outcome_deinit(&outcome);
    return result;
}
