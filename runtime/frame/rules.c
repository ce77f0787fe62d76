/* Frame rules: compiling the paths, matching, releasing. Plain data; decides nothing by itself. */
#include "frame/rules.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "frame/json.h"
#include "frame/protobuf.h"

static bool wanted(const struct field_want *w, const struct field_value *v);
static bool field_fits(const struct field_match *f, const struct field_value *v);
static void matchers_deinit(struct frame_matchers *list);

static uint8_t plain_len(const char *name)
{
    uint8_t len = 0;
    for (; name[len]; len++) {
        if (name[len] < ' ' || name[len] > '~' || name[len] == '"' || name[len] == '\\') return 0;
    }
    return len;
}

bool frame_rules_prepare(struct frame_rules *r)
{
    ASSERT(r->paths == NULL);
    struct json_paths *paths = malloc(sizeof *paths);
    if (!paths) return false;
    if (!json_paths_init(paths, r)) {
        free(paths);
        return false;
    }
    r->paths = paths;
    for (uint32_t i = 0; i < r->field_count; i++) r->fields[i].plain_len = plain_len(r->fields[i].name);
    return true;
}

void frame_rules_deinit(struct frame_rules *r)
{
    matchers_deinit(&r->deliver);
    matchers_deinit(&r->follows.anew);
    matchers_deinit(&r->inspect);
    matchers_deinit(&r->beat_asked);
    matchers_deinit(&r->beat_answer);
    matchers_deinit(&r->accept);
    matchers_deinit(&r->start);
    for (uint32_t i = 0; i < r->ends_count; i++) matchers_deinit(&r->ends[i].match);
    free(r->ends);
    for (uint32_t i = 0; i < r->ack_count; i++) {
        matchers_deinit(&r->acks[i].match);
        for (uint32_t k = 0; k < r->acks[i].change_count; k++) free((void *)r->acks[i].changes[k].bytes);
        free(r->acks[i].changes);
        free(r->acks[i].reply);
        free(r->acks[i].frame);
    }
    free(r->acks);
    free(r->paths);
    free(r->layout);
    memset(r, 0, sizeof *r);
}

bool frame_match(const struct frame_matcher *m, const struct field_value *values)
{
    for (uint32_t i = 0; i < m->field_count; i++) {
        const struct field_match *f = &m->fields[i];
        ASSERT(f->field < FIELDS_MAX);
        if (!field_fits(f, &values[f->field])) return false;
    }
    return true;
}

bool frame_match_any(const struct frame_matchers *list, const struct field_value *values)
{
    for (uint32_t i = 0; i < list->count; i++) {
        if (frame_match(&list->items[i], values)) return true;
    }
    return false;
}

int frame_rules_ends(const struct frame_rules *r, const struct field_value *values)
{
    for (uint32_t i = 0; i < r->ends_count; i++) {
        if (frame_match_any(&r->ends[i].match, values)) return (int)i;
    }
    return -1;
}

const struct ack_rule *frame_rules_ack(const struct frame_rules *r, const struct field_value *values)
{
    for (uint32_t i = 0; i < r->ack_count; i++) {
        const struct ack_rule *rule = &r->acks[i];
        if (rule->match.count > 0 && !frame_match_any(&rule->match, values)) continue;
        return rule->when == ACK_NONE ? NULL : rule;
    }
    return NULL;
}

bool frame_rules_ack_through(const struct frame_rules *r)
{
    for (uint32_t i = 0; i < r->ack_count; i++) {
        if (r->acks[i].when == ACK_THROUGH) return true;
    }
    return false;
}

int frame_rules_field(const struct frame_rules *r, const char *name)
{
    for (uint32_t i = 0; i < r->field_count; i++) {
        if (strcmp(r->fields[i].name, name) == 0) return (int)i;
    }
    return -1;
}

static bool field_fits(const struct field_match *f, const struct field_value *v)
{
    for (uint32_t i = 0; i < f->want_count; i++) {
        if (wanted(&f->wants[i], v)) return true;
    }
    return false;
}

static bool wanted(const struct field_want *w, const struct field_value *v)
{
    switch (w->kind) {
    case WANT_RANGE:
        return v->kind == FIELD_INTEGER && v->integer >= w->low && v->integer <= w->high;
    case WANT_STRING:
        return v->kind == FIELD_STRING && json_string_equal(v, w->text, w->len);
    case WANT_BOOL:
        return v->kind == FIELD_BOOL && v->boolean == w->boolean;
    case WANT_NULL:
        return v->kind == FIELD_NULL;
    case WANT_PRESENT:
        return v->kind != FIELD_ABSENT && v->kind != FIELD_NULL;
    }
    ASSERT(!"a want has one of these kinds");
    return false;
}

static void matchers_deinit(struct frame_matchers *list)
{
    for (uint32_t i = 0; i < list->count; i++) {
        struct frame_matcher *m = &list->items[i];
        for (uint32_t j = 0; j < m->field_count; j++) {
            for (uint32_t k = 0; k < m->fields[j].want_count; k++) free(m->fields[j].wants[k].text);
            free(m->fields[j].wants);
        }
        free(m->fields);
    }
    free(list->items);
    memset(list, 0, sizeof *list);
}
