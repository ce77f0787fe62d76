/* Specs of traces: a readable busted file, one claim a decision, with the words of what happened above each. */
#include "cli/replay_spec.h"

#include <stdio.h>
#include <string.h>

#include "base/duration.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/files.h"
#include "cli/words.h"

struct writing {
    struct buffer out;
    uint32_t count;
};

static void one_line(struct buffer *out, const char *text)
{
    struct buffer line;
    buffer_init(&line, 0);
    text_printable(&line, text, strlen(text));
    buffer_append(out, line.data, line.len);
    buffer_deinit(&line);
}

/* A Lua string: JSON's escapes, where there are any, are not Lua's. */
static void quoted(struct buffer *out, const char *text)
{
    buffer_append_char(out, '"');
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (*p == '"' || *p == '\\') buffer_printf(out, "\\%c", *p);
        else if (*p < 0x20 || *p == 0x7f) buffer_printf(out, "\\%03u", *p);
        else buffer_append_char(out, (char)*p);
    }
    buffer_append_char(out, '"');
}

static void on_decided(void *self, const struct decision *d, const struct clock *at, const char *file)
{
    struct writing *w = self;
    struct buffer *out = &w->out;
    struct effect fx = { .kind = FX_JOURNAL, .journal = *d };
    char words[PARTED_TEXT_MAX], when[TIMESTAMP_TEXT_MAX], title[200];
    timestamp_format(at->wall_ms, when);
    buffer_printf(out, "\n  -- %s ", when);
    one_line(out, effect_words(&fx, file, words));
    snprintf(title, sizeof title, "%s at %s: %s after %llu ms (decision %u)", d->cause.name, stage_name(d->cause.stage),
             decision_verdict(d), (unsigned long long)d->delay_ms, ++w->count);
    buffer_append_text(out, "\n  it(");
    quoted(out, title);
    buffer_append_text(out, ", function ()\n    run:decides(");
    buffer_printf(out, "%u, { cause = ", w->count);
    quoted(out, d->cause.name);
    buffer_append_text(out, ", stage = ");
    quoted(out, stage_name(d->cause.stage));
    if (d->cause.close_code != CLOSE_CODE_NONE) buffer_printf(out, ", close = %d", (int)d->cause.close_code);
    if (d->cause.http_status) buffer_printf(out, ", http = %d", (int)d->cause.http_status);
    buffer_append_text(out, ", verdict = ");
    quoted(out, decision_verdict(d));
    buffer_printf(out, ", delay = %llu, attempt = %u })\n  end)\n", (unsigned long long)d->delay_ms, d->attempt);
}

bool replay_spec_write(const struct trace_file *t, const struct buffer *bytes, const char *trace_path,
                       const char *policy, const char *spec_path)
{
    char beside[1024], why[600], when[TIMESTAMP_TEXT_MAX];
    size_t len = strlen(spec_path);
    if (len < 5 || len > 900 || strcmp(spec_path + len - 4, ".lua") != 0) {
        cli_complain("--spec takes a file whose name ends with _spec.lua, not %s", spec_path);
        return false;
    }
    snprintf(beside, sizeof beside, "%.*s.trace", (int)(len - 4), spec_path);
    const char *name = strrchr(beside, '/');
    name = name ? name + 1 : beside;
    struct writing w = { .count = 0 };
    struct buffer head;
    struct comparison c;
    buffer_init(&w.out, 0);
    buffer_init(&head, 0);
    bool ok = replay_compare(t, policy, files_lua(), on_decided, &w, &c, why, sizeof why);
    if (!ok) cli_complain("%s: %s", trace_path, why);
    timestamp_format(t->segment_count ? t->segments[0].from_wall_ms : 0, when);
    buffer_append_text(&head, "-- What happened to ");
    one_line(&head, t->connection);
    buffer_printf(&head, " from %s on, played again: written by `holdfast replay`, run by\n-- `holdfast test`. "
                  "Change what a decision is expected to be to what it should have been, then the policy until it is.\n"
                  "local replay = require \"holdfast.replay\"\n"
                  "local run = replay.of { trace = ", when);
    quoted(&head, name);
    if (policy) {
        buffer_append_text(&head, ", policy = ");
        quoted(&head, policy);
    }
    buffer_append_text(&head, " }");
    if (!policy) buffer_append_text(&head, " -- policy = \"FILE\": yours instead of the one of then");
    buffer_append_text(&head, "\n\ndescribe(");
    char title[200];
    snprintf(title, sizeof title, "%s on %s", t->connection, when);
    quoted(&head, title);
    buffer_append_text(&head, ", function ()\n  it(\"replays to the effects that it had\", function () run:exact() end)\n");
    if (c.parted == PARTED_NEVER) {
        buffer_printf(&w.out, "\n  it(\"decides no more than that\", function () run:decides_no_more_than(%u) end)\n"
                      "\n  it(\"is what the policy does, to the end\", function () run:agrees() end)\n", w.count);
    } else {
        buffer_append_text(&w.out, "\n  -- Here the policy parts from what was recorded: nothing tells what would have come next.\n");
    }
    buffer_append_text(&w.out, "end)\n");
    ok = ok && buffer_append(&head, w.out.data, w.out.len) && files_put(beside, bytes->data, bytes->len) &&
         files_put(spec_path, head.data, head.len);
    if (ok) printf("%s: %u decision%s, with %s beside it; `holdfast test %s` runs it\n", spec_path, w.count,
                   w.count == 1 ? "" : "s", beside, spec_path);
    buffer_deinit(&head);
    buffer_deinit(&w.out);
    return ok;
}
