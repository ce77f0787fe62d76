/* Stream: the bytes of an open link, in both directions, with or without TLS. Reads into the loop's
 * one buffer, keeps per link only what the runtime did not consume or the socket did not take.
 *
 * The order of things is the peer's: an end that was seen is told after all bytes before it were
 * consumed, and a write that fails is told as what a read finds, because the peer's last words may
 * still wait to be read. */
#include <errno.h>
#include <openssl/err.h>
#include <string.h>

#include "base/assert.h"
#include "net/net_internal.h"

#define RECORD_BYTES_MAX ((size_t)17 << 10) /* of TLS, about */
#define OUT_KEEP_BYTES 1024 /* memory that a link keeps for its next small write */

enum filled {
    FILLED_DRY,  /* nothing more to read now */
    FILLED_FULL, /* the buffer is full, there may be more */
    FILLED_END,  /* link->cause tells; end_seen is set */
};

static enum filled fill(struct net_link *link, size_t *len_out);
static enum filled fill_plain(struct net_link *link, size_t *len_out);
static enum filled fill_tls(struct net_link *link, size_t *len_out);
static enum filled decrypt(struct net_link *link, size_t *len_out);
static void ask_first(struct net_link *link);
static bool deliver_kept(struct net_link *link);
static void see_end(struct net_link *link, struct cause cause);
static void see_errno(struct net_link *link, int error);
static void see_eof(struct net_link *link, const char *how);
static ssize_t send_some(struct net_link *link, const uint8_t *bytes, size_t len);
static void write_failed(struct net_link *link, int error);
static void say_goodbye(struct net_link *link);

void stream__on_poll(struct net_link *link, int events)
{
    bool to_read = (events & UV_READABLE) || ((events & UV_WRITABLE) && link->want_write_to_read);
    bool to_write = (events & UV_WRITABLE) || ((events & UV_READABLE) && link->want_read_to_write);
    if (to_write && (link->write_blocked || link->finishing || link->out.len)) stream__flush(link);
    if (link->at != AT_OPEN) return;
    /* One that waits for its turn has had its share of this one. */
    if (to_read && link->reading && !(link->work & LINK_WORK_READ)) {
        stream__read(link, NET_READ_BYTES);
    }
    if (link->at == AT_OPEN) link__poll(link);
}

int stream__wanted(const struct net_link *link)
{
    int events = 0;
    if (link->reading && !link->end_seen) events |= UV_READABLE;
    if (link->write_blocked) events |= link->want_read_to_write ? UV_READABLE : UV_WRITABLE;
    if (link->want_write_to_read && link->reading) events |= UV_WRITABLE;
    return events;
}

/* ---- reading ----------------------------------------------------------------------------------- */

void stream__read(struct net_link *link, size_t bytes_max)
{
    struct net *net = link->net;
    size_t total = 0;
    bool dry = false;
    while (link->at == AT_OPEN && link->reading && !dry && total < bytes_max) {
        if (link->kept.len && !deliver_kept(link)) break;
        if (link->at != AT_OPEN || !link->reading) break;
        if (link->end_seen) break;
        size_t len = 0;
        enum filled filled = fill(link, &len);
        dry = filled != FILLED_FULL;
        total += len;
        if (len) {
            net->counts.bytes_in += len;
            size_t used = net->sink->link_bytes(net->rt, link->entry.id, net->read_buffer, len);
            ASSERT(used <= len);
            if (link->at != AT_OPEN) return;
            if (used < len) {
                ASSERT(!link->reading); /* consuming less is allowed only to who stopped reading */
                if (!buffer_append(&link->kept, net->read_buffer + used, len - used)) {
                    struct cause cause = net__cause(STAGE_UPGRADING, CAUSE_INTERNAL, ENOMEM,
                                                    "out of memory for bytes that wait");
                    cause.by = BY_US;
                    link__end(link, &cause);
                    return;
                }
            }
        }
    }
    if (link->at != AT_OPEN) return;
    if (link->reading && link->end_seen && link->kept.len == 0) {
        struct cause cause = link->cause;
        /* The answer to a close frame that came right before the end still has its chance. */
        if (cause.kind == CAUSE_EOF && link->out.len) stream__flush(link);
        if (link->at == AT_OPEN) link__end(link, &cause);
        return;
    }
    if (link->reading && !dry && !link->end_seen) {
        link->work |= LINK_WORK_READ;
        net__queue(net, &link->turn);
    }
    link__poll(link);
}

/* False: something is left. */
static bool deliver_kept(struct net_link *link)
{
    struct net *net = link->net;
    size_t len = link->kept.len;
    size_t used = net->sink->link_bytes(net->rt, link->entry.id, link->kept.data, len);
    ASSERT(used <= len);
    ASSERT(link->kept.len == len);
    buffer_consume(&link->kept, used);
    if (link->kept.len) {
        ASSERT(link->at != AT_OPEN || !link->reading);
        return false;
    }
    buffer_trim(&link->kept, 0);
    return true;
}

static enum filled fill(struct net_link *link, size_t *len_out)
{
    enum filled filled = link->ssl ? fill_tls(link, len_out) : fill_plain(link, len_out);
    if (filled != FILLED_DRY) return filled;
    /* Nothing to read, but a write or the poll has met the end already. */
    if (*len_out == 0 && (link->write_errno || link->poll_failed)) {
        int error = link->write_errno;
        socklen_t size = sizeof error;
        if (!error) getsockopt(link->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        see_errno(link, error ? error : EIO);
        return FILLED_END;
    }
    return FILLED_DRY;
}

static enum filled fill_plain(struct net_link *link, size_t *len_out)
{
    uint8_t *buffer = link->net->read_buffer;
    while (*len_out < NET_READ_BYTES) {
        size_t room = NET_READ_BYTES - *len_out;
        ssize_t got = recv(link->fd, buffer + *len_out, room, 0);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return FILLED_DRY;
        if (got < 0) {
            see_errno(link, errno);
            return FILLED_END;
        }
        if (got == 0) {
            see_eof(link, "the peer closed the connection");
            return FILLED_END;
        }
        *len_out += (size_t)got;
        /* A short read emptied the socket, unless its end is next: the poll tells. */
        if ((size_t)got < room && !link->write_errno && !link->poll_failed) return FILLED_DRY;
    }
    return FILLED_FULL;
}

static enum filled fill_tls(struct net_link *link, size_t *len_out)
{
    struct net_records *r = &link->net->records;
    ASSERT(r->of == NULL);
    r->of = link;
    r->at = r->len = 0;
    r->asked = false;
    link->sys_errno = 0;
    link->dry = false;
    if (link->taken && link->sealed.len == 0) ask_first(link);
    /* OpenSSL lets go of its buffer behind each record: with several it would go and come with each. */
    const bool one = bio__is_one_record(link);
    if (!one) SSL_clear_mode(link->ssl, SSL_MODE_RELEASE_BUFFERS);
    enum filled filled = decrypt(link, len_out);
    if (!one) SSL_set_mode(link->ssl, SSL_MODE_RELEASE_BUFFERS);
    /* Not with something in them: some OpenSSLs would let go of that as well. And not without need: it looks at a place
     * for each of 32 records. */
    link->taken = filled == FILLED_DRY && bio__between_records(link);
    if (link->taken && (!one || *len_out == 0)) SSL_free_buffers(link->ssl);
    r->of = NULL;
    if (r->at == r->len || filled == FILLED_END) return filled;
    if (buffer_append(&link->sealed, r->bytes + r->at, r->len - r->at)) return filled;
    see_errno(link, ENOMEM);
    return FILLED_END;
}

/* What OpenSSL would ask for first: its memory comes meanwhile. */
static void ask_first(struct net_link *link)
{
    struct net_records *r = &link->net->records;
    tls__warm(link);
    const ssize_t got = bio__receive(link, r->bytes, NET_READ_BYTES);
    r->asked = got <= 0;
    r->got = got;
    if (got > 0) r->len = (size_t)got;
}

static void ticket_seen(struct net_link *link)
{
    if (!link->got_session) return;
    link->got_session = false;
    tls__settle(link);
}

static enum filled decrypt(struct net_link *link, size_t *len_out)
{
    uint8_t *buffer = link->net->read_buffer;
    struct net_records *r = &link->net->records;
    link->want_write_to_read = false;
    /* Once for all records: one that was read leaves no error behind. */
    tls__errors_clear();
    while (*len_out < NET_READ_BYTES) {
        size_t got = 0;
        /* What is received fits when it is decrypted. */
        r->room = NET_READ_BYTES - *len_out;
        if (*len_out && r->room < RECORD_BYTES_MAX && r->at == r->len && !link->dry) return FILLED_FULL;
        if (SSL_read_ex(link->ssl, buffer + *len_out, NET_READ_BYTES - *len_out, &got) == 1) {
            *len_out += got;
            /* Asked again it would make itself a buffer, find nothing and leave an error. */
            if (!link->dry || r->at < r->len || !bio__between_records(link) || SSL_has_pending(link->ssl)) continue;
            ticket_seen(link);
            return FILLED_DRY;
        }
        int error = SSL_get_error(link->ssl, 0);
        if (error == SSL_ERROR_WANT_READ) {
            ticket_seen(link);
            return FILLED_DRY;
        }
        if (error == SSL_ERROR_WANT_WRITE) {
            link->want_write_to_read = true;
            return FILLED_DRY;
        }
        if (error == SSL_ERROR_ZERO_RETURN) see_eof(link, "the peer closed the connection (close_notify)");
        else see_end(link, tls__cause(link, STAGE_UPGRADING, error));
        return FILLED_END;
    }
    return FILLED_FULL;
}

static void see_end(struct net_link *link, struct cause cause)
{
    link->end_seen = true;
    link->cause = cause;
    /* The kernel forgets the error of a connection once a write was told of it; what a read finds
     * then looks like an orderly end. */
    if (cause.kind == CAUSE_EOF && link->write_errno && !link->finishing) {
        see_errno(link, link->write_errno);
    }
}

static void see_errno(struct net_link *link, int error)
{
    link->end_seen = true;
    link->cause = net__cause(STAGE_UPGRADING, net__stream_kind(error), error, "%s",
                             uv_strerror(-error));
}

static void see_eof(struct net_link *link, const char *how)
{
    see_end(link, net__cause(STAGE_UPGRADING, CAUSE_EOF, 0, "%s", how));
    link->cause.by = BY_PEER;
}

/* ---- writing ----------------------------------------------------------------------------------- */

bool stream__write(struct net_link *link, const void *bytes, size_t len)
{
    if (link->at != AT_OPEN || link->finishing || link->write_errno) return false;
    if (len > LINK_WRITE_QUEUE_MAX) return false;
    if (link->out.len + len > LINK_WRITE_QUEUE_MAX) {
        if (!link->write_blocked) stream__flush(link);
        if (link->at != AT_OPEN || link->write_errno) return false;
        if (link->out.len + len > LINK_WRITE_QUEUE_MAX) return false;
    }
    if (!buffer_append(&link->out, bytes, len)) return false;
    link->net->counts.bytes_out += len;
    if (link->out.len > LINK_WRITE_QUEUE_LOW) link->above_low = true;
    if (!link->write_blocked) net__flush_soon(link->net, &link->flush);
    return true;
}

void stream__flush(struct net_link *link)
{
    if (link->at != AT_OPEN || link->write_errno) return;
    size_t at = 0;
    link->write_blocked = false;
    link->want_read_to_write = false;
    while (at < link->out.len && !link->write_blocked) {
        ssize_t sent = send_some(link, link->out.data + at, link->out.len - at);
        if (sent < 0) return;
        if (sent == 0) link->write_blocked = true;
        at += (size_t)sent;
    }
    buffer_consume(&link->out, at);
    if (link->out.len == 0) buffer_trim(&link->out, OUT_KEEP_BYTES);
    if (link->above_low && link->out.len < LINK_WRITE_QUEUE_LOW) {
        link->above_low = false;
        link->work |= LINK_WORK_WRITABLE;
        net__queue(link->net, &link->turn);
    }
    if (link->out.len == 0 && link->finishing) say_goodbye(link);
    link__poll(link);
}

void stream__finish(struct net_link *link)
{
    if (link->finishing) return;
    link->finishing = true;
    if (!link->write_blocked) net__flush_soon(link->net, &link->flush);
}

/* Bytes taken; 0 when the socket is full; -1 when writing is over. */
static ssize_t send_some(struct net_link *link, const uint8_t *bytes, size_t len)
{
    if (!link->ssl) {
        ssize_t sent;
        do sent = send(link->fd, bytes, len, MSG_NOSIGNAL);
        while (sent < 0 && errno == EINTR);
        if (sent >= 0) return sent;
        if (errno == EAGAIN || errno == EWOULDBLOCK) return 0;
        write_failed(link, errno);
        return -1;
    }
    size_t sent = 0;
    tls__errors_clear();
    link->sys_errno = 0;
    if (SSL_write_ex(link->ssl, bytes, len, &sent) == 1) return (ssize_t)sent;
    int error = SSL_get_error(link->ssl, 0);
    if (error == SSL_ERROR_WANT_WRITE) return 0;
    if (error == SSL_ERROR_WANT_READ) {
        link->want_read_to_write = true;
        return 0;
    }
    write_failed(link, link->sys_errno ? link->sys_errno : EPROTO);
    return -1;
}

/* Told as what the next read finds; without reading, when reading is on again. */
static void write_failed(struct net_link *link, int error)
{
    MARK("a failed write leaves the last word to the reads");
    link->write_errno = error;
    buffer_clear(&link->out);
    buffer_trim(&link->out, 0);
    link->write_blocked = false;
    link->above_low = false;
    if (link->reading) {
        link->work |= LINK_WORK_READ;
        net__queue(link->net, &link->turn);
    }
    link__poll(link);
}

/* All is written: close_notify, then FIN. Reading goes on until the peer has done likewise. */
static void say_goodbye(struct net_link *link)
{
    if (link->ssl && !link->notified) {
        tls__errors_clear();
        link->sys_errno = 0;
        int result = SSL_shutdown(link->ssl);
        if (result < 0) {
            int error = SSL_get_error(link->ssl, result);
            if (error == SSL_ERROR_WANT_WRITE || error == SSL_ERROR_WANT_READ) {
                link->write_blocked = true;
                link->want_read_to_write = error == SSL_ERROR_WANT_READ;
                return;
            }
            if (link->sys_errno) {
                write_failed(link, link->sys_errno);
                return;
            }
        }
        link->notified = true;
    }
    if (!link->shut) {
        link->shut = true;
        shutdown(link->fd, SHUT_WR);
    }
}
