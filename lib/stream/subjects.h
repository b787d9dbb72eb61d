/* stream/subjects.h -- the index by subject of a NATS stream: what is its last message?
 *
 * A plain stream has one number per subject, the newest sequence. One that keeps at
 * most so many messages per subject has the sequences of all of them, oldest first: the
 * one that a new message drives out is the first.
 *
 *     "$KV.b.color"  ->  41 57 90        3 of at most 3: the next one drives out 41
 *
 * It is a hint and no truth: a message that went another way (age, bytes, an ack) is
 * still in it until somebody looks and does not find it. `bytes` counts what it takes;
 * the owner bounds that. Thread: core (pure).
 */
#ifndef MP_STREAM_SUBJECTS_H
#define MP_STREAM_SUBJECTS_H

#include "base/map.h"

struct mp_subject_item {
    uint64_t last;  /* newest sequence */
    uint64_t *seqs; /* with lists: ascending, items first..count */
    uint32_t first, count, capacity;
    uint32_t size;
    char text[]; /* size bytes and a zero */
};

struct mp_subjects {
    struct mp_map map; /* text -> struct mp_subject_item */
    bool has_lists;
    uint64_t bytes;
    uint64_t trimmed; /* nothing below is in it */
};

void mp_subjects_init(struct mp_subjects *x, const uint64_t key[2], bool has_lists);
void mp_subjects_fini(struct mp_subjects *x);

struct mp_subject_item *mp_subjects_find(const struct mp_subjects *x, memphis_slice s);
/* Any order; once per sequence. */
struct mp_subject_item *mp_subjects_put(struct mp_subjects *x, memphis_slice s,
                                        uint64_t seq);
/* That message is gone. Without lists nothing happens. NULL: it was the only one, and
 * the item is gone, too. */
struct mp_subject_item *mp_subjects_remove(struct mp_subjects *x,
                                           struct mp_subject_item *i, uint64_t seq);
/* Everything below is gone. */
void mp_subjects_trim(struct mp_subjects *x, uint64_t first);
/* How many sequences of the list are at or above `from`. */
uint32_t mp_subject_count_from(const struct mp_subject_item *i, uint64_t from);
struct mp_subject_item *mp_subjects_next(const struct mp_subjects *x, uint32_t *at);

#endif
