/* Names of states, events, effects: from the lists in the headers, so that they cannot drift. */
#include "base/assert.h"
#include "engine/engine.h"

const char *event_name(enum event_kind kind)
{
    static const char *const names[] = {
#define X(name, text) text,
        EVENT_MAP(X)
#undef X
    };
    ASSERT((unsigned)kind < EVENT_KIND_COUNT);
    return names[kind];
}

const char *effect_name(enum effect_kind kind)
{
    static const char *const names[] = {
#define X(name, text) text,
        EFFECT_MAP(X)
#undef X
    };
    ASSERT((unsigned)kind < EFFECT_KIND_COUNT);
    return names[kind];
}

const char *conn_state_name(enum conn_state s)
{
    static const char *const names[] = {
#define X(name, text) text,
        CONN_STATE_MAP(X)
#undef X
    };
    ASSERT((unsigned)s < CONN_STATE_COUNT);
    return names[s];
}

const char *link_state_name(enum link_state s)
{
    static const char *const names[] = {
#define X(name, text) text,
        LINK_STATE_MAP(X)
#undef X
    };
    ASSERT((unsigned)s < LINK_STATE_COUNT);
    return names[s];
}

const char *refuse_text(enum refuse_why why)
{
    switch (why) {
    case REFUSE_NOT_UP: return "not up";
    case REFUSE_QUEUE_FULL: return "queue full";
    case REFUSE_LINK_ENDED: return "link ended";
    case REFUSE_TOO_LONG: return "too long";
    case REFUSE_NO_PERMIT: return "no permit";
    case REFUSE_REMOVED: return "removed";
    }
    ASSERT(!"refuse_why");
    return "";
}

const char *budget_hold_name(enum budget_hold hold)
{
    switch (hold) {
    case BUDGET_HOLD_NONE: return "none";
    case BUDGET_HOLD_WINDOW: return "window";
    case BUDGET_HOLD_GAP: return "gap";
    case BUDGET_HOLD_TOLD: return "told";
    }
    ASSERT(!"budget_hold");
    return "";
}
