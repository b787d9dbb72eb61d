#include "support/test.h"

#include "base/limits.h"
#include "base/str.h"
#include "proto/ws.h"

#include <stdio.h>

#define FIELDS                                                                         \
    "Host: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"                         \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"                                  \
    "Sec-WebSocket-Version: 13\r\n"
#define OPEN "GET / HTTP/1.1\r\n" FIELDS "\r\n"

/* What the events were, as text, however the bytes were cut: pieces of payload are put
 * together. */
struct story {
    char text[4096];
    size_t size;
    bool in_data;
};

static void tell(struct story *t, const char *label, const void *data, size_t size)
{
    const uint8_t *at = data;

    t->size += (size_t)snprintf(t->text + t->size, sizeof t->text - t->size, "%s%s",
                                t->size > 0 ? " " : "", label);
    for (size_t i = 0; i < size && t->size + 4 < sizeof t->text; i++) {
        bool plain = at[i] >= ' ' && at[i] < 0x7f;

        t->size += (size_t)snprintf(t->text + t->size, sizeof t->text - t->size,
                                    plain ? "%c" : "\\%02x", at[i]);
    }
}

static void tell_event(struct story *t, const struct mp_ws *w, enum mp_ws_event e,
                       const void *data, size_t size)
{
    char label[32];

    if (e == MP_WS_DATA && t->in_data) {
        size_t before = t->size;

        tell(t, "", data, size);
        memmove(t->text + before, t->text + before + 1, t->size - before);
        t->size--;
        return;
    }
    t->in_data = e == MP_WS_DATA;
    if (e == MP_WS_OPEN)
        tell(t, "open", NULL, 0);
    else if (e == MP_WS_DATA)
        tell(t, "data=", data, size);
    else if (e == MP_WS_PING)
        tell(t, "ping=", w->control, w->control_size);
    else {
        snprintf(label, sizeof label, e == MP_WS_CLOSE ? "close=%u" : "failed=%u",
                 w->status);
        tell(t, label, NULL, 0);
    }
}

/* Each piece is a block of its own, so that a read beyond it is seen. */
static void play(memphis_slice bytes, size_t piece, size_t room_size, struct story *t)
{
    struct mp_ws w = { 0 };
    enum mp_ws_event e = MP_WS_MORE;
    char room[512];
    size_t size;

    *t = (struct story){ 0 };
    for (size_t at = 0; at < bytes.size && !mp_ws_is_over(&w); at += piece) {
        size_t n = bytes.size - at < piece ? bytes.size - at : piece;
        uint8_t *copy = mp_alloc_try(n);
        memphis_slice in = mp_slice(copy, n);

        memcpy(copy, (const uint8_t *)bytes.data + at, n);
        do {
            e = mp_ws_read(&w, &in, room, room_size, &size);
            if (e != MP_WS_MORE)
                tell_event(t, &w, e, room, size);
        } while (e != MP_WS_MORE && !mp_ws_is_over(&w));
        assert_true(e != MP_WS_MORE || in.size == 0);
        mp_free(copy);
    }
    assert_int_equal(mp_ws_is_over(&w), e == MP_WS_CLOSE || e == MP_WS_FAILED);
    mp_ws_fini(&w);
}

/* The same story in one piece, byte by byte and in between. */
static void expect(memphis_slice bytes, const char *wanted)
{
    static const size_t pieces[] = { SIZE_MAX / 2, 1, 2, 3, 7, 64 };
    struct story t;

    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        play(bytes, pieces[i], i % 2 ? 5 : 512, &t);
        assert_string_equal(t.text, wanted);
    }
}

#define EXPECT(literal, wanted) expect(MP_STR(literal), wanted)

/* -- the request ------------------------------------------------------------------ */

static void the_handshake_of_the_rfc_is_accepted(void **state)
{
    struct mp_ws w = { 0 };
    memphis_slice in = MP_STR(OPEN "\x81");
    struct mp_buf out = { 0 };
    char room[8];
    size_t size;

    (void)state;
    assert_int_equal(mp_ws_read(&w, &in, room, sizeof room, &size), MP_WS_OPEN);
    assert_int_equal(in.size, 1); /* frames may follow at once */
    mp_ws_put_accept(&out, &w);
    mp_buf_put_u8(&out, 0);
    assert_string_equal(out.data,
                        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                        "Connection: Upgrade\r\n"
                        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n");
    mp_buf_fini(&out);
    mp_ws_fini(&w);
    EXPECT(OPEN, "open");
}

static void a_browser_asks_in_other_words(void **state)
{
    (void)state;
    EXPECT("GET /any/path?x=1 HTTP/1.1\r\nhost:h\r\nUPGRADE: h2c, WebSocket\r\n"
           "Connection: keep-alive\r\nConnection:  Upgrade \r\nOrigin: http://evil\r\n"
           "Sec-WebSocket-Protocol: nats\r\nContent-Length: 0\r\n"
           "Sec-WebSocket-Extensions: permessage-deflate\r\nUser-Agent: \r\n"
           "sec-websocket-key:\tdGhlIHNhbXBsZSBub25jZQ== \r\n"
           "Sec-WebSocket-Version: 13\r\n\r\n",
           "open");
}

static void what_is_no_upgrade_is_refused(void **state)
{
    (void)state;
    EXPECT("POST / HTTP/1.1\r\n" FIELDS "\r\n", "failed=405");
    EXPECT("GET / HTTP/1.1\r\nHost: h\r\n\r\n", "failed=426");
    EXPECT("GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\r\n", "failed=426");
    EXPECT("GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websockets\r\n"
           "Connection: Upgrade\r\n\r\n",
           "failed=426");
    EXPECT("GET / HTTP/1.1\r\n" FIELDS "Sec-WebSocket-Version: 8\r\n\r\n",
           "failed=426");
    EXPECT("GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
           "Sec-WebSocket-Version: 12\r\n\r\n",
           "failed=426");
}

static void a_malformed_request_is_refused(void **state)
{
    (void)state;
    EXPECT("\x16\x03\x01", "failed=400"); /* TLS, at its first byte */
    EXPECT("get / HTTP/1.1\r\n", "failed=400");
    EXPECT("GET / HTTP/1.0\r\n" FIELDS "\r\n", "failed=400");
    EXPECT("GET  HTTP/1.1\r\n" FIELDS "\r\n", "failed=400");
    EXPECT("GET /a b HTTP/1.1\r\n" FIELDS "\r\n", "failed=400");
    EXPECT("G\r\n\r\n", "failed=400");
    EXPECT("GET / HTTP/1.1\r\n" FIELDS "Host: two\r\n\r\n", "failed=400");
    EXPECT("GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n", "failed=400");
    EXPECT("GET / HTTP/1.1\r\n" FIELDS "no colon\r\n\r\n", "failed=400");
    EXPECT("GET / HTTP/1.1\r\n" FIELDS "A : blank\r\n\r\n", "failed=400");
    EXPECT("GET / HTTP/1.1\r\n" FIELDS " folded: line\r\n\r\n", "failed=400");
    EXPECT("GET / HTTP/1.1\r\n" FIELDS ": nameless\r\n\r\n", "failed=400");
    EXPECT("GET / HTTP/1.1\r\n" FIELDS "A: a\rb\r\n\r\n", "failed=400");
    EXPECT("GET / HTTP/1.1\r\n" FIELDS "A: a\nB: b\r\n\r\n", "failed=400");
    EXPECT("GET / HTTP/1.1\r\n" FIELDS "A: \0\r\n\r\n", "failed=400");
    EXPECT("GET / HTTP/1.1\r\n" FIELDS "Content-Length: 5\r\n\r\n", "failed=400");
    EXPECT("GET / HTTP/1.1\r\n" FIELDS "Transfer-Encoding: chunked\r\n\r\n",
           "failed=400");
}

static void the_key_is_sixteen_bytes_and_there_once(void **state)
{
    static const char *const keys[] = { "", "dGhl", "dGhlIHNhbXBsZSBub25jZQ=",
                                        "dGhlIHNhbXBsZSBub25jZQ!!",
                                        "dGhlIHNhbXBsZSBub25jZSEh",
                                        "dGhlIHNhbXBsZSBub25jZQ==AAAA" };
    char text[512];

    (void)state;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        mp_format(text, sizeof text,
                  "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n"
                  "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                  "Sec-WebSocket-Key: %s\r\n\r\n",
                  keys[i]);
        expect(mp_slice_text(text), "failed=400");
    }
    EXPECT("GET / HTTP/1.1\r\n" FIELDS
           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
           "failed=400");
}

static void a_head_may_have_8_kib_and_no_byte_more(void **state)
{
    static const char front[] = "GET / HTTP/1.1\r\n" FIELDS "A: ", end[] = "\r\n\r\n";
    size_t fixed = sizeof front - 1 + sizeof end - 1;

    (void)state;
    for (size_t more = 0; more < 2; more++) {
        size_t size = MP_WS_HEAD_MAX + more;
        char *text = mp_alloc_try(size);

        memset(text, 'a', size);
        memcpy(text, front, sizeof front - 1);
        memcpy(text + sizeof front - 1 + size - fixed, end, sizeof end - 1);
        expect(mp_slice(text, size), more ? "failed=431" : "open");
        mp_free(text);
    }
}

static void a_refusal_is_an_http_answer(void **state)
{
    static const uint32_t all[] = { 400, 405, 408, 426, 431, 503 };

    (void)state;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        struct mp_buf out = { 0 };
        char wanted[32];

        mp_ws_put_refusal(&out, all[i], "so it is");
        mp_buf_put_u8(&out, 0);
        mp_format(wanted, sizeof wanted, "HTTP/1.1 %u ", all[i]);
        const char *text = (const char *)out.data;
        const char *body = strstr(text, "\r\n\r\n") + 4;
        assert_ptr_equal(strstr(text, wanted), text);
        mp_format(wanted, sizeof wanted, "Content-Length: %zu\r\n", strlen(body));
        assert_non_null(strstr(text, wanted));
        assert_non_null(strstr(text, "Sec-WebSocket-Version: 13\r\n"));
        assert_non_null(strstr(body, ": so it is\n"));
        assert_int_equal(strstr(text, "Upgrade: websocket") != NULL, all[i] == 426);
        mp_buf_fini(&out);
    }
}

/* -- frames: M is a mask of zeros, so that the payload can be read here ------------ */

#define M "\0\0\0\0"

static void the_masked_frames_of_the_rfc_are_read(void **state)
{
    (void)state; /* RFC 6455 5.7 */
    EXPECT(OPEN "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", "open data=Hello");
    EXPECT(OPEN "\x89\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", "open ping=Hello");
    EXPECT(OPEN "\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", "open"); /* pong */
    EXPECT(OPEN "\x01\x83" M "Hel\x80\x82" M "lo", "open data=Hello");
}

static void text_and_binary_are_one_stream(void **state)
{
    (void)state;
    EXPECT(OPEN "\x81\x81" M "a\x82\x81" M "b\x81\x80" M "\x82\x82" M "\xff\x00",
           "open data=ab\\ff\\00");
}

static void a_control_frame_may_come_between_fragments(void **state)
{
    (void)state;
    EXPECT(OPEN "\x02\x81" M "a\x89\x81" M "p\x00\x80" M "\x8a\x80" M "\x80\x81" M
                "b\x82\x81" M "c\x89\x80" M "\x88\x80" M,
           "open data=a ping=p data=bc ping= close=1005");
}

/* Sizes around the steps of the length field, each under a mask that is no pattern. */
static void every_length_is_read_and_unmasked(void **state)
{
    static const size_t sizes[] = { 0, 1, 3, 4, 7, 8, 9, 125, 126, 127, 65535, 65536 };
    static const uint8_t mask[] = { 0x37, 0xfa, 0x21, 0x3d };

    (void)state;
    for (size_t i = 0; i < 2 * sizeof sizes / sizeof sizes[0]; i++) {
        size_t size = sizes[i / 2], piece = i % 2 ? 1021 : 1, got = 0, n;
        struct mp_buf b = { 0 };
        struct mp_ws w = { 0 };
        uint8_t header[MP_WS_FRAME_HEADER_MAX], room[3000];

        mp_buf_put_text(&b, OPEN);
        n = mp_ws_frame_header(header, MP_WS_BINARY, size);
        header[1] |= 0x80;
        mp_buf_put(&b, header, n);
        mp_buf_put(&b, mask, 4);
        for (size_t j = 0; j < size; j++)
            mp_buf_put_u8(&b, (uint8_t)(j * 7) ^ mask[j % 4]);
        for (size_t at = 0; at < b.size; at += piece) {
            memphis_slice in =
                mp_slice(b.data + at, b.size - at < piece ? b.size - at : piece);
            enum mp_ws_event e;

            while ((e = mp_ws_read(&w, &in, room, sizeof room, &n)) != MP_WS_MORE)
                for (size_t j = 0; j < n; j++)
                    assert_int_equal(room[j], (uint8_t)(7 * got++));
        }
        assert_int_equal(got, size);
        mp_ws_fini(&w);
        mp_buf_fini(&b);
    }
}

static void what_breaks_the_framing_is_1002(void **state)
{
    (void)state;
    EXPECT(OPEN "\x82\x01x", "open failed=1002");         /* not masked */
    EXPECT(OPEN "\xc2\x81", "open failed=1002");          /* reserved bits */
    EXPECT(OPEN "\xa2\x81", "open failed=1002");
    EXPECT(OPEN "\x92\x81", "open failed=1002");
    EXPECT(OPEN "\x83\x81", "open failed=1002");          /* opcodes */
    EXPECT(OPEN "\x87\x81", "open failed=1002");
    EXPECT(OPEN "\x8b\x81", "open failed=1002");
    EXPECT(OPEN "\x8f\x81", "open failed=1002");
    EXPECT(OPEN "\x09\x80", "open failed=1002");          /* a ping in fragments */
    EXPECT(OPEN "\x08\x80", "open failed=1002");
    EXPECT(OPEN "\x89\xfe", "open failed=1002");          /* a ping of 126 bytes */
    EXPECT(OPEN "\x80\x81", "open failed=1002");          /* nothing to continue */
    EXPECT(OPEN "\x82\x80" M "\x00\x80", "open failed=1002");
    EXPECT(OPEN "\x02\x80" M "\x82\x80", "open failed=1002"); /* two messages */
    EXPECT(OPEN "\x02\x80" M "\x01\x80", "open failed=1002");
    EXPECT(OPEN "\x82\xfe\x00\x7d", "open failed=1002");  /* 125 in 16 bits */
    EXPECT(OPEN "\x82\xff\0\0\0\0\0\0\xff\xff", "open failed=1002");
    EXPECT(OPEN "\x82\xff\x80\0\0\0\0\0\0\0", "open failed=1002");
}

static void a_message_may_have_64_mib_and_no_more(void **state)
{
    enum { OVERHEAD = 14, LONG = 1 << 20 };
    struct mp_ws w = { 0 };
    memphis_slice in = MP_STR(OPEN);
    char room[64];
    size_t size;
    uint64_t used = 0, frames = 0;

    (void)state;
    EXPECT(OPEN "\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff", "open failed=1009");
    EXPECT(OPEN "\x82\xff\0\0\0\0\x04\0\0\0", "open failed=1009");
    EXPECT(OPEN "\x82\xff\0\0\0\0\x03\xff\xff\xf3" M "x", "open failed=1009");
    EXPECT(OPEN "\x82\xff\0\0\0\0\x03\xff\xff\xf2" M "x", "open data=x");
    EXPECT(OPEN "\x02\x81" M "x\x00\xff\0\0\0\0\x03\xff\xff\xf2", "open data=x "
                                                                  "failed=1009");
    /* Empty fragments count as well. */
    assert_int_equal(mp_ws_read(&w, &in, room, sizeof room, &size), MP_WS_OPEN);
    for (enum mp_ws_event e = MP_WS_MORE; e == MP_WS_MORE; frames++, used += 6) {
        in = frames == 0 ? MP_STR("\x02\x80" M) : MP_STR("\x00\x80" M);
        e = mp_ws_read(&w, &in, room, sizeof room, &size);
        assert_true(used < MP_WS_MESSAGE_MAX);
    }
    assert_int_equal(w.status, MP_WS_TOO_BIG);
    assert_int_equal(frames, MP_WS_MESSAGE_MAX / 6 + 1);
    mp_ws_fini(&w);
}

static void messages_do_not_add_up(void **state)
{
    (void)state;
    EXPECT(OPEN "\x02\x81" M "x\x80\x80" M "\x82\xff\0\0\0\0\x03\xff\xff\xf2" M "y",
           "open data=xy");
}

static void a_close_is_read_with_its_code(void **state)
{
    (void)state;
    EXPECT(OPEN "\x88\x82" M "\x03\xe8", "open close=1000");
    EXPECT(OPEN "\x88\x85" M "\x03\xe9" "bye\x82\x81" M "x", "open close=1001");
    EXPECT(OPEN "\x88\x82" M "\x0f\xa0", "open close=4000");
    EXPECT(OPEN "\x88\x80" M, "open close=1005");
    EXPECT(OPEN "\x88\x81" M "\x03", "open failed=1002");
    EXPECT(OPEN "\x88\x82" M "\x03\xe7", "open failed=1002"); /* 999 */
    EXPECT(OPEN "\x88\x82" M "\x03\xec", "open failed=1002"); /* 1004 */
    EXPECT(OPEN "\x88\x82" M "\x03\xed", "open failed=1002"); /* 1005 */
    EXPECT(OPEN "\x88\x82" M "\x03\xee", "open failed=1002"); /* 1006 */
    EXPECT(OPEN "\x88\x82" M "\x03\xf7", "open failed=1002"); /* 1015 */
    EXPECT(OPEN "\x88\x82" M "\x07\xd0", "open failed=1002"); /* 2000 */
    EXPECT(OPEN "\x88\x82" M "\x13\x88", "open failed=1002"); /* 5000 */
    EXPECT(OPEN "\x88\x83" M "\x03\xe8\xff", "open failed=1007");
}

/* -- our frames ------------------------------------------------------------------- */

static void our_frames_are_short_and_not_masked(void **state)
{
    uint8_t h[MP_WS_FRAME_HEADER_MAX];

    (void)state; /* RFC 6455 5.7, and the sizes around the steps */
    assert_int_equal(mp_ws_frame_header(h, MP_WS_TEXT, 5), 2);
    assert_memory_equal(h, "\x81\x05", 2);
    assert_int_equal(mp_ws_frame_header(h, MP_WS_BINARY, 125), 2);
    assert_memory_equal(h, "\x82\x7d", 2);
    assert_int_equal(mp_ws_frame_header(h, MP_WS_BINARY, 126), 4);
    assert_memory_equal(h, "\x82\x7e\x00\x7e", 4);
    assert_int_equal(mp_ws_frame_header(h, MP_WS_BINARY, 256), 4);
    assert_memory_equal(h, "\x82\x7e\x01\x00", 4);
    assert_int_equal(mp_ws_frame_header(h, MP_WS_BINARY, 65535), 4);
    assert_int_equal(mp_ws_frame_header(h, MP_WS_BINARY, 65536), 10);
    assert_memory_equal(h, "\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00", 10);
}

static void a_close_of_ours_has_code_and_reason(void **state)
{
    struct mp_buf out = { 0 };
    char reason[200];

    (void)state;
    mp_ws_put_close(&out, 1009, "too big");
    assert_int_equal(out.size, 11);
    assert_memory_equal(out.data, "\x88\x09\x03\xf1too big", 11);
    mp_buf_clear(&out);
    mp_ws_put_close(&out, MP_WS_NO_CODE, "unheard");
    assert_int_equal(out.size, 2);
    assert_memory_equal(out.data, "\x88\x00", 2);
    mp_buf_clear(&out);
    memset(reason, 'a', sizeof reason);
    memcpy(reason + 122, "\xc3\xa4", 3); /* not cut in the middle of a character */
    mp_ws_put_close(&out, 1000, reason);
    assert_int_equal(out.size, 2 + 2 + 122);
    mp_buf_fini(&out);
}

static void no_memory_is_a_503(void **state)
{
    struct mp_ws w = { 0 };
    memphis_slice in = MP_STR(OPEN);
    char room[8];
    size_t size;

    (void)state;
    mp_heap_current()->fail_in = 1;
    assert_int_equal(mp_ws_read(&w, &in, room, sizeof room, &size), MP_WS_FAILED);
    mp_heap_current()->fail_in = 0;
    assert_int_equal(w.status, 503);
    mp_ws_fini(&w);
}

static const struct CMUnitTest tests[] = {
    leak_checked(the_handshake_of_the_rfc_is_accepted),
    leak_checked(a_browser_asks_in_other_words),
    leak_checked(what_is_no_upgrade_is_refused),
    leak_checked(a_malformed_request_is_refused),
    leak_checked(the_key_is_sixteen_bytes_and_there_once),
    leak_checked(a_head_may_have_8_kib_and_no_byte_more),
    leak_checked(a_refusal_is_an_http_answer),
    leak_checked(the_masked_frames_of_the_rfc_are_read),
    leak_checked(text_and_binary_are_one_stream),
    leak_checked(a_control_frame_may_come_between_fragments),
    leak_checked(every_length_is_read_and_unmasked),
    leak_checked(what_breaks_the_framing_is_1002),
    leak_checked(a_message_may_have_64_mib_and_no_more),
    leak_checked(messages_do_not_add_up),
    leak_checked(a_close_is_read_with_its_code),
    leak_checked(our_frames_are_short_and_not_masked),
    leak_checked(a_close_of_ours_has_code_and_reason),
    leak_checked(no_memory_is_a_503),
};

int main(void)
{
    return run_tests("proto/ws", tests);
}
