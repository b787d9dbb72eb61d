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

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(rows_are_dropped_and_go_with_their_station),
    };

    return run_tests("broker/dls_drop", tests);
}
