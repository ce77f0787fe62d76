/* lws_facts: the same connection made twice, once by libwebsockets as a client and once by what
 * holdfast uses (net, upgrade, codec), against a server that is neither. What each side's
 * application was told is kept in a `struct call`; the facts are read off it and off what the
 * server saw.
 *
 * Words
 *   side     one of the two clients, with a libuv loop of its own
 *   call     one connection of a side, from its dial to its end
 *   serve    what the server does with one connection; runs in the server's thread */
#ifndef HOLDFAST_BENCH_LWS_FACTS_H
#define HOLDFAST_BENCH_LWS_FACTS_H

#include <openssl/ssl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CALL_MS_MAX 4000 /* a call that is not over by then is given up */

struct call {
    /* wanted */
    const char *name; /* host; borrowed during the call */
    uint16_t port;
    bool tls;
    uint64_t linger_ms; /* closes that long after the first message; 0: the server ends it */
    /* what the application was told */
    bool opened, over, by_peer;
    int status;     /* of a refused upgrade; 0: unknown */
    char body[256]; /* of a refused upgrade */
    size_t body_len;
    int close_code;  /* the peer's; 0: none was told */
    char words[160]; /* an error, as the side says it */
    uint64_t messages, bytes;
    uint64_t stall_ms; /* the longest time in which the loop did not turn */
};

/* --- the two sides ---------------------------------------------------------------------------- */

struct lws_side;
struct lws_side *lws_side_create(const char *ca_file); /* owned; NULL: no context */
void lws_side_destroy(struct lws_side *side);
void lws_side_call(struct lws_side *side, struct call *call);
const char *lws_side_version(void);

struct our_side;
struct our_side *our_side_create(const char *ca_file); /* `ca_file`: borrowed until destroyed */
void our_side_destroy(struct our_side *side);
void our_side_call(struct our_side *side, struct call *call);

/* --- stand-ins for two functions of the C library, in this program only ------------------------
 */

/* While it is above 0 every getaddrinfo() takes that long. */
void stand_in_resolver_slow(uint64_t ms);
/* How many getaddrinfo() were made since the last call of this. */
unsigned stand_in_resolver_calls(void);

/* The time between the return of recv() and the next recv(), or the loop's next wait, on the thread
 * that started the meter: what a client does with bytes once it has them. */
#define METER_READS_MAX 65536
struct meter {
    bool on, running;
    uint64_t ns, since;
    uint32_t sizes[METER_READS_MAX]; /* of the reads, to feed another parser alike */
    uint32_t reads;
};
/* One meter at a time; `m`: borrowed until stopped. */
void stand_in_meter_start(struct meter *m);
void stand_in_meter_stop(void);
/* The loop is about to wait. */
void stand_in_meter_pause(void);
uint64_t now_ns(void);
/* CPU time of the calling thread: other work of the machine does not count. */
uint64_t cpu_ns(void);

/* --- the server ---------------------------------------------------------------------------------
 */

struct conn {
    int fd;
    SSL *ssl;        /* NULL: no TLS */
    char head[4096]; /* of the request */
};
typedef void serve_fn(struct conn *c, void *data);

struct server {
    serve_fn *serve;
    void *data;
    uint16_t port;
    int listener;
    SSL_CTX *tls;
    pthread_t thread;
};

/* Writes its own certificate, for "localhost", to `path`. */
SSL_CTX *server_identity(const char *path);
/* Serves one connection after the other. `tls`: borrowed until the stop; may be NULL. */
bool server_start(struct server *s, serve_fn *serve, void *data, SSL_CTX *tls);
/* Waits for what is being served; after it `data` can be read. */
void server_stop(struct server *s);

bool conn_write(struct conn *c, const void *bytes, size_t len);
/* False at the end of the stream. */
bool conn_read(struct conn *c, void *out, size_t len);
bool conn_request(struct conn *c);
bool conn_upgrade(struct conn *c);
/* A client's frame of at most 125 bytes; its opcode, or -1. */
int conn_frame(struct conn *c, uint8_t payload[126], size_t *len);
/* An unmasked frame of the server, below 64 KiB; bytes written to `out`. */
size_t frame_write(uint8_t *out, int opcode, const void *payload, size_t len);
void sleep_ms(uint64_t ms);

/* --- the facts ----------------------------------------------------------------------------------
 */

struct fact {
    const char *what;
    bool reproduced;
    bool ours_is_right; /* the codec did what the table says of it */
    char lws[600], ours[600];
    const char *where;
};

struct bench {
    struct lws_side *lws;
    struct our_side *ours;
    SSL_CTX *tls;
};

/* False when the experiment itself could not be made; `lws` then says why. */
typedef bool fact_fn(struct bench *b, struct fact *f);
fact_fn fact_close_codes, fact_pings, fact_refusal_body, fact_resolver, fact_resumption;
fact_fn fact_cost_small, fact_cost_large;

#endif
