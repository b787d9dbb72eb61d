#include "store/ranges.h"

#include "base/assert.h"
#include "base/mem.h"

#include <string.h>

void mp_ranges_fini(struct mp_ranges *r)
{
    mp_free(r->items);
    *r = (struct mp_ranges){ 0 };
}

/* The first range that ends at or above `seq`. */
static size_t find(const struct mp_ranges *r, uint64_t seq)
{
    size_t low = 0, high = r->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (r->items[middle].last < seq)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void insert(struct mp_ranges *r, size_t at, struct mp_range range)
{
    if (r->count == r->capacity) {
        r->capacity = r->capacity > 0 ? r->capacity * 2 : 8;
        r->items = mp_realloc(r->items, r->capacity * sizeof *r->items);
    }
    memmove(&r->items[at + 1], &r->items[at], (r->count - at) * sizeof *r->items);
    r->items[at] = range;
    r->count++;
}

void mp_ranges_add(struct mp_ranges *r, uint64_t first, uint64_t last)
{
    size_t at = find(r, first > 0 ? first - 1 : 0); /* neighbours grow together */
    size_t end = at;

    mp_assert(first <= last);
    while (end < r->count && r->items[end].first <= last + 1) {
        struct mp_range *k = &r->items[end++];
        first = k->first < first ? k->first : first;
        last = k->last > last ? k->last : last;
        r->total -= k->last - k->first + 1;
    }
    r->total += last - first + 1;
    if (end == at) {
        insert(r, at, (struct mp_range){ first, last });
        return;
    }
    r->items[at] = (struct mp_range){ first, last };
    memmove(&r->items[at + 1], &r->items[end], (r->count - end) * sizeof *r->items);
    r->count -= end - at - 1;
}

void mp_ranges_trim(struct mp_ranges *r, uint64_t first)
{
    size_t at = find(r, first);

    for (size_t i = 0; i < at; i++)
        r->total -= r->items[i].last - r->items[i].first + 1;
    if (at > 0) {
        memmove(r->items, &r->items[at], (r->count - at) * sizeof *r->items);
        r->count -= at;
    }
    if (r->count > 0 && r->items[0].first < first) {
        r->total -= first - r->items[0].first;
        r->items[0].first = first;
    }
}

void mp_ranges_cut(struct mp_ranges *r, uint64_t end)
{
    while (r->count > 0 && r->items[r->count - 1].last >= end) {
        struct mp_range *last = &r->items[r->count - 1];
        uint64_t from = last->first > end ? last->first : end;
        r->total -= last->last - from + 1;
        last->last = from - 1;
        if (last->first == from)
            r->count--;
    }
}

uint64_t mp_ranges_skip(const struct mp_ranges *r, uint64_t seq)
{
    size_t at = find(r, seq);

    if (at < r->count && r->items[at].first <= seq)
        return r->items[at].last + 1;
    return seq;
}
