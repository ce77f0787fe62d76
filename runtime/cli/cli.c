/* CLI: the table of commands, their options, their help. Knows nothing of what a command does. */
#include "cli/cli.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/text.h"
#include "cli/files.h"

static const struct cli_command *const commands[] = {
    &cli_run,  &cli_check, &cli_prove, &cli_status, &cli_why,     &cli_tail,   &cli_send, &cli_consumer,
    &cli_trace, &cli_replay,
    &cli_stop, &cli_start, &cli_restart, &cli_reload, &cli_upgrade, &cli_store, &cli_peer, &cli_test,
};
#define COMMAND_COUNT (sizeof commands / sizeof *commands)
/* What stands beside the commands on a command line. */
static const char *const other_words[] = { "help", "--help", "--version" };

static enum cli_exit parse(struct cli *cli, int argc, char **argv, bool *help_out);
static const struct cli_option *option_find(const struct cli_command *c, const char *word, size_t len);
static enum cli_exit option_unknown(const struct cli *cli, const char *word, size_t len);
static const struct cli_command *command_find(const char *name);
static enum cli_exit command_unknown(const char *name);
static void print_overview(FILE *to);
static void print_command(const struct cli_command *c);

int cli_main(int argc, char **argv)
{
    if (argc < 2) {
        print_overview(stderr);
        return CLI_USAGE;
    }
    const char *first = argv[1];
    if (strcmp(first, "--version") == 0) {
        puts("holdfast " HOLDFAST_VERSION);
        return CLI_OK;
    }
    bool help = strcmp(first, "--help") == 0 || strcmp(first, "-h") == 0 || strcmp(first, "help") == 0;
    if (help && argc == 2) {
        print_overview(stdout);
        return CLI_OK;
    }
    const char *name = help ? argv[2] : first;
    const struct cli_command *command = command_find(name);
    if (!command) return command_unknown(name);
    if (help) {
        print_command(command);
        return CLI_OK;
    }

    struct cli cli = { .command = command, .program = argv[0] };
    cli.words = calloc((size_t)argc, sizeof *cli.words);
    cli.given = calloc((size_t)argc * 2, sizeof *cli.given);
    enum cli_exit result = CLI_FAILED;
    if (!cli.words || !cli.given) {
        cli_complain("out of memory");
    } else {
        result = parse(&cli, argc - 2, argv + 2, &help);
        if (result == CLI_OK && help) print_command(command);
        else if (result == CLI_OK) {
            files_find_lua();
            result = command->run(&cli);
        }
    }
    free(cli.words);
    free(cli.given);
    return (int)result;
}

/* --- the command line ---------------------------------------------------------------------------------- */

static enum cli_exit parse(struct cli *cli, int argc, char **argv, bool *help_out)
{
    const struct cli_command *c = cli->command;
    bool only_words = false;
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i];
        if (only_words || word[0] != '-' || word[1] == 0) {
            if (cli->word_count >= c->words_max) {
                return cli_misuse(cli, "`%s` is one argument too many", word);
            }
            cli->words[cli->word_count++] = word;
            continue;
        }
        if (strcmp(word, "--") == 0) {
            only_words = true;
            continue;
        }
        if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
            *help_out = true;
            return CLI_OK;
        }
        const char *equals = strncmp(word, "--", 2) == 0 ? strchr(word, '=') : NULL;
        size_t len = equals ? (size_t)(equals - word) : strlen(word);
        const struct cli_option *o = option_find(c, word, len);
        if (!o) return option_unknown(cli, word, len);
        const char *value = o->name;
        if (o->value) {
            value = equals ? equals + 1 : i + 1 < argc ? argv[++i] : NULL;
            if (!value) return cli_misuse(cli, "%s needs a value: %s %s", o->name, o->name, o->value);
        } else if (equals) {
            return cli_misuse(cli, "%s takes no value", o->name);
        }
        if (!o->repeats && cli_get(cli, o->name)) {
            return cli_misuse(cli, "%s was given twice", o->name);
        }
        cli->given[cli->given_count * 2] = o->name;
        cli->given[cli->given_count * 2 + 1] = value;
        cli->given_count++;
    }
    return CLI_OK;
}

static const struct cli_option *option_find(const struct cli_command *c, const char *word, size_t len)
{
    for (const struct cli_option *o = c->options; o && o->name; o++) {
        if (strlen(o->name) == len && memcmp(o->name, word, len) == 0) return o;
        if (o->short_name && strlen(o->short_name) == len && memcmp(o->short_name, word, len) == 0) {
            return o;
        }
    }
    return NULL;
}

static enum cli_exit option_unknown(const struct cli *cli, const char *word, size_t len)
{
    const char *names[32];
    size_t count = 0;
    char asked[64], hint[96];
    for (const struct cli_option *o = cli->command->options; o && o->name && count < 31; o++) {
        names[count++] = o->name;
    }
    names[count++] = "--help";
    text_copy(asked, sizeof asked, word, len);
    return cli_misuse(cli, "%s is no option of `holdfast %s`%s", asked, cli->command->name,
                      cli_did_you_mean(text_nearest(asked, names, count), hint, sizeof hint));
}

const char *cli_get(const struct cli *cli, const char *option)
{
    const char *value = NULL;
    for (uint32_t i = 0; i < cli->given_count; i++) {
        if (strcmp(cli->given[i * 2], option) == 0) value = cli->given[i * 2 + 1];
    }
    return value;
}

const char *cli_get_nth(const struct cli *cli, const char *option, uint32_t index)
{
    for (uint32_t i = 0; i < cli->given_count; i++) {
        if (strcmp(cli->given[i * 2], option) == 0 && index-- == 0) return cli->given[i * 2 + 1];
    }
    return NULL;
}

static const struct cli_command *command_find(const char *name)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(commands[i]->name, name) == 0) return commands[i];
    }
    return NULL;
}

static enum cli_exit command_unknown(const char *name)
{
    const char *names[COMMAND_COUNT + 3];
    char hint[96];
    size_t count = 0;
    for (; count < COMMAND_COUNT; count++) names[count] = commands[count]->name;
    for (size_t i = 0; i < 3; i++) names[count++] = other_words[i];
    cli_complain("`%s` is no command%s (`holdfast --help` lists them)", name,
                 cli_did_you_mean(text_nearest(name, names, count), hint, sizeof hint));
    return CLI_USAGE;
}

/* --- words ------------------------------------------------------------------------------------------------ */

static void complain(const char *format, va_list args)
{
    char raw[1024];
    struct buffer text;
    vsnprintf(raw, sizeof raw, format, args);
    buffer_init(&text, 0);
    text_printable(&text, raw, strlen(raw));
    fprintf(stderr, "holdfast: %.*s\n", (int)text.len, (const char *)text.data);
    buffer_deinit(&text);
}

void cli_complain(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    complain(format, args);
    va_end(args);
}

enum cli_exit cli_misuse(const struct cli *cli, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    complain(format, args);
    va_end(args);
    fprintf(stderr, "usage: holdfast %s\n", cli->command->usage);
    return CLI_USAGE;
}

const char *cli_did_you_mean(const char *name, char *out, size_t out_bytes)
{
    out[0] = 0;
    if (name) snprintf(out, out_bytes, "; did you mean `%s`?", name);
    return out;
}

static void print_overview(FILE *to)
{
    fputs("holdfast keeps bots' outbound WebSockets alive.\n\n"
          "usage: holdfast COMMAND [OPTIONS]\n\n", to);
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        fprintf(to, "  %-8s  %s\n", commands[i]->name, commands[i]->about);
    }
    fputs("\n`holdfast help COMMAND` tells more, with examples; `holdfast --version` tells the version.\n"
          "Commands that talk to a running holdfast find it by --socket, by HOLDFAST_SOCKET, or by the\n"
          "configuration: -c FILE, otherwise ./holdfast.lua.\n", to);
}

static void print_command(const struct cli_command *c)
{
    printf("usage: holdfast %s\n\n%s.\n", c->usage, c->about);
    if (c->options && c->options->name) putchar('\n');
    for (const struct cli_option *o = c->options; o && o->name; o++) {
        char left[64];
        snprintf(left, sizeof left, "%s%s%s%s%s", o->short_name ? o->short_name : "",
                 o->short_name ? ", " : "", o->name, o->value ? " " : "", o->value ? o->value : "");
        printf("  %-22s  %s\n", left, o->about);
    }
    if (c->text) printf("\n%s", c->text);
}
