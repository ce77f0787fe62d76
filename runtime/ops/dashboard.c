/* Dashboard: GET / and its few files, built into the binary out of dashboard/. They hold no data and need no token:
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
EMBED(dashboard_style, "runtime/ops/dashboard/style.css");
EMBED(dashboard_words, "runtime/ops/dashboard/words.js");
EMBED(dashboard_data, "runtime/ops/dashboard/data.js");
EMBED(dashboard_view, "runtime/ops/dashboard/view.js");

#define SCRIPT "text/javascript; charset=utf-8"

static const struct {
    const char *target, *type, *begin, *end;
} files[] = {
    { "/", "text/html; charset=utf-8", dashboard_html, dashboard_html_end },
    { "/dashboard/style.css", "text/css; charset=utf-8", dashboard_style, dashboard_style_end },
    { "/dashboard/words.js", SCRIPT, dashboard_words, dashboard_words_end },
    { "/dashboard/data.js", SCRIPT, dashboard_data, dashboard_data_end },
    { "/dashboard/view.js", SCRIPT, dashboard_view, dashboard_view_end },
};

int dashboard__file(struct client *c, const char *name)
{
    (void)name;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        if (strcmp(files[i].target, c->target) != 0) continue;
        c->page = true;
        return http__answer(c, 200, files[i].type, files[i].begin, (size_t)(files[i].end - files[i].begin));
    }
    return http__refuse(c, 404, "there is nothing at this address", "/");
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
