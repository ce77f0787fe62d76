/* Files: the configuration's path, and the folder of lua/ that belongs to this binary. */
#include "cli/files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/text.h"

const char *files_config(const struct cli *cli)
{
    const char *path = cli_get(cli, "--config");
    return path ? path : "holdfast.lua";
}

void files_find_lua(void)
{
    static const char *const beside[] = { "/../share/holdfast/lua", "/../../lua" };
    char exe[PATH_MAX], path[PATH_MAX + 64], real[PATH_MAX];
    const char *set = getenv("HOLDFAST_LUA");
    if (set && set[0]) return;
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (n <= 0) return;
    exe[n] = 0;
    char *end = strrchr(exe, '/');
    if (!end) return;
    *end = 0;
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s%s/holdfast.lua", exe, beside[i]);
        if (access(path, R_OK) != 0) continue;
        path[strlen(path) - strlen("/holdfast.lua")] = 0;
        if (realpath(path, real)) setenv("HOLDFAST_LUA", real, 1);
        return;
    }
}

const char *files_lua(void)
{
    const char *set = getenv("HOLDFAST_LUA");
    return set && set[0] ? set : "lua";
}

bool files_config_is_there(const char *path)
{
    if (access(path, R_OK) == 0) return true;
    if (errno == ENOENT) {
        cli_complain("there is no configuration at %s: write one (examples/holdfast.lua is a start) or "
                     "name one with -c FILE", path);
    } else {
        cli_complain("cannot read the configuration %s: %s", path, strerror(errno));
    }
    return false;
}

void files_print_problems(const struct problems *problems)
{
    char line[1024];
    struct buffer text;
    for (uint32_t i = 0; i < problems->count; i++) {
        buffer_init(&text, 0);
        problem_format(&problems->items[i], line, sizeof line);
        text_printable(&text, line, strlen(line));
        fprintf(stderr, "%.*s\n", (int)text.len, (const char *)text.data);
        buffer_deinit(&text);
    }
}

bool files_put(const char *path, const void *bytes, size_t len)
{
    struct stat is;
    const bool out = strcmp(path, "-") == 0;
    int fd = out ? STDOUT_FILENO : open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool ok = fd >= 0;
    /* The mode above is that of a new file alone. */
    if (ok && !out && fstat(fd, &is) == 0 && S_ISREG(is.st_mode)) ok = fchmod(fd, 0600) == 0;
    const char *at = bytes;
    while (ok && len) {
        ssize_t n = write(fd, at, len);
        if (n < 0 && errno == EINTR) continue;
        ok = n >= 0;
        if (!ok) break;
        at += n;
        len -= (size_t)n;
    }
    const int why = errno;
    const bool closed = fd < 0 || out || close(fd) == 0;
    if (!ok || !closed) cli_complain("%s: %s", path, strerror(ok ? errno : why));
    return ok && closed;
}
