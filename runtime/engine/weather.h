/* Weather: failures that many connections have in common, and what it is that they have in common: this machine,
 * this network, a platform, a host, an account. Pure: a list of points in, at most eight fronts out, the widest
 * that explains a failure alone. Decides nothing; who thins attempts asks of single hosts (thin.c).
 *
 * Glossary
 *   point   one connection: what it hangs on, and whether and how it fails
 *   front   a set of failing connections with something in common: at least three, and nearly all that have it */
#ifndef HOLDFAST_ENGINE_WEATHER_H
#define HOLDFAST_ENGINE_WEATHER_H

#include "engine/cause.h"

#define WEATHER_SCOPE_MAP(X)                                                                       \
    X(MACHINE, "machine") X(NETWORK, "network") X(PLATFORM, "platform") X(HOST, "host") X(ACCOUNT, "account")

enum weather_scope {
#define X(name, text) WEATHER_##name,
    WEATHER_SCOPE_MAP(X)
#undef X
    WEATHER_SCOPES,
};

#define WEATHER_FRONTS_MAX 8
#define WEATHER_FAILING_MIN 3
#define WEATHER_BEGINS_PERCENT 80 /* of those that have it in common are failing */
#define WEATHER_ENDS_PERCENT 50   /* a front that is there stays until fewer are */
#define WEATHER_TEXT_MAX 300
#define WEATHER_NAME_MAX 64

struct weather_point {
    bool wanted;              /* somebody wants it up: the others do not count */
    bool failing;             /* failures in a row, and not settled since */
    uint64_t platform, host, account; /* fingerprints; 0: none */
    const char *platform_name, *host_name, *name; /* borrowed until return; name: of the connection */
    enum stage stage;         /* of its last failure, and the rest of it */
    enum cause_kind kind;
    enum cause_by by;
    int32_t close_code, http_status;
    uint64_t since_wall_ms;   /* its first failure in a row */
};

struct weather_front {
    enum weather_scope scope;
    uint64_t key;             /* the fingerprint; 0 for machine and network */
    char name[WEATHER_NAME_MAX]; /* of the platform or host; of one connection of the account; "" */
    uint32_t failing, total;
    uint64_t since_wall_ms;   /* the first of the failures that go on */
    enum stage stage;         /* of most; and of all when `one_stage` */
    enum cause_kind kind;
    bool one_cause, one_stage;
    int32_t close_code, http_status; /* of the one cause; CLOSE_CODE_NONE, 0 */
    char cause[CAUSE_NAME_MAX];      /* its name, where whoever judges adds that: the policy's own; "" */
};

/* Scratch of the caller: no less than weather_scratch() of them, contents do not matter. */
struct weather_group;
size_t weather_scratch_bytes(uint32_t points);

/* `before`: what the last call found; may be the same array as `out`. Returns how many there are, the most
 * failing first. */
uint32_t weather_judge(const struct weather_point *points, uint32_t count, const struct weather_front *before,
                       uint32_t before_count, struct weather_front out[WEATHER_FRONTS_MAX], void *scratch);
/* That a front covers a point. */
bool weather_covers(const struct weather_front *f, const struct weather_point *p);
/* "discord: 41 of 41 connections failing at connecting since 10:02 UTC, one cause: refused" */
const char *weather_text(const struct weather_front *f, char out[WEATHER_TEXT_MAX]);
const char *weather_scope_name(enum weather_scope s);

#endif
