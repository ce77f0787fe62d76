/* Claims: which identities a roster has, sorted, so that thousands are looked up at once; and two that are the same. */
#include "ops/roster.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

struct owner {
    uint64_t identity;
    uint32_t index;
};

static int by_identity(const void *a, const void *b)
{
    const struct owner *x = a, *y = b;
    if (x->identity != y->identity) return x->identity < y->identity ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

static int by_number(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Rare: who has them is asked for only once two are the same. */
static void twins_tell(const struct roster *r, struct problems *problems)
{
    uint32_t count = 0;
    struct owner *owners = calloc(r->config.connection_count + 1, sizeof *owners);
    ASSERT(owners != NULL);
    for (uint32_t i = 0; i < r->config.connection_count; i++) {
        if (r->who[i].identity) owners[count++] = (struct owner){ r->who[i].identity, i };
    }
    qsort(owners, count, sizeof *owners, by_identity);
    for (uint32_t i = 1; i < count; i++) {
        if (owners[i].identity != owners[i - 1].identity) continue;
        const struct config_connection *c = &r->config.connections[owners[i].index];
        const struct config_connection *other = &r->config.connections[owners[i - 1].index];
        char key[96];
        snprintf(key, sizeof key, "connection %s", c->name);
        problems_add(problems, false, c->file, c->line, key,
                     "has the same identity as %s (%s:%" PRIu32 "): two links would fight; one must go",
                     other->name, other->file, other->line);
    }
    free(owners);
}

bool roster_claims(struct roster *r, struct problems *problems)
{
    bool twins = false;
    r->claim_count = 0;
    for (uint32_t i = 0; i < r->config.connection_count; i++) {
        if (r->who[i].identity) r->claims[r->claim_count++] = r->who[i].identity;
    }
    qsort(r->claims, r->claim_count, sizeof *r->claims, by_number);
    for (uint32_t i = 1; i < r->claim_count; i++) twins = twins || r->claims[i] == r->claims[i - 1];
    if (twins) twins_tell(r, problems);
    return !twins;
}

bool roster_claimed(const struct roster *r, uint64_t identity)
{
    return bsearch(&identity, r->claims, r->claim_count, sizeof *r->claims, by_number) != NULL;
}

const char *roster_claimant(const struct roster *r, uint64_t identity)
{
    if (!identity || !roster_claimed(r, identity)) return NULL;
    for (uint32_t i = 0; i < r->config.connection_count; i++) {
        if (r->who[i].identity == identity) return r->config.connections[i].name;
    }
    return NULL;
}
