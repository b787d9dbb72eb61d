#include "support/test.h"

#include "base/list.h"

struct thing {
    int number;
    struct mp_list node;
};

static int number_of(struct mp_list *n)
{
    return n == NULL ? -1 : mp_container_of(n, struct thing, node)->number;
}

static void nodes_leave_in_the_order_of_their_places(void **state)
{
    struct mp_list head;
    struct thing a = { 1, { 0 } }, b = { 2, { 0 } }, c = { 3, { 0 } };

    (void)state;
    mp_list_init(&head);
    assert_true(mp_list_is_empty(&head));
    mp_list_push_back(&head, &b.node);
    mp_list_push_back(&head, &c.node);
    mp_list_push_front(&head, &a.node);
    assert_false(mp_list_is_empty(&head));
    assert_int_equal(number_of(mp_list_pop_front(&head)), 1);
    assert_int_equal(number_of(mp_list_pop_front(&head)), 2);
    assert_int_equal(number_of(mp_list_pop_front(&head)), 3);
    assert_null(mp_list_pop_front(&head));
    assert_true(mp_list_is_empty(&head));
}

static void a_removed_node_knows_that_it_is_in_no_list(void **state)
{
    struct mp_list head;
    struct thing a = { 1, { 0 } }, b = { 2, { 0 } };

    (void)state;
    mp_list_init(&head);
    assert_false(mp_list_is_linked(&a.node));
    mp_list_remove(&a.node); /* zero: nothing to do */
    mp_list_push_back(&head, &a.node);
    mp_list_push_back(&head, &b.node);
    assert_true(mp_list_is_linked(&a.node));
    mp_list_remove(&a.node);
    assert_false(mp_list_is_linked(&a.node));
    mp_list_remove(&a.node); /* twice is fine */
    assert_ptr_equal(head.next, &b.node);
    assert_ptr_equal(head.prev, &b.node);
    mp_list_remove(&b.node);
    assert_true(mp_list_is_empty(&head));
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(nodes_leave_in_the_order_of_their_places),
    cmocka_unit_test(a_removed_node_knows_that_it_is_in_no_list),
};

int main(void)
{
    return run_tests("base/list", tests);
}
