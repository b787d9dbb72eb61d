#include "support/test.h"

#include "base/str.h"
#include "proto/reserved.h"

static bool is(const char *subject, enum mp_reserved_use use)
{
    return mp_subject_is_reserved(mp_slice_text(subject), use);
}

static void requests_are_not_stolen(void **state)
{
    (void)state;
    assert_true(is("$memphis_station_creations", MP_RESERVED_SUBSCRIBE));
    assert_true(is("$memphis_x_y_detachments", MP_RESERVED_SUBSCRIBE));
    assert_true(is("$memphis_pm_acks", MP_RESERVED_SUBSCRIBE));
    assert_true(is("$JS.API.STREAM.INFO.x", MP_RESERVED_SUBSCRIBE));
    assert_true(is("$JS.ACK.>", MP_RESERVED_SUBSCRIBE));
    assert_false(is("$memphis_station_creations", MP_RESERVED_PUBLISH));
    assert_false(is("$memphis_pm_acks.mine", MP_RESERVED_SUBSCRIBE));
    assert_false(is("$memphis_station_creations.mine", MP_RESERVED_SUBSCRIBE));
    assert_false(is("$memphis_creations", MP_RESERVED_SUBSCRIBE));
    assert_false(is("orders.$memphis_pm_acks", MP_RESERVED_SUBSCRIBE));
    assert_false(is("", MP_RESERVED_SUBSCRIBE));
}

static void pushes_are_not_forged(void **state)
{
    (void)state;
    assert_true(is("$JS.EVENT.ADVISORY.x", MP_RESERVED_PUBLISH));
    assert_true(is("$memphis_dls_orders_billing", MP_RESERVED_PUBLISH));
    assert_true(is("$memphis_connection_status", MP_RESERVED_PUBLISH));
    assert_false(is("$memphis_dls_orders_billing", MP_RESERVED_SUBSCRIBE));
    assert_false(is("$JS.EVENT", MP_RESERVED_PUBLISH));
    assert_false(is("$JS.API.INFO", MP_RESERVED_PUBLISH));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(requests_are_not_stolen),
        leak_checked(pushes_are_not_forged),
    };

    return run_tests("proto/reserved", tests);
}
