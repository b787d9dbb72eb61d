/* api/message.h -- messages, consumers, and verdicts on their way to the core.
 *
 * A message pins its consumer (or, a shown dead letter, its broker) and the memory in
 * which it lies. Thread: any, but for what is said to be the core's.
 */
#ifndef MP_API_MESSAGE_H
#define MP_API_MESSAGE_H

#include "api/handles.h"
#include "broker/dls.h"

struct memphis_message {
    memphis_broker *b;
    _Atomic uint32_t refs;
    struct mp_stored stored; /* holds a reference on its chunk */
    uint64_t time_ms;
    uint32_t partition, deliveries;
    uint32_t dead_id; /* of the letter that was sent once more; 0: it is none */
    struct memphis_consumer *c; /* names its group; pinned. NULL: of memphis_dls_each */
    memphis_message *next;
};

struct memphis_consumer {
    memphis_station *s;
    _Atomic uint32_t refs; /* the user's and one per message */
    char name[MP_NAME_MAX + 1], group[MP_NAME_MAX + 1], durable[MP_NAME_MAX + 1];
    char inbox[48];     /* also its connection id */
    uint32_t partition; /* 0: all */
    /* the core's from here on */
    struct mp_client client;
    struct mp_source source;              /* its flush ends a fetch */
    struct fetch_call *fetch;             /* one waits; NULL: none */
    memphis_message *queue, **queue_last; /* of this turn */
    uint32_t queued, pulls_open;
    struct mp_client letters_client; /* hears what is sent once more */
    memphis_message *letters, **letters_last;
    uint32_t letters_count;
    size_t letters_bytes;
    uint32_t turn; /* which partition is asked first */
    bool joined;
    struct mp_list node; /* of the broker's consumers, while joined */
};

void api_consumer_unref(memphis_consumer *c);
/* The core's: its group on that partition; NULL: removed meanwhile. */
struct mp_stream_group *api_group_of(const memphis_consumer *c, uint32_t partition);
/* The core's. `row` NULL: of no known letter. Who keeps it makes it pin a consumer, or
 * the broker: api_ref. */
memphis_message *api_message_of_letter(memphis_broker *b, const struct mp_dead_row *row,
                                       const struct mp_stored *stored);
/* What is longer than 584 years would wrap in nanoseconds. */
uint64_t api_clamp_ms(uint64_t ms);

enum { API_VERDICT_EXTEND = 100 };

struct api_verdict {
    uint32_t partition, dead_id;
    uint64_t seq;
    int32_t kind; /* MEMPHIS_ACK ..., or EXTEND */
    uint64_t delay_ms;
};

struct api_settle {
    struct api_call call;
    memphis_consumer *c; /* pinned */
    memphis_slice reason; /* MEMPHIS_DEAD, of one alone; lies behind the verdicts */
    size_t count;
    struct api_verdict verdicts[];
};

struct api_verdict api_verdict_of(const memphis_message *m, int32_t kind);
/* Verdicts are zero, which settles nothing. NULL: no memory. */
struct api_settle *api_settle_new(memphis_consumer *c, size_t count);
memphis_status api_settle_post(struct api_settle *s); /* takes it */

#endif
