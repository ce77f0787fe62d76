/* Blame: whose doing an ending is, as far as this side can tell, for the first question that people ask. The one rule
 * that the API, `why`, the log and metrics use; decides nothing. Pure.
 *
 * To add a cause: blame_of(), one line in tests/unit/life/blame_spec.lua. */
#ifndef HOLDFAST_ENGINE_BLAME_H
#define HOLDFAST_ENGINE_BLAME_H

#include "engine/effect.h"

/* way: the platform or the network between, and nobody here can tell which. */
#define BLAME_MAP(X)                                                                                                   \
    X(NOBODY, "nobody") X(PLATFORM, "platform") X(WAY, "platform_or_network") X(NETWORK, "network")                    \
    X(MACHINE, "machine") X(CREDENTIALS, "credentials") X(LIMITS, "limits") X(OTHER_CLIENT, "another_client")          \
    X(CONFIGURATION, "configuration") X(POLICY, "policy") X(CONSUMER, "consumer") X(OPERATOR, "operator")              \
    X(HOLDFAST, "holdfast")

enum blame {
#define X(name, text) BLAME_##name,
    BLAME_MAP(X)
#undef X
    BLAME_COUNT
};

/* `note`: what the rule that decided says to people; "". */
enum blame blame_of(const struct cause *cause, bool planned, const char *note);
const char *blame_name(enum blame b);

#endif
