/* A bare libwebsockets client. Usage: lws PORT CA_PATH SOCKET_PATH COUNT */
#include <errno.h>
#include <libwebsockets.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#define OUT_BYTES ((size_t)256 << 10)
#define MESSAGE_BYTES ((size_t)64 << 10)

struct conn {
    struct lws *wsi;
    bool up;
};

static int local_fd, port;
static struct lws_context *context;
static uint8_t out[OUT_BYTES + MESSAGE_BYTES];
static size_t out_len, message_at;
static unsigned long frames;
static unsigned count, dialled, pending;
static struct conn *conns;

static void local_write(void)
{
    for (size_t at = 0; at < out_len;) {
        ssize_t n = send(local_fd, out + at, out_len - at, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR) exit(0);
        if (n > 0) at += (size_t)n;
    }
    out_len = message_at = 0;
}

static void dial(struct conn *c)
{
    struct lws_client_connect_info info = { .context = context, .address = "127.0.0.1", .host = "127.0.0.1", .path = "/",
                                            .origin = "127.0.0.1", .port = port, .ssl_connection = LCCSCF_USE_SSL,
                                            .local_protocol_name = "bench", .opaque_user_data = c, .pwsi = &c->wsi };
    lws_client_connect_via_info(&info);
}

static bool take(const uint8_t *p, size_t len)
{
    const uint8_t *op = memmem(p, len, "\"op\":", 5), *s = memmem(p, len, "\"s\":", 4), *t = memmem(p, len, "\"t\":", 4);
    return op && s && t && op[5] == '0';
}

static int callback(struct lws *wsi, enum lws_callback_reasons why, void *user, void *in, size_t len)
{
    (void)user;
    struct conn *c = lws_get_opaque_user_data(wsi);
    switch (why) {
    case LWS_CALLBACK_CLIENT_ESTABLISHED:
        c->up = true;
        if (pending) pending--;
        break;
    case LWS_CALLBACK_CLIENT_RECEIVE:
        if (out_len + len + 1 > sizeof out) exit(3);
        memcpy(out + out_len, in, len);
        out_len += len;
        if (!lws_is_final_fragment(wsi) || lws_remaining_packet_payload(wsi)) break;
        if (take(out + message_at, out_len - message_at)) {
            frames++;
            out[out_len++] = '\n';
        } else {
            out_len = message_at;
        }
        message_at = out_len;
        if (out_len > OUT_BYTES) local_write();
        break;
    case LWS_CALLBACK_CLIENT_CLOSED:
    case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
        c->wsi = NULL;
        c->up = false;
        break;
    default: break;
    }
    return 0;
}

static void nothing(int level, const char *line)
{
    (void)level;
    (void)line;
}

int main(int argc, char **argv)
{
    if (argc != 5) return 64;
    static const struct lws_protocols protocols[] = { { "bench", callback, 0, 8192, 0, NULL, 0 }, { NULL, NULL, 0, 0, 0, NULL, 0 } };
    struct lws_context_creation_info info = { .port = CONTEXT_PORT_NO_LISTEN, .protocols = protocols, .client_ssl_ca_filepath = argv[2],
                                              .options = LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT, .gid = (gid_t)-1, .uid = (uid_t)-1 };
    struct sockaddr_un local = { .sun_family = AF_UNIX };
    signal(SIGPIPE, SIG_IGN);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    lws_set_log_level(LLL_ERR, nothing);
    port = atoi(argv[1]);
    count = (unsigned)atoi(argv[4]);
    snprintf(local.sun_path, sizeof local.sun_path, "%s", argv[3]);
    local_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(local_fd, (struct sockaddr *)&local, sizeof local) != 0) return 2;
    context = lws_create_context(&info);
    if (!context) return 2;
    conns = calloc(count ? count : 1, sizeof *conns);
    for (;;) {
        for (; dialled < count && pending < 64; pending++) dial(&conns[dialled++]);
        for (unsigned i = 0; i < dialled; i++) {
            if (!conns[i].wsi) dial(&conns[i]);
        }
        lws_service(context, 0);
        local_write();
    }
}
