/* The quick way through a JSON text: grammar over the index of its tokens, so that the bytes of strings
 * and blanks are never looked at one by one. Says yes only to what json.c's careful scanner takes, with
 * the same fields; what it does not take is judged by that one, which also tells where and why. */
#include "frame/json_internal.h"

#ifdef JSON_INDEX
#include <string.h>

#include "frame/ws.h"

struct walk_state {
    struct json_index x;
    struct json_watch watch;
    bool objects[JSON_DEPTH_MAX]; /* of each open container: object, not array */
};

#define HOT static inline __attribute__((always_inline))

/* After a number or a word, which end where a token or a blank is. */
HOT bool is_over(const uint8_t *p, const uint8_t *end)
{
    if (p == end) return true;
    switch (*p) {
    case ' ': case '\t': case '\n': case '\r': case ',': case ']': case '}': case ':': return true;
    default: return false;
    }
}

HOT bool is_word(const uint8_t *p, const uint8_t *end, const char *word, size_t len)
{
    return (size_t)(end - p) >= len && memcmp(p, word, len) == 0 && is_over(p + len, end);
}

/* The string that begins behind the token `before` and ends at `quote`: false when none does. */
static bool string_between(const uint8_t *before, const uint8_t *quote, const uint8_t **text_out, bool *escaped_out)
{
    const uint8_t *p = before + 1;
    while (p < quote && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r')) p++;
    if (p >= quote || *p != '"') return false; /* not before it: past the last token */
    *text_out = ++p;
    *escaped_out = memchr(p, '\\', (size_t)(quote - p)) != NULL;
    return true;
}

static bool find_key(const struct json_index *x, struct json_watch *w, const uint8_t *before, const uint8_t *quote)
{
    const uint8_t *text;
    bool escaped;
    /* What an escape means is asked of good ones only. */
    if (!string_between(before, quote, &text, &escaped) || x->bits.bad) return false;
    json__watch_found(w, text, (size_t)(quote - text), escaped);
    return true;
}

static bool lift_string(const struct json_index *x, struct json_watch *w, const uint8_t *before, const uint8_t *quote)
{
    const uint8_t *text;
    bool escaped;
    if (!string_between(before, quote, &text, &escaped) || x->bits.bad) return false;
    json__lift_string(w, text, (size_t)(quote - text), escaped);
    return true;
}

/* What is no container, as root or in one. */
HOT bool scalar(struct json_watch *w, const uint8_t *p, const uint8_t *end, bool hit)
{
    size_t len = 4;
    switch (*p) {
    case '"': return true; /* a string that is the root: the index knows the rest */
    case 't':
        if (!is_word(p, end, "true", 4)) return false;
        break;
    case 'n':
        if (!is_word(p, end, "null", 4)) return false;
        break;
    case 'f':
        if (!is_word(p, end, "false", 5)) return false;
        len = 5;
        break;
    default: {
        const uint8_t *stop = p;
        while (stop < end && (uint8_t)(*stop - '0') <= 9) stop++;
        /* All else than a few digits is for who knows numbers. */
        if (stop == p || *p == '0' || stop == end || (*stop != ',' && *stop != '}' && *stop != ']')) {
            stop = json__number_end(p, end);
            if (!stop || !is_over(stop, end)) return false;
        }
        if (hit) json__lift_number(w, p, (size_t)(stop - p));
        return true;
    }
    }
    if (hit) json__lift_word(w, p, len);
    return true;
}

/* The byte before a token and the token. */
#define PAIR(before, c) ((uint16_t)((before) | (c) << 8))
HOT uint16_t pair_at(const uint8_t *p)
{
    uint16_t pair;
    memcpy(&pair, p - 1, sizeof pair);
    return pair;
}

/* Tokens past the last one are that one again: where they fit the grammar, the count tells. */
static bool walk(struct walk_state *s)
{
    struct json_index *x = &s->x;
    struct json_watch *w = &s->watch;
    const uint8_t *text = x->bits.text, *end = text + x->bits.len;
    const uint8_t *p, *before, *quote; /* a token, the one before; of a string that is a token itself */
    uint32_t next = 0;
    bool object, watched = false;      /* the innermost container is one; its keys are */
    json__index_more(x, 0);
    if (x->count == 0) return false;

/* One is there, and those of a key and its value can be read. */
#define AHEAD()                                                      \
    if (next + JSON_INDEX_AHEAD > x->count) {                        \
        if (x->at < x->bits.len && next <= x->count) {               \
            json__index_more(x, next);                               \
            next = 0;                                                \
        }                                                            \
        if (next >= x->count) return false;                          \
    }
#define TOKEN() (text + x->tokens[next++])
#define IS_OVER() (next == x->count && x->at == x->bits.len)

    p = TOKEN();
    if (*p != '{' && *p != '[') return scalar(w, p, end, false) && IS_OVER();
    if (p > text && p[-1] == '"') return false;

open:
    if (w->depth == JSON_DEPTH_MAX) return false;
    object = *p == '{';
    s->objects[w->depth] = object;
    json__watch_open(w, p, object);
    watched = w->depth == w->watched;
    AHEAD();
    before = p;
    p = TOKEN();
    if (*p == (object ? '}' : ']') && p[-1] != '"') goto close;
    if (!object) goto element;

key:
    quote = p - 1;
    if (pair_at(p) != PAIR('"', ':')) {
        quote = p;
        if (*p != '"') return false;
        p = TOKEN();
        if (*p != ':' || (p[-1] == '"' && p - 1 != quote)) return false;
    }
    if (watched && !find_key(x, w, before, quote)) return false;
    before = p;
    p = TOKEN();
    if (p[-1] != '"') goto value;
    if (watched && w->hit && !lift_string(x, w, before, p - 1)) return false;
    goto after_member;

element:
    while (pair_at(p) == PAIR('"', ',')) {
        AHEAD();
        p = TOKEN();
    }
    if (p[-1] == '"') goto after;

value:
    if ((*p | 0x20) == '{') goto open; /* [ too */
    quote = NULL;
    if (*p == '"') {
        if (watched && w->hit && !lift_string(x, w, before, p)) return false;
        quote = p;
    } else if (!scalar(w, p, end, watched && w->hit)) {
        return false;
    }
    p = TOKEN();

over:
    /* Between a value and what follows stands no string. */
    if (p[-1] == '"' && p - 1 != quote) return false;

after:
    if (!object) {
        if (*p == ',') {
            AHEAD();
            p = TOKEN();
            goto element;
        }
        if (*p != ']') return false;
        goto close;
    }
after_member:
    if (*p == ',') {
        AHEAD();
        before = p;
        p = TOKEN();
        goto key;
    }
    if (*p != '}') return false;

close:
    json__watch_close(w, p + 1);
    if (w->depth == 0) return IS_OVER();
    object = s->objects[w->depth - 1];
    watched = w->depth == w->watched;
    AHEAD();
    p = TOKEN();
    quote = NULL;
    goto over;
}

bool json__bare(struct json_watch *w, const uint8_t *p, const uint8_t *end)
{
    return *p != '"' && scalar(w, p, end, w != NULL);
}

/* Grammar is good; is what no bit of grammar tells? */
static bool rest_is_good(const struct json_bits *b, bool utf8)
{
    if (b->bad || b->string) return false;
    const uint32_t from = b->wide_at, to = b->wide_end < b->len ? b->wide_end : b->len;
    if (utf8 || from >= to) return true;
    struct utf8_state state;
    utf8_start(&state);
    return utf8_feed(&state, b->text + from, to - from) && utf8_end(&state);
}

bool json__quick(enum json_way way, const uint8_t *data, size_t len, bool utf8, const struct json_paths *paths,
                 struct field_value *values, bool *controls_out)
{
    if (len >= UINT32_MAX - JSON_INDEX_BYTES) return false;
    if (way == JSON_WAY_AVX512) {
        struct json_bits bits = { .text = data, .len = (uint32_t)len };
        struct json_watch watch;
        json__watch_start(&watch, paths, values);
        if (json__vector(&bits, &watch)) {
            *controls_out = bits.controls != 0;
            return rest_is_good(&bits, utf8);
        }
    }
    struct walk_state s;
    json__index_start(&s.x, data, (uint32_t)len);
    json__watch_start(&s.watch, paths, values);
    /* Fields may have been lifted of a string with a bad byte: nobody sees them then. */
    if (!walk(&s)) return false;
    *controls_out = s.x.bits.controls != 0;
    return rest_is_good(&s.x.bits, utf8);
}

#endif
