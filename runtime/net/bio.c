/* BIO: the bytes of a link's socket for OpenSSL. Keeps what OpenSSL's own socket BIO loses: the errno
 * of the call that failed, whether the stream ended, and the first bytes of a peer that may not speak
 * TLS at all. Sends with MSG_NOSIGNAL.
 *
 * An open link is read in one large piece into the loop's buffer, from which OpenSSL is given a record at a time. It
 * reads ahead, so it asks once for a record's head and body; were it given more, it would move all that it holds to
 * the front for each record: some 7 KB per frame of 200 bytes. */
#include <errno.h>
#include <openssl/bio.h>
#include <string.h>

#include "base/assert.h"
#include "net/net_internal.h"

static bool would_block(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

ssize_t bio__receive(struct net_link *link, void *out, size_t len)
{
    ssize_t got = recv(link->fd, out, len, 0);
    if (got < 0 && !would_block(errno)) link->sys_errno = errno;
    if (got == 0) link->sys_eof = true;
    /* A short read emptied the socket, unless its end is next: the poll tells. */
    if (got > 0) link->dry = link->at == AT_OPEN && (size_t)got < len && !link->write_errno && !link->poll_failed;
    return got;
}

/* How many of these bytes the record under way has left, and notes that they were given. */
static size_t record_piece(struct net_link *link, const uint8_t *bytes, size_t len)
{
    size_t head = 0;
    if (link->record_left == 0) {
        head = sizeof link->record_head - link->record_head_len;
        if (head > len) head = len;
        memcpy(link->record_head + link->record_head_len, bytes, head);
        link->record_head_len += (uint8_t)head;
        if (link->record_head_len < sizeof link->record_head) return head;
        link->record_head_len = 0;
        link->record_left = (uint16_t)(link->record_head[3] << 8 | link->record_head[4]);
    }
    size_t body = len - head < link->record_left ? len - head : link->record_left;
    link->record_left -= (uint16_t)body;
    return head + body;
}

bool bio__between_records(const struct net_link *link)
{
    return link->record_left == 0 && link->record_head_len == 0;
}

bool bio__is_one_record(const struct net_link *link)
{
    const struct net_records *r = &link->net->records;
    if (r->of != link || r->at || r->len < 5 || link->sealed.len || !bio__between_records(link)) return false;
    return r->len == 5u + (size_t)(r->bytes[3] << 8 | r->bytes[4]);
}

/* OpenSSL has them already, and takes what it likes. */
static int handshake_bytes(struct net_link *link, const void *bytes, size_t len)
{
    if (link->first_len < sizeof link->first) {
        size_t room = sizeof link->first - link->first_len;
        size_t first = len < room ? len : room;
        memcpy(link->first + link->first_len, bytes, first);
        link->first_len += (uint8_t)first;
    }
    for (size_t at = 0; at < len;) at += record_piece(link, (const uint8_t *)bytes + at, len - at);
    return (int)len;
}

static int bio_read(BIO *bio, char *out, int len)
{
    struct net_link *link = BIO_get_data(bio);
    struct net_records *r = &link->net->records;
    BIO_clear_retry_flags(bio);
    if (link->sealed.len) {
        size_t take = link->sealed.len < (size_t)len ? link->sealed.len : (size_t)len;
        take = record_piece(link, link->sealed.data, take);
        memcpy(out, link->sealed.data, take);
        buffer_consume(&link->sealed, take);
        buffer_trim(&link->sealed, 0);
        return (int)take;
    }
    bool ours = r->of == link;
    if (r->at == r->len || !ours) {
        if (link->dry) {
            BIO_set_retry_read(bio);
            return -1;
        }
        const bool asked = ours && r->asked;
        ssize_t got = asked  ? r->got
                      : ours ? bio__receive(link, r->bytes, r->room)
                             : bio__receive(link, out, (size_t)len);
        if (asked) r->asked = false;
        if (got < 0 && !link->sys_errno) BIO_set_retry_read(bio);
        if (got <= 0) return (int)got;
        if (!ours) return handshake_bytes(link, out, (size_t)got);
        r->at = 0;
        r->len = (size_t)got;
    }
    size_t take = r->len - r->at < (size_t)len ? r->len - r->at : (size_t)len;
    take = record_piece(link, r->bytes + r->at, take);
    memcpy(out, r->bytes + r->at, take);
    r->at += take;
    return (int)take;
}

/* The client speaks next in TLS 1.3, and its upgrade request follows in the same turn: the kernel sends both as one, or
 * this one alone after 200 ms. A goodbye does not wait either. */
static bool is_last_flight(const struct net_link *link)
{
    return link->at == AT_SECURE && SSL_version(link->ssl) == TLS1_3_VERSION &&
           SSL_get_state(link->ssl) == TLS_ST_CW_FINISHED;
}

static int bio_write(BIO *bio, const char *bytes, int len)
{
    struct net_link *link = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    ssize_t sent = send(link->fd, bytes, (size_t)len, MSG_NOSIGNAL | (is_last_flight(link) ? MSG_MORE : 0));
    if (sent < 0) {
        if (would_block(errno)) BIO_set_retry_write(bio);
        else link->sys_errno = errno;
        return -1;
    }
    return (int)sent;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)number;
    (void)pointer;
    struct net_link *link = BIO_get_data(bio);
    if (command == BIO_CTRL_FLUSH) return 1;
    if (command == BIO_CTRL_EOF) return link->sys_eof;
    return 0;
}

BIO_METHOD *bio__method(void)
{
    /* The number only has to be no filter's and none of OpenSSL's own. */
    BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK | 120, "link");
    if (!method) return NULL;
    BIO_meth_set_read(method, bio_read);
    BIO_meth_set_write(method, bio_write);
    BIO_meth_set_ctrl(method, bio_ctrl);
    return method;
}

BIO *bio__create(struct net_link *link)
{
    BIO *bio = BIO_new(trusts__bio_method(link->net->trusts));
    if (!bio) return NULL;
    BIO_set_data(bio, link);
    BIO_set_init(bio, 1);
    return bio;
}
