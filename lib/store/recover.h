/* store/recover.h -- what a data directory is, and how a start goes on with it.
 *
 * `node` is written last when a directory is made and before the first batch, so a
 * directory without it has never acknowledged anything (storage-design 4, "Begin,
 * finish or refuse"):
 *
 *   nothing, or our names only, no batch      fresh: begun, or begun anew
 *   no valid slot, a name that is not ours    INVALID: somebody else's directory
 *   no valid slot, but a segment, or a WAL    CORRUPT, whatever is accepted
 *     file with anything behind its header
 *   no valid slot, but metadata that came     CORRUPT, or a loss that is accepted:
 *     from a log (meta.db tells later)          see mp_replica_meta_ahead
 *   a valid slot                              the WAL is scanned and judged (scan.h)
 *
 * Thread: core, at a start; blocks on the disk.
 */
#ifndef MP_STORE_RECOVER_H
#define MP_STORE_RECOVER_H

#include "store/scan.h"

struct mp_recovery {
    bool fresh, clean;
    bool lost_log;            /* parts of it, in no range of LSNs; or metadata, which
                               * remember one, are all that is left */
    struct mp_node node;      /* as found; zero when fresh */
    struct mp_scan scan;
};

/* Before the lock is taken, and so before anything is made there: INVALID. */
memphis_status mp_recover_look(struct mp_env *e, memphis_error *err);
memphis_status mp_recover(struct mp_recovery *r, struct mp_env *e, bool accept_loss,
                          memphis_error *err);
void mp_recover_fini(struct mp_recovery *r);

/* Makes `node` a durable slot of one generation more. */
memphis_status mp_node_write(struct mp_env *e, struct mp_node *node,
                             memphis_error *err);

/* Removes the WAL files that an interrupted flush was about to give back. `wal_first`
 * must be durable. */
memphis_status mp_recover_drop_left_overs(struct mp_env *e, uint64_t wal_first,
                                          memphis_error *err);

/* Where the settled range of this recovery begins; it ends at scan.files_end. */
uint64_t mp_recover_settle_from(const struct mp_recovery *r);

#endif
