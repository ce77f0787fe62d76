/* What the files of net/ share. Nobody else includes this.
 *
 * One turn of the loop: poll callbacks read; then, in uv_prepare, queued turns run (what ops asked for, and
 * reads that the poll had no time for), the runtime's tick if it is due, steps of dials, and last all written
 * bytes are flushed, so that many small writes become one. Each part has its share of time; what is left waits
 * for the next turn, in order, so that nothing keeps the loop for longer than a few milliseconds, and a herd of
 * handshakes comes after frames and beats. An active uv_idle keeps the loop from sleeping while any of it waits. */
#ifndef HOLDFAST_NET_NET_INTERNAL_H
#define HOLDFAST_NET_NET_INTERNAL_H

#include <netinet/in.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/buffer.h"
#include "net/delay.h"
#include "net/list.h"
#include "net/net.h"
#include "net/table.h"

#define NET_READ_BYTES ((size_t)64 << 10) /* the loop's one read buffer; also a link's share of a turn */
#define NET_DRAIN_BYTES_MAX ((size_t)1 << 20)
#define NET_ADDRESSES_MAX 8
#define NET_HOST_BYTES_MAX 254

/* Work to be done in the next turn. */
struct turn {
    struct node node;
    void (*run)(struct turn *turn);
};

/* Somebody waiting for a shared answer (a lookup, a trust). `done` comes from the loop. */
struct wait {
    struct node node;
    void (*done)(struct wait *wait);
};

#define RANDOM_FEW_BYTES   16
#define RANDOM_STORE_BYTES 1024

struct random_store {
    uint8_t bytes[RANDOM_STORE_BYTES]; /* the first `left` are still to be given */
    size_t left;
};

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

struct address_list {
    uint32_t count;
    union address items[NET_ADDRESSES_MAX];
};

struct http;
struct resolver;
struct trusts;

struct net {
    uv_loop_t *loop;
    const struct host_sink *sink;
    struct runtime *rt;
    void (*tick)(struct runtime *rt);
    uint64_t (*deadline_ms)(struct runtime *rt);

    struct node turns;       /* struct turn */
    struct node flushes;     /* struct net_link.flush */
    struct node dials;       /* struct net_link.dial: work on links that are not open yet */
    bool behind;             /* some of them were left for the next turn */
    struct node attempts;    /* struct net_link.attempt: oldest first, all with the same bound */
    struct table links;      /* struct net_link */
    struct table calls;      /* struct http_call */
    struct resolver *resolver; /* owned */
    struct trusts *trusts;     /* owned */
    struct http *http;         /* owned */
    uint8_t *read_buffer;      /* owned, NET_READ_BYTES; in use only while one link is read */
    /* TLS records as they came, while `of` is read. */
    struct net_records {
        uint8_t *bytes;        /* owned, NET_READ_BYTES */
        size_t at, len;        /* not taken by OpenSSL yet */
        size_t room;           /* to receive at most at once */
        struct net_link *of;   /* NULL: nobody is read */
        bool asked;            /* the socket was, before OpenSSL: `got` came of it, which was no bytes */
        ssize_t got;
    } records;

    uv_prepare_t prepare;
    uv_check_t check;
    uv_idle_t idle;
    uv_timer_t timer;          /* the runtime's deadline */
    uv_timer_t attempt_timer;  /* the oldest attempt's bound */
    uv_timer_t rest_timer;     /* memory that links left goes back to the system */
    uint64_t attempt_ms;
    bool wake;
    uint64_t armed_ms;         /* NET_DEADLINE_NEVER when the timer is stopped */

    uint64_t lag_ms[2];        /* largest of this and of the last window */
    uint64_t lag_window_ms;    /* when this one began */
    uint64_t turn_at_ns;       /* when the loop went to poll */
    uint64_t read_ns;          /* of this turn, that open links had */
    uint64_t awake_ns;         /* when it came back, as the first callback saw it; 0: it has not */
    /* CPU time of this thread: read once so much was done since, because that is a call of the system. */
    uint64_t cpu_ns;           /* what its clock said last */
    uint64_t cpu_unread_ns;    /* awake since then */
    uint64_t busy_ns;          /* of this turn, as far as it was read */
    struct delay delay;
    struct random_store random;

    bool closing;
    uint32_t holds;            /* uv handles and pool work that are not over */
    void (*closed)(void *data);
    void *closed_data;
    struct net_counts counts;
};

uint64_t net__now_ms(void);
/* The runtime's tick, in this turn. */
void net__wake(struct net *net);
void net__random(struct net *net, void *out, size_t len);
/* Runs `turn` in the next turn; once, however often it is asked for. */
void net__queue(struct net *net, struct turn *turn);
void net__flush_soon(struct net *net, struct node *flush);
/* A step of this dial when its turn comes; once, however often it is asked for. */
void net__dial_soon(struct net *net, struct node *dial);
/* Around what a poll brings of an open link. 0: this turn's share is used up, and it must wait for the next. */
uint64_t net__read_begins(struct net *net);
void net__read_ends(struct net *net, uint64_t began_ns);
void net__arm_attempts(struct net *net);
/* Keeps `net` alive until as many releases. */
void net__hold(struct net *net);
void net__release(struct net *net);
/* Causes with a printf'ed reason, cut to fit and made printable. */
struct cause net__cause(enum stage stage, enum cause_kind kind, int64_t code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* The kind that an errno of connect() means. */
enum cause_kind net__connect_kind(int error);
/* The kind that an errno of a stream means. */
enum cause_kind net__stream_kind(int error);

/* turn.c */
void turn__init(struct net *net);

/* resolve.c */
struct resolve_wait {
    struct wait wait;
    struct lookup *lookup; /* borrowed while waiting */
};
enum resolve_result { RESOLVE_READY, RESOLVE_WAITING, RESOLVE_FAILED };
struct resolver *resolver__create(struct net *net, uint64_t ttl_ms);
void resolver__close(struct resolver *r); /* cancels what can be; the rest ends by itself */
void resolver__destroy(struct resolver *r);
/* READY: `out` is filled (ports are 0). FAILED: `status_out` is libuv's. WAITING: wait->done comes. */
enum resolve_result resolver__get(struct resolver *r, const char *host, struct resolve_wait *wait,
                                  struct address_list *out, int *status_out);
/* Only inside wait->done. */
enum resolve_result resolver__take(struct resolve_wait *wait, struct address_list *out,
                                   int *status_out);
void resolver__leave(struct resolve_wait *wait); /* harmless when not waiting */
/* True for IPv4 and IPv6 literals. */
bool address__parse(const char *host, union address *out);
/* "192.0.2.1" or "2001:db8::1". */
const char *address__text(const union address *a, char out[INET6_ADDRSTRLEN]);
void address__set_port(union address *a, uint16_t port);
socklen_t address__len(const union address *a);

/* tls.c, trust.c */
struct trust;
enum trust_result { TRUST_READY, TRUST_WAITING, TRUST_FAILED };
struct trusts *trusts__create(struct net *net, const char *system_ca_file, uint64_t look_ms);
void trusts__destroy(struct trusts *t);
/* At all files, now: what changed holds from the next dial on. */
void trusts__look(struct trusts *t);
/* `ca_file` NULL: the system's CAs alone. FAILED: trust__error() tells why. The trust is borrowed
 * until the loop runs again. */
enum trust_result trusts__get(struct trusts *t, const char *ca_file, struct wait *wait,
                              struct trust **out);
const char *trust__error(const struct trust *t);
X509_STORE *trust__store(const struct trust *t);
SSL_CTX *trust__context(const struct trust *t);
uint64_t trust__id(const struct trust *t); /* another one after each reload */
struct sessions *trusts__sessions(struct trusts *t);
BIO_METHOD *trusts__bio_method(struct trusts *t);
/* anchors.c: how a store finds those certificates of a bundle that are parsed when they are asked for. Owned. */
X509_LOOKUP_METHOD *anchors__method(void);
/* How many certificates `file` holds; 0: none, or no memory. `method` outlives the store. */
uint32_t anchors__add(X509_STORE *store, X509_LOOKUP_METHOD *method, FILE *file);
BIO_METHOD *bio__method(void); /* owned; NULL when memory is out */

struct net_link;
SSL_CTX *tls__context(X509_STORE *store); /* moved; options, modes and callbacks of links; NULL when memory is out */
/* The bytes of link->fd for OpenSSL, NULL when memory is out. Keeps errno, EOF and the peer's first
 * bytes in the link: OpenSSL's own BIO loses them, and raises SIGPIPE. */
BIO *bio__create(struct net_link *link);
/* OpenSSL was given whole records alone. */
bool bio__between_records(const struct net_link *link);
/* What was received ahead of OpenSSL is one record, whole. */
bool bio__is_one_record(const struct net_link *link);
/* As recv() from its socket, and notes what came of it. */
ssize_t bio__receive(struct net_link *link, void *out, size_t len);
/* An SSL on link->fd, ready for the handshake. False when memory is out. */
bool tls__start(struct net_link *link, const struct trust *trust);
/* Asks for the memory that OpenSSL's next read or write of an open link looks at. */
void tls__warm(const struct net_link *link);
void tls__errors_clear(void); /* before a call whose error will be asked for */
void tls__handshake(struct net_link *link);
/* After the handshake, and whenever a ticket came: lets go of what the link's session holds for nobody. */
void tls__settle(struct net_link *link);
/* What a failed SSL call means, by its SSL_get_error(); to be asked before any other SSL call. */
struct cause tls__cause(struct net_link *link, enum stage stage, int ssl_error);
void tls__free(struct net_link *link, bool session_is_bad);

struct sessions;
struct sessions *sessions__create(void);
void sessions__destroy(struct sessions *s);
void sessions__put(struct sessions *s, const char *host, uint16_t port, uint64_t trust_id,
                   SSL_SESSION *session); /* moved */
/* Borrowed until the loop runs again, or NULL. */
SSL_SESSION *sessions__find(struct sessions *s, const char *host, uint16_t port, uint64_t trust_id);
void sessions__drop(struct sessions *s, const char *host, uint16_t port, uint64_t trust_id);
/* `ssl` stands: what its own session holds beyond what links to this place have in common is let go. */
void sessions__share(struct sessions *s, const char *host, uint16_t port, uint64_t trust_id, SSL *ssl);

/* link.c, stream.c */
enum link_at {
    AT_NEW,
    AT_TRUST,
    AT_RESOLVE,
    AT_CONNECT,
    AT_PROXY,
    AT_SECURE,
    AT_OPEN,
    AT_OVER, /* no descriptor; what is left to tell is told in the next turn */
};

#define LINK_WORK_READ 1u
#define LINK_WORK_DRAIN 2u
#define LINK_WORK_WRITABLE 4u
#define LINK_WORK_POLLED 8u /* the poll said what `late` holds, when the turn had no time left */

/* The watched socket: outlives its link by one turn, until libuv has let go of it. */
struct watch {
    uv_poll_t poll;
    struct net_link *link; /* NULL once let go */
    struct net *net;
};

/* What a frame looks at comes first: of ten thousand links none is in a cache when its next one comes. */
struct net_link {
    struct table_entry entry; /* by id */
    struct net *net;
    struct node flush;
    enum link_at at;
    unsigned work;
    int fd;
    int events;           /* asked of the poll */
    struct watch *watch;  /* moved to libuv when closed */
    SSL *ssl;             /* owned */
    struct buffer out;    /* owned: written, not taken */
    struct buffer kept;   /* owned: read, not consumed */
    struct buffer sealed; /* owned: records that were read and not taken by OpenSSL; nearly always empty */
    int write_errno;
    int sys_errno;        /* of the last recv or send below OpenSSL */
    bool sys_eof;
    bool reading;
    bool dry;             /* the socket was emptied by this turn's reads */
    bool taken;           /* OpenSSL holds nothing of what was read before: it asks for more first */
    bool want_write_to_read, want_read_to_write;
    bool write_blocked;
    bool above_low;
    bool finishing, notified, shut;
    bool poll_failed;
    bool ended;           /* `cause` is to be told */
    bool end_seen;        /* `cause` is to be told once the kept bytes are consumed */
    bool got_session;     /* a ticket came, whose buffers OpenSSL would keep until the next write */
    uint8_t record_head[5], record_head_len; /* of the TLS record that OpenSSL is given: as much as it has */
    uint16_t record_left;                    /* bytes of its body that OpenSSL has not */
    int late;
    struct turn turn;

    struct node dial;
    struct node attempt;
    uint64_t attempt_until_ms;
    struct wait trust_wait;
    struct resolve_wait resolve_wait;

    char *host;          /* owned; without brackets and final dot */
    char *ca_file;       /* owned, or NULL */
    char *proxy_host;    /* owned, or NULL */
    char *proxy_authorization; /* owned, or NULL; wiped */
    uint16_t port, proxy_port;
    bool tls;

    struct address_list *addresses; /* owned while connecting */
    uint32_t address_at;
    struct cause dial_cause; /* the most telling of the addresses tried so far */
    uint32_t dial_failed;

    uint64_t trust_id;
    uint8_t alert;        /* last one received */
    bool got_alert;
    char *peer_name;      /* owned, or NULL: what a certificate for somebody else is for */
    uint8_t first[24];    /* first bytes of the peer during the handshake */
    uint8_t first_len;
    struct cause cause;
};

bool link__open(struct net *net, uint64_t id, const struct link_target *target);
struct net_link *link__find(struct net *net, uint64_t id);
#define LINK_FRAME_BYTES offsetof(struct net_link, dial) /* what a frame looks at */
/* What the kernel says of the socket; false: there is none that stands. */
bool link__info(const struct net_link *link, struct host_link_info *out);
void link__abort(struct net_link *link);
void link__destroy_all(struct net *net);
/* Closes the descriptor and tells link_ended and link_closed in the next turn. */
void link__end(struct net_link *link, const struct cause *cause);
/* Bytes can flow: link_opened. */
void link__opened(struct net_link *link);
void link__poll(struct net_link *link); /* asks the poll for what the state needs */
void link__let_go_of_socket(struct net_link *link);

/* dial.c */
void dial__init(struct net_link *link);
void dial__leave(struct net_link *link); /* nothing of it waits any more */
/* Its next step: whatever it can do without waiting. */
void dial__step(struct node *dial);
void dial__attempts_due(struct net *net);
/* TCP stands, and the proxy's tunnel where there is one. */
void dial__connected(struct net_link *link);

/* "proxy.example:3128", "[::1]:3128" */
#define PROXY_SHOWN_BYTES (NET_HOST_BYTES_MAX + 16)
const char *proxy__shown(const char *host, uint16_t port, char out[PROXY_SHOWN_BYTES]);
/* "the proxy at H:P refused the tunnel: HTTP 407 Proxy Authentication Required". `line`: what follows
 * the status, from the proxy; borrowed, may be NULL. */
struct cause proxy__refused(const char *shown, int status, const char *line, size_t len);
void proxy__start(struct net_link *link);
void proxy__on_poll(struct net_link *link);

void stream__on_poll(struct net_link *link, int events);
bool stream__write(struct net_link *link, const void *bytes, size_t len);
void stream__flush(struct net_link *link);
void stream__read(struct net_link *link, size_t bytes_max);
void stream__finish(struct net_link *link);
int stream__wanted(const struct net_link *link);

/* http.c */
struct http *http__create(struct net *net);
void http__close(struct http *h); /* ends all calls, closes the handles */
void http__destroy(struct http *h);
bool http__start(struct net *net, uint64_t id, const struct http_request *request);
void http__cancel(struct net *net, uint64_t id);

#endif
