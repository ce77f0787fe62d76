/* What binds libwebsockets to libuv is a plugin that it loads, and unloads with its context. */
#ifndef HOLDFAST_OPS_LWS_PLUGIN_H
#define HOLDFAST_OPS_LWS_PLUGIN_H

/* After lws_create_context(): the plugin stays until the process ends. Where libwebsockets has libuv built in
 * there is none, and nothing is done. */
void lws_plugin_keep(void);

#endif
