/* consumer: who reads from this holdfast, how far each has come, and whom to forget. */
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "cli/ask.h"
#include "cli/term.h"
#include "cli/words.h"

static enum cli_exit run(struct cli *cli);

static const struct cli_option options[] = {
    { "--json", NULL, NULL, "the API's own JSON", false },
    CLIENT_OPTIONS,
    { 0 },
};

const struct cli_command cli_consumer = {
    .name = "consumer",
    .usage = "consumer list|forget [NAME] [--json] [--socket PATH | -c FILE]",
    .about = "List who reads the connections and how far each has come, or forget one",
    .text =
        "  holdfast consumer list            all, one line each\n"
        "  holdfast consumer list bot-a      one, with its place in each connection\n"
        "  holdfast consumer forget bot-a    it will not come back: what it holds is let go\n"
        "  holdfast consumer list --json | jq -r '.consumers[] | select(.attached | not) | .name'\n\n"
        "WAITING counts the frames that a consumer has not acknowledged, OLDEST is the age of the "
        "first of them:\n"
        "that much backlog is kept for its sake, within the connection's limits. A named consumer "
        "that is not\n"
        "attached for seven days is forgotten by itself. One that is forgotten and attaches again "
        "is new: it begins\n"
        "with the oldest frame held, after a gap that says so. The exit code is 1 when there is "
        "none of that name.\n",
    .options = options,
    .words_max = 2,
    .run = run,
};

/* "3m 5s" since then; "" for null. */
static const char *age(const cJSON *object, const char *key, char out[WORDS_MAX])
{
    uint64_t at_ms = words_time(words_text(object, key)), now_ms = words_now_ms();
    if (!at_ms) return "";
    return words_span(now_ms > at_ms ? now_ms - at_ms : 0, out);
}

static const char *count(const cJSON *object, const char *key, char out[WORDS_MAX])
{
    snprintf(out, WORDS_MAX, "%.0f", words_number(object, key));
    return out;
}

static void add_consumer(struct grid *t, const cJSON *c)
{
    char words[WORDS_MAX];
    bool attached = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(c, "attached"));
    const char *name = words_text(c, "name");
    grid_add(t, name[0] ? TERM_BOLD : TERM_DIM, name[0] ? name : "(anonymous)");
    grid_add(t, attached ? TERM_GREEN : TERM_YELLOW, attached ? "attached" : "detached");
    grid_add(t, TERM_PLAIN, age(c, "since", words));
    grid_add(t, TERM_PLAIN, count(c, "connections", words));
    grid_add(t, TERM_PLAIN, count(c, "lag", words));
    grid_add(t, TERM_PLAIN, age(c, "oldest", words));
}

static void add_position(struct grid *t, const cJSON *p)
{
    char words[WORDS_MAX], at[WORDS_MAX];
    bool configured = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(p, "configured"));
    grid_add(t, TERM_BOLD, words_text(p, "connection"));
    snprintf(at, sizeof at, "%.0f.%.0f", words_number(p, "epoch"), words_number(p, "offset"));
    grid_add(t, TERM_PLAIN, at);
    grid_add(t, TERM_PLAIN, count(p, "last", words));
    grid_add(t, TERM_PLAIN, count(p, "lag", words));
    grid_add(t, TERM_PLAIN, age(p, "oldest", words));
    grid_add(t, TERM_YELLOW, configured ? "" : "not configured any more");
}

static void show(const cJSON *consumers, const cJSON *positions)
{
    static const char *const heads[] = { "NAME", "STATE", "FOR", "CONNECTIONS", "WAITING", "OLDEST" };
    static const char *const places[] = { "CONNECTION", "CURSOR", "LAST", "WAITING", "OLDEST", "NOTE" };
    struct term term = term_find();
    struct buffer out;
    struct grid t;
    const cJSON *each;
    buffer_init(&out, 0);
    grid_init(&t, heads, 6, 0);
    cJSON_ArrayForEach(each, consumers) add_consumer(&t, each);
    grid_print(&t, &term, &out);
    grid_deinit(&t);
    if (cJSON_GetArraySize(positions) > 0) {
        buffer_append_char(&out, '\n');
        grid_init(&t, places, 6, 0);
        cJSON_ArrayForEach(each, positions) add_position(&t, each);
        grid_print(&t, &term, &out);
        grid_deinit(&t);
    }
    ask_print(&out);
    buffer_deinit(&out);
}

static enum cli_exit tell(const char *path, const char *name, const struct ask_answer *a, bool json)
{
    const cJSON *consumers = cJSON_GetObjectItemCaseSensitive(a->json, "consumers");
    const cJSON *positions = cJSON_GetObjectItemCaseSensitive(a->json, "positions");
    if (a->status == 404 && name) {
        cli_complain("no consumer is called `%s` (`holdfast consumer list` shows all)", name);
        return CLI_FAILED;
    }
    if (a->status != 200) {
        ask_complain(path, a);
        return CLI_FAILED;
    }
    if (json) {
        ask_print(&a->body);
    } else if (positions) {
        cJSON *one = cJSON_CreateArray();
        cJSON_AddItemReferenceToArray(one, a->json);
        show(one, positions);
        cJSON_Delete(one);
    } else if (!consumers) {
        printf("forgotten: %s\n", words_text(a->json, "forgotten"));
    } else if (cJSON_GetArraySize(consumers) == 0) {
        puts("no consumer is attached or registered");
    } else {
        show(consumers, NULL);
    }
    return CLI_OK;
}

static enum cli_exit run(struct cli *cli)
{
    char path[CLIENT_PATH_MAX], why[512], target[128];
    struct ask_answer a;
    const char *verb = cli->word_count ? cli->words[0] : "";
    const char *name = cli->word_count > 1 ? cli->words[1] : NULL;
    bool forget = strcmp(verb, "forget") == 0;
    if (!forget && strcmp(verb, "list") != 0) {
        return cli_misuse(cli, verb[0] ? "`%s` is neither list nor forget" : "list or forget%s?", verb);
    }
    if (forget && !name) return cli_misuse(cli, "forget needs a consumer's name");
    if (name && (!name[0] || strlen(name) > 63 ||
                 strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") !=
                     strlen(name))) {
        return cli_misuse(cli, "`%s` cannot be a consumer's name: 1 to 63 of A-Z a-z 0-9 . _ -", name);
    }
    if (!client_find(cli, path, why, sizeof why)) {
        cli_complain("%s", why);
        return CLI_FAILED;
    }
    snprintf(target, sizeof target, "/v1/consumers%s%s", name ? "/" : "", name ? name : "");
    if (!ask(path, forget ? "DELETE" : "GET", target, NULL, NULL, 0, &a)) return CLI_FAILED;
    enum cli_exit result = tell(path, name, &a, cli_get(cli, "--json") != NULL);
    ask_deinit(&a);
    return result;
}
