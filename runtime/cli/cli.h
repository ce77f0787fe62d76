/* CLI: what `holdfast COMMAND` does. One file per command, all listed in one table; the words of the
 * command line are checked here, so that a command sees only options that it knows.
 *
 * To add a command: its file, its declaration below, one line in `commands` of cli.c. */
#ifndef HOLDFAST_CLI_CLI_H
#define HOLDFAST_CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HOLDFAST_VERSION "0.1.0"

enum cli_exit { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_UNFIT = 3 /* `prove` alone */ };

struct cli_option {
    const char *name;  /* "--socket" */
    const char *short_name; /* "-c", or NULL */
    const char *value; /* what it takes, for the help: "PATH"; NULL: nothing */
    const char *about;
    bool repeats;
};

struct cli;

struct cli_command {
    const char *name;
    const char *usage;   /* "status [NAME] [--json]" */
    const char *about;   /* one line */
    const char *text;    /* for `help NAME`: words and examples */
    const struct cli_option *options; /* ends with a NULL name; or NULL */
    uint32_t words_max;  /* arguments that are no options; CLI_WORDS_ANY: any number */
    enum cli_exit (*run)(struct cli *cli);
};

#define CLI_WORDS_ANY UINT32_MAX

/* Everything of one invocation. Strings are borrowed from argv. */
struct cli {
    const struct cli_command *command;
    const char *program;   /* argv[0] */
    const char **words;    /* owned array */
    uint32_t word_count;
    const char **given;    /* owned: pairs of option name and value */
    uint32_t given_count;
};

/* argv as of main(); the process's exit code. */
int cli_main(int argc, char **argv);

/* The option's last value, or NULL; for one without a value its own name. */
const char *cli_get(const struct cli *cli, const char *option);
/* The index-th value of an option that repeats, or NULL past the end. */
const char *cli_get_nth(const struct cli *cli, const char *option, uint32_t index);

/* "holdfast: ..." and a line end on standard error, made printable. */
void cli_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same for wrong usage, with a hint at the help. Returns CLI_USAGE. */
enum cli_exit cli_misuse(const struct cli *cli, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* "NAME" becomes "; did you mean `NAME`?", NULL becomes "". */
const char *cli_did_you_mean(const char *name, char *out, size_t out_bytes);

extern const struct cli_command cli_run, cli_check, cli_status, cli_why, cli_tail, cli_send, cli_stop,
    cli_start, cli_restart, cli_reload, cli_upgrade, cli_peer, cli_test, cli_consumer, cli_store,
    cli_prove, cli_trace, cli_replay;

#endif
