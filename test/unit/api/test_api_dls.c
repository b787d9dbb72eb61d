#include "unit/api/dls_world.h"

#include <pthread.h>
#include <sys/wait.h>

static void each_shows_a_letter_with_everything(void **state)
{
    (void)state;
    for (int mode = 0; mode < TEST_MODES; mode++) {
        struct world *x = begin(mode);
        memphis_consumer *other = join_group(x, "d", "two");
        produce(x, 1);
        kill_next(x->c, "bad total");
        await_letters(x, 1);
        kill_next(other, NULL);
        memphis_stats st;
        do { /* the other group's is written with its next progress */
            if (x->w.options.mode == MEMPHIS_MANUAL)
                assert_int_equal(memphis_step(x->w.b, NULL), MEMPHIS_OK);
            usleep(1000);
            struct seen s = each(x, 0);
            assert_int_equal(s.count, 1);
            memphis_message_unref(s.kept);
            if (s.last.groups_count == 2)
                break;
        } while (true);
        struct seen s = each(x, 0);
        assert_true(s.last.id > 0);
        assert_int_equal(s.last.reason, MEMPHIS_DEAD_NACKED);
        assert_int_equal(s.last.deliveries, 1);
        assert_string_equal(s.groups, "g.one two ");
        assert_string_equal(s.detail, "bad total");
        assert_string_equal(s.body, "m1");
        assert_string_equal(s.header, "green");
        assert_true(s.last.time_ms > 1600000000000ull);
        for (int i = 0; i < 4; i++)
            assert_int_equal(s.last.reserved[i], 0);
        assert_int_equal(memphis_message_sequence(s.kept), 1);
        assert_int_equal(memphis_message_partition(s.kept), 1);
        assert_true(memphis_message_time_ms(s.kept) > 1600000000000ull);
        memphis_message_unref(s.kept);
        memphis_stats_read(x->w.b, &st);
        assert_int_equal(st.dead, 2);
        assert_int_equal(st.dead_letters, 1); /* DLS-15 */
        assert_true(st.dead_letters_bytes > 40);
        assert_int_equal(st.dead_letters_dropped, 0);
        memphis_consumer_close(other);
        end(x);
    }
}

static void lose(struct world *x, int n)
{
    produce(x, n);
    for (int i = 0; i < n; i++)
        kill_next(x->c, NULL);
    await_letters(x, (uint64_t)n);
}

/* More than a page, and a callback that stops, drops or resends. */
static bool drop_it(void *ctx, const memphis_dead *d)
{
    struct world *x = ctx;

    assert_int_equal(memphis_dls_drop(x->s, &d->id, 1, NULL), MEMPHIS_OK);
    return true;
}

static void each_goes_through_all_of_them(void **state)
{
    (void)state;
    for (int mode = 0; mode < TEST_MODES; mode++) {
        struct world *x = begin(mode);
        lose(x, 150);
        struct seen s = each(x, 0);
        assert_int_equal(s.count, 150);
        for (int i = 1; i < 150; i++)
            assert_true(s.ids[i] > s.ids[i - 1]);
        memphis_message_unref(s.kept);
        s = each(x, 70);
        assert_int_equal(s.count, 70);
        memphis_message_unref(s.kept);
        assert_int_equal(memphis_dls_each(x->s, drop_it, x, NULL), MEMPHIS_OK);
        assert_int_equal(info(x).letters, 0);
        s = each(x, 0);
        assert_int_equal(s.count, 0);
        end(x);
    }
}

static void letters_are_dropped_by_id_or_all(void **state) /* DLS-08 */
{
    (void)state;
    for (int mode = 0; mode < TEST_MODES; mode++) {
        struct world *x = begin(mode);
        lose(x, 5);
        struct seen s = each(x, 0);
        memphis_message_unref(s.kept);
        uint64_t some[] = { s.ids[1], 0, UINT64_MAX, s.ids[3], s.ids[1] };
        assert_int_equal(memphis_dls_drop(x->s, some, 5, NULL), MEMPHIS_OK);
        assert_int_equal(info(x).letters, 3);
        assert_int_equal(memphis_dls_drop(x->s, some, 0, NULL), MEMPHIS_OK);
        assert_int_equal(info(x).letters, 3); /* none is not all */
        assert_int_equal(memphis_dls_drop(x->s, NULL, 1, NULL), MEMPHIS_INVALID);
        assert_int_equal(memphis_dls_drop(x->s, NULL, 0, NULL), MEMPHIS_OK);
        assert_int_equal(info(x).letters, 0);
        end(x);
    }
}

static void await_resent(struct world *x, uint64_t n)
{
    for (int i = 0; i < 4000 && info(x).resent < n; i++) {
        if (x->w.options.mode == MEMPHIS_MANUAL)
            assert_int_equal(memphis_step(x->w.b, NULL), MEMPHIS_OK);
        usleep(1000);
    }
    assert_int_equal(info(x).resent, n);
}

/* DLS-06, DLS-09, in process. */
static void a_resent_letter_comes_to_its_group_and_is_settled(void **state)
{
    (void)state;
    for (int mode = 0; mode < TEST_MODES; mode++) {
        struct world *x = begin(mode);
        memphis_consumer *other = join_group(x, "d", "two");
        memphis_consumer *second = join_group(x, "e", "G.One"); /* a member, too */
        lose(x, 1);
        memphis_message *m = next(other);
        assert_int_equal(memphis_message_ack(m), MEMPHIS_OK);
        memphis_message_unref(m);
        struct seen s = each(x, 0);
        memphis_message_unref(s.kept);
        for (int round = 0; round < 3; round++) { /* what is not acked stays */
            memphis_consumer *who;
            assert_int_equal(memphis_dls_resend(x->s, s.ids, 1, NULL), MEMPHIS_OK);
            await_resent(x, 1);
            assert_false(has_next(other));
            uint32_t got = 0;
            who = x->c;
            assert_int_equal(memphis_fetch(who, &m, 1, 0, &got, NULL), MEMPHIS_OK);
            if (got == 0) {
                who = second;
                assert_int_equal(memphis_fetch(who, &m, 1, 0, &got, NULL), MEMPHIS_OK);
            }
            assert_int_equal(got, 1); /* one member has it */
            assert_false(has_next(x->c));
            assert_false(has_next(second));
            assert_memory_equal(memphis_message_data(m).data, "m1", 2);
            assert_int_equal(memphis_message_header(m, "color").size, 5);
            assert_int_equal(memphis_message_dead_id(m), s.ids[0]);
            assert_int_equal(memphis_message_sequence(m), 1);
            assert_int_equal(memphis_message_partition(m), 1);
            if (round == 0) {
                assert_int_equal(memphis_message_nack(m, 0), MEMPHIS_OK);
                assert_int_equal(memphis_message_nack(m, 5), MEMPHIS_UNSUPPORTED);
                assert_int_equal(memphis_message_extend(m), MEMPHIS_OK);
            } else if (round == 1) {
                assert_int_equal(memphis_message_dead_letter(m, "again"), MEMPHIS_OK);
            } else {
                assert_int_equal(memphis_message_ack(m), MEMPHIS_OK);
            }
            memphis_message_unref(m);
            await_letters(x, round < 2);
        }
        memphis_consumer_close(other);
        memphis_consumer_close(second);
        end(x);
    }
}

struct tally {
    int count, acks;
};

static int32_t ack_some(void *ctx, memphis_message *m)
{
    struct tally *t = ctx;

    assert_true(memphis_message_dead_id(m) > 0);
    t->count++;
    return t->count <= t->acks ? MEMPHIS_ACK : MEMPHIS_NACK;
}

/* DLS-07: more than a member lets wait; it fetches at its own pace. */
static void all_are_resent_and_those_that_are_acked_go(void **state)
{
    enum { N = 300 };

    (void)state;
    for (int mode = 0; mode < TEST_MODES; mode++) {
        struct world *x = begin(mode);
        struct tally t = { .acks = 200 };
        lose(x, N);
        assert_int_equal(memphis_dls_resend(x->s, NULL, 0, NULL), MEMPHIS_OK);
        await_resent(x, 256); /* what it lets wait */
        assert_int_equal(info(x).resending, 1);
        assert_int_equal(info(x).resend, N);
        assert_int_equal(memphis_dls_resend(x->s, NULL, 0, &x->err), MEMPHIS_BUSY);
        while (t.count < N) {
            uint32_t handled = 0;
            assert_int_equal(
                memphis_consume(x->c, 100, 5000, ack_some, &t, &handled, NULL),
                MEMPHIS_OK);
            assert_true(handled > 0);
        }
        await_resent(x, N);
        assert_int_equal(info(x).resending, 0);
        await_letters(x, N - 200);
        end(x);
    }
}

static void *resend_soon(void *ctx)
{
    struct world *x = ctx;

    usleep(100000);
    assert_int_equal(memphis_dls_resend(x->s, NULL, 0, NULL), MEMPHIS_OK);
    return NULL;
}

static void a_waiting_fetch_gets_a_letter(void **state)
{
    struct world *x = begin(0);
    memphis_message *m;
    pthread_t t;

    (void)state;
    lose(x, 1);
    pthread_create(&t, NULL, resend_soon, x);
    m = next(x->c);
    assert_true(memphis_message_dead_id(m) > 0);
    memphis_message_unref(m);
    pthread_join(t, NULL);
    assert_int_equal(memphis_dls_resend(x->s, NULL, 0, NULL), MEMPHIS_OK);
    m = next(x->c);
    assert_true(memphis_message_dead_id(m) > 0);
    memphis_message_unref(m);
    assert_int_equal(memphis_dls_resend(x->s, NULL, 0, NULL), MEMPHIS_OK);
    await_resent(x, 1);
    end(x); /* a letter that nobody has fetched goes with its consumer */
}

static void what_makes_no_sense_is_refused(void **state)
{
    (void)state;
    for (int mode = 0; mode < TEST_MODES; mode++) {
        struct world *x = begin(mode);
        memphis_dls_info i;
        uint64_t id = 7;
        assert_int_equal(memphis_dls_each(NULL, see, NULL, NULL), MEMPHIS_INVALID);
        assert_int_equal(memphis_dls_each(x->s, NULL, NULL, NULL), MEMPHIS_INVALID);
        assert_int_equal(memphis_dls_resend(NULL, &id, 1, NULL), MEMPHIS_INVALID);
        assert_int_equal(memphis_dls_resend(x->s, NULL, 1, NULL), MEMPHIS_INVALID);
        assert_int_equal(memphis_dls_resend(x->s, &id, 100001, NULL), MEMPHIS_FULL);
        assert_int_equal(memphis_dls_read_info(x->s, NULL, NULL), MEMPHIS_INVALID);
        assert_int_equal(memphis_dls_read_info(NULL, &i, NULL), MEMPHIS_INVALID);
        assert_int_equal(memphis_dls_resend(x->s, &id, 1, NULL), MEMPHIS_OK);
        assert_int_equal(memphis_dls_resend(x->s, NULL, 0, NULL), MEMPHIS_OK);
        assert_int_equal(memphis_station_drop(x->s, NULL), MEMPHIS_OK);
        assert_int_equal(memphis_dls_each(x->s, see, NULL, &x->err),
                         MEMPHIS_NOT_FOUND);
        assert_int_equal(memphis_dls_resend(x->s, &id, 1, NULL), MEMPHIS_NOT_FOUND);
        assert_int_equal(memphis_dls_drop(x->s, NULL, 0, NULL), MEMPHIS_NOT_FOUND);
        assert_int_equal(memphis_dls_read_info(x->s, &i, NULL), MEMPHIS_NOT_FOUND);
        memphis_close(x->w.b);
        x->w.b = NULL;
        assert_int_equal(memphis_dls_each(x->s, see, NULL, NULL), MEMPHIS_CLOSED);
        assert_int_equal(memphis_dls_drop(x->s, NULL, 0, NULL), MEMPHIS_CLOSED);
        end(x);
    }
}

static void a_forked_child_is_refused(void **state)
{
    struct world *x = begin(0);
    uint64_t id = 7;
    int status = 0;

    (void)state;
    pid_t pid = fork();
    if (pid == 0)
        _exit(!(memphis_dls_each(x->s, see, NULL, NULL) == MEMPHIS_MISUSE &&
                memphis_dls_drop(x->s, &id, 1, NULL) == MEMPHIS_MISUSE &&
                memphis_dls_resend(x->s, NULL, 0, NULL) == MEMPHIS_MISUSE));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    end(x);
}

static void letters_outlive_a_restart(void **state)
{
    (void)state;
    for (int mode = 0; mode < TEST_MODES; mode++) {
        struct world *x = begin(mode);
        lose(x, 3);
        struct seen before = each(x, 0);
        memphis_message_unref(before.kept);
        memphis_consumer_close(x->c);
        memphis_producer_close(x->p);
        memphis_station_close(x->s);
        memphis_close(x->w.b);
        x->c = NULL;
        x->p = NULL;
        assert_int_equal(test_world_open(&x->w), MEMPHIS_OK);
        assert_int_equal(memphis_station_open(x->w.b, "or.ders", &x->s, NULL),
                         MEMPHIS_OK);
        struct seen after = each(x, 0);
        assert_int_equal(after.count, 3);
        assert_int_equal(after.ids[2], before.ids[2]);
        assert_string_equal(after.groups, "g.one ");
        memphis_message_unref(after.kept);
        end(x);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_shows_a_letter_with_everything),
        cmocka_unit_test(each_goes_through_all_of_them),
        cmocka_unit_test(letters_are_dropped_by_id_or_all),
        cmocka_unit_test(a_resent_letter_comes_to_its_group_and_is_settled),
        cmocka_unit_test(all_are_resent_and_those_that_are_acked_go),
        cmocka_unit_test(a_waiting_fetch_gets_a_letter),
        cmocka_unit_test(what_makes_no_sense_is_refused),
        cmocka_unit_test(a_forked_child_is_refused),
        cmocka_unit_test(letters_outlive_a_restart),
    };

    return run_tests("api/api_dls", tests);
}
