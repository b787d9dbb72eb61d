/* Fuzz target: what a stream reads from its log: settings, group entries, progress, the
 * state file (lib/stream).
 *
 * The input is a row of pieces {kind, length, bytes}. A stream that has taken them
 * keeps its groups consistent, and what it writes as its state another stream can read
 * and write again in the same size. */
#include "fuzz/fuzz.h"

#include "base/mem.h"
#include "stream/stream.h"

#include <limits.h>

enum piece { SETTINGS, GROUP_ENTRY, STATE, REPLAY_DONE, PIECES };
enum { PIECES_MAX = 64, LAST_SEQ = 100 };

/* -- a log with messages 1 ... LAST_SEQ, none readable ---------------------------- */

static memphis_status no_append(struct mp_log *l, const struct mp_entry *e, size_t n,
                                uint64_t tag)
{
    (void)l, (void)e, (void)n, (void)tag;
    return MEMPHIS_BROKEN;
}

static bool no(const struct mp_log *l)
{
    (void)l;
    return false;
}

static void nothing(struct mp_log *l)
{
    (void)l;
}

static memphis_status no_read(struct mp_log *l, uint32_t pid, uint64_t seq,
                              struct mp_stored *out)
{
    (void)l, (void)pid, (void)seq, (void)out;
    return MEMPHIS_NOT_FOUND;
}

static bool has(const struct mp_log *l, uint32_t pid, uint64_t seq)
{
    (void)l, (void)pid, (void)seq;
    return false;
}

static uint64_t first(const struct mp_log *l, uint32_t pid)
{
    (void)l, (void)pid;
    return 1;
}

static uint64_t last(const struct mp_log *l, uint32_t pid)
{
    (void)l, (void)pid;
    return LAST_SEQ;
}

static void stats(const struct mp_log *l, uint32_t pid, struct mp_log_stats *out)
{
    (void)l, (void)pid;
    *out = (struct mp_log_stats){
        .messages = LAST_SEQ, .first_seq = 1, .last_seq = LAST_SEQ, .first_time_ns = 1
    };
}

static const struct mp_log_ops ops = { .append = no_append,
                                       .is_full = no,
                                       .close_entry = nothing,
                                       .has_open_entry = no,
                                       .read = no_read,
                                       .has = has,
                                       .first = first,
                                       .last = last,
                                       .stats = stats };

/* -- the world --------------------------------------------------------------------- */

static uint64_t now_ns = 1000000;
static struct mp_timers timers;
static struct mp_stream_host host;
static struct mp_log log_of_nothing = { .ops = &ops, .shard = 2 };

static struct mp_stream *stream_new(uint32_t pid, const char *name)
{
    struct mp_stream_settings s = { .name = name,
                                    .limit = MP_LIMIT_MESSAGES,
                                    .limit_value = 1000,
                                    .station_id = 1,
                                    .number = 1 };

    return mp_stream_new(&host, &log_of_nothing, pid, &s);
}

static void fuzz_settings(memphis_slice in)
{
    struct mp_cursor c = mp_cursor_of(in);
    struct mp_arena arena = { 0 };
    struct mp_stream_settings s, again;
    struct mp_buf b = { 0 };

    if (mp_stream_settings_decode(&c, &arena, &s) == MEMPHIS_OK) {
        check(are_items(mp_cursor_of(in)), "settings that are cut off are accepted");
        mp_stream_settings_encode(&s, &b);
        c = mp_cursor_of(mp_buf_slice(&b));
        check(mp_stream_settings_decode(&c, &arena, &again) == MEMPHIS_OK,
              "settings that were encoded cannot be decoded");
        check(strcmp(s.name, again.name) == 0 && s.limit == again.limit &&
                  s.limit_value == again.limit_value && s.number == again.number &&
                  s.window_ns == again.window_ns && s.station_id == again.station_id,
              "settings change on their way");
    }
    mp_buf_fini(&b);
    mp_arena_fini(&arena);
}

static void check_groups(const struct mp_stream *s)
{
    struct mp_stream_group *g;

    for (uint32_t i = 0; (g = mp_map_next(&s->groups, &i)) != NULL;)
        mp_group_check(&g->group);
}

static void take_pieces(struct mp_stream *s, memphis_slice in)
{
    struct mp_cursor c = mp_cursor_of(in);
    memphis_error err;

    for (int i = 0; i < PIECES_MAX && mp_cursor_left(&c) > 0; i++) {
        enum piece what = mp_cursor_u8(&c) % PIECES;
        size_t size = mp_cursor_u16(&c);
        size_t left = mp_cursor_left(&c);
        memphis_slice part = mp_cursor_take(&c, size < left ? size : left);
        uint8_t *copy = exact_copy(part);
        struct mp_entry e = { .type = MP_ENTRY_GROUP,
                              .pid = 3,
                              .time_ns = 5,
                              .payload = mp_slice(copy, part.size) };

        if (what == SETTINGS)
            fuzz_settings(e.payload);
        else if (what == GROUP_ENTRY)
            mp_stream_apply(s, &e, 0);
        else if (what == STATE && mp_stream_restore(s, e.payload, &err) != MEMPHIS_OK)
            i = PIECES_MAX; /* the start ends here */
        else if (what == REPLAY_DONE)
            mp_stream_replay_done(s);
        free(copy);
        if (i < PIECES_MAX)
            check_groups(s);
    }
}

/* Replay done first: groups end where the log does. */
static void compare_state(struct mp_stream *s)
{
    struct mp_stream *second = stream_new(4, "orders$2");
    struct mp_buf once = { 0 }, twice = { 0 };
    memphis_error err;

    mp_stream_state(s, &once);
    check(mp_stream_restore(second, mp_buf_slice(&once), &err) == MEMPHIS_OK,
          "a state that was written cannot be read");
    check_groups(second);
    mp_stream_state(second, &twice);
    check(once.size == twice.size, "a state changes on its way");
    mp_buf_fini(&once);
    mp_buf_fini(&twice);
    mp_stream_free(second, false);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mp_bus *bus = mp_bus_new(1);

    mp_timers_init(&timers, 1);
    memset(&host, 0, sizeof host);
    mp_stream_host_init(&host);
    host.bus = bus;
    host.timers = &timers;
    host.now_ns = &now_ns;
    struct mp_stream *s = stream_new(3, "orders$1");
    take_pieces(s, mp_slice(data, size));
    mp_stream_replay_done(s);
    check_groups(s);
    compare_state(s);
    mp_stream_free(s, false);
    check(timers.count == 0, "a timer is left");
    mp_bus_free(bus);
    check(mp_heap_current()->live_blocks == 0, "memory is left");
    return 0;
}

/* -- seeds ------------------------------------------------------------------------- */

static void put_piece(struct mp_buf *out, enum piece what, struct mp_buf *part)
{
    mp_buf_put_u8(out, (uint8_t)what);
    mp_buf_put_u16(out, (uint16_t)part->size);
    mp_buf_put_slice(out, mp_buf_slice(part));
    mp_buf_clear(part);
}

/* Two groups as their create ops, and progress: next 20, floor 5, 7 to 8 settled, 9
 * delivered twice, due at 3 s. */
static void put_groups(struct mp_buf *out)
{
    struct mp_stream s = { .next_gid = 1 };
    struct mp_stream_group_config c = { .name = "billing#eu",
                                        .start = 1,
                                        .group = { 30000000000, 10, 1000 } };
    struct mp_buf b = { 0 };

    mp_stream_group_create_encode(&s, &c, &b);
    put_piece(out, GROUP_ENTRY, &b);
    c.name = "audit";
    c.filter = "orders$1.x";
    mp_stream_group_create_encode(&s, &c, &b);
    put_piece(out, GROUP_ENTRY, &b);
    mp_buf_put_u8(&b, 4);
    mp_buf_put_u32(&b, 1);
    mp_buf_put_u64(&b, 20);
    mp_buf_put_u64(&b, 5);
    mp_buf_put(&b, "\1\2\2\1\4", 5);
    mp_buf_put_u16(&b, 2);
    mp_buf_put_u64(&b, 3000000000);
    put_piece(out, GROUP_ENTRY, &b);
    mp_buf_fini(&b);
}

static void put_settings(struct mp_buf *out)
{
    struct mp_stream_settings s = { .name = "orders$1",
                                    .limit = MP_LIMIT_BYTES,
                                    .limit_value = 9,
                                    .window_ns = 8,
                                    .station_id = 7,
                                    .number = 6 };
    struct mp_buf b = { 0 };

    mp_stream_settings_encode(&s, &b);
    put_piece(out, SETTINGS, &b);
    mp_buf_fini(&b);
}

/* The state of a stream with one group, as it is on disk. */
static void put_state(struct mp_buf *out)
{
    struct mp_stream s = { .next_gid = 1 };
    struct mp_stream_group_config c = { .name = "audit",
                                        .start = 1,
                                        .group = { 30000000000, 10, 1000 } };
    struct mp_buf b = { 0 }, item = { 0 };

    mp_stream_group_create_encode(&s, &c, &item);
    mp_buf_put_u64(&item, 77); /* made at */
    mp_buf_put_u64(&item, 20); /* next */
    mp_buf_put_u64(&item, 5);  /* floor */
    mp_buf_put(&item, "\0\0", 2);
    mp_buf_put_u16(&b, 1);
    mp_buf_put_u32(&b, (uint32_t)item.size);
    mp_buf_put_slice(&b, mp_buf_slice(&item));
    put_piece(out, STATE, &b);
    mp_buf_fini(&b);
    mp_buf_fini(&item);
}

size_t fuzz_seed(size_t i, uint8_t out[FUZZ_SEED_MAX])
{
    static void (*const all[])(struct mp_buf *) = { put_groups, put_settings,
                                                    put_state };
    struct mp_buf b = { 0 };

    if (i >= sizeof all / sizeof all[0])
        return 0;
    all[i](&b);
    size_t size = b.size;
    memcpy(out, b.data, size);
    mp_buf_fini(&b);
    return size;
}
