/* BIO: the bytes of a link's socket for OpenSSL. Keeps what OpenSSL's own socket BIO loses: the errno
 * of the call that failed, whether the stream ended, and the first bytes of a peer that may not speak
 * TLS at all. Sends with MSG_NOSIGNAL.
 *
 * An open link is read in one large piece into the loop's buffer, from which OpenSSL takes record by record.
 * Its own reading ahead moves all that it holds to the front for each record: some 6 KB per frame of 200 bytes. */
#include <errno.h>
#include <openssl/bio.h>
#include <string.h>

#include "base/assert.h"
#include "net/net_internal.h"

static bool would_block(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

/* As recv(), and notes what came of it. */
static ssize_t receive(struct net_link *link, void *out, size_t len)
{
    ssize_t got = recv(link->fd, out, len, 0);
    if (got < 0 && !would_block(errno)) link->sys_errno = errno;
    if (got == 0) link->sys_eof = true;
    /* A short read emptied the socket, unless its end is next: the poll tells. */
    if (got > 0) link->dry = link->at == AT_OPEN && (size_t)got < len && !link->write_errno && !link->poll_failed;
    return got;
}

static int bio_read(BIO *bio, char *out, int len)
{
    struct net_link *link = BIO_get_data(bio);
    struct net_records *r = &link->net->records;
    BIO_clear_retry_flags(bio);
    if (link->sealed.len) {
        size_t take = link->sealed.len < (size_t)len ? link->sealed.len : (size_t)len;
        memcpy(out, link->sealed.data, take);
        buffer_consume(&link->sealed, take);
        buffer_trim(&link->sealed, 0);
        return (int)take;
    }
    bool ours = r->of == link;
    ssize_t got = ours ? (ssize_t)(r->len - r->at) : 0;
    if (got == 0) {
        if (link->dry) {
            BIO_set_retry_read(bio);
            return -1;
        }
        got = receive(link, ours ? (void *)r->bytes : out, ours ? r->room : (size_t)len);
        if (got < 0 && !link->sys_errno) BIO_set_retry_read(bio);
        if (got <= 0) return (int)got;
        r->at = 0;
        r->len = ours ? (size_t)got : 0;
    }
    if (ours) {
        if (got > len) got = len;
        memcpy(out, r->bytes + r->at, (size_t)got);
        r->at += (size_t)got;
    }
    if (link->first_len < sizeof link->first) {
        size_t room = sizeof link->first - link->first_len;
        size_t first = (size_t)got < room ? (size_t)got : room;
        memcpy(link->first + link->first_len, out, first);
        link->first_len += (uint8_t)first;
    }
    return (int)got;
}

static int bio_write(BIO *bio, const char *bytes, int len)
{
    struct net_link *link = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    ssize_t sent = send(link->fd, bytes, (size_t)len, MSG_NOSIGNAL);
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
