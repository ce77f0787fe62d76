/* What model.c and model_view.c share. */
#ifndef HOLDFAST_SIM_MODEL_INTERNAL_H
#define HOLDFAST_SIM_MODEL_INTERNAL_H

#include "sim/model.h"

#define MODEL_JOURNAL_MAX 64u

struct model_blob {
    char *bytes; /* owned; NULL: none */
    size_t len;
};

struct model_event {
    enum store_event_kind kind;
    uint64_t epoch, offset, wall_ms;
    char *line; /* owned */
    size_t len;
};

struct model_epoch {
    uint64_t epoch, after, last;
};

struct model_seen {
    uint64_t key_high, key_low, offset, wall_ms, until_wall_ms;
};

struct model_entry {
    uint64_t wall_ms;
    char *json; /* owned */
    size_t len;
};

/* Everything of one connection's name. All arrays are owned. */
struct model_stream {
    char *name;
    struct model_blob session, keep, json;
    uint64_t session_wall_ms, session_of, keep_wall_ms;
    bool wished, stopped;
    struct model_event *events; /* from event_first on */
    uint32_t event_first, event_count, event_capacity;
    struct model_epoch *epochs;
    uint32_t epoch_count, epoch_capacity;
    uint64_t last_epoch, last_offset; /* of the newest frame */
    struct model_seen *seen;
    uint32_t seen_count, seen_capacity;
    struct model_entry *journal;
    uint32_t journal_count, journal_capacity;
};

struct model_permit {
    uint64_t connection, account, wall_ms, boot_ms; /* connection: a hash */
    int64_t lane;
    enum budget_kind budget;
    bool old_boot; /* the machine booted since: boot_ms says nothing any more */
};

struct model_told {
    uint64_t account;
    enum budget_kind budget;
    int64_t left;
    uint32_t lanes;
    uint64_t until_wall_ms, until_boot_ms;
    bool old_boot;
};

struct model_consumer {
    char *name, *patterns;
    size_t len;
    uint64_t wall_ms;
};

struct model_cursor {
    char *consumer, *connection;
    uint64_t epoch, offset, wall_ms;
};

struct model {
    struct model_stream **streams; /* each too */
    uint32_t stream_count, stream_capacity;
    struct model_permit *permits;
    uint32_t permit_count, permit_capacity;
    struct model_told *tolds;
    uint32_t told_count, told_capacity;
    struct model_consumer *consumers;
    uint32_t consumer_count, consumer_capacity;
    struct model_cursor *cursors;
    uint32_t cursor_count, cursor_capacity;
};

struct model_stream *model__find(const struct model *m, const char *name);

#endif
