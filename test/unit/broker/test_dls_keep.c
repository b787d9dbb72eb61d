#include "unit/broker/dls_world.h"

static void rows_end_with_their_retention(void **state)
{
    struct world *w = world_with("", true);

    (void)state;
    lose(w, 2);
    mp_disk_advance(w->disk, (uint64_t)(3 * 3600 * 1000 - 10000) * 1000000);
    pass(w, 3);
    assert_true(has_rows(w));
    restart(w);
    assert_true(has_rows(w));
    mp_disk_advance(w->disk, 20000ull * 1000000);
    pass(w, 3);
    settle_down(w);
    assert_false(has_rows(w));
    restart(w);
    assert_false(has_rows(w));
    world_free(w);
}

static void keep(struct world *w, uint32_t hours, uint64_t bytes_max)
{
    assert_int_equal(mp_dls_keep(w->broker, hours, bytes_max, NULL), MEMPHIS_OK);
}

static void wait_minutes(struct world *w, uint64_t n)
{
    mp_disk_advance(w->disk, n * 60 * 1000000000);
    pass(w, 3);
    settle_down(w);
}

static void how_long_can_be_set_and_holds_at_once(void **state) /* DLS-11 */
{
    struct world *w = world_with("", true);
    memphis_error err;

    (void)state;
    lose(w, 2);
    keep(w, 30, 0);
    wait_minutes(w, 29 * 60);
    assert_int_equal(count_rows(w), 2);
    produce(w, "new");
    give_up(w, "billing");
    assert_int_equal(mp_dls_keep(w->broker, 31, 0, &err), MEMPHIS_INVALID);
    assert_non_null(strstr(err.message, "1 to 30 hours"));
    keep(w, 1, 0); /* shorter: what is too old goes now */
    wait_minutes(w, 0);
    assert_int_equal(count_rows(w), 1);
    assert_string_equal(read_letter(w, only_row(w)->id).payload, "new");
    wait_minutes(w, 61);
    assert_false(has_rows(w));
    world_free(w);
}

/* The timer of a letter that has left by itself does not keep the next one. */
static void each_has_its_own_time(void **state)
{
    struct world *w = world_with("", true);
    struct said said;

    (void)state;
    lose(w, 1);
    uint32_t id = only_row(w)->id;
    wait_minutes(w, 60);
    produce(w, "new");
    give_up(w, "billing");
    mp_dls_drop(station(w, "orders"), &id, 1, then_say(&said));
    settle_down(w);
    wait_minutes(w, 130);
    assert_true(has_rows(w));
    wait_minutes(w, 60);
    assert_false(has_rows(w));
    world_free(w);
}

static void the_oldest_go_when_they_are_too_many_bytes(void **state)
{
    struct world *w = world_with("", true);
    struct mp_dls_stats st;
    uint64_t one;

    (void)state;
    lose(w, 20);
    mp_dls_stats(w->broker, &st);
    assert_int_equal(st.letters, 20);
    one = st.bytes / 20;
    assert_true(one > 100 && one < 200);
    keep(w, 0, 10 * one + one / 2);
    pass(w, 3);
    settle_down(w);
    mp_dls_stats(w->broker, &st);
    assert_true(st.letters == 9 || st.letters == 10);
    assert_int_equal(st.forced, 20 - st.letters);
    assert_int_equal(mp_dls_next(station(w, "orders"), NULL)->seq, 21 - st.letters);
    assert_int_equal(station(w, "orders")->dead_count, st.letters);
    for (int i = 0; i < 30; i++) { /* and so on */
        produce(w, "more!");
        give_up(w, "billing");
        pass(w, 3);
        settle_down(w);
        mp_dls_stats(w->broker, &st);
        assert_true(st.bytes <= 10 * one + one / 2);
        assert_true(st.letters >= 8);
    }
    restart(w);
    mp_dls_stats(w->broker, &st);
    assert_int_equal(st.letters, count_rows(w));
    assert_true(st.letters >= 8 && st.letters <= 10);
    world_free(w);
}

static bool has_none(struct mp_client *c, size_t size)
{
    (void)c, (void)size;
    return false;
}

static uint64_t messages_of_dls(struct world *w)
{
    struct mp_log_stats st;

    mp_log_stats(w->broker->data_log, 0, &st);
    return st.messages;
}

/* A resend that is under way is not forgotten with the letters before its note. */
static void a_note_stays_when_letters_before_it_go(void **state)
{
    struct world *w = world_with("", true);
    struct mp_subscription *sub;
    struct said said;

    (void)state;
    lose(w, 5);
    w->client.has_room = has_none; /* it waits for this reader */
    assert_int_equal(mp_bus_subscribe(w->broker->bus, &w->client,
                                      MP_STR("$memphis_dls_orders.billing"),
                                      MP_STR(""), &sub),
                     MEMPHIS_OK);
    mp_dls_resend_all(station(w, "orders"), then_say(&said));
    settle_down(w);
    assert_int_equal(said.status, MEMPHIS_OK);
    assert_int_equal(messages_of_dls(w), 6);
    stop(w);
    mp_disk_advance(w->disk, 4ull * 3600 * 1000000000);
    start(w);
    pass(w, 20);
    settle_down(w);
    assert_false(has_rows(w));
    assert_int_equal(messages_of_dls(w), 1);
    pass(w, 12000); /* it goes on, finds nothing, and ends */
    settle_down(w);
    assert_int_equal(messages_of_dls(w), 0);
    world_free(w);
}

static void many_go_in_steps(void **state)
{
    enum { MANY = 10000 };
    struct world *w = world_with("", true);

    (void)state;
    for (int i = 0; i < MANY; i++)
        mp_dls_refused(station(w, "orders"), MP_STR(""), MP_STR("x"), MP_STR("bad"));
    settle_down(w);
    assert_int_equal(count_rows(w), MANY);
    mp_disk_advance(w->disk, 4ull * 3600 * 1000000000);
    turn(w);
    while (count_rows(w) == MANY)
        turn(w);
    assert_int_equal(count_rows(w), MANY - 4096);
    pass(w, 20);
    settle_down(w);
    assert_int_equal(count_rows(w), 0);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(rows_end_with_their_retention),
        leak_checked(how_long_can_be_set_and_holds_at_once),
        leak_checked(each_has_its_own_time),
        leak_checked(the_oldest_go_when_they_are_too_many_bytes),
        leak_checked(a_note_stays_when_letters_before_it_go),
        leak_checked(many_go_in_steps),
    };

    return run_tests("broker/dls_keep", tests);
}
