/* stream/pending.h -- the set of delivered, unsettled messages of one group.
 *
 * Every unsettled sequence is in exactly one place:
 *
 *   WAITING    delivered; in delivery order, which is deadline order, because the ack
 *              wait is one number for the group: the head is the next to expire
 *   DELAYED    due at a time of its own (nack with delay); in a heap by due time
 *   COUNTING   due again for the third time or later: goes out when its count is
 *              durable
 *   READY      due again: first in, first out
 *   DYING      never to be delivered again: leaves when its dead letter is durable
 *
 * Items live in pages of 128 sequences behind a directory, so a lookup by sequence is
 * two array steps, a page whose messages are all settled is given back, and one message
 * that stays for days costs one page. Links are the low 32 bits of the sequence: oldest
 * and newest item lie at most MP_PENDING_WINDOW_MAX apart (the caller sees to it).
 *
 * Invariants (mp_pending_check): list lengths add up to `count`; the WAITING list is in
 * order of time; a page knows how many of its items are used.
 *
 * Thread: core (pure).
 */
#ifndef MP_STREAM_PENDING_H
#define MP_STREAM_PENDING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum mp_pending_state {
    MP_PENDING_NONE,
    MP_PENDING_WAITING,
    MP_PENDING_DELAYED,
    MP_PENDING_COUNTING,
    MP_PENDING_READY,
    MP_PENDING_DYING,
    MP_PENDING_STATES
};

enum {
    MP_PENDING_TOUCHED = 1, /* to be named in the next progress */
    MP_PENDING_RETURNED = 2, /* came back unseen: the log may say so, name it always */
    MP_PENDING_BURIED = 4    /* DYING: a progress that settles it is on its way */
};

struct mp_pending_item {
    uint64_t time_ns;    /* WAITING: delivered at; DELAYED: due at; broker time */
    uint32_t prev, next; /* in its list: low bits of the sequences */
    uint32_t dseq;       /* low bits of the delivery sequence of the last delivery */
    uint16_t deliveries;
    uint8_t state;
    uint8_t flags; /* MP_PENDING_TOUCHED, ... */
};

struct mp_pending_list {
    uint32_t first, last; /* low bits; meaningful when count > 0 */
    uint64_t count;
};

struct mp_pending_page;
struct mp_pending_due {
    uint64_t time_ns, seq;
};

struct mp_pending {
    struct mp_pending_page **pages; /* ring, pages_capacity is a power of two */
    uint64_t first_page; /* number (seq / 128) of the oldest directory slot */
    uint32_t pages_count, pages_capacity;
    struct mp_pending_page *spare;
    struct mp_pending_list lists[MP_PENDING_STATES];
    struct mp_pending_due *heap; /* DELAYED; an item that moved on leaves a stale one */
    size_t heap_count, heap_capacity;
    uint64_t count;
};

#define MP_PENDING_WINDOW_MAX (1ull << 31)

void mp_pending_init(struct mp_pending *p);
void mp_pending_fini(struct mp_pending *p);

/* A new item at the tail of `state`'s list. The sequence is not in the set. */
struct mp_pending_item *mp_pending_add(struct mp_pending *p, uint64_t seq,
                                       enum mp_pending_state state, uint64_t time_ns);
struct mp_pending_item *mp_pending_find(const struct mp_pending *p, uint64_t seq);
void mp_pending_move(struct mp_pending *p, uint64_t seq, struct mp_pending_item *i,
                     enum mp_pending_state to, uint64_t time_ns);
void mp_pending_remove(struct mp_pending *p, uint64_t seq);

/* Oldest of a list (all but DELAYED). False: empty. */
bool mp_pending_first(const struct mp_pending *p, enum mp_pending_state s,
                      uint64_t *seq);
/* The next one of the same list. False: it was the last. */
bool mp_pending_after(const struct mp_pending *p, const struct mp_pending_item *i,
                      uint64_t *seq);
/* DELAYED: the one that is due first. False: none. */
bool mp_pending_due(struct mp_pending *p, uint64_t *seq, uint64_t *time_ns);

/* Lowest item at or above `from`. False: none. */
bool mp_pending_lowest(const struct mp_pending *p, uint64_t from, uint64_t *seq);

void mp_pending_check(const struct mp_pending *p);

#endif
