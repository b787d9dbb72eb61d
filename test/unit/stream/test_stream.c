#include "world.h"

static struct mp_stream_settings limited(uint32_t limit, uint64_t value)
{
    struct mp_stream_settings s = ORDERS;

    s.limit = limit;
    s.limit_value = value;
    return s;
}

static uint64_t first_seq(const struct world *w)
{
    return mp_log_first(w->log, PID);
}

/* === Settings === */

static memphis_status decode(const struct mp_buf *b, size_t size,
                             struct mp_stream_settings *s, struct mp_arena *a)
{
    struct mp_cursor c = mp_cursor_of(mp_slice(b->data, size));

    return mp_stream_settings_decode(&c, a, s);
}

static void settings_are_read_as_they_were_written(void **state)
{
    struct mp_stream_settings in = { .name = "a#b$17", .limit = MP_LIMIT_BYTES,
                                     .limit_value = UINT64_MAX, .window_ns = 5,
                                     .station_id = UINT32_MAX, .number = 10000 };
    struct mp_stream_settings out;
    struct mp_buf b = { 0 };
    struct mp_arena a = { 0 };

    (void)state;
    mp_stream_settings_encode(&in, &b);
    assert_int_equal(decode(&b, b.size, &out, &a), MEMPHIS_OK);

    assert_string_equal(out.name, in.name);
    assert_int_equal(out.limit, in.limit);
    assert_int_equal(out.limit_value, in.limit_value);
    assert_int_equal(out.window_ns, in.window_ns);
    assert_int_equal(out.station_id, in.station_id);
    assert_int_equal(out.number, in.number);
    mp_arena_fini(&a);
    mp_buf_fini(&b);
}

static void settings_skip_what_is_optional_and_refuse_what_is_not(void **state)
{
    struct mp_stream_settings out;
    struct mp_buf b = { 0 };
    struct mp_arena a = { 0 };
    size_t size;

    (void)state;
    mp_stream_settings_encode(&ORDERS, &b);
    size = b.size;
    mp_buf_put_u16(&b, 40000);
    mp_buf_put_u32(&b, 3);
    mp_buf_put_text(&b, "new");
    assert_int_equal(decode(&b, b.size, &out, &a), MEMPHIS_OK);
    for (size_t cut = size + 1; cut < b.size; cut++)
        assert_int_equal(decode(&b, cut, &out, &a), MEMPHIS_CORRUPT);
    assert_int_equal(decode(&b, 0, &out, &a), MEMPHIS_CORRUPT); /* no name */
    b.data[size] = 8;
    b.data[size + 1] = 0;
    assert_int_equal(decode(&b, b.size, &out, &a), MEMPHIS_UNSUPPORTED);
    mp_arena_fini(&a);
    mp_buf_fini(&b);
}

/* === Limits === */

static void STA_07_a_message_leaves_at_its_age_not_before(void **state)
{
    struct mp_stream_settings s = limited(MP_LIMIT_AGE, 1000 * MILLI);
    struct world *w = world_new(&s);

    (void)state;
    store(w, 2);
    pass(w, 500);
    store(w, 1);
    pass(w, 480);
    assert_int_equal(first_seq(w), 1);
    pass(w, 40);
    assert_int_equal(first_seq(w), 3);
    pass(w, 520);
    assert_int_equal(first_seq(w), 4);
    store(w, 1);
    assert_int_equal(last_seq(w), 4); /* the count goes on */
    world_free(w);
}

static void STA_07_what_grew_old_while_the_broker_was_off_leaves_at_its_start(
    void **state)
{
    struct mp_stream_settings s = limited(MP_LIMIT_AGE, 1000 * MILLI);
    struct world *w = world_new(&s);

    (void)state;
    store(w, 3);
    stop(w);
    mp_disk_advance(w->disk, 5000 * MILLI);
    start(w);
    settle_down(w);
    assert_int_equal(first_seq(w), 4);
    world_free(w);
}

static void STA_08_only_the_newest_are_kept(void **state)
{
    struct mp_stream_settings s = limited(MP_LIMIT_MESSAGES, 3);
    struct world *w = world_new(&s);

    (void)state;
    store(w, 3);
    assert_int_equal(first_seq(w), 1);
    store(w, 1);
    assert_int_equal(first_seq(w), 2);
    store(w, 10); /* in one turn */
    assert_int_equal(first_seq(w), 12);
    restart(w);
    settle_down(w);
    assert_int_equal(first_seq(w), 12);
    store(w, 1);
    assert_int_equal(first_seq(w), 13);
    world_free(w);
}

static void STA_08_holes_are_no_messages(void **state)
{
    struct mp_stream_settings s = limited(MP_LIMIT_MESSAGES, 3);
    static const uint8_t two_and_three[] = { 1, 0, 2 }; /* a range, from seq on */
    struct mp_entry e = { .type = MP_ENTRY_DELETE, .pid = PID, .seq = 2,
                          .payload = { two_and_three, 3 } };
    struct world *w = world_new(&s);
    struct mp_log_stats st;

    (void)state;
    store(w, 3);
    append(w, &e);
    settle_down(w);
    store(w, 2);
    mp_log_stats(w->log, PID, &st);
    assert_int_equal(st.messages, 3); /* 1, 4 and 5 */
    assert_int_equal(st.first_seq, 1);
    store(w, 1);
    mp_log_stats(w->log, PID, &st);
    assert_int_equal(st.messages, 3);
    assert_int_equal(st.first_seq, 4);
    store(w, 1);
    assert_int_equal(first_seq(w), 5);
    world_free(w);
}

static void STA_09_the_oldest_leave_above_a_size(void **state)
{
    struct mp_entry e = { .type = MP_ENTRY_MESSAGE, .payload = MP_STR("hello") };
    uint64_t size = mp_entry_size(&e);
    struct mp_stream_settings s = limited(MP_LIMIT_BYTES, 4 * size - 1);
    struct world *w = world_new(&s);
    char big[1024];

    (void)state;
    store(w, 3);
    assert_int_equal(first_seq(w), 1);
    store(w, 1);
    assert_int_equal(first_seq(w), 2);
    memset(big, 'b', sizeof(big));
    big[sizeof(big) - 1] = 0;
    publish_with(w, "orders$1.final", "_INBOX.p", "", big);
    settle_down(w);
    assert_int_equal(w->heard_count, 1); /* acknowledged, and gone with the others */
    assert_int_equal(first_seq(w), 6);
    assert_int_equal(last_seq(w), 5);
    world_free(w);
}

static void a_limit_takes_pending_messages_along(void **state)
{
    struct mp_stream_settings s = limited(MP_LIMIT_MESSAGES, 2);
    struct world *w = world_new(&s);
    struct mp_stream_group *g = make_group(w, "billing", 3);

    (void)state;
    store(w, 2);
    pull(g, 2, "_INBOX.p");
    settle_down(w);
    assert_int_equal(g->group.pending.count, 2);
    store(w, 2);
    assert_int_equal(g->group.pending.count, 0);
    assert_int_equal(g->group.floor, 2);
    assert_int_equal(w->host.counters.dead, 0);
    world_free(w);
}

/* === Groups === */

static void CSM_11_a_start_is_clamped_to_what_there_is(void **state)
{
    struct mp_stream_settings s = limited(MP_LIMIT_MESSAGES, 5);
    struct world *w = world_new(&s);

    (void)state;
    for (uint32_t policy = MP_START_ALL; policy <= MP_START_LAST; policy++)
        assert_int_equal(mp_stream_start_of(w->stream, policy, 1), 1);
    store(w, 8); /* 4 to 8 are left */
    assert_int_equal(mp_stream_start_of(w->stream, MP_START_ALL, 0), 4);
    assert_int_equal(mp_stream_start_of(w->stream, MP_START_NEW, 0), 9);
    assert_int_equal(mp_stream_start_of(w->stream, MP_START_SEQUENCE, 3), 4);
    assert_int_equal(mp_stream_start_of(w->stream, MP_START_SEQUENCE, 6), 6);
    assert_int_equal(mp_stream_start_of(w->stream, MP_START_SEQUENCE, 99), 9);
    world_free(w);
}

static void CSM_12_the_last_n_end_with_the_newest(void **state)
{
    struct world *w = world_new(&ORDERS);

    (void)state;
    store(w, 8);
    assert_int_equal(mp_stream_start_of(w->stream, MP_START_LAST, 1), 8);
    assert_int_equal(mp_stream_start_of(w->stream, MP_START_LAST, 8), 1);
    assert_int_equal(mp_stream_start_of(w->stream, MP_START_LAST, 9), 1);
    assert_int_equal(mp_stream_start_of(w->stream, MP_START_LAST, UINT64_MAX), 1);
    world_free(w);
}

static void a_group_outlives_a_start_with_all_it_was_made_with(void **state)
{
    struct mp_stream_group_config c = {
        .name = "billing#eu", .start = 2,
        .group = { .ack_wait_ns = 1234 * MILLI, .deliveries_max = 10,
                   .pending_max = 77 },
        .policy = MP_START_SEQUENCE, .asked_start = 99,
        .filter = "orders$1.other", .plain = true,
    };
    struct world *w = world_new(&ORDERS);
    struct mp_stream_group *g;
    uint64_t created;

    (void)state;
    store(w, 3);
    create_group(w, &c);
    settle_down(w);
    created = group(w, "billing#eu")->created_ns;
    pass(w, 100);
    restart(w);

    g = group(w, "billing#eu");
    assert_non_null(g);
    assert_int_equal(g->group.next, 2);
    assert_int_equal(g->group.config.ack_wait_ns, 1234 * MILLI);
    assert_int_equal(g->group.config.deliveries_max, 10);
    assert_int_equal(g->group.config.pending_max, 77);
    assert_int_equal(g->policy, MP_START_SEQUENCE);
    assert_int_equal(g->asked_start, 99);
    assert_string_equal(g->filter, "orders$1.other");
    assert_true(g->plain);
    assert_int_equal(g->created_ns, created);
    assert_string_equal(g->ack_prefix, "$JS.ACK.orders$1.billing#eu.");
    world_free(w);
}

static void of_two_creations_of_one_group_the_first_one_counts(void **state)
{
    struct mp_stream_group_config c = { .name = "billing", .start = 1 };
    struct world *w = world_new(&ORDERS);

    (void)state;
    create_group(w, &c);
    c.start = 5;
    create_group(w, &c);
    settle_down(w);
    assert_int_equal(w->stream->groups.count, 1);
    assert_int_equal(group(w, "billing")->gid, 1);
    assert_int_equal(group(w, "billing")->group.next, 1);
    restart(w);
    assert_int_equal(group(w, "billing")->gid, 1);
    assert_int_equal(w->stream->next_gid, 3);
    world_free(w);
}

static void a_changed_ack_wait_holds_for_what_is_pending(void **state)
{
    struct world *w = world_new(&ORDERS);
    struct mp_stream_group *g = make_group(w, "billing", 3);
    struct mp_group_config c = { .ack_wait_ns = 50 * MILLI, .deliveries_max = 1 };
    struct mp_buf b = { 0 };

    (void)state;
    store(w, 1);
    pull(g, 1, "_INBOX.p");
    settle_down(w);
    mp_stream_group_update_encode(g, &c, NULL, &b);
    append_group(w, &b);
    settle_down(w);
    pass(w, 60);
    assert_int_equal(w->host.counters.dead, 1);
    restart(w);
    assert_int_equal(group(w, "billing")->group.config.deliveries_max, 1);
    world_free(w);
}

static void CSM_23_a_deleted_group_stays_deleted_and_ignores_late_words(void **state)
{
    struct world *w = world_new(&ORDERS);
    struct mp_stream_group *g = make_group(w, "billing", 3);
    struct mp_buf b = { 0 }, late = { 0 };

    (void)state;
    mp_stream_group_delete_encode(g, &b);
    mp_stream_group_delete_encode(g, &late);
    append_group(w, &b);
    append_group(w, &late);
    settle_down(w);
    assert_null(group(w, "billing"));
    restart(w);
    assert_null(group(w, "billing"));
    assert_int_equal(make_group(w, "billing", 3)->gid, 2);
    world_free(w);
}

static void an_unreadable_group_entry_harms_nothing(void **state)
{
    struct world *w = world_new(&ORDERS);
    struct mp_stream_group *g = make_group(w, "billing", 3);
    uint8_t progress[40] = { 4, 1 };
    struct mp_entry e = { .type = MP_ENTRY_GROUP, .pid = PID };

    (void)state;
    memset(progress + 5, 0xff, sizeof(progress) - 5);
    for (size_t size = 0; size <= sizeof(progress); size++) {
        e.payload = mp_slice(progress, size);
        mp_stream_apply(w->stream, &e, 0);
    }
    mp_group_check(&g->group);
    assert_int_equal(g->group.next, 1);
    world_free(w);
}

static struct mp_buf group_entry(struct world *w, size_t from_end, uint8_t value)
{
    struct mp_stream_group_config c = { .name = "of-tomorrow", .start = 1 };
    struct mp_buf b = { 0 };

    mp_stream_group_create_encode(w->stream, &c, &b);
    b.data[from_end < b.size ? b.size - from_end : 0] = value;
    return b;
}

static void what_a_newer_release_said_of_a_group_is_refused(void **state)
{
    static const struct {
        size_t from_end;
        uint8_t value;
        memphis_status status;
    } cases[] = {
        { 99, 9, MEMPHIS_UNSUPPORTED },  /* operation */
        { 16, 8, MEMPHIS_UNSUPPORTED },  /* flags */
        { 15, 6, MEMPHIS_UNSUPPORTED },  /* policy */
        { 15, 3, MEMPHIS_OK },
    };
    struct world *w = world_new(&ORDERS);
    struct mp_entry e = { .type = MP_ENTRY_GROUP, .pid = PID };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mp_buf b = group_entry(w, cases[i].from_end, cases[i].value);
        struct mp_buf item = { 0 };
        memphis_error err = { 0 };

        e.payload = mp_buf_slice(&b);
        assert_int_equal(mp_stream_apply(w->stream, &e, 0), cases[i].status);
        assert_int_equal(group(w, "of-tomorrow") != NULL,
                         cases[i].status == MEMPHIS_OK);
        mp_buf_put_u16(&item, 1); /* and in a state file */
        mp_buf_put_u32(&item, (uint32_t)b.size);
        mp_buf_put_slice(&item, mp_buf_slice(&b));
        if (cases[i].status != MEMPHIS_OK) {
            assert_int_equal(mp_stream_restore(w->stream, mp_buf_slice(&item), &err),
                             MEMPHIS_UNSUPPORTED);
            assert_non_null(strstr(err.message, "newer release"));
        }
        mp_buf_fini(&item);
        mp_buf_fini(&b);
    }
    world_free(w);
}

static void a_new_group_does_not_count_what_went_while_it_was_made(void **state)
{
    struct mp_stream_settings s = limited(MP_LIMIT_MESSAGES, 2);
    struct mp_stream_group_config c = { .name = "billing", .start = 1 };
    struct world *w = world_new(&s);

    (void)state;
    store(w, 2);
    for (int i = 0; i < 5; i++)
        publish(w, "x");
    hand_over(w);
    mp_mailbox_drain(&w->box); /* five came, a floor is on its way */
    create_group(w, &c);
    settle_down(w);
    assert_int_equal(mp_stream_group_unseen(group(w, "billing")), 2);
    world_free(w);
}

static void a_dropped_stream_takes_groups_timers_and_its_service_along(void **state)
{
    static const uint8_t drop[13] = { 3, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0 };
    struct mp_entry e = { .type = MP_ENTRY_PARTITION, .pid = PID,
                          .payload = { drop, 13 } };
    struct world *w = world_new(&ORDERS);
    struct mp_stream_group *g = make_group(w, "billing", 3);

    (void)state;
    store(w, 2);
    pull(g, 1, "_INBOX.p");
    settle_down(w);
    settle(g, 1, "+ACK");
    pull(g, 5, "_INBOX.p");
    append(w, &e);
    settle_down(w);
    assert_null(w->stream);
    assert_int_equal(w->timers.count, 0);
    assert_true(mp_list_is_empty(&w->host.dirty));
    assert_true(mp_list_is_empty(&w->host.serving));
    publish(w, "nobody is there");
    restart(w);
    assert_null(w->stream);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(settings_are_read_as_they_were_written),
        leak_checked(settings_skip_what_is_optional_and_refuse_what_is_not),
        leak_checked(STA_07_a_message_leaves_at_its_age_not_before),
        leak_checked(
            STA_07_what_grew_old_while_the_broker_was_off_leaves_at_its_start),
        leak_checked(STA_08_only_the_newest_are_kept),
        leak_checked(STA_08_holes_are_no_messages),
        leak_checked(STA_09_the_oldest_leave_above_a_size),
        leak_checked(a_limit_takes_pending_messages_along),
        leak_checked(CSM_11_a_start_is_clamped_to_what_there_is),
        leak_checked(CSM_12_the_last_n_end_with_the_newest),
        leak_checked(a_group_outlives_a_start_with_all_it_was_made_with),
        leak_checked(of_two_creations_of_one_group_the_first_one_counts),
        leak_checked(a_changed_ack_wait_holds_for_what_is_pending),
        leak_checked(CSM_23_a_deleted_group_stays_deleted_and_ignores_late_words),
        leak_checked(an_unreadable_group_entry_harms_nothing),
        leak_checked(what_a_newer_release_said_of_a_group_is_refused),
        leak_checked(a_new_group_does_not_count_what_went_while_it_was_made),
        leak_checked(a_dropped_stream_takes_groups_timers_and_its_service_along),
    };

    return run_tests("stream/stream", tests);
}
