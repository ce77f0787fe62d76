/* Takeover: what the new process of an upgrade does before it may dial. Blocks, because until the old one
 * says so there is nothing else to do. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "ops/daemon_internal.h"

void daemon__takeover_describe(const struct config *config, struct handover_message *out)
{
    const struct config_listen *l = &config->listen;
    const char *unix_path = l->unix_path ? l->unix_path : "", *store = config->store_path;
    text_copy(out->unix_path, sizeof out->unix_path, unix_path, strlen(unix_path));
    if (store && !config->store_memory) text_copy(out->store, sizeof out->store, store, strlen(store));
    if (l->http) snprintf(out->http, sizeof out->http, "%s %u", l->http_host, l->http_port);
}

bool daemon_takeover_wait(int fd, const struct config *config, const char *version,
                          struct handover_message *taken, char *why, size_t why_bytes)
{
    struct handover_message ready;
    enum handover_received got;
    handover_message_init(&ready, HANDOVER_READY);
    text_copy(ready.version, sizeof ready.version, version, strlen(version));
    daemon__takeover_describe(config, &ready);
    if (!handover_send(fd, &ready)) {
        snprintf(why, why_bytes, "the holdfast that was to be replaced is gone");
        return false;
    }
    while ((got = handover_receive(fd, -1, taken)) == HANDOVER_NOTHING) continue;
    if (got == HANDOVER_GOT && taken->kind == HANDOVER_TAKE) return true;
    handover_message_close(taken);
    snprintf(why, why_bytes, got == HANDOVER_ENDED
                                 ? "the holdfast that was to be replaced ended, or goes on itself"
                                 : "the holdfast that was to be replaced said what is not understood");
    return false;
}

bool daemon__takeover_finish(struct daemon *d, char *why, size_t why_bytes)
{
    struct handover_message m;
    enum handover_received got;
    int fd = d->options.handover_fd;
    handover_message_init(&m, HANDOVER_TAKEN);
    bool told = handover_send(fd, &m);
    while (told && (got = handover_receive(fd, -1, &m)) == HANDOVER_NOTHING) continue;
    bool go = told && got == HANDOVER_GOT && m.kind == HANDOVER_GO;
    handover_message_close(&m);
    if (go) {
        log_printf(d->options.log, LOG_INFO, NULL, "took over from process %ld", (long)getppid());
        return true;
    }
    /* It never hangs up as long as it lives, and would have killed this process first. */
    if (!told || got == HANDOVER_ENDED) {
        log_line(d->options.log, LOG_WARNING, NULL, "the holdfast that handed over died: going on without its word");
        return true;
    }
    snprintf(why, why_bytes, "the holdfast that was to be replaced said what is not understood");
    return false;
}
