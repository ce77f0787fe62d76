/* Lines: a scanner of Lua's tokens that walks one table constructor beside the table it made and
 * gives each value the line of its key. Evaluates nothing, allocates nothing; what it does not
 * understand it skips by matching brackets and block keywords. */
#include "policy/lines.h"

#include <string.h>

#define LINES_DEPTH_MAX 64

enum token { T_END, T_NAME, T_STRING, T_NUMBER, T_SIGN };

struct scan {
    const char *at, *end;
    uint32_t line;    /* at `at` */
    enum token kind;  /* the current token */
    const char *text; /* its bytes; of a string what stands between the quotes */
    size_t len;
    uint32_t token_line; /* where it begins */
};

static void scan_start(struct scan *s, const char *text, size_t len);
static void next(struct scan *s);
static void blanks_skip(struct scan *s);
static size_t long_bracket(const char *at, const char *end);
static void long_take(struct scan *s, size_t level);
static void quoted_take(struct scan *s);
static bool is_sign(const struct scan *s, const char *sign);
static bool is_name(const struct scan *s, const char *name);
static bool anchor_found(struct scan *s, const char *anchor, size_t anchor_len);
static void constructor(struct scan *s, struct value *v, uint32_t depth);
static void field(struct scan *s, struct value *v, uint32_t *position, uint32_t depth);
static void expression_skip(struct scan *s);

void lines_annotate(struct value *v, const char *text, size_t len, const char *anchor, uint32_t nth)
{
    struct scan s;
    scan_start(&s, text, len);
    while (s.kind != T_END) {
        struct scan from = s;
        if (anchor_found(&s, anchor, strlen(anchor))) {
            if (nth > 1) {
                nth--;
                continue;
            }
            /* What may stand between a function's name and its table: a bracket, a name in quotes.
             */
            while (is_sign(&s, "(") || is_sign(&s, ")") || is_sign(&s, ",") || s.kind == T_STRING) {
                next(&s);
            }
            if (is_sign(&s, "{")) constructor(&s, v, 0);
            return;
        }
        s = from;
        next(&s);
    }
}

void lines_annotate_at(struct value *v, const char *text, size_t len, uint32_t line)
{
    struct scan s;
    const char *at = text, *end = text + len;
    uint32_t skipped = 0;
    /* A file may hold thousands of tables: go to the line without looking at every token above. */
    while (skipped + 1 < line && (at = memchr(at, '\n', (size_t)(end - at)))) {
        at++;
        skipped++;
    }
    if (!at) return;
    scan_start(&s, at, (size_t)(end - at));
    s.line += skipped;
    s.token_line += skipped;
    while (s.kind != T_END && !is_sign(&s, "{")) next(&s);
    if (is_sign(&s, "{")) constructor(&s, v, 0);
}

/* --- tokens -------------------------------------------------------------------------------------
 */

static void scan_start(struct scan *s, const char *text, size_t len)
{
    *s = (struct scan){ .at = text, .end = text + len, .line = 1 };
    if (len > 0 && *text == '#') { /* the first line may be for a shell */
        while (s->at < s->end && *s->at != '\n') s->at++;
    }
    next(s);
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (unsigned char)c >= 0x80;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static void next(struct scan *s)
{
    blanks_skip(s);
    s->token_line = s->line;
    s->text = s->at;
    if (s->at == s->end) {
        s->kind = T_END;
        s->len = 0;
        return;
    }
    char c = *s->at;
    if (is_letter(c)) {
        s->kind = T_NAME;
        while (s->at < s->end && (is_letter(*s->at) || is_digit(*s->at))) s->at++;
    } else if (is_digit(c) || (c == '.' && s->end - s->at > 1 && is_digit(s->at[1]))) {
        s->kind = T_NUMBER;
        while (s->at < s->end && (is_letter(*s->at) || is_digit(*s->at) || *s->at == '.')) {
            bool exponent = (*s->at | 0x20) == 'e' && s->end - s->at > 1;
            s->at++;
            if (exponent && (*s->at == '-' || *s->at == '+')) s->at++;
        }
    } else if (c == '"' || c == '\'') {
        s->kind = T_STRING;
        quoted_take(s);
        return;
    } else if (c == '[' && long_bracket(s->at, s->end)) {
        s->kind = T_STRING;
        long_take(s, long_bracket(s->at, s->end));
        return;
    } else {
        s->kind = T_SIGN;
        s->at++;
        bool twice = s->at < s->end && *s->at == '=' && strchr("=~<>", c);
        if (twice) s->at++;
    }
    s->len = (size_t)(s->at - s->text);
}

static void blanks_skip(struct scan *s)
{
    for (;;) {
        while (s->at < s->end && (*s->at == ' ' || (*s->at >= '\t' && *s->at <= '\r'))) {
            if (*s->at++ == '\n') s->line++;
        }
        if (s->end - s->at < 2 || s->at[0] != '-' || s->at[1] != '-') return;
        s->at += 2;
        size_t level = long_bracket(s->at, s->end);
        if (level) {
            long_take(s, level);
        } else {
            while (s->at < s->end && *s->at != '\n') s->at++;
        }
    }
}

/* Length of an opening long bracket ("[[" is 2, "[==[" is 4), or 0. */
static size_t long_bracket(const char *at, const char *end)
{
    const char *p = at;
    if (p == end || *p++ != '[') return 0;
    while (p < end && *p == '=') p++;
    return p < end && *p == '[' ? (size_t)(p - at) + 1 : 0;
}

static void long_take(struct scan *s, size_t level)
{
    s->at += level;
    s->text = s->at;
    for (; s->at < s->end; s->at++) {
        if (*s->at == '\n') s->line++;
        if (*s->at != ']' || (size_t)(s->end - s->at) < level || s->at[level - 1] != ']') continue;
        size_t k = 1;
        while (k < level - 1 && s->at[k] == '=') k++;
        if (k < level - 1) continue;
        s->len = (size_t)(s->at - s->text);
        s->at += level;
        return;
    }
    s->len = (size_t)(s->at - s->text);
}

static void quoted_take(struct scan *s)
{
    char quote = *s->at++;
    s->text = s->at;
    while (s->at < s->end && *s->at != quote) {
        if (*s->at == '\\' && s->end - s->at > 1) s->at++;
        if (*s->at == '\n') s->line++;
        s->at++;
    }
    s->len = (size_t)(s->at - s->text);
    if (s->at < s->end) s->at++;
}

static bool is_sign(const struct scan *s, const char *sign)
{
    return s->kind == T_SIGN && s->len == strlen(sign) && memcmp(s->text, sign, s->len) == 0;
}

static bool is_name(const struct scan *s, const char *name)
{
    return s->kind == T_NAME && s->len == strlen(name) && memcmp(s->text, name, s->len) == 0;
}

/* Consumes the anchor's tokens when they come next. */
static bool anchor_found(struct scan *s, const char *anchor, size_t anchor_len)
{
    struct scan wanted;
    scan_start(&wanted, anchor, anchor_len);
    for (; wanted.kind != T_END; next(&wanted), next(s)) {
        if (s->kind != wanted.kind || s->len != wanted.len) return false;
        if (memcmp(s->text, wanted.text, s->len) != 0) return false;
    }
    return true;
}

/* --- constructors -------------------------------------------------------------------------------
 */

/* The current token is "{"; afterwards it is the one behind "}". `v` may be NULL or no table: then
 * the tokens are only walked. */
static void constructor(struct scan *s, struct value *v, uint32_t depth)
{
    uint32_t position = 0;
    if (v) v->line = s->token_line;
    next(s);
    while (s->kind != T_END && !is_sign(s, "}")) {
        const char *before = s->text;
        field(s, v, &position, depth);
        if (is_sign(s, ",") || is_sign(s, ";")) next(s);
        if (s->text == before && s->kind != T_END)
            next(s); /* nothing understood: never stand still */
    }
    next(s);
}

static void mark(struct value *v, uint32_t line)
{
    if (v && !(v->kind == VALUE_FUNCTION && v->line)) v->line = line;
}

static struct value *by_name(struct value *v, const char *text, size_t len)
{
    if (!v || v->kind != VALUE_TABLE) return NULL;
    for (uint32_t i = 0; i < v->table->count; i++) {
        struct value_pair *p = &v->table->pairs[i];
        if (p->key.kind == VALUE_STRING && p->key.string.len == len &&
            memcmp(p->key.string.bytes, text, len) == 0) {
            return &p->value;
        }
    }
    return NULL;
}

static struct value *by_number(struct value *v, const struct scan *s)
{
    uint32_t n = 0;
    for (size_t i = 0; i < s->len; i++) {
        if (!is_digit(s->text[i]) || n > 100000000) return NULL;
        n = n * 10 + (uint32_t)(s->text[i] - '0');
    }
    return value_at(v, n);
}

static void field(struct scan *s, struct value *v, uint32_t *position, uint32_t depth)
{
    struct value *below = NULL;
    uint32_t line = s->token_line;
    struct scan ahead = *s;
    next(&ahead);
    if (is_sign(s, "[")) {
        struct scan key = ahead;
        next(&ahead);
        if (is_sign(&ahead, "]") && key.kind == T_STRING) {
            below = by_name(v, key.text, key.len);
        } else if (is_sign(&ahead, "]") && key.kind == T_NUMBER) {
            below = by_number(v, &key);
        }
        next(s);
        expression_skip(s); /* a computed key: its value cannot be found by name */
        if (is_sign(s, "]")) next(s);
        if (is_sign(s, "=")) next(s);
    } else if (s->kind == T_NAME && is_sign(&ahead, "=")) {
        below = by_name(v, s->text, s->len);
        *s = ahead;
        next(s);
    } else {
        below = value_at(v, ++*position);
    }
    mark(below, line);
    if (is_sign(s, "{")) {
        if (depth + 1 < LINES_DEPTH_MAX) {
            bool table = below && below->kind == VALUE_TABLE;
            constructor(s, table ? below : NULL, depth + 1);
            if (table) below->line = line; /* the key's line, where it stands above the bracket */
        }
    }
    expression_skip(s);
}

/* Up to the "," ";" "}" or "]" that ends the expression. */
static void expression_skip(struct scan *s)
{
    uint32_t brackets = 0, blocks = 0;
    while (s->kind != T_END) {
        if (is_sign(s, "(") || is_sign(s, "{") || is_sign(s, "[")) {
            brackets++;
        } else if (is_sign(s, ")") || is_sign(s, "}") || is_sign(s, "]")) {
            if (brackets == 0 && blocks == 0) return;
            if (brackets) brackets--;
        } else if (is_name(s, "function") || is_name(s, "if") || is_name(s, "do") ||
                   is_name(s, "repeat")) {
            blocks++; /* `for` and `while` have their `do` */
        } else if (is_name(s, "end") || is_name(s, "until")) {
            if (blocks) blocks--;
        } else if (brackets == 0 && blocks == 0 && (is_sign(s, ",") || is_sign(s, ";"))) {
            return;
        }
        next(s);
    }
}
