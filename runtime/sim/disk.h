/* Disk: what the simulated store holds. Answers after a drawn delay, fails by fault; a write counts
 * once it was answered. Owns the records; the world drives it. */
#ifndef HOLDFAST_SIM_DISK_H
#define HOLDFAST_SIM_DISK_H

#include "sim/world.h"

struct disk; /* opaque */

struct disk *disk_create(void);
void disk_destroy(struct disk *d);
/* Its number, never 0. Copies. `boot`: the machine's, by world_boot_number(). */
uint64_t disk_submit(struct disk *d, const struct store_request *request, uint64_t wall_ms,
                     uint64_t world_ms, uint64_t boot, bool fails);
/* The write is through, or failed. False: no such write (lost in a crash). */
bool disk_finish(struct disk *d, uint64_t number, uint64_t *ticket_out, bool *ok_out);
/* What was not finished: each write is kept or lost as `draw` says (a bit per write). */
void disk_crash(struct disk *d, uint64_t draw);
bool disk_get(const struct disk *d, enum store_op op, const char *connection,
              struct disk_record *out);
bool disk_permit(const struct disk *d, uint32_t index, struct disk_permit *out);
bool disk_told(const struct disk *d, uint32_t index, struct disk_told *out);
uint64_t disk_safe(const struct disk *d, const char *connection);
uint32_t disk_pending(const struct disk *d);

#endif
