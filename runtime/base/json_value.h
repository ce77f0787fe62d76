/* JSON text as a value, for what people and files give to commands. */
#ifndef HOLDFAST_BASE_JSON_VALUE_H
#define HOLDFAST_BASE_JSON_VALUE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/value.h"

/* False with a sentence. `*out`: owned; null becomes nil, and such keys are left out. */
bool json_value_parse(const char *text, size_t len, struct value *out, char *error, size_t error_bytes);

#endif
