/* broker/dls.h -- the dead-letter station: what groups gave up, and why.
 *
 *   group: dying --> letter made here --> one append {letter, settlement}
 *                                                        | committed
 *   "$memphis_dls_<station>.<group>"  <-- resend <-- rows (an index)
 *
 * A letter is a message of partition 0 of the shard in which its message lies: the
 * message itself (headers, payload) with a head that tells where it was, whose it is
 * and why (docs/disk-format.md). So storing, flushing, cold reads, removal and
 * retention are those of messages. One row per (partition, sequence): when a second
 * group gives up, or one of several settles, a new letter takes the place of the old
 * one in one append. Rows are therefore in order of their last change, and retention is
 * a floor.
 *
 * In memory is the index only, about 300 bytes a row. A start reads the letters that
 * are in segments once.
 *
 * Thread: core.
 */
#ifndef MP_BROKER_DLS_H
#define MP_BROKER_DLS_H

#include "broker/station.h"

struct mp_dls;

struct mp_dead_row {
    uint32_t id;          /* 31 bits; SDKs' acks carry it */
    uint8_t reason;       /* MP_DEAD_* */
    uint16_t deliveries;
    struct mp_station *station;
    uint32_t pid;         /* of its stream; 0: it never was in one (SCHEMA) */
    uint64_t seq;
    uint64_t at;          /* of the letter, in partition 0 */
    uint64_t updated_ns;  /* broker time */
    uint32_t gids_count;  /* groups that have given it up and not settled since */
    uint32_t *gids;
    char *text;           /* what a consumer or an SDK said of it; NULL: nothing */
    struct mp_log *log;
    bool is_changing;     /* a letter that replaces it is on its way */
    uint32_t resent_by;   /* number of the last resend of all that met it */
    struct {
        uint64_t pid, seq;
    } key;                /* of the table by message */
    struct mp_list of_log, of_station;
};

void mp_dls_new(struct mp_broker *b);  /* before the replay; sets the streams' hooks */
void mp_dls_free(struct mp_broker *b);

/* Rows of a station, oldest change first. NULL: no more. */
struct mp_dead_row *mp_dls_next(struct mp_station *s, struct mp_dead_row *after);
struct mp_dead_row *mp_dls_find(struct mp_broker *b, uint32_t id);
/* Its group by number; NULL: it is gone. */
struct mp_stream_group *mp_dls_group(const struct mp_dead_row *row, uint32_t i);

/* The letter itself: `fn` is called once, on the core, perhaps before it returns; NULL
 * row and letter: it is gone, or damaged. What they point to is valid during the call.
 */
struct mp_dead_letter {
    memphis_slice headers, payload;
    uint64_t time_ns;  /* broker time of the message */
    struct mp_chunk *chunk; /* holds both */
};
typedef void (*mp_dls_read_fn)(void *ctx, struct mp_dead_row *row,
                               const struct mp_dead_letter *letter);
void mp_dls_read(struct mp_broker *b, uint32_t id, mp_dls_read_fn fn, void *ctx);

/* -- resending: each group of the row gets it once more ("$memphis_dls_..."); no
 *    delivery counts. It is done beside the turns, at the pace of those who read.
 *    When a reader has had no room for 20 minutes the rest is given up. -- */

/* Those of this station; FULL: too many wait already. */
memphis_status mp_dls_resend(struct mp_station *s, const uint32_t *ids, size_t n);
/* All that are there now. `then` when it is committed that they will be: a start goes
 * on with it. BUSY: it is being done. */
void mp_dls_resend_all(struct mp_station *s, struct mp_then then);

struct mp_resend_progress {
    uint64_t done, total; /* since nothing was being done; `done`: or gone before */
    bool is_running;
};
void mp_dls_resend_progress(const struct mp_station *s, struct mp_resend_progress *out);

/* A consumer has settled what was resent to it: its group leaves the row. */
void mp_dls_settle(struct mp_broker *b, uint32_t id, memphis_slice group);
/* A consumer gave up on a message with these words ("" is fine). */
void mp_dls_nacked(struct mp_station *s, uint32_t number, uint64_t seq,
                   memphis_slice group, memphis_slice text);
/* An SDK has refused to produce it. */
void mp_dls_refused(struct mp_station *s, memphis_slice headers,
                    memphis_slice payload, memphis_slice text);
/* Ids that are none of this station are left alone; `then` when it is committed. */
void mp_dls_drop(struct mp_station *s, const uint32_t *ids, size_t n,
                 struct mp_then then);
/* All that are there now, in steps: when it fails, some may be gone. */
void mp_dls_drop_all(struct mp_station *s, struct mp_then then);
void mp_dls_station_gone(struct mp_station *s); /* all its rows go */

/* -- broker.c's side -- */
void mp_dls_applied(struct mp_broker *b, struct mp_log *log, const struct mp_entry *e,
                    bool is_own);
void mp_dls_failed(struct mp_broker *b, const struct mp_log *log);
void mp_dls_ready(struct mp_broker *b); /* a cold read of a letter */
void mp_dls_started(struct mp_broker *b);

#endif
