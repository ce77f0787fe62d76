/* Causes: made, named, parsed. Judging them is verdict.c's. */
#include "engine/cause.h"

#include <string.h>

#include "base/assert.h"
#include "base/text.h"

static const char *const stage_names[] = {
#define X(name, text) text,
    STAGE_MAP(X)
#undef X
};

static const char *const kind_names[] = {
#define X(name, text) text,
    CAUSE_KIND_MAP(X)
#undef X
};

struct cause cause_make(enum stage stage, enum cause_kind kind, enum cause_by by,
                        const char *reason)
{
    struct cause c;
    memset(&c, 0, sizeof c);
    c.stage = stage;
    c.kind = kind;
    c.by = by;
    c.close_code = CLOSE_CODE_NONE;
    c.retry_after_ms = RETRY_AFTER_NONE;
    cause_rename(&c, cause_kind_name(kind));
    if (reason) text_copy(c.reason, sizeof c.reason, reason, strlen(reason));
    return c;
}

void cause_rename(struct cause *c, const char *name)
{
    ASSERT(name != NULL);
    text_copy(c->name, sizeof c->name, name, strlen(name));
}

const char *stage_name(enum stage s)
{
    ASSERT((unsigned)s < STAGE_COUNT);
    return stage_names[s];
}

const char *cause_kind_name(enum cause_kind k)
{
    ASSERT((unsigned)k < CAUSE_KIND_COUNT);
    return kind_names[k];
}

const char *cause_by_name(enum cause_by b)
{
    switch (b) {
    case BY_PEER: return "peer";
    case BY_NETWORK: return "network";
    case BY_US: return "us";
    case BY_POLICY: return "policy";
    case BY_OPERATOR: return "operator";
    }
    ASSERT(!"cause_by");
    return "";
}

bool stage_parse(const char *text, enum stage *stage_out)
{
    for (int i = 0; i < STAGE_COUNT; i++) {
        if (strcmp(text, stage_names[i]) != 0) continue;
        *stage_out = (enum stage)i;
        return true;
    }
    return false;
}
