/* Shared between the files of the JSON scanner only. */
#ifndef HOLDFAST_FRAME_JSON_INTERNAL_H
#define HOLDFAST_FRAME_JSON_INTERNAL_H

#include "base/assert.h"
#include "frame/json.h"

/* The child of `node` whose key is the string's value, or 0. `key`: between the quotes. */
uint32_t json__child(const struct json_paths *p, uint32_t node, const uint8_t *key, size_t len,
                     bool escaped);
/* Classifies a number whose syntax was checked: INTEGER with *integer_out, or NUMBER. */
enum field_kind json__number(const uint8_t *text, size_t len, int64_t *integer_out);
/* Decodes the escape at *at (a backslash of a checked string) to UTF-8, moves *at past it and returns
 * the bytes written, 1 to 4. Takes a surrogate pair as one; a lone surrogate becomes U+FFFD. */
size_t json__unescape(const uint8_t **at, const uint8_t *end, uint8_t out[4]);

/* --- tokens: json_token.c ----------------------------------------------------------------------- */

struct json_string {
    const uint8_t *at; /* the closing quote, or the fault: `end` or a byte that is no quote */
    bool escaped;
};
/* `p`: after the opening quote. */
struct json_string json__string_end(const uint8_t *p, const uint8_t *end);
/* NULL when no number stands here. What follows one is judged by the caller. */
const uint8_t *json__number_end(const uint8_t *p, const uint8_t *end);

/* --- wanted fields, found on the way: json_watch.c ---------------------------------------------- */

/* A field that is a whole object or array can be open at these depths only. */
#define JSON_CAPTURE_DEPTH_MAX (FIELD_DEPTH_MAX + 1)

struct json_watch {
    uint32_t depth;   /* open objects and arrays */
    uint32_t watched; /* how many of them, from the root, lie on a path */
    uint32_t hit;     /* node of the key just read; 0: the value is not on a path */
    const struct json_paths *paths; /* NULL: nothing is wanted */
    struct field_value *values;
    uint8_t nodes[JSON_CAPTURE_DEPTH_MAX + 1]; /* by depth, up to `watched` */
    struct {
        const uint8_t *start;
        uint32_t fields;
    } capture[JSON_CAPTURE_DEPTH_MAX + 1];     /* by depth */
};

/* All fields absent. */
void json__watch_start(struct json_watch *w, const struct json_paths *paths, struct field_value *values);
/* A key of a watched object. */
void json__watch_found(struct json_watch *w, const uint8_t *key, size_t len, bool escaped);
/* The value, which is on a path. `text` of a string: between the quotes. */
void json__lift_string(struct json_watch *w, const uint8_t *text, size_t len, bool escaped);
void json__lift_word(struct json_watch *w, const uint8_t *text, size_t len);
void json__lift_number(struct json_watch *w, const uint8_t *text, size_t len);
void json__lift_integer(struct json_watch *w, const uint8_t *text, size_t len, int64_t integer);
void json__lift_container(struct json_watch *w, const uint8_t *after);

/* `p`: the opening bracket. */
static inline void json__watch_open(struct json_watch *w, const uint8_t *p, bool object)
{
    w->depth++;
    if (w->depth <= JSON_CAPTURE_DEPTH_MAX) {
        bool wanted = w->hit || (w->depth == 1 && w->paths);
        w->capture[w->depth].start = p;
        w->capture[w->depth].fields = w->hit ? w->paths->nodes[w->hit].fields : 0;
        if (object && wanted && w->paths->nodes[w->hit].child) {
            ASSERT(w->watched == w->depth - 1);
            w->watched = w->depth;
            w->nodes[w->depth] = (uint8_t)w->hit;
        }
    }
    w->hit = 0;
}

/* `after`: past the closing bracket. */
static inline void json__watch_close(struct json_watch *w, const uint8_t *after)
{
    if (w->depth <= JSON_CAPTURE_DEPTH_MAX) {
        if (w->capture[w->depth].fields) json__lift_container(w, after);
        if (w->watched == w->depth) w->watched--;
    }
    w->depth--;
}

/* --- the quick ways: json_quick.c, over json_index.c or by json_vector.c - */

/* Ways to the same answer. Which one is taken depends on the processor; tests take each. */
enum json_way { JSON_WAY_CAREFUL, JSON_WAY_AVX2, JSON_WAY_AVX512, JSON_WAYS };

bool json__way_is_here(enum json_way way);
/* `utf8`: it is known to be. */
enum json_result json__scan_by(enum json_way way, uint8_t *data, size_t len, bool utf8, const struct json_paths *paths,
                               struct field_value *values, size_t *fault_out);

#ifdef __x86_64__
#define JSON_INDEX
#define JSON_INDEX_BYTES 1024u /* of the text at once; whole blocks of 64 */
#define JSON_INDEX_AHEAD 4u    /* tokens that may be read without a question */

/* What one block of bytes must know of those before it, and what all of them were. */
struct json_bits {
    const uint8_t *text; /* borrowed */
    uint32_t len;
    /* Is the first byte escaped, in a string (all bits), within a number or a word? */
    uint64_t escaped, string, bare;
    /* Not 0: a string holds what it must not (bytes of UTF-8 apart); white space other than blanks. */
    uint64_t bad, controls;
    uint32_t wide_at, wide_end; /* all that is not ASCII lies in between, whole blocks; wide_end 0: nothing is */
};

struct json_index {
    struct json_bits bits;
    uint32_t at;    /* indexed up to here */
    uint32_t count; /* tokens at hand */
    uint32_t tokens[JSON_INDEX_BYTES + 2 * JSON_INDEX_AHEAD + 64]; /* offsets */
};

void json__index_start(struct json_index *x, const uint8_t *text, uint32_t len);
/* Lets go of the tokens before `next` and indexes more of the text, if there is more. The last token then stands
 * there JSON_INDEX_AHEAD times more, so that reading on is safe, but is past `count`. */
void json__index_more(struct json_index *x, uint32_t next);
/* A number or a word, and what follows is none of it; lifts it where `w` is not NULL. */
bool json__bare(struct json_watch *w, const uint8_t *p, const uint8_t *end);
/* A text by AVX-512. Fills *bits, all but text and len of which are 0. False: not valid, or not to be judged here:
 * longer than JSON_VECTOR_BYTES_MAX, deep, or a root that is neither object nor array; fields may have been lifted. */
#define JSON_VECTOR_BYTES_MAX 16384u
bool json__vector(struct json_bits *bits, struct json_watch *w);
/* False: not valid, or not to be judged here. *controls_out: white space other than blanks was seen. */
bool json__quick(enum json_way way, const uint8_t *data, size_t len, bool utf8, const struct json_paths *paths,
                 struct field_value *values, bool *controls_out);
#endif

#endif
