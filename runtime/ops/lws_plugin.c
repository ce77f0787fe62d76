/* libwebsockets' plugin for libuv: kept in memory. The end of a context unloads it while the loop still owes calls
 * to it, of the handles that it closed last: whether they come before or after was a matter of time. */
#include "ops/lws_plugin.h"

#include <dlfcn.h>

void lws_plugin_keep(void)
{
    void *plugin = dlopen("libwebsockets-evlib_uv.so", RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
    if (plugin) dlclose(plugin); /* it stays, without our reference */
}
