/* File look: what files that count are like now, and which folders say that they change. Blocks: for libuv's pool. */
#ifndef HOLDFAST_OPS_FILE_LOOK_H
#define HOLDFAST_OPS_FILE_LOOK_H

#include "ops/file_watch.h"

#define FILE_FOLDERS_MAX 128

struct watched {
    char *path;      /* owned */
    enum file_beside beside;
    bool known;
    uint64_t print;  /* what it was like when it was last told, or first seen; 0: not there */
    uint64_t latest; /* what it was like at the last look */
};
void watched_free(struct watched *items, uint32_t count);

struct file_look {
    struct watched *items; /* owned: copies, because the list may change meanwhile */
    uint32_t count;
    char *folders[FILE_FOLDERS_MAX]; /* owned */
    uint32_t folder_count;
    bool is_written;       /* somebody has one of them open for writing, and wrote lately */
};

/* Fills `latest` of all, and the rest. */
void file_look(struct file_look *l);
void file_look_deinit(struct file_look *l);

#endif
