/* store info while a holdfast runs: the file is that one's alone, so its numbers come from the local API. */
#include <stdio.h>
#include <string.h>

#include "cli/ask.h"
#include "cli/store.h"
#include "cli/words.h"

static double number(const cJSON *health, const char *name)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(health, name);
    return cJSON_IsNumber(v) ? v->valuedouble : 0;
}

static const char *text(const cJSON *health, const char *name)
{
    const char *t = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(health, name));
    return t ? t : "";
}

enum cli_exit store_live(const struct cli *cli, const char *path)
{
    char socket[CLIENT_PATH_MAX], why[512], a[WORDS_MAX], b[WORDS_MAX], c[WORDS_MAX];
    struct ask_answer answer;
    if (!client_find(cli, socket, why, sizeof why)) {
        cli_complain("%s", why);
        return CLI_FAILED;
    }
    if (!ask(socket, "GET", "/v1/store", NULL, NULL, 0, &answer)) return CLI_FAILED;
    const cJSON *h = answer.json;
    bool ok = answer.status == 200 && h && strcmp(text(h, "kind"), "sqlite") == 0;
    if (!ok) {
        if (answer.status == 200) cli_complain("the holdfast at %s keeps no file", socket);
        else ask_complain(socket, &answer);
        ask_deinit(&answer);
        return CLI_FAILED;
    }
    struct buffer out;
    buffer_init(&out, 0);
    buffer_append_text(&out, "store      ");
    text_printable(&out, path, strlen(path));
    buffer_append_text(&out, ", held by the running holdfast\n");
    bool ill = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(h, "degraded"));
    buffer_append_text(&out, ill ? "health     degraded since " : "health     well\n");
    if (ill) {
        text_printable(&out, text(h, "since"), strlen(text(h, "since")));
        buffer_append_text(&out, ": ");
        text_printable(&out, text(h, "why"), strlen(text(h, "why")));
        buffer_append_char(&out, '\n');
    }
    buffer_printf(&out, "size       %s, and a log of %s\n", words_bytes(number(h, "file_bytes"), a),
                  words_bytes(number(h, "wal_bytes"), b));
    buffer_printf(&out, "waiting    %s not yet on disk, %.0f events dropped from the store\n",
                  words_bytes(number(h, "pending_bytes"), c), number(h, "dropped"));
    buffer_printf(&out, "commits    %.0f of %.0f requests, %.0f failed; the last took %.0f ms, the longest %.0f ms\n",
                  number(h, "commits"), number(h, "requests"), number(h, "failures"),
                  number(h, "commit_ms_last"), number(h, "commit_ms_most"));
    ask_print(&out);
    buffer_deinit(&out);
    ask_deinit(&answer);
    return CLI_OK;
}
