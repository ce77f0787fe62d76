/* Peer: a scripted platform server. A Lua file (lua/peers/NAME.lua) in a state of its own, driven by a
 * host: the simulator, or libwebsockets on a real port. Knows neither.
 *
 * The Lua side is described at the top of lua/peers/discord.lua and in peer/api.c. */
#ifndef HOLDFAST_PEER_PEER_H
#define HOLDFAST_PEER_PEER_H

#include "base/buffer.h"
#include "base/value.h"

struct peer; /* opaque */

/* What a peer asks of its host. Ids are the host's, never reused. Nothing of it re-enters the peer:
 * what follows comes later. */
struct peer_port {
    void *self;
    uint64_t (*now_ms)(void *self);  /* mono */
    uint64_t (*wall_ms)(void *self);
    /* Answer an HTTP request. `headers`: "Name: value\r\n" lines. */
    void (*respond)(void *self, uint64_t request, int status, const char *headers, const void *body,
                    size_t len);
    void (*ws_send)(void *self, uint64_t ws, bool text, const void *data, size_t len);
    void (*ws_ping)(void *self, uint64_t ws);
    void (*ws_close)(void *self, uint64_t ws, uint16_t code, const char *reason); /* 0: no code */
    void (*ws_abort)(void *self, uint64_t ws);           /* drops the stream: 1006 for the client */
    void (*ws_deaf)(void *self, uint64_t ws, bool on);   /* stops reading and writing: half-open */
    void (*timer)(void *self, uint64_t timer, uint64_t delay_ms); /* peer_timer() later */
    void (*timer_stop)(void *self, uint64_t timer);
    void (*log)(void *self, const char *text);
};

struct peer_options {
    const char *name;            /* "discord" */
    const char *lua_path;        /* as for policies */
    const char *base_url;        /* "https://127.0.0.1:9443": where this peer is reached; ws likewise */
    const struct value *options; /* table for the peer: heartbeat_interval, faults ...; or NULL */
    uint64_t seed;
    struct peer_port port;       /* copied */
};

/* NULL with a sentence. */
struct peer *peer_create(const struct peer_options *options, char *why, size_t why_bytes);
void peer_destroy(struct peer *p);

struct peer_request {
    uint64_t id;                 /* of an HTTP request, or of the WebSocket that would open */
    const char *method;
    const char *target;          /* path and query */
    const char *host;
    const char *headers;         /* raw lines */
    const void *body;
    size_t body_len;
};
void peer_http(struct peer *p, const struct peer_request *request);
/* An upgrade was asked for. True: accept (the host then calls peer_opened). False: the peer answered with
 * respond() (or will: a silent one never does). */
enum peer_upgrade { PEER_ACCEPT, PEER_ANSWERED, PEER_SILENT };
enum peer_upgrade peer_upgrade(struct peer *p, const struct peer_request *request);
void peer_opened(struct peer *p, uint64_t ws);
void peer_message(struct peer *p, uint64_t ws, bool text, const void *data, size_t len);
void peer_closed(struct peer *p, uint64_t ws, uint16_t code); /* 1006 when the stream just ended */
void peer_timer(struct peer *p, uint64_t timer);
/* Calls a function of the peer's control table by name: tests and the CLI steer a running peer with it
 * ("kick", "fault", "stats" ...). False with a sentence. `*answer` is owned by the caller. */
bool peer_control(struct peer *p, const char *verb, const struct value *argument,
                  struct value *answer, char *why, size_t why_bytes);

/* The first error of the peer's own script since the last call, or NULL: a peer that raised is a broken
 * test, and whoever hosts it says so loudly. Borrowed until the next call of any peer function. */
const char *peer_error(struct peer *p);

#endif
