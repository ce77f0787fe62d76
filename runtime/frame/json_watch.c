/* What a JSON scan was asked for: fields by path, lifted as their values go by. The last of several equal
 * keys wins, and takes away what was found below the others. */
#include "frame/json_internal.h"

static void lift(struct json_watch *w, struct field_value v)
{
    uint32_t fields = w->paths->nodes[w->hit].fields;
    for (; fields; fields &= fields - 1) w->values[__builtin_ctz(fields)] = v;
}

void json__watch_start(struct json_watch *w, const struct json_paths *paths, struct field_value *values)
{
    w->depth = w->watched = w->hit = 0;
    w->paths = paths;
    w->values = values;
    for (uint32_t i = 0; paths && i < paths->count; i++) values[i].kind = FIELD_ABSENT;
}

void json__watch_found(struct json_watch *w, const uint8_t *key, size_t len, bool escaped)
{
    w->hit = json__child(w->paths, w->nodes[w->depth], key, len, escaped);
    if (!w->hit) return;
    uint32_t below = w->paths->nodes[w->hit].below;
    for (; below; below &= below - 1) w->values[__builtin_ctz(below)].kind = FIELD_ABSENT;
}

void json__lift_string(struct json_watch *w, const uint8_t *text, size_t len, bool escaped)
{
    lift(w, (struct field_value){ .kind = FIELD_STRING, .escaped = escaped, .text = text, .len = len });
}

void json__lift_word(struct json_watch *w, const uint8_t *text, size_t len)
{
    lift(w, (struct field_value){ .kind = *text == 'n' ? FIELD_NULL : FIELD_BOOL, .boolean = *text == 't',
                                  .text = text, .len = len });
}

void json__lift_number(struct json_watch *w, const uint8_t *text, size_t len)
{
    struct field_value v = { .text = text, .len = len };
    v.kind = json__number(text, len, &v.integer);
    lift(w, v);
}

void json__lift_integer(struct json_watch *w, const uint8_t *text, size_t len, int64_t integer)
{
    lift(w, (struct field_value){ .kind = FIELD_INTEGER, .text = text, .len = len, .integer = integer });
}

void json__lift_container(struct json_watch *w, const uint8_t *after)
{
    const uint8_t *start = w->capture[w->depth].start;
    uint32_t fields = w->capture[w->depth].fields;
    for (; fields; fields &= fields - 1) {
        w->values[__builtin_ctz(fields)] =
            (struct field_value){ .kind = FIELD_OTHER, .text = start, .len = (size_t)(after - start) };
    }
}
