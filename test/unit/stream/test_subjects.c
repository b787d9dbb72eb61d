#include "support/test.h"

#include "base/str.h"
#include "stream/subjects.h"

static const uint64_t key[2] = { 1, 2 };

static void the_newest_sequence_of_a_subject_is_known(void **state)
{
    struct mp_subjects x;

    (void)state;
    mp_subjects_init(&x, key, false);
    mp_subjects_put(&x, MP_STR("a"), 1);
    mp_subjects_put(&x, MP_STR("b"), 2);
    mp_subjects_put(&x, MP_STR("a"), 5);
    mp_subjects_put(&x, MP_STR("a"), 3); /* a scan that comes late */
    assert_int_equal(mp_subjects_find(&x, MP_STR("a"))->last, 5);
    assert_null(mp_subjects_find(&x, MP_STR("c")));
    mp_subjects_trim(&x, 3);
    assert_null(mp_subjects_find(&x, MP_STR("b")));
    assert_int_equal(x.map.count, 1);
    mp_subjects_fini(&x);
}

static void a_list_has_all_sequences_in_order(void **state)
{
    static const uint64_t seqs[] = { 5, 9, 2, 7, 1 };
    struct mp_subjects x;
    struct mp_subject_item *i = NULL;

    (void)state;
    mp_subjects_init(&x, key, true);
    for (int k = 0; k < 5; k++)
        i = mp_subjects_put(&x, MP_STR("a"), seqs[k]);
    assert_int_equal(mp_subject_count_from(i, 0), 5);
    assert_int_equal(mp_subject_count_from(i, 6), 2);
    i = mp_subjects_remove(&x, i, 1);
    i = mp_subjects_remove(&x, i, 9);
    i = mp_subjects_remove(&x, i, 4); /* not there */
    assert_int_equal(i->last, 7);
    assert_int_equal(i->count - i->first, 3);
    assert_int_equal(i->seqs[i->first], 2);
    assert_int_equal(i->seqs[i->first + 1], 5);
    mp_subjects_trim(&x, 6);
    assert_int_equal(mp_subject_count_from(i, 0), 1);
    assert_null(mp_subjects_remove(&x, i, 7));
    assert_null(mp_subjects_find(&x, MP_STR("a")));
    assert_int_equal(x.bytes, 0);
    mp_subjects_fini(&x);
}

static void what_it_takes_is_counted(void **state)
{
    struct mp_subjects x;
    uint64_t seq = 0, before;

    (void)state;
    mp_subjects_init(&x, key, true);
    mp_subjects_put(&x, MP_STR("subject"), ++seq);
    before = x.bytes;
    assert_true(before > 7);
    /* A front that is given up again and again makes no longer list. */
    for (int k = 0; k < 1000; k++) {
        struct mp_subject_item *i = mp_subjects_put(&x, MP_STR("subject"), ++seq);

        mp_subjects_remove(&x, i, seq - 1);
    }
    assert_true(x.bytes <= before + 4 * sizeof(uint64_t));
    mp_subjects_fini(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_newest_sequence_of_a_subject_is_known),
        cmocka_unit_test(a_list_has_all_sequences_in_order),
        cmocka_unit_test(what_it_takes_is_counted),
    };

    return cmocka_run_group_tests_name("stream/subjects", tests, NULL, NULL);
}
