/* Gate texts: small files, 0600 in a folder of 0700, gone when they were played. */
#include "ops/gate_texts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"

static bool path_of(const struct gate_policy *p, const char *folder, const char *name, char *out, size_t bytes);
static bool file_write(char *path, const struct gate_text *t);

void gate_policy_text(struct gate_policy *p, const char *name, const void *text, size_t len)
{
    p->texts = realloc(p->texts, (p->text_count + 1) * sizeof *p->texts);
    ASSERT(p->texts != NULL);
    struct gate_text *t = &p->texts[p->text_count++];
    *t = (struct gate_text){ .name = strdup(name), .text = malloc(len + 1), .len = len };
    ASSERT(t->name && t->text);
    memcpy(t->text, text, len);
}

void gate_texts_free(struct gate_policy *p)
{
    for (uint32_t i = 0; i < p->text_count; i++) {
        free(p->texts[i].name);
        free(p->texts[i].text);
    }
    free(p->texts);
    p->texts = NULL;
    p->text_count = 0;
}

bool gate_texts_differ(const struct gate_policy *p)
{
    if (!p->texts) return false;
    const struct gate_text *own = &p->texts[0];
    char *bytes = malloc(own->len + 1);
    ASSERT(bytes != NULL);
    int fd = open(p->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t n = fd < 0 ? -1 : read(fd, bytes, own->len + 1);
    bool same = n >= 0 && (size_t)n == own->len && memcmp(bytes, own->text, own->len) == 0;
    if (fd >= 0) close(fd);
    free(bytes);
    return !same;
}

bool gate_texts_write(const struct gate_policy *p, char *folder, size_t folder_bytes, char *path, size_t path_bytes)
{
    const char *tmp = getenv("TMPDIR");
    bool ok = true;
    int n = snprintf(folder, folder_bytes, "%s/holdfast-gate-XXXXXX", tmp && tmp[0] ? tmp : "/tmp");
    errno = ENAMETOOLONG;
    if (n < 0 || (size_t)n >= folder_bytes || !mkdtemp(folder)) return false;
    errno = ENAMETOOLONG;
    for (uint32_t i = 0; ok && i < p->text_count; i++) {
        ok = path_of(p, folder, p->texts[i].name, path, path_bytes) && file_write(path, &p->texts[i]);
    }
    ok = ok && path_of(p, folder, "", path, path_bytes);
    int why = errno;
    if (!ok) gate_texts_remove(p, folder);
    errno = why;
    return ok;
}

void gate_texts_remove(const struct gate_policy *p, const char *folder)
{
    char at[1024];
    for (uint32_t i = 0; i < p->text_count; i++) {
        if (!path_of(p, folder, p->texts[i].name, at, sizeof at)) continue;
        unlink(at);
        for (char *slash; strlen(at) > strlen(folder) && (slash = strrchr(at, '/')); rmdir(at)) *slash = 0;
    }
    rmdir(folder);
}

void gate_texts_scrub(char *text, const char *folder)
{
    const size_t len = strlen(folder);
    for (char *at = text; (at = strstr(at, folder));) {
        size_t cut = len + (at[len] == '/');
        memmove(at, at + cut, strlen(at + cut) + 1);
    }
}

/* The same names as beside the policy: "a.b" is a/b.lua. */
static bool path_of(const struct gate_policy *p, const char *folder, const char *name, char *out, size_t bytes)
{
    const char *slash = strrchr(p->path, '/');
    int n = name[0] ? snprintf(out, bytes, "%s/%s.lua", folder, name)
                    : snprintf(out, bytes, "%s/%s", folder, slash ? slash + 1 : p->path);
    if (n < 0 || (size_t)n >= bytes) return false;
    for (char *at = out + strlen(folder) + 1; name[0] && at < out + n - 4; at++) {
        if (*at == '.') *at = '/';
    }
    return true;
}

static bool file_write(char *path, const struct gate_text *t)
{
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        mkdir(path, 0700);
        *slash = '/';
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && write(fd, t->text, t->len) == (ssize_t)t->len;
    if (fd >= 0) ok = close(fd) == 0 && ok;
    return ok;
}
