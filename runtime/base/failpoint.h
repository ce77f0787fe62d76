/* Failpoints: instants at which a test kills the process, because between two writes is where things get
 * lost. Compiled in only with HOLDFAST_TEST; armed once, before any thread starts. */
#ifndef HOLDFAST_BASE_FAILPOINT_H
#define HOLDFAST_BASE_FAILPOINT_H

#ifdef HOLDFAST_TEST
/* "NAME:N": the Nth time that NAME is passed is the end of the process, by SIGKILL. NULL: none. Copies. */
void failpoint_arm(const char *what);
void failpoint_pass(const char *name);
#define FAILPOINT(name) failpoint_pass(name)
#else
#define FAILPOINT(name) ((void)0)
#endif

#endif
