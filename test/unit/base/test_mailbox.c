#include "support/test.h"

#include "base/mailbox.h"

#include <pthread.h>
#include <sched.h>

static struct mp_mailbox box;
static _Atomic uint64_t wakes;

static void count_wake(void *ctx)
{
    assert_ptr_equal(ctx, &wakes);
    wakes++;
}

struct letter {
    struct mp_mail mail; /* first */
    uint32_t sender, number;
};

static uint32_t arrived[64];
static size_t arrived_count;

static void note(struct mp_mail *m)
{
    arrived[arrived_count++] = ((struct letter *)m)->number;
}

static int open_box(void **state)
{
    (void)state;
    arrived_count = 0;
    wakes = 0;
    mp_mailbox_init(&box, count_wake, &wakes);
    return 0;
}

static int close_box(void **state)
{
    mp_mailbox_fini(&box);
    return test_no_leaks(state);
}

static void an_empty_box_delivers_nothing_and_wakes_nobody(void **state)
{
    (void)state;
    assert_false(mp_mailbox_has_mail(&box));
    assert_int_equal(mp_mailbox_drain(&box), 0);
    assert_int_equal(wakes, 0);
}

static void mail_arrives_in_the_order_of_posting(void **state)
{
    struct letter letters[5];

    (void)state;
    for (uint32_t i = 0; i < 5; i++) {
        letters[i] = (struct letter){ .mail.deliver = note, .number = i };
        mp_mailbox_post(&box, &letters[i].mail);
        assert_true(mp_mailbox_has_mail(&box));
    }
    assert_int_equal(arrived_count, 0);
    assert_int_equal(mp_mailbox_drain(&box), 5);
    for (uint32_t i = 0; i < 5; i++)
        assert_int_equal(arrived[i], i);
    assert_false(mp_mailbox_has_mail(&box));
    assert_int_equal(mp_mailbox_drain(&box), 0);
}

static void wake_is_called_when_the_box_turns_from_empty_to_not_empty(void **state)
{
    struct letter a = { .mail.deliver = note }, b = a, c = a;

    (void)state;
    mp_mailbox_post(&box, &a.mail);
    assert_int_equal(wakes, 1);
    mp_mailbox_post(&box, &b.mail);
    assert_int_equal(wakes, 1);
    mp_mailbox_drain(&box);
    assert_int_equal(wakes, 1);
    mp_mailbox_post(&box, &c.mail);
    assert_int_equal(wakes, 2);
    mp_mailbox_drain(&box);
}

static void post_again(struct mp_mail *m)
{
    note(m);
    mp_mailbox_post(&box, m);
}

static void mail_posted_while_delivering_waits_for_the_next_drain(void **state)
{
    struct letter a = { .mail.deliver = post_again, .number = 1 };
    struct letter b = { .mail.deliver = note, .number = 2 };

    (void)state;
    mp_mailbox_post(&box, &a.mail);
    mp_mailbox_post(&box, &b.mail);
    assert_int_equal(mp_mailbox_drain(&box), 2);
    assert_int_equal(wakes, 2);
    assert_true(mp_mailbox_has_mail(&box));
    a.mail.deliver = note;
    assert_int_equal(mp_mailbox_drain(&box), 1);
    assert_int_equal(arrived_count, 3);
    assert_int_equal(arrived[2], 1);
}

static void free_letter(struct mp_mail *m)
{
    mp_free(m);
}

static void delivering_may_free_the_mail(void **state)
{
    (void)state;
    for (int i = 0; i < 10; i++) {
        struct letter *l = mp_alloc(sizeof *l);
        l->mail.deliver = free_letter;
        mp_mailbox_post(&box, &l->mail);
    }
    assert_int_equal(mp_mailbox_drain(&box), 10);
}

static void a_box_without_wake_is_fine(void **state)
{
    struct mp_mailbox silent;
    struct letter a = { .mail.deliver = note };

    (void)state;
    mp_mailbox_init(&silent, NULL, NULL);
    mp_mailbox_post(&silent, &a.mail);
    assert_int_equal(mp_mailbox_drain(&silent), 1);
    mp_mailbox_fini(&silent);
}

enum { SENDERS = 4, LETTERS = 100000 };

static struct letter *sent[SENDERS];
static uint32_t next_of[SENDERS];

static void check_order(struct mp_mail *m)
{
    struct letter *l = (struct letter *)m;

    assert_int_equal(l->number, next_of[l->sender]);
    next_of[l->sender]++;
}

static void *send_all(void *ctx)
{
    struct letter *letters = ctx;

    for (uint32_t i = 0; i < LETTERS; i++)
        mp_mailbox_post(&box, &letters[i].mail);
    return NULL;
}

static void four_threads_keep_their_order_and_lose_nothing(void **state)
{
    pthread_t threads[SENDERS];
    uint64_t delivered = 0, drains = 0;

    (void)state;
    for (uint32_t s = 0; s < SENDERS; s++) {
        sent[s] = mp_alloc(LETTERS * sizeof(struct letter));
        next_of[s] = 0;
        for (uint32_t i = 0; i < LETTERS; i++)
            sent[s][i] = (struct letter){ .mail.deliver = check_order,
                                          .sender = s,
                                          .number = i };
        assert_int_equal(pthread_create(&threads[s], NULL, send_all, sent[s]), 0);
    }
    while (delivered < SENDERS * LETTERS) {
        uint32_t n = mp_mailbox_drain(&box);
        delivered += n;
        drains += n > 0;
        if (n == 0)
            sched_yield();
    }
    for (uint32_t s = 0; s < SENDERS; s++)
        pthread_join(threads[s], NULL);
    for (uint32_t s = 0; s < SENDERS; s++) {
        assert_int_equal(next_of[s], LETTERS);
        mp_free(sent[s]);
    }
    assert_int_equal(delivered, SENDERS * LETTERS);
    assert_false(mp_mailbox_has_mail(&box));
    /* Each drain that found something emptied the box, and the first post after an
     * empty box wakes: one for one. */
    assert_int_equal(wakes, drains);
}

#define boxed(f) cmocka_unit_test_setup_teardown(f, open_box, close_box)

static const struct CMUnitTest tests[] = {
    boxed(an_empty_box_delivers_nothing_and_wakes_nobody),
    boxed(mail_arrives_in_the_order_of_posting),
    boxed(wake_is_called_when_the_box_turns_from_empty_to_not_empty),
    boxed(mail_posted_while_delivering_waits_for_the_next_drain),
    boxed(delivering_may_free_the_mail),
    boxed(a_box_without_wake_is_fine),
    boxed(four_threads_keep_their_order_and_lose_nothing),
};

int main(void)
{
    return run_tests("base/mailbox", tests);
}
