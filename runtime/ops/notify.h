/* Notify: tells a service manager that started us how we are, by systemd's datagram protocol,
 * without its library: READY=1, RELOADING=1, STATUS=, WATCHDOG=1, MAINPID=, STOPPING=1. Does nothing
 * where none asked.
 *
 * Owns one datagram socket and no timer; never blocks, never fails its caller: what cannot be told
 * is logged once and otherwise left out. What a full queue refused is *owed*: it goes with the next
 * message.
 *
 * From the environment, read once by notify_open(): NOTIFY_SOCKET (a path, or `@name` for an
 * abstract one), WATCHDOG_USEC, WATCHDOG_PID. */
#ifndef HOLDFAST_OPS_NOTIFY_H
#define HOLDFAST_OPS_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "ops/log.h"

#define NOTIFY_STATUS_BYTES_MAX 240 /* a longer status is cut */
#define NOTIFY_RETRY_MS         200 /* after a refusal by a full queue */

struct notify {
    struct log *log; /* borrowed until notify_close(); may be NULL */
    int fd;          /* owned; -1: nobody asked */
    struct sockaddr_un to;
    socklen_t to_len;
    uint64_t watchdog_ms; /* half of what the manager allows; 0: it watches nobody */
    bool failed;          /* and was logged */
    bool owes_ready, owes_stopping, owes_status;
    long owes_main_pid; /* 0: none */
    char status[NOTIFY_STATUS_BYTES_MAX + 1];
};

/* True when somebody is told. A NOTIFY_SOCKET that cannot be used is logged. */
bool notify_open(struct notify *n, struct log *log);
void notify_close(struct notify *n);

/* The configuration is loaded and the listeners are open. */
void notify_ready(struct notify *n);
/* Configuration and policies are read again; notify_ready() must follow. */
void notify_reloading(struct notify *n);
/* Another process is the service from now on: told before this one ends. */
void notify_main_pid(struct notify *n, long pid);
/* The end began. Nothing but the watchdog is told after it. */
void notify_stopping(struct notify *n);
/* One line for `systemctl status`; made printable, so it may hold names from outside. Borrowed
 * until return. */
void notify_status(struct notify *n, const char *text);
/* The loop turns. Also sends what is owed, and nothing when there is neither. */
void notify_watchdog(struct notify *n);
/* When notify_watchdog() should be called next, in milliseconds from now: half of the manager's
 * interval, sooner while something is owed; 0: never, until another function here was called. */
uint64_t notify_next_ms(const struct notify *n);

#endif
