/* Fuzz target: the WebSocket decoder.
 *
 * The events, their payload and the place where it ends must be the same however the
 * bytes are cut and however small the room is; it keeps no more than it says. */
#include "fuzz/fuzz.h"

#include "base/limits.h"
#include "base/mem.h"
#include "proto/ws.h"

#define OPEN                                                                           \
    "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"       \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
#define SEED(literal) { literal, sizeof literal - 1 }

static const struct {
    const char *text;
    size_t size;
} seeds[] = {
    SEED(OPEN "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"),
    SEED(OPEN "\x02\x83mask\x05\x04\x1f\x89\x81mask\x01\x80\x80mask\x8a\x80mask"),
    SEED(OPEN "\x82\xfe\x00\x7f" "abcdSUB a 1\r\n"),
    SEED(OPEN "\x82\xff\0\0\0\0\0\1\0\0" "abcd" "PUB a 9999\r\n"),
    SEED(OPEN "\x88\x85\0\0\0\0\x03\xe8" "bye"),
    SEED("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx"),
    SEED("GET /x HTTP/1.1\r\nHost:h\r\nConnection: a,,b , Upgrade\r\n\r\n"),
};

size_t fuzz_seed(size_t i, uint8_t out[FUZZ_SEED_MAX])
{
    if (i >= sizeof seeds / sizeof seeds[0])
        return 0;
    memcpy(out, seeds[i].text, seeds[i].size);
    return seeds[i].size;
}

struct outcome {
    uint64_t hash;
    size_t consumed, payload;
    uint32_t status;
};

static void mix(struct outcome *o, const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        o->hash = (o->hash ^ data[i]) * UINT64_C(0x100000001b3);
}

/* Pieces of payload are one stream; the other events stand at their place in it. */
static void mix_event(struct outcome *o, const struct mp_ws *w, enum mp_ws_event e,
                      const uint8_t *room, size_t size)
{
    mix(o, room, size);
    o->payload += size;
    if (e == MP_WS_DATA)
        return;
    check(size == 0, "an event has payload");
    o->hash = o->hash * 31 + (uint64_t)e + o->payload;
    if (e == MP_WS_OPEN)
        mix(o, (const uint8_t *)w->accept, MP_WS_ACCEPT_SIZE);
    if (e == MP_WS_PING)
        mix(o, w->control, w->control_size);
    if (mp_ws_is_over(w)) {
        check(e == MP_WS_CLOSE || e == MP_WS_FAILED, "it ended without saying so");
        check(w->why != NULL && w->status >= 400 && w->status < 5000, "no reason");
        o->status = w->status;
    }
}

static struct outcome play(const uint8_t *data, size_t size, size_t piece,
                           size_t room_size)
{
    struct outcome o = { 0 };
    struct mp_ws w = { 0 };
    uint8_t *room = malloc(room_size);

    check(room != NULL, "no memory");
    while (o.consumed < size && !mp_ws_is_over(&w)) {
        size_t n = size - o.consumed < piece ? size - o.consumed : piece, got;
        uint8_t *copy = exact_copy((memphis_slice){ data + o.consumed, n });
        memphis_slice in = { copy, n };
        enum mp_ws_event e;

        do {
            size_t before = in.size;

            e = mp_ws_read(&w, &in, room, room_size, &got);
            check(in.size <= before && got <= room_size && got <= before, "too much");
            if (e != MP_WS_MORE)
                mix_event(&o, &w, e, room, got);
        } while (e != MP_WS_MORE && !mp_ws_is_over(&w));
        check(e != MP_WS_MORE || in.size == 0, "bytes are left");
        check(w.head.capacity <= 2 * MP_WS_HEAD_MAX, "the head has no bound");
        o.consumed += n - in.size;
        free(copy);
    }
    free(room);
    mp_ws_fini(&w);
    return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t piece = 2 + (size > 0 ? data[size / 2] % 61 : 0);
    struct outcome whole = play(data, size, size + 1, 4096);
    const size_t pieces[] = { 1, piece, size + 1 }, rooms[] = { 64, 7, 3 };

    for (int i = 0; i < 3; i++) {
        struct outcome o = play(data, size, pieces[i], rooms[i]);

        check(o.hash == whole.hash && o.consumed == whole.consumed &&
                  o.payload == whole.payload && o.status == whole.status,
              "other pieces, another result");
    }
    check(mp_heap_current()->live_blocks == 0, "memory is left");
    return 0;
}
