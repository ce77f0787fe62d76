/* The load peer: one thread, one epoll. Cheaper than any client: frames are prebuilt but for number and
 * time stamp, each is a TLS record of its own (as servers write them), and many records go out in one
 * send. What is under way is bounded by what the consumer has counted.
 *
 * Commands, one a line; each is answered by one line:
 *   watch PID           whose CPU time and memory are measured
 *   attach PATH         be holdfast's consumer
 *   wait N MS           -> open N ms M cpu NS        until N links are upgraded
 *   none MS             -> open 0 ...                until no link is left
 *   blast MS SIZE BURST -> sent N received N cpu NS ns NS
 *   pace MS SIZE RATE   -> sent N received N cpu NS ns NS p50 NS p99 NS max NS
 *   memory              -> rss KB pss KB
 *   drop N MS           -> open N ms M cpu NS resumed N handshakes N refused N    all cut, until N are back
 *   refuse MS           -> ok                        from the next drop on, new links are cut for so long
 *   attempts MS N       -> attempts, in N parts of MS since the last drop
 *   idle MS             -> cpu NS ns NS                                           nothing is sent
 *   stop                -> nothing: a pace or blast that is under way ends now, and answers
 *   links               -> open N closed N           closed: ever, by either side
 *   tally               -> sent N sum N received N got N holes N gaps N   since the start; sums of the frames' numbers
 *   probe PATH          -> ok                        asks holdfast's socket for /healthz from now on
 *   unprobe             -> ok
 *   probed              -> probes N max US over5 N over20 N over100 N     since the last time, over so many ms
 *   manners PERIOD_MS   -> ok                        greets and answers beats from now on (manners.h); 0: no more
 *   late                -> beats N p50 US p99 US max US twice N
 *   launch SOCKET CMD   -> attached NS first NS      see launch.h; with manners */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

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

/* --- TLS ------------------------------------------------------------------------------------------- */

static struct peer *the_peer(BIO *bio);

static int bio_write(BIO *bio, const char *bytes, int len)
{
    struct peer *p = the_peer(bio);
    if (p->out_len + (size_t)len > OUT_BYTES) die("records beyond the buffer");
    memcpy(p->out + p->out_len, bytes, (size_t)len);
    p->out_len += (size_t)len;
    return len;
}

static int bio_read(BIO *bio, char *bytes, int len)
{
    struct conn *c = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    ssize_t n = recv(c->fd, bytes, (size_t)len, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) BIO_set_retry_read(bio);
    return (int)n;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

static struct peer *the_peer(BIO *bio)
{
    struct conn *c = BIO_get_data(bio);
    return SSL_get_app_data(c->ssl);
}

/* A certificate that is its own CA, for 127.0.0.1 and localhost. */
static void make_certificate(SSL_CTX *ctx, const char *ca_path)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    X509V3_CTX v3;
    static const struct { int nid; const char *value; } extensions[] = {
        { NID_basic_constraints, "critical,CA:TRUE" },
        { NID_subject_key_identifier, "hash" },
        { NID_subject_alt_name, "IP:127.0.0.1,DNS:localhost" },
    };
    if (!key || !x) die("a certificate");
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), (long)(now_ns() & 0x7fffffff));
    X509_gmtime_adj(X509_getm_notBefore(x), -3600);
    X509_gmtime_adj(X509_getm_notAfter(x), 86400);
    X509_set_pubkey(x, key);
    X509_NAME *name = X509_get_subject_name(x);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"bench", -1, -1, 0);
    X509_set_issuer_name(x, name);
    X509V3_set_ctx(&v3, x, x, NULL, NULL, 0);
    for (size_t i = 0; i < sizeof extensions / sizeof *extensions; i++) {
        X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &v3, extensions[i].nid, extensions[i].value);
        X509_add_ext(x, e, -1);
        X509_EXTENSION_free(e);
    }
    if (!X509_sign(x, key, EVP_sha256())) die("signing");
    FILE *f = fopen(ca_path, "w");
    if (!f || !PEM_write_X509(f, x) || fclose(f) != 0) die(ca_path);
    if (SSL_CTX_use_certificate(ctx, x) != 1 || SSL_CTX_use_PrivateKey(ctx, key) != 1) die("certificate");
    X509_free(x);
    EVP_PKEY_free(key);
}

/* --- connections ------------------------------------------------------------------------------------- */

static void conn_close(struct peer *p, struct conn *c, bool reset)
{
    manners_gone(&p->manners, &c->guest);
    if (c->open) {
        p->closed++;
        struct conn *last = p->open[--p->open_count];
        p->open[c->place] = last;
        last->place = c->place;
    }
    struct linger hard = { .l_onoff = 1, .l_linger = 0 };
    if (reset) setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(c->fd);
    SSL_free(c->ssl);
    free(c->head);
    free(c->rest);
    free(c);
    p->conn_count--;
}

/* Sends p->out and empties it; false when the connection is dead. */
static bool conn_send(struct peer *p, struct conn *c)
{
    size_t at = 0;
    while (!c->rest && at < p->out_len) {
        ssize_t n = send(c->fd, p->out + at, p->out_len - at, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno != EAGAIN) return false;
        if (n < 0) break;
        at += (size_t)n;
    }
    if (at < p->out_len) {
        size_t more = p->out_len - at, old = c->rest ? c->rest_len - c->rest_at : 0;
        uint8_t *rest = malloc(old + more);
        if (!rest) die("memory");
        if (old) memcpy(rest, c->rest + c->rest_at, old);
        memcpy(rest + old, p->out + at, more);
        free(c->rest);
        c->rest = rest;
        c->rest_len = old + more;
        c->rest_at = 0;
        struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT, .data.ptr = c };
        epoll_ctl(p->epoll, EPOLL_CTL_MOD, c->fd, &ev);
    }
    p->out_len = 0;
    return true;
}

static bool conn_send_rest(struct peer *p, struct conn *c)
{
    while (c->rest_at < c->rest_len) {
        ssize_t n = send(c->fd, c->rest + c->rest_at, c->rest_len - c->rest_at, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return errno == EAGAIN;
        c->rest_at += (size_t)n;
    }
    free(c->rest);
    c->rest = NULL;
    struct epoll_event ev = { .events = EPOLLIN, .data.ptr = c };
    epoll_ctl(p->epoll, EPOLL_CTL_MOD, c->fd, &ev);
    return true;
}

static void conn_accept(struct peer *p)
{
    for (int i = 0; i < 256; i++) {
        int fd = accept4(p->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) return;
        uint64_t now = now_ns();
        if (p->dropped_ns && p->attempt_count < ATTEMPTS_MAX)
            p->attempt_us[p->attempt_count++] = (uint32_t)((now - p->dropped_ns) / 1000);
        if (now < p->refuse_until_ns) {
            struct linger hard = { .l_onoff = 1, .l_linger = 0 };
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
            close(fd);
            p->refused++;
            continue;
        }
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct conn *c = calloc(1, sizeof *c);
        BIO *bio = BIO_new(p->bio);
        if (!c || !bio || !(c->ssl = SSL_new(p->ctx)) || !(c->head = malloc(HEAD_BYTES_MAX))) die("memory");
        c->fd = fd;
        BIO_set_data(bio, c);
        BIO_set_init(bio, 1);
        SSL_set_bio(c->ssl, bio, bio);
        SSL_set_app_data(c->ssl, p);
        SSL_set_accept_state(c->ssl);
        struct epoll_event ev = { .events = EPOLLIN, .data.ptr = c };
        if (epoll_ctl(p->epoll, EPOLL_CTL_ADD, fd, &ev) != 0) die("epoll");
        p->conn_count++;
    }
}

static bool conn_upgrade(struct peer *p, struct conn *c)
{
    static const char magic[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    char text[256], answer[256];
    unsigned char digest[20], accept_key[32];
    char *key = strcasestr(c->head, "sec-websocket-key:");
    if (!key) return false;
    key += 18;
    while (*key == ' ') key++;
    snprintf(text, sizeof text, "%.*s%s", (int)strcspn(key, "\r \t"), key, magic);
    EVP_Digest(text, strlen(text), digest, NULL, EVP_sha1(), NULL);
    EVP_EncodeBlock(accept_key, digest, sizeof digest);
    int n = snprintf(answer, sizeof answer,
                     "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     "Sec-WebSocket-Accept: %s\r\n\r\n", accept_key);
    if (SSL_write(c->ssl, answer, n) != n) return false;
    free(c->head);
    c->head = NULL;
    if (p->open_count == p->open_capacity) {
        p->open_capacity = p->open_capacity ? p->open_capacity * 2 : 1024;
        p->open = realloc(p->open, p->open_capacity * sizeof *p->open);
        if (!p->open) die("memory");
    }
    c->place = p->open_count;
    c->open = true;
    p->open[p->open_count++] = c;
    manners_opened(&p->manners, c->ssl);
    return true;
}

/* False: it is over. */
static bool conn_read(struct peer *p, struct conn *c)
{
    char ignored[4096];
    ERR_clear_error();
    if (!SSL_is_init_finished(c->ssl)) {
        int result = SSL_do_handshake(c->ssl);
        if (result != 1) return SSL_get_error(c->ssl, result) == SSL_ERROR_WANT_READ;
        p->handshakes++;
        if (SSL_session_reused(c->ssl)) p->resumed++;
    }
    for (;;) {
        bool heading = c->head != NULL;
        char *into = heading ? c->head + c->head_len : ignored;
        size_t room = heading ? HEAD_BYTES_MAX - 1 - c->head_len : sizeof ignored;
        int n = SSL_read(c->ssl, into, (int)room);
        if (n <= 0) return SSL_get_error(c->ssl, n) == SSL_ERROR_WANT_READ;
        if (!heading) {
            manners_take(&p->manners, &c->guest, c->ssl, (uint8_t *)ignored, (size_t)n);
            continue; /* acknowledgements, pongs: nothing to us */
        }
        c->head_len += (size_t)n;
        c->head[c->head_len] = 0;
        if (strstr(c->head, "\r\n\r\n") && !conn_upgrade(p, c)) return false;
    }
}

static void conn_ready(struct peer *p, struct conn *c, uint32_t events)
{
    bool ok = true;
    if (events & EPOLLOUT) ok = !c->rest || conn_send_rest(p, c);
    if (ok && (events & (EPOLLIN | EPOLLHUP | EPOLLERR))) {
        p->out_len = 0;
        ok = conn_read(p, c);
        if (!conn_send(p, c)) ok = false;
    }
    p->out_len = 0;
    if (!ok) conn_close(p, c, true);
}

/* --- frames ------------------------------------------------------------------------------------------ */

static void frame_make(struct peer *p, size_t size)
{
    static const char words[] = "What happens in a channel is said here in words of ordinary length, with commas, and now and then "
                                "a name like \\\"holdfast\\\" or caf\xc3\xa9. ";
    char text[16000];
    if (size < 180) size = 180;
    if (size > sizeof text - 1) size = sizeof text - 1;
    int n = snprintf(text, sizeof text,
                     "{\"t\":\"MESSAGE_CREATE\",\"s\":1000000000,\"op\":0,\"d\":{\"ts\":\"%020d\",\"id\":\"1312345678901234567\","
                     "\"channel_id\":\"81384788765712384\",\"content\":\"", 0);
    size_t len = (size_t)n;
    /* Text, then what Discord has around it: keys, numbers, nested objects. */
    static const char nested[] = "{\"id\":\"80351110224678912\",\"username\":\"nelly\",\"bot\":false,\"flags\":64,\"avatar\":null,"
                                 "\"roles\":[\"41771983423143936\",\"41771983423143937\"]}";
    size_t content_end = size < 600 ? size - 3 : len + 200;
    for (size_t i = 0; len < content_end; i++) {
        if (words[i % (sizeof words - 1)] == '\\' || (words[i % (sizeof words - 1)] & 0x80)) {
            if (len + 2 > content_end) text[len++] = '.';
            else {
                text[len++] = words[i % (sizeof words - 1)];
                text[len++] = words[++i % (sizeof words - 1)];
            }
        } else {
            text[len++] = words[i % (sizeof words - 1)];
        }
    }
    text[len++] = '"';
    if (size >= 600) {
        len += (size_t)sprintf(text + len, ",\"mentions\":[");
        bool first = true;
        while (len + sizeof nested + 4 < size) {
            if (!first) text[len++] = ',';
            memcpy(text + len, nested, sizeof nested - 1);
            len += sizeof nested - 1;
            first = false;
        }
        text[len++] = ']';
        while (len + 2 < size) text[len++] = ' ';
    }
    text[len++] = '}';
    text[len++] = '}';
    size_t head = len < 126 ? 2 : 4;
    p->frame[0] = 0x81;
    if (head == 2) {
        p->frame[1] = (uint8_t)len;
    } else {
        p->frame[1] = 126;
        p->frame[2] = (uint8_t)(len >> 8);
        p->frame[3] = (uint8_t)len;
    }
    memcpy(p->frame + head, text, len);
    p->frame_len = head + len;
    p->seq_at = head + (size_t)(strstr(text, "\"s\":") + 4 - text);
    p->stamp_at = head + (size_t)(strstr(text, "\"ts\":\"") + 6 - text);
}

static void digits(uint8_t *at, size_t count, uint64_t value)
{
    for (size_t i = count; i > 0; i--, value /= 10) at[i - 1] = (uint8_t)('0' + value % 10);
}

static bool frames_send(struct peer *p, struct conn *c, uint32_t count, bool stamp)
{
    p->out_len = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t number = 1000000000 + ++p->seq % 1000000000;
        digits(p->frame + p->seq_at, 10, number);
        p->seq_sum += number;
        if (stamp) digits(p->frame + p->stamp_at, 20, now_ns());
        if (SSL_write(c->ssl, p->frame, (int)p->frame_len) != (int)p->frame_len) return false;
    }
    p->sent += count;
    p->sent_ever += count;
    return conn_send(p, c);
}

/* --- jobs -------------------------------------------------------------------------------------------- */

static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
    fflush(stdout);
}

static int by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static void say_sent(struct peer *p, bool timed)
{
    unsigned long received = atomic_load(&p->tally->received) - p->received_before;
    uint64_t cpu = cpu_ns(p->watched) - p->cpu_began_ns, ns = now_ns() - p->began_ns;
    char tail[128] = "";
    if (timed) {
        uint32_t *l = p->tally->latency_ns;
        atomic_store(&p->tally->timing, false);
        usleep(1000); /* the consumer's last glance at `timing` */
        uint32_t n = atomic_load(&p->tally->latency_count);
        qsort(l, n, sizeof *l, by_size);
        if (n) snprintf(tail, sizeof tail, " p50 %u p99 %u max %u", l[n / 2], l[(uint64_t)n * 99 / 100], l[n - 1]);
    }
    say("sent %lu received %lu cpu %llu ns %llu%s", p->sent, received, (unsigned long long)cpu, (unsigned long long)ns,
        tail);
    p->job = JOB_NONE;
}

static void blast(struct peer *p, uint64_t now)
{
    unsigned long received = atomic_load(&p->tally->received) - p->received_before;
    unsigned long under_way_max = UNDER_WAY_BYTES / p->frame_len;
    if (now < p->until_ns) {
        for (uint32_t i = 0; i < p->open_count && i < 64; i++) {
            if (p->sent - received > under_way_max) {
                received = atomic_load(&p->tally->received) - p->received_before;
                if (p->sent - received > under_way_max) usleep(200);
                break;
            }
            struct conn *c = p->open[p->cursor++ % p->open_count];
            if (!c->rest && !frames_send(p, c, p->burst, false)) conn_close(p, c, true);
        }
        return;
    }
    if (received >= p->sent || now > p->until_ns + 20000000000u) say_sent(p, false);
}

static void pace(struct peer *p, uint64_t now)
{
    unsigned long received = atomic_load(&p->tally->received) - p->received_before;
    if (now >= p->until_ns) {
        if (received >= p->sent || now > p->until_ns + 10000000000u) say_sent(p, true);
        return;
    }
    for (int i = 0; i < 64 && p->open_count; i++) {
        if (now < p->next_ns) {
            struct timespec at = { (time_t)(p->next_ns / 1000000000u), (long)(p->next_ns % 1000000000u) };
            clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
        }
        struct conn *c = p->open[p->cursor++ % p->open_count];
        if (!c->rest && !frames_send(p, c, 1, true)) conn_close(p, c, true);
        now = now_ns();
        /* Time that was lost (another process had the core) is not made up: that would be a burst. */
        p->next_ns = now > p->next_ns + 4 * p->gap_ns ? now : p->next_ns + p->gap_ns;
        if (now >= p->until_ns) return;
    }
}

static void job_step(struct peer *p)
{
    uint64_t now = now_ns();
    switch (p->job) {
    case JOB_NONE: break;
    case JOB_GONE:
    case JOB_WAIT:
    case JOB_DROP:
        if ((p->job == JOB_GONE ? p->conn_count > 0 : p->open_count < p->want) && now < p->until_ns) break;
        say("open %u ms %llu cpu %llu resumed %lu handshakes %lu refused %lu", p->open_count,
            (unsigned long long)((now - p->began_ns) / 1000000), (unsigned long long)(cpu_ns(p->watched) - p->cpu_began_ns),
            p->resumed, p->handshakes, p->refused);
        p->job = JOB_NONE;
        break;
    case JOB_LAUNCH:
        if (!atomic_load(&p->launch.over)) break;
        say("attached %llu first %llu", (unsigned long long)p->launch.attached_ns, (unsigned long long)p->launch.first_ns);
        p->job = JOB_NONE;
        break;
    case JOB_BLAST: blast(p, now); break;
    case JOB_PACE: pace(p, now); break;
    case JOB_IDLE:
        if (now < p->until_ns) break;
        say("cpu %llu ns %llu", (unsigned long long)(cpu_ns(p->watched) - p->cpu_began_ns),
            (unsigned long long)(now - p->began_ns));
        p->job = JOB_NONE;
        break;
    }
}

static void job_begin(struct peer *p, enum job job, unsigned long ms)
{
    p->job = job;
    p->sent = 0;
    p->received_before = atomic_load(&p->tally->received);
    p->began_ns = p->next_ns = now_ns();
    p->until_ns = p->began_ns + ms * 1000000u;
    p->cpu_began_ns = cpu_ns(p->watched);
}

static void say_memory(const struct peer *p)
{
    char path[64], line[256];
    unsigned long rss = 0, pss = 0;
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)p->watched);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f)) {
        sscanf(line, "Rss: %lu", &rss);
        sscanf(line, "Pss: %lu", &pss);
    }
    if (f) fclose(f);
    say("rss %lu pss %lu", rss, pss);
}

static void say_attempts(const struct peer *p, unsigned long part_ms, unsigned long parts)
{
    unsigned long counts[64] = { 0 };
    if (parts > 64) parts = 64;
    for (uint32_t i = 0; i < p->attempt_count; i++) {
        unsigned long at = p->attempt_us[i] / 1000 / (part_ms ? part_ms : 1);
        counts[at < parts ? at : parts - 1]++;
    }
    printf("attempts");
    for (unsigned long i = 0; i < parts; i++) printf(" %lu", counts[i]);
    say(" ");
}

static void drop_all(struct peer *p)
{
    p->dropped_ns = now_ns();
    p->refuse_until_ns = p->refuse_ns ? p->dropped_ns + p->refuse_ns : 0;
    p->refuse_ns = 0;
    p->attempt_count = 0;
    p->handshakes = p->resumed = p->refused = 0;
    while (p->open_count) conn_close(p, p->open[p->open_count - 1], true);
}

static void command(struct peer *p, const char *line)
{
    unsigned long a = 0, b = 0, c = 0;
    char path[200];
    if (sscanf(line, "watch %lu", &a) == 1) {
        p->watched = (pid_t)a;
        say("ok");
    } else if (sscanf(line, "attach %199s", path) == 1) {
        consumer_attach(p->tally, path);
        say("ok");
    } else if (sscanf(line, "wait %lu %lu", &a, &b) == 2) {
        job_begin(p, JOB_WAIT, b);
        p->want = (uint32_t)a;
    } else if (sscanf(line, "none %lu", &a) == 1) {
        job_begin(p, JOB_GONE, a);
    } else if (sscanf(line, "blast %lu %lu %lu", &a, &b, &c) == 3) {
        frame_make(p, b);
        p->burst = c > OUT_BYTES / (b + 64) ? (uint32_t)(OUT_BYTES / (b + 64)) : (uint32_t)c;
        job_begin(p, JOB_BLAST, a);
    } else if (sscanf(line, "pace %lu %lu %lu", &a, &b, &c) == 3 && c) {
        frame_make(p, b);
        p->gap_ns = 1000000000u / c;
        atomic_store(&p->tally->latency_count, 0);
        atomic_store(&p->tally->timing, true);
        job_begin(p, JOB_PACE, a);
    } else if (strcmp(line, "stop") == 0) {
        if (p->job == JOB_PACE || p->job == JOB_BLAST) p->until_ns = now_ns();
    } else if (strcmp(line, "links") == 0) {
        say("open %u closed %lu", p->open_count, p->closed);
    } else if (strcmp(line, "tally") == 0) {
        struct tally *t = p->tally;
        say("sent %lu sum %llu received %lu got %llu holes %lu gaps %lu", p->sent_ever, p->seq_sum, atomic_load(&t->received),
            atomic_load(&t->seq_sum), atomic_load(&t->holes), atomic_load(&t->gaps));
    } else if (strcmp(line, "probed") == 0) {
        probe_tell(path, sizeof path);
        say("%s", path);
    } else if (strcmp(line, "unprobe") == 0) {
        probe_end();
        say("ok");
    } else if (sscanf(line, "probe %199s", path) == 1) {
        probe_start(path);
        say("ok");
    } else if (strcmp(line, "memory") == 0) {
        say_memory(p);
    } else if (sscanf(line, "refuse %lu", &a) == 1) {
        p->refuse_ns = a * 1000000u;
        say("ok");
    } else if (sscanf(line, "drop %lu %lu", &a, &b) == 2) {
        job_begin(p, JOB_DROP, b);
        p->want = (uint32_t)a;
        drop_all(p);
    } else if (sscanf(line, "attempts %lu %lu", &a, &b) == 2) {
        say_attempts(p, a, b);
    } else if (sscanf(line, "manners %lu", &a) == 1) {
        manners_set(&p->manners, a);
        say("ok");
    } else if (strcmp(line, "late") == 0) {
        char text[200];
        manners_say(&p->manners, text, sizeof text);
        say("%s", text);
    } else if (strncmp(line, "launch ", 7) == 0) {
        job_begin(p, JOB_LAUNCH, 0);
        launch_begin(&p->launch, line + 7, ++p->manners.mark);
    } else if (sscanf(line, "idle %lu", &a) == 1) {
        job_begin(p, JOB_IDLE, a);
    } else {
        say("unknown: %s", line);
    }
}

/* False at the end of the input. */
static bool commands_read(struct peer *p)
{
    ssize_t n = read(STDIN_FILENO, p->command + p->command_len, sizeof p->command - 1 - p->command_len);
    if (n <= 0) return false;
    p->command_len += (size_t)n;
    p->command[p->command_len] = 0;
    for (char *end; (end = strchr(p->command, '\n')) != NULL;) {
        *end = 0;
        command(p, p->command);
        p->command_len -= (size_t)(end + 1 - p->command);
        memmove(p->command, end + 1, p->command_len + 1);
    }
    return true;
}

void peer_run(struct tally *tally, const char *ca_path)
{
    static struct peer peer;
    struct peer *p = &peer;
    struct epoll_event events[512], ev = { .events = EPOLLIN, .data.ptr = &p->listener };
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof address;
    p->tally = tally;
    prctl(PR_SET_TIMERSLACK, 1);
    p->out = malloc(OUT_BYTES);
    p->attempt_us = malloc(ATTEMPTS_MAX * sizeof *p->attempt_us);
    p->ctx = SSL_CTX_new(TLS_server_method());
    p->bio = BIO_meth_new(BIO_TYPE_SOURCE_SINK | 99, "bench");
    if (!p->out || !p->attempt_us || !p->ctx || !p->bio) die("memory");
    BIO_meth_set_write(p->bio, bio_write);
    BIO_meth_set_read(p->bio, bio_read);
    BIO_meth_set_ctrl(p->bio, bio_ctrl);
    SSL_CTX_set_min_proto_version(p->ctx, TLS1_2_VERSION);
    SSL_CTX_set_ciphersuites(p->ctx, "TLS_AES_128_GCM_SHA256"); /* the same for all */
    SSL_CTX_set_mode(p->ctx, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_num_tickets(p->ctx, 1);
    SSL_CTX_set_session_id_context(p->ctx, (const unsigned char *)"bench", 5);
    make_certificate(p->ctx, ca_path);
    p->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (p->listener < 0 || bind(p->listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(p->listener, 16384) != 0) die("listen");
    getsockname(p->listener, (struct sockaddr *)&address, &size);
    p->epoll = epoll_create1(EPOLL_CLOEXEC);
    epoll_ctl(p->epoll, EPOLL_CTL_ADD, p->listener, &ev);
    ev.data.ptr = &p->command;
    epoll_ctl(p->epoll, EPOLL_CTL_ADD, STDIN_FILENO, &ev);
    say("port %d", ntohs(address.sin_port));
    for (bool over = false; !over;) {
        bool busy = p->job == JOB_BLAST || p->job == JOB_PACE;
        int n = epoll_wait(p->epoll, events, 512, busy ? 0 : p->job ? 1 : 100);
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == &p->listener) conn_accept(p);
            else if (events[i].data.ptr != &p->command) conn_ready(p, events[i].data.ptr, events[i].events);
            else {
                over = !commands_read(p);
                break; /* a command may have closed what the other events are of; they come again */
            }
        }
        job_step(p);
    }
    atomic_store(&tally->over, true);
}
