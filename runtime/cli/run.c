/* run: the daemon in the foreground. Checks everything first; starts nothing when anything is wrong. */
#include <stdio.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/files.h"
#include "ops/daemon.h"

static enum cli_exit run(struct cli *cli);

static const struct cli_option options[] = {
    { "--config", "-c", "FILE", "the configuration (./holdfast.lua)", false },
    { 0 },
};

const struct cli_command cli_run = {
    .name = "run",
    .usage = "run [-c holdfast.lua]",
    .about = "Run the daemon in the foreground until SIGTERM or Ctrl-C",
    .text = "  holdfast run\n"
            "  HOLDFAST_LOG=debug holdfast run -c /etc/holdfast/holdfast.lua\n\n"
            "The configuration and every policy are checked first; with any error nothing starts.\n"
            "SIGHUP reads them again and keeps links open. SIGTERM closes every link so that its session can\n"
            "be resumed, for at most 10 s; a second SIGTERM or Ctrl-C ends at once.\n"
            "HOLDFAST_LOG is debug, info, warning or alarm. The log goes to standard error: lines for people\n"
            "on a terminal, logfmt otherwise.\n",
    .options = options,
    .words_max = 0,
    .run = run,
};

static enum cli_exit run(struct cli *cli)
{
    const char *path = files_config(cli);
    char why[1024];
    struct log_options lo;
    struct problems problems;
    struct roster roster;
    if (!log_options_find(&lo, STDERR_FILENO, why, sizeof why)) {
        cli_complain("%s", why);
        return CLI_USAGE;
    }
    if (!files_config_is_there(path)) return CLI_FAILED;
    problems_init(&problems);
    struct roster_load load = { .path = path, .seed = (uint64_t)getpid() };
    bool ok = roster_load(&load, &roster, &problems);
    files_print_problems(&problems);
    if (!ok) {
        cli_complain("not started: %u error%s", problems.errors, problems.errors == 1 ? "" : "s");
    }
    problems_deinit(&problems);
    if (!ok) return CLI_FAILED;

    enum cli_exit result = CLI_FAILED;
    struct log *log = log_create(&lo);
    struct daemon_options with = { .log = log, .version = HOLDFAST_VERSION };
    struct daemon *d = log ? daemon_create(&roster, &with, why, sizeof why) : NULL;
    if (d) {
        bool in_order = daemon_run(d);
        daemon_destroy(d);
        log_line(log, LOG_INFO, NULL, in_order ? "ended" : "ended with links dropped");
        result = in_order ? CLI_OK : CLI_FAILED;
    }
    log_destroy(log);
    if (!log) {
        roster_deinit(&roster);
        cli_complain("no thread for the log");
    } else if (!d) {
        cli_complain("not started: %s", why);
    }
    return result;
}
