#include "stream/subjects.h"

#include "base/mem.h"
#include "base/str.h"

#include <stddef.h>

enum { MAP_BYTES = 64 }; /* of a place in the map, about */

void mp_subjects_init(struct mp_subjects *x, const uint64_t key[2], bool has_lists)
{
    memset(x, 0, sizeof(*x));
    mp_map_seed(&x->map, key[0], key[1]);
    x->has_lists = has_lists;
}

static void item_free(struct mp_subjects *x, struct mp_subject_item *i)
{
    mp_map_remove(&x->map, mp_slice(i->text, i->size));
    x->bytes -= sizeof(*i) + i->size + 1 + MAP_BYTES + i->capacity * sizeof(*i->seqs);
    mp_free(i->seqs);
    mp_free(i);
}

void mp_subjects_fini(struct mp_subjects *x)
{
    struct mp_subject_item *i;

    for (uint32_t at = 0; (i = mp_map_next(&x->map, &at)) != NULL;) {
        mp_free(i->seqs);
        mp_free(i);
    }
    mp_map_fini(&x->map);
    memset(x, 0, sizeof(*x));
}

struct mp_subject_item *mp_subjects_find(const struct mp_subjects *x, memphis_slice s)
{
    return mp_map_find(&x->map, s);
}

struct mp_subject_item *mp_subjects_next(const struct mp_subjects *x, uint32_t *at)
{
    return mp_map_next(&x->map, at);
}

static struct mp_subject_item *item_new(struct mp_subjects *x, memphis_slice s)
{
    struct mp_subject_item *i = mp_alloc(sizeof(*i) + s.size + 1);

    i->size = (uint32_t)s.size;
    memcpy(i->text, s.data, s.size);
    x->bytes += sizeof(*i) + s.size + 1 + MAP_BYTES;
    mp_map_put(&x->map, mp_slice(i->text, i->size), i);
    return i;
}

/* The place of `seq`, or of the first one above it. */
static uint32_t place_of(const struct mp_subject_item *i, uint64_t seq)
{
    uint32_t low = i->first, high = i->count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (i->seqs[middle] < seq)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void make_room(struct mp_subjects *x, struct mp_subject_item *i)
{
    if (i->count < i->capacity)
        return;
    if (i->first > i->capacity / 2) { /* the front was given up */
        memmove(i->seqs, i->seqs + i->first, (i->count - i->first) * sizeof(*i->seqs));
        i->count -= i->first;
        i->first = 0;
        return;
    }
    x->bytes -= i->capacity * sizeof(*i->seqs);
    i->capacity = i->capacity > 0 ? i->capacity * 2 : 2;
    i->seqs = mp_realloc(i->seqs, i->capacity * sizeof(*i->seqs));
    x->bytes += i->capacity * sizeof(*i->seqs);
}

struct mp_subject_item *mp_subjects_put(struct mp_subjects *x, memphis_slice s,
                                        uint64_t seq)
{
    struct mp_subject_item *i = mp_subjects_find(x, s);
    uint32_t at;

    if (i == NULL)
        i = item_new(x, s);
    if (seq > i->last)
        i->last = seq;
    if (!x->has_lists)
        return i;
    make_room(x, i);
    at = place_of(i, seq);
    memmove(i->seqs + at + 1, i->seqs + at, (i->count - at) * sizeof(*i->seqs));
    i->seqs[at] = seq;
    i->count++;
    return i;
}

struct mp_subject_item *mp_subjects_remove(struct mp_subjects *x,
                                           struct mp_subject_item *i, uint64_t seq)
{
    uint32_t at;

    if (!x->has_lists)
        return i; /* the one before it is found by a look into the stream */
    at = place_of(i, seq);
    if (at == i->count || i->seqs[at] != seq)
        return i;
    if (at == i->first) {
        i->first++;
    } else {
        memmove(i->seqs + at, i->seqs + at + 1, (i->count - at - 1) * sizeof(*i->seqs));
        i->count--;
    }
    if (i->first == i->count) {
        item_free(x, i);
        return NULL;
    }
    i->last = i->seqs[i->count - 1];
    return i;
}

void mp_subjects_trim(struct mp_subjects *x, uint64_t first)
{
    struct mp_subject_item *i;

    if (first <= x->trimmed)
        return;
    x->trimmed = first;
    for (uint32_t at = 0; (i = mp_map_next(&x->map, &at)) != NULL;) {
        if (x->has_lists)
            i->first = place_of(i, first);
        if (i->last < first)
            item_free(x, i);
    }
}

uint32_t mp_subject_count_from(const struct mp_subject_item *i, uint64_t from)
{
    return i->count - place_of(i, from);
}
