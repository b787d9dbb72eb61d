/* stream/nats.h -- a stream that a NATS client has made: what it does beyond a
 * partition.
 *
 *   its own subjects     a service for each; other services go before it
 *   several limits       age, messages, bytes, per subject; discard old or new
 *   guards of a publish  Nats-Expected-..., Nats-Rollup, checked against what is given
 *                        out already, committed or not
 *   index by subject     subjects.h: filled as messages are stored; after a start by a
 *                        scan, while which guards by subject hear "unavailable"
 *
 * What a message drives out (a rollup, the limit per subject) is removed by a delete
 * entry in the message's own append: both or none, and no reader sees one too many.
 *
 * A partition of a Memphis station has none of this and pays nothing for it.
 * Thread: core.
 */
#ifndef MP_STREAM_NATS_H
#define MP_STREAM_NATS_H

#include "stream/nats_config.h"
#include "stream/scan.h"
#include "stream/subjects.h"

struct mp_nats {
    struct mp_stream *stream;
    struct mp_nats_config *config;
    struct mp_service **services; /* one per subject */
    uint32_t services_count;
    mp_service_fn on_publish;
    struct mp_subjects subjects;
    uint64_t counted_bytes; /* of the index, in the host's sum */
    bool is_indexed;        /* the index knows all there is */
    bool has_given_up;      /* it was too large */
    bool has_dead;          /* messages in it have gone another way */
    struct mp_scan *building;
    uint64_t waiting_bytes; /* given out, not committed */
    struct mp_ranges done;  /* work queue: acknowledged, to be removed */
};

/* What a publish can be refused with (sdk-protocol 3.4 and 7.1). */
struct mp_refusal {
    memphis_status status;
    int code, err_code;
    const char *text;
};

/* -- called by stream.c and publish.c -- */
void mp_nats_new(struct mp_stream *s, mp_service_fn on_publish); /* settings.nats */
void mp_nats_free(struct mp_stream *s);                          /* none: nothing */
void mp_nats_start(struct mp_stream *s);  /* what is stored is indexed */
void mp_nats_failed(struct mp_stream *s); /* what was given out is not stored */
void mp_nats_committed(struct mp_stream *s, const struct mp_entry *e);
void mp_nats_deleted(struct mp_stream *s, uint64_t own_tag); /* some, committed */
void mp_nats_limits(struct mp_stream *s);
/* NULL: it may be stored; else why not, and `detail` behind that. */
const struct mp_refusal *mp_nats_refusal(struct mp_stream *s,
                                         const struct mp_message *m, char detail[24]);
/* The entry that goes with message `e`: *more, its bytes in *payload. 0 or 1. */
size_t mp_nats_driven_out(struct mp_stream *s, const struct mp_entry *e,
                          struct mp_entry *more, struct mp_buf *payload);
void mp_nats_stored(struct mp_stream *s, const struct mp_entry *e); /* given out */

/* -- public -- */
/* A new configuration has been committed. Not `live`: a replay goes on, and
 * mp_nats_start comes at its end. */
void mp_nats_configure(struct mp_stream *s, const char *text, bool live);
/* The newest message of a subject, committed or not; 0: none. False: not known now. */
bool mp_nats_last_of(struct mp_stream *s, memphis_slice subject, uint64_t *seq);
/* The work queue lets go of it with the group's next progress. */
void mp_nats_settled(struct mp_stream *s, uint64_t seq);
size_t mp_nats_done_entry(struct mp_stream *s, struct mp_entry *e,
                          struct mp_buf *payload);
/* What is not there any more leaves the lists; before they are counted. */
void mp_nats_weed(struct mp_stream *s);
/* Subjects that have messages; without lists perhaps some too many. */
uint64_t mp_nats_subjects_count(struct mp_stream *s);

#endif
