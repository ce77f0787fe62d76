/* Shapes: what tables compile to, shared by the builds whose overlays are the same, so that ten thousand
 * connections of one policy cost one compilation and its memory once. A shape is read only from the moment
 * it is listed, and goes with the last build that has it. */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "policy/schema.h"
#include "policy/schema_internal.h"

#define LOOKED_AT_MAX 64 /* where each connection is tuned in its own way, nothing is shared anyway */

static bool same(const struct value *a, const struct value *b);

struct policy_shape *shape__create(void)
{
    struct policy_shape *shape = calloc(1, sizeof *shape);
    ASSERT(shape != NULL);
    shape->references = 1;
    return shape;
}

struct policy_shape *shape__find(const struct schema *s)
{
    if (!s->shared) return NULL;
    uint32_t looked_at = 0;
    for (struct policy_shape *shape = *s->shared; shape && looked_at < LOOKED_AT_MAX; shape = shape->next) {
        looked_at++;
        if (strcmp(shape->file, s->settings_file) != 0) continue;
        if (!same(&shape->direct, &s->direct.values) || !same(&shape->tune, &s->tune.values)) continue;
        shape->references++;
        return shape;
    }
    return NULL;
}

void shape__share(struct schema *s)
{
    struct policy_shape *shape = s->shape;
    if (!s->shared) return;
    ASSERT(shape->list == NULL);
    shape->direct = value_copy(&s->direct.values);
    shape->tune = value_copy(&s->tune.values);
    shape->file = strdup(s->settings_file);
    ASSERT(shape->file != NULL);
    shape->list = s->shared;
    shape->next = *s->shared;
    *s->shared = shape;
}

void shape__unref(struct policy_shape *shape)
{
    if (!shape) return;
    ASSERT(shape->references > 0);
    if (--shape->references) return;
    for (struct policy_shape **at = shape->list; at && *at; at = &(*at)->next) {
        if (*at != shape) continue;
        *at = shape->next;
        break;
    }
    plan_deinit(&shape->plan);
    frame_rules_deinit(&shape->rules);
    for (uint32_t i = 0; i < shape->host_count; i++) free(shape->hosts[i]);
    free(shape->hosts);
    value_clear(&shape->session_of);
    value_clear(&shape->lane);
    value_clear(&shape->direct);
    value_clear(&shape->tune);
    free(shape->file);
    free(shape);
}

/* Their lines as well: a rule names the line that it was written at. */
static bool same(const struct value *a, const struct value *b)
{
    if (a->kind != b->kind || a->line != b->line) return false;
    if (a->kind != VALUE_TABLE) return value_equal(a, b);
    if (a->table->count != b->table->count) return false;
    for (uint32_t i = 0; i < a->table->count; i++) {
        if (!same(&a->table->pairs[i].key, &b->table->pairs[i].key)) return false;
        if (!same(&a->table->pairs[i].value, &b->table->pairs[i].value)) return false;
    }
    return true;
}
