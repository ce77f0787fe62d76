/* run: the daemon in the foreground. Checks everything first; starts nothing when anything is wrong. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "cli/cli.h"
#include "cli/files.h"
#include "net/net.h"
#include "ops/daemon.h"

#define MALLOC_ARENAS_MAX 2 /* the loop's, and one for all other threads */

static enum cli_exit run(struct cli *cli);
static void memory_prepare(void);

static const struct cli_option options[] = {
    { "--config", "-c", "FILE", "the configuration (./holdfast.lua)", false },
    { "--log", NULL, "FORM", "human, logfmt or json; HOLDFAST_LOG_FORM does the same", false },
    { 0 },
};

const struct cli_command cli_run = {
    .name = "run",
    .usage = "run [-c holdfast.lua] [--log FORM]",
    .about = "Run the daemon in the foreground until SIGTERM or Ctrl-C",
    .text = "  holdfast run\n"
            "  HOLDFAST_LOG=debug holdfast run -c /etc/holdfast/holdfast.lua\n\n"
            "The configuration and every policy are checked first; with any error nothing starts.\n"
            "SIGHUP reads them again and keeps links open. SIGTERM closes every link so that its session can\n"
            "be resumed, for at most 10 s; a second SIGTERM or Ctrl-C ends at once. `holdfast upgrade` replaces\n"
            "it by another version without closing its listeners.\n"
            "HOLDFAST_LOG is debug, info, warning or alarm. The log goes to standard error: lines for people\n"
            "on a terminal, logfmt otherwise, or as --log says. State changes and decisions carry fields: kind,\n"
            "generation, from, to, cause, stage, verdict, next, next_in_ms. Of one kind of cause at one stage fifty\n"
            "lines are written in ten seconds; the others are counted, and the count is told.\n",
    .options = options,
    .words_max = 0,
    .run = run,
};

/* glibc gives threads arenas of their own, and what the loop frees of a pool thread's work stays in that one:
 * a CA file that changed cost 0.9 MiB each time, until every thread of the pool had been through often enough.
 *
 * Small blocks that are freed would wait, unjoined, until a large one is freed, which then joins all of them at once: of
 * 10,000 connections' old settings, 7 to 16 ms of the loop's time after a reload. */
static void memory_prepare(void)
{
#ifdef __GLIBC__
    mallopt(M_ARENA_MAX, MALLOC_ARENAS_MAX);
    mallopt(M_MXFAST, 0);
#endif
}

/* What is wrong, in one sentence, for who asked for an upgrade. */
static void handover_fail_problems(int fd, const struct problems *problems)
{
    char first[1024] = "", text[1200];
    for (uint32_t i = 0; i < problems->count && !first[0]; i++) {
        if (!problems->items[i].warning) problem_format(&problems->items[i], first, sizeof first);
    }
    if (problems->errors > 1) {
        snprintf(text, sizeof text, "%.900s (and %u more error%s: see its log, or `holdfast check`)", first,
                 problems->errors - 1, problems->errors == 2 ? "" : "s");
    } else {
        snprintf(text, sizeof text, "%s", first);
    }
    handover_fail(fd, text);
}

static enum cli_exit run(struct cli *cli)
{
    const char *path = files_config(cli);
    char why[1024];
    int handover = handover_inherited();
    struct handover_message taken;
    struct log_options lo;
    struct problems problems;
    struct roster roster;
    memory_prepare();
    net_memory_begin();
    if (!log_options_find(&lo, STDERR_FILENO, why, sizeof why)) {
        handover_fail(handover, why);
        cli_complain("%s", why);
        return CLI_USAGE;
    }
    const char *form = cli_get(cli, "--log");
    if (form && !log_form_parse(form, &lo.form)) return cli_misuse(cli, "--log is human, logfmt or json, not `%s`", form);
    if (!files_config_is_there(path)) {
        handover_fail(handover, "the configuration cannot be read any more");
        return CLI_FAILED;
    }
    problems_init(&problems);
    struct roster_load load = { .path = path, .seed = (uint64_t)getpid() };
    bool ok = roster_load(&load, &roster, &problems);
    files_print_problems(&problems);
    if (!ok) {
        cli_complain("not started: %u error%s", problems.errors, problems.errors == 1 ? "" : "s");
        handover_fail_problems(handover, &problems);
    }
    problems_deinit(&problems);
    if (!ok) return CLI_FAILED;
    if (handover >= 0 && !daemon_takeover_wait(handover, &roster.config, HOLDFAST_VERSION, &taken, why, sizeof why)) {
        cli_complain("not started: %s", why);
        roster_deinit(&roster);
        return CLI_FAILED;
    }

    enum cli_exit result = CLI_FAILED;
    struct log *log = log_create(&lo);
    struct daemon_options with = { .log = log,
                                   .version = HOLDFAST_VERSION,
                                   .program = cli->program,
                                   .taken = handover >= 0 ? &taken : NULL,
                                   .handover_fd = handover };
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
        snprintf(why, sizeof why, "no thread for the log");
    }
    if (!d) {
        cli_complain("not started: %s", why);
        handover_fail(handover, why);
    }
    if (handover >= 0) close(handover);
    return result;
}
