#include "unit/broker/dls_world.h"

static void a_resent_message_comes_to_the_failed_groups_only(void **state)
{
    struct world *w = world_with("", true);
    struct mp_subscription *s[3];
    static const char *const subjects[] = { "$memphis_dls_orders.billing",
                                            "$memphis_dls_orders_billing",
                                            "$memphis_dls_orders.shipping" };

    (void)state;
    produce(w, "seven");
    give_up(w, "billing");
    uint32_t id = only_row(w)->id;
    for (int i = 0; i < 3; i++)
        assert_int_equal(mp_bus_subscribe(w->broker->bus, &w->client,
                                          mp_slice_text(subjects[i]), MP_STR(""),
                                          &s[i]),
                         MEMPHIS_OK);
    w->heard_count = 0;
    mp_dls_resend(w->broker, id);
    mp_dls_resend(w->broker, id + 1000);
    settle_down(w);
    assert_int_equal(w->heard_count, 2); /* both forms of one group's subject */
    assert_string_equal(w->heard[0], "seven");
    check_row(w, 1); /* it stays until it is settled */
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(a_resent_message_comes_to_the_failed_groups_only),
    };

    return run_tests("broker/dls_resend", tests);
}
