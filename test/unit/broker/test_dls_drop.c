#include "unit/broker/dls_world.h"

static void rows_are_dropped_and_go_with_their_station(void **state)
{
    struct world *w = world_with("", true);
    struct said said;

    (void)state;
    lose(w, 2);
    uint32_t id = mp_dls_next(station(w, "orders"), NULL)->id;
    struct mp_station *other = make_station(w, "bills", 1);
    mp_dls_drop(other, &id, 1, then_say(&said)); /* not its own */
    settle_down(w);
    assert_non_null(mp_dls_find(w->broker, id));
    mp_dls_drop(station(w, "orders"), &id, 1, then_say(&said));
    assert_int_equal(said.count, 0);
    settle_down(w);
    assert_int_equal(said.status, MEMPHIS_OK);
    assert_null(mp_dls_find(w->broker, id));
    assert_string_equal(read_letter(w, only_row(w)->id).payload, "eight");
    id = only_row(w)->id;

    mp_station_drop(w->broker, station(w, "orders"), "root", then_say(&said));
    settle_down(w);
    assert_null(mp_dls_find(w->broker, id));
    restart(w);
    assert_null(mp_dls_find(w->broker, id));
    assert_true(read_letter(w, id).gone);
    world_free(w);
}

static void rows_are_dropped_in_any_order_and_twice(void **state)
{
    struct world *w = world_with("", true);
    uint32_t ids[12], n = 0;
    struct said said;

    (void)state;
    lose(w, 10);
    for (struct mp_dead_row *row = NULL;
         (row = mp_dls_next(station(w, "orders"), row)) != NULL;)
        ids[n++] = row->id;
    uint32_t some[] = { ids[7], ids[1], ids[2], ids[7], 99999, ids[3], ids[9] };
    mp_dls_drop(station(w, "orders"), some, 7, then_say(&said));
    settle_down(w);
    assert_int_equal(said.status, MEMPHIS_OK);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(count_rows(w), 5);
        for (uint32_t i = 0; i < 10; i++)
            assert_true((mp_dls_find(w->broker, ids[i]) == NULL) ==
                        ((i >= 1 && i <= 3) || i == 7 || i == 9));
        restart(w);
    }
    mp_dls_drop(station(w, "orders"), NULL, 0, then_say(&said));
    assert_int_equal(said.status, MEMPHIS_OK);
    assert_int_equal(count_rows(w), 5);
    world_free(w);
}

/* Another group's letter of that message is on its way: neither stays. */
static void a_row_that_changes_is_dropped_with_its_new_letter(void **state)
{
    for (int all = 0; all < 2; all++) {
        struct world *w = world_with("", true);
        struct said said;

        (void)state;
        lose(w, 2);
        struct mp_dead_row *row = mp_dls_next(station(w, "orders"), NULL);
        uint32_t id = row->id;
        assert_int_equal(pull(w, "shipping"), 2);
        mp_dls_nacked(station(w, "orders"), 1, 1, MP_STR("shipping"), MP_STR("no"));
        assert_true(row->is_changing);
        if (all)
            mp_dls_drop_all(station(w, "orders"), then_say(&said));
        else
            mp_dls_drop(station(w, "orders"), &id, 1, then_say(&said));
        settle_down(w);
        assert_int_equal(said.count, 1);
        assert_int_equal(said.status, MEMPHIS_OK);
        assert_int_equal(count_rows(w), all ? 0 : 1);
        assert_null(mp_dls_find(w->broker, id));
        restart(w);
        assert_int_equal(count_rows(w), all ? 0 : 1);
        world_free(w);
    }
}

/* DLS-08. What comes meanwhile stays. */
static void all_are_dropped_in_steps(void **state)
{
    enum { MANY = 5000 };
    struct world *w = world_with("", true);
    struct said said;

    (void)state;
    for (int i = 0; i < MANY; i++)
        mp_dls_refused(station(w, "orders"), MP_STR(""), MP_STR("x"), MP_STR("bad"));
    settle_down(w);
    assert_int_equal(count_rows(w), MANY);
    mp_dls_drop_all(station(w, "orders"), then_say(&said));
    assert_int_equal(said.count, 0);
    mp_dls_refused(station(w, "orders"), MP_STR(""), MP_STR("x"), MP_STR("new"));
    settle_down(w);
    assert_int_equal(said.status, MEMPHIS_OK);
    assert_string_equal(only_row(w)->text, "new");
    assert_int_equal(station(w, "orders")->dead_count, 1);
    restart(w);
    assert_string_equal(only_row(w)->text, "new");
    assert_int_equal(station(w, "orders")->dead_count, 1);
    mp_dls_drop_all(station(w, "orders"), then_say(&said));
    struct said dropped;
    mp_station_drop(w->broker, station(w, "orders"), "root", then_say(&dropped));
    settle_down(w);
    assert_int_equal(said.status, MEMPHIS_OK);
    world_free(w);
}

/* A new row, without who was in the old one. */
static void a_group_may_give_up_what_is_being_dropped(void **state)
{
    struct world *w = world_with("", true);
    struct said said;

    (void)state;
    produce(w, "seven");
    give_up(w, "billing");
    uint32_t id = only_row(w)->id;
    assert_int_equal(pull(w, "shipping"), 1);
    mp_dls_drop(station(w, "orders"), &id, 1, then_say(&said));
    mp_stream_settle(group(w, "shipping"), 1, MP_STR("+TERM"), MP_STR(""));
    settle_down(w);
    assert_int_equal(said.status, MEMPHIS_OK);
    check_row(w, 1);
    assert_ptr_equal(mp_dls_group(only_row(w), 0), group(w, "shipping"));
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(rows_are_dropped_and_go_with_their_station),
        leak_checked(rows_are_dropped_in_any_order_and_twice),
        leak_checked(a_row_that_changes_is_dropped_with_its_new_letter),
        leak_checked(a_group_may_give_up_what_is_being_dropped),
        leak_checked(all_are_dropped_in_steps),
    };

    return run_tests("broker/dls_drop", tests);
}
