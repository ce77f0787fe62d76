/* Memory store: accepts every write and answers it with success at the next poll. Owns the queue of
 * answers and nothing else: nothing is kept, and kind() says so. Never answers from inside
 * submit(). */
#include "store/store.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

#define TICKETS_MAX ((size_t)1 << 20)

struct store_memory {
    uint64_t *tickets; /* owned; a ring of answers that are due */
    size_t capacity;   /* a power of two, or 0 */
    size_t first, count;
};

static bool memory_submit(void *self, const struct store_request *request);
static const char *memory_kind(void *self);
static bool memory_grow(struct store_memory *m);

static const struct store_ops memory_ops = { .submit = memory_submit, .kind = memory_kind };

struct store_memory *store_memory_create(void)
{
    return calloc(1, sizeof(struct store_memory));
}

void store_memory_destroy(struct store_memory *m)
{
    if (!m) return;
    free(m->tickets);
    free(m);
}

struct store store_memory_store(struct store_memory *m)
{
    ASSERT(m != NULL);
    return (struct store){ .ops = &memory_ops, .self = m };
}

void store_memory_poll(struct store_memory *m, void (*answer)(void *to, uint64_t ticket, bool ok),
                       void *to)
{
    /* What an answer submits anew waits for the next poll: an answer never overtakes its caller. */
    size_t due = m->count;
    for (; due > 0; due--) {
        ASSERT(m->count > 0);
        uint64_t ticket = m->tickets[m->first];
        m->first = (m->first + 1) & (m->capacity - 1);
        m->count--;
        answer(to, ticket, true);
    }
}

bool store_memory_is_idle(const struct store_memory *m)
{
    return m->count == 0;
}

static bool memory_submit(void *self, const struct store_request *request)
{
    struct store_memory *m = self;
    ASSERT(request->op < STORE_OP_COUNT);
    if (request->ticket == 0) return true;
    if (m->count == m->capacity && !memory_grow(m)) return false;
    m->tickets[(m->first + m->count) & (m->capacity - 1)] = request->ticket;
    m->count++;
    return true;
}

static const char *memory_kind(void *self)
{
    (void)self;
    return "memory";
}

static bool memory_grow(struct store_memory *m)
{
    size_t capacity = m->capacity ? m->capacity * 2 : 64;
    if (capacity > TICKETS_MAX) return false;
    uint64_t *tickets = malloc(capacity * sizeof *tickets);
    if (!tickets) return false;
    for (size_t i = 0; i < m->count; i++)
        tickets[i] = m->tickets[(m->first + i) & (m->capacity - 1)];
    free(m->tickets);
    m->tickets = tickets;
    m->capacity = capacity;
    m->first = 0;
    return true;
}
