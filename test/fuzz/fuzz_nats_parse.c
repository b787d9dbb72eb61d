/* Fuzz target: the NATS parser and the session behind it.
 *
 * The parser must find the same operations however the bytes are cut, consume what it
 * says, and point into the input only. The session must answer the same bytes, too. */
#include "fuzz/fuzz.h"

#include "base/limits.h"
#include "base/mem.h"
#include "proto/nats_parse.h"
#include "proto/session.h"

#define GO                                                                             \
    "CONNECT {\"verbose\":false,\"pedantic\":false,\"user\":\"u\",\"pass\":\"p\","     \
    "\"headers\":true,\"no_responders\":true,\"name\":\"c::u\"}\r\n"

static const char *const seeds[] = {
    GO "PING\r\nSUB a.* 1\r\nSUB a.> q 2\r\nPUB a.b in.1 3\r\nabc\r\nUNSUB 1 1\r\n",
    GO "SUB in.* 1\r\nPUB nobody in.1 0\r\n\r\nHPUB a 12 13\r\nNATS/1.0\r\n\r\nx\r\n",
    "CONNECT {\"user\":\"u\",\"pass\":\"p\"}\r\nSUB a 1\r\nPUB a 1\r\nx\r\nPONG\r\n",
    "connect {}\r\nping\n+OK\r\nINFO {}\r\n-ERR 'x'\r\nSUB $JS.API.> 1\r\n",
    "PUB a 1048577\r\nHPUB a b 1 2\r\nxy\r\nPUB  a \t 1 \r\nx\r\nUNSUB 1 \r\n",
    GO "PUB a 10\r\n0123456789\r\n" GO "SUB a..b 1\r\nPUB a..b 0\r\n\r\n",
};

size_t fuzz_seed(size_t i, uint8_t out[FUZZ_SEED_MAX])
{
    if (i >= sizeof(seeds) / sizeof(seeds[0]))
        return 0;
    memcpy(out, seeds[i], strlen(seeds[i]));
    return strlen(seeds[i]);
}

enum { OUTPUT_MAX = 1 << 20, PIECE_MAX = 97 };

/* -- parser ----------------------------------------------------------------------- */

struct outcome {
    uint64_t hash;
    size_t consumed;
    enum mp_nats_result result;
};

static void mix(struct outcome *o, memphis_slice s, memphis_slice in)
{
    const char *start = in.data, *at = s.data;

    check(s.size == 0 || (at >= start && at + s.size <= start + in.size),
          "a slice points out of the input");
    for (size_t i = 0; i < s.size; i++)
        o->hash = (o->hash ^ (uint8_t)at[i]) * UINT64_C(0x100000001b3);
    o->hash = o->hash * 31 + s.size;
}

static void mix_op(struct outcome *o, const struct mp_nats_op *op, memphis_slice in)
{
    o->hash = o->hash * 31 + (uint64_t)op->verb + op->max;
    mix(o, op->subject, in);
    mix(o, op->reply, in);
    mix(o, op->queue, in);
    mix(o, op->sid, in);
    mix(o, op->headers, in);
    mix(o, op->payload, in);
    mix(o, op->json, in);
}

static struct outcome parse_pieces(const uint8_t *data, size_t size, size_t piece)
{
    struct outcome o = { .result = MP_NATS_MORE };
    struct mp_nats_parser p;
    size_t end = 0;

    mp_nats_parser_init(&p, 4096);
    p.allow_headers = true;
    while (end < size && o.result == MP_NATS_MORE) {
        end = size - end > piece ? end + piece : size;
        do {
            memphis_slice in = mp_slice(data + o.consumed, end - o.consumed);
            struct mp_nats_op op;
            size_t used = 0;

            o.result = mp_nats_parse(&p, in, &op, &used);
            if (o.result != MP_NATS_OP)
                break;
            check(used > 0 && used <= in.size, "consumed more than there is");
            mix_op(&o, &op, in);
            o.consumed += used;
        } while (o.consumed < end);
        if (o.result == MP_NATS_OP)
            o.result = MP_NATS_MORE;
    }
    if (o.result == MP_NATS_ERROR)
        mix(&o, mp_slice_text(p.error), mp_slice_text(p.error));
    return o;
}

/* -- session ---------------------------------------------------------------------- */

static struct mp_timers timers;
static struct mp_session_counters counters;
static char output[2][OUTPUT_MAX];
static size_t output_sizes[2];
static int run;

static void authenticate(void *ctx, struct mp_session *s,
                         const struct mp_credentials *c)
{
    (void)ctx;
    mp_session_verdict(s, c->user.size > 0, "u");
}

static void ignore(void *ctx, struct mp_session *s)
{
    (void)ctx;
    (void)s;
}

static void nobody_waits(void *ctx)
{
    (void)ctx;
}

static uint64_t now_ms(void *ctx)
{
    (void)ctx;
    return 1;
}

static void pipe_write(void *ctx, const memphis_slice *v, size_t n)
{
    (void)ctx;
    for (size_t i = 0; i < n; i++) {
        size_t room = OUTPUT_MAX - output_sizes[run];
        size_t size = v[i].size < room ? v[i].size : room;
        memcpy(output[run] + output_sizes[run], v[i].data, size);
        output_sizes[run] += size;
    }
}

static void pipe_close(void *ctx, const char *why)
{
    (void)why;
    *(bool *)ctx = true;
}

static void play(const uint8_t *data, size_t size, size_t piece)
{
    static const struct mp_server_info info = {
        .server_id = "I", .server_name = "n", .host = "h", .payload_max = 4096,
    };
    struct mp_bus *bus = mp_bus_new(1);
    struct mp_session_host host = {
        .bus = bus, .timers = &timers, .info = &info, .counters = &counters,
        .output_max = OUTPUT_MAX, .authenticate = authenticate, .up = ignore,
        .down = ignore, .wants_turn = ignore, .wants_flush = ignore,
        .has_room = nobody_waits,
        .now_ms = now_ms,
    };
    bool closed = false;
    struct mp_session_pipe pipe = { pipe_write, pipe_close, &closed };

    mp_timers_init(&timers, 1);
    output_sizes[run] = 0;
    struct mp_session *s = mp_session_new(&host, &pipe, "p", NULL);
    for (size_t at = 0; at < size && !closed;) {
        size_t n = size - at < piece ? size - at : piece;
        mp_session_feed(s, data + at, n);
        at += n;
        while (mp_session_has_input(s)) {
            uint32_t operations = 100;
            mp_session_work(s, 64 << 10, &operations);
        }
        size_t before = output_sizes[run];
        mp_session_flush(s);
        mp_session_drained(s, output_sizes[run] - before);
    }
    mp_session_free(s);
    check(timers.count == 0, "a timer is left");
    mp_bus_free(bus);
    check(mp_heap_current()->live_blocks == 0, "memory is left");
}

/* With much output a slow reader is closed at a point that depends on the pieces. */
static void compare_answers(void)
{
    size_t small = OUTPUT_MAX / 4;
    bool is_small = output_sizes[0] < small && output_sizes[1] < small;

    check(!is_small || (output_sizes[0] == output_sizes[1] &&
                        memcmp(output[0], output[1], output_sizes[0]) == 0),
          "other pieces, another answer");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct outcome whole = parse_pieces(data, size, size);
    size_t piece = 2 + (size > 0 ? data[size / 2] % PIECE_MAX : 0);
    size_t pieces[] = { 1, piece };

    for (int i = 0; i < 2; i++) {
        struct outcome o = parse_pieces(data, size, pieces[i]);
        check(o.result == whole.result && o.hash == whole.hash &&
                  o.consumed == whole.consumed,
              "other pieces, another result");
    }
    run = 0;
    play(data, size, size);
    run = 1;
    play(data, size, piece);
    compare_answers();
    return 0;
}
