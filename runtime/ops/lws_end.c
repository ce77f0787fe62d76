#include "ops/lws_end.h"

#include <dlfcn.h>
#include <libwebsockets.h>
#include <sys/resource.h>

#include "base/assert.h"

/* Descriptors below are those of the standard streams: nobody gets a new one. Not 0: poll() takes no more than the
 * limit either. */
enum { CLOSED_LIMIT = 3 };

/* Of the process, as the limit is: contexts that are closing, and the limit before the first of them. */
static struct {
    unsigned contexts;
    struct rlimit before;
} closing;

void lws_end_keep_plugin(void)
{
    void *plugin = dlopen("libwebsockets-evlib_uv.so", RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
    if (plugin) dlclose(plugin); /* it stays, without our reference */
}

void lws_end_begin(struct lws_context *context)
{
    if (closing.contexts++ == 0) {
        int failed = getrlimit(RLIMIT_NOFILE, &closing.before);
        struct rlimit none = { CLOSED_LIMIT, closing.before.rlim_max };
        failed = failed || setrlimit(RLIMIT_NOFILE, &none);
        ASSERT(!failed);
    }
    lws_context_destroy(context);
}

void lws_end_over(void)
{
    ASSERT(closing.contexts > 0);
    if (--closing.contexts > 0) return;
    int failed = setrlimit(RLIMIT_NOFILE, &closing.before);
    ASSERT(failed == 0);
}
