#include "support/test.h"

#include "base/str.h"
#include "store/log.h"

/* An implementation that only remembers how it was called. */
struct fake {
    struct mp_log log; /* first */
    const char *called;
    const struct mp_entry *entries;
    size_t n;
    uint64_t tag, seq;
    uint32_t pid;
    struct mp_chunk *chunk; /* given out by read; NULL: nothing there */
};

static struct fake *of(const struct mp_log *log)
{
    return (struct fake *)(uintptr_t)log;
}

static memphis_status fake_append(struct mp_log *log, const struct mp_entry *entries,
                                  size_t n, uint64_t tag)
{
    struct fake *f = of(log);

    f->called = "append";
    f->entries = entries;
    f->n = n;
    f->tag = tag;
    return MEMPHIS_NO_SPACE;
}

static bool fake_is_full(const struct mp_log *log)
{
    of(log)->called = "is_full";
    return true;
}

static void fake_close_entry(struct mp_log *log)
{
    of(log)->called = "close_entry";
}

static bool fake_has_open_entry(const struct mp_log *log)
{
    of(log)->called = "has_open_entry";
    return true;
}

static memphis_status fake_read(struct mp_log *log, uint32_t pid, uint64_t seq,
                                struct mp_stored *out)
{
    struct fake *f = of(log);

    f->called = "read";
    f->pid = pid;
    f->seq = seq;
    if (f->chunk == NULL)
        return MEMPHIS_NOT_FOUND; /* and *out stays as it is */
    mp_chunk_ref(f->chunk);
    out->chunk = f->chunk;
    return MEMPHIS_OK;
}

static bool fake_has(const struct mp_log *log, uint32_t pid, uint64_t seq)
{
    of(log)->called = "has";
    return pid + seq == 9;
}

static uint64_t fake_first(const struct mp_log *log, uint32_t pid)
{
    of(log)->called = "first";
    return pid + 100;
}

static uint64_t fake_last(const struct mp_log *log, uint32_t pid)
{
    of(log)->called = "last";
    return pid + 200;
}

static void fake_stats(const struct mp_log *log, uint32_t pid, struct mp_log_stats *out)
{
    of(log)->called = "stats";
    out->messages = pid + 300;
}

static struct fake make(void)
{
    static const struct mp_log_ops ops = {
        fake_append, fake_is_full, fake_close_entry, fake_has_open_entry, fake_read,
        fake_has,    fake_first,   fake_last,        fake_stats
    };

    return (struct fake){ .log = { .ops = &ops, .shard = MP_SHARD_DATA } };
}

static void each_call_reaches_the_implementation_behind_it(void **state)
{
    struct fake f = make();
    struct mp_entry entries[2] = { { .type = MP_ENTRY_META } };
    struct mp_log_stats stats = { 0 };

    (void)state;
    assert_int_equal(mp_log_append(&f.log, entries, 2, 9), MEMPHIS_NO_SPACE);
    assert_string_equal(f.called, "append");
    assert_ptr_equal(f.entries, entries);
    assert_int_equal(f.n, 2);
    assert_int_equal(f.tag, 9);
    assert_true(mp_log_is_full(&f.log));
    assert_string_equal(f.called, "is_full");
    assert_true(mp_log_has_open_entry(&f.log));
    assert_string_equal(f.called, "has_open_entry");
    mp_log_close_entry(&f.log);
    assert_string_equal(f.called, "close_entry");
    assert_int_equal(mp_log_first(&f.log, 7), 107);
    assert_int_equal(mp_log_last(&f.log, 7), 207);
    assert_true(mp_log_has(&f.log, 7, 2));
    assert_string_equal(f.called, "has");
    mp_log_stats(&f.log, 7, &stats);
    assert_string_equal(f.called, "stats");
    assert_int_equal(stats.messages, 307);
}

static void an_append_of_nothing_is_a_bug(void **state)
{
    struct fake f = make();

    (void)state;
    expect_assert_failure(mp_log_append(&f.log, NULL, 0, 1));
    assert_null(f.called);
}

static void a_read_message_holds_a_reference_until_it_is_released(void **state)
{
    struct fake f = make();
    struct mp_stored m;

    (void)state;
    f.chunk = mp_chunk_new(64);
    assert_int_equal(mp_log_read(&f.log, 7, 42, &m), MEMPHIS_OK);
    assert_int_equal(f.pid, 7);
    assert_int_equal(f.seq, 42);
    mp_chunk_unref(f.chunk); /* the log lets go of it */
    assert_int_equal(atomic_load(&f.chunk->refs), 1);
    mp_stored_release(&m);
    assert_null(m.chunk);
    mp_stored_release(&m); /* a second time is harmless */
}

static void what_was_not_found_can_be_released_all_the_same(void **state)
{
    struct fake f = make();
    struct mp_stored m;

    (void)state;
    memset(&m, 0xff, sizeof m);
    assert_int_equal(mp_log_read(&f.log, 7, 42, &m), MEMPHIS_NOT_FOUND);
    assert_null(m.chunk);
    mp_stored_release(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(each_call_reaches_the_implementation_behind_it),
        leak_checked(an_append_of_nothing_is_a_bug),
        leak_checked(a_read_message_holds_a_reference_until_it_is_released),
        leak_checked(what_was_not_found_can_be_released_all_the_same),
    };

    return run_tests("store/log", tests);
}
