/* replay: plays a trace again, with its own policy or with another one until they part; writes a spec that does
 * the same. The trace is played in a process of its own, with a limit: whatever a made-up file does to the
 * engine's assertions, it is one sentence here. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/duration.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/files.h"
#include "cli/replay_spec.h"
#include "cli/why.h"
#include "ops/journal.h"
#include "trace/compare.h"

#define CPU_S_MAX 120

static enum cli_exit run(struct cli *cli);

static const struct cli_option options[] = {
    { "--policy", NULL, "FILE", "another policy: play until it does something else, and show that", false },
    { "--spec", NULL, "FILE", "write a busted spec of it, and the trace beside it", false },
    { "--json", NULL, NULL, "for machines", false },
    { 0 },
};

const struct cli_command cli_replay = {
    .name = "replay",
    .usage = "replay TRACE [--policy FILE] [--spec FILE] [--json]",
    .about = "Play what `holdfast trace` wrote again, with the same policy or another one",
    .text = "  holdfast replay support-bot.trace                                what happened, decision by decision\n"
            "  holdfast replay support-bot.trace --policy policies/discord.lua  where this one decides otherwise\n"
            "  holdfast replay support-bot.trace --spec spec/incident_spec.lua  a test of it, for `holdfast test`\n\n"
            "The engine takes the recorded steps with their clocks, and the policy's hooks run on what hooks were\n"
            "given then. With the trace's own policy every effect must be the one it was. Another policy goes on\n"
            "until it decides otherwise, or asks for what nobody recorded. Needs no running holdfast.\n"
            "The exit code is 0 when all is as it was, 1 when not, 2 for wrong usage.\n",
    .options = options,
    .words_max = 1,
    .run = run,
};

static bool read_trace(const char *path, struct buffer *out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    bool ok = fd >= 0;
    while (ok && out->len <= TRACE_FILE_PACKED_MAX && (ok = buffer_reserve(out, 65536))) {
        ssize_t n = read(fd, out->data + out->len, 65536);
        if (n < 0 && errno == EINTR) continue;
        ok = n >= 0;
        if (n <= 0) break;
        out->len += (size_t)n;
    }
    if (!ok) cli_complain("%s: %s", path, strerror(errno));
    if (fd >= 0) close(fd);
    return ok;
}

/* --- words --------------------------------------------------------------------------------------------- */

static void print_line(const char *text)
{
    struct buffer line;
    buffer_init(&line, 0);
    text_printable(&line, text, strlen(text));
    printf("%.*s\n", (int)line.len, (const char *)line.data);
    buffer_deinit(&line);
}

/* As `why` says it. */
static void decision_words(const struct decision *d, const char *file, char *out, size_t bytes)
{
    char cause[WHY_TEXT_MAX] = "", outcome[WHY_TEXT_MAX] = "", by[WHY_TEXT_MAX] = "";
    struct buffer text;
    buffer_init(&text, 0);
    bool ok = buffer_append_text(&text, "{\"kind\":\"decision\"") && journal__decision_json(&text, d) &&
              buffer_append_char(&text, '}') && buffer_append_char(&text, 0);
    cJSON *json = ok ? cJSON_Parse((const char *)text.data) : NULL;
    if (json) {
        why_cause(cJSON_GetObjectItemCaseSensitive(json, "cause"), cause);
        why_outcome(json, outcome);
        why_by(json, file, by);
    }
    snprintf(out, bytes, "%s%s%s%s%s", cause, cause[0] && outcome[0] ? ": " : "", outcome, by[0] ? "; " : "", by);
    cJSON_Delete(json);
    buffer_deinit(&text);
}

static void decided(void *self, const struct decision *d, const struct clock *at, const char *file)
{
    char clock[WORDS_MAX], words[3 * WHY_TEXT_MAX], line[3 * WHY_TEXT_MAX + WORDS_MAX];
    bool *quiet = self;
    if (*quiet) return;
    decision_words(d, file, words, sizeof words);
    snprintf(line, sizeof line, "  %s  %s", words_clock(at->wall_ms, clock), words);
    print_line(line);
}

static void effect_line(const char *label, const struct effect *fx, const char *file)
{
    char words[3 * WHY_TEXT_MAX], line[3 * WHY_TEXT_MAX + 32], text[PARTED_TEXT_MAX];
    if (fx && fx->kind == FX_JOURNAL) decision_words(&fx->journal, file, words, sizeof words);
    else snprintf(words, sizeof words, "%s", effect_words(fx, file, text));
    snprintf(line, sizeof line, "  %s  %s", label, words);
    print_line(line);
}

static void print_parted(const struct comparison *c)
{
    char clock[WORDS_MAX], span[WORDS_MAX], line[2 * PARTED_TEXT_MAX];
    words_clock(c->at.wall_ms, clock);
    switch (c->parted) {
    case PARTED_NEVER: return;
    case PARTED_EFFECT:
        printf("they part at %s, step %llu (%s):\n", clock, (unsigned long long)c->number, event_name(c->event));
        effect_line("then", c->has_was ? &c->was_effect : NULL, c->was_file);
        effect_line("now ", c->has_is ? &c->is_effect : NULL, c->is_file);
        return;
    case PARTED_HOOK:
        printf("they part at %s, after step %llu, in %s%s%s:\n", clock, (unsigned long long)c->number,
               hook_name(c->hook), c->name[0] ? "." : "", c->name);
        break;
    case PARTED_EARLIER:
        printf("they part before %s, step %llu: the other policy would have acted %s earlier:\n", clock,
               (unsigned long long)c->number, words_span(c->earlier_ms, span));
        break;
    case PARTED_REFUSED:
        printf("the other policy cannot go on at %s, step %llu:\n", clock, (unsigned long long)c->number);
        break;
    }
    if (c->was[0]) {
        snprintf(line, sizeof line, "  then  %s", c->was);
        print_line(line);
    }
    snprintf(line, sizeof line, "  now   %s", c->is);
    print_line(line);
}

static void print_json(const struct trace_file *t, const struct comparison *c, const char *policy)
{
    static const char *const how[] = { "never", "effect", "hook", "earlier", "refused" };
    char at[TIMESTAMP_TEXT_MAX], was[PARTED_TEXT_MAX], is[PARTED_TEXT_MAX];
    bool effect = c->parted == PARTED_EFFECT;
    struct buffer out;
    buffer_init(&out, 0);
    buffer_append_text(&out, "{\"connection\":");
    text_json_string(&out, t->connection, strlen(t->connection));
    if (policy) {
        buffer_append_text(&out, ",\"policy\":");
        text_json_string(&out, policy, strlen(policy));
    }
    buffer_printf(&out, ",\"segments\":%u,\"steps\":%llu,\"steps_equal\":%llu,\"hooks\":%llu,\"hooks_run\":%llu,"
                  "\"hooks_equal\":%llu,\"effects\":\"%016llx\"", t->segment_count,
                  (unsigned long long)c->totals.steps, (unsigned long long)c->totals.steps_equal,
                  (unsigned long long)c->totals.hooks, (unsigned long long)c->totals.hooks_run,
                  (unsigned long long)c->totals.hooks_equal, (unsigned long long)c->totals.hash);
    if (c->parted) {
        const char *w = effect ? effect_words(c->has_was ? &c->was_effect : NULL, c->was_file, was) : c->was;
        const char *i = effect ? effect_words(c->has_is ? &c->is_effect : NULL, c->is_file, is) : c->is;
        buffer_printf(&out, ",\"parted\":{\"how\":\"%s\",\"at\":\"%s\",\"step\":%llu,\"then\":", how[c->parted],
                      timestamp_format(c->at.wall_ms, at), (unsigned long long)c->number);
        text_json_string(&out, w, strlen(w));
        buffer_append_text(&out, ",\"now\":");
        text_json_string(&out, i, strlen(i));
        buffer_append_char(&out, '}');
    }
    buffer_append_text(&out, "}\n");
    fwrite(out.data, 1, out.len, stdout);
    buffer_deinit(&out);
}

/* Those that ran meanwhile, in the order in which they came: what happened late need not be the first one's doing. */
static const char *versions_words(const struct trace_file *t, char out[WORDS_MAX])
{
    uint32_t told[RECORD_POLICIES_MAX], count = 0;
    size_t len = 0;
    for (uint32_t i = 0; i < t->segment_count; i++) {
        for (uint32_t k = 0; k < t->segments[i].policy_count && count < RECORD_POLICIES_MAX; k++) {
            uint32_t version = t->policies[t->segments[i].policies[k]].version, known = 0;
            while (known < count && told[known] != version) known++;
            if (known < count) continue;
            told[count++] = version;
            len += (size_t)snprintf(out + len, WORDS_MAX - len, "%s%u", count == 1 ? "version " : ", then ", version);
            if (len >= WORDS_MAX) return out;
        }
    }
    return out;
}

static void print_head(const struct trace_file *t)
{
    char from[WORDS_MAX], to[WORDS_MAX], versions[WORDS_MAX], line[1600];
    if (t->segment_count == 0) return;
    words_clock(t->segments[0].from_wall_ms, from);
    words_clock(t->segments[t->segment_count - 1].to_wall_ms, to);
    snprintf(line, sizeof line, "%s, %s to %s, policy %s %s, recorded by holdfast %s", t->connection, from, to,
             t->policies[t->segments[0].policies[0]].path, versions_words(t, versions), t->recorded_by);
    print_line(line);
}

static enum cli_exit verdict(const struct trace_file *t, const struct comparison *c, const char *policy)
{
    const struct replay_totals *n = &c->totals;
    char line[900];
    bool exact = n->steps == n->steps_equal && n->hooks_run == n->hooks_equal;
    printf("%llu of %llu steps have the effects that they had, %llu of %llu hooks do what they did",
           (unsigned long long)n->steps_equal, (unsigned long long)n->steps, (unsigned long long)n->hooks_equal,
           (unsigned long long)n->hooks_run);
    if (n->hooks != n->hooks_run) {
        printf(" (%llu more began before the trace, or got more than it keeps)", (unsigned long long)(n->hooks - n->hooks_run));
    }
    printf("\n");
    if (!exact && n->was[0]) {
        snprintf(line, sizeof line, "  then  %s\n", n->was);
        line[strcspn(line, "\n")] = 0;
        print_line(line);
        snprintf(line, sizeof line, "  now   %s", n->is);
        print_line(line);
    }
    print_parted(c);
    if (policy && !c->parted) printf("the other policy does the same, as far as what was recorded tells\n");
    (void)t;
    return exact && !c->parted ? CLI_OK : CLI_FAILED;
}

/* --- the play ------------------------------------------------------------------------------------------- */

static enum cli_exit play(struct cli *cli, const char *path, const struct buffer *bytes)
{
    const char *policy = cli_get(cli, "--policy"), *spec = cli_get(cli, "--spec");
    bool json = cli_get(cli, "--json") != NULL;
    char why[700];
    struct trace_file t;
    struct comparison c;
    if (!trace_file_open(&t, bytes->data, bytes->len, why, sizeof why)) {
        cli_complain("%s: %s", path, why);
        return CLI_FAILED;
    }
    if (!json) print_head(&t);
    enum cli_exit result = CLI_FAILED;
    if (!replay_compare(&t, policy, files_lua(), decided, &json, &c, why, sizeof why)) {
        cli_complain("%s: %s", path, why);
    } else if (spec) {
        result = replay_spec_write(&t, bytes, path, policy, spec) ? CLI_OK : CLI_FAILED;
    } else if (json) {
        print_json(&t, &c, policy);
        bool exact = c.totals.steps == c.totals.steps_equal && c.totals.hooks_run == c.totals.hooks_equal;
        result = exact && !c.parted ? CLI_OK : CLI_FAILED;
    } else {
        result = verdict(&t, &c, policy);
    }
    trace_file_deinit(&t);
    return result;
}

static enum cli_exit run(struct cli *cli)
{
    if (cli->word_count == 0) return cli_misuse(cli, "replay needs a file that `holdfast trace` wrote");
    struct buffer bytes;
    buffer_init(&bytes, TRACE_FILE_PACKED_MAX + 131072);
    enum cli_exit result = CLI_FAILED;
    if (!read_trace(cli->words[0], &bytes)) goto done;
    files_find_lua();
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) {
        cli_complain("no process for it: %s", strerror(errno));
        goto done;
    }
    if (pid == 0) {
        struct rlimit cpu = { CPU_S_MAX, CPU_S_MAX }, none = { 0, 0 };
        setrlimit(RLIMIT_CPU, &cpu);
        setrlimit(RLIMIT_CORE, &none);
        result = play(cli, cli->words[0], &bytes);
        fflush(NULL);
        _exit(result);
    }
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
    if (WIFEXITED(status)) {
        result = (enum cli_exit)WEXITSTATUS(status);
    } else {
        cli_complain("%s: it cannot be played: %s", cli->words[0],
                     WTERMSIG(status) == SIGXCPU || WTERMSIG(status) == SIGKILL ? "it takes too long"
                                                                                : "it tells of what cannot have happened");
    }
done:
    buffer_deinit(&bytes);
    return result;
}
