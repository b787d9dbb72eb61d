#include "support/test.h"

#include "base/str.h"
#include "store/chunk.h"

enum { CHUNK = 1024 };

struct fixture {
    struct mp_chunks chunks;
};

static struct fixture *begin(void)
{
    static struct fixture f;

    mp_chunks_init(&f.chunks, CHUNK);
    return &f;
}

/* What the log does for an entry of `size` bytes. */
static struct mp_chunk *put(struct fixture *f, uint32_t size)
{
    struct mp_chunk *c = mp_chunks_room(&f->chunks, size);

    assert_non_null(c);
    memset(c->bytes + c->used, 0x5a, size);
    c->used += size;
    c->live++;
    return c;
}

static size_t chunks_in(const struct fixture *f)
{
    size_t n = 0;

    for (struct mp_list *l = f->chunks.all.next; l != &f->chunks.all; l = l->next)
        n++;
    return n;
}

static void a_chunk_lives_as_long_as_somebody_refers_to_it(void **state)
{
    struct mp_chunk *c = mp_chunk_new(100);

    (void)state;
    mp_chunk_ref(c);
    mp_chunk_unref(c);
    c->bytes[99] = 1;

    mp_chunk_unref(c);
    mp_chunk_unref(NULL);
}

static void entries_share_a_chunk_until_one_does_not_fit(void **state)
{
    struct fixture *f = begin();

    (void)state;
    struct mp_chunk *first = put(f, 1000);
    assert_ptr_equal(put(f, 24), first); /* exactly full */
    assert_int_equal(first->used, CHUNK);
    struct mp_chunk *second = put(f, 8);
    assert_ptr_not_equal(second, first);
    assert_false(first->is_open);
    assert_true(second->is_open);
    assert_int_equal(f->chunks.bytes, 2 * CHUNK);
    assert_ptr_equal(f->chunks.all.next, &first->node); /* in log order */
    mp_chunks_fini(&f->chunks);
    assert_int_equal(f->chunks.bytes, 0);
}

static void a_large_entry_has_a_chunk_of_its_own_size(void **state)
{
    struct fixture *f = begin();

    (void)state;
    struct mp_chunk *small = put(f, 8);
    struct mp_chunk *large = put(f, 10 * CHUNK + 8);
    assert_ptr_not_equal(large, small);
    assert_int_equal(large->size, 10 * CHUNK + 8);
    assert_ptr_not_equal(put(f, 8), large);
    mp_chunks_fini(&f->chunks);
}

static void a_sealed_chunk_goes_with_its_last_live_entry(void **state)
{
    struct fixture *f = begin();

    (void)state;
    struct mp_chunk *c = put(f, 100);
    (void)put(f, 100);
    mp_chunks_seal(&f->chunks);
    mp_chunk_drop(c);
    assert_int_equal(chunks_in(f), 1);
    mp_chunk_drop(c);
    assert_int_equal(chunks_in(f), 0);
    assert_int_equal(f->chunks.bytes, 0);
    mp_chunks_fini(&f->chunks);
}

static void the_open_chunk_stays_when_it_is_empty(void **state)
{
    struct fixture *f = begin();

    (void)state;
    struct mp_chunk *c = put(f, 100);
    mp_chunk_drop(c);
    assert_int_equal(chunks_in(f), 1);
    assert_ptr_equal(put(f, 100), c);

    mp_chunk_drop(c);
    mp_chunks_seal(&f->chunks); /* nothing lives in it: gone */
    assert_int_equal(chunks_in(f), 0);
    mp_chunks_seal(&f->chunks);
    assert_null(f->chunks.open);
    mp_chunks_fini(&f->chunks);
}

static void a_reader_keeps_the_bytes_that_the_log_let_go(void **state)
{
    struct fixture *f = begin();

    (void)state;
    struct mp_chunk *c = put(f, 100);
    mp_chunk_ref(c);
    mp_chunks_seal(&f->chunks);
    mp_chunk_drop(c);
    assert_int_equal(f->chunks.bytes, 0);
    assert_int_equal(c->bytes[99], 0x5a);
    mp_chunk_unref(c);
    mp_chunks_fini(&f->chunks);
}

static void without_memory_the_open_chunk_is_as_before(void **state)
{
    struct fixture *f = begin();

    (void)state;
    struct mp_chunk *c = put(f, 1000);
    atomic_store(&mp_heap_current()->fail_in, 1);
    assert_null(mp_chunks_room(&f->chunks, 100));
    assert_ptr_equal(f->chunks.open, c);
    assert_ptr_equal(mp_chunks_room(&f->chunks, 24), c);
    assert_int_equal(f->chunks.bytes, CHUNK);
    mp_chunks_fini(&f->chunks);
}

static void one_reference_too_few_is_a_bug(void **state)
{
    struct mp_chunk *c = mp_chunk_new(8);

    (void)state;
    expect_assert_failure(mp_chunk_drop(c)); /* nothing is live in it */
    expect_assert_failure(mp_chunk_new(0));
    mp_chunk_unref(c);
}

static void an_unused_list_can_be_ended(void **state)
{
    struct mp_chunks never = { .open = NULL };

    (void)state;
    mp_chunks_fini(&never);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(a_chunk_lives_as_long_as_somebody_refers_to_it),
        leak_checked(entries_share_a_chunk_until_one_does_not_fit),
        leak_checked(a_large_entry_has_a_chunk_of_its_own_size),
        leak_checked(a_sealed_chunk_goes_with_its_last_live_entry),
        leak_checked(the_open_chunk_stays_when_it_is_empty),
        leak_checked(a_reader_keeps_the_bytes_that_the_log_let_go),
        leak_checked(without_memory_the_open_chunk_is_as_before),
        leak_checked(one_reference_too_few_is_a_bug),
        leak_checked(an_unused_list_can_be_ended),
    };

    return run_tests("store/chunk", tests);
}
