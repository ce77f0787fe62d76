/* Value: a plain tree of data, the common currency between configuration, policies, dispatch and
 * the local API. No handles, no sharing, no cycles; of a function only its place is kept.
 *
 * A string's bytes are NUL-terminated for convenience but may contain NUL. An integer that fits 2^53
 * is a number; a larger one arrives and leaves as a decimal string.
 * A secret holds its bytes in memory that is wiped on release; only send, HTTP and HMAC read them. */
#ifndef HOLDFAST_BASE_VALUE_H
#define HOLDFAST_BASE_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct secret; /* reference-counted, immutable */

/* `name` is what may be shown ("token", "DISCORD_TOKEN"). Copies both. */
struct secret *secret_create(const char *name, const void *bytes, size_t len);
struct secret *secret_ref(struct secret *s);
void secret_unref(struct secret *s); /* NULL is allowed; the last one wipes the bytes */
const char *secret_name(const struct secret *s);
/* Borrowed until the last unref. */
const char *secret_bytes(const struct secret *s, size_t *len_out);
/* A 64-bit keyed fingerprint, stable for equal bytes within and across processes; never the bytes. */
uint64_t secret_fingerprint(const struct secret *s);

enum value_kind {
    VALUE_NIL,
    VALUE_BOOL,
    VALUE_NUMBER,
    VALUE_STRING,
    VALUE_SECRET,
    VALUE_TABLE,
    VALUE_FUNCTION, /* a function stood here; only that and its line are known */
};

struct value {
    enum value_kind kind;
    uint32_t line; /* where it was written, 1-based; 0 when not known */
    union {
        bool boolean;
        double number;
        struct {
            char *bytes; /* owned, NUL-terminated */
            size_t len;
        } string;
        struct secret *secret; /* owned reference */
        struct value_table *table; /* owned */
    };
};

struct value_pair {
    struct value key; /* a string or a number */
    struct value value;
};

struct value_table {
    struct value_pair *pairs; /* owned, in order of insertion */
    uint32_t count;
    uint32_t capacity; /* VALUE_PACKED: it stands in the block of value_pack() */
};
#define VALUE_PACKED UINT32_MAX

struct value value_nil(void);
struct value value_bool(bool b);
struct value value_number(double n);
struct value value_string(const char *text);
struct value value_bytes(const void *bytes, size_t len);
struct value value_secret(struct secret *s); /* takes its own reference */
struct value value_table(void);
/* Deep copy; secrets are shared by reference. */
struct value value_copy(const struct value *v);
/* A deep copy in one block of memory, for what is kept by the thousand: free() of many small blocks leaves a list that the
 * next malloc() sorts, for milliseconds. Not to be changed; value_clear() frees the whole, and never a part of it. */
struct value value_pack(const struct value *v);
/* Frees what v owns and makes it nil. */
void value_clear(struct value *v);
bool value_equal(const struct value *a, const struct value *b);
/* 64 bits that tell whether a tree changed: equal ones that were filled in the same order have equal ones. Not for
 * what somebody else may choose. */
uint64_t value_fingerprint(const struct value *v);

/* NULL when absent or not a table. Borrowed until the table changes. */
struct value *value_get(const struct value *table, const char *key);
struct value *value_at(const struct value *table, uint32_t index_from_1);
/* Number of array items 1..n without a hole. */
uint32_t value_length(const struct value *table);
/* `v` is moved; a nil removes the key. */
void value_set(struct value *table, const char *key, struct value v);
void value_append(struct value *table, struct value v);
/* NULL when not a string. */
const char *value_text(const struct value *v);
const char *value_get_text(const struct value *table, const char *key);
double value_get_number(const struct value *table, const char *key, double otherwise);
/* Rough memory in bytes, to bound what a policy keeps. */
size_t value_weight(const struct value *v);

struct buffer;
/* JSON text of v, keys in sorted order; a secret becomes "<secret NAME>". False over the limit. */
bool value_to_json(const struct value *v, struct buffer *out);
/* Pretty JSON with two-space indent. */
bool value_to_json_pretty(const struct value *v, struct buffer *out);

#endif
