/* WAL gather: a SQLite VFS in front of another one. SQLite writes each page of its log in two calls, the frame's head
 * and the page, thousands of them while a herd comes back; here those that follow each other become one. What is kept
 * back goes out before anything can depend on it: a sync, a look at the file, or a read of those bytes. */
#ifndef HOLDFAST_STORE_WAL_GATHER_H
#define HOLDFAST_STORE_WAL_GATHER_H

struct wal_gather; /* opaque */

/* In front of the VFS of that name; NULL: SQLite's own. NULL: there is none, or memory is out. */
struct wal_gather *wal_gather_create(const char *before);
/* For sqlite3_open_v2(). Borrowed. */
const char *wal_gather_name(const struct wal_gather *g);
/* After everything that was opened through it is closed. NULL is allowed. */
void wal_gather_destroy(struct wal_gather *g);

#endif
