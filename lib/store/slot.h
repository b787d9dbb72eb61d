/* store/slot.h -- a slot file: two 4 KiB slots written in turn.
 *
 * Generation g lies in slot g mod 2, so a torn write can only hurt the older one. Each
 * slot starts {magic 4, CRC32C of bytes 8..4095 4, generation 8}; the valid one with
 * the larger generation counts.
 *
 * Thread: any; blocks on the disk.
 */
#ifndef MP_STORE_SLOT_H
#define MP_STORE_SLOT_H

#include "env/env.h"
#include "store/layout.h"

/* The newest valid slot of the file. NOT_FOUND: no file, or no valid slot in it; then
 * *exists says whether there is a file. A slot that the disk cannot read counts as one
 * that is not valid. VERSION: one is of a newer release. */
memphis_status mp_slot_read(struct mp_env *e, const char *name, const char magic[4],
                            uint8_t out[MP_BLOCK_SIZE], bool *exists,
                            memphis_error *err);

/* Writes the slot and syncs it; a file that is new needs a dir_sync by the caller. When
 * that fails the slot is forgotten. */
memphis_status mp_slot_write(struct mp_env *e, const char *name,
                             const uint8_t block[MP_BLOCK_SIZE], bool sync,
                             memphis_error *err);

/* After a failed sync of that slot: it may stand in the page cache, marked as written,
 * and not on the disk. The next start must find the one before instead. */
void mp_slot_forget(struct mp_env *e, const char *name, uint64_t generation);

#endif
