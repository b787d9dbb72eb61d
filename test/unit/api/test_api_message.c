#include "unit/api/dls_world.h"

static int32_t is_dead(void *ctx, memphis_message *m)
{
    (void)ctx, (void)m;
    return MEMPHIS_DEAD;
}

static void a_dead_verdict_makes_a_dead_letter(void **state) /* CSM-07 */
{
    (void)state;
    for (int mode = 0; mode < TEST_MODES; mode++) {
        struct world *x = begin(mode);
        uint32_t handled = 0;
        produce(x, 2);
        assert_int_equal(memphis_consume(x->c, 2, 5000, is_dead, NULL, &handled, NULL),
                         MEMPHIS_OK);
        assert_true(handled > 0);
        if (handled < 2)
            assert_int_equal(
                memphis_consume(x->c, 1, 5000, is_dead, NULL, &handled, NULL),
                MEMPHIS_OK);
        await_letters(x, 2);
        struct seen s = each(x, 0);
        assert_int_equal(s.last.reason, MEMPHIS_DEAD_NACKED);
        assert_string_equal(s.detail, "given up by its consumer");
        memphis_message_unref(s.kept);
        assert_false(has_next(x->c));
        end(x);
    }
}

static void a_dead_letter_has_the_words_of_its_consumer(void **state)
{
    char longer[1200];

    (void)state;
    memset(longer, 'x', sizeof longer);
    longer[sizeof longer - 1] = 0;
    memcpy(longer + 1023, "\xc3\xa4", 2); /* a character across the limit */
    for (int mode = 0; mode < TEST_MODES; mode++) {
        struct world *x = begin(mode);
        produce(x, 2);
        kill_next(x->c, "bad total");
        await_letters(x, 1);
        struct seen s = each(x, 0);
        assert_string_equal(s.detail, "bad total");
        memphis_message_unref(s.kept);
        kill_next(x->c, longer);
        await_letters(x, 2);
        s = each(x, 0);
        assert_int_equal(strlen(s.detail), 1023);
        assert_memory_equal(s.detail, longer, 1023);
        memphis_message_unref(s.kept);
        assert_int_equal(memphis_message_dead_letter(NULL, "x"), MEMPHIS_INVALID);
        end(x);
    }
}

static void a_shown_letter_is_nobodys_to_settle(void **state)
{
    (void)state;
    for (int mode = 0; mode < TEST_MODES; mode++) {
        struct world *x = begin(mode);
        produce(x, 1);
        kill_next(x->c, NULL);
        await_letters(x, 1);
        struct seen s = each(x, 0);
        assert_int_equal(memphis_message_ack(s.kept), MEMPHIS_MISUSE);
        assert_int_equal(memphis_message_nack(s.kept, 0), MEMPHIS_MISUSE);
        assert_int_equal(memphis_message_dead_letter(s.kept, "x"), MEMPHIS_MISUSE);
        assert_int_equal(memphis_message_dead_id(s.kept), 0);
        assert_int_equal(info(x).letters, 1);
        /* It outlives everything but its own reference. */
        memphis_consumer_close(x->c);
        memphis_producer_close(x->p);
        memphis_station_close(x->s);
        memphis_close(x->w.b);
        x->w.b = NULL;
        assert_memory_equal(memphis_message_data(s.kept).data, "m1", 2);
        memphis_message_unref(s.kept);
        test_world_end(&x->w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_dead_verdict_makes_a_dead_letter),
        cmocka_unit_test(a_dead_letter_has_the_words_of_its_consumer),
        cmocka_unit_test(a_shown_letter_is_nobodys_to_settle),
    };

    return run_tests("api/api_message", tests);
}
