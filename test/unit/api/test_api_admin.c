#include "support/broker.h"

#include "api/api.h"

#include <stdio.h>

static struct {
    int count;
    memphis_status status;
    char json[512];
} reply;

static void on_reply(void *ctx, memphis_status status, memphis_slice json)
{
    assert_ptr_equal(ctx, &reply);
    reply.count++;
    reply.status = status;
    snprintf(reply.json, sizeof reply.json, "%.*s", (int)json.size,
             (const char *)json.data);
}

static memphis_status call(struct test_world *w, const char *actor, const char *verb,
                           const char *json)
{
    reply.count = 0;
    w->err = (memphis_error){ 0 };
    return memphis_admin(w->b, actor, verb, (memphis_slice){ json, strlen(json) },
                         on_reply, &reply, &w->err);
}

static void a_verb_answers_in_each_mode(void **state)
{
    (void)state;

    for (int mode = MEMPHIS_THREADED; mode <= MEMPHIS_MANUAL; mode++) {
        struct test_world w;
        test_world_init(&w, mode, false);
        assert_int_equal(test_world_open(&w), MEMPHIS_OK);
        assert_int_equal(call(&w, NULL, "station_create", "{\"name\":\"orders\"}"),
                         MEMPHIS_OK);
        assert_int_equal(reply.count, 1);
        assert_string_equal(reply.json, "{}");
        assert_int_equal(call(&w, "root", "station_list", ""), MEMPHIS_OK);
        assert_non_null(strstr(reply.json, "\"name\":\"orders\""));
        /* What fails has words, in both places. */
        assert_int_equal(call(&w, "nobody", "station_list", "{}"), MEMPHIS_DENIED);
        assert_int_equal(reply.status, MEMPHIS_DENIED);
        assert_non_null(strstr(reply.json, w.err.message));
        assert_int_equal(w.err.status, MEMPHIS_DENIED);
        assert_int_equal(call(&w, NULL, "nothing", "{}"), MEMPHIS_NOT_FOUND);
        assert_int_equal(memphis_admin(w.b, NULL, "user_list",
                                       (memphis_slice){ NULL, 0 }, NULL, NULL, NULL),
                         MEMPHIS_OK);
        assert_int_equal(memphis_admin(w.b, NULL, NULL, (memphis_slice){ NULL, 0 },
                                       NULL, NULL, NULL),
                         MEMPHIS_INVALID);
        assert_int_equal(memphis_admin(NULL, NULL, "user_list",
                                       (memphis_slice){ NULL, 0 }, NULL, NULL, NULL),
                         MEMPHIS_INVALID);
        test_world_end(&w);
    }
}

/* The hash of a password is made on a worker: the call waits for it. */
static void a_user_is_there_when_the_call_returns(void **state)
{
    (void)state;

    for (int mode = MEMPHIS_THREADED; mode <= MEMPHIS_MANUAL; mode++) {
        struct test_world w;
        test_world_init(&w, mode, true);
        assert_int_equal(test_world_open(&w), MEMPHIS_OK);
        assert_int_equal(call(&w, NULL, "user_add",
                              "{\"username\":\"ann\",\"password\":\"Secret1!\","
                              "\"user_type\":\"application\"}"),
                         MEMPHIS_OK);
        assert_int_equal(call(&w, "ann", "station_list", "{}"), MEMPHIS_OK);
        assert_int_equal(call(&w, "ann", "user_list", "{}"), MEMPHIS_DENIED);
        test_world_end(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(a_verb_answers_in_each_mode),
        leak_checked(a_user_is_there_when_the_call_returns),
    };

    return run_tests("api/admin", tests);
}
