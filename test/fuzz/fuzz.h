/* fuzz/fuzz.h -- what the fuzz targets share.
 *
 * A target is a file fuzz_<name>.c with LLVMFuzzerTestOneInput and fuzz_seed; it runs
 * under libFuzzer or with the main of standalone.c (rules.mk, test/fuzz/run). Inputs
 * that once found something lie in corpus/<name>/ and are played again in every run. */
#ifndef TEST_FUZZ_FUZZ_H
#define TEST_FUZZ_FUZZ_H

#include "base/buf.h"
#include "base/str.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FUZZ_SEED_MAX = 16384 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* The i-th of the target's own first inputs; its size, 0: there are no more. */
size_t fuzz_seed(size_t i, uint8_t out[FUZZ_SEED_MAX]);

static inline void check(bool ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "fuzz: %s\n", what);
    abort();
}

static inline void check_inside(memphis_slice part, memphis_slice whole)
{
    const uint8_t *p = part.data, *w = whole.data;

    check(part.size == 0 || (p >= w && p + part.size <= w + whole.size),
          "a slice points out of the input");
}

/* A block of exactly that size, so that a read behind it is seen. */
static inline uint8_t *exact_copy(memphis_slice s)
{
    uint8_t *copy = calloc(1, s.size > 0 ? s.size : 1);

    check(copy != NULL, "no memory");
    if (s.size > 0)
        memcpy(copy, s.data, s.size);
    return copy;
}

/* Whether the rest is items {tag u16, length u32, value}, the last one whole. */
static inline bool are_items(struct mp_cursor c)
{
    while (mp_cursor_left(&c) > 0 && !c.bad) {
        mp_cursor_u16(&c);
        mp_cursor_take(&c, mp_cursor_u32(&c));
    }
    return !c.bad;
}

#endif
