/* Files: where a command finds the configuration and the shipped Lua. */
#ifndef HOLDFAST_CLI_FILES_H
#define HOLDFAST_CLI_FILES_H

#include <stdbool.h>
#include <stddef.h>

#include "cli/cli.h"
#include "policy/policy.h"

/* -c FILE, otherwise ./holdfast.lua. */
const char *files_config(const struct cli *cli);
/* Sets HOLDFAST_LUA, unless it is set, to the lua/ that belongs to this binary: PREFIX/share/holdfast/lua
 * beside PREFIX/bin, or the sources' own beside build/. Before any thread starts. */
void files_find_lua(void);
/* The folder found, "lua" when there is none. */
const char *files_lua(void);
/* True when the file can be read; else a complaint that says what to do. */
bool files_config_is_there(const char *path);
/* Writes the whole file, or to standard output for "-". A file is nobody else's to read, one that was there
 * before included. False after a complaint. */
bool files_put(const char *path, const void *bytes, size_t len);
/* One line each on standard error; warnings too. */
void files_print_problems(const struct problems *problems);

#endif
