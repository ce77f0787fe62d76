/* Secrets of the configuration: read once, from the environment, a file, or the credentials
 * directory of the service manager. Never shows a byte of one, and wipes what it read on the way.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/text.h"
#include "config/config_internal.h"

static struct secret *from_env(const char *name, char *error, size_t error_bytes);
static struct secret *from_file(const char *shown, const char *path, bool *open_out, char *error,
                                size_t error_bytes);
static struct secret *from_credential(const char *name, bool *open_out, char *error,
                                      size_t error_bytes);

struct secret *config_secret_read(const struct value *table, const char *folder, bool *open_out,
                                  char *error, size_t error_bytes)
{
    static const char *const names[] = { "env", "file", "credential" };
    *open_out = false;
    if (table->kind != VALUE_TABLE || table->table->count != 1) {
        snprintf(error, error_bytes,
                 "expected one place: { env = \"NAME\" }, { file = \"path\" } or { credential = "
                 "\"name\" }");
        return NULL;
    }
    const char *key = value_text(&table->table->pairs[0].key);
    const struct value *v = &table->table->pairs[0].value;
    const char *text = value_text(v);
    bool known = false;
    for (size_t i = 0; key && i < 3; i++) known = known || strcmp(names[i], key) == 0;
    if (!known) {
        const char *near = key ? text_nearest(key, names, 3) : NULL;
        snprintf(error, error_bytes, "unknown key `%.40s`; %s%s%s", key ? key : "[1]",
                 near ? "did you mean `" : "a secret has env, file or credential", near ? near : "",
                 near ? "`?" : "");
        return NULL;
    }
    if (!text || !text[0] || strlen(text) != v->string.len) {
        snprintf(error, error_bytes, "`%s` must be a text, and not empty", key);
        return NULL;
    }
    if (strcmp(key, "env") == 0) return from_env(text, error, error_bytes);
    if (strcmp(key, "credential") == 0) return from_credential(text, open_out, error, error_bytes);
    char *path = config__join(folder, text);
    struct secret *s = from_file(text, path, open_out, error, error_bytes);
    free(path);
    return s;
}

char *config_secret_path(const struct value *table, const char *folder)
{
    const char *file = value_get_text(table, "file"), *credential = value_get_text(table, "credential");
    if (file && file[0]) return config__join(folder, file);
    const char *creds = getenv("CREDENTIALS_DIRECTORY");
    return credential && creds && creds[0] ? config__join(creds, credential) : NULL;
}

static struct secret *from_env(const char *name, char *error, size_t error_bytes)
{
    const char *value = getenv(name);
    if (!value || !value[0]) {
        snprintf(error, error_bytes, "the environment variable %.80s is %s", name,
                 value ? "empty" : "not set");
        return NULL;
    }
    return secret_create(name, value, strlen(value));
}

static struct secret *from_file(const char *shown, const char *path, bool *open_out, char *error,
                                size_t error_bytes)
{
    struct stat st;
    struct secret *s = NULL;
    char *bytes = NULL;
    size_t len = 0;
    ssize_t n = 0;
    /* O_NONBLOCK: a FIFO in place of the file must not hang us. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &st) != 0) {
        snprintf(error, error_bytes, "the file %.120s: %s", shown, strerror(errno));
        goto done;
    }
    if (!S_ISREG(st.st_mode)) {
        snprintf(error, error_bytes, "the file %.120s is no regular file", shown);
        goto done;
    }
    *open_out = (st.st_mode & (S_IRWXG | S_IRWXO)) != 0;
    bytes = malloc(CONFIG_SECRET_BYTES_MAX + 1);
    ASSERT(bytes != NULL);
    while (len <= CONFIG_SECRET_BYTES_MAX) {
        n = read(fd, bytes + len, CONFIG_SECRET_BYTES_MAX + 1 - len);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        len += (size_t)n;
    }
    if (n < 0) {
        snprintf(error, error_bytes, "the file %.120s: %s", shown, strerror(errno));
        goto done;
    }
    if (len > CONFIG_SECRET_BYTES_MAX) {
        snprintf(error, error_bytes, "the file %.120s is larger than 64 KiB", shown);
        goto done;
    }
    while (len && (bytes[len - 1] == '\n' || bytes[len - 1] == '\r')) len--;
    if (len == 0) {
        snprintf(error, error_bytes, "the file %.120s is empty", shown);
        goto done;
    }
    const char *slash = strrchr(shown, '/');
    s = secret_create(slash ? slash + 1 : shown, bytes, len);
done:
    if (bytes) explicit_bzero(bytes, CONFIG_SECRET_BYTES_MAX + 1);
    free(bytes);
    if (fd >= 0) close(fd);
    return s;
}

static struct secret *from_credential(const char *name, bool *open_out, char *error,
                                      size_t error_bytes)
{
    const char *folder = getenv("CREDENTIALS_DIRECTORY");
    if (strchr(name, '/') || name[0] == '.') {
        snprintf(error, error_bytes, "a credential has a name, not a path");
        return NULL;
    }
    if (!folder || !folder[0]) {
        snprintf(
            error, error_bytes,
            "the credential %.80s: CREDENTIALS_DIRECTORY is not set (the service manager sets it)",
            name);
        return NULL;
    }
    char *path = config__join(folder, name);
    struct secret *s = from_file(name, path, open_out, error, error_bytes);
    *open_out = false; /* the service manager guards the folder itself */
    free(path);
    return s;
}
