/* Blame: the rule of blame.h. By kind, code and stage; what a code means on one platform is told by the note of the
 * rule that knows the platform, and by the name `conflict` that policies give a second client. */
#include "engine/blame.h"

#include <string.h>

#include "base/assert.h"

static enum blame of_status(int32_t http)
{
    if (http == 401 || http == 403) return BLAME_CREDENTIALS;
    if (http == 429) return BLAME_LIMITS;
    if (http == 404 || (http >= 300 && http < 400)) return BLAME_CONFIGURATION;
    return BLAME_PLATFORM;
}

static bool says(const char *note, const char *words)
{
    return strcasestr(note, words) != NULL;
}

/* An HTTP call that got no answer, as a policy that gives up over it repeats it: "refused: ...". */
static enum cause_kind repeated(const struct cause *c)
{
    const size_t len = strcspn(c->reason, ": ");
    if (c->kind != CAUSE_FAILED && c->kind != CAUSE_CALL) return c->kind;
    for (int k = CAUSE_NONE + 1; c->reason[len] == ':' && k < CAUSE_KIND_COUNT; k++) {
        const char *name = cause_kind_name((enum cause_kind)k);
        if (strlen(name) == len && strncmp(name, c->reason, len) == 0) return (enum cause_kind)k;
    }
    return c->kind;
}

static enum blame of_kind(const struct cause *c, enum cause_kind kind)
{
    switch (kind) {
    case CAUSE_STOPPED:
    case CAUSE_RESTARTED:
    case CAUSE_SHUTDOWN: return BLAME_OPERATOR;
    case CAUSE_NONE:
    case CAUSE_RETIRED: return BLAME_NOBODY;
    case CAUSE_CONFLICT: return BLAME_OTHER_CLIENT;
    case CAUSE_HOOK:
    case CAUSE_WISHED: return BLAME_POLICY;
    case CAUSE_ADDRESS: return BLAME_CONFIGURATION;
    case CAUSE_RESOLVE:
    case CAUSE_UNREACHABLE:
    case CAUSE_CONNECT:
    case CAUSE_PROXY: return BLAME_NETWORK;
    case CAUSE_SUSPEND:
    case CAUSE_STORE: return BLAME_MACHINE;
    case CAUSE_BACKLOG_FULL: return BLAME_CONSUMER;
    case CAUSE_INTERNAL: return BLAME_HOLDFAST;
    case CAUSE_TIMEOUT: return c->stage == STAGE_RESOLVING || c->stage == STAGE_CONNECTING ? BLAME_NETWORK
                               : c->stage == STAGE_SECURING || c->stage == STAGE_PREPARING ? BLAME_WAY
                                                                                           : BLAME_PLATFORM;
    case CAUSE_CALL:
    case CAUSE_EOF:
    case CAUSE_RESET:
    case CAUSE_IO:
    case CAUSE_TLS:
    case CAUSE_CERTIFICATE:
    case CAUSE_SILENCE:
    case CAUSE_BEAT: return BLAME_WAY;
    case CAUSE_FAILED: return BLAME_WAY;
    case CAUSE_ENDED:
    case CAUSE_REFUSED:
    case CAUSE_UPGRADE_REFUSED:
    case CAUSE_UPGRADE_BAD:
    case CAUSE_CLOSED:
    case CAUSE_PROTOCOL:
    case CAUSE_TOO_BIG:
    case CAUSE_INFLATE: return BLAME_PLATFORM;
    case CAUSE_KIND_COUNT: break;
    }
    return BLAME_WAY;
}

enum blame blame_of(const struct cause *c, bool planned, const char *note)
{
    ASSERT(note != NULL);
    const enum cause_kind kind = repeated(c);
    const enum blame blame = of_kind(c, kind);
    if (blame == BLAME_OPERATOR || planned) return blame == BLAME_OPERATOR ? blame : BLAME_NOBODY;
    if (strcmp(c->name, "conflict") == 0 || says(note, "another installation") || says(note, "other clients")) return BLAME_OTHER_CLIENT;
    /* What the platform itself said goes before what its ending looks like. */
    const bool said = c->by == BY_PEER || c->http_status || c->code || kind == CAUSE_FAILED;
    if (said && (says(note, "token") || says(note, "credential") || says(note, "secret") || says(note, "app_id"))) return BLAME_CREDENTIALS;
    if (c->http_status && c->http_status != 200 && c->http_status != 101) return of_status(c->http_status);
    if (kind == CAUSE_FAILED && c->code) return BLAME_PLATFORM;
    return blame;
}

const char *blame_name(enum blame b)
{
    static const char *const names[] = {
#define X(name, text) text,
        BLAME_MAP(X)
#undef X
    };
    ASSERT(b < BLAME_COUNT);
    return names[b];
}
