/* store/ranges.h -- a set of sequences as sorted, disjoint ranges. Pure. */
#ifndef MP_STORE_RANGES_H
#define MP_STORE_RANGES_H

#include <stddef.h>
#include <stdint.h>

struct mp_range {
    uint64_t first, last;     /* both inside */
};

struct mp_ranges {
    struct mp_range *items;
    size_t count, capacity;
    uint64_t total;           /* sequences in all of them */
};

void mp_ranges_fini(struct mp_ranges *r);
void mp_ranges_add(struct mp_ranges *r, uint64_t first,
                   uint64_t last);                        /* may overlap */
void mp_ranges_trim(struct mp_ranges *r, uint64_t first); /* drops what is below */
void mp_ranges_cut(struct mp_ranges *r, uint64_t end);    /* what is at or above */
/* The first sequence at or above `seq` that is in no range. */
uint64_t mp_ranges_skip(const struct mp_ranges *r, uint64_t seq);

#endif
