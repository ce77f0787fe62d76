/* The `frames` table: what C lifts out of each message and the rules over it, into frame_rules. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/text.h"
#include "frame/codec.h"
#include "frame/json.h"
#include "frame/path.h"
#include "policy/schema_internal.h"

#define SECOND 1000.0
#define HOUR   (3600 * SECOND)
#define ACK_ROWS_MAX 16
#define RULES(member)                                                                             \
    offsetof(struct policy_shape, rules.member), sizeof(((struct policy_shape *)0)->rules.member)

static void codec(struct schema *s, const struct value *v, void *base);
static void nothing(struct schema *s, const struct value *v, void *base);
static void deliver(struct schema *s, const struct value *v, void *base);
static void inspect(struct schema *s, const struct value *v, void *base);
static void accept(struct schema *s, const struct value *v, void *base);
static void ends(struct schema *s, const struct value *v, void *base);
static void remember(struct schema *s, const struct value *v, void *base);
static void dedupe_by(struct schema *s, const struct value *v, void *base);
static void follows_by(struct schema *s, const struct value *v, void *base);
static void follows_anew(struct schema *s, const struct value *v, void *base);
static void ack(struct schema *s, const struct value *v, void *base);
static void ack_on(struct schema *s, const struct value *v, void *base);
static void ack_frame(struct schema *s, const struct value *v, void *base);

static const char *const codec_words[] = { "json", "bytes", "protobuf", "wkproto", NULL };
static const char *const ack_words[] = { "none", "early", "through", NULL };

_Static_assert(CODEC_WKPROTO == 3 && ACK_THROUGH == 2, "the words stand in their order");

static const struct key dedupe[] = {
    { "by", KEY_CUSTOM, KEY_REQUIRED, .custom = dedupe_by,
      .about = "names of `take` that make a frame the same one" },
    { "over", KEY_DURATION, KEY_REQUIRED, SECOND, 24 * 7 * HOUR, NULL, NULL, NULL,
      RULES(dedupe.over_ms), NULL, "how long a key is remembered" },
    { "most", KEY_INTEGER, 0, 1, 1000000, NULL, NULL, NULL, RULES(dedupe.most), "10000",
      "how many keys are remembered" },
    { .name = NULL },
};

static const struct key follows[] = {
    { "by", KEY_CUSTOM, KEY_REQUIRED, .custom = follows_by,
      .about = "the name of `take` that is one more in each frame; `remember` keeps it. What came already is dropped" },
    { "anew", KEY_CUSTOM, .custom = follows_anew, .standard = "none",
      .about = "a matcher, or a list: frames with which the numbers begin again" },
    { "cause", KEY_NAME, 0, 0, 0, NULL, NULL, NULL, RULES(follows.cause), "sequence",
      "the name of the ending when some are missing" },
    { .name = NULL },
};

#define ACK(member) offsetof(struct ack_rule, member), sizeof(((struct ack_rule *)0)->member)

static const struct key ack_row[] = {
    { "on", KEY_CUSTOM, .custom = ack_on, .standard = "every frame",
      .about = "a matcher, or a list: which of the delivered frames; the first row that matches holds" },
    { "when", KEY_WORD, KEY_REQUIRED, 0, 0, ack_words, NULL, NULL, ACK(when), NULL,
      "early: once the frame is on disk; through: by the consumer that owns the connection, early "
      "where it names no owner; none" },
    { "frame", KEY_CUSTOM, .custom = ack_frame,
      .about = "JSON text; \"@name\" becomes the value of that name of `take`" },
    { "echo", KEY_CUSTOM, .custom = schema__ack_echo,
      .about = "instead of `frame`: the message as it came, but for these fields of `layout`; what a map "
               "gets is appended" },
    { "reply", KEY_CUSTOM, .custom = schema__ack_reply,
      .about = "beside `echo` and `through`: the field with what the consumer answers, \"@reply\" or "
               "\"@reply_base64\" in its JSON" },
    { "within", KEY_DURATION, 0, 100, HOUR, NULL, NULL, NULL, ACK(within_ms), "none",
      "the platform's deadline" },
    { "at_risk", KEY_BOOL, 0, 0, 0, NULL, NULL, NULL, ACK(at_risk), "false",
      "acknowledge although the store cannot keep the frame" },
    { "anywhere", KEY_BOOL, 0, 0, 0, NULL, NULL, NULL, ACK(anywhere), "false",
      "when the frame's own link is gone, on the link that took its place" },
    { .name = NULL },
};

static const struct key ends_row[] = {
    { "cause", KEY_NAME, KEY_REQUIRED, 0, 0, NULL, NULL, NULL, offsetof(struct ends_rule, cause),
      RULE_NAME_MAX, NULL, "the name of the ending" },
    { "after", KEY_DURATION, 0, 0, 60 * SECOND, NULL, NULL, NULL,
      offsetof(struct ends_rule, after_ms), sizeof(uint64_t), "0s",
      "wait so long for the peer's own close code" },
    { .name = NULL },
};

const struct key schema__frames[] = {
    { "codec", KEY_CUSTOM, .custom = codec, .standard = "json", .about = "json, bytes, protobuf or wkproto" },
    { "layout", KEY_CUSTOM, .custom = schema__layout,
      .about = "the fields of a protobuf message: name = { number, kind }" },
    { "take", KEY_CUSTOM, .custom = nothing,
      .about = "fields that are lifted out of each message: name = \"path\"" },
    { "deliver", KEY_CUSTOM, .custom = deliver, .standard = "true", .about = "what consumers get" },
    { "inspect", KEY_CUSTOM, .custom = inspect, .about = "what on_frame sees" },
    { "ends", KEY_CUSTOM, .custom = ends, .keys = ends_row, .about = "frames that are endings" },
    { "remember", KEY_CUSTOM, .custom = remember,
      .about = "kept in conn.session: key = name of `take`" },
    { "follows", KEY_TABLE, .keys = follows, .about = "frames that the platform numbers without a hole" },
    { "dedupe", KEY_TABLE, .keys = dedupe, .about = "frames that are delivered once" },
    { "ack", KEY_CUSTOM, KEY_ROW, .custom = ack, .keys = ack_row,
      .about = "acknowledgements that the platform wants: one row or a list" },
    { "join", KEY_TABLE, .keys = schema__join_keys, .about = "messages that come in parts" },
    { "accept", KEY_CUSTOM, .custom = accept, .standard = "nothing",
      .about = "what consumers may send" },
    { .name = NULL },
};

/* `take` comes first: everything else in the policy refers to its names. */
void schema__take(struct schema *s)
{
    char text[96];
    struct frame_rules *r = &s->shape->rules;
    r->deliver_all = true;
    r->dedupe.most = 10000;
    r->join.within_ms = 10 * (uint64_t)SECOND;
    r->join.parts = 256;
    r->join.bytes = (uint64_t)16 << 20;
    const struct value *frames = value_get(&s->tables, "frames");
    const struct value *take = value_get(frames, "take");
    if (!take) return;
    schema__enter(s, "frames", 0, frames);
    schema__enter(s, "take", 0, take);
    if (take->kind != VALUE_TABLE) {
        schema__error(s, "expected a table of paths, got %s", schema__describe(s, take, text));
    }
    for (uint32_t i = 0; take->kind == VALUE_TABLE && i < take->table->count; i++) {
        const char *name = value_text(&take->table->pairs[i].key);
        const struct value *v = &take->table->pairs[i].value;
        const char *path = value_text(v);
        schema__enter(s, name, i + 1, v);
        if (!name || !schema__is_name(name, RULE_NAME_MAX - 1) || strpbrk(name, "-.")) {
            schema__error(s, "expected a name of letters, digits and _, at most %d bytes",
                          RULE_NAME_MAX - 1);
        } else if (strcmp(name, "cause") == 0 || strcmp(name, "after") == 0) {
            schema__error(s, "the name is taken: it is a key of the rows of frames.ends");
        } else if (!path || strlen(path) != v->string.len || !json_path_is_valid(path)) {
            schema__error(s,
                          "expected a path such as \"d.id\" (at most %d parts, %d bytes), got %s",
                          FIELD_DEPTH_MAX, FIELD_PATH_MAX - 1, schema__describe(s, v, text));
        } else if (r->field_count == FIELDS_MAX) {
            schema__error(s, "at most %d fields can be taken", FIELDS_MAX);
        } else {
            text_copy(r->fields[r->field_count].name, RULE_NAME_MAX, name, strlen(name));
            text_copy(r->fields[r->field_count].path, FIELD_PATH_MAX, path, strlen(path));
            r->field_count++;
        }
        schema__leave(s);
    }
    schema__leave(s);
    schema__leave(s);
}

static void nothing(struct schema *s, const struct value *v, void *base)
{
    (void)s, (void)v, (void)base;
}

static void codec(struct schema *s, const struct value *v, void *base)
{
    (void)base;
    int kind = schema__word(s, v, codec_words);
    if (kind >= 0 && !codec_is_known((enum codec_kind)kind)) {
        schema__error(s, "\"%s\" is not supported yet", codec_words[kind]);
    } else if (kind >= 0) {
        s->shape->rules.codec = (enum codec_kind)kind;
    }
    const struct value *frames = value_get(&s->tables, "frames");
    if (kind == CODEC_PROTOBUF && !value_get(frames, "layout")) {
        schema__error(s, "\"protobuf\" needs frames.layout: which fields a message has");
    }
    if (kind == CODEC_BYTES && s->shape->rules.field_count > 0) {
        schema__error(s, "nothing can be taken out of bytes; remove frames.take");
    }
}

static void deliver(struct schema *s, const struct value *v, void *base)
{
    (void)base;
    s->shape->rules.deliver_all = v->kind == VALUE_BOOL && v->boolean;
    if (v->kind != VALUE_BOOL) schema__frame_matchers(s, v, NULL, &s->shape->rules.deliver);
}

static void inspect(struct schema *s, const struct value *v, void *base)
{
    (void)base;
    schema__frame_matchers(s, v, NULL, &s->shape->rules.inspect);
}

static void accept(struct schema *s, const struct value *v, void *base)
{
    (void)base;
    s->shape->rules.accept_all = v->kind == VALUE_BOOL && v->boolean;
    if (v->kind != VALUE_BOOL) schema__frame_matchers(s, v, NULL, &s->shape->rules.accept);
}

static void end_read(struct schema *s, const struct value *row)
{
    char text[96];
    struct frame_rules *r = &s->shape->rules;
    if (row->kind != VALUE_TABLE) {
        schema__error(s, "expected a row, such as { op = 7, cause = \"reconnect\" }, got %s",
                      schema__describe(s, row, text));
        return;
    }
    struct ends_rule *rule = &r->ends[r->ends_count++];
    rule->line = s->line;
    schema__frame_matchers(s, row, ends_row, &rule->match);
    /* The row's own keys; the others belong to the matcher. */
    struct value own = value_table();
    for (const struct key *k = ends_row; k->name; k++) {
        const struct value *v = value_get(row, k->name);
        if (v) value_set(&own, k->name, value_copy(v));
    }
    own.line = row->line;
    schema__keys(s, ends_row, &own, rule);
    value_clear(&own);
}

static void ends(struct schema *s, const struct value *v, void *base)
{
    (void)base;
    struct frame_rules *r = &s->shape->rules;
    uint32_t count = value_length(v);
    if (count == 0 && v->kind == VALUE_TABLE && v->table->count > 0) { /* one row */
        r->ends = schema__alloc(1, sizeof *r->ends);
        end_read(s, v);
        return;
    }
    if (!schema__is_list(s, v, "rows", SCHEMA_ROWS_MAX)) return;
    r->ends = schema__alloc(count, sizeof *r->ends);
    for (uint32_t i = 1; i <= count; i++) {
        schema__enter(s, NULL, i, value_at(v, i));
        end_read(s, value_at(v, i));
        schema__leave(s);
    }
}

int schema__field_of(struct schema *s, const struct value *v)
{
    char text[96];
    const struct frame_rules *r = &s->shape->rules;
    const char *name = value_text(v);
    int field = name ? frame_rules_field(r, name) : -1;
    if (field >= 0) return field;
    const char *names[FIELDS_MAX];
    for (uint32_t i = 0; i < r->field_count; i++) names[i] = r->fields[i].name;
    const char *near = name ? text_nearest(name, names, r->field_count) : NULL;
    if (near) {
        schema__error(s, "no such name in frames.take; did you mean \"%s\"?", near);
    } else {
        schema__error(s, "expected a name of frames.take, got %s", schema__describe(s, v, text));
    }
    return -1;
}

static void remember(struct schema *s, const struct value *v, void *base)
{
    (void)base;
    char text[96];
    struct frame_rules *r = &s->shape->rules;
    if (v->kind != VALUE_TABLE) {
        schema__error(s, "expected a table, got %s", schema__describe(s, v, text));
        return;
    }
    for (uint32_t i = 0; i < v->table->count; i++) {
        const char *key = value_text(&v->table->pairs[i].key);
        const struct value *name = &v->table->pairs[i].value;
        schema__enter(s, key, i + 1, name);
        int field = -1;
        if (!key || !schema__is_name(key, RULE_NAME_MAX - 1)) {
            schema__error(s, "expected key = \"name of frames.take\"");
        } else if (r->remember_count == FIELDS_MAX) {
            schema__error(s, "at most %d values can be remembered", FIELDS_MAX);
        } else {
            field = schema__field_of(s, name);
        }
        if (field >= 0) {
            struct remember_rule *rule = &r->remember[r->remember_count++];
            rule->field = (uint8_t)field;
            text_copy(rule->key, sizeof rule->key, key, strlen(key));
        }
        schema__leave(s);
    }
}

static void dedupe_by(struct schema *s, const struct value *v, void *base)
{
    (void)base;
    struct frame_rules *r = &s->shape->rules;
    bool one = v->kind == VALUE_STRING;
    if (!one && !schema__is_list(s, v, "names", FIELDS_MAX)) return;
    uint32_t count = one ? 1 : value_length(v);
    if (count == 0) schema__error(s, "names no field");
    for (uint32_t i = 1; i <= count; i++) {
        const struct value *name = one ? v : value_at(v, i);
        if (!one) schema__enter(s, NULL, i, name);
        int field = schema__field_of(s, name);
        for (uint32_t k = 0; field >= 0 && k < r->dedupe.by_count; k++) {
            if (r->dedupe.by[k] != (uint8_t)field) continue;
            schema__error(s, "is named twice");
            field = -1;
        }
        if (field >= 0) r->dedupe.by[r->dedupe.by_count++] = (uint8_t)field;
        if (!one) schema__leave(s);
    }
    r->dedupe.on = r->dedupe.by_count > 0;
}

static void follows_by(struct schema *s, const struct value *v, void *base)
{
    (void)base;
    struct frame_rules *r = &s->shape->rules;
    int field = schema__field_of(s, v);
    if (field < 0) return;
    r->follows.on = true;
    r->follows.field = (uint8_t)field;
    r->follows.line = s->line;
    if (!r->follows.cause[0]) text_copy(r->follows.cause, sizeof r->follows.cause, "sequence", strlen("sequence"));
}

static void follows_anew(struct schema *s, const struct value *v, void *base)
{
    (void)base;
    schema__frame_matchers(s, v, NULL, &s->shape->rules.follows.anew);
}

static void ack_read(struct schema *s, const struct value *row)
{
    struct ack_rule *rule = &s->shape->rules.acks[s->shape->rules.ack_count++];
    rule->line = s->line;
    schema__keys(s, ack_row, row, rule);
}

static void ack(struct schema *s, const struct value *v, void *base)
{
    (void)base;
    struct frame_rules *r = &s->shape->rules;
    uint32_t count = value_length(v);
    if (count == 0) { /* one row */
        r->acks = schema__alloc(1, sizeof *r->acks);
        ack_read(s, v);
        return;
    }
    if (!schema__is_list(s, v, "rows", ACK_ROWS_MAX)) return;
    r->acks = schema__alloc(count, sizeof *r->acks);
    bool closed = false;
    for (uint32_t i = 1; i <= count; i++) {
        schema__enter(s, NULL, i, value_at(v, i));
        if (closed) schema__warn(s, "is never reached: a row above has no `on`, so it is for every frame");
        ack_read(s, value_at(v, i));
        closed = closed || r->acks[i - 1].match.count == 0;
        schema__leave(s);
    }
}

static void ack_on(struct schema *s, const struct value *v, void *base)
{
    schema__frame_matchers(s, v, NULL, &((struct ack_rule *)base)->match);
}

static void ack_frame(struct schema *s, const struct value *v, void *base)
{
    struct ack_rule *rule = base;
    char text[96], bad[RULE_NAME_MAX];
    const char *frame = value_text(v);
    if (!frame || strlen(frame) != v->string.len || v->string.len > 4096) {
        schema__error(s, "expected JSON text of at most 4096 bytes, got %s",
                      schema__describe(s, v, text));
        return;
    }
    if (!path_ack_check(&s->shape->rules, frame, bad)) {
        if (bad[0]) {
            schema__error(s, "\"@%s\" is no name of frames.take", bad);
        } else {
            schema__error(s, "is no valid JSON");
        }
        return;
    }
    free(rule->frame);
    rule->frame = strdup(frame);
    ASSERT(rule->frame != NULL);
}
