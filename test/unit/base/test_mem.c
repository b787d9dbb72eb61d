#include "support/test.h"

#include <pthread.h>
#include <stdlib.h>

/* Hooks that count and can refuse. */
struct hooks {
    uint64_t allocs, reallocs, frees;
    bool refuse;
};

static void *hook_alloc(void *ctx, size_t size)
{
    struct hooks *h = ctx;

    h->allocs++;
    return h->refuse ? NULL : malloc(size);
}

static void *hook_realloc(void *ctx, void *p, size_t size)
{
    struct hooks *h = ctx;

    h->reallocs++;
    return h->refuse ? NULL : realloc(p, size);
}

static void hook_free(void *ctx, void *p)
{
    ((struct hooks *)ctx)->frees++;
    free(p);
}

static memphis_allocator allocator_of(struct hooks *h)
{
    return (memphis_allocator){ hook_alloc, hook_realloc, hook_free, h, { 0 } };
}

static bool is_filled(const uint8_t *p, size_t size, uint8_t with)
{
    for (size_t i = 0; i < size; i++)
        if (p[i] != with)
            return false;
    return true;
}

static void a_block_is_aligned_and_zeroed_whatever_its_size(void **state)
{
    static const size_t sizes[] = { 0, 1, 15, 16, 17, 4096, 1 << 20 };

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (int round = 0; round < 2; round++) { /* the second gets used memory */
            uint8_t *p = mp_alloc(sizes[i]);
            assert_non_null(p);
            assert_int_equal((uintptr_t)p % 16, 0);
            assert_true(is_filled(p, sizes[i], 0));
            memset(p, 0xff, sizes[i]);
            mp_free(p);
        }
        void *q = mp_alloc_try(sizes[i]);
        assert_int_equal((uintptr_t)q % 16, 0);
        mp_free(q);
    }
    mp_free(NULL);
}

static void realloc_keeps_the_bytes_and_the_alignment(void **state)
{
    uint8_t *p = mp_realloc(NULL, 3);

    (void)state;
    memcpy(p, "abc", 3);
    for (size_t size = 4; size < 100000; size = size * 3) {
        p = mp_realloc(p, size);
        assert_int_equal((uintptr_t)p % 16, 0);
        assert_memory_equal(p, "abc", 3);
    }
    p = mp_realloc_try(p, 2);
    assert_memory_equal(p, "ab", 2);
    p = mp_realloc(p, 0);
    assert_non_null(p);
    assert_int_equal(mp_heap_current()->live_blocks, 1);
    mp_free(p);
}

static void strings_are_copied_with_a_zero_at_the_end(void **state)
{
    char *a = mp_strdup("station");
    char *b = mp_strndup("station", 3);
    char *c = mp_strndup(NULL, 0);

    (void)state;
    assert_string_equal(a, "station");
    assert_string_equal(b, "sta");
    assert_string_equal(c, "");
    mp_free(a);
    mp_free(b);
    mp_free(c);
}

static void a_heap_knows_what_is_in_use(void **state)
{
    struct mp_heap heap;

    (void)state;
    mp_heap_init(&heap, NULL);
    struct mp_heap *before = mp_heap_enter(&heap);
    assert_ptr_equal(mp_heap_current(), &heap);
    void *a = mp_alloc(100), *b = mp_alloc_try(1000);
    assert_int_equal(heap.live_blocks, 2);
    assert_int_equal(heap.used_bytes, 1100 + 2 * 16); /* the headers count */
    b = mp_realloc(b, 10);
    assert_int_equal(heap.used_bytes, 110 + 2 * 16);
    mp_heap_enter(before);
    mp_free(a); /* needs no heap */
    b = mp_realloc(b, 500);
    assert_int_equal(heap.used_bytes, 500 + 16);
    mp_free(b);
    assert_int_equal(heap.live_blocks, 0);
    assert_int_equal(heap.used_bytes, 0);
}

static void heaps_are_entered_and_left_like_a_stack(void **state)
{
    struct mp_heap a, b, *process = mp_heap_current();

    (void)state;
    mp_heap_init(&a, NULL);
    mp_heap_init(&b, NULL);
    struct mp_heap *before_a = mp_heap_enter(&a);
    struct mp_heap *before_b = mp_heap_enter(&b);
    assert_ptr_equal(before_b, &a);
    mp_heap_enter(before_b);
    assert_ptr_equal(mp_heap_current(), &a);
    mp_heap_enter(NULL);
    assert_ptr_equal(mp_heap_current(), process);
    mp_heap_enter(before_a);
    assert_ptr_equal(mp_heap_current(), process);
}

static void the_hooks_of_an_embedder_get_every_call(void **state)
{
    struct hooks counts = { 0 };
    memphis_allocator hooks = allocator_of(&counts);
    struct mp_heap heap;

    (void)state;
    mp_heap_init(&heap, &hooks);
    struct mp_heap *before = mp_heap_enter(&heap);
    void *p = mp_alloc(10);
    p = mp_realloc(p, 20);
    void *kept = mp_alloc_try(5);
    counts.refuse = true;
    assert_null(mp_alloc_try(5));
    assert_null(mp_realloc_try(kept, 50));
    counts.refuse = false;
    assert_int_equal(heap.live_blocks, 2);
    assert_int_equal(heap.used_bytes, 25 + 32);
    mp_free(kept);
    mp_free(p);
    mp_heap_enter(before);
    assert_int_equal(counts.allocs, 3);
    assert_int_equal(counts.reallocs, 2);
    assert_int_equal(counts.frees, 2);
    assert_int_equal(heap.used_bytes, 0);
}

static void a_size_that_no_object_can_have_is_refused(void **state)
{
    char *p = mp_strdup("kept");

    (void)state;
    for (size_t less = 0; less < 40; less++) {
        assert_null(mp_alloc_try(SIZE_MAX - less));
        assert_null(mp_realloc_try(p, SIZE_MAX - less));
    }
    assert_null(mp_alloc_try((size_t)PTRDIFF_MAX));
    assert_string_equal(p, "kept");
    mp_free(p);
}

/* Three allocations of different kinds; the blocks stay in slots. */
static void allocate_three(void *ctx)
{
    void **slots = ctx;

    slots[0] = mp_alloc(10);
    slots[1] = mp_realloc(NULL, 10);
    slots[1] = mp_realloc(slots[1], 2000);
}

static void the_planned_allocation_fails_and_lands_in_the_guard(void **state)
{
    (void)state;
    for (int64_t n = 1; n <= 4; n++) {
        void *slots[2] = { NULL, NULL };
        struct mp_heap heap;

        mp_heap_init(&heap, NULL);
        heap.fail_in = n;
        memphis_status s = mp_guard_run(&heap, allocate_three, slots, NULL);
        assert_int_equal(s, n <= 3 ? MEMPHIS_NOMEM : MEMPHIS_OK);
        assert_int_equal(heap.failed, n <= 3);
        assert_int_equal(heap.live_blocks, n == 1 ? 0 : n == 2 ? 1 : 2);
        mp_free(slots[0]);
        mp_free(slots[1]);
        assert_int_equal(heap.used_bytes, 0);
    }
}

static void a_planned_fault_happens_once(void **state)
{
    struct mp_heap heap;

    (void)state;
    mp_heap_init(&heap, NULL);
    struct mp_heap *before = mp_heap_enter(&heap);
    void *first = mp_alloc_try(1);
    heap.fail_in = 2;
    void *second = mp_alloc_try(1);
    assert_non_null(second);
    assert_false(heap.failed);
    assert_null(mp_realloc_try(second, 2));
    assert_true(heap.failed);
    second = mp_realloc_try(second, 2);
    assert_non_null(second);
    mp_heap_enter(before);
    mp_free(first);
    mp_free(second);
}

static void an_arena_gives_zeroed_aligned_blocks_that_do_not_overlap(void **state)
{
    struct mp_arena a = { 0 };
    uint8_t *blocks[300];

    (void)state;
    for (size_t i = 0; i < 300; i++) {
        size_t size = i * i % 1999;
        blocks[i] = mp_arena_alloc(&a, size);
        assert_int_equal((uintptr_t)blocks[i] % 16, 0);
        assert_true(is_filled(blocks[i], size, 0));
        memset(blocks[i], (int)(i | 1), size);
    }
    for (size_t i = 0; i < 300; i++)
        assert_true(is_filled(blocks[i], i * i % 1999, (uint8_t)(i | 1)));
    assert_true(mp_heap_current()->live_blocks < 300);
    mp_arena_fini(&a);
    assert_null(a.blocks);
}

static void small_blocks_of_an_arena_share_one_block_of_the_heap(void **state)
{
    struct mp_arena a = { 0 };

    (void)state;
    for (size_t i = 0; i < 20; i++)
        mp_arena_alloc(&a, 16);
    assert_int_equal(mp_heap_current()->live_blocks, 1);
    mp_arena_alloc(&a, 100000);
    for (size_t i = 0; i < 20; i++)
        mp_arena_alloc(&a, 16); /* the first block has room left and stays in use */
    assert_int_equal(mp_heap_current()->live_blocks, 2);
    assert_string_equal(mp_arena_strndup(&a, "orders and more", 6), "orders");
    assert_string_equal(mp_arena_strndup(&a, NULL, 0), "");
    mp_arena_fini(&a);
    mp_arena_fini(&a);
}

static void ask_arena_for_everything(void *ctx)
{
    mp_arena_alloc(ctx, SIZE_MAX - 3);
}

static void an_arena_without_memory_lands_in_the_guard(void **state)
{
    struct mp_arena a = { 0 };

    (void)state;
    mp_arena_alloc(&a, 10);
    assert_int_equal(mp_guard_run(NULL, ask_arena_for_everything, &a, NULL),
                     MEMPHIS_NOMEM);
    mp_arena_fini(&a);
}

struct job {
    struct mp_heap *heap;
    void *blocks[1000];
};

static void *allocate_on_a_thread(void *ctx)
{
    struct job *j = ctx;

    mp_heap_enter(j->heap);
    for (size_t i = 0; i < 1000; i++)
        j->blocks[i] = mp_alloc(i);
    return NULL;
}

static void blocks_may_be_freed_on_another_thread(void **state)
{
    static struct job jobs[4];
    pthread_t threads[4];
    struct mp_heap heap;

    (void)state;
    mp_heap_init(&heap, NULL);
    for (size_t i = 0; i < 4; i++) {
        jobs[i].heap = &heap;
        assert_int_equal(
            pthread_create(&threads[i], NULL, allocate_on_a_thread, &jobs[i]), 0);
    }
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(heap.live_blocks, 4000);
    for (size_t i = 0; i < 4; i++)
        for (size_t k = 0; k < 1000; k++)
            mp_free(jobs[i].blocks[k]);
    assert_int_equal(heap.live_blocks, 0);
    assert_int_equal(heap.used_bytes, 0);
}

static const struct CMUnitTest tests[] = {
    leak_checked(a_block_is_aligned_and_zeroed_whatever_its_size),
    leak_checked(realloc_keeps_the_bytes_and_the_alignment),
    leak_checked(strings_are_copied_with_a_zero_at_the_end),
    leak_checked(a_heap_knows_what_is_in_use),
    leak_checked(heaps_are_entered_and_left_like_a_stack),
    leak_checked(the_hooks_of_an_embedder_get_every_call),
    leak_checked(a_size_that_no_object_can_have_is_refused),
    leak_checked(the_planned_allocation_fails_and_lands_in_the_guard),
    leak_checked(a_planned_fault_happens_once),
    leak_checked(an_arena_gives_zeroed_aligned_blocks_that_do_not_overlap),
    leak_checked(small_blocks_of_an_arena_share_one_block_of_the_heap),
    leak_checked(an_arena_without_memory_lands_in_the_guard),
    leak_checked(blocks_may_be_freed_on_another_thread),
};

int main(void)
{
    return run_tests("base/mem", tests);
}
