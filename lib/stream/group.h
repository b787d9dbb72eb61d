/* stream/group.h -- the consumer group: who has seen what, and who must see it again.
 *
 * A group is a cursor over one stream (a partition) plus the set of messages that were
 * delivered but not settled ("pending"):
 *
 *      floor            next                 tail
 *        |  a  P  a  P  |                     |        a = acked   P = pending
 *   -----+--------------+---------------------+---> sequence
 *
 * Everything at or below `floor` is settled. `next` is the first message never
 * delivered. A pending message is due again when its ack wait passes; after
 * `deliveries_max` rounds, or when its consumer says so, it is *dying* instead
 * (broker-semantics 4, rules 6 and 7): it stays pending until somebody has taken care
 * of it, so that its dead letter and its settlement can be one step of the log: bury,
 * next progress, and an ack when that is committed.
 *
 * What happens changes the group at once and is logged as its next *progress*
 * (storage-design 8): nothing is promised by an ack, a crash may redeliver it. An
 * exception keeps `deliveries_max` true over crashes: the third and later deliveries of
 * a message go out only when their count is committed (state COUNTING).
 * Replay of progress: settled ranges are added, floor and next take the larger value, a
 * named message replaces what was known of it; what lies between floor and next,
 * unsettled and unnamed, was delivered once and is due at once. A third or later
 * delivery that was counted but not made before a crash is made after it: at most one
 * more than `deliveries_max` per crash. A delivery that comes back unseen was not made:
 * its message is ready again with one less (0: never seen), or, from the third on, with
 * the count that stands in the log already.
 *
 * The group is pure: time is an argument; it reads no log and sends nothing, stream.c
 * does. Invariants (mp_group_check): floor < next; every pending sequence s has
 * floor < s < next.
 *
 * Thread: core.
 */
#ifndef MP_STREAM_GROUP_H
#define MP_STREAM_GROUP_H

#include "base/buf.h"
#include "stream/pending.h"

#include <memphis/status.h>

struct mp_group_config {
    uint64_t ack_wait_ns;
    uint32_t deliveries_max; /* 0: no end (plain NATS consumers) */
    uint32_t pending_max;    /* unsettled messages at most */
};

/* A run of settled sequences that the next progress will name. */
struct mp_group_range {
    uint64_t first, last;
};

struct mp_group {
    struct mp_group_config config;
    uint64_t next, floor;
    uint64_t dseq; /* deliveries made so far: "consumer sequence" */
    struct mp_pending pending;
    uint64_t redelivered; /* pending messages that were delivered twice or more */
    bool dirty;           /* something changed since the last progress */
    bool in_flight;       /* a progress is on its way; the next one waits for it */
    bool whole;           /* the next progress says everything: one was lost */
    struct mp_group_range *settled; /* since the last progress, not in order */
    size_t settled_count, settled_capacity;
    uint64_t *touched; /* sequences to name in the next progress */
    size_t touched_count, touched_capacity;
};

enum mp_group_pick { MP_PICK_NONE, MP_PICK_AGAIN, MP_PICK_NEW };

/* A message is dying now. Called by tick and nack; may ack it at once. */
typedef void (*mp_group_dead_fn)(void *ctx, uint64_t seq, uint32_t deliveries);

void mp_group_init(struct mp_group *g, const struct mp_group_config *c, uint64_t start);
void mp_group_fini(struct mp_group *g);

/* New ack wait and limits hold for what is pending too. */
void mp_group_configure(struct mp_group *g, const struct mp_group_config *c);

/* What to deliver now: a message that is due again, or the next new one when `last`
 * (committed) reaches that far. The caller reads it from the log, then calls deliver; a
 * message that is gone is settled (AGAIN) or skipped (NEW) instead. */
enum mp_group_pick mp_group_pick(const struct mp_group *g, uint64_t last,
                                 uint64_t *seq);

/* It was handed to a consumer at now_ns: its delivery count and consumer sequence. */
void mp_group_deliver(struct mp_group *g, uint64_t seq, uint64_t now_ns,
                      uint32_t *deliveries, uint64_t *dseq);
/* Nothing between next and seq - 1 is for this group: next becomes seq. */
void mp_group_skip(struct mp_group *g, uint64_t seq);

/* Those made of a pending message; 0: it is not pending. One that is counted and has
 * not gone out is none. */
uint32_t mp_group_deliveries(const struct mp_group *g, uint64_t seq);

/* Settlements. False: the message was not pending (ignored, broker-semantics 4.8). */
bool mp_group_ack(struct mp_group *g, uint64_t seq);
bool mp_group_die(struct mp_group *g, uint64_t seq); /* +TERM: it is dying */
bool mp_group_extend(struct mp_group *g, uint64_t seq, uint64_t now_ns); /* +WPI */
bool mp_group_nack(struct mp_group *g, uint64_t seq, uint64_t delay_ns, uint64_t now_ns,
                   mp_group_dead_fn dead, void *ctx);
/* The consumer never saw that delivery (its count as mp_group_deliver gave it): the
 * message is ready again, as if it had not been made. False: settled, or due again
 * meanwhile. */
bool mp_group_return(struct mp_group *g, uint64_t seq, uint32_t deliveries);

/* A delivered message is due at that time and not after the usual wait. */
void mp_group_delay(struct mp_group *g, uint64_t seq, uint64_t due_ns);

/* A dying message: the next progress settles it, while it stays pending until that is
 * committed (then: ack) or was not logged (then: exhume). False: it is not dying. */
bool mp_group_bury(struct mp_group *g, uint64_t seq);
void mp_group_exhume(struct mp_group *g, uint64_t seq);

/* Messages below `first` are gone: pending ones leave as settled. */
void mp_group_trim(struct mp_group *g, uint64_t first);
void mp_group_forget(struct mp_group *g, uint64_t first, uint64_t last); /* deleted */

/* What is due at now_ns becomes ready, counts, or dies. */
void mp_group_tick(struct mp_group *g, uint64_t now_ns, mp_group_dead_fn dead,
                   void *ctx);
uint64_t mp_group_due_ns(struct mp_group *g); /* UINT64_MAX: nothing waits */

/* Progress (storage-design 4.8, type 3 op 4, from `next` on: gid and op are the
 * caller's). Encoding takes what changed since the last one; `committed` when it is. */
bool mp_group_has_progress(const struct mp_group *g);
void mp_group_progress_encode(struct mp_group *g, struct mp_buf *out);
void mp_group_progress_committed(struct mp_group *g);
/* It was not logged: the next one is whole. */
void mp_group_progress_failed(struct mp_group *g);
memphis_status mp_group_progress_replay(struct mp_group *g, struct mp_cursor *in);
/* Everything at once, for state.<index>; read back by progress_replay. What is buried
 * is not settled yet. */
void mp_group_state_encode(const struct mp_group *g, struct mp_buf *out);
/* After the replay: what is unsettled and unnamed was delivered once and is due now. */
void mp_group_replay_done(struct mp_group *g, uint64_t last, uint64_t now_ns);

uint64_t mp_group_ack_floor_dseq(const struct mp_group *g);
void mp_group_check(const struct mp_group *g);

#endif
