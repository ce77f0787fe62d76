/* Table: finds links and calls by the runtime's 64-bit ids. Intrusive; owns its buckets only. */
#ifndef HOLDFAST_NET_TABLE_H
#define HOLDFAST_NET_TABLE_H

#include <stdbool.h>
#include <stdint.h>

struct table_entry {
    uint64_t id;
    struct table_entry *next;
};

struct table {
    struct table_entry **buckets; /* owned */
    uint32_t bucket_count;        /* a power of two */
    uint32_t count;
};

bool table_init(struct table *t);
void table_deinit(struct table *t);
/* The id must not be in it. Never fails: without memory the chains grow longer. */
void table_put(struct table *t, struct table_entry *e);
struct table_entry *table_find(const struct table *t, uint64_t id);
/* The entry must be in it. */
void table_remove(struct table *t, struct table_entry *e);
/* Any entry, or NULL when empty. */
struct table_entry *table_any(const struct table *t);

#endif
