#include "support/test.h"

#include "base/limits.h"
#include "bus/bus.h"

#include <stdio.h>

/* A client that remembers what it got, and may do something from inside deliver(). */
struct listener {
    struct mp_client client;
    struct mp_bus *bus;
    uint32_t count;
    char last_subject[64], last_payload[64], last_pattern[64];
    void (*action)(struct listener *l, struct mp_subscription *s,
                   const struct mp_message *m);
    struct listener *other;
    struct mp_subscription *mine, *victim;
    struct mp_service *service;
};

static void copy_text(char out[64], memphis_slice s)
{
    size_t size = s.size < 63 ? s.size : 63;

    if (size > 0)
        memcpy(out, s.data, size);
    out[size] = 0;
}

static void on_message(struct mp_client *c, struct mp_subscription *s,
                       const struct mp_message *m)
{
    struct listener *l = mp_container_of(c, struct listener, client);

    l->count++;
    copy_text(l->last_subject, m->subject);
    copy_text(l->last_payload, m->payload);
    copy_text(l->last_pattern, mp_slice(s->subject, s->subject_size));
    if (l->action != NULL)
        l->action(l, s, m);
}

static void join(struct mp_bus *b, struct listener *l)
{
    *l = (struct listener){ .client.deliver = on_message, .bus = b };
    mp_bus_join(b, &l->client);
}

static struct mp_subscription *subscribe(struct listener *l, const char *subject,
                                         const char *queue)
{
    struct mp_subscription *s = NULL;

    assert_int_equal(mp_bus_subscribe(l->bus, &l->client, mp_slice_text(subject),
                                      mp_slice_text(queue), &s),
                     MEMPHIS_OK);
    return s;
}

static uint32_t publish(struct mp_bus *b, struct listener *from, const char *subject)
{
    struct mp_message m = { .subject = mp_slice_text(subject), .payload = MP_STR("x") };

    return mp_bus_publish(b, from != NULL ? &from->client : NULL, &m);
}

/* -- plain subscriptions ----------------------------------------------------------- */

static void each_plain_subscription_gets_the_message_once(void **state)
{
    struct mp_bus *b = mp_bus_new(1);
    struct listener a, c;

    (void)state;
    join(b, &a);
    join(b, &c);
    subscribe(&a, "x.*", NULL);
    subscribe(&a, "x.>", NULL);
    subscribe(&c, ">", NULL);
    subscribe(&c, "y", NULL);

    for (uint32_t i = 1; i <= 3; i++) { /* the second time from the cache */
        assert_int_equal(publish(b, NULL, "x.y"), 3);
        assert_int_equal(a.count, 2 * i);
        assert_int_equal(c.count, i);
    }
    assert_int_equal(publish(b, NULL, "nobody.but.everybody"), 1);
    mp_bus_leave(b, &a.client);
    mp_bus_leave(b, &c.client);
    assert_int_equal(publish(b, NULL, "x.y"), 0);
    mp_bus_free(b);
}

static void a_client_without_echo_does_not_hear_itself(void **state)
{
    struct mp_bus *b = mp_bus_new(1);
    struct listener a, c;

    (void)state;
    join(b, &a);
    join(b, &c);
    a.client.no_echo = true;
    subscribe(&a, "x", NULL);

    assert_int_equal(publish(b, &a, "x"), 0);
    assert_int_equal(publish(b, &c, "x"), 1);
    assert_int_equal(a.count, 1);
    mp_bus_leave(b, &a.client);
    mp_bus_free(b);
}

static void a_message_shows_its_own_subject_when_sent_to_an_inbox(void **state)
{
    struct mp_bus *b = mp_bus_new(1);
    struct listener a;
    struct mp_message m = { .subject = MP_STR("orders$1.final"),
                            .payload = MP_STR("p") };

    (void)state;
    join(b, &a);
    subscribe(&a, "_INBOX.a.*", NULL);

    assert_int_equal(mp_bus_deliver(b, MP_STR("_INBOX.a.1"), &m), 1);

    assert_string_equal(a.last_subject, "orders$1.final");
    assert_string_equal(a.last_pattern, "_INBOX.a.*");
    mp_bus_leave(b, &a.client);
    mp_bus_free(b);
}

static bool hears_a(struct mp_client *c, memphis_slice subject)
{
    (void)c;
    return mp_slice_equal(subject, MP_STR("a$1.final"));
}

static bool has_none(struct mp_client *c, size_t size)
{
    (void)c, (void)size;
    return false;
}

static void what_is_for_some_only_is_not_heard_by_others(void **state)
{
    struct mp_bus *b = mp_bus_new(1);
    struct listener free, bound, members[2];
    struct mp_message m = { .subject = MP_STR("x"), .heard_as = MP_STR("b$1.final") };
    memphis_slice inbox = MP_STR("_INBOX.a"), none = MP_STR("");

    (void)state;
    join(b, &free);
    join(b, &bound);
    bound.client.may_hear = hears_a;
    bound.client.has_room = has_none;
    subscribe(&bound, "_INBOX.>", NULL);
    assert_int_equal(mp_bus_deliver(b, inbox, &m), 0);
    assert_int_equal(mp_bus_reach(b, inbox, m.heard_as, 1), MP_BUS_NOBODY);
    assert_int_equal(mp_bus_reach(b, inbox, none, 1), MP_BUS_BUSY);
    subscribe(&free, "_INBOX.a", NULL);
    assert_int_equal(mp_bus_deliver(b, inbox, &m), 1);
    assert_int_equal(mp_bus_reach(b, inbox, m.heard_as, 1), MP_BUS_READY);
    assert_int_equal(bound.count, 0);
    m.heard_as = MP_STR("a$1.final");
    assert_int_equal(mp_bus_deliver(b, inbox, &m), 2);
    m.heard_as = none;
    assert_int_equal(mp_bus_deliver(b, inbox, &m), 2);
    /* A member that may not hear it takes nothing from its group. */
    for (int i = 0; i < 2; i++) {
        join(b, &members[i]);
        subscribe(&members[i], "x", "q");
    }
    members[0].client.may_hear = hears_a;
    m.heard_as = MP_STR("b$1.final");
    for (int i = 0; i < 4; i++)
        assert_int_equal(mp_bus_publish(b, NULL, &m), 1);
    assert_int_equal(members[1].count, 4);
    for (int i = 0; i < 2; i++)
        mp_bus_leave(b, &members[i].client);
    mp_bus_leave(b, &bound.client);
    mp_bus_leave(b, &free.client);
    mp_bus_free(b);
}

/* The cache of routes must never show a state of before. */
static void every_change_of_interest_is_seen_at_once(void **state)
{
    static const char *const subjects[] = { "x", "_INBOX.a.b", "$JS.ACK.s.g.1" };
    struct mp_bus *b = mp_bus_new(1);
    struct listener a;

    (void)state;
    join(b, &a);
    for (size_t i = 0; i < 3; i++)
        for (int k = 0; k < 3; k++) {
            struct mp_subscription *s = subscribe(&a, subjects[i], NULL);
            assert_int_equal(publish(b, NULL, subjects[i]), 1);
            struct mp_subscription *all = subscribe(&a, ">", NULL);
            assert_int_equal(publish(b, NULL, subjects[i]), 2);
            mp_bus_unsubscribe(b, s);
            assert_int_equal(publish(b, NULL, subjects[i]), 1);
            mp_bus_unsubscribe(b, all);
            assert_int_equal(publish(b, NULL, subjects[i]), 0);
        }
    mp_bus_free(b);
}

static void bad_subjects_and_too_many_are_refused(void **state)
{
    struct mp_bus *b = mp_bus_new(1);
    struct listener a;
    struct mp_subscription *s = NULL;

    (void)state;
    join(b, &a);
    assert_int_equal(mp_bus_subscribe(b, &a.client, MP_STR("a..b"), MP_STR(""), &s),
                     MEMPHIS_INVALID);
    for (uint32_t i = 0; i < MP_SUBSCRIPTIONS_MAX; i++)
        assert_int_equal(mp_bus_subscribe(b, &a.client, MP_STR("a"), MP_STR(""), &s),
                         MEMPHIS_OK);
    assert_int_equal(mp_bus_subscribe(b, &a.client, MP_STR("a"), MP_STR(""), &s),
                     MEMPHIS_FULL);
    mp_bus_leave(b, &a.client);
    assert_int_equal(a.client.subscriptions_cost, 0);
    mp_bus_free(b);
}

static void a_subject_of_many_tokens_counts_as_several(void **state)
{
    struct mp_bus *b = mp_bus_new(1);
    struct mp_subscription *s;
    struct listener a;
    char deep[2 * 512];
    uint32_t n = 0;

    (void)state;
    join(b, &a);
    for (size_t i = 0; i + 1 < sizeof(deep); i += 2) {
        deep[i] = 'x';
        deep[i + 1] = '.';
    }
    deep[sizeof(deep) - 1] = 0;
    for (; n < 1000; n++) {
        mp_format(deep, sizeof(deep), "%03u", n);
        deep[3] = '.';
        if (mp_bus_subscribe(b, &a.client, mp_slice_text(deep), MP_STR(""), &s) !=
            MEMPHIS_OK)
            break;
    }
    assert_in_range(n, 200, 300); /* 10,000 of them would be nodes of 2 GB */
    mp_bus_leave(b, &a.client);
    assert_int_equal(a.client.subscriptions_cost, 0);
    mp_bus_free(b);
}

static void text_with_empty_tokens_reaches_nobody(void **state)
{
    struct mp_bus *b = mp_bus_new(1);
    struct listener a;

    (void)state;
    join(b, &a);
    subscribe(&a, "a.>", NULL);
    subscribe(&a, ">", NULL);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(publish(b, NULL, "a..b"), 0);
        assert_int_equal(publish(b, NULL, "a."), 0);
        assert_int_equal(publish(b, NULL, "_INBOX..b"), 0);
        assert_int_equal(publish(b, NULL, "a.*"), 2);
    }
    mp_bus_leave(b, &a.client);
    mp_bus_free(b);
}

static void own_interest_finds_only_the_clients_own(void **state)
{
    struct mp_bus *b = mp_bus_new(1);
    struct listener a, c;
    struct mp_subscription *mine;

    (void)state;
    join(b, &a);
    join(b, &c);
    mine = subscribe(&a, "_INBOX.a.*", NULL);
    subscribe(&c, "other", NULL);

    assert_ptr_equal(mp_bus_own_interest(b, &a.client, MP_STR("_INBOX.a.1")), mine);
    assert_null(mp_bus_own_interest(b, &c.client, MP_STR("_INBOX.a.1")));
    assert_true(mp_bus_has_interest(b, MP_STR("_INBOX.a.1")));
    assert_false(mp_bus_has_interest(b, MP_STR("_INBOX.b.1")));
    mp_bus_leave(b, &a.client);
    mp_bus_leave(b, &c.client);
    mp_bus_free(b);
}

/* -- queue groups ------------------------------------------------------------------ */

static void a_member_with_room_goes_first(void **state)
{
    struct mp_bus *b = mp_bus_new(1);
    struct listener slow, quick;

    (void)state;
    join(b, &slow);
    join(b, &quick);
    subscribe(&slow, "jobs", "q");
    subscribe(&quick, "jobs", "q");
    slow.client.has_room = has_none;
    for (int i = 0; i < 4; i++)
        assert_int_equal(publish(b, NULL, "jobs"), 1);
    assert_int_equal(quick.count, 4);
    quick.client.has_room = has_none;
    for (int i = 0; i < 4; i++)
        assert_int_equal(publish(b, NULL, "jobs"), 1); /* in turn, as ever */
    assert_int_equal(quick.count, 6);
    assert_int_equal(slow.count, 2);
    mp_bus_leave(b, &slow.client);
    mp_bus_leave(b, &quick.client);
    mp_bus_free(b);
}

static void members_of_a_group_take_turns_in_order(void **state)
{
    struct mp_bus *b = mp_bus_new(1);
    struct listener l[3], plain;

    (void)state;
    for (int i = 0; i < 3; i++) {
        join(b, &l[i]);
        subscribe(&l[i], "q", "Q");
    }
    join(b, &plain);
    subscribe(&plain, "q", NULL);

    for (uint32_t n = 0; n < 12; n++) {
        assert_int_equal(publish(b, NULL, "q"), 2);
        assert_int_equal(l[n % 3].count, n / 3 + 1);
    }
    assert_int_equal(plain.count, 12);
    for (int i = 0; i < 3; i++)
        mp_bus_leave(b, &l[i].client);
    mp_bus_leave(b, &plain.client);
    mp_bus_free(b);
}

/* Groups that hear the same message must not push each other out of step: with one
 * counter for all, two groups of two would always choose the same members. */
static void groups_take_turns_each_for_itself(void **state)
{
    struct mp_bus *b = mp_bus_new(1);
    struct listener l[4];

    (void)state;
    for (int i = 0; i < 4; i++) {
        join(b, &l[i]);
        subscribe(&l[i], "q", i < 2 ? "P" : "Q");
    }
    for (int i = 0; i < 10; i++)
        assert_int_equal(publish(b, NULL, "q"), 2);
    for (int i = 0; i < 4; i++)
        assert_int_equal(l[i].count, 5);
    for (int i = 0; i < 4; i++)
        mp_bus_leave(b, &l[i].client);
    mp_bus_free(b);
}

static void groups_on_other_subjects_do_not_disturb_the_turn(void **state)
{
    struct mp_bus *b = mp_bus_new(1);
    struct listener l[4];

    (void)state;
    for (int i = 0; i < 4; i++) {
        join(b, &l[i]);
        subscribe(&l[i], i < 2 ? "p" : "_INBOX.q", "Q");
    }
    for (int i = 0; i < 10; i++) {
        assert_int_equal(publish(b, NULL, "p"), 1);
        assert_int_equal(publish(b, NULL, "_INBOX.q"), 1);
    }
    for (int i = 0; i < 4; i++)
        assert_int_equal(l[i].count, 5);
    for (int i = 0; i < 4; i++)
        mp_bus_leave(b, &l[i].client);
    mp_bus_free(b);
}

/* One name under several patterns is one group for a subject that all of them match. */
static void a_group_is_one_over_overlapping_patterns(void **state)
{
    struct mp_bus *b = mp_bus_new(1);
    struct listener l[3];
    static const char *const patterns[] = { "q.*", "q.>", "q.a" };

    (void)state;
    for (int i = 0; i < 3; i++) {
        join(b, &l[i]);
        subscribe(&l[i], patterns[i], "Q");
    }
    for (int i = 0; i < 9; i++)
        assert_int_equal(publish(b, NULL, "q.a"), 1);
    assert_int_equal(l[0].count + l[1].count + l[2].count, 9);
    for (int i = 0; i < 3; i++)
        mp_bus_leave(b, &l[i].client);
    mp_bus_free(b);
}

/* Names in an order that mixes the groups: each must still get exactly one copy. */
static void many_groups_get_one_message_each(void **state)
{
    enum { GROUPS = 300, MEMBERS = 3 };
    struct mp_bus *b = mp_bus_new(1);
    struct listener l;

    (void)state;
    join(b, &l);
    for (int i = 0; i < GROUPS * MEMBERS; i++) {
        char queue[16];
        mp_format(queue, sizeof queue, "g%d", i * 7 % GROUPS);
        subscribe(&l, "q", queue);
    }
    subscribe(&l, "q", NULL);

    assert_int_equal(publish(b, NULL, "q"), GROUPS + 1);
    assert_int_equal(l.count, GROUPS + 1);
    mp_bus_leave(b, &l.client);
    mp_bus_free(b);
}

static void a_member_without_echo_leaves_its_turn_to_another(void **state)
{
    struct mp_bus *b = mp_bus_new(1);
    struct listener l[2];

    (void)state;
    for (int i = 0; i < 2; i++) {
        join(b, &l[i]);
        subscribe(&l[i], "q", "Q");
    }
    l[0].client.no_echo = true;
    for (int i = 0; i < 6; i++)
        assert_int_equal(publish(b, &l[0], "q"), 1);
    assert_int_equal(l[0].count, 0);
    assert_int_equal(l[1].count, 6);
    for (int i = 0; i < 2; i++)
        mp_bus_leave(b, &l[i].client);
    mp_bus_free(b);
}

/* -- changes from inside deliver() ------------------------------------------------- */

static void drop_mine(struct listener *l, struct mp_subscription *s,
                      const struct mp_message *m)
{
    (void)m;
    mp_bus_unsubscribe(l->bus, s);
}

static void drop_victim(struct listener *l, struct mp_subscription *s,
                        const struct mp_message *m)
{
    (void)s;
    (void)m;
    if (l->victim != NULL)
        mp_bus_unsubscribe(l->bus, l->victim);
    l->victim = NULL;
}

static void add_another(struct listener *l, struct mp_subscription *s,
                        const struct mp_message *m)
{
    (void)s;
    (void)m;
    if (l->mine == NULL)
        l->mine = subscribe(l, "x", NULL);
}

/* The memory of a client that left may go at once; the sanitizer sees a later use. */
static void kill_other(struct listener *l, struct mp_subscription *s,
                       const struct mp_message *m)
{
    (void)s;
    (void)m;
    if (l->other == NULL)
        return;
    mp_bus_leave(l->bus, &l->other->client);
    mp_free(l->other);
    l->other = NULL;
}

static void publish_again(struct listener *l, struct mp_subscription *s,
                          const struct mp_message *m)
{
    (void)s;
    if (l->count < 50) {
        subscribe(l, "y", NULL); /* throws the cached routes away */
        mp_bus_publish(l->bus, NULL, m);
    }
}

static void a_subscription_may_end_itself_while_it_is_served(void **state)
{
    struct mp_bus *b = mp_bus_new(1);
    struct listener a, c;

    (void)state;
    join(b, &a);
    join(b, &c);
    a.action = drop_mine;
    subscribe(&a, "x", NULL);
    subscribe(&c, "x", NULL);

    assert_int_equal(publish(b, NULL, "x"), 2);
    assert_int_equal(publish(b, NULL, "x"), 1);
    assert_int_equal(a.count, 1);
    assert_int_equal(c.count, 2);
    mp_bus_leave(b, &c.client);
    mp_bus_free(b);
}

static void what_was_removed_meanwhile_gets_nothing_more(void **state)
{
    struct mp_bus *b = mp_bus_new(1);
    struct listener a, c;

    (void)state;
    join(b, &a);
    join(b, &c);
    a.action = drop_victim;
    subscribe(&a, "x", NULL);
    a.victim = subscribe(&c, "x", NULL);

    assert_int_equal(publish(b, NULL, "x"), 1);
    assert_int_equal(c.count, 0);
    mp_bus_leave(b, &a.client);
    mp_bus_free(b);
}

static void what_was_added_meanwhile_gets_the_next_message(void **state)
{
    struct mp_bus *b = mp_bus_new(1);
    struct listener a;

    (void)state;
    join(b, &a);
    a.action = add_another;
    subscribe(&a, "x", NULL);

    assert_int_equal(publish(b, NULL, "x"), 1);
    assert_int_equal(publish(b, NULL, "x"), 2);
    mp_bus_leave(b, &a.client);
    mp_bus_free(b);
}

static void a_client_may_leave_and_be_freed_while_others_are_served(void **state)
{
    static const char *const subjects[] = { "x", "_INBOX.x.1" };

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct mp_bus *b = mp_bus_new(1);
        struct listener a;
        join(b, &a);
        a.action = kill_other;
        a.other = mp_alloc(sizeof *a.other);
        join(b, a.other);
        subscribe(&a, subjects[i], NULL);
        for (int k = 0; k < 20; k++)
            subscribe(a.other, subjects[i], k % 2 ? "Q" : NULL);

        assert_int_equal(publish(b, NULL, subjects[i]), 1);
        assert_null(a.other);
        mp_bus_leave(b, &a.client);
        mp_bus_free(b);
    }
}

static void publishing_nests(void **state)
{
    static const char *const subjects[] = { "x", "_INBOX.x.1" };

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct mp_bus *b = mp_bus_new(1);
        struct listener a;
        join(b, &a);
        a.action = publish_again;
        subscribe(&a, subjects[i], NULL);

        assert_int_equal(publish(b, NULL, subjects[i]), 1);
        assert_int_equal(a.count, 50);
        mp_bus_leave(b, &a.client);
        mp_bus_free(b);
    }
}

/* -- services ---------------------------------------------------------------------- */

struct service {
    struct mp_bus *bus;
    struct mp_service *handle;
    uint32_t count;
    bool refuses, ends;
    char last_subject[64];
    struct mp_client *last_from;
};

static bool on_request(void *ctx, struct mp_client *from, const struct mp_message *m)
{
    struct service *s = ctx;

    s->count++;
    s->last_from = from;
    copy_text(s->last_subject, m->subject);
    if (s->ends)
        mp_bus_unserve(s->bus, s->handle);
    return !s->refuses;
}

static void serve(struct mp_bus *b, struct service *s, const char *pattern,
                  uint32_t flags)
{
    *s = (struct service){ .bus = b };
    s->handle = mp_bus_serve(b, mp_slice_text(pattern), flags, on_request, s);
}

static void a_request_goes_to_the_service_and_to_nobody_else(void **state)
{
    struct mp_bus *b = mp_bus_new(1);
    struct listener spy, user;
    struct service s;

    (void)state;
    join(b, &spy);
    join(b, &user);
    subscribe(&spy, ">", NULL);
    serve(b, &s, "$memphis_station_creations", 0);

    for (uint32_t i = 1; i <= 2; i++) {
        assert_int_equal(publish(b, &user, "$memphis_station_creations"), 1);
        assert_int_equal(s.count, i);
        assert_ptr_equal(s.last_from, &user.client);
    }
    assert_int_equal(spy.count, 0);
    mp_bus_unserve(b, s.handle);
    mp_bus_leave(b, &spy.client);
    mp_bus_free(b);
}

static void a_service_that_refuses_counts_as_no_responder(void **state)
{
    static const char *const subjects[] = { "s.x", "$JS.ACK.s.x" };
    static const char *const patterns[] = { "s.>", "$JS.ACK.>" };

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct mp_bus *b = mp_bus_new(1);
        struct service s;
        serve(b, &s, patterns[i], 0);
        s.refuses = true;
        assert_int_equal(publish(b, NULL, subjects[i]), 0);
        assert_int_equal(s.count, 1);
        mp_bus_unserve(b, s.handle);
        assert_int_equal(publish(b, NULL, subjects[i]), 0);
        assert_int_equal(s.count, 1);
        mp_bus_free(b);
    }
}

static void the_service_that_came_first_wins(void **state)
{
    struct mp_bus *b = mp_bus_new(1);
    struct service wide, narrow;

    (void)state;
    serve(b, &wide, "$JS.API.>", 0);
    serve(b, &narrow, "$JS.API.INFO", 0);

    publish(b, NULL, "$JS.API.INFO");
    assert_int_equal(wide.count, 1);
    assert_int_equal(narrow.count, 0);
    mp_bus_unserve(b, wide.handle);
    publish(b, NULL, "$JS.API.INFO");
    assert_int_equal(narrow.count, 1);
    mp_bus_unserve(b, narrow.handle);
    mp_bus_free(b);
}

static void a_last_service_gets_what_no_other_wants(void **state)
{
    struct mp_bus *b = mp_bus_new(1);
    struct service last, other;

    (void)state;
    serve(b, &last, "*.final", MP_SERVICE_LAST);
    serve(b, &other, "orders.final", 0);
    publish(b, NULL, "orders.final");
    assert_int_equal(last.count, 0);
    assert_int_equal(other.count, 1);
    publish(b, NULL, "more.final");
    assert_int_equal(last.count, 1);
    mp_bus_unserve(b, last.handle);
    mp_bus_unserve(b, other.handle);
    mp_bus_free(b);
}

static void note_pattern(void *ctx, memphis_slice pattern)
{
    copy_text(ctx, pattern);
}

static void a_watcher_hears_of_subscriptions(void **state)
{
    struct mp_bus *b = mp_bus_new(1);
    struct listener l;
    char seen[64] = "";

    (void)state;
    join(b, &l);
    subscribe(&l, "before", "");
    mp_bus_watch(b, note_pattern, seen);
    assert_string_equal(seen, "");
    subscribe(&l, "a.*", "group");
    assert_string_equal(seen, "a.*");
    mp_bus_leave(b, &l.client);
    mp_bus_free(b);
}

static void subscribers_hear_what_goes_to_a_service_with_a_tap(void **state)
{
    struct mp_bus *b = mp_bus_new(1);
    struct listener l;
    struct service s;

    (void)state;
    join(b, &l);
    subscribe(&l, "orders$1.>", NULL);
    serve(b, &s, "orders$1.>", MP_SERVICE_TAP);

    assert_int_equal(publish(b, NULL, "orders$1.final"), 2);
    s.refuses = true;
    assert_int_equal(publish(b, NULL, "orders$1.final"), 1);

    assert_int_equal(s.count, 2);
    assert_int_equal(l.count, 2);
    mp_bus_unserve(b, s.handle);
    mp_bus_leave(b, &l.client);
    mp_bus_free(b);
}

/* A subject that is too long for the cache takes the other way through the bus. */
static void a_tap_works_for_subjects_of_any_length(void **state)
{
    struct mp_bus *b = mp_bus_new(1);
    struct listener l;
    struct service s;
    char subject[MP_SUBJECT_MAX + 1] = "orders$1.";

    (void)state;
    memset(subject + 9, 'x', MP_SUBJECT_MAX - 9);
    subject[MP_SUBJECT_MAX] = 0;
    join(b, &l);
    subscribe(&l, "orders$1.>", NULL);
    serve(b, &s, "orders$1.>", MP_SERVICE_TAP);

    assert_int_equal(publish(b, NULL, subject), 2);

    assert_int_equal(s.count, 1);
    assert_int_equal(l.count, 1);
    mp_bus_unserve(b, s.handle);
    mp_bus_leave(b, &l.client);
    mp_bus_free(b);
}

static void end_service(struct listener *l, struct mp_subscription *s,
                        const struct mp_message *m)
{
    (void)s;
    (void)m;
    mp_bus_unserve(l->bus, l->service);
}

static void a_service_may_end_itself_or_be_ended_by_a_listener(void **state)
{
    struct mp_bus *b = mp_bus_new(1);
    struct listener l;
    struct service s;

    (void)state;
    serve(b, &s, "s", 0);
    s.ends = true;
    assert_int_equal(publish(b, NULL, "s"), 1);
    assert_int_equal(publish(b, NULL, "s"), 0);

    join(b, &l);
    subscribe(&l, "orders$1.>", NULL);
    serve(b, &s, "orders$1.>", MP_SERVICE_TAP);
    l.action = end_service;
    l.service = s.handle;
    assert_int_equal(publish(b, NULL, "orders$1.final"), 1);
    assert_int_equal(s.count, 0);
    mp_bus_leave(b, &l.client);
    mp_bus_free(b);
}

static void what_the_broker_sends_reaches_clients_only(void **state)
{
    struct mp_bus *b = mp_bus_new(1);
    struct listener l;
    struct service s;
    struct mp_message m = { .subject = MP_STR("x") };

    (void)state;
    join(b, &l);
    subscribe(&l, "x", NULL);
    serve(b, &s, "x", 0);

    assert_int_equal(mp_bus_deliver(b, MP_STR("x"), &m), 1);
    assert_int_equal(s.count, 0);
    assert_int_equal(l.count, 1);
    mp_bus_unserve(b, s.handle);
    mp_bus_leave(b, &l.client);
    mp_bus_free(b);
}

/* 10,000 partitions are 10,000 services: the budget is 500 bytes for each. */
static void a_service_of_a_partition_is_small(void **state)
{
    enum { PARTITIONS = 10000 };
    static struct mp_service *services[PARTITIONS];
    struct mp_bus *b = mp_bus_new(1);
    struct service s = { .bus = b };
    uint64_t before = mp_heap_current()->used_bytes;

    (void)state;
    for (int i = 0; i < PARTITIONS; i++) {
        char pattern[64];
        size_t n = mp_format(pattern, sizeof pattern, "orders#europe$%d.>", i + 1);
        services[i] =
            mp_bus_serve(b, mp_slice(pattern, n), MP_SERVICE_TAP, on_request, &s);
    }
    uint64_t each = (mp_heap_current()->used_bytes - before) / PARTITIONS;
    print_message("%llu bytes for each service\n", (unsigned long long)each);
    assert_true(each < 500);
    assert_int_equal(publish(b, NULL, "orders#europe$777.final"), 1);
    for (int i = 0; i < PARTITIONS; i++)
        mp_bus_unserve(b, services[i]);
    mp_bus_free(b);
}

/* -- headers ----------------------------------------------------------------------- */

static void headers_are_found_by_their_exact_key(void **state)
{
    memphis_slice h = MP_STR("NATS/1.0\r\nmsg-id: 17\r\nKey:no blank\r\nempty:\r\n"
                             "two:  v w \r\nmsg-id: 18\r\nodd line\r\n\r\n");
    static const struct {
        const char *key, *value;
    } cases[] = { { "msg-id", "17" },   { "Key", "no blank" }, { "empty", "" },
                  { "two", "v w " },    { "key", NULL },       { "msg", NULL },
                  { "odd line", NULL }, { "NATS/1.0", NULL } };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        memphis_slice v = mp_header_find(h, cases[i].key);
        assert_int_equal(v.data != NULL, cases[i].value != NULL);
        if (cases[i].value != NULL)
            assert_true(mp_slice_equal(v, mp_slice_text(cases[i].value)));
    }
}

static void odd_header_blocks_are_searched_without_harm(void **state)
{
    static const char *const blocks[] = { "",     ":",      "k",    "k:",
                                          "\r\n", "\n\n\n", "k:\r", "x\r\nk: v" };

    (void)state;
    assert_null(mp_header_find((memphis_slice){ 0 }, "k").data);
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
        size_t size = strlen(blocks[i]);
        char *exact = memcpy(mp_realloc(NULL, size + (size == 0)), blocks[i], size);
        memphis_slice v = mp_header_find(mp_slice(exact, size), "k");
        assert_int_equal(v.data != NULL, strstr(blocks[i], "k:") != NULL);
        mp_free(exact);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(a_member_with_room_goes_first),
        leak_checked(each_plain_subscription_gets_the_message_once),
        leak_checked(a_client_without_echo_does_not_hear_itself),
        leak_checked(a_message_shows_its_own_subject_when_sent_to_an_inbox),
        leak_checked(what_is_for_some_only_is_not_heard_by_others),
        leak_checked(every_change_of_interest_is_seen_at_once),
        leak_checked(bad_subjects_and_too_many_are_refused),
        leak_checked(a_subject_of_many_tokens_counts_as_several),
        leak_checked(text_with_empty_tokens_reaches_nobody),
        leak_checked(own_interest_finds_only_the_clients_own),
        leak_checked(members_of_a_group_take_turns_in_order),
        leak_checked(groups_take_turns_each_for_itself),
        leak_checked(groups_on_other_subjects_do_not_disturb_the_turn),
        leak_checked(a_group_is_one_over_overlapping_patterns),
        leak_checked(many_groups_get_one_message_each),
        leak_checked(a_member_without_echo_leaves_its_turn_to_another),
        leak_checked(a_subscription_may_end_itself_while_it_is_served),
        leak_checked(what_was_removed_meanwhile_gets_nothing_more),
        leak_checked(what_was_added_meanwhile_gets_the_next_message),
        leak_checked(a_client_may_leave_and_be_freed_while_others_are_served),
        leak_checked(publishing_nests),
        leak_checked(a_request_goes_to_the_service_and_to_nobody_else),
        leak_checked(a_service_that_refuses_counts_as_no_responder),
        leak_checked(the_service_that_came_first_wins),
        leak_checked(a_last_service_gets_what_no_other_wants),
        leak_checked(a_watcher_hears_of_subscriptions),
        leak_checked(subscribers_hear_what_goes_to_a_service_with_a_tap),
        leak_checked(a_tap_works_for_subjects_of_any_length),
        leak_checked(a_service_may_end_itself_or_be_ended_by_a_listener),
        leak_checked(what_the_broker_sends_reaches_clients_only),
        leak_checked(a_service_of_a_partition_is_small),
        leak_checked(headers_are_found_by_their_exact_key),
        leak_checked(odd_header_blocks_are_searched_without_harm),
    };

    return run_tests("bus/bus", tests);
}
