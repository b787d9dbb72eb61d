#include "stream/pull.h"

#include "base/assert.h"
#include "base/limits.h"
#include "base/mem.h"

#include <string.h>

static struct mp_pull *of_ring(struct mp_list *l)
{
    return mp_container_of(l, struct mp_pull, ring);
}

static uint64_t due_of(const struct mp_pull *q)
{
    return q->beat_at_ns < q->expires_at_ns ? q->beat_at_ns : q->expires_at_ns;
}

void mp_pulls_init(struct mp_pulls *p)
{
    mp_list_init(&p->ring);
    p->count = 0;
}

void mp_pulls_fini(struct mp_pulls *p)
{
    struct mp_pull *q;

    while ((q = mp_pull_head(p)) != NULL)
        mp_pull_remove(p, q);
}

/* A little late: nats-py asks for 0.1 ms less than it waits itself, and takes an end
 * that comes in between for an error without a text (sdk-protocol 3.5). */
static uint64_t expiry(const struct mp_pull_request *r, uint64_t now_ns)
{
    if (!r->has_expires || r->expires_ns >= UINT64_MAX - MP_PULL_LATE_NS - now_ns)
        return UINT64_MAX;
    return now_ns + r->expires_ns + (r->expires_ns > 0 ? MP_PULL_LATE_NS : 0);
}

memphis_status mp_pull_add(struct mp_pulls *p, const struct mp_pull_request *r,
                           memphis_slice inbox, uint64_t now_ns, struct mp_pull **out)
{
    struct mp_pull *q;

    mp_assert(r->batch >= 1);
    mp_assert(inbox.size > 0 && inbox.size <= MP_CONTROL_LINE_MAX);
    if (p->count >= MP_PULLS_WAITING_MAX)
        return MEMPHIS_FULL;
    q = mp_alloc(sizeof(*q) + inbox.size);
    q->left = r->batch;
    q->expires_at_ns = expiry(r, now_ns);
    q->bytes_left = r->bytes_max > 0 ? r->bytes_max : UINT64_MAX;
    q->heartbeat_ns = r->heartbeat_ns;
    q->beat_at_ns = r->heartbeat_ns > 0 ? now_ns + r->heartbeat_ns : UINT64_MAX;
    q->no_wait = r->no_wait;
    q->inbox_size = (uint32_t)inbox.size;
    memcpy(q->inbox, inbox.data, inbox.size);
    mp_list_push_back(&p->ring, &q->ring);
    p->count++;
    *out = q;
    return MEMPHIS_OK;
}

struct mp_pull *mp_pull_head(const struct mp_pulls *p)
{
    return p->count == 0 ? NULL : of_ring(p->ring.next);
}

bool mp_pull_served(struct mp_pulls *p, struct mp_pull *q, uint64_t bytes,
                    uint64_t now_ns)
{
    mp_assert(q->left > 0 && bytes <= q->bytes_left);
    q->left--;
    q->sent++;
    if (q->bytes_left != UINT64_MAX)
        q->bytes_left -= bytes;
    if (q->heartbeat_ns > 0)
        q->beat_at_ns = now_ns + q->heartbeat_ns; /* a message restarts the interval */
    if (q->is_standing)
        q->left = 1;
    if (q->left == 0) {
        mp_pull_remove(p, q);
        return true;
    }
    mp_pull_rotate(p, q);
    return false;
}

void mp_pull_rotate(struct mp_pulls *p, struct mp_pull *q)
{
    mp_list_remove(&q->ring);
    mp_list_push_back(&p->ring, &q->ring);
}

void mp_pull_remove(struct mp_pulls *p, struct mp_pull *q)
{
    mp_assert(p->count > 0);
    mp_list_remove(&q->ring);
    p->count--;
    mp_free(q);
}

enum mp_pull_end mp_pull_tick(struct mp_pull *q, uint64_t now_ns)
{
    if (now_ns >= q->expires_at_ns)
        return MP_PULL_EXPIRED;
    if (now_ns < q->beat_at_ns)
        return MP_PULL_GOES_ON;
    q->beat_at_ns = now_ns + q->heartbeat_ns;
    return MP_PULL_BEAT;
}

uint64_t mp_pulls_due_ns(const struct mp_pulls *p)
{
    uint64_t due = UINT64_MAX;

    for (struct mp_list *l = p->ring.next; l != &p->ring; l = l->next)
        if (due_of(of_ring(l)) < due)
            due = due_of(of_ring(l));
    return due;
}
