#include "unit/broker/dls_world.h"

static void rows_end_with_their_retention(void **state)
{
    struct world *w = world_with("", true);

    (void)state;
    lose(w, 2);
    mp_disk_advance(w->disk, (uint64_t)(MP_DLS_RETENTION_MS - 10000) * 1000000);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(rows_end_with_their_retention),
    };

    return run_tests("broker/dls_keep", tests);
}
