/* What a broken broker says: nothing. */
#include "store_world.h"

struct world {
    struct store store;
    struct mp_client client;
    struct mp_source source;
    int heard, answered; /* on the bus; through `then` */
    memphis_status answer;
    int broken, worked, flushed;
};

static void hear(struct mp_client *c, struct mp_subscription *s,
                 const struct mp_message *m)
{
    (void)s, (void)m;
    mp_container_of(c, struct world, client)->heard++;
}

static void on_answer(void *ctx, memphis_status status, const char *text)
{
    struct world *w = ctx;

    (void)text;
    w->answered++;
    w->answer = status;
}

static void on_broken(void *ctx, const memphis_error *why)
{
    struct world *w = ctx;

    assert_int_equal(why->status, MEMPHIS_IO);
    w->broken++;
}

static size_t work(struct mp_source *s, size_t bytes_max, uint32_t *operations)
{
    (void)bytes_max, (void)operations;
    mp_container_of(s, struct world, source)->worked++;
    return 1;
}

static bool has_input(struct mp_source *s)
{
    (void)s;
    return false;
}

static void flush(struct mp_source *s)
{
    mp_container_of(s, struct world, source)->flushed++;
}

static void create(struct world *w, const char *name)
{
    struct mp_station_settings settings;

    mp_station_settings_default(&settings);
    mp_station_create(w->store.broker, name, &settings, "root",
                      (struct mp_then){ on_answer, w });
}

static void publish(struct world *w)
{
    struct mp_message m = { .subject = MP_STR("ready$1.final"),
                            .reply = MP_STR("_INBOX.1"),
                            .payload = MP_STR("hello") };

    mp_bus_publish(w->store.broker->bus, &w->client, &m);
}

/* A broker on a disk, with the station "ready". */
static void world_open(struct world *w)
{
    struct mp_subscription *s;

    *w = (struct world){
        .source = { .work = work, .has_input = has_input, .flush = flush },
        .client = { .deliver = hear, .user = "root" }
    };
    store_open(&w->store, on_broken, w);
    mp_bus_join(w->store.broker->bus, &w->client);
    assert_int_equal(mp_bus_subscribe(w->store.broker->bus, &w->client,
                                      MP_STR("_INBOX.*"), MP_STR(""), &s),
                     MEMPHIS_OK);
    create(w, "ready");
    for (int i = 0; i < 20 && w->answered == 0; i++)
        turn(&w->store);
    assert_int_equal(w->answered, 1);
    assert_int_equal(w->answer, MEMPHIS_OK);
    publish(w);
    for (int i = 0; i < 20 && (w->heard == 0 || !mp_broker_is_idle(w->store.broker));
         i++)
        turn(&w->store);
    assert_int_equal(w->heard, 1);
    w->heard = w->answered = 0;
}

static void world_close(struct world *w)
{
    mp_broker_forget_source(w->store.broker, &w->source);
    mp_bus_leave(w->store.broker->bus, &w->client);
    store_close(&w->store);
}

/* What waits for the failing batch. */
static void ask(struct world *w)
{
    publish(w);
    create(w, "waiting");
    mp_disk_fail(w->store.disk, MP_DISK_SYNC, 1, MEMPHIS_IO, false);
    turn(&w->store); /* the job runs, its mail is on its way */
    assert_int_equal(w->broken, 0);
}

static void nothing_is_answered_whose_fate_a_failed_sync_made_unknown(void **state)
{
    struct world w;

    (void)state;
    world_open(&w);
    ask(&w);
    turn(&w.store);
    assert_int_equal(w.broken, 1);
    assert_int_equal(w.answered, 0);
    assert_int_equal(w.heard, 0);
    world_close(&w);
}

static void the_turn_that_breaks_takes_no_input_and_writes_no_output(void **state)
{
    struct world w;

    (void)state;
    world_open(&w);
    ask(&w);
    mp_broker_wants_turn(w.store.broker, &w.source);
    mp_broker_wants_flush(w.store.broker, &w.source);
    turn(&w.store);
    assert_int_equal(w.broken, 1);
    assert_int_equal(w.worked, 0);
    assert_int_equal(w.flushed, 0);
    world_close(&w);
}

static void a_command_behind_the_failure_is_not_answered(void **state)
{
    struct world w;

    (void)state;
    world_open(&w);
    ask(&w);
    turn(&w.store);
    publish(&w);
    create(&w, "later");
    mp_station_drop(w.store.broker, mp_station_find(w.store.broker, MP_STR("ready")),
                    "root", (struct mp_then){ on_answer, &w });
    assert_int_equal(w.answered, 0);
    assert_int_equal(w.heard, 0);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(nothing_is_answered_whose_fate_a_failed_sync_made_unknown),
        leak_checked(the_turn_that_breaks_takes_no_input_and_writes_no_output),
        leak_checked(a_command_behind_the_failure_is_not_answered),
    };

    return run_tests("broker/broken", tests);
}
