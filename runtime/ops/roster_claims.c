/* Claims: which connection has an identity, found by a hash, and two that have the same. Filled one connection at a time:
 * of thousands, a reload does it in slices of the loop's time. */
#include "ops/roster.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/rng.h"

void roster__claims_init(struct roster *r)
{
    uint32_t room = 32;
    while (room < r->config.connection_count * 2) room *= 2; /* never more than half full */
    r->claims = calloc(room, sizeof *r->claims);
    ASSERT(r->claims != NULL);
    r->claims_mask = room - 1;
}

/* Where it stands, or where it would. */
static uint32_t *place(const struct roster *r, uint64_t identity)
{
    for (uint64_t at = rng_mix(identity);; at++) {
        uint32_t *p = &r->claims[at & r->claims_mask];
        if (!*p || r->who[*p - 1].identity == identity) return p;
    }
}

static void twin_tell(const struct roster *r, uint32_t index, uint32_t other_index, struct problems *problems)
{
    const struct config_connection *c = &r->config.connections[index], *other = &r->config.connections[other_index];
    char key[96];
    snprintf(key, sizeof key, "connection %s", c->name);
    problems_add(problems, false, c->file, c->line, key,
                 "has the same identity as %s (%s:%" PRIu32 "): two links would fight; one must go", other->name,
                 other->file, other->line);
}

bool roster_claim_next(struct roster *r, struct problems *problems)
{
    if (r->claimed == r->config.connection_count) return false;
    const uint32_t index = r->claimed++;
    if (!r->who[index].identity) return true;
    uint32_t *at = place(r, r->who[index].identity);
    if (*at) twin_tell(r, index, *at - 1, problems);
    else *at = index + 1;
    return true;
}

const char *roster_claimant(const struct roster *r, uint64_t identity)
{
    if (!identity || !r->claims) return NULL;
    const uint32_t at = *place(r, identity);
    return at ? r->config.connections[at - 1].name : NULL;
}
