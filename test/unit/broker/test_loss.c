/* A whole broker goes on after a loss that was accepted. */
#include "world.h"

static struct mp_env *disk(struct world *w)
{
    return mp_env_mem_open(w->disk, NULL);
}

struct names {
    const char *in;
    char items[16][64];
    int count;
};

static void take_name(void *ctx, const char *name, uint64_t size)
{
    struct names *n = ctx;

    (void)size;
    if (strncmp(name, n->in, strlen(n->in)) == 0 && n->count < 16)
        snprintf(n->items[n->count++], sizeof n->items[0], "%s", name);
}

static void remove_all(struct world *w, const char *in)
{
    struct names n = { .in = in };
    struct mp_env *e = disk(w);

    mp_disk_each(w->disk, take_name, &n);
    assert_true(n.count > 0);
    for (int i = 0; i < n.count; i++)
        assert_int_equal(e->unlink(e, n.items[i], NULL), MEMPHIS_OK);
    assert_int_equal(e->sync_all(e, NULL), MEMPHIS_OK); /* no crash brings it back */
    e->close(e);
}

static void start_with_loss(struct world *w)
{
    memphis_error err;

    assert_int_equal(try_start(w, &err), MEMPHIS_CORRUPT);
    w->accept_loss = true;
    start(w);
    w->accept_loss = false;
    settle_down(w);
    w->heard_count = 0;
}

/* The answer to a publish names this sequence. */
static void expect_seq(struct world *w, const char *stream, uint64_t seq)
{
    char subject[64], expected[96];

    snprintf(subject, sizeof subject, "%s.final", stream);
    publish(w, subject, "hello");
    settle_down(w);
    snprintf(expected, sizeof expected, "{\"stream\":\"%s\", \"seq\":%llu", stream,
             (unsigned long long)seq);
    const char *text = heard(w);
    if (strncmp(text, expected, strlen(expected)) != 0)
        fail_msg("%s is not %s", text, expected);
}

/* meta.db has seen more of the log of shard 1 than is left: what comes is above it. */
static void metadata_goes_on_when_the_log_is_gone(void **state)
{
    struct world *w = world_new();
    (void)state;

    make_station(w, "one", 1);
    expect_seq(w, "one$1", 1);
    stop(w);
    remove_all(w, "wal/");
    start_with_loss(w);
    expect_seq(w, "one$1", 65537); /* none is given twice */
    make_station(w, "two", 2);
    expect_seq(w, "two$2", 1);
    for (uint64_t round = 0; round < 3; round++) {
        restart(w);
        settle_down(w);
        assert_non_null(station(w, "one"));
        expect_seq(w, "two$2", 2 + round);
        char name[] = "three0";
        name[5] += (char)round;
        make_station(w, name, 1);
    }
    world_free(w);
}

/* Where a broker has been nothing is begun anew unasked. */
static void metadata_without_node_and_log_are_told_and_kept(void **state)
{
    struct world *w = world_new();
    memphis_error err;
    (void)state;

    make_station(w, "one", 1);
    expect_seq(w, "one$1", 1);
    stop(w);
    remove_all(w, "wal/");
    remove_all(w, "node");
    for (int round = 0; round < 2; round++) {
        assert_int_equal(try_start(w, &err), MEMPHIS_CORRUPT);
        assert_non_null(strstr(err.message, "'meta.db' holds metadata"));
        assert_non_null(strstr(err.message, "--accept-loss"));
    }
    start_with_loss(w);
    expect_seq(w, "one$1", 65537); /* none is given twice */
    make_station(w, "two", 2);
    for (int round = 0; round < 2; round++) {
        restart(w);
        settle_down(w);
        assert_non_null(station(w, "one"));
        assert_non_null(station(w, "two"));
    }
    expect_seq(w, "one$1", 65538);
    world_free(w);
}

/* Whatever has become of the start that was to accept it. */
static void a_loss_of_all_is_not_forgotten_by_a_crash(void **state)
{
    struct world *w = world_new();
    memphis_status s = MEMPHIS_IO;
    memphis_error err;
    (void)state;

    make_station(w, "one", 1);
    stop(w);
    remove_all(w, "wal/");
    remove_all(w, "node");
    struct mp_disk *before = w->disk;
    for (uint64_t n = 1; s != MEMPHIS_OK; n++) {
        w->disk = mp_disk_clone(before);
        mp_disk_crash_at(w->disk, n);
        w->accept_loss = true;
        s = try_start(w, &err);
        if (s == MEMPHIS_OK)
            stop(w);
        mp_disk_crash(w->disk, (enum mp_disk_outcome)(n % MP_CRASH_OUTCOMES), n);
        w->accept_loss = false;
        if (try_start(w, &err) != MEMPHIS_OK) {
            w->accept_loss = true;
            start(w);
        }
        settle_down(w);
        w->heard_count = 0;
        publish(w, "one$1.final", "hello");
        settle_down(w);
        const char *seq = strstr(heard(w), "\"seq\":");
        assert_non_null(seq);
        assert_true(strtoull(seq + 6, NULL, 10) > 65536);
        w->heard_count = 0;
        stop(w);
        mp_disk_free(w->disk);
    }
    w->disk = before;
    w->accept_loss = true;
    start(w);
    world_free(w);
}

static uint64_t messages_of(struct world *w, const char *name)
{
    struct mp_stream *s = mp_station_stream(station(w, name), 1);
    struct mp_log_stats st;

    mp_log_stats(s->log, s->pid, &st);
    return st.messages;
}

/* The file that is lost held the entry that opened the partition. */
static void a_station_is_served_though_its_open_entry_is_lost(void **state)
{
    struct world *w = world_new();
    static char payload[9000];
    (void)state;

    memset(payload, 'x', sizeof payload - 1);
    make_station(w, "one", 1);
    for (int i = 0; i < 200; i++) {
        publish(w, "one$1.final", payload);
        settle_down(w);
        w->heard_count = 0;
    }
    stop(w);
    remove_all(w, "wal/00000000000000000000");
    start_with_loss(w);
    uint64_t kept = messages_of(w, "one");
    assert_true(kept > 10 && kept < 200);
    for (int round = 0; round < 2; round++) {
        restart(w);
        settle_down(w);
        assert_int_equal(messages_of(w, "one"), kept);
    }
    expect_seq(w, "one$1", 200 + 65536 + 1);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(metadata_goes_on_when_the_log_is_gone),
        leak_checked(metadata_without_node_and_log_are_told_and_kept),
        leak_checked(a_loss_of_all_is_not_forgotten_by_a_crash),
        leak_checked(a_station_is_served_though_its_open_entry_is_lost),
    };

    return run_tests("broker/loss", tests);
}
