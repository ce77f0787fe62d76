/* Disk: records by connection, permits in order, and the writes under way. What is under way when the
 * process dies may have reached the platter or not; what was answered has. */
#include "sim/disk.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/rng.h"

struct record {
    char *connection; /* owned */
    struct {
        char *bytes; /* owned; NULL: none */
        size_t len;
        uint64_t wall_ms, account;
    } of[STORE_OP_COUNT];
    uint64_t safe;
};

struct write {
    uint64_t number, ticket;
    enum store_op op;
    char *connection, *bytes; /* owned */
    size_t len;
    uint64_t wall_ms, world_ms, offset;
    struct disk_permit permit;
    struct disk_told told;
    bool fails;
};

struct disk {
    struct record *records; /* owned, in order of appearance */
    uint32_t record_count;
    struct disk_permit *permits; /* owned */
    uint32_t permit_count, permit_capacity;
    struct disk_told *told; /* owned; one for each budget of an account */
    uint32_t told_count, told_capacity;
    struct write *writes; /* owned, in order of submission */
    uint32_t write_count, write_capacity;
    uint64_t next_number;
};

static void *grown(void *items, uint32_t count, uint32_t *capacity, size_t size)
{
    if (count < *capacity) return items;
    *capacity = *capacity ? *capacity * 2 : 16;
    items = realloc(items, *capacity * size);
    ASSERT(items != NULL);
    return items;
}

static char *copy(const void *bytes, size_t len)
{
    char *out = malloc(len + 1);
    ASSERT(out != NULL);
    if (len) memcpy(out, bytes, len);
    out[len] = 0;
    return out;
}

struct disk *disk_create(void)
{
    struct disk *d = calloc(1, sizeof *d);
    ASSERT(d != NULL);
    return d;
}

static void write_free(struct write *wr)
{
    free(wr->connection);
    free(wr->bytes);
}

void disk_destroy(struct disk *d)
{
    if (!d) return;
    for (uint32_t i = 0; i < d->record_count; i++) {
        free(d->records[i].connection);
        for (int op = 0; op < STORE_OP_COUNT; op++) free(d->records[i].of[op].bytes);
    }
    for (uint32_t i = 0; i < d->write_count; i++) write_free(&d->writes[i]);
    free(d->records);
    free(d->permits);
    free(d->told);
    free(d->writes);
    free(d);
}

static struct record *find(const struct disk *d, const char *connection)
{
    for (uint32_t i = 0; i < d->record_count; i++) {
        if (strcmp(d->records[i].connection, connection) == 0) return &d->records[i];
    }
    return NULL;
}

static struct record *get(struct disk *d, const char *connection)
{
    struct record *r = find(d, connection);
    if (r) return r;
    d->records = realloc(d->records, (d->record_count + 1) * sizeof *d->records);
    ASSERT(d->records != NULL);
    r = &d->records[d->record_count++];
    memset(r, 0, sizeof *r);
    r->connection = copy(connection, strlen(connection));
    return r;
}

uint64_t disk_submit(struct disk *d, const struct store_request *request, uint64_t wall_ms,
                     uint64_t world_ms, uint64_t boot, bool fails)
{
    d->writes = grown(d->writes, d->write_count, &d->write_capacity, sizeof *d->writes);
    struct write *wr = &d->writes[d->write_count++];
    const char *name = request->connection ? request->connection : "";
    *wr = (struct write){ .number = ++d->next_number,
                          .ticket = request->ticket,
                          .op = request->op,
                          .connection = copy(name, strlen(name)),
                          .bytes = request->bytes ? copy(request->bytes, request->len) : NULL,
                          .len = request->len,
                          .wall_ms = wall_ms,
                          .world_ms = world_ms,
                          .offset = request->offset,
                          .permit = { .budget = request->budget,
                                      .account = request->account,
                                      .lane = request->lane,
                                      .wall_ms = request->wall_ms,
                                      .boot_ms = request->boot_ms,
                                      .boot = boot,
                                      .world_ms = world_ms },
                          .told = { .budget = request->budget,
                                    .account = request->account,
                                    .left = request->count,
                                    .lanes = request->lanes,
                                    .until_wall_ms = request->until_wall_ms,
                                    .until_boot_ms = request->until_boot_ms,
                                    .boot = boot },
                          .fails = fails };
    return wr->number;
}

static void return_permit(struct disk *d, const struct disk_permit *p)
{
    for (uint32_t i = d->permit_count; i > 0; i--) {
        struct disk_permit *q = &d->permits[i - 1];
        if (q->budget != p->budget || q->account != p->account) continue;
        if (q->wall_ms != p->wall_ms || q->boot_ms != p->boot_ms) continue;
        memmove(q, q + 1, (d->permit_count - i) * sizeof *q);
        d->permit_count--;
        return;
    }
}

static void tell(struct disk *d, const struct disk_told *told)
{
    for (uint32_t i = 0; i < d->told_count; i++) {
        if (d->told[i].budget != told->budget || d->told[i].account != told->account) continue;
        d->told[i] = *told;
        return;
    }
    d->told = grown(d->told, d->told_count, &d->told_capacity, sizeof *d->told);
    d->told[d->told_count++] = *told;
}

static void apply(struct disk *d, struct write *wr)
{
    switch (wr->op) {
    case STORE_OP_PERMIT:
        d->permits = grown(d->permits, d->permit_count, &d->permit_capacity, sizeof *d->permits);
        d->permits[d->permit_count++] = wr->permit;
        break;
    case STORE_OP_PERMIT_RETURN: return_permit(d, &wr->permit); break;
    case STORE_OP_TOLD: tell(d, &wr->told); break;
    case STORE_OP_FRAMES: {
        struct record *r = get(d, wr->connection);
        if (wr->offset > r->safe) r->safe = wr->offset;
        break;
    }
    case STORE_OP_SESSION:
    case STORE_OP_KEEP: {
        struct record *r = get(d, wr->connection);
        free(r->of[wr->op].bytes);
        r->of[wr->op].bytes = wr->bytes;
        r->of[wr->op].len = wr->len;
        r->of[wr->op].wall_ms = wr->wall_ms;
        r->of[wr->op].account = wr->permit.account;
        wr->bytes = NULL; /* moved */
        break;
    }
    default: break; /* this disk keeps no more than what a restart needs */
    }
}

bool disk_finish(struct disk *d, uint64_t number, uint64_t *ticket_out, bool *ok_out)
{
    for (uint32_t i = 0; i < d->write_count; i++) {
        struct write *wr = &d->writes[i];
        if (wr->number != number) continue;
        if (!wr->fails) apply(d, wr);
        *ticket_out = wr->ticket;
        *ok_out = !wr->fails;
        write_free(wr);
        memmove(wr, wr + 1, (d->write_count - i - 1) * sizeof *wr);
        d->write_count--;
        return true;
    }
    return false;
}

void disk_crash(struct disk *d, uint64_t draw)
{
    /* A prefix in order of submission, as a journal does it: the draw says how long. */
    uint32_t kept = d->write_count ? (uint32_t)rng_range(draw, 0, d->write_count) : 0;
    for (uint32_t i = 0; i < d->write_count; i++) {
        if (i < kept && !d->writes[i].fails) apply(d, &d->writes[i]);
        write_free(&d->writes[i]);
    }
    d->write_count = 0;
}

bool disk_get(const struct disk *d, enum store_op op, const char *connection,
              struct disk_record *out)
{
    ASSERT(op < STORE_OP_COUNT);
    const struct record *r = find(d, connection);
    if (!r || !r->of[op].bytes) return false;
    *out = (struct disk_record){ r->of[op].bytes, r->of[op].len, r->of[op].wall_ms,
                                 r->of[op].account };
    return true;
}

bool disk_permit(const struct disk *d, uint32_t index, struct disk_permit *out)
{
    if (index >= d->permit_count) return false;
    *out = d->permits[index];
    return true;
}

bool disk_told(const struct disk *d, uint32_t index, struct disk_told *out)
{
    if (index >= d->told_count) return false;
    *out = d->told[index];
    return true;
}

uint64_t disk_safe(const struct disk *d, const char *connection)
{
    const struct record *r = find(d, connection);
    return r ? r->safe : 0;
}

uint32_t disk_pending(const struct disk *d)
{
    return d->write_count;
}
