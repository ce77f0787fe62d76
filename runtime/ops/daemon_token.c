/* The token of a daemon that listens on TCP without a configured one: in a file that only its owner can read. */
#include "ops/daemon_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define TOKEN_HEX 64

static void token_path(const struct daemon *d, char *out, size_t out_bytes);

struct secret *daemon__token_generate(char *why, size_t why_bytes)
{
    unsigned char random[TOKEN_HEX / 2];
    char text[TOKEN_HEX + 1];
    if (getrandom(random, sizeof random, 0) != sizeof random) {
        snprintf(why, why_bytes, "no random numbers for a token");
        return NULL;
    }
    for (size_t i = 0; i < sizeof random; i++) snprintf(text + 2 * i, 3, "%02x", random[i]);
    struct secret *s = secret_create("generated token", text, TOKEN_HEX);
    explicit_bzero(text, sizeof text);
    explicit_bzero(random, sizeof random);
    return s;
}

struct secret *daemon__token_read(const struct daemon *d)
{
    char path[sizeof d->token_path], text[TOKEN_HEX + 2];
    struct secret *s = NULL;
    struct stat st;
    token_path(d, path, sizeof path);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) return NULL;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid() && !(st.st_mode & 077) &&
        read(fd, text, sizeof text) == TOKEN_HEX + 1 && text[TOKEN_HEX] == '\n')
        s = secret_create("generated token", text, TOKEN_HEX);
    explicit_bzero(text, sizeof text);
    close(fd);
    return s;
}

static void token_path(const struct daemon *d, char *out, size_t out_bytes)
{
    const struct config *c = &d->roster.config;
    snprintf(out, out_bytes, "%s.token", c->listen.unix_path ? c->listen.unix_path : c->path);
}

bool daemon__token_write(struct daemon *d, const struct secret *token, char *why, size_t why_bytes)
{
    char path[sizeof d->token_path], beside[sizeof path + 8];
    size_t len;
    const char *bytes = secret_bytes(token, &len);
    token_path(d, path, sizeof path);
    snprintf(beside, sizeof beside, "%s.new", path);
    unlink(beside);
    int fd = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && write(fd, bytes, len) == (ssize_t)len && write(fd, "\n", 1) == 1;
    if (fd >= 0) close(fd);
    ok = ok && rename(beside, path) == 0;
    if (ok) memcpy(d->token_path, path, sizeof path);
    else snprintf(why, why_bytes, "cannot write the token to %.300s: %s", path, strerror(errno));
    return ok;
}
