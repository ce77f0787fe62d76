/* What the files of config/ share. */
#ifndef HOLDFAST_CONFIG_CONFIG_INTERNAL_H
#define HOLDFAST_CONFIG_CONFIG_INTERNAL_H

#include "config/config.h"

/* Where one table was written, for its problems. */
struct config_place {
    struct problems *problems;
    const char *file;   /* borrowed */
    const char *folder; /* borrowed: relative paths are joined with it */
    const char *name;   /* "listen" or "connection support-bot": begins every key */
};

/* An error at `key` of the place (NULL: at the place itself); `v` gives the line and may be NULL.
 */
void config__error(const struct config_place *p, const struct value *v, const char *key,
                   const char *format, ...) __attribute__((format(printf, 4, 5)));
/* False and one error each for keys that are not among `names`. */
bool config__keys(const struct config_place *p, const struct value *table, const char *const *names,
                  size_t count);
/* The path at `key` joined with the folder, owned; NULL when absent or wrong (then with an error).
 */
char *config__path(const struct config_place *p, const struct value *table, const char *key);
char *config__join(const char *folder, const char *path);
char *config__folder(const char *path);
char *config__copy(const char *text);
/* "a table", "a text", "a secret": never what a text says. */
const char *config__kind(const struct value *v);

/* sections.c: one call of the file each. */
void config__listen(const struct config_place *p, const struct value *v, struct config_listen *out);
void config__store(const struct config_place *p, const struct value *v, struct config *out);
void config__policies(const struct config_place *p, const struct value *v, struct config *out);

#endif
