/* The entry: everything is in cli/. */
#include <stdlib.h>

#include "base/failpoint.h"
#include "cli/cli.h"

#define FAILPOINT_VARIABLE "HOLDFAST_FAILPOINT" /* of builds for tests alone: nothing that operators set */

int main(int argc, char **argv)
{
#ifdef HOLDFAST_TEST
    failpoint_arm(getenv(FAILPOINT_VARIABLE));
#endif
    return cli_main(argc, argv);
}
