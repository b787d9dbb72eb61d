#include "world.h"

/* An operation needs no more of its broker than the list. */
static void init(struct mp_broker *b)
{
    memset(b, 0, sizeof(*b));
    mp_list_init(&b->operations);
}

static void an_operation_ends_when_the_last_append_is_answered(void **state)
{
    struct mp_broker b;
    struct said said;
    struct mp_operation *op;

    (void)state;
    init(&b);
    op = mp_operation_new(&b, then_say(&said));
    assert_ptr_equal(mp_operation_of(mp_operation_tag(op)), op);
    mp_operation_tag(op);
    mp_operation_done(op); /* the first append, while it is being built */
    mp_operation_done(op); /* built */
    assert_int_equal(said.count, 0);
    mp_operation_done(op);

    assert_int_equal(said.count, 1);
    assert_int_equal(said.status, MEMPHIS_OK);
    assert_string_equal(said.text, "");
    assert_true(mp_list_is_empty(&b.operations));
}

static void the_first_failure_is_the_one_that_is_told(void **state)
{
    struct mp_broker b;
    struct said said;
    struct mp_operation *op;

    (void)state;
    init(&b);
    op = mp_operation_new(&b, then_say(&said));
    mp_operation_fail(op, MEMPHIS_NO_SPACE, "no room: 100%");
    mp_operation_fail(op, MEMPHIS_IO, "later");
    mp_operation_done(op);
    assert_int_equal(said.status, MEMPHIS_NO_SPACE);
    assert_string_equal(said.text, "no room: 100%");
}

static void nobody_needs_to_wait(void **state)
{
    struct mp_broker b;

    (void)state;
    init(&b);
    mp_operation_done(mp_operation_new(&b, (struct mp_then){ 0 }));
    assert_true(mp_list_is_empty(&b.operations));
}

static void tags_of_streams_are_no_operations(void **state)
{
    (void)state;
    assert_null(mp_operation_of(0));
    assert_null(mp_operation_of(MP_STREAM_TAG));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(an_operation_ends_when_the_last_append_is_answered),
        leak_checked(the_first_failure_is_the_one_that_is_told),
        leak_checked(nobody_needs_to_wait),
        leak_checked(tags_of_streams_are_no_operations),
    };

    return run_tests("broker/operation", tests);
}
