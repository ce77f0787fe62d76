/* Shared by ws.c and ws_encode.c alone. */
#ifndef HOLDFAST_FRAME_WS_INTERNAL_H
#define HOLDFAST_FRAME_WS_INTERNAL_H

#include <stddef.h>
#include <stdint.h>

#define WS_CONTROL_BYTES_MAX 125

/* XORs `len` bytes with the mask, whose first byte to use is number `phase` of the payload. */
void ws__mask(uint8_t *bytes, size_t len, const uint8_t mask[4], uint64_t phase);

#endif
