/* send: one frame over a connection's link, checked by the policy as any consumer's is. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/ask.h"
#include "cli/words.h"

#define FRAME_BYTES_MAX ((size_t)1 << 20) /* what the API takes */

static enum cli_exit run(struct cli *cli);

static const struct cli_option options[] = {
    { "--bytes", NULL, NULL, "send the bytes as they are: a binary frame, no JSON", false },
    { "--json", NULL, NULL, "the API's own JSON", false },
    CLIENT_OPTIONS,
    { 0 },
};

const struct cli_command cli_send = {
    .name = "send",
    .usage = "send NAME FRAME [--bytes] [--json] [--socket PATH | -c FILE]",
    .about = "Send one frame to the platform; FRAME - reads it from standard input",
    .text = "  holdfast send support-bot '{\"op\":3,\"d\":{\"status\":\"online\",\"afk\":false}}'\n"
            "  ./make-frame | holdfast send support-bot -\n\n"
            "The policy's `frames.accept` says what may be sent, its budget how much. Prints "
            "`sent`, or why it\n"
            "was refused and whether trying again makes sense; then the exit code is 1. A frame "
            "that waits for\n"
            "its budget for more than 10 s is taken back.\n",
    .options = options,
    .words_max = 2,
    .run = run,
};

/* False after a complaint. */
static bool input_read(struct buffer *frame)
{
    buffer_init(frame, FRAME_BYTES_MAX + 65536);
    while (buffer_reserve(frame, 65536)) {
        ssize_t n = read(STDIN_FILENO, frame->data + frame->len, 65536);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            cli_complain("standard input: %s", strerror(errno));
            return false;
        }
        if (n == 0) return true;
        frame->len += (size_t)n;
        if (frame->len > FRAME_BYTES_MAX) break;
    }
    cli_complain("the frame is longer than 1 MiB");
    return false;
}

static enum cli_exit tell(const char *path, const struct ask_answer *a, bool json)
{
    const cJSON *refused = cJSON_GetObjectItemCaseSensitive(a->json, "refused");
    bool sent = a->status == 200;
    if (json && a->json) {
        ask_print(&a->body);
    } else if (sent) {
        puts("sent");
    } else if (refused) {
        cli_complain("refused: %s (%s)", words_text(refused, "why"),
                     cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(refused, "retry"))
                         ? "trying again later makes sense"
                         : "trying again would not help");
    } else {
        ask_complain(path, a);
    }
    return sent ? CLI_OK : CLI_FAILED;
}

static enum cli_exit run(struct cli *cli)
{
    char path[CLIENT_PATH_MAX], why[512];
    struct buffer input;
    struct ask_answer a;
    if (cli->word_count < 2) {
        return cli_misuse(cli, cli->word_count ? "send needs a frame, or - for standard input"
                                               : "send needs a connection's name and a frame");
    }
    if (!client_find(cli, path, why, sizeof why)) {
        cli_complain("%s", why);
        return CLI_FAILED;
    }
    const char *frame = cli->words[1];
    size_t len = strlen(frame);
    bool from_input = strcmp(frame, "-") == 0;
    buffer_init(&input, 0);
    enum cli_exit result = CLI_FAILED;
    bool ok = !from_input || input_read(&input);
    if (ok && from_input) {
        frame = (const char *)input.data;
        len = input.len;
    }
    const char *type = cli_get(cli, "--bytes") ? "application/octet-stream" : "application/json";
    if (ok && ask_order(path, cli->words[0], "send", type, frame, len, &a)) {
        result = tell(path, &a, cli_get(cli, "--json") != NULL);
        ask_deinit(&a);
    }
    buffer_deinit(&input);
    return result;
}
