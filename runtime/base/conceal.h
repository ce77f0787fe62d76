/* Conceal: values without their secrets, and back with others in their place. A secret is told by its name and
 * its length alone: "<secret NAME:LEN>"; what stands for it elsewhere is its name written over and over. */
#ifndef HOLDFAST_BASE_CONCEAL_H
#define HOLDFAST_BASE_CONCEAL_H

#include "base/value.h"

#define CONCEAL_BYTES_MAX ((size_t)1 << 20)

/* Fills `out` with `len` bytes that are stable for the name: letters, digits, `_` and dots. */
void conceal_placeholder(const char *name, char *out, size_t len);
/* A copy without secrets; owned. */
struct value conceal_copy(const struct value *v);
/* Texts that name a secret become one again, made of placeholders. In place. */
void conceal_reveal(struct value *v);

#endif
