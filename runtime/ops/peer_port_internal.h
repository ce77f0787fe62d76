/* What peer_port.c (the server) and peer_port_lws.c (libwebsockets' callbacks) share. */
#ifndef HOLDFAST_OPS_PEER_PORT_INTERNAL_H
#define HOLDFAST_OPS_PEER_PORT_INTERNAL_H

#include <libwebsockets.h>

#include "base/slots.h"
#include "ops/peer_port.h"

struct peer_message_out {
    struct peer_message_out *next;
    enum lws_write_protocol kind;
    size_t len;
    unsigned char bytes[]; /* LWS_PRE bytes of room, then the payload */
};

/* One HTTP request or WebSocket. */
struct peer_conn {
    struct handle self;
    struct peer_server *server;
    struct lws *wsi;           /* borrowed; NULL once libwebsockets let go of it */
    bool websocket;
    bool deaf, abort, close, closing;
    uint16_t close_code, peer_code;
    char close_reason[124];
    struct peer_message_out *out, *out_tail; /* owned */
    struct buffer in;          /* a message in pieces; a request's body */
    bool in_text;
    /* HTTP */
    char method[8];
    struct buffer target, headers, host;
    bool handed;               /* to the peer: once */
    bool answered, written_head;
    int status;
    struct buffer answer_headers, answer_body;
    size_t body_sent;
    bool deciding;             /* inside the upgrade's question: an answer is written at once */
};

struct peer_timer_slot {
    uv_timer_t uv;
    struct peer_server *server;
    uint64_t id;
    struct peer_timer_slot *next;
};

struct peer_server {
    uv_loop_t *loop;
    struct lws_context *context;
    struct lws_vhost *vhost;
    struct peer *peer;         /* owned */
    struct certs certs;
    SSL_CTX *unused;           /* owned; stands where libwebsockets would make a client's */
    char url[64];
    struct slots conns;
    struct peer_timer_slot *timers;
    uv_idle_t later;           /* closes and aborts, which may not happen inside callbacks */
    bool later_on, closed;
    bool lws_ends; /* lws_end_begin() was called, lws_end_over() not */
    void (*log)(void *self, const char *text);
    void *log_self;
    uint32_t handles;          /* of ours that are still open */
};

extern const struct lws_protocols peer_port__protocols[];

void peer_port__later(struct peer_server *s);
void peer_port__conn_free(struct peer_conn *c);
/* Writes head and body of an answer; true when it is out. */
bool peer_port__write_answer(struct peer_conn *c);

#endif
