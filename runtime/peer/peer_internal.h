/* What the files of peer/ share. */
#ifndef HOLDFAST_PEER_PEER_INTERNAL_H
#define HOLDFAST_PEER_PEER_INTERNAL_H

#include <lua.h>

#include "base/rng.h"
#include "peer/peer.h"
#include "policy/sandbox.h"

struct peer {
    struct sandbox *sandbox;  /* owned */
    struct peer_port port;
    char name[64];
    char base_url[256];
    struct rng rng;
    int script_ref;           /* the table that the peer's file returned */
    int self_ref;             /* `p`: what the script calls us by */
    int sockets_ref;          /* id -> ws table */
    int timers_ref;           /* id -> function */
    uint64_t next_timer;
    char error[512];          /* first error since peer_error() */
    bool failed;
};

/* Pushes the methods' table for `p`, with the peer as upvalue, and registers those of sockets. */
void peer__open(struct peer *p, lua_State *L);
/* Pushes the ws table of an id, made at need. May raise. */
void peer__push_socket(struct peer *p, lua_State *L, uint64_t ws);
/* wkproto.c: p:wkproto{ ... }, and the metatable of what it makes. */
int peer__l_wkproto(lua_State *L);
void peer__open_wkproto(lua_State *L);

#endif
