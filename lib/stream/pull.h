/* stream/pull.h -- pull requests that wait at one group.
 *
 * A consumer asks for up to `batch` messages; they go to its inbox as they come. The
 * requests form a ring: each message goes to the head, and a request that wants more
 * goes to the tail, so members share messages one by one (broker-semantics 4.2).
 *
 *   ends with              when
 *   (nothing)              batch complete: the client counts
 *   404 No Messages        no_wait without expiry and nothing there
 *   408 Request Timeout    expired, or no_wait that got some but not all
 *   409 ...                limits, deletion
 *   100 Idle Heartbeat     goes on waiting
 *
 * The texts are sent by stream.c; this file decides what and when. Thread: core (pure).
 */
#ifndef MP_STREAM_PULL_H
#define MP_STREAM_PULL_H

#include "base/list.h"

#include <memphis/status.h>

struct mp_pull_request { /* as asked; 0 where absent */
    uint32_t batch;      /* at least 1 */
    uint64_t expires_ns; /* UINT64_MAX: never; 0 with has_expires: at once */
    bool has_expires, no_wait;
    uint64_t bytes_max; /* 0: no bound */
    uint64_t heartbeat_ns;
};

enum { MP_PULL_LATE_NS = 2000000 };

struct mp_pull {
    struct mp_list ring;
    uint32_t left; /* messages not delivered yet */
    uint32_t sent;
    uint64_t expires_at_ns; /* UINT64_MAX: never */
    uint64_t bytes_left;    /* UINT64_MAX: no bound */
    uint64_t heartbeat_ns, beat_at_ns;
    bool no_wait;
    bool is_standing; /* of a push consumer: never complete */
    uint32_t inbox_size;
    char inbox[];
};

struct mp_pulls {
    struct mp_list ring; /* head is served next */
    uint32_t count;
};

enum mp_pull_end {
    MP_PULL_GOES_ON,
    MP_PULL_BEAT,    /* send 100, goes on */
    MP_PULL_EXPIRED, /* send 408, then mp_pull_remove */
};

void mp_pulls_init(struct mp_pulls *p);
void mp_pulls_fini(struct mp_pulls *p);

/* Queues it at the tail. FULL: MP_PULLS_WAITING_MAX are waiting. */
memphis_status mp_pull_add(struct mp_pulls *p, const struct mp_pull_request *r,
                           memphis_slice inbox, uint64_t now_ns, struct mp_pull **out);
struct mp_pull *mp_pull_head(const struct mp_pulls *p); /* NULL: none */
/* One message of `bytes` went to it. True: complete, and removed. */
bool mp_pull_served(struct mp_pulls *p, struct mp_pull *q, uint64_t bytes,
                    uint64_t now_ns);
void mp_pull_rotate(struct mp_pulls *p, struct mp_pull *q); /* to the tail, unserved */
void mp_pull_remove(struct mp_pulls *p, struct mp_pull *q); /* frees it */

/* What this pull needs at now_ns; a beat is counted as sent. */
enum mp_pull_end mp_pull_tick(struct mp_pull *q, uint64_t now_ns);
/* Earliest time at which a tick has something to do; UINT64_MAX: none. At most 512
 * steps. */
uint64_t mp_pulls_due_ns(const struct mp_pulls *p);

#endif
