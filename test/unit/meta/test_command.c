#include "unit/meta/world.h"

#include "meta/internal.h"

static const uint16_t kinds[] = { MP_COMMAND_STATION_CREATE, MP_COMMAND_STATION_DROP,
                                  MP_COMMAND_PRODUCER_ADD,   MP_COMMAND_PRODUCER_DROP,
                                  MP_COMMAND_CONSUMER_ADD,   MP_COMMAND_CONSUMER_DROP,
                                  MP_COMMAND_USER_PUT,       MP_COMMAND_USER_DROP,
                                  MP_COMMAND_STATION_CHANGE };
enum { KINDS = sizeof kinds / sizeof kinds[0] };

/* Every field different from zero and from its neighbours. */
static struct mp_command full(uint16_t kind)
{
    struct mp_command c = { .kind = kind, .time_ns = UINT64_MAX - 5 };

    if (kind <= MP_COMMAND_STATION_DROP || kind == MP_COMMAND_STATION_CHANGE)
        c.u.station =
            (struct mp_station_row){ .id = 77,
                                     .name = "orders.eu",
                                     .first_pid = UINT32_MAX - 10000,
                                     .created_by = "root",
                                     .settings = { .retention = MP_RETAIN_ACKED,
                                                   .retention_value = UINT64_MAX,
                                                   .storage = MP_STORAGE_MEMORY,
                                                   .replicas = 3,
                                                   .idempotency_ms = 120001,
                                                   .partitions = 10000,
                                                   .dls_poison = true,
                                                   .dls_schema = true,
                                                   .tiered = true,
                                                   .native = true,
                                                   .schema = "invoice",
                                                   .dls_station = "dead",
                                                   .stream = "{}" } };
    else if (kind <= MP_COMMAND_PRODUCER_DROP)
        c.u.producer = (struct mp_producer_row){
            .id = INT64_MAX, .name = "p", .station_id = UINT32_MAX,
            .connection_id = "c1", .app_id = "a1", .sdk = "python", .user = "u\xc3\xa9",
            .type = MP_CLIENT_CONNECTOR, .version = 9
        };
    else if (kind <= MP_COMMAND_CONSUMER_DROP)
        c.u.consumer = (struct mp_consumer_row){
            .id = 8, .name = "c", .group = "group", .station_id = 7,
            .connection_id = "c2", .app_id = "a2", .sdk = "node", .user = "v",
            .type = MP_CLIENT_CONNECTOR, .version = 1, .ack_wait_ms = UINT64_MAX,
            .deliveries_max = UINT32_MAX, .start_sequence = 12,
            .last_messages = INT64_MIN
        };
    else
        c.u.user = (struct mp_user_row){
            .name = "bob", .type = MP_USER_MANAGEMENT, .hash = "$2b$10$abc",
            .owner = "root", .description = "d", .full_name = "Bob B",
            .team = "t", .position = "p", .avatar = 8, .is_restricted = true,
            .allow_read = "a.*\nb", .allow_write = "c", .deny_read = "d",
            .deny_write = "e"
        };
    return c;
}

/* Decodes from a block that ends with the last byte, so that a sanitizer sees a read
 * beyond it. */
static memphis_status decode(memphis_slice payload, struct mp_command *out,
                             struct mp_arena *arena, memphis_error *err)
{
    void *exact = mp_alloc(payload.size);

    if (payload.size > 0)
        memcpy(exact, payload.data, payload.size);
    payload.data = exact;
    memphis_status s = mp_command_decode(payload, out, arena, err);
    mp_free(exact); /* texts are in the arena */
    return s;
}

static memphis_status decode_status(memphis_slice payload, const char *expected_text)
{
    struct mp_arena arena = { 0 };
    struct mp_command c;
    memphis_error err = { 0 };
    memphis_status s = decode(payload, &c, &arena, &err);

    if (expected_text != NULL && strstr(err.message, expected_text) == NULL)
        fail_msg("'%s' is not in '%s'", expected_text, err.message);
    mp_arena_fini(&arena);
    return s;
}

static void every_command_comes_back_as_it_was(void **state)
{
    (void)state;
    for (size_t k = 0; k < KINDS; k++) {
        struct mp_arena arena = { 0 };
        struct mp_buf a = { 0 }, b = { 0 };
        struct mp_command in = full(kinds[k]), out;

        mp_command_encode(&in, &a);
        assert_int_equal(decode(mp_buf_slice(&a), &out, &arena, NULL), MEMPHIS_OK);
        mp_command_encode(&out, &b);

        assert_int_equal(a.size, b.size);
        assert_memory_equal(a.data, b.data, a.size);
        assert_int_equal(out.kind, in.kind);
        assert_true(out.time_ns == in.time_ns);
        const struct mp_command_spec *spec = mp_command_spec(kinds[k]);
        for (size_t i = 0; i < spec->row->count; i++) {
            const struct mp_field *f = &spec->row->fields[i];
            bool carried = f->key || !spec->drops;
            if (f->type == MP_FIELD_TEXT)
                assert_string_equal(mp_field_text(f, &out),
                                    carried ? mp_field_text(f, &in) : "");
            else
                assert_true(mp_field_number(f, &out) ==
                            (carried ? mp_field_number(f, &in) : 0));
        }
        mp_buf_fini(&a);
        mp_buf_fini(&b);
        mp_arena_fini(&arena);
    }
}

static void the_time_of_a_command_becomes_that_of_its_row(void **state)
{
    struct mp_arena arena = { 0 };
    struct mp_buf b = { 0 };
    struct mp_command in = full(MP_COMMAND_USER_PUT), out;

    (void)state;
    mp_command_encode(&in, &b);
    assert_int_equal(decode(mp_buf_slice(&b), &out, &arena, NULL), MEMPHIS_OK);
    assert_true(out.u.user.created_ns == in.time_ns);
    mp_buf_fini(&b);
    mp_arena_fini(&arena);
}

/* The bytes of version 1, which every later version must read. */
static void the_format_is_what_was_released(void **state)
{
    static const uint8_t kept[] = { 7, 0, 1, 0,
                                    1, 0, 8, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8,
                                    2, 0, 3, 0, 0, 0, 'b', 'o', 'b',
                                    3, 0, 4, 0, 0, 0, 2, 0, 0, 0,
                                    4, 0, 2, 0, 0, 0, '$', '2' };
    struct mp_arena arena = { 0 };
    struct mp_buf b = { 0 };
    struct mp_command c;

    (void)state;
    assert_int_equal(decode(mp_slice(kept, sizeof kept), &c, &arena, NULL), MEMPHIS_OK);
    assert_int_equal(c.kind, MP_COMMAND_USER_PUT);
    assert_true(c.time_ns == 0x0807060504030201);
    assert_string_equal(c.u.user.name, "bob");
    assert_int_equal(c.u.user.type, MP_USER_MANAGEMENT);
    assert_string_equal(c.u.user.hash, "$2");
    mp_command_encode(&c, &b);
    assert_int_equal(b.size, sizeof kept);
    assert_memory_equal(b.data, kept, sizeof kept);
    mp_buf_fini(&b);
    mp_arena_fini(&arena);
}

static void missing_fields_are_zero_or_empty(void **state)
{
    struct mp_arena arena = { 0 };
    struct mp_buf b = { 0 };
    struct mp_command in = { .kind = MP_COMMAND_PRODUCER_ADD }, out;

    (void)state;
    in.u.producer = (struct mp_producer_row){ .id = 1, .name = "p" };
    mp_command_encode(&in, &b);
    assert_int_equal(decode(mp_buf_slice(&b), &out, &arena, NULL), MEMPHIS_OK);
    assert_string_equal(out.u.producer.connection_id, "");
    assert_string_equal(out.u.producer.user, "");
    assert_int_equal(out.u.producer.station_id, 0);
    mp_buf_fini(&b);
    mp_arena_fini(&arena);
}

static void a_command_that_is_cut_off_is_refused(void **state)
{
    (void)state;
    for (size_t k = 0; k < KINDS; k++) {
        struct mp_buf b = { 0 };
        struct mp_command in = full(kinds[k]);
        uint32_t good = 0;

        mp_command_encode(&in, &b);
        for (size_t size = 0; size < b.size; size++) {
            memphis_status s = decode_status(mp_slice(b.data, size), NULL);
            assert_true(s == MEMPHIS_OK || s == MEMPHIS_CORRUPT);
            good += s == MEMPHIS_OK; /* cut between two items */
        }
        assert_true(good < mp_command_spec(kinds[k])->row->count);
        mp_buf_fini(&b);
    }
}

static void a_flipped_bit_never_harms(void **state)
{
    (void)state;
    for (size_t k = 0; k < KINDS; k++) {
        struct mp_buf b = { 0 };
        struct mp_command in = full(kinds[k]);

        mp_command_encode(&in, &b);
        for (size_t bit = 0; bit < b.size * 8; bit++) {
            struct mp_arena arena = { 0 };
            struct mp_command c;
            b.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
            memphis_status s = decode(mp_buf_slice(&b), &c, &arena, NULL);
            if (s == MEMPHIS_OK) {
                struct mp_buf again = { 0 };
                mp_command_encode(&c, &again); /* what was read can be written */
                assert_int_equal(decode_status(mp_buf_slice(&again), NULL), MEMPHIS_OK);
                mp_buf_fini(&again);
            } else {
                assert_true(s == MEMPHIS_CORRUPT || s == MEMPHIS_UNSUPPORTED);
            }
            mp_arena_fini(&arena);
            b.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        mp_buf_fini(&b);
    }
}

static void any_bytes_are_read_without_harm(void **state)
{
    uint64_t x = 88172645463325252;

    (void)state;
    for (int round = 0; round < 20000; round++) {
        uint8_t bytes[64];
        for (size_t i = 0; i < sizeof bytes; i++) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            bytes[i] = (uint8_t)(x % 3 == 0 ? x >> 32 : x >> 61);
        }
        bytes[0] = (uint8_t)(1 + x % 8);
        bytes[1] = bytes[3] = 0;
        bytes[2] = 1;
        memphis_status s = decode_status(mp_slice(bytes, x % sizeof bytes), NULL);
        if (s != MEMPHIS_OK && s != MEMPHIS_CORRUPT)
            assert_int_equal(s, MEMPHIS_UNSUPPORTED);
    }
}

/* A user with one more item behind it. */
static memphis_status with_item(uint16_t tag, const void *value, size_t size,
                                const char *expected_text)
{
    struct mp_command c = user_of("bob", "");
    struct mp_buf b = { 0 };

    mp_command_encode(&c, &b);
    mp_buf_put_u16(&b, tag);
    mp_buf_put_u32(&b, (uint32_t)size);
    mp_buf_put(&b, value, size);
    memphis_status s = decode_status(mp_buf_slice(&b), expected_text);
    mp_buf_fini(&b);
    return s;
}

static void unknown_items_are_skipped_or_refused(void **state)
{
    (void)state;
    assert_int_equal(with_item(32768, "x", 1, NULL), MEMPHIS_OK);
    assert_int_equal(with_item(65535, "", 0, NULL), MEMPHIS_OK);
    assert_int_equal(with_item(32767, "x", 1, "unknown field 32767"),
                     MEMPHIS_UNSUPPORTED);
    assert_int_equal(with_item(16, "x", 1, "user_put"), MEMPHIS_UNSUPPORTED);
}

static void malformed_items_are_refused(void **state)
{
    (void)state;
    assert_int_equal(with_item(2, "eve", 3, "twice"), MEMPHIS_CORRUPT);
    assert_int_equal(with_item(4, "a\0b", 3, "zero byte"), MEMPHIS_CORRUPT);
    assert_int_equal(with_item(3, "\1\0\0", 3, "twice"), MEMPHIS_CORRUPT);
    assert_int_equal(with_item(4, "hash", 4, NULL), MEMPHIS_OK);
}

static void wrong_numbers_are_refused(void **state)
{
    static const uint8_t narrow[] = { 7, 0, 1, 0, 2, 0, 1, 0, 0, 0, 'b',
                                      3, 0, 3, 0, 0, 0, 1, 0, 0 };
    static const uint8_t large[] = { 7, 0, 1, 0, 2, 0, 1, 0, 0, 0, 'b',
                                     3, 0, 4, 0, 0, 0, 3, 0, 0, 0 };

    (void)state;
    assert_int_equal(decode_status(mp_slice(narrow, sizeof narrow), "3 bytes"),
                     MEMPHIS_CORRUPT);
    assert_int_equal(decode_status(mp_slice(large, sizeof large), "unknown value 3"),
                     MEMPHIS_UNSUPPORTED);
}

static void unknown_commands_and_versions_are_refused(void **state)
{
    static const uint8_t kind[] = { 10, 0, 1, 0 }, zero[] = { 0, 0, 1, 0 },
                         version[] = { 7, 0, 2, 0, 2, 0, 1, 0, 0, 0, 'b' };

    (void)state;
    assert_int_equal(decode_status(mp_slice(kind, 4), "command 10 version 1"),
                     MEMPHIS_UNSUPPORTED);
    assert_int_equal(decode_status(mp_slice(zero, 4), NULL), MEMPHIS_UNSUPPORTED);
    assert_int_equal(decode_status(mp_slice(version, sizeof version), "version 2"),
                     MEMPHIS_UNSUPPORTED);
    assert_int_equal(decode_status(mp_slice(kind, 3), "3 bytes"), MEMPHIS_CORRUPT);
    assert_int_equal(decode_status(mp_slice(NULL, 0), "0 bytes"), MEMPHIS_CORRUPT);
}

static void a_command_without_its_essentials_is_refused(void **state)
{
    static const uint8_t nameless[] = { 8, 0, 1, 0 },
                         without_id[] = { 3, 0, 1, 0, 3, 0, 1, 0, 0, 0, 'p' };
    struct mp_command c = full(MP_COMMAND_STATION_CREATE);
    struct mp_buf b = { 0 };

    (void)state;
    assert_int_equal(decode_status(mp_slice(nameless, 4), "name is empty"),
                     MEMPHIS_CORRUPT);
    assert_int_equal(decode_status(mp_slice(without_id, sizeof without_id), "no id"),
                     MEMPHIS_CORRUPT);
    assert_null(mp_command_fault(&c));
    c.u.station.first_pid++;
    assert_non_null(mp_command_fault(&c));
    expect_assert_failure(mp_command_encode(&c, &b));
    mp_buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(every_command_comes_back_as_it_was),
        leak_checked(the_time_of_a_command_becomes_that_of_its_row),
        leak_checked(the_format_is_what_was_released),
        leak_checked(missing_fields_are_zero_or_empty),
        leak_checked(a_command_that_is_cut_off_is_refused),
        leak_checked(a_flipped_bit_never_harms),
        leak_checked(any_bytes_are_read_without_harm),
        leak_checked(unknown_items_are_skipped_or_refused),
        leak_checked(malformed_items_are_refused),
        leak_checked(wrong_numbers_are_refused),
        leak_checked(unknown_commands_and_versions_are_refused),
        leak_checked(a_command_without_its_essentials_is_refused),
    };

    return run_tests("meta/command", tests);
}
