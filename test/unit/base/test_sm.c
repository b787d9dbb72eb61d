#include "support/test.h"

#include "base/sm.h"

enum { NEW, OPEN, CLOSED, LAST = 31 };

static const struct mp_sm_state states[] = {
    [NEW] = { "new", 1u << OPEN | 1u << CLOSED },
    [OPEN] = { "open", 1u << CLOSED | 1u << OPEN | 1u << LAST },
    [CLOSED] = { "closed", 0 },
};

static void a_machine_moves_along_the_edges_of_its_table(void **state)
{
    uint32_t s = NEW;

    (void)state;
    mp_sm_move(&s, OPEN, states);
    assert_int_equal(s, OPEN);
    mp_sm_move(&s, OPEN, states);
    mp_sm_move(&s, CLOSED, states);
    assert_int_equal(s, CLOSED);
    s = OPEN;
    mp_sm_move(&s, LAST, states);
    assert_int_equal(s, LAST);
}

static void a_move_without_an_edge_is_an_assertion(void **state)
{
    static uint32_t s = CLOSED; /* survives the jump of the failure */

    (void)state;
    expect_assert_failure(mp_sm_move(&s, OPEN, states));
    assert_int_equal(s, CLOSED);
    s = OPEN;
    expect_assert_failure(mp_sm_move(&s, NEW, states));
    assert_int_equal(s, OPEN);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_machine_moves_along_the_edges_of_its_table),
    cmocka_unit_test(a_move_without_an_edge_is_an_assertion),
};

int main(void)
{
    return run_tests("base/sm", tests);
}
