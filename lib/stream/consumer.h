/* stream/consumer.h -- a group that a NATS client has made: what it does beyond one.
 *
 *   acks none, all     settled when delivered; an ack settles all before it, too
 *   backoff            each delivery waits as long as its number says
 *   filters            several; and "the last of each subject" up to where it began
 *   headers only       the payload's size instead of the payload
 *   num_pending        counted, since holes and filters make the group's distance wrong
 *   push               one standing pull on behalf of whoever hears the delivery
 *                      subject; while nobody does there is none. Flow control: after so
 *                      many bytes the client is asked to answer, and one window more
 *                      may be out
 *   ephemeral          it goes when nobody has used it for `inactive_threshold`
 *
 * Thread: core.
 */
#ifndef MP_STREAM_CONSUMER_H
#define MP_STREAM_CONSUMER_H

#include "stream/consumer_config.h"
#include "stream/stream.h"

struct mp_consumer {
    struct mp_stream_group *group;
    struct mp_consumer_config *config;
    bool takes_all; /* no filter stands in the way */
    bool is_counted;
    uint64_t unseen;  /* num_pending, when is_counted */
    uint64_t used_ns; /* broker time */
    struct mp_timer inactive;
    struct mp_buf scratch;  /* headers of one delivery */
    struct mp_list unheard; /* push: the host's list */
    uint64_t flow_bytes;    /* delivered since the last question */
    uint64_t flow_number;
    bool flow_asked; /* it is not answered */
};

/* -- called by stream.c and deliver.c -- */
void mp_consumer_new(struct mp_stream_group *g, memphis_slice text);
void mp_consumer_free(struct mp_stream_group *g);
/* After the group was made live, or at the end of the replay. */
void mp_consumer_start(struct mp_stream_group *g);
void mp_consumer_configure(struct mp_stream_group *g, memphis_slice text);
bool mp_consumer_wants(const struct mp_stream_group *g, const struct mp_entry *e);
void mp_consumer_committed(struct mp_stream_group *g, const struct mp_entry *e);
void mp_consumer_removed(struct mp_stream_group *g, uint64_t last); /* up to there */
/* Before it is handed over: headers and payload as the client is to see them. */
void mp_consumer_dress(struct mp_stream_group *g, struct mp_message *m);
/* The group has noted that delivery. */
void mp_consumer_delivered(struct mp_stream_group *g, uint64_t seq,
                           uint32_t deliveries);
void mp_consumer_flows(struct mp_stream_group *g, uint64_t size, memphis_slice to);
/* ACK_ALL: what is at or below. False: the group's usual way. */
bool mp_consumer_acked(struct mp_stream_group *g, uint64_t seq, bool *done);
bool mp_consumer_extended(struct mp_stream_group *g, uint64_t seq); /* +WPI */
bool mp_consumer_is_stalled(const struct mp_stream_group *g);
void mp_consumer_stalled_header(const struct mp_stream_group *g, struct mp_buf *out);
void mp_consumer_unheard(struct mp_stream_group *g); /* its pull found nobody */
void mp_consumer_used(struct mp_stream_group *g);

/* -- public -- */
uint64_t mp_consumer_unseen(struct mp_stream_group *g);
/* The answer to a question of flow control. */
void mp_consumer_flow(struct mp_stream_group *g);
/* Where a new group of that configuration starts. PENDING: not known yet; ask again
 * when the stream is ready. BUSY: the index it needs is not there. */
memphis_status mp_consumer_start_of(struct mp_stream *s,
                                    const struct mp_consumer_config *c, uint64_t *start,
                                    uint64_t *asked_start);

#endif
