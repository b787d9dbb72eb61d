/* stream/stream.h -- a stream: one partition of a station, and the groups that read it.
 *
 *   publish --> limits, expectations, dedupe --> seq, time reserved --> mp_log_append
 *                                                                          |
 *   PubAck  <-- waiting publishes, in order  <-- apply (committed)  <------+
 *                                                    |
 *   pull    --> groups with waiting pulls  --> mp_log_read --> inbox      (serve)
 *   ack     --> group --> progress entry  --> committed --> reply to the ack
 *
 * A stream is created and removed by partition entries of its shard's log, its groups
 * by group entries; the settings travel inside (docs/disk-format.md), so a start needs
 * nothing but the log. What is only proposed (last sequence, reserved ids, waiting
 * publishes) is kept here and dropped when the log fails.
 *
 * The host (broker) owns what streams share: bus, log, timers, time, the list of groups
 * that have something to serve and of groups with progress to log. Thread: core.
 */
#ifndef MP_STREAM_STREAM_H
#define MP_STREAM_STREAM_H

#include "base/logger.h"
#include "base/map.h"
#include "base/timer.h"
#include "bus/bus.h"
#include "store/log.h"
#include "store/ranges.h"
#include "stream/dedup.h"
#include "stream/group.h"
#include "stream/pull.h"
#include "stream/wall.h"

enum { MP_STREAM_TAG = 1 }; /* appends of streams; the broker's own tags are above */

/* Why a message left its group undone; numbers are on disk. */
enum { MP_DEAD_UNACKED = 1, MP_DEAD_NACKED = 2, MP_DEAD_SCHEMA = 3 };

enum { MP_LIMIT_AGE, MP_LIMIT_MESSAGES, MP_LIMIT_BYTES, MP_LIMIT_ACKED, MP_LIMIT_NATS };

/* Settings of a partition entry (type 7), TLV coded. */
struct mp_stream_settings {
    const char *name;     /* "orders#eu$1"; owned by the stream once it exists */
    uint32_t limit;       /* MP_LIMIT_* */
    uint64_t limit_value; /* ns, messages, bytes */
    uint64_t window_ns;   /* idempotency */
    uint32_t station_id, number;
    const char *nats; /* configuration of a NATS stream (nats_config.h); NULL: none */
};

struct mp_stream_counters {
    uint64_t published, duplicates, delivered, acked, redelivered, dead, terminated;
    uint64_t refused; /* publishes answered with an error */
};

struct mp_stream;
struct mp_stream_group;

/* A message on its way out of a group (pending.h: DYING). */
struct mp_dying {
    uint64_t seq;     /* 0: it is done */
    uint32_t deliveries;
    uint8_t reason;   /* MP_DEAD_* */
    bool in_flight;   /* its letter is proposed */
    char *text;       /* what its consumer said; NULL: nothing */
};

/* Its dead letter: entries of the append that settles the message, too. */
struct mp_letter {
    struct mp_stored source;    /* the message; borrowed during the calls */
    struct mp_entry entries[2]; /* slices: of source, payload, removal */
    size_t entries_count;
    struct mp_buf payload;
    uint8_t removal[32];
};

/* Who keeps dead letters (broker/dls.c). Without it messages just leave. */
struct mp_dead_hooks {
    bool (*wants)(void *ctx, const struct mp_stream_group *g);
    /* Fills *l. BUSY: not now; mp_stream_bury_again follows. */
    memphis_status (*make)(void *ctx, const struct mp_stream_group *g,
                           const struct mp_dying *d, struct mp_letter *l);
    /* The letters made since the last call were appended, or were not. */
    void (*made)(void *ctx, const struct mp_stream_group *g, bool appended);
    void (*group_gone)(void *ctx, struct mp_stream *s, uint32_t gid);
    void *ctx;
};

struct mp_stream_host {
    struct mp_bus *bus;
    struct mp_timers *timers; /* ms of broker time */
    struct mp_logger *logger;
    const uint64_t *now_ns;   /* broker time of this turn */
    struct mp_wall wall;      /* what is shown for broker times */
    uint64_t dedup_key[2];
    struct mp_dedup_budget ids;
    uint64_t ids_told, ids_told_ns; /* of those that went early: what the log says */
    struct mp_list serving;  /* groups with a pull and perhaps a message */
    struct mp_list held;     /* groups all of whose clients read too slowly */
    struct mp_list dirty;    /* groups with progress to log */
    uint64_t dirty_since_ns; /* of the oldest one; 0: none. To come: not before then */
    bool urgent;             /* somebody waits for a progress: log it this turn */
    struct mp_dead_hooks dead;
    struct mp_list looks;        /* acked.c: whose groups have settled something */
    struct mp_list scans;        /* that have something to do now: scan.h */
    struct mp_list unheard;      /* push consumers without a subscriber: consumer.h */
    uint64_t subjects_bytes;     /* of the indexes by subject of all streams ... */
    uint64_t subjects_bytes_max; /* ... which give up, or refuse, beyond that */
    uint64_t subjects_given_up;
    struct mp_stream_counters counters;
};

/* Somebody whose read said MP_PENDING. Owner: who waits, until `again` is called. */
struct mp_stream_waiter {
    struct mp_list node;
    /* Once: the stream can be read again; NULL: it is gone. */
    void (*again)(struct mp_stream_waiter *w, struct mp_stream *s);
};

struct mp_stream {
    struct mp_stream_host *host;
    struct mp_log *log;
    uint32_t pid;
    struct mp_stream_settings settings;
    char *name, *final_subject;
    uint32_t name_size, final_size;
    uint64_t created_ns;    /* wall time */
    uint64_t proposed_last; /* sequences up to here are given out */
    struct mp_buf waiting;  /* publishes that wait for their commit, oldest first */
    size_t waiting_at;      /* first byte of the oldest */
    struct mp_dedup dedup;
    struct mp_map groups; /* durable name -> struct mp_stream_group */
    uint32_t next_gid;
    struct mp_service *service;
    struct mp_timer limit_timer; /* the oldest message's end */
    uint64_t proposed_first;     /* floor on its way */
    struct mp_acked *acked;      /* MP_LIMIT_ACKED: what was removed; NULL: nothing */
    struct mp_list waiters;      /* for a cold read, besides the groups */
    struct mp_list node;         /* broker's list of streams */
    uint64_t age_max_ns;         /* UINT64_MAX: messages do not expire */
    struct mp_nats *nats;        /* NULL: a partition of a station */
    uint32_t consumers_count;    /* groups that NATS clients made */
};

enum {
    MP_START_ALL,
    MP_START_NEW,
    MP_START_SEQUENCE,
    MP_START_LAST,
    MP_START_TIME,            /* these two: consumers of NATS clients only */
    MP_START_LAST_PER_SUBJECT /* asked_start: the last sequence then */
};

/* What a group was made with; the part beyond struct mp_group_config is for
 * CONSUMER.INFO. */
struct mp_stream_group_config {
    const char *name; /* durable, internal form: "billing#eu" */
    uint64_t start;   /* absolute sequence, clamped */
    struct mp_group_config group;
    uint32_t policy;      /* MP_START_* */
    uint64_t asked_start; /* MP_START_SEQUENCE: as asked */
    const char *filter;   /* NULL: "<stream>.final"; "": everything */
    bool plain;           /* made by the JetStream API, not by a Memphis request */
    const char *nats;     /* its configuration (consumer_config.h); NULL: none */
};

struct mp_stream_group {
    struct mp_stream *stream;
    uint32_t gid;
    char *name, *filter;
    char *ack_prefix; /* "$JS.ACK.<stream>.<durable>." */
    uint32_t name_size, ack_prefix_size;
    struct mp_group group;
    struct mp_pulls pulls;
    struct mp_timer timer; /* earliest of redelivery, expiry, heartbeat */
    struct mp_dying *dying; /* in the order in which they became so; a queue */
    size_t dying_first, dying_count, dying_capacity; /* both 0: none */
    uint64_t letters_from_ns; /* a full disk took none: not before then */
    bool leaving;          /* its deletion is on its way: a creation makes a new one */
    bool is_held;          /* `serving` is in the host's list `held` */
    struct mp_list serving, dirty;
    struct mp_buf ack_replies; /* subjects to answer when the next progress commits */
    struct mp_buf ack_replies_in_flight;
    uint32_t policy;
    uint64_t asked_start, created_ns, last_active_ns; /* wall time */
    bool plain;
    struct mp_consumer *nats; /* consumer.h; NULL: a group of a Memphis station */
};

void mp_stream_host_init(struct mp_stream_host *h);

/* A partition entry was applied (open): a stream with its subject service. */
struct mp_stream *mp_stream_new(struct mp_stream_host *h, struct mp_log *log,
                                uint32_t pid, const struct mp_stream_settings *s);
/* Dropped (`tell`), or the broker stops: waiting pulls hear "409 Consumer Deleted" or
 * nothing, those who wait inside for a message to be stored NOT_FOUND or CLOSED. */
void mp_stream_free(struct mp_stream *s, bool tell);

void mp_stream_settings_encode(const struct mp_stream_settings *s, struct mp_buf *out);
memphis_status mp_stream_settings_decode(struct mp_cursor *in, struct mp_arena *a,
                                         struct mp_stream_settings *out);

/* -- produce -- */

struct mp_receipt {
    memphis_status status;
    uint64_t seq;
    bool duplicate;
};
typedef void (*mp_published_fn)(void *ctx, const struct mp_receipt *r);

/* From the bus: answers on m->reply when committed (or at once with an error). */
void mp_stream_publish(struct mp_stream *s, const struct mp_message *m);
/* From inside: fn is called when committed, duplicate or refused; on the core, perhaps
 * before it returns. `id` empty: none. NULL fn: nobody waits. */
void mp_stream_produce(struct mp_stream *s, memphis_slice headers,
                       memphis_slice payload, memphis_slice id, mp_published_fn fn,
                       void *ctx);

/* Payload of a floor entry that removes all that was produced so far; the caller
 * appends it with this stream's pid. Sequences go on. */
void mp_stream_purge_encode(const struct mp_stream *s, struct mp_buf *out);
/* The same up to that sequence, which becomes the first. */
void mp_stream_floor_encode(uint64_t first, struct mp_buf *out);
/* Payload of a delete entry whose sequence is seqs[0]: ascending, at most
 * MP_STREAM_REMOVALS_MAX of them. */
enum { MP_STREAM_REMOVALS_MAX = 4096 };
void mp_stream_removal_encode(const uint64_t *seqs, size_t n, struct mp_buf *out);

/* -- the log's side: called by the broker's sink -- */

/* UNSUPPORTED: a newer release said something of a group that cannot be left out. */
memphis_status mp_stream_apply(struct mp_stream *s, const struct mp_entry *e,
                               uint64_t own_tag);
/* The log gave all appends of its streams back that were not applied. NO_SPACE: what
 * was only assumed is dropped, who waits is refused, progress is logged again a second
 * later. Otherwise their fate is unknown: nothing is answered any more. Once is enough
 * for all of them; more calls change nothing. */
void mp_stream_failed(struct mp_stream *s, memphis_status status);
void mp_stream_ready(struct mp_stream *s); /* a cold read can be asked again */
void mp_stream_wait(struct mp_stream *s, struct mp_stream_waiter *w); /* for that */
void mp_stream_state(struct mp_stream *s, struct mp_buf *out);
memphis_status mp_stream_restore(struct mp_stream *s, memphis_slice state,
                                 memphis_error *err);
void mp_stream_replay_done(struct mp_stream *s);

/* -- groups -- */

struct mp_stream_group *mp_stream_group(struct mp_stream *s, memphis_slice durable);
struct mp_stream_group *mp_stream_group_by_gid(const struct mp_stream *s, uint32_t gid);
/* Payload of a group entry; the caller appends it with this stream's pid. */
void mp_stream_group_create_encode(struct mp_stream *s,
                                   const struct mp_stream_group_config *c,
                                   struct mp_buf *out);
void mp_stream_group_update_encode(struct mp_stream_group *g,
                                   const struct mp_group_config *c, const char *nats,
                                   struct mp_buf *out);
/* The group is leaving from now on. */
void mp_stream_group_delete_encode(struct mp_stream_group *g, struct mp_buf *out);
/* Sequence at which a group with that policy starts now; `n`: sequence or last
 * messages. */
uint64_t mp_stream_start_of(const struct mp_stream *s, uint32_t policy, uint64_t n);

/* A pull: served in this turn and later; FULL is answered on the inbox too. */
void mp_stream_pull(struct mp_stream_group *g, const struct mp_pull_request *r,
                    memphis_slice inbox);

/* Takes back the waiting pulls of one inbox, without a word. */
void mp_stream_pull_cancel(struct mp_stream_group *g, memphis_slice inbox);

/* Ack subject's payload ("", "+ACK", "-NAK {...}", "+WPI", "+TERM ..."):
 * sdk-protocol 3.7. `reply`: answered when recorded (unknown ones at once). */
void mp_stream_settle(struct mp_stream_group *g, uint64_t seq, memphis_slice verdict,
                      memphis_slice reply);
/* What its consumer says of a message that it has terminated; false: it is not on its
 * way out, or its letter is. */
bool mp_stream_dying_text(struct mp_stream_group *g, uint64_t seq, memphis_slice text);
void mp_stream_bury_again(struct mp_stream *s);
/* A delivery that never reached its consumer: mp_group_return. */
void mp_stream_return(struct mp_stream_group *g, uint64_t seq, uint32_t deliveries);
uint64_t mp_stream_group_unseen(const struct mp_stream_group *g); /* num_pending */

/* -- turn -- */

/* Removes what all groups have acknowledged since the last look (MP_LIMIT_ACKED). */
void mp_streams_look(struct mp_stream_host *h);
/* Serves the groups of h->serving; those that have more for the next turn stay there.
 * A group none of whose pulls has a client with room for its next message is held back.
 */
void mp_streams_serve(struct mp_stream_host *h, uint32_t messages_max,
                      uint64_t bytes_max);
/* Logs progress of dirty groups, when somebody waits for it, when an entry is open
 * anyway, or after MP_PROGRESS_DELAY_MS. */
void mp_streams_log_progress(struct mp_stream_host *h);
void mp_streams_have_room(struct mp_stream_host *h); /* a client has: held ones go on */

#endif
