/* peer: plays a platform's server side on a real port, for trying policies, for tests and for the
 * demonstration. Reads one JSON object a line on standard input as controls: {"verb":"kick","code":4000}. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include "base/text.h"
#include "cli/cli.h"
#include "cli/files.h"
#include "base/json_value.h"
#include "ops/peer_port.h"

#define CONTROL_LINE_MAX ((size_t)1 << 20)

struct peer_run {
    uv_loop_t loop;
    struct peer_server *server;
    uv_signal_t signals[2];
    uv_pipe_t controls;
    bool has_controls, quiet;
    struct buffer line;
    int errors;
};

static enum cli_exit run(struct cli *cli);
static bool options_read(struct cli *cli, struct value *out);
static void complain(const char *name, const char *why);
static bool ca_write(const char *path, const struct buffer *pem);
static void controls_open(struct peer_run *r);

static const struct cli_option options[] = {
    { "--port", NULL, "N", "listen at 127.0.0.1:N; 0: any free port, see the first line printed", false },
    { "--ca-out", NULL, "FILE", "write the CA of the certificate made on the spot", false },
    { "--faults", NULL, "FILE|k=v,...", "faults from the start: a JSON file, or a list", false },
    { "--option", NULL, "k=v", "an option of the peer; the value may be JSON", true },
    { "--options", NULL, "FILE", "options of the peer from a JSON file", false },
    { "--plain", NULL, NULL, "no TLS: http and ws", false },
    { "--quiet", NULL, NULL, "do not print what the peer's script says", false },
    { 0 },
};

const struct cli_command cli_peer = {
    .name = "peer",
    .usage = "peer PLATFORM --port N [--ca-out FILE] [--faults FILE|k=v,...] [--option k=v]... [--plain]",
    .about = "Play a platform's server on a loopback port, with faults on demand",
    .text = "  holdfast peer discord --port 9443 --ca-out ca.pem\n"
            "  holdfast peer discord --port 0 --plain --option events_every=1000\n"
            "  holdfast peer discord --port 9443 --faults 'silent_hello=2,no_ack=true'\n\n"
            "The head of lua/peers/discord.lua lists its options, faults and controls. While it runs, a line\n"
            "on standard input steers it: {\"verb\":\"kick\",\"code\":4000} or {\"verb\":\"stats\"}; each is\n"
            "answered with a line.\n\n"
            "PLATFORM is a file peers/PLATFORM.lua of the folder that HOLDFAST_LUA names (otherwise of lua/ beside\n"
            "this program). One of your own: examples/chirp shows the folder.\n",
    .options = options,
    .words_max = 1,
    .run = run,
};

static void on_peer_log(void *self, const char *text)
{
    struct peer_run *r = self;
    struct buffer b;
    if (r->quiet) return;
    buffer_init(&b, 0);
    text_printable(&b, text, strlen(text));
    printf("%.*s\n", (int)b.len, (const char *)b.data);
    fflush(stdout);
    buffer_deinit(&b);
}

static void on_signal(uv_signal_t *handle, int number)
{
    (void)number;
    uv_stop(handle->loop);
}

static enum cli_exit run(struct cli *cli)
{
    static struct peer_run r; /* one per process; uv wants it to stay */
    char why[512], *end;
    const char *port = cli_get(cli, "--port");
    if (cli->word_count == 0) return cli_misuse(cli, "peer needs a platform, as in `holdfast peer discord --port 9443`");
    if (!port) return cli_misuse(cli, "peer needs --port N (0: any free port)");
    long number = strtol(port, &end, 10);
    if (!*port || *end || number < 0 || number > 65535) {
        return cli_misuse(cli, "--port must be a number from 0 to 65535, and is %.40s", port);
    }
    struct value settings;
    if (!options_read(cli, &settings)) return CLI_USAGE;

    signal(SIGPIPE, SIG_IGN);
    uv_loop_init(&r.loop);
    buffer_init(&r.line, CONTROL_LINE_MAX);
    r.quiet = cli_get(cli, "--quiet") != NULL;
    struct peer_port_options o = { .peer = cli->words[0],
                                   .port = (int)number,
                                   .tls = !cli_get(cli, "--plain"),
                                   .options = &settings,
                                   .seed = 1,
                                   .log = on_peer_log,
                                   .log_self = &r };
    enum cli_exit result = CLI_FAILED;
    const char *ca_out = cli_get(cli, "--ca-out");
    r.server = peer_server_create(&r.loop, &o, why, sizeof why);
    if (!r.server) {
        complain(cli->words[0], why);
    } else if (!ca_out || ca_write(ca_out, peer_server_ca(r.server))) {
        for (int i = 0; i < 2; i++) {
            uv_signal_init(&r.loop, &r.signals[i]);
            uv_signal_start(&r.signals[i], on_signal, i ? SIGTERM : SIGINT);
        }
        controls_open(&r);
        printf("listening on %s\n", peer_server_url(r.server));
        fflush(stdout);
        uv_run(&r.loop, UV_RUN_DEFAULT);
        result = CLI_OK;
        for (int i = 0; i < 2; i++) uv_close((uv_handle_t *)&r.signals[i], NULL);
        if (r.has_controls) uv_close((uv_handle_t *)&r.controls, NULL);
    }
    const char *error = r.server ? peer_error(peer_server_peer(r.server)) : NULL;
    if (error) {
        cli_complain("the peer's script raised: %s", error);
        result = CLI_FAILED;
    }
    if (r.server) {
        peer_server_close(r.server);
        uv_run(&r.loop, UV_RUN_DEFAULT);
        peer_server_free(r.server);
    }
    uv_run(&r.loop, UV_RUN_DEFAULT);
    uv_loop_close(&r.loop);
    buffer_deinit(&r.line);
    value_clear(&settings);
    return result;
}

/* A script's own error tells the peer's name already. */
static void complain(const char *name, const char *why)
{
    char path[4096], prefix[80];
    snprintf(path, sizeof path, "%s/peers/%s.lua", files_lua(), name);
    snprintf(prefix, sizeof prefix, "peer %s: ", name);
    if (!strchr(name, '/') && access(path, F_OK) != 0) {
        cli_complain("peer %s: there is no %s; HOLDFAST_LUA names another folder than %s", name, path, files_lua());
    } else if (strncmp(why, prefix, strlen(prefix)) == 0) {
        cli_complain("%s", why);
    } else {
        cli_complain("%s%s", prefix, why);
    }
}

/* --- options ------------------------------------------------------------------------------------------------ */

static bool file_read(const char *path, struct value *out)
{
    struct buffer text;
    FILE *f = fopen(path, "rb");
    if (!f) {
        cli_complain("cannot read %s: %s", path, strerror(errno));
        return false;
    }
    buffer_init(&text, (size_t)16 << 20);
    size_t n = 1;
    while (n && buffer_reserve(&text, 65536)) {
        n = fread(text.data + text.len, 1, 65535, f);
        text.len += n;
    }
    fclose(f);
    char error[200];
    bool ok = json_value_parse((const char *)text.data, text.len, out, error, sizeof error);
    if (!ok) cli_complain("%s: %s", path, error);
    else if (out->kind != VALUE_TABLE) {
        cli_complain("%s: must be one JSON object", path);
        value_clear(out);
        ok = false;
    }
    buffer_deinit(&text);
    return ok;
}

/* "key=value": JSON where it is JSON, text otherwise. */
static bool pair_add(struct value *to, const char *text, size_t len)
{
    char key[128], error[200];
    const char *equals = memchr(text, '=', len);
    struct value v;
    if (!equals || equals == text || (size_t)(equals - text) >= sizeof key) {
        cli_complain("`%.*s` is not key=value", (int)len, text);
        return false;
    }
    text_copy(key, sizeof key, text, (size_t)(equals - text));
    size_t value_len = len - (size_t)(equals - text) - 1;
    if (!json_value_parse(equals + 1, value_len, &v, error, sizeof error)) {
        v = value_bytes(equals + 1, value_len);
    }
    value_set(to, key, v);
    return true;
}

static bool faults_read(const char *text, struct value *out)
{
    if (!strchr(text, '=')) return file_read(text, out);
    *out = value_table();
    while (*text) {
        size_t len = strcspn(text, ",");
        if (!pair_add(out, text, len)) {
            value_clear(out);
            return false;
        }
        text += len + (text[len] == ',');
    }
    return true;
}

static bool options_read(struct cli *cli, struct value *out)
{
    const char *file = cli_get(cli, "--options"), *faults = cli_get(cli, "--faults"), *pair;
    struct value v;
    *out = value_table();
    if (file) {
        if (!file_read(file, &v)) goto fail;
        value_clear(out);
        *out = v;
    }
    for (uint32_t i = 0; (pair = cli_get_nth(cli, "--option", i)); i++) {
        if (!pair_add(out, pair, strlen(pair))) goto fail;
    }
    if (faults) {
        if (!faults_read(faults, &v)) goto fail;
        value_set(out, "faults", v);
    }
    return true;
fail:
    value_clear(out);
    return false;
}

/* Written beside and moved: whoever waits for the file finds it whole. */
static bool ca_write(const char *path, const struct buffer *pem)
{
    char beside[4096];
    if (pem->len == 0) {
        cli_complain("--ca-out makes no sense with --plain: there is no certificate");
        return false;
    }
    snprintf(beside, sizeof beside, "%s.%ld", path, (long)getpid());
    FILE *f = fopen(beside, "wb");
    bool ok = f && fwrite(pem->data, 1, pem->len, f) == pem->len;
    if (f && fclose(f) != 0) ok = false;
    if (ok && rename(beside, path) == 0) return true;
    cli_complain("cannot write %s: %s", path, strerror(errno));
    if (f) unlink(beside);
    return false;
}

/* --- controls ----------------------------------------------------------------------------------------------- */

static void answer_control(struct peer_run *r, const char *line, size_t len)
{
    struct value argument, answer = value_nil();
    struct buffer out;
    char why[512];
    buffer_init(&out, 0);
    const char *verb = NULL;
    bool parsed = json_value_parse(line, len, &argument, why, sizeof why);
    if (parsed) verb = value_get_text(&argument, "verb");
    if (parsed && !verb) snprintf(why, sizeof why, "a control is {\"verb\":\"NAME\", ...}");
    bool ok = verb && peer_control(peer_server_peer(r->server), verb, &argument, &answer, why, sizeof why);
    if (ok) {
        buffer_append_text(&out, "{\"answer\":");
        if (!value_to_json(&answer, &out)) buffer_append_text(&out, "null");
    } else {
        buffer_append_text(&out, "{\"error\":");
        text_json_string(&out, why, strlen(why));
    }
    printf("%.*s}\n", (int)out.len, (const char *)out.data);
    fflush(stdout);
    buffer_deinit(&out);
    value_clear(&answer);
    if (parsed) value_clear(&argument);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct peer_run *r = handle->data;
    (void)suggested;
    bool room = buffer_reserve(&r->line, 4096);
    *buf = room ? uv_buf_init((char *)r->line.data + r->line.len, 4096) : uv_buf_init(NULL, 0);
}

static void on_control(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct peer_run *r = stream->data;
    uint8_t *end;
    (void)buf;
    if (n < 0) { /* nobody steers any more; the peer goes on */
        uv_read_stop(stream);
        return;
    }
    r->line.len += (size_t)n;
    while (r->line.len && (end = memchr(r->line.data, '\n', r->line.len))) {
        size_t len = (size_t)(end - r->line.data);
        if (len) answer_control(r, (const char *)r->line.data, len);
        buffer_consume(&r->line, len + 1);
    }
}

/* Only where something was connected on purpose: a terminal in the background would stop us. */
static void controls_open(struct peer_run *r)
{
    struct stat st;
    if (fstat(STDIN_FILENO, &st) != 0 || !(S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode))) return;
    if (uv_pipe_init(&r->loop, &r->controls, 0) != 0) return;
    r->controls.data = r;
    r->has_controls = true;
    if (uv_pipe_open(&r->controls, STDIN_FILENO) == 0) {
        uv_read_start((uv_stream_t *)&r->controls, on_alloc, on_control);
    }
}
