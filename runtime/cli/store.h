/* Store, the command's parts in files of their own. */
#ifndef HOLDFAST_CLI_STORE_H
#define HOLDFAST_CLI_STORE_H

#include "base/text.h"
#include "cli/cli.h"
#include "store/core.h"

/* Every row as a line of JSON on standard output. What a damaged file still tells comes first, then a
 * complaint and CLI_FAILED. */
enum cli_exit store_export(struct store_core *core);
/* What the running holdfast that has the store tells of it. Complains by itself. */
enum cli_exit store_live(const struct cli *cli, const char *path);

#endif
