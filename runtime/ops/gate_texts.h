/* Gate texts: a version that runs while its file has another text, as files in a folder of their own for the prover.
 * Blocks: for the gate's thread. */
#ifndef HOLDFAST_OPS_GATE_TEXTS_H
#define HOLDFAST_OPS_GATE_TEXTS_H

#include "ops/gate.h"

void gate_texts_free(struct gate_policy *p);
/* It has texts, and its own file has another one. */
bool gate_texts_differ(const struct gate_policy *p);
/* Writes them: `folder` was made for that, `path` is of the policy's own. False: nothing is left there,
 * and errno says why. */
bool gate_texts_write(const struct gate_policy *p, char *folder, size_t folder_bytes, char *path, size_t path_bytes);
void gate_texts_remove(const struct gate_policy *p, const char *folder);
/* Takes "FOLDER/" out of the text, wherever it stands. */
void gate_texts_scrub(char *text, const char *folder);

#endif
