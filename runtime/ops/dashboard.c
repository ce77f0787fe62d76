/* Dashboard: GET / and its two files, built into the binary out of dashboard/. They hold no data and need no token:
 * the page asks its reader for one and then speaks to the API as any client does. A browser lets it run what comes
 * from here and nothing else, talk to here and nowhere else, and stand in nobody's frame. */
#include <stdio.h>
#include <string.h>

#include "ops/ops_internal.h"

/* Relative to the top of the tree, where everything is compiled from; the Makefile knows these files. */
#define EMBED(name, path)                                                                                              \
    __asm__(".pushsection .rodata\n"                                                                                   \
            ".globl " #name "\n.globl " #name "_end\n.hidden " #name "\n.hidden " #name "_end\n" #name ":\n"           \
            ".incbin \"" path "\"\n" #name "_end:\n.byte 0\n.popsection\n");                                           \
    extern const char name[] __attribute__((visibility("hidden")));                                                    \
    extern const char name##_end[] __attribute__((visibility("hidden")))

EMBED(dashboard_html, "runtime/ops/dashboard/index.html");
EMBED(dashboard_css, "runtime/ops/dashboard/dashboard.css");
EMBED(dashboard_js, "runtime/ops/dashboard/dashboard.js");

int dashboard__page(struct client *c, const char *name)
{
    (void)name;
    c->page = true;
    return http__answer(c, 200, "text/html; charset=utf-8", dashboard_html, (size_t)(dashboard_html_end - dashboard_html));
}

int dashboard__style(struct client *c, const char *name)
{
    (void)name;
    c->page = true;
    return http__answer(c, 200, "text/css; charset=utf-8", dashboard_css, (size_t)(dashboard_css_end - dashboard_css));
}

int dashboard__script(struct client *c, const char *name)
{
    (void)name;
    c->page = true;
    return http__answer(c, 200, "text/javascript; charset=utf-8", dashboard_js, (size_t)(dashboard_js_end - dashboard_js));
}

/* What a token is good for, so that a page need not offer what would be refused. */
int dashboard__token(struct client *c, const char *name)
{
    static const char *const scopes[] = { [OPS_READ] = "read", [OPS_CONSUME] = "consume", [OPS_OPERATE] = "operate" };
    char text[160];
    (void)name;
    const char *version = c->ops->options.version;
    int len = snprintf(text, sizeof text, "{\"scope\":\"%s\",\"version\":\"%.64s\"}\n", scopes[c->scope], version ? version : "");
    return http__answer(c, 200, "application/json", text, (size_t)len);
}
