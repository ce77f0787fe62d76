/* The end of a context of libwebsockets 4.1 on a loop of ours, and the two things that it gets wrong. One thread:
 * the loop's. */
#ifndef HOLDFAST_OPS_LWS_END_H
#define HOLDFAST_OPS_LWS_END_H

struct lws_context;

/* After lws_create_context(): what binds libwebsockets to libuv is a plugin that it unloads with its context, while
 * the loop still owes calls to it. From here on it stays until the process ends. Where libwebsockets has libuv built
 * in there is no plugin, and nothing is done. */
void lws_end_keep_plugin(void);

/* First lws_context_destroy(), which begins to close. From here to lws_end_over() no thread of the process gets a new
 * descriptor (EMFILE): libwebsockets closes the one that wakes its loop at once, and the same number again when
 * libuv has closed its handle; what was opened in between would go with it. Once per context. */
void lws_end_begin(struct lws_context *context);

/* The handles that were open at lws_end_begin() are closed: two turns of the loop later. Once per context. */
void lws_end_over(void);

#endif
