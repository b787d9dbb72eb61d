#include "support/test.h"

#include "base/mem.h"
#include "broker/peer.h"

#include <stdio.h>

static void of_ipv6_it_is_the_64(void **state)
{
    static const struct {
        const char *a, *b;
        bool is_same;
    } cases[] = {
        { "10.0.0.1", "10.0.0.1", true },
        { "10.0.0.1", "10.0.0.2", false },
        { "10.0.0.1", "::ffff:10.0.0.1", true },
        { "2001:db8:0:1::1", "2001:db8:0:1:ffff:ffff:ffff:ffff", true },
        { "2001:db8:0:1::1", "2001:DB8:0000:1::2", true },
        { "2001:db8:0:1::1", "2001:db8:0:2::1", false },
        { "fe80::1%eth0", "fe80::2%eth1", true },
        { "::1", "::ffff:0.0.0.1", false },
        { "local", NULL, true },
        { "local", "10.0.0.1", false },
        { "unix:@1", "unix:@2", false },
    };
    struct mp_peers ps;
    (void)state;

    mp_peers_init(&ps);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct mp_peer *a = mp_peers_hold(&ps, cases[i].a);
        struct mp_peer *b = mp_peers_hold(&ps, cases[i].b);
        if ((a == b) != cases[i].is_same)
            fail_msg("%s and %s", cases[i].a, cases[i].b);
        mp_peers_release(&ps, a);
        mp_peers_release(&ps, b);
    }
    assert_int_equal(ps.map.count, 0);
    mp_peers_fini(&ps);
}

static void pauses_grow_by_a_second_up_to_ten(void **state)
{
    struct mp_peers ps;
    (void)state;

    mp_peers_init(&ps);
    struct mp_peer *p = mp_peers_hold(&ps, "10.0.0.1");
    struct mp_peer *local = mp_peers_hold(&ps, "local");
    for (uint64_t i = 1; i <= 30; i++) {
        uint64_t more = i < 10 ? 0 : i - 9 < 10 ? i - 9 : 10;
        mp_peer_failed(p, 5000);
        mp_peer_failed(local, 5000);
        assert_int_equal(p->pause_ends_ms, more > 0 ? 5000 + more * 1000 : 0);
        assert_int_equal(mp_peer_is_suspect(p, 5000), i >= 10);
    }
    assert_int_equal(local->pause_ends_ms, 0);
    assert_false(mp_peer_is_suspect(local, 5000));
    assert_true(mp_peer_is_suspect(p, 64999));
    assert_false(mp_peer_is_suspect(p, 65000)); /* a minute */
    mp_peer_failed(p, 65000);
    assert_int_equal(p->failures, 1);
    mp_peers_release(&ps, p);
    mp_peers_release(&ps, local);
    mp_peers_fini(&ps);
}

/* Those without failures, and of the others the oldest, when there are too many. */
static void who_is_held_is_kept_and_others_are_forgotten_some_time(void **state)
{
    struct mp_peers ps;
    char address[32];
    (void)state;

    mp_peers_init(&ps);
    mp_peers_release(&ps, mp_peers_hold(&ps, "10.0.0.1"));
    assert_int_equal(ps.map.count, 0);
    struct mp_peer *held = mp_peers_hold(&ps, "10.0.0.2");
    mp_peer_failed(held, 0);
    for (int i = 0; i < 1100; i++) {
        snprintf(address, sizeof address, "10.1.%d.%d", i / 250, i % 250);
        struct mp_peer *p = mp_peers_hold(&ps, address);
        mp_peer_failed(p, 0);
        mp_peers_release(&ps, p);
    }
    assert_int_equal(ps.map.count, 1025);
    assert_ptr_equal(mp_peers_hold(&ps, "10.0.0.2"), held);
    mp_peers_release(&ps, held);
    mp_peers_release(&ps, held);
    assert_int_equal(ps.map.count, 1024);
    struct mp_peer *early = mp_peers_hold(&ps, "10.1.0.0");
    assert_int_equal(early->failures, 0);
    struct mp_peer *late = mp_peers_hold(&ps, "10.1.4.99");
    assert_int_equal(late->failures, 1);
    mp_peers_release(&ps, late);
    mp_peers_release(&ps, early);
    mp_peers_fini(&ps);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(of_ipv6_it_is_the_64),
        leak_checked(pauses_grow_by_a_second_up_to_ten),
        leak_checked(who_is_held_is_kept_and_others_are_forgotten_some_time),
    };

    return run_tests("broker/peer", tests);
}
