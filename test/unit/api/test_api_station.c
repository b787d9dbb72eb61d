#include "support/broker.h"

#include "api/api.h"

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

struct world {
    struct test_world w;
    memphis_station *s;
    memphis_producer *p;
    memphis_error err;
};

static struct world *begin(int mode, bool on_disk, uint32_t partitions)
{
    static struct world x;
    memphis_station_options o = { .partitions = partitions };

    x = (struct world){ .s = NULL };
    test_world_init(&x.w, mode, on_disk);
    assert_int_equal(test_world_open(&x.w), MEMPHIS_OK);
    assert_int_equal(memphis_station_create(x.w.b, "Orders", &o, &x.s, &x.err),
                     MEMPHIS_OK);
    assert_int_equal(memphis_producer_open(x.s, "P", &x.p, &x.err), MEMPHIS_OK);
    return &x;
}

static void end(struct world *x)
{
    memphis_producer_close(x->p);
    memphis_station_close(x->s);
    test_world_end(&x->w);
}

static memphis_status produce(struct world *x, const memphis_produce_options *o,
                              memphis_receipt *r)
{
    x->err = (memphis_error){ 0 };
    memphis_status st = memphis_produce(x->p, "body", 4, o, r, &x->err);
    assert_int_equal(x->err.status, st);
    return st;
}

/* -- stations ---------------------------------------------------------------------- */

static void a_station_is_made_once_and_opened_by_either_spelling(void **state)
{
    (void)state;
    for (int mode = 0; mode < TEST_MODES; mode++) {
        struct world *x = begin(mode, true, 3);
        memphis_station_options new_one = { .must_be_new = 1 }, other = {
            .partitions = 7 };
        memphis_station *s;
        assert_string_equal(memphis_station_name(x->s), "orders");
        assert_int_equal(memphis_station_partitions(x->s), 3);
        assert_int_equal(memphis_station_create(x->w.b, "ORDERS", &new_one, &s,
                                                &x->err), MEMPHIS_EXISTS);
        assert_int_equal(x->err.status, MEMPHIS_EXISTS);
        assert_int_equal(memphis_station_create(x->w.b, "orders", &other, &s, NULL),
                         MEMPHIS_OK);
        assert_int_equal(memphis_station_partitions(s), 3); /* as it was made */
        memphis_station_close(s);
        assert_int_equal(memphis_station_open(x->w.b, "oRdErS", &s, NULL), MEMPHIS_OK);
        memphis_station_close(s);
        assert_int_equal(memphis_station_open(x->w.b, "none", &s, &x->err),
                         MEMPHIS_NOT_FOUND);
        end(x);
    }
}

static void names_and_options_are_checked_before_anything_happens(void **state)
{
    struct world *x = begin(1, false, 1);
    static const char *const names[] = { NULL, "", "a b", "a$b", "a>b", ".a", "_" };
    memphis_station *s = NULL;
    char long_name[140];

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        assert_int_equal(memphis_station_create(x->w.b, names[i], NULL, &s, &x->err),
                         MEMPHIS_INVALID);
        assert_true(x->err.message[0] != 0);
    }
    memset(long_name, 'n', sizeof long_name);
    long_name[129] = 0;
    assert_int_equal(memphis_station_create(x->w.b, long_name, NULL, &s, NULL),
                     MEMPHIS_INVALID);
    long_name[128] = 0;
    for (size_t i = 0; i < 13; i++) {
        memphis_station_options o = { .partitions = 1 };
        if (i < 8)
            o.reserved[i] = 1;
        o.retention = i == 8 ? 4 : i == 9 ? UINT32_MAX : 0;
        o.partitions = i == 10 ? 10001 : 1;
        o.replicas = i == 11 ? 2 : 1;
        o.idempotency_ms = i == 12 ? 86400001 : 0;
        memphis_status st = memphis_station_create(x->w.b, "t", &o, &s, &x->err);
        bool is_later = i == 11;
        assert_int_equal(st, is_later ? MEMPHIS_UNSUPPORTED : MEMPHIS_INVALID);
    }
    assert_int_equal(memphis_station_create(NULL, "t", NULL, &s, NULL),
                     MEMPHIS_INVALID);
    assert_int_equal(memphis_station_create(x->w.b, "t", NULL, NULL, NULL),
                     MEMPHIS_INVALID);
    assert_int_equal(memphis_station_drop(NULL, NULL), MEMPHIS_INVALID);
    memphis_station_close(NULL);
    assert_int_equal(memphis_station_open(x->w.b, "t", &s, NULL), MEMPHIS_NOT_FOUND);
    end(x);
}

static void a_purged_partition_is_empty_and_its_sequences_go_on(void **state)
{
    (void)state;
    for (int mode = 0; mode < TEST_MODES; mode++) {
        struct world *x = begin(mode, true, 2);
        memphis_produce_options o = { .partition = 1 };
        memphis_receipt r;
        for (int i = 0; i < 3; i++)
            assert_int_equal(produce(x, &o, &r), MEMPHIS_OK);
        assert_int_equal(r.sequence, 3);
        assert_int_equal(memphis_station_purge(x->s, 3, &x->err), MEMPHIS_NOT_FOUND);
        assert_int_equal(memphis_station_purge(x->s, 1, NULL), MEMPHIS_OK);
        assert_int_equal(produce(x, &o, &r), MEMPHIS_OK);
        assert_int_equal(r.sequence, 4);
        assert_int_equal(memphis_station_purge(x->s, 0, NULL), MEMPHIS_OK);
        assert_int_equal(produce(x, &o, &r), MEMPHIS_OK);
        assert_int_equal(r.sequence, 5);
        assert_int_equal(memphis_station_purge(NULL, 0, NULL), MEMPHIS_INVALID);
        assert_int_equal(memphis_station_drop(x->s, NULL), MEMPHIS_OK);
        assert_int_equal(memphis_station_purge(x->s, 0, NULL), MEMPHIS_NOT_FOUND);
        end(x);
    }
}

static void a_dropped_station_is_gone_and_the_handle_is_not(void **state)
{
    (void)state;
    for (int mode = 0; mode < TEST_MODES; mode++) {
        struct world *x = begin(mode, true, 2);
        memphis_station *again;
        assert_int_equal(memphis_station_open(x->w.b, "orders", &again, NULL),
                         MEMPHIS_OK);
        assert_int_equal(memphis_station_drop(x->s, NULL), MEMPHIS_OK);
        assert_int_equal(memphis_station_drop(again, &x->err), MEMPHIS_NOT_FOUND);
        assert_int_equal(produce(x, NULL, NULL), MEMPHIS_NOT_FOUND);
        assert_string_equal(memphis_station_name(again), "orders");
        memphis_station_close(again);
        end(x);
    }
}

static void a_memory_station_stores_and_is_empty_after_a_start(void **state)
{
    struct world *x = begin(2, true, 1);
    memphis_station_options o = { .memory_storage = 1,
                                  .retention = MEMPHIS_RETAIN_COUNT,
                                  .retention_value = 10 };
    memphis_station *s;
    memphis_producer *p;
    memphis_receipt r = { 0 };

    (void)state;
    assert_int_equal(memphis_station_create(x->w.b, "mem", &o, &s, NULL), MEMPHIS_OK);
    assert_int_equal(memphis_producer_open(s, "p", &p, NULL), MEMPHIS_OK);
    assert_int_equal(memphis_produce(p, "x", 1, NULL, &r, NULL), MEMPHIS_OK);
    assert_int_equal(r.sequence, 1);
    memphis_producer_close(p);
    memphis_station_close(s);
    end(x);
}

static void a_deadline_that_passes_leaves_the_outcome_unknown(void **state)
{
    struct world *x = begin(1, true, 1);
    memphis_station *s;
    memphis_receipt r = { 0 };

    (void)state;
    x->w.b->call_wait_ms = 0; /* as if the time were over after one turn */
    assert_int_equal(produce(x, NULL, NULL), MEMPHIS_TIMEOUT);
    assert_int_equal(memphis_station_create(x->w.b, "t", NULL, &s, NULL),
                     MEMPHIS_TIMEOUT);
    x->w.b->call_wait_ms = 30000;
    assert_int_equal(produce(x, NULL, &r), MEMPHIS_OK);
    assert_int_equal(r.sequence, 2); /* the first one arrived all the same */
    assert_int_equal(memphis_station_open(x->w.b, "t", &s, NULL), MEMPHIS_OK);
    memphis_station_close(s);
    end(x);
}

/* -- produce ----------------------------------------------------------------------- */

static void a_receipt_says_where_the_message_went(void **state)
{
    (void)state;
    for (int mode = 0; mode < TEST_MODES; mode++) {
        struct world *x = begin(mode, true, 3);
        memphis_receipt r;
        uint32_t seen = 0, with_key = 0;
        for (int i = 0; i < 6; i++) { /* in turn */
            assert_int_equal(produce(x, NULL, &r), MEMPHIS_OK);
            assert_int_equal(r.sequence, 1 + i / 3);
            assert_int_equal(r.duplicate, 0);
            seen |= 1u << r.partition;
        }
        assert_int_equal(seen, 14);
        memphis_produce_options second = { .partition = 2 };
        assert_int_equal(produce(x, &second, &r), MEMPHIS_OK);
        assert_int_equal(r.partition, 2);
        assert_int_equal(r.sequence, 3);
        for (int i = 0; i < 3; i++) {
            memphis_produce_options key = { .partition_key = "customer-17" };
            assert_int_equal(produce(x, &key, &r), MEMPHIS_OK);
            assert_true(i == 0 || r.partition == with_key);
            with_key = r.partition;
        }
        end(x);
    }
}

static void an_id_that_was_seen_gives_the_first_receipt_again(void **state)
{
    struct world *x = begin(0, true, 1);
    memphis_produce_options o = { .message_id = "id-1" };
    memphis_receipt first, second;

    (void)state;
    assert_int_equal(produce(x, &o, &first), MEMPHIS_OK);
    assert_int_equal(produce(x, NULL, NULL), MEMPHIS_OK);
    assert_int_equal(produce(x, &o, &second), MEMPHIS_OK);
    assert_int_equal(second.sequence, first.sequence);
    assert_int_equal(first.duplicate, 0);
    assert_int_equal(second.duplicate, 1);
    end(x);
}

static void a_message_that_cannot_be_is_refused(void **state)
{
    struct world *x = begin(1, false, 2);
    static char large[(1 << 20) + 1], value[66000], id[257];
    memphis_producer *p;

    (void)state;
    for (size_t i = 0; i < 8; i++) {
        memphis_produce_options o = { .partition = 1 };
        o.reserved[i] = 1;
        assert_int_equal(produce(x, &o, NULL), MEMPHIS_INVALID);
    }
    memphis_produce_options both = { .partition = 1, .partition_key = "k" };
    assert_int_equal(produce(x, &both, NULL), MEMPHIS_INVALID);
    memphis_produce_options third = { .partition = 3 };
    assert_int_equal(produce(x, &third, NULL), MEMPHIS_INVALID);
    memset(id, 'i', 256);
    memphis_produce_options long_id = { .message_id = id };
    memphis_status st = produce(x, &long_id, NULL);
    assert_true(st == MEMPHIS_INVALID || st == MEMPHIS_TOO_BIG);
    assert_int_equal(memphis_produce(x->p, large, sizeof large, NULL, NULL, NULL),
                     MEMPHIS_TOO_BIG);
    memset(value, 'v', sizeof value - 1);
    memphis_header big = { "n", value, 0 };
    memphis_produce_options headers = { .headers = &big, .headers_count = 1 };
    assert_int_equal(produce(x, &headers, NULL), MEMPHIS_TOO_BIG);
    assert_int_equal(memphis_produce(x->p, NULL, 1, NULL, NULL, NULL), MEMPHIS_INVALID);
    assert_int_equal(memphis_produce(NULL, "x", 1, NULL, NULL, NULL), MEMPHIS_INVALID);
    assert_int_equal(memphis_produce(x->p, NULL, 0, NULL, NULL, NULL), MEMPHIS_OK);
    assert_int_equal(memphis_producer_open(NULL, "p", &p, NULL), MEMPHIS_INVALID);
    assert_int_equal(memphis_producer_open(x->s, "p", NULL, NULL), MEMPHIS_INVALID);
    assert_int_equal(memphis_producer_open(x->s, "p p", &p, NULL), MEMPHIS_INVALID);
    assert_int_equal(memphis_producer_flush(NULL, 0), MEMPHIS_INVALID);
    memphis_producer_close(NULL);
    end(x);
}

static void a_header_that_would_break_the_block_is_invalid(void **state)
{
    static const memphis_header bad[] = {
        { NULL, "v", 0 },   { "n", NULL, 0 },  { "n", "v", 1 },
        { "", "v", 0 },     { "a:b", "v", 0 }, { "n\r", "v", 0 },
        { "n", "v\nw", 0 }, { "$memphis_producedBy", "me", 0 }
    };
    struct world *x = begin(1, false, 1);

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        memphis_header h[2] = { { "good", "one", 0 }, bad[i] };
        memphis_produce_options o = { .headers = h, .headers_count = 2 };
        assert_int_equal(produce(x, &o, NULL), MEMPHIS_INVALID);
        assert_non_null(strstr(x->err.message, "header 1"));
        o.headers_count = 1;
        assert_int_equal(produce(x, &o, NULL), MEMPHIS_OK);
    }
    end(x);
}

static void without_memory_a_message_is_refused_and_the_next_is_not(void **state)
{
    struct world *x = begin(1, false, 1);
    memphis_receipt r = { 0 };

    (void)state;
    test_fail_allocation(1); /* a call is one block with everything in it */
    assert_int_equal(produce(x, NULL, NULL), MEMPHIS_NOMEM);
    assert_true(test_allocation_failed());
    test_fail_allocation(1);
    x->err = (memphis_error){ 0 };
    assert_int_equal(memphis_produce_async(x->p, "x", 1, NULL, NULL, NULL, &x->err),
                     MEMPHIS_NOMEM);
    assert_int_equal(x->err.status, MEMPHIS_NOMEM);
    assert_true(test_allocation_failed());
    test_fail_allocation(1);
    assert_int_equal(memphis_producer_open(x->s, "q", &(memphis_producer *){ NULL },
                                           NULL), MEMPHIS_NOMEM);
    assert_int_equal(produce(x, NULL, &r), MEMPHIS_OK);
    assert_int_equal(r.sequence, 1);
    assert_int_equal(memphis_producer_flush(x->p, 1000), MEMPHIS_OK);
    end(x);
}

/* -- without waiting --------------------------------------------------------------- */

struct outcomes {
    uint32_t stored, failed;
    uint64_t last;
    memphis_status status;
};

static void on_outcome(void *ctx, const memphis_receipt *r, const memphis_error *e)
{
    struct outcomes *o = ctx;

    o->stored += e == NULL;
    o->failed += e != NULL;
    o->status = e != NULL ? e->status : o->status;
    if (e == NULL) {
        assert_true(r->sequence > o->last); /* in order */
        o->last = r->sequence;
    }
}

static void outcomes_are_called_back_in_order_by_a_flush(void **state)
{
    (void)state;
    for (int mode = 0; mode < TEST_MODES; mode++) {
        struct world *x = begin(mode, true, 1);
        struct outcomes o = { 0 };
        for (uint32_t i = 0; i < 500; i++) {
            char body[8];
            (void)snprintf(body, sizeof body, "%u", i);
            assert_int_equal(memphis_produce_async(x->p, body, sizeof body, NULL,
                                                   i % 10 ? on_outcome : NULL, &o,
                                                   &x->err), MEMPHIS_OK);
        }
        assert_int_equal(o.stored, 0); /* only inside of a call */
        assert_int_equal(memphis_producer_flush(x->p, 30000), MEMPHIS_OK);
        assert_int_equal(memphis_producer_flush(x->p, 0), MEMPHIS_OK);
        assert_int_equal(o.stored, 450);
        assert_int_equal(o.failed, 0);
        end(x);
    }
}

static void post(struct world *x, uint32_t n, struct outcomes *o)
{
    for (uint32_t i = 0; i < n; i++)
        assert_int_equal(
            memphis_produce_async(x->p, "x", 1, NULL, on_outcome, o, &x->err),
            MEMPHIS_OK);
}

static void calls_take_effect_in_the_order_in_which_they_were_made(void **state)
{
    (void)state;
    for (int mode = 0; mode < TEST_MODES; mode++) {
        struct world *x = begin(mode, true, 1);
        struct outcomes o = { 0 };
        memphis_receipt r = { 0 };
        post(x, 3, &o);
        assert_int_equal(produce(x, NULL, &r), MEMPHIS_OK);
        assert_int_equal(r.sequence, 4);
        assert_int_equal(memphis_producer_flush(x->p, 30000), MEMPHIS_OK);
        assert_int_equal(o.stored, 3);
        end(x);
    }
}

static void a_flush_has_a_deadline_and_can_be_interrupted(void **state)
{
    struct world *x = begin(1, true, 1);
    struct outcomes o = { 0 };

    (void)state;
    post(x, 3, &o);
    assert_int_equal(memphis_producer_flush(x->p, 0), MEMPHIS_TIMEOUT);
    test_interrupt_at_allocation(x->w.b, 1); /* in its first turn */
    assert_int_equal(memphis_producer_flush(x->p, UINT32_MAX), MEMPHIS_CANCELED);
    assert_int_equal(o.stored, 0);
    assert_int_equal(memphis_producer_flush(x->p, UINT32_MAX), MEMPHIS_OK);
    assert_int_equal(o.stored, 3);
    end(x);
}

static void a_flush_ends_with_the_turn_that_brought_the_last_outcome(void **state)
{
    struct world *x = begin(1, false, 1); /* nothing wakes it after that turn */
    struct outcomes o = { 0 };

    (void)state;
    uint64_t began = api_boot_ms();
    post(x, 3, &o);
    assert_int_equal(memphis_producer_flush(x->p, 30000), MEMPHIS_OK);
    assert_int_equal(o.stored, 3);
    assert_true(api_boot_ms() - began < 20000);
    end(x);
}

static void only_so_many_are_under_way(void **state)
{
    struct world *x = begin(1, false, 1);
    struct outcomes o = { 0 };

    (void)state;
    post(x, 65536, &o);
    assert_int_equal(memphis_produce_async(x->p, "x", 1, NULL, on_outcome, &o, &x->err),
                     MEMPHIS_FULL);
    assert_int_equal(x->err.status, MEMPHIS_FULL);
    assert_int_equal(memphis_producer_flush(x->p, UINT32_MAX), MEMPHIS_OK);
    assert_int_equal(o.stored, 65536);
    post(x, 1, &o);
    assert_int_equal(memphis_producer_flush(x->p, UINT32_MAX), MEMPHIS_OK);
    end(x);
}

static memphis_status post_bytes(memphis_producer *p, size_t size, struct outcomes *o)
{
    static char body[1 << 20];

    return memphis_produce_async(p, body, size, NULL, on_outcome, o, NULL);
}

static void only_so_many_bytes_are_under_way(void **state)
{
    (void)state;
    for (int mode = 1; mode < TEST_MODES; mode++) {
        struct world *x = begin(mode, true, 1);
        struct outcomes o = { 0 }, other = { 0 };
        memphis_producer *p;
        uint32_t posted = 0, round = 0;
        memphis_producer_close(x->p);
        memphis_station_close(x->s);
        memphis_close(x->w.b);
        x->w.options.memory_max = 4 << 20; /* an eighth: five such messages and one */
        assert_int_equal(test_world_open(&x->w), MEMPHIS_OK);
        assert_int_equal(memphis_station_open(x->w.b, "orders", &x->s, NULL),
                         MEMPHIS_OK);
        assert_int_equal(memphis_producer_open(x->s, "p", &x->p, NULL), MEMPHIS_OK);
        assert_int_equal(memphis_producer_open(x->s, "q", &p, NULL), MEMPHIS_OK);
        for (; round < 3; round++) {
            memphis_status st = MEMPHIS_OK;
            for (uint32_t i = 0; i < 6; i++, posted++)
                assert_int_equal(post_bytes(x->p, 100000, &o), MEMPHIS_OK);
            assert_int_equal(post_bytes(x->p, 1, &o), MEMPHIS_FULL);
            /* Who has nothing under way is not kept waiting by others. */
            assert_int_equal(post_bytes(p, 1 << 20, &other), MEMPHIS_OK);
            assert_int_equal(post_bytes(p, 1, &other), MEMPHIS_FULL);
            st = memphis_producer_flush(p, 30000);
            assert_int_equal(st, MEMPHIS_OK);
            assert_int_equal(post_bytes(x->p, 1, &o), MEMPHIS_OK); /* calls back */
            posted++;
            assert_int_equal(memphis_producer_flush(x->p, 30000), MEMPHIS_OK);
        }
        assert_int_equal(o.stored, posted);
        assert_int_equal(other.stored, round);
        assert_int_equal(x->w.b->async_bytes, 0);
        memphis_producer_close(p);
        end(x);
    }
}

/* As a session's input does: the log's share of memory is not passed. */
static void produces_wait_for_room_in_memory(void **state)
{
    static const uint32_t memory_max = 4 << 20, count = 2000, size = 16 << 10;

    (void)state;
    for (int mode = 0; mode < TEST_MODES; mode++) {
        struct world *x = begin(mode, true, 1);
        struct outcomes o = { 0 };
        uint64_t most = 0;
        memphis_stats st;
        memphis_producer_close(x->p);
        memphis_station_close(x->s);
        memphis_close(x->w.b);
        x->w.options.memory_max = memory_max;
        assert_int_equal(test_world_open(&x->w), MEMPHIS_OK);
        assert_int_equal(memphis_station_open(x->w.b, "orders", &x->s, NULL),
                         MEMPHIS_OK);
        assert_int_equal(memphis_producer_open(x->s, "p", &x->p, NULL), MEMPHIS_OK);
        for (uint32_t i = 0; i < count; i++) {
            while (post_bytes(x->p, size, &o) == MEMPHIS_FULL) {
                assert_int_equal(memphis_producer_flush(x->p, 30000), MEMPHIS_OK);
                memphis_stats_read(x->w.b, &st);
                most = st.memory_bytes > most ? st.memory_bytes : most;
            }
        }
        assert_int_equal(memphis_producer_flush(x->p, 30000), MEMPHIS_OK);
        assert_int_equal(o.stored, count);
        if (most > memory_max + memory_max / 5)
            fail_msg("mode %d: %llu bytes", mode, (unsigned long long)most);
        end(x);
    }
}

static void STA_21_ids_have_their_share_of_memory(void **state)
{
    struct world *x = begin(1, true, 1);
    struct outcomes o = { 0 };
    memphis_stats st;
    memphis_receipt r;
    char text[16];
    memphis_produce_options id = { .message_id = text };

    (void)state;
    memphis_producer_close(x->p);
    memphis_station_close(x->s);
    memphis_close(x->w.b);
    x->w.options.memory_max = 4 << 20; /* a 16th has 6,553 ids, so a table of 4,096 */
    assert_int_equal(test_world_open(&x->w), MEMPHIS_OK);
    assert_int_equal(memphis_station_open(x->w.b, "orders", &x->s, NULL), MEMPHIS_OK);
    assert_int_equal(memphis_producer_open(x->s, "p", &x->p, NULL), MEMPHIS_OK);
    for (int i = 0; i < 6000; i++) {
        snprintf(text, sizeof text, "id-%d", i);
        assert_int_equal(memphis_produce_async(x->p, "x", 1, &id, on_outcome, &o, NULL),
                         MEMPHIS_OK);
    }
    assert_int_equal(memphis_producer_flush(x->p, 30000), MEMPHIS_OK);
    assert_int_equal(memphis_step(x->w.b, NULL), MEMPHIS_OK);
    memphis_stats_read(x->w.b, &st);
    assert_int_equal(st.message_ids_dropped, 6000 - 4096);
    assert_int_equal(produce(x, &id, &r), MEMPHIS_OK); /* the newest one is known */
    assert_int_equal(r.duplicate, 1);
    assert_int_equal(r.sequence, 6000);
    snprintf(text, sizeof text, "id-0");
    assert_int_equal(produce(x, &id, &r), MEMPHIS_OK); /* the oldest one is not */
    assert_int_equal(r.duplicate, 0);
    end(x);
}

/* More than a turn takes: the rest waits, and then whatever is called, in its order. */
static struct world *begin_with_some_waiting(uint32_t posted, struct outcomes *o)
{
    struct world *x = begin(1, true, 1);

    post(x, posted, o);
    assert_int_equal(memphis_step(x->w.b, NULL), MEMPHIS_OK);
    assert_non_null(x->w.b->held);
    return x;
}

static void what_its_caller_takes_back_is_stored_as_it_was(void **state)
{
    struct outcomes o = { 0 };
    struct world *x = begin_with_some_waiting(10000, &o);
    memphis_produce_options id = { .message_id = "the-id" };
    char body[] = "first";
    memphis_consumer_options c = { .start_sequence = 10001 };
    memphis_consumer *consumer;
    memphis_message *m;
    uint32_t got;

    (void)state;
    test_interrupt_at_allocation(x->w.b, 2);
    assert_int_equal(memphis_produce(x->p, body, 5, &id, NULL, &x->err),
                     MEMPHIS_CANCELED);
    memset(body, 'B', 5); /* the caller's again */
    assert_int_equal(memphis_producer_flush(x->p, 30000), MEMPHIS_OK);
    assert_int_equal(o.stored, 10000);
    assert_int_equal(memphis_consumer_open(x->s, "c", &c, &consumer, &x->err),
                     MEMPHIS_OK);
    assert_int_equal(memphis_fetch(consumer, &m, 1, 30000, &got, &x->err), MEMPHIS_OK);
    assert_int_equal(memphis_message_data(m).size, 5);
    assert_memory_equal(memphis_message_data(m).data, "first", 5);
    memphis_message_unref(m);
    memphis_consumer_close(consumer);
    end(x);
}

/* Who did not wait for the end may close everything: what waits has its own. */
static void what_waits_outlives_its_producer_and_station(void **state)
{
    struct outcomes o = { 0 };
    struct world *x = begin_with_some_waiting(10000, &o);
    static char body[1 << 20];

    (void)state;
    test_interrupt_at_allocation(x->w.b, 2);
    assert_int_equal(memphis_produce(x->p, "last", 4, NULL, NULL, &x->err),
                     MEMPHIS_CANCELED);
    assert_non_null(x->w.b->held);
    x->w.b->async_bytes_max = 1000; /* and such callers have a bound together */
    assert_int_equal(
        memphis_produce(x->p, body, sizeof body - 4096, NULL, NULL, &x->err),
        MEMPHIS_NO_SPACE);
    memphis_producer_close(x->p);
    memphis_station_close(x->s);
    for (int i = 0; i < 10 && x->w.b->held != NULL; i++)
        assert_int_equal(memphis_step(x->w.b, NULL), MEMPHIS_OK);
    assert_null(x->w.b->held);
    assert_int_equal(x->w.b->held_bytes, 0);
    assert_int_equal(memphis_station_open(x->w.b, "orders", &x->s, NULL), MEMPHIS_OK);
    assert_int_equal(memphis_producer_open(x->s, "p", &x->p, NULL), MEMPHIS_OK);
    memphis_receipt r;
    assert_int_equal(produce(x, NULL, &r), MEMPHIS_OK);
    assert_int_equal(r.sequence, 10002);
    end(x);
}

static void a_purge_does_not_overtake_what_waits(void **state)
{
    struct outcomes o = { 0 };
    struct world *x = begin_with_some_waiting(5000, &o);
    memphis_receipt r;

    (void)state;
    assert_int_equal(memphis_station_purge(x->s, 0, &x->err), MEMPHIS_OK);
    assert_int_equal(memphis_producer_flush(x->p, 30000), MEMPHIS_OK);
    assert_int_equal(o.stored, 5000);
    assert_int_equal(produce(x, NULL, &r), MEMPHIS_OK);
    assert_int_equal(r.sequence, 5001);
    assert_int_equal(mp_log_first(x->w.b->core->data_log, 1), 5001);
    end(x);
}

static void a_close_lets_in_what_waits(void **state)
{
    struct outcomes o = { 0 };
    struct world *x = begin_with_some_waiting(5000, &o);

    (void)state;
    memphis_close(x->w.b); /* the handles are still there */
    assert_int_equal(memphis_producer_flush(x->p, 0), MEMPHIS_OK);
    assert_int_equal(o.stored, 5000);
    x->w.b = NULL;
    end(x);
}

static void a_failed_one_tells_its_callback_why(void **state)
{
    struct world *x = begin(1, false, 1);
    struct outcomes o = { 0 };

    (void)state;
    assert_int_equal(memphis_station_drop(x->s, NULL), MEMPHIS_OK);
    post(x, 2, &o);
    assert_int_equal(memphis_producer_flush(x->p, 1000), MEMPHIS_OK);
    assert_int_equal(o.failed, 2);
    assert_int_equal(o.status, MEMPHIS_NOT_FOUND);
    memphis_produce_options bad = { .partition = 2 };
    assert_int_equal(
        memphis_produce_async(x->p, "x", 1, &bad, on_outcome, &o, &x->err),
        MEMPHIS_INVALID);
    assert_int_equal(memphis_produce_async(NULL, "x", 1, NULL, NULL, NULL, NULL),
                     MEMPHIS_INVALID);
    end(x);
}

static void a_removed_station_is_told_from_a_closed_broker(void **state)
{
    (void)state;
    for (int mode = 1; mode < TEST_MODES; mode++) {
        struct world *x = begin(mode, true, 1);
        struct outcomes o = { 0 };
        post(x, 1, &o); /* the removal overtakes it */
        x->w.b->call_wait_ms = 0;
        assert_int_equal(memphis_station_drop(x->s, NULL), MEMPHIS_TIMEOUT);
        x->w.b->call_wait_ms = 30000;
        post(x, 3, &o);
        assert_int_equal(memphis_producer_flush(x->p, 30000), MEMPHIS_OK);
        assert_int_equal(o.stored + o.failed, 4);
        assert_true(o.failed >= 3);
        assert_int_equal(o.status, MEMPHIS_NOT_FOUND);
        end(x);
    }
}

static void a_producer_closed_in_between_lets_the_core_finish(void **state)
{
    (void)state;
    for (int mode = 1; mode < TEST_MODES; mode++) {
        struct world *x = begin(mode, true, 1);
        struct outcomes o = { 0 };
        memphis_stats stats = { .stored = 0 };
        post(x, 3, &o);
        x->w.b->call_wait_ms = 0; /* its close waits for nothing */
        memphis_producer_close(x->p);
        x->p = NULL;
        while (stats.stored < 3) {
            assert_int_equal(memphis_step(x->w.b, NULL), MEMPHIS_OK);
            memphis_stats_read(x->w.b, &stats);
        }
        assert_int_equal(o.stored + o.failed, 0); /* nobody is called back */
        end(x);
    }
}

/* -- inside a callback ------------------------------------------------------------- */

struct callback {
    memphis_producer *p;
    bool closes;
    int calls;
    memphis_status flushed, produced;
};

static void on_outcome_call(void *ctx, const memphis_receipt *r, const memphis_error *e)
{
    struct callback *c = ctx;

    (void)r, (void)e;
    if (c->calls++ > 0)
        return;
    c->flushed = memphis_producer_flush(c->p, UINT32_MAX);
    c->produced = memphis_produce(c->p, "x", 1, NULL, NULL, NULL);
    if (c->closes)
        memphis_producer_close(c->p);
}

static void a_callback_may_produce_and_close_and_must_not_flush(void **state)
{
    (void)state;
    for (int round = 0; round < 2 * TEST_MODES; round++) {
        struct world *x = begin(round % TEST_MODES, true, 1);
        struct callback c = { .p = x->p, .closes = round >= TEST_MODES };
        memphis_receipt r = { 0 };
        for (int i = 0; i < 5; i++)
            assert_int_equal(memphis_produce_async(x->p, "x", 1, NULL, on_outcome_call,
                                                   &c, NULL), MEMPHIS_OK);
        assert_int_equal(produce(x, NULL, &r), MEMPHIS_OK);
        assert_int_equal(r.sequence, 6); /* so all five have an outcome */
        alarm(60); /* who waits for himself waits for ever */
        assert_int_equal(memphis_producer_flush(x->p, 30000),
                         c.closes ? MEMPHIS_CLOSED : MEMPHIS_OK);
        alarm(0);
        assert_int_equal(c.flushed, MEMPHIS_MISUSE);
        assert_int_equal(c.produced, MEMPHIS_OK);
        assert_int_equal(c.calls, c.closes ? 1 : 5); /* none behind the close */
        if (c.closes)
            x->p = NULL;
        end(x);
    }
}

struct flusher {
    memphis_producer *p;
    _Atomic bool is_done;
    pthread_t thread;
};

static void *flush_on_and_on(void *ctx)
{
    struct flusher *f = ctx;

    while (!f->is_done)
        memphis_producer_flush(f->p, 0);
    return NULL;
}

static void read_error(void *ctx, const memphis_receipt *r, const memphis_error *e)
{
    (void)r;
    *(uint64_t *)ctx += strlen(e->message) + (uint64_t)e->status;
}

static void an_outcome_stands_before_it_is_told(void **state)
{
    struct world *x = begin(0, false, 1);
    struct flusher f = { .p = x->p };
    uint64_t sum = 0;

    (void)state;
    assert_int_equal(memphis_station_drop(x->s, NULL), MEMPHIS_OK);
    pthread_create(&f.thread, NULL, flush_on_and_on, &f);
    for (int i = 0; i < 20000; i++)
        assert_int_equal(
            memphis_produce_async(x->p, "x", 1, NULL, read_error, &sum, NULL),
            MEMPHIS_OK);
    f.is_done = true;
    pthread_join(f.thread, NULL);
    assert_int_equal(memphis_producer_flush(x->p, 30000), MEMPHIS_OK);
    assert_int_equal(sum % 20000, 0); /* one text for all */
    end(x);
}

static void a_close_of_the_broker_gives_each_its_outcome(void **state)
{
    (void)state;
    for (int mode = 0; mode < TEST_MODES; mode++) {
        struct world *x = begin(mode, true, 1);
        struct outcomes o = { 0 };
        post(x, 5, &o);
        memphis_close(x->w.b);
        x->w.b = NULL;
        assert_int_equal(memphis_producer_flush(x->p, 1000), MEMPHIS_OK);
        assert_int_equal(o.stored, 5); /* accepted, so it is finished */
        assert_int_equal(o.failed, 0);
        end(x);
    }
}

static uint64_t no_bytes(struct mp_env *e)
{
    (void)e;
    return 0;
}

static void a_full_disk_refuses_messages_and_can_be_asked_again(void **state)
{
    static char body[60000];
    struct world *x = begin(1, true, 1);
    memphis_status st = MEMPHIS_OK;
    memphis_station *s;

    (void)state;
    x->w.b->core->env->free_bytes = no_bytes;
    for (int i = 0; i < 200 && st == MEMPHIS_OK; i++)
        st = memphis_produce(x->p, body, sizeof body, NULL, NULL, &x->err);
    assert_int_equal(st, MEMPHIS_NO_SPACE);
    assert_true(memphis_status_is_retryable(st));
    assert_non_null(strstr(x->err.message, "no space left"));
    assert_int_equal(memphis_station_open(x->w.b, "orders", &s, NULL), MEMPHIS_OK);
    memphis_station_close(s);
    end(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(a_station_is_made_once_and_opened_by_either_spelling),
        leak_checked(names_and_options_are_checked_before_anything_happens),
        leak_checked(a_purged_partition_is_empty_and_its_sequences_go_on),
        leak_checked(a_dropped_station_is_gone_and_the_handle_is_not),
        leak_checked(a_memory_station_stores_and_is_empty_after_a_start),
        leak_checked(a_deadline_that_passes_leaves_the_outcome_unknown),
        leak_checked(a_receipt_says_where_the_message_went),
        leak_checked(an_id_that_was_seen_gives_the_first_receipt_again),
        leak_checked(a_message_that_cannot_be_is_refused),
        leak_checked(a_header_that_would_break_the_block_is_invalid),
        leak_checked(without_memory_a_message_is_refused_and_the_next_is_not),
        leak_checked(outcomes_are_called_back_in_order_by_a_flush),
        leak_checked(calls_take_effect_in_the_order_in_which_they_were_made),
        leak_checked(a_flush_has_a_deadline_and_can_be_interrupted),
        leak_checked(a_flush_ends_with_the_turn_that_brought_the_last_outcome),
        leak_checked(only_so_many_are_under_way),
        leak_checked(only_so_many_bytes_are_under_way),
        leak_checked(produces_wait_for_room_in_memory),
        leak_checked(STA_21_ids_have_their_share_of_memory),
        leak_checked(what_its_caller_takes_back_is_stored_as_it_was),
        leak_checked(what_waits_outlives_its_producer_and_station),
        leak_checked(a_purge_does_not_overtake_what_waits),
        leak_checked(a_close_lets_in_what_waits),
        leak_checked(a_failed_one_tells_its_callback_why),
        leak_checked(a_removed_station_is_told_from_a_closed_broker),
        leak_checked(a_producer_closed_in_between_lets_the_core_finish),
        leak_checked(an_outcome_stands_before_it_is_told),
        leak_checked(a_callback_may_produce_and_close_and_must_not_flush),
        leak_checked(a_close_of_the_broker_gives_each_its_outcome),
        leak_checked(a_full_disk_refuses_messages_and_can_be_asked_again),
    };

    return run_tests("api/api_station", tests);
}
