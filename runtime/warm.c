/* Warm: of ten thousand connections none is in a cache when its beat is due, and a beat looks at a hundred lines of
 * memory, one after the other. Those that are due next are looked at together, one level of pointers at a time, so that
 * their memory comes side by side. Changes nothing. */
#include "base/fetch_ahead.h"
#include "runtime_internal.h"

#define STEP_BYTES 192 /* of a connection: what every step looks at comes first */

void rt_warm(struct runtime *rt, uint64_t now_ms)
{
    struct handle due[ENGINE_WARM_MAX];
    struct rt_conn *conns[ENGINE_WARM_MAX];
    const uint32_t count = engine_warm(rt->engine, now_ms, due);
    if (count < 2) return; /* nothing to do meanwhile */
    for (uint32_t i = 0; i < count; i++) {
        conns[i] = rt->conns[due[i].index];
        fetch_ahead(conns[i], STEP_BYTES);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!conns[i]) continue;
        fetch_ahead(conns[i]->links, sizeof *conns[i]->links);
        if (conns[i]->session.kind == VALUE_TABLE) fetch_ahead(conns[i]->session.table, 1);
        rt_record_warm(conns[i], 0);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!conns[i]) continue;
        const struct rt_link *l = conns[i]->links;
        if (conns[i]->session.kind == VALUE_TABLE) fetch_ahead(conns[i]->session.table->pairs, 1);
        rt_record_warm(conns[i], 1);
        if (l && rt->options.host.ops->link_warm)
            rt->options.host.ops->link_warm(rt->options.host.self, handle_pack(l->self));
    }
    for (uint32_t i = 0; i < count; i++)
        if (conns[i]) rt_record_warm(conns[i], 2);
}
