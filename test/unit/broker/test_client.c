#include "world.h"

static struct mp_consumer_request consumer(const char *name, const char *group)
{
    return (struct mp_consumer_request){
        .name = name, .group = group, .connection_id = "c1", .app_id = "app",
        .sdk = "go", .user = "root", .version = 4, .ack_wait_ms = 30000,
        .deliveries_max = 2, .start_sequence = 1, .last_messages = -1,
    };
}

static void add(struct world *w, const struct mp_consumer_request *r)
{
    struct said said;

    mp_consumer_add(station(w, "orders"), r, then_say(&said));
    assert_int_equal(said.count, 0); /* when it is committed, not before */
    settle_down(w);
    assert_int_equal(said.status, MEMPHIS_OK);
}

static memphis_status drop(struct world *w, const char *name, const char *connection)
{
    struct said said;

    mp_consumer_drop(station(w, "orders"), name, connection, then_say(&said));
    settle_down(w);
    return said.status;
}

static struct mp_stream_group *group(struct world *w, const char *durable, uint32_t p)
{
    struct mp_stream *s = mp_station_stream(station(w, "orders"), p);

    return mp_stream_group(s, mp_slice_text(durable));
}

static int rows(struct world *w)
{
    struct mp_consumer_row *row = NULL;
    int n = 0;

    while ((row = mp_meta_consumer_next(w->broker->meta, station(w, "orders")->id,
                                        row)) != NULL)
        n++;
    return n;
}

static struct world *world_with_station(uint32_t partitions)
{
    struct world *w = world_new();

    make_station(w, "orders", partitions);
    mp_connection_up(w->broker, "c1");
    return w;
}

static void done(struct world *w)
{
    mp_connection_down(w->broker, "c1");
    world_free(w);
}

static void PRO_09_a_producer_is_a_row_per_name_and_connection(void **state)
{
    struct world *w = world_with_station(1);
    struct mp_producer_request r = { .name = "p1", .connection_id = "c1",
                                     .user = "root" };
    struct said said;

    (void)state;
    mp_producer_add(station(w, "orders"), &r, then_say(&said));
    settle_down(w);
    assert_int_equal(said.status, MEMPHIS_OK);
    r.connection_id = "c2";
    mp_producer_add(station(w, "orders"), &r, then_say(&said));
    settle_down(w);
    assert_int_equal(said.status, MEMPHIS_OK);
    mp_producer_drop(station(w, "orders"), "p1", "c1", then_say(&said));
    settle_down(w);
    assert_int_equal(said.status, MEMPHIS_OK);
    mp_producer_drop(station(w, "orders"), "p1", "c1", then_say(&said));
    settle_down(w);
    assert_int_equal(said.status, MEMPHIS_NOT_FOUND);
    restart(w);
    assert_non_null(mp_meta_producer_next(w->broker->meta, station(w, "orders")->id,
                                          NULL));
    world_free(w);
}

static void CSM_01_the_first_member_makes_the_group_on_every_partition(void **state)
{
    struct world *w = world_with_station(3);
    struct mp_consumer_request r = consumer("c", "Billing.EU");

    (void)state;
    add(w, &r);
    for (uint32_t p = 1; p <= 3; p++) {
        assert_non_null(group(w, "billing#eu", p));
        assert_int_equal(group(w, "billing#eu", p)->group.config.deliveries_max, 2);
    }
    r.name = "d";
    r.deliveries_max = 7; /* of the whole group, from now on */
    r.ack_wait_ms = 100;
    add(w, &r);
    for (uint32_t p = 1; p <= 3; p++) {
        assert_int_equal(group(w, "billing#eu", p)->group.config.deliveries_max, 7);
        assert_int_equal(group(w, "billing#eu", p)->group.config.ack_wait_ns,
                         100000000);
    }
    done(w);
}

static void CSM_11_CSM_12_a_start_holds_for_each_partition(void **state)
{
    struct world *w = world_with_station(2);
    struct mp_consumer_request r = consumer("c", "last2");

    (void)state;
    for (int i = 0; i < 5; i++)
        publish(w, "orders$1.final", "x");
    publish(w, "orders$2.final", "x");
    settle_down(w);
    r.last_messages = 2;
    add(w, &r);
    assert_int_equal(group(w, "last2", 1)->group.next, 4);
    assert_int_equal(group(w, "last2", 2)->group.next, 1);
    r.group = "new";
    r.last_messages = 0;
    add(w, &r);
    assert_int_equal(group(w, "new", 1)->group.next, 6);
    assert_int_equal(group(w, "new", 2)->group.next, 2);
    r.group = "from3";
    r.last_messages = -1;
    r.start_sequence = 3;
    add(w, &r);
    assert_int_equal(group(w, "from3", 1)->group.next, 3);
    assert_int_equal(group(w, "from3", 2)->group.next, 2);
    r.start_sequence = 1; /* a later member does not move it */
    add(w, &r);
    assert_int_equal(group(w, "from3", 1)->group.next, 3);
    done(w);
}

static void CSM_23_the_last_active_member_takes_the_group_along(void **state)
{
    struct world *w = world_with_station(2);
    struct mp_consumer_request r = consumer("c", "billing");

    (void)state;
    add(w, &r);
    r.name = "d";
    add(w, &r);
    r.name = "absent";
    r.connection_id = "gone";
    add(w, &r);
    assert_int_equal(drop(w, "nobody", "c1"), MEMPHIS_NOT_FOUND);
    assert_int_equal(drop(w, "c", "c1"), MEMPHIS_OK);
    assert_non_null(group(w, "billing", 1));
    assert_int_equal(drop(w, "d", "c1"), MEMPHIS_OK);
    assert_null(group(w, "billing", 1));
    assert_null(group(w, "billing", 2));
    assert_int_equal(rows(w), 1);
    done(w);
}

static void CSM_18_a_disconnect_or_a_good_bye_keeps_the_group(void **state)
{
    struct world *w = world_with_station(1);
    struct mp_consumer_request r = consumer("c", "billing");
    struct said said;

    (void)state;
    add(w, &r);
    mp_connection_down(w->broker, "c1");
    restart(w);
    assert_non_null(group(w, "billing", 1));
    assert_int_equal(rows(w), 1);
    mp_consumer_forget(station(w, "orders"), "c", "c1", then_say(&said));
    settle_down(w);
    assert_int_equal(said.status, MEMPHIS_OK);
    assert_int_equal(rows(w), 0);
    assert_non_null(group(w, "billing", 1));
    world_free(w);
}

static void a_member_that_comes_while_the_last_one_leaves_has_a_group(void **state)
{
    struct world *w = world_with_station(2);
    struct mp_consumer_request r = consumer("c", "billing");
    struct said left, came;

    (void)state;
    add(w, &r);
    mp_consumer_drop(station(w, "orders"), "c", "c1", then_say(&left));
    r.name = "d";
    mp_consumer_add(station(w, "orders"), &r, then_say(&came));
    settle_down(w);
    assert_int_equal(left.status, MEMPHIS_OK);
    assert_int_equal(came.status, MEMPHIS_OK);
    assert_non_null(group(w, "billing", 1));
    assert_non_null(group(w, "billing", 2));
    restart(w);
    assert_non_null(group(w, "billing", 1));
    world_free(w);
}

static void a_station_has_only_so_many_groups(void **state)
{
    struct world *w = world_with_station(2);
    struct mp_consumer_request r = consumer("c", "billing");
    struct mp_stream *s = mp_station_stream(station(w, "orders"), 2);
    struct said said;

    (void)state;
    add(w, &r);
    uint32_t count = s->groups.count;
    s->groups.count = MP_GROUPS_MAX;
    r.name = "d"; /* a member of a group that exists makes none */
    mp_consumer_add(station(w, "orders"), &r, then_say(&said));
    r.name = "e";
    r.group = "shipping";
    settle_down(w);
    assert_int_equal(said.status, MEMPHIS_OK);
    mp_consumer_add(station(w, "orders"), &r, then_say(&said));
    settle_down(w);
    assert_int_equal(said.status, MEMPHIS_FULL);
    assert_null(group(w, "shipping", 1));
    s->groups.count = count;
    mp_consumer_add(station(w, "orders"), &r, then_say(&said));
    settle_down(w);
    assert_int_equal(said.status, MEMPHIS_OK);
    done(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(PRO_09_a_producer_is_a_row_per_name_and_connection),
        leak_checked(CSM_01_the_first_member_makes_the_group_on_every_partition),
        leak_checked(CSM_11_CSM_12_a_start_holds_for_each_partition),
        leak_checked(CSM_23_the_last_active_member_takes_the_group_along),
        leak_checked(CSM_18_a_disconnect_or_a_good_bye_keeps_the_group),
        leak_checked(a_member_that_comes_while_the_last_one_leaves_has_a_group),
        leak_checked(a_station_has_only_so_many_groups),
    };

    return run_tests("broker/client", tests);
}
