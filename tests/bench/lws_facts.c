/* lws_facts: why libwebsockets serves what connects to holdfast and is not its upstream client.
 * Makes the same connections with the installed libwebsockets and with holdfast's own client, on
 * loopback, and prints what happened as a table. Nothing in it is typed in by hand.
 *
 * Exit: 0 when every experiment could be made, also when this libwebsockets behaves better than the
 * table's facts say; 1 when one could not, or holdfast's side did not do what it must. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lws_facts/facts.h"

#define SECONDS_MAX 30

static const struct {
    char letter;
    fact_fn *run;
} facts[] = {
    { 'a', fact_close_codes },  { 'b', fact_pings },      { 'c', fact_resolver },
    { 'd', fact_cost_small },   { 'd', fact_cost_large }, { 'e', fact_resumption },
    { 'f', fact_refusal_body },
};
#define FACTS   (sizeof facts / sizeof *facts)
#define COLUMNS 5
static const int widths[COLUMNS] = { 24, 10, 30, 30, 28 };

int main(void);

/* --- the table ----------------------------------------------------------------------------------
 */

static void rule(void)
{
    for (int i = 0; i < COLUMNS; i++) {
        for (int n = 0; n < widths[i]; n++) putchar('-');
        fputs(i + 1 < COLUMNS ? "  " : "\n", stdout);
    }
}

/* How much of `text` stands in one line of `width`, and where the next one begins. */
static size_t line_len(const char *text, size_t width, size_t *next)
{
    size_t len = strlen(text);
    if (len > width) {
        len = width;
        for (size_t i = width + 1; i-- > 1;) {
            if (text[i] != ' ') continue;
            len = i;
            break;
        }
    }
    *next = len + strspn(text + len, " ");
    return len;
}

static void row(const char *const cells[COLUMNS])
{
    const char *at[COLUMNS];
    memcpy(at, cells, sizeof at);
    for (bool more = true; more;) {
        more = false;
        for (int i = 0; i < COLUMNS; i++) {
            size_t next, len = line_len(at[i], (size_t)widths[i], &next);
            printf("%.*s", (int)len, at[i]);
            at[i] += next;
            if (*at[i]) more = true;
            if (i + 1 < COLUMNS) printf("%*s", widths[i] - (int)len + 2, "");
        }
        putchar('\n');
    }
}

/* --- the run ------------------------------------------------------------------------------------
 */

static const char *verdict(bool made, const struct fact *f)
{
    if (!made) return "not tested";
    return f->reproduced ? "yes" : "no";
}

static bool run(struct bench *b)
{
    unsigned reproduced = 0, made_count = 0;
    bool right = true;
    uint64_t start = now_ns();
    char ours_wrong[700];
    const char *version = lws_side_version(); /* "4.1.6-" and a commit, which packages leave out */
    printf("libwebsockets %.*s as the client, against holdfast's own\n\n",
           (int)strspn(version, "0123456789."), version);
    row((const char *const[COLUMNS]){ "fact", "reproduced", "libwebsockets did",
                                      "holdfast's client did", "where it matters" });
    rule();
    for (size_t i = 0; i < FACTS; i++) {
        struct fact f = { 0 };
        char what[200];
        bool made = facts[i].run(b, &f);
        snprintf(what, sizeof what, "(%c) %s", facts[i].letter, f.what);
        if (made && !f.ours_is_right) {
            snprintf(ours_wrong, sizeof ours_wrong, "NOT AS IT MUST: %s", f.ours);
            snprintf(f.ours, sizeof f.ours, "%.599s", ours_wrong);
        }
        row((const char *const[COLUMNS]){ what, verdict(made, &f), f.lws, f.ours, f.where });
        rule();
        fflush(stdout);
        right = right && made && f.ours_is_right;
        made_count += made;
        reproduced += made && f.reproduced;
    }
    printf("\n%u of %u facts reproduced in %.1f s", reproduced, (unsigned)FACTS,
           (double)(now_ns() - start) / 1e9);
    if (made_count < FACTS) printf("; %u could not be tested", (unsigned)FACTS - made_count);
    if (reproduced < made_count) {
        printf("; this libwebsockets behaves better in %u: the reason for our own client is that "
               "much weaker",
               made_count - reproduced);
    }
    puts(right ? "" : "; FAILED: see above");
    return right;
}

int main(void)
{
    char ca_file[] = "/tmp/lws_facts.XXXXXX";
    int fd = mkstemp(ca_file);
    if (fd < 0) {
        perror("lws_facts: mkstemp");
        return 1;
    }
    close(fd);
    alarm(SECONDS_MAX); /* its default ends the process: a run that hangs is no answer */
    signal(SIGPIPE, SIG_IGN);
    struct bench b = { .tls = server_identity(ca_file) };
    if (b.tls) b.lws = lws_side_create(ca_file);
    if (b.lws) b.ours = our_side_create(ca_file);
    bool ok = b.ours && run(&b);
    if (!b.ours)
        fprintf(stderr, "lws_facts: no certificate, or no libwebsockets context on libuv\n");
    if (b.ours) our_side_destroy(b.ours);
    if (b.lws) lws_side_destroy(b.lws);
    SSL_CTX_free(b.tls);
    unlink(ca_file);
    return ok ? 0 : 1;
}
