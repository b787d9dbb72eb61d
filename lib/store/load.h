/* store/load.h -- a start: the partitions' files, before it is known which of them
 * still exist.
 *
 * Every directory of the shard becomes a partition that waits in the table for its
 * open entry: in the table of partition 0, or in replay. One without a valid meta slot
 * is as new: a first flush did not end, or a removal. (Or the slot is damaged: that
 * shows when the table says that it has files.) What is wrong with its files is kept
 * as a sentence and told only then: a partition that was dropped may have lost half of
 * them already. Left-overs of an interrupted flush are removed: they are what the slot
 * does not name.
 *
 * Thread: core, at a start; blocks on the disk.
 */
#ifndef MP_STORE_LOAD_H
#define MP_STORE_LOAD_H

#include "store/partition.h"

/* Fills t->loaded, in order of pid. IO; VERSION, UNSUPPORTED: of a newer release. All
 * passes up to shard entry `ended_index` have ended: files of theirs which a slot does
 * not know show that it is an old one. */
memphis_status mp_load_shard(struct mp_env *e, uint32_t shard, uint64_t ended_index,
                             struct mp_partitions *t, memphis_error *err);

/* An accepted start, a partition with damaged files: all that verifies in its segments
 * counts, whether a slot knows it or not, and headers and footers that do not are made
 * anew, so that nobody asks again. Without a slot the newest good state file counts,
 * and of messages those which the log has not (p->logged_seq): the others may be what a
 * pass has left that was torn. Whatever was committed above `ended_index` is replayed
 * on top. */
memphis_status mp_load_repair(struct mp_env *e, uint32_t shard, uint64_t ended_index,
                              struct mp_partition *p, memphis_error *err);

/* Calls fn for the messages and ids of the partition's segments that are not older than
 * `since_ns`. Damaged ones are left out: reading them will tell. */
memphis_status mp_load_since(struct mp_env *e, uint32_t shard,
                             const struct mp_partition *p, uint64_t since_ns,
                             mp_segment_fn fn, void *ctx, memphis_error *err);

#endif
