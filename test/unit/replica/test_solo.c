#include "support/test.h"

#include "base/limits.h"
#include "base/mailbox.h"
#include "base/status.h"
#include "replica/replica.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* A broker's log on a real directory, with a sink that remembers what it was told. */
struct seen {
    uint32_t shard;
    uint64_t index, tag;
    uint8_t type;
    uint64_t seq;
};

struct sink_ctx {
    struct fixture *f;
    uint32_t shard;
};

struct fixture {
    char dir[64];
    bool threads, diskless;
    struct mp_mailbox box;
    struct mp_env *env;
    struct mp_replica *replica;
    struct mp_recovery_report report;
    struct sink_ctx sinks[4];
    struct seen seen[4096];
    size_t seen_count;
    size_t failed_count;
    int broken;
    struct mp_log *append_in_apply; /* apply appends one more there, once */
};

static struct mp_entry message(uint32_t pid, uint64_t seq, const char *text)
{
    return (struct mp_entry){ .type = MP_ENTRY_MESSAGE, .pid = pid, .seq = seq,
                              .time_ns = 1000 + seq,
                              .payload = { text, strlen(text) } };
}

static void on_apply(void *ctx, uint64_t index, uint64_t time_ns,
                     const struct mp_entry *entries, size_t n, uint64_t tag)
{
    struct sink_ctx *c = ctx;
    struct fixture *f = c->f;

    assert_true(time_ns > 0);
    for (size_t i = 0; i < n && f->seen_count < 4096; i++)
        f->seen[f->seen_count++] = (struct seen){ c->shard, index, tag, entries[i].type,
                                                  entries[i].seq };
    if (f->append_in_apply != NULL) {
        struct mp_log *log = f->append_in_apply;
        struct mp_entry e = message(7, 100, "from apply");
        f->append_in_apply = NULL;
        assert_int_equal(mp_log_append(log, &e, 1, 77), MEMPHIS_OK);
    }
}

static void on_failed(void *ctx, uint64_t tag, memphis_status status)
{
    struct sink_ctx *c = ctx;

    assert_true(tag > 0);
    assert_true(status != MEMPHIS_OK);
    c->f->failed_count++;
}

static void on_broken(void *ctx, const memphis_error *why)
{
    struct fixture *f = ctx;

    assert_true(why->message[0] != 0);
    f->broken++;
}

static memphis_status start(struct fixture *f, bool accept_loss, memphis_error *err)
{
    struct mp_replica_options o = { .diskless = f->diskless,
                                    .accept_loss = accept_loss,
                                    .memory_max = 64 << 20,
                                    .broken = on_broken,
                                    .ctx = f };
    memphis_status s;

    f->seen_count = 0;
    mp_mailbox_init(&f->box, NULL, NULL);
    if (f->diskless)
        s = mp_env_posix_diskless(f->threads, NULL, &f->env, err);
    else
        s = mp_env_posix_open(f->dir, f->threads, NULL, &f->env, err);
    assert_int_equal(s, MEMPHIS_OK);
    f->env->mailbox = &f->box;
    o.env = f->env;
    s = mp_replica_open(&o, &f->replica, err);
    for (uint32_t i = 1; i <= 3 && s == MEMPHIS_OK; i++) {
        f->sinks[i] = (struct sink_ctx){ f, i };
        mp_replica_log(f->replica, i)->sink = (struct mp_log_sink){
            .apply = on_apply, .failed = on_failed, .ctx = &f->sinks[i]
        };
        s = mp_replica_start(f->replica, i, err);
    }
    if (s == MEMPHIS_OK)
        s = mp_replica_ready(f->replica, &f->report, err);
    return s;
}

static void stop(struct fixture *f)
{
    mp_replica_close(f->replica);
    f->replica = NULL;
    f->env->close(f->env);
    mp_mailbox_fini(&f->box);
}

/* A stop without its last act: the slot of `node` with the clean flag is wiped. */
static void crash(struct fixture *f)
{
    uint8_t slots[2][4096] = { { 0 } };
    char path[96];

    stop(f);
    snprintf(path, sizeof path, "%s/node", f->dir);
    FILE *n = fopen(path, "r+");
    assert_true(fread(slots, 1, sizeof slots, n) > 0);
    int newest = mp_get_u64(slots[1] + 8) > mp_get_u64(slots[0] + 8);
    memset(slots[newest], 0, 4096);
    rewind(n);
    assert_int_equal(fwrite(slots, 1, sizeof slots, n), sizeof slots);
    fclose(n);
}

static struct fixture *begin(bool threads, bool diskless)
{
    struct fixture *f = calloc(1, sizeof *f);

    snprintf(f->dir, sizeof f->dir, "/tmp/mp-solo-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->threads = threads;
    f->diskless = diskless;
    return f;
}

static void end(struct fixture *f)
{
    char command[128];

    snprintf(command, sizeof command, "rm -rf %s", f->dir);
    assert_int_equal(system(command), 0);
    free(f);
}

/* One turn of the core. */
static void turn(struct fixture *f)
{
    mp_mailbox_drain(&f->box);
    mp_clock_tick(mp_replica_clock(f->replica));
    for (uint32_t i = 1; i <= 3; i++)
        mp_log_close_entry(mp_replica_log(f->replica, i));
    mp_replica_submit(f->replica, mp_replica_clock(f->replica)->broker_ns);
}

static void settle(struct fixture *f)
{
    do {
        turn(f);
        mp_mailbox_drain(&f->box);
    } while (!mp_replica_is_idle(f->replica) && !f->broken);
}

static void append(struct fixture *f, uint32_t shard, const struct mp_entry *e)
{
    assert_int_equal(mp_log_append(mp_replica_log(f->replica, shard), e, 1, e->seq),
                     MEMPHIS_OK);
}

static void change_partition(struct fixture *f, uint32_t shard, uint32_t pid,
                             uint8_t op)
{
    uint8_t payload[13] = { op };
    struct mp_entry e = { .type = MP_ENTRY_PARTITION, .pid = pid,
                          .payload = { payload, sizeof payload } };

    append(f, shard, &e);
}

static void produce(struct fixture *f, uint32_t shard, uint32_t pid, uint64_t seq,
                    const char *text)
{
    struct mp_entry e = message(pid, seq, text);

    append(f, shard, &e);
}

static void expect_text(struct fixture *f, uint32_t shard, uint32_t pid, uint64_t seq,
                        const char *text)
{
    struct mp_log *log = mp_replica_log(f->replica, shard);
    memphis_status s;
    struct mp_stored m;

    while ((s = mp_log_read(log, pid, seq, &m)) == MP_PENDING)
        mp_mailbox_drain(&f->box); /* it is in a segment */
    assert_int_equal(s, MEMPHIS_OK);
    assert_int_equal(m.entry.seq, seq);
    assert_int_equal(m.entry.payload.size, strlen(text));
    assert_memory_equal(m.entry.payload.data, text, strlen(text));
    mp_stored_release(&m);
}

/* -- commit ------------------------------------------------------------------------ */

static void nothing_is_readable_or_applied_before_it_is_durable(void **state)
{
    struct fixture *f = begin(false, false);
    struct mp_stored m;
    (void)state;

    assert_int_equal(start(f, false, NULL), MEMPHIS_OK);
    assert_true(f->report.fresh);
    struct mp_log *log = mp_replica_log(f->replica, MP_SHARD_DATA);
    change_partition(f, MP_SHARD_DATA, 7, 1);
    produce(f, MP_SHARD_DATA, 7, 1, "one");
    assert_int_equal(mp_log_read(log, 7, 1, &m), MEMPHIS_NOT_FOUND);
    assert_true(mp_log_has_open_entry(log));
    turn(f); /* written and synced inline, but its mail is not delivered yet */
    assert_int_equal(f->seen_count, 0);
    assert_int_equal(mp_log_read(log, 7, 1, &m), MEMPHIS_NOT_FOUND);

    mp_mailbox_drain(&f->box);
    assert_int_equal(f->seen_count, 2);
    assert_int_equal(f->seen[1].tag, 1);
    assert_int_equal(f->seen[1].index, 1);
    expect_text(f, MP_SHARD_DATA, 7, 1, "one");
    assert_int_equal(mp_log_last(log, 7), 1);
    stop(f);
    end(f);
}

static void what_was_committed_is_there_after_a_clean_stop(void **state)
{
    struct fixture *f = begin(true, false);
    char text[32];
    (void)state;

    assert_int_equal(start(f, false, NULL), MEMPHIS_OK);
    change_partition(f, MP_SHARD_DATA, 7, 1);
    for (uint64_t i = 1; i <= 500; i++) {
        snprintf(text, sizeof text, "message %d", (int)i);
        produce(f, MP_SHARD_DATA, 7, i, text);
        if (i % 7 == 0)
            turn(f);
    }
    stop(f); /* writes what is still open */

    assert_int_equal(start(f, false, NULL), MEMPHIS_OK);
    assert_true(f->report.clean);
    assert_false(f->report.fresh);
    assert_int_equal(f->report.messages, 500);
    assert_int_equal(f->seen_count, 501);
    assert_int_equal(f->seen[500].tag, 0);
    expect_text(f, MP_SHARD_DATA, 7, 1, "message 1");
    expect_text(f, MP_SHARD_DATA, 7, 500, "message 500");
    stop(f);
    end(f);
}

static void a_crash_is_recovered_from_again_and_again(void **state)
{
    struct fixture *f = begin(false, false);
    memphis_error err = { 0 };
    (void)state;

    for (uint64_t round = 1; round <= 8; round++) {
        if (start(f, false, &err) != MEMPHIS_OK)
            fail_msg("round %d: %s", (int)round, err.message);
        assert_false(f->report.clean);
        if (round == 1)
            change_partition(f, MP_SHARD_DATA, 7, 1);
        assert_int_equal(mp_log_last(mp_replica_log(f->replica, 2), 7), round - 1);
        produce(f, MP_SHARD_DATA, 7, round, "again");
        settle(f);
        crash(f);
    }
    end(f);
}

static void floors_and_deletes_take_effect_before_apply(void **state)
{
    struct fixture *f = begin(false, false);
    struct mp_log_stats st;
    struct mp_stored m;
    (void)state;

    assert_int_equal(start(f, false, NULL), MEMPHIS_OK);
    change_partition(f, MP_SHARD_DATA, 7, 1);
    for (uint64_t i = 1; i <= 10; i++)
        produce(f, MP_SHARD_DATA, 7, i, "x");
    settle(f);
    uint8_t floor[9] = { 4 }, ranges[3] = { 1, 1, 2 }; /* one range: 7 and 8 */
    struct mp_entry e[2] = {
        { .type = MP_ENTRY_FLOOR, .pid = 7, .payload = { floor, sizeof floor } },
        { .type = MP_ENTRY_DELETE, .pid = 7, .seq = 6, .payload = { ranges, 3 } }
    };
    struct mp_log *log = mp_replica_log(f->replica, MP_SHARD_DATA);
    assert_int_equal(mp_log_append(log, e, 2, 0), MEMPHIS_OK);
    settle(f);

    for (int round = 0; round < 2; round++) {
        log = mp_replica_log(f->replica, MP_SHARD_DATA);
        assert_int_equal(mp_log_first(log, 7), 4);
        mp_log_stats(log, 7, &st);
        assert_int_equal(st.messages, 5);
        assert_int_equal(st.first_time_ns, 1004);
        assert_int_equal(st.last_time_ns, 1010);
        assert_int_equal(mp_log_read(log, 7, 7, &m), MEMPHIS_OK);
        assert_int_equal(m.entry.seq, 9);
        mp_stored_release(&m);
        stop(f);
        assert_int_equal(start(f, false, NULL), MEMPHIS_OK);
    }
    stop(f);
    end(f);
}

static void a_dropped_partition_is_gone_for_ever(void **state)
{
    struct fixture *f = begin(false, false);
    struct mp_stored m;
    (void)state;

    assert_int_equal(start(f, false, NULL), MEMPHIS_OK);
    change_partition(f, MP_SHARD_DATA, 7, 1);
    produce(f, MP_SHARD_DATA, 7, 1, "x");
    settle(f);
    change_partition(f, MP_SHARD_DATA, 7, 3);
    produce(f, MP_SHARD_DATA, 7, 2, "late");
    settle(f);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(mp_log_read(mp_replica_log(f->replica, 2), 7, 1, &m),
                         MEMPHIS_NOT_FOUND);
        stop(f);
        assert_int_equal(start(f, false, NULL), MEMPHIS_OK);
    }
    stop(f);
    end(f);
}

static void an_apply_may_append_to_any_log(void **state)
{
    struct fixture *f = begin(false, false);
    (void)state;

    assert_int_equal(start(f, false, NULL), MEMPHIS_OK);
    change_partition(f, MP_SHARD_DATA, 7, 1);
    settle(f);
    f->append_in_apply = mp_replica_log(f->replica, MP_SHARD_DATA);
    struct mp_entry e = { .type = MP_ENTRY_META, .payload = { "do it", 5 } };
    append(f, MP_SHARD_META, &e);
    settle(f);
    expect_text(f, MP_SHARD_DATA, 7, 100, "from apply");
    stop(f);
    end(f);
}

static void a_memory_shard_commits_in_submit_and_forgets(void **state)
{
    struct fixture *f = begin(true, false);
    struct mp_stored m;
    (void)state;

    assert_int_equal(start(f, false, NULL), MEMPHIS_OK);
    change_partition(f, MP_SHARD_MEMORY, 9, 1);
    produce(f, MP_SHARD_MEMORY, 9, 1, "brief");
    assert_int_equal(f->seen_count, 0);
    turn(f);
    assert_int_equal(f->seen_count, 2);
    expect_text(f, MP_SHARD_MEMORY, 9, 1, "brief");
    stop(f);
    assert_int_equal(start(f, false, NULL), MEMPHIS_OK);
    assert_int_equal(mp_log_read(mp_replica_log(f->replica, 3), 9, 1, &m),
                     MEMPHIS_NOT_FOUND);
    stop(f);
    end(f);
}

static void without_a_directory_all_shards_commit_at_the_end_of_the_turn(void **state)
{
    struct fixture *f = begin(false, true);
    (void)state;

    assert_int_equal(start(f, false, NULL), MEMPHIS_OK);
    assert_true(f->report.fresh);
    for (uint32_t shard = 1; shard <= 3; shard++) {
        change_partition(f, shard, 9, 1);
        produce(f, shard, 9, 1, "ram");
    }
    turn(f);
    assert_int_equal(f->seen_count, 6);
    for (uint32_t shard = 1; shard <= 3; shard++)
        expect_text(f, shard, 9, 1, "ram");
    assert_true(mp_replica_is_idle(f->replica));
    assert_true(mp_replica_next_ns(f->replica) == UINT64_MAX);
    stop(f);
    end(f);
}

/* Else a core that sleeps until next_ns would leave it there. */
static void an_append_of_the_last_apply_of_a_turn_asks_for_another(void **state)
{
    struct fixture *f = begin(false, true);
    (void)state;

    assert_int_equal(start(f, false, NULL), MEMPHIS_OK);
    change_partition(f, MP_SHARD_DATA, 7, 1);
    f->append_in_apply = mp_replica_log(f->replica, MP_SHARD_META);
    turn(f);
    assert_false(mp_replica_is_idle(f->replica));
    assert_true(mp_replica_next_ns(f->replica) == 0);
    turn(f);
    assert_true(mp_replica_is_idle(f->replica));
    assert_true(mp_replica_next_ns(f->replica) == UINT64_MAX);
    stop(f);
    end(f);
}

static void a_message_larger_than_a_wal_file_gets_one_of_its_own(void **state)
{
    struct fixture *f = begin(true, false);
    size_t size = 8 << 20;
    char *big = calloc(1, size + 1);
    (void)state;

    memset(big, 'b', size);
    assert_int_equal(start(f, false, NULL), MEMPHIS_OK);
    change_partition(f, MP_SHARD_DATA, 7, 1);
    produce(f, MP_SHARD_DATA, 7, 1, big);
    produce(f, MP_SHARD_DATA, 7, 2, "small");
    settle(f);
    crash(f);
    assert_int_equal(start(f, false, NULL), MEMPHIS_OK);
    expect_text(f, MP_SHARD_DATA, 7, 1, big);
    expect_text(f, MP_SHARD_DATA, 7, 2, "small");
    stop(f);
    free(big);
    end(f);
}

static void the_log_rolls_through_many_files(void **state)
{
    struct fixture *f = begin(true, false);
    char text[2001];
    (void)state;

    memset(text, 'r', 2000);
    text[2000] = 0;
    assert_int_equal(start(f, false, NULL), MEMPHIS_OK);
    change_partition(f, MP_SHARD_DATA, 7, 1);
    for (uint64_t i = 1; i <= 4000; i++) {
        produce(f, MP_SHARD_DATA, 7, i, text);
        while (mp_log_is_full(mp_replica_log(f->replica, 2)))
            turn(f);
        if (i % 50 == 0)
            turn(f);
    }
    settle(f);
    crash(f);
    assert_int_equal(start(f, false, NULL), MEMPHIS_OK);
    assert_int_equal(f->report.messages, 4000);
    expect_text(f, MP_SHARD_DATA, 7, 4000, text);
    stop(f);
    end(f);
}

static void an_idle_log_covers_its_last_batch_once(void **state)
{
    struct fixture *f = begin(false, false);
    (void)state;

    assert_int_equal(start(f, false, NULL), MEMPHIS_OK);
    assert_true(mp_replica_next_ns(f->replica) == UINT64_MAX);
    change_partition(f, MP_SHARD_DATA, 7, 1);
    settle(f);
    uint64_t due = mp_replica_next_ns(f->replica);
    uint64_t now = mp_replica_clock(f->replica)->broker_ns;
    assert_true(due > now && due <= now + MP_COVER_DELAY_MS * 1000000ull);
    mp_replica_submit(f->replica, due);
    assert_false(mp_replica_is_idle(f->replica));
    mp_mailbox_drain(&f->box);
    assert_true(mp_replica_is_idle(f->replica));
    assert_true(mp_replica_next_ns(f->replica) == UINT64_MAX);
    stop(f);
    end(f);
}

/* -- refusals ---------------------------------------------------------------------- */

/* A start that failed leaves what it opened to its owner. */
static void give_up(struct fixture *f)
{
    mp_replica_close(f->replica);
    f->replica = NULL;
    f->env->close(f->env);
    mp_mailbox_fini(&f->box);
}

static void a_second_broker_of_the_same_process_is_refused(void **state)
{
    struct fixture *f = begin(false, false), *g = begin(false, false);
    memphis_error err = { 0 };
    char own[64];
    (void)state;

    assert_int_equal(start(f, false, NULL), MEMPHIS_OK);
    memcpy(own, g->dir, sizeof own);
    memcpy(g->dir, f->dir, sizeof own);
    assert_int_equal(start(g, false, &err), MEMPHIS_BUSY);
    give_up(g);
    stop(f);
    memcpy(g->dir, own, sizeof own);
    end(f);
    end(g);
}

static void a_directory_of_somebody_else_is_refused_by_name(void **state)
{
    struct fixture *f = begin(false, false);
    memphis_error err = { 0 };
    char path[96];
    (void)state;

    snprintf(path, sizeof path, "%s/thesis.doc", f->dir);
    fclose(fopen(path, "w"));
    assert_int_equal(start(f, false, &err), MEMPHIS_INVALID);
    assert_non_null(strstr(err.message, "thesis.doc"));
    give_up(f);
    end(f);
}

/* Flips one bit of the first WAL file at `offset`. */
static void rot(struct fixture *f, long offset)
{
    char path[128];

    snprintf(path, sizeof path, "%s/wal/00000000000000000000.wal", f->dir);
    FILE *w = fopen(path, "r+");
    assert_non_null(w);
    fseek(w, offset, SEEK_SET);
    int c = fgetc(w);
    fseek(w, offset, SEEK_SET);
    fputc(c ^ 0x40, w);
    fclose(w);
}

/* At 4096 the opening batch; then one, two, three, a block each. */
static void three_batches(struct fixture *f)
{
    assert_int_equal(start(f, false, NULL), MEMPHIS_OK);
    change_partition(f, MP_SHARD_DATA, 7, 1);
    produce(f, MP_SHARD_DATA, 7, 1, "one");
    settle(f);
    produce(f, MP_SHARD_DATA, 7, 2, "two");
    settle(f);
    produce(f, MP_SHARD_DATA, 7, 3, "three");
    settle(f);
}

static void rot_in_a_covered_batch_is_refused_with_its_place(void **state)
{
    struct fixture *f = begin(false, false);
    memphis_error err = { 0 };
    struct mp_stored m;
    (void)state;

    three_batches(f);
    crash(f);
    rot(f, 3 * 4096 + 300);
    assert_int_equal(start(f, false, &err), MEMPHIS_CORRUPT);
    assert_non_null(strstr(err.message, "offset 12288, length 4096"));
    give_up(f);

    assert_int_equal(start(f, true, &err), MEMPHIS_OK);
    assert_int_equal(f->report.lost_ranges, 1);
    for (int round = 0; round < 2; round++) {
        struct mp_log *log = mp_replica_log(f->replica, 2);
        expect_text(f, MP_SHARD_DATA, 7, 1, "one");
        expect_text(f, MP_SHARD_DATA, 7, 3, "three");
        assert_int_equal(mp_log_read(log, 7, 2, &m), MEMPHIS_CORRUPT);
        assert_int_equal(mp_log_last(log, 7), 3 + 65536);
        crash(f);
        assert_int_equal(start(f, false, &err), MEMPHIS_OK); /* it is settled now */
    }
    stop(f);
    end(f);
}

static void rot_in_the_last_batch_of_a_crash_is_a_torn_tail(void **state)
{
    struct fixture *f = begin(false, false);
    memphis_error err = { 0 };
    (void)state;

    three_batches(f);
    crash(f);
    rot(f, 4 * 4096 + 300);
    assert_int_equal(start(f, false, &err), MEMPHIS_OK);
    assert_int_equal(f->report.torn_bytes, 4096);
    assert_int_equal(mp_log_last(mp_replica_log(f->replica, 2), 7), 2);
    produce(f, MP_SHARD_DATA, 7, 3, "third");
    settle(f);
    crash(f);
    assert_int_equal(start(f, false, &err), MEMPHIS_OK);
    expect_text(f, MP_SHARD_DATA, 7, 3, "third");
    stop(f);
    end(f);
}

static void rot_in_the_last_batch_of_a_clean_stop_is_refused(void **state)
{
    struct fixture *f = begin(false, false);
    memphis_error err = { 0 };
    (void)state;

    three_batches(f);
    stop(f);
    rot(f, 4 * 4096 + 300);
    assert_int_equal(start(f, false, &err), MEMPHIS_CORRUPT);
    give_up(f);
    end(f);
}

static void a_log_without_node_is_refused(void **state)
{
    struct fixture *f = begin(false, false);
    memphis_error err = { 0 };
    char path[96];
    (void)state;

    three_batches(f);
    stop(f);
    snprintf(path, sizeof path, "%s/node", f->dir);
    unlink(path);
    assert_int_equal(start(f, false, &err), MEMPHIS_CORRUPT);
    give_up(f);
    end(f);
}

/* -- speed ------------------------------------------------------------------------- */

static double seconds(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Keeps memory in bounds, as consumers do. */
static void trim(struct fixture *f, uint64_t first)
{
    uint8_t floor[9] = { 0 };
    struct mp_entry t = { .type = MP_ENTRY_FLOOR, .pid = 7, .payload = { floor, 9 } };

    mp_set_u64(floor, first);
    append(f, MP_SHARD_DATA, &t);
}

static void bench(bool diskless)
{
    struct fixture *f = begin(true, diskless);
    enum { COUNT = 3000000 };
    char body[129];

    memset(body, 'x', 128);
    body[128] = 0;
    assert_int_equal(start(f, false, NULL), MEMPHIS_OK);
    change_partition(f, MP_SHARD_DATA, 7, 1);
    settle(f);
    struct mp_log *log = mp_replica_log(f->replica, MP_SHARD_DATA);
    double cpu = seconds(CLOCK_THREAD_CPUTIME_ID), wall = seconds(CLOCK_MONOTONIC);
    struct mp_entry e = message(7, 0, body);
    for (uint64_t i = 1; i <= COUNT; i++) {
        e.seq = i;
        while (mp_log_is_full(log)) {
            turn(f);
            if (mp_log_is_full(log))
                usleep(20);
        }
        mp_log_append(log, &e, 1, i);
        if (i % 512 == 0)
            turn(f);
        if (i % 100000 == 0)
            trim(f, i - 50000);
    }
    settle(f);
    cpu = seconds(CLOCK_THREAD_CPUTIME_ID) - cpu;
    wall = seconds(CLOCK_MONOTONIC) - wall;
    print_message("%s: %.0f ns of core time, %.0f ns of wall time per 128 B message\n",
                  diskless ? "memory" : "durable", cpu * 1e9 / COUNT,
                  wall * 1e9 / COUNT);
    stop(f);
    end(f);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        leak_checked(nothing_is_readable_or_applied_before_it_is_durable),
        leak_checked(what_was_committed_is_there_after_a_clean_stop),
        leak_checked(a_crash_is_recovered_from_again_and_again),
        leak_checked(floors_and_deletes_take_effect_before_apply),
        leak_checked(a_dropped_partition_is_gone_for_ever),
        leak_checked(an_apply_may_append_to_any_log),
        leak_checked(a_memory_shard_commits_in_submit_and_forgets),
        leak_checked(without_a_directory_all_shards_commit_at_the_end_of_the_turn),
        leak_checked(an_append_of_the_last_apply_of_a_turn_asks_for_another),
        leak_checked(a_message_larger_than_a_wal_file_gets_one_of_its_own),
        leak_checked(the_log_rolls_through_many_files),
        leak_checked(an_idle_log_covers_its_last_batch_once),
        leak_checked(a_second_broker_of_the_same_process_is_refused),
        leak_checked(a_directory_of_somebody_else_is_refused_by_name),
        leak_checked(rot_in_a_covered_batch_is_refused_with_its_place),
        leak_checked(rot_in_the_last_batch_of_a_crash_is_a_torn_tail),
        leak_checked(rot_in_the_last_batch_of_a_clean_stop_is_refused),
        leak_checked(a_log_without_node_is_refused),
    };

    if (argc > 1 && strcmp(argv[1], "bench") == 0) {
        bench(false);
        bench(true);
        return 0;
    }
    return run_tests("replica/solo", tests);
}
