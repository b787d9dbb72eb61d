/* What a broken broker says: nothing. */
#include "support/test.h"

#include "broker/station.h"
#include "env/env_mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct world {
    struct mp_disk *disk;
    struct mp_broker *broker;
    struct mp_client client;
    struct mp_source source;
    char dir[32];        /* of meta.db; the rest is on `disk` */
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

static void turn(struct world *w)
{
    uint64_t next;

    mp_disk_advance(w->disk, 1000000);
    mp_broker_turn(w->broker, &next);
}

static void create(struct world *w, const char *name)
{
    struct mp_station_settings settings;

    mp_station_settings_default(&settings);
    mp_station_create(w->broker, name, &settings, "root",
                      (struct mp_then){ on_answer, w });
}

static void publish(struct world *w)
{
    struct mp_message m = { .subject = MP_STR("ready$1.final"),
                            .reply = MP_STR("_INBOX.1"),
                            .payload = MP_STR("hello") };

    mp_bus_publish(w->broker->bus, &w->client, &m);
}

/* A broker on a disk, with the station "ready". */
static void world_open(struct world *w)
{
    struct mp_broker_options o = { .heap = mp_heap_current(),
                                   .data_dir = w->dir,
                                   .broken = on_broken,
                                   .ctx = w };
    struct mp_subscription *s;

    *w = (struct world){ .source = { .work = work, .has_input = has_input,
                                     .flush = flush },
                         .client = { .deliver = hear, .user = "root" } };
    snprintf(w->dir, sizeof(w->dir), "/tmp/test_broken.XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    w->disk = mp_disk_new(1);
    o.env = mp_env_mem_open(w->disk, o.heap);
    assert_int_equal(mp_broker_open(&o, &w->broker, NULL), MEMPHIS_OK);
    mp_bus_join(w->broker->bus, &w->client);
    assert_int_equal(mp_bus_subscribe(w->broker->bus, &w->client, MP_STR("_INBOX.*"),
                                      MP_STR(""), &s), MEMPHIS_OK);
    create(w, "ready");
    for (int i = 0; i < 20 && w->answered == 0; i++)
        turn(w);
    assert_int_equal(w->answered, 1);
    assert_int_equal(w->answer, MEMPHIS_OK);
    publish(w);
    for (int i = 0; i < 20 && (w->heard == 0 || !mp_broker_is_idle(w->broker)); i++)
        turn(w);
    assert_int_equal(w->heard, 1);
    w->heard = w->answered = 0;
}

static void world_close(struct world *w)
{
    char path[64];

    mp_broker_forget_source(w->broker, &w->source);
    mp_bus_leave(w->broker->bus, &w->client);
    mp_broker_close(w->broker);
    mp_disk_free(w->disk);
    snprintf(path, sizeof(path), "%s/meta.db", w->dir);
    unlink(path);
    assert_int_equal(rmdir(w->dir), 0);
}

/* What waits for the failing batch. */
static void ask(struct world *w)
{
    publish(w);
    create(w, "waiting");
    mp_disk_fail(w->disk, MP_DISK_SYNC, 1, MEMPHIS_IO, false);
    turn(w); /* the job runs, its mail is on its way */
    assert_int_equal(w->broken, 0);
}

static void nothing_is_answered_whose_fate_a_failed_sync_made_unknown(void **state)
{
    struct world w;

    (void)state;
    world_open(&w);
    ask(&w);
    turn(&w);
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
    mp_broker_wants_turn(w.broker, &w.source);
    mp_broker_wants_flush(w.broker, &w.source);
    turn(&w);
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
    turn(&w);
    publish(&w);
    create(&w, "later");
    mp_station_drop(w.broker, mp_station_find(w.broker, MP_STR("ready")), "root",
                    (struct mp_then){ on_answer, &w });
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
