/* What the load peer's files share. */
#ifndef FAR_END_PEER_INTERNAL_H
#define FAR_END_PEER_INTERNAL_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "far_end.h"
#include "launch.h"
#include "manners.h"

#define OUT_BYTES ((size_t)512 << 10)
#define UNDER_WAY_BYTES ((size_t)8 << 20)
#define HEAD_BYTES_MAX 4096
#define ATTEMPTS_MAX (1u << 17)

struct conn {
    int fd;
    SSL *ssl;
    char *head;          /* of the upgrade; NULL once answered */
    size_t head_len;
    uint8_t *rest;       /* not taken by the socket yet */
    size_t rest_len, rest_at;
    uint32_t place;      /* in peer.open */
    bool open;
    struct guest guest;
};

enum job { JOB_NONE, JOB_WAIT, JOB_GONE, JOB_BLAST, JOB_PACE, JOB_DROP, JOB_IDLE, JOB_LAUNCH };

struct peer {
    struct tally *tally;
    int epoll, listener;
    SSL_CTX *ctx;
    BIO_METHOD *bio;
    struct conn **open;   /* upgraded */
    uint32_t open_count, open_capacity;
    uint32_t conn_count;
    uint8_t *out;         /* records of one connection, to be sent at once */
    size_t out_len;
    pid_t watched;
    unsigned long handshakes, resumed, refused;

    enum job job;
    uint32_t want, cursor;
    uint64_t began_ns, until_ns, cpu_began_ns, next_ns, gap_ns;
    unsigned long sent, received_before;
    unsigned long sent_ever, closed;
    unsigned long long seq_sum;
    uint32_t burst;
    uint8_t frame[16384]; /* with its WebSocket header */
    size_t frame_len, seq_at, stamp_at;
    uint64_t seq;

    uint64_t refuse_ns;   /* how long, from the drop */
    uint64_t refuse_until_ns, dropped_ns;
    uint32_t attempt_count;
    uint32_t *attempt_us;
    struct manners manners;
    struct launch launch;
    char command[2048];
    size_t command_len;
};

/* peer.c */
void peer__say(const char *format, ...) __attribute__((format(printf, 1, 2)));
void conn__close(struct peer *p, struct conn *c, bool reset);
/* Sends p->out and empties it; false when the connection is dead. */
bool conn__send(struct peer *p, struct conn *c);
/* certificate.c: one that is its own CA, for 127.0.0.1 and localhost. */
void certificate__make(SSL_CTX *ctx, const char *ca_path);
/* frames.c */
void frames__make(struct peer *p, size_t size);
/* False: the connection is dead. `stamp`: each carries the time. */
bool frames__send(struct peer *p, struct conn *c, uint32_t count, bool stamp);
/* jobs.c: what takes a while, one at a time. */
void jobs__begin(struct peer *p, enum job job, unsigned long ms);
void jobs__step(struct peer *p);
/* commands.c: one line of the input. */
void command__run(struct peer *p, const char *line);

#endif
