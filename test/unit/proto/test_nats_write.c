#include "support/test.h"

#include "base/str.h"
#include "proto/nats_write.h"

static const struct mp_server_info info = {
    .server_id = "NB6K", .server_name = "memphis-0", .host = "0.0.0.0", .port = 6666,
    .payload_max = 1048576, .auth_required = true,
};

static void check(struct mp_buf *out, const char *expected)
{
    mp_buf_put_u8(out, 0);
    assert_string_equal((const char *)out->data, expected);
    mp_buf_fini(out);
}

static void test_info(void **state)
{
    struct mp_buf out = { 0 };

    (void)state;
    mp_nats_write_info(&out, &info, 44, "127.0.0.1");
    check(&out, "INFO {\"server_id\":\"NB6K\",\"server_name\":\"memphis-0\","
                "\"version\":\"2.10.7\",\"proto\":1,\"go\":\"none\","
                "\"host\":\"0.0.0.0\","
                "\"port\":6666,\"headers\":true,\"auth_required\":true,"
                "\"max_payload\":1048576,\"jetstream\":true,\"client_id\":44,"
                "\"client_ip\":\"127.0.0.1\",\"connection_id\":\"\"}\r\n");
}

static void test_info_with_tls_and_a_large_id(void **state)
{
    struct mp_server_info i = info;
    struct mp_buf out = { 0 };

    (void)state;
    i.tls_required = true;
    mp_nats_write_info(&out, &i, UINT64_C(0x180000005), "::1");
    mp_buf_put_u8(&out, 0);
    const char *text = (const char *)out.data;
    assert_non_null(strstr(text, "\"auth_required\":true,\"tls_required\":true,"));
    assert_non_null(strstr(text, "\"client_id\":5,"));
    assert_true(out.size < 4096);
    mp_buf_fini(&out);
}

static void test_message(void **state)
{
    struct mp_message m = { .subject = MP_STR("a.b"), .payload = MP_STR("hello") };
    struct mp_buf out = { 0 };

    (void)state;
    mp_nats_write_message(&out, "7", &m, true);
    check(&out, "MSG a.b 7 5\r\nhello\r\n");
    m.reply = MP_STR("in.1");
    mp_nats_write_message(&out, "7", &m, true);
    check(&out, "MSG a.b 7 in.1 5\r\nhello\r\n");
    m.payload = (memphis_slice){ 0 };
    mp_nats_write_message(&out, "7", &m, true);
    check(&out, "MSG a.b 7 in.1 0\r\n\r\n");
}

static void test_message_with_headers(void **state)
{
    struct mp_message m = {
        .subject = MP_STR("a"), .headers = MP_STR("NATS/1.0\r\nk: v\r\n\r\n"),
        .payload = MP_STR("x"),
    };
    struct mp_buf out = { 0 };

    (void)state;
    mp_nats_write_message(&out, "1", &m, true);
    check(&out, "HMSG a 1 18 19\r\nNATS/1.0\r\nk: v\r\n\r\nx\r\n");
    m.reply = MP_STR("r");
    mp_nats_write_message(&out, "1", &m, true);
    check(&out, "HMSG a 1 r 18 19\r\nNATS/1.0\r\nk: v\r\n\r\nx\r\n");
    mp_nats_write_message(&out, "1", &m, false);
    check(&out, "MSG a 1 r 1\r\nx\r\n");
}

static void test_error(void **state)
{
    struct mp_buf out = { 0 };

    (void)state;
    mp_nats_write_error(&out, "Authorization Violation");
    check(&out, "-ERR 'Authorization Violation'\r\n");
}

static void test_lines_are_appended(void **state)
{
    struct mp_message m = { .subject = MP_STR("a"), .payload = MP_STR("x") };
    struct mp_buf out = { 0 };

    (void)state;
    mp_nats_write_message(&out, "1", &m, false);
    mp_nats_write_message(&out, "2", &m, false);
    check(&out, "MSG a 1 1\r\nx\r\nMSG a 2 1\r\nx\r\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(test_info),
        leak_checked(test_info_with_tls_and_a_large_id),
        leak_checked(test_message),
        leak_checked(test_message_with_headers),
        leak_checked(test_error),
        leak_checked(test_lines_are_appended),
    };

    return run_tests("proto/nats_write", tests);
}
