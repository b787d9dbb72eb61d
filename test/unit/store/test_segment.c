#include "unit/store/world.h"

#define NAME "s/00000002/00000007/00000000000000000001.seg"
#define INDEX "s/00000002/00000007/00000000000000000001.idx"

/* A segment file of pid 7 that begins with sequence 1, written by hand. */
struct made {
    struct world *w;
    struct mp_file *f;
    struct mp_segment g;
    struct mp_index_cache cache;
    uint64_t offsets[600];       /* by sequence; 0: there is none */
};

static void put_entry(struct made *m, uint8_t type, uint64_t seq, uint32_t size)
{
    uint8_t *payload = malloc(size + 1), *bytes;
    struct mp_entry e = { .type = type, .pid = 7, .seq = seq, .time_ns = 1000 * seq,
                          .payload = { payload, size } };

    if (size >= HEAD_SIZE)
        fill_payload(payload, 7, seq, size);
    size_t length = mp_entry_size(&e);
    bytes = malloc(length);
    (void)mp_entry_encode(&e, bytes);
    memphis_slice v = mp_slice(bytes, length);
    assert_int_equal(m->w->env->file_write(m->w->env, m->f, m->g.length, &v, 1, NULL),
                     MEMPHIS_OK);
    m->offsets[seq] = m->g.length;
    m->g.length += length;
    m->g.last = seq;
    if (seq < m->g.first)
        m->g.first = seq;
    free(payload);
    free(bytes);
}

static struct made *begin(uint64_t seed)
{
    struct made *m = calloc(1, sizeof *m);
    uint8_t block[MP_BLOCK_SIZE] = { 0 };

    m->w = world_new(seed);
    put_file(m->w, NAME, 0, block, sizeof block);
    assert_int_equal(m->w->env->file_open(m->w->env, NAME, MP_FILE_WRITE, &m->f, NULL),
                     MEMPHIS_OK);
    m->g = (struct mp_segment){ .first = 1, .last = 1, .length = MP_BLOCK_SIZE };
    return m;
}

static void seal(struct made *m)
{
    struct mp_ranges damage = { 0 };

    assert_int_equal(mp_segment_seal(m->w->env, m->f, SHARD, 7, &m->g, &damage, NULL),
                     MEMPHIS_OK);
    assert_int_equal(damage.count, 0);
}

static void end(struct made *m)
{
    m->w->env->file_close(m->w->env, m->f);
    mp_index_cache_fini(&m->cache);
    world_free(m->w);
    free(m);
}

/* Messages 1..count, of which those for which 'hole' says so are missing. */
static struct made *with_messages(uint64_t seed, uint64_t count, uint32_t size,
                                  uint64_t hole)
{
    struct made *m = begin(seed);

    for (uint64_t seq = 1; seq <= count; seq++)
        if (hole == 0 || seq % hole != 0)
            put_entry(m, MP_ENTRY_MESSAGE, seq, size + (uint32_t)(seq % 3) * 8);
    return m;
}

static memphis_status read_block(struct made *m, uint64_t seq, struct mp_chunk **out,
                                 uint64_t *damage_last)
{
    memphis_error err = { 0 };
    memphis_status s = mp_segment_read(m->w->env, SHARD, 7, &m->g, seq, &m->cache, out,
                                       damage_last, &err);

    assert_true((s == MEMPHIS_OK) == (*out != NULL));
    assert_true(s == MEMPHIS_OK || err.message[0] != 0);
    return s;
}

/* Its entries are whole, right, and in order; the first one's sequence is returned. */
static uint64_t check_block(const struct mp_chunk *c, uint64_t *last)
{
    struct mp_entry e;
    size_t size;
    uint64_t first = 0;

    *last = 0;
    for (uint32_t at = 0; at < c->used; at += (uint32_t)size) {
        assert_int_equal(mp_entry_decode(mp_slice(c->bytes + at, c->used - at), true,
                                         &e, &size, NULL), MEMPHIS_OK);
        if (e.type == MP_ENTRY_MESSAGE)
            check_entry(&e, 7, e.seq);
        assert_true(e.seq > *last);
        *last = e.seq;
        first = first == 0 ? e.seq : first;
    }
    return first;
}

/* -- reading ----------------------------------------------------------------------- */

static void each_sequence_finds_the_first_message_at_or_above_it(void **state)
{
    (void)state;

    for (int sealed = 0; sealed < 2; sealed++) {
        struct made *m = with_messages(1, 500, 300, 7);
        struct mp_chunk *c;
        uint64_t damage, last;
        if (sealed)
            seal(m);
        for (uint64_t seq = 500; seq >= 1; seq--) {
            uint64_t expected = seq % 7 == 0 ? seq + 1 : seq;
            assert_int_equal(read_block(m, seq, &c, &damage), MEMPHIS_OK);
            assert_int_equal(check_block(c, &last), expected);
            assert_true(c->used <= MP_COLD_BLOCK_SIZE);
            mp_chunk_unref(c);
        }
        m->g.last = 600; /* nothing is there */
        assert_int_equal(read_block(m, 501, &c, &damage), MEMPHIS_NOT_FOUND);
        end(m);
    }
}

static void entries_larger_than_a_block_are_read_whole(void **state)
{
    (void)state;

    for (int sealed = 0; sealed < 2; sealed++) {
        struct made *m = begin(2);
        struct mp_chunk *c;
        uint64_t damage, last;
        for (uint64_t seq = 1; seq <= 12; seq++)
            put_entry(m, MP_ENTRY_MESSAGE, seq,
                      seq % 3 == 0 ? MP_COLD_BLOCK_SIZE * (uint32_t)seq : 40);
        if (sealed)
            seal(m);
        for (uint64_t seq = 1; seq <= 12; seq++) {
            assert_int_equal(read_block(m, seq, &c, &damage), MEMPHIS_OK);
            assert_int_equal(check_block(c, &last), seq);
            mp_chunk_unref(c);
        }
        end(m);
    }
}

static void an_active_segment_that_grows_is_read_to_its_new_end(void **state)
{
    struct made *m = with_messages(4, 100, 300, 0);
    struct mp_chunk *c;
    uint64_t damage, last;
    (void)state;

    assert_int_equal(read_block(m, 100, &c, &damage), MEMPHIS_OK);
    mp_chunk_unref(c);
    for (uint64_t seq = 101; seq <= 200; seq++)
        put_entry(m, MP_ENTRY_MESSAGE, seq, 300);
    assert_int_equal(read_block(m, 190, &c, &damage), MEMPHIS_OK);
    assert_int_equal(check_block(c, &last), 190);
    assert_int_equal(last, 200);
    mp_chunk_unref(c);
    /* It goes no further than what was synced. */
    m->g.length = m->offsets[150];
    m->g.last = 149;
    assert_int_equal(read_block(m, 149, &c, &damage), MEMPHIS_OK);
    assert_int_equal(check_block(c, &last), 149);
    assert_int_equal(last, 149);
    mp_chunk_unref(c);
    end(m);
}

/* -- footer, index ----------------------------------------------------------------- */

static void the_footer_tells_what_is_in_a_sealed_segment(void **state)
{
    struct made *m = with_messages(5, 300, 300, 5);
    struct mp_segment_scan scan = { 0 };
    struct mp_ranges damage = { 0 };
    struct mp_segment g;
    (void)state;

    put_entry(m, MP_ENTRY_ID, 301, 0);
    m->g.min_time_ns = m->g.max_time_ns = 1;
    seal(m);
    assert_true(m->g.is_sealed);
    assert_int_equal(m->g.min_time_ns, 1000);
    assert_int_equal(m->g.max_time_ns, 301000);
    assert_int_equal(mp_segment_open_sealed(m->w->env, SHARD, 7, 1, &g, NULL),
                     MEMPHIS_OK);
    assert_int_equal(g.first, 1);
    assert_int_equal(g.last, 301);
    assert_int_equal(g.length, m->g.length);
    assert_int_equal(g.min_time_ns, 1000);
    assert_int_equal(g.max_time_ns, 301000);
    assert_true(g.is_sealed);

    assert_int_equal(mp_segment_scan(m->w->env, m->f, 7, &g, &damage, &scan, NULL),
                     MEMPHIS_OK);
    assert_int_equal(damage.count, 0);
    assert_int_equal(scan.footer.count, 241);
    assert_int_equal(scan.footer.last_seq, 301);
    assert_int_equal(scan.end, g.length);
    for (size_t i = 0; i < scan.count; i++) {
        assert_int_equal(m->offsets[1 + scan.items[i].seq], scan.items[i].offset);
        assert_true(i == 0 || scan.items[i].offset - scan.items[i - 1].offset >= 4096);
    }
    mp_segment_scan_fini(&scan);
    end(m);
}

static void a_file_without_a_valid_footer_is_not_sealed(void **state)
{
    struct made *m = with_messages(6, 50, 300, 0);
    struct mp_segment g;
    (void)state;

    assert_int_equal(mp_segment_open_sealed(m->w->env, SHARD, 7, 1, &g, NULL),
                     MEMPHIS_NOT_FOUND);
    seal(m);
    uint64_t footer = mp_block_up(m->g.length);
    for (uint64_t at = 0; at < 4096; at += at < 100 ? 1 : 101) {
        assert_true(mp_disk_flip(m->w->disk, NAME, footer + at, 2));
        assert_int_equal(mp_segment_open_sealed(m->w->env, SHARD, 7, 1, &g, NULL),
                         MEMPHIS_NOT_FOUND);
        assert_true(mp_disk_flip(m->w->disk, NAME, footer + at, 2));
    }
    assert_int_equal(mp_segment_open_sealed(m->w->env, SHARD, 7, 1, &g, NULL),
                     MEMPHIS_OK);
    end(m);
}

static void an_index_file_that_is_wrong_is_ignored(void **state)
{
    (void)state;

    for (int how = 0; how < 5; how++) {
        struct made *m = with_messages(7, 500, 300, 0);
        struct mp_env *e = m->w->env;
        struct mp_chunk *c;
        uint64_t damage, last;
        seal(m);
        if (how == 0)
            assert_true(mp_disk_flip(m->w->disk, INDEX, 37, 1));
        if (how == 1)
            assert_int_equal(e->unlink(e, INDEX, NULL), MEMPHIS_OK);
        if (how == 2)
            put_file(m->w, INDEX, 16, "garbage garbage", 16);
        if (how == 3)
            put_file(m->w, INDEX, 16 * 40, "one item more...", 16);
        if (how == 4) { /* it cannot be read */
            mp_disk_fail(m->w->disk, MP_DISK_READ, 2, MEMPHIS_IO, false);
        }
        for (uint64_t seq = 1; seq <= 500; seq += 13) {
            assert_int_equal(read_block(m, seq, &c, &damage), MEMPHIS_OK);
            assert_int_equal(check_block(c, &last), seq);
            mp_chunk_unref(c);
        }
        end(m);
    }
}

static void more_segments_than_the_cache_holds_do_not_mix(void **state)
{
    struct world *w = world_new(8);
    struct mp_index_cache cache = { .next = 0 };
    struct mp_partition *p = open_partition(w, 7);
    struct mp_chunk *c;
    uint64_t damage, last;
    (void)state;

    messages(w, 7, 1, 400, 900);
    flush(w, 7, 1);
    assert_true(p->segments_count > 2 * MP_INDEXES_CACHED);
    for (int i = 0; i < 1000; i++) {
        const struct mp_segment *g = &p->segments[draw(w, p->segments_count)];
        uint64_t seq = g->first + draw(w, g->last - g->first + 1);
        assert_int_equal(mp_segment_read(w->env, SHARD, 7, g, seq, &cache, &c,
                                         &damage, NULL), MEMPHIS_OK);
        assert_int_equal(check_block(c, &last), seq);
        mp_chunk_unref(c);
    }
    mp_index_cache_fini(&cache);
    world_free(w);
}

/* -- damage ------------------------------------------------------------------------ */

/* Reads all as a reader does, over damage; which sequences were lost on the way. */
static void read_all(struct made *m, bool lost[600], uint64_t *ranges)
{
    uint64_t seq = 1, damage, last;
    struct mp_chunk *c;

    *ranges = 0;
    memset(lost, 0, 600 * sizeof *lost);
    while (seq <= m->g.last) {
        memphis_status s = read_block(m, seq, &c, &damage);
        if (s == MEMPHIS_OK) {
            uint64_t first = check_block(c, &last);
            assert_true(first >= seq);
            for (; seq < first; seq++)
                assert_true(m->offsets[seq] == 0); /* nothing is skipped in silence */
            for (; seq <= last; seq++)
                lost[seq] = false;
            mp_chunk_unref(c);
            continue;
        }
        assert_int_equal(s, MEMPHIS_CORRUPT);
        assert_true(damage >= seq && damage <= m->g.last);
        ++*ranges;
        for (; seq <= damage; seq++)
            lost[seq] = true;
    }
}

/* The message whose entry has a byte at that offset; 0: none. */
static uint64_t owner_of(const struct made *m, uint64_t offset)
{
    uint64_t owner = 0;

    for (uint64_t seq = 1; seq <= m->g.last; seq++)
        if (m->offsets[seq] > 0 && m->offsets[seq] <= offset && offset < m->g.length)
            owner = seq;
    return owner;
}

static void no_flipped_bit_gives_a_wrong_message_or_hides_one(void **state)
{
    bool lost[600];
    uint64_t ranges;
    (void)state;

    for (int sealed = 0; sealed < 2; sealed++) {
        struct made *m = with_messages(9, 22, 180, 0);
        if (sealed)
            seal(m);
        assert_int_equal(m->w->env->file_sync(m->w->env, m->f, NULL), MEMPHIS_OK);
        uint64_t end_at = sealed ? mp_block_up(m->g.length) + 200 : m->g.length;
        for (uint64_t at = 4096; at < end_at; at++) {
            uint64_t owner = owner_of(m, at);
            uint8_t bits = (uint8_t)(1 << at % 8);
            assert_true(mp_disk_flip(m->w->disk, NAME, at, bits));
            mp_index_cache_fini(&m->cache);
            read_all(m, lost, &ranges);
            assert_int_equal(ranges > 0, owner > 0);
            for (uint64_t seq = 1; seq < owner; seq++)
                assert_false(lost[seq]);
            assert_true(owner == 0 || lost[owner]);
            assert_true(mp_disk_flip(m->w->disk, NAME, at, bits));
        }
        end(m);
    }
}

static void damage_costs_one_message_when_its_length_is_whole(void **state)
{
    bool lost[600];
    uint64_t ranges;
    (void)state;

    for (int sealed = 0; sealed < 2; sealed++) {
        struct made *m = with_messages(10, 500, 300, 0);
        if (sealed)
            seal(m);
        for (uint64_t seq = 1; seq < 500; seq += 17) {
            assert_true(mp_disk_flip(m->w->disk, NAME, m->offsets[seq] + 60, 1));
            read_all(m, lost, &ranges);
            assert_int_equal(ranges, 1);
            for (uint64_t i = 1; i <= 500; i++)
                assert_int_equal(lost[i], i == seq);
            /* Also for a reader who begins behind it. */
            struct mp_chunk *c;
            uint64_t damage, last;
            assert_int_equal(read_block(m, seq + 1, &c, &damage), MEMPHIS_OK);
            assert_int_equal(check_block(c, &last), seq + 1);
            mp_chunk_unref(c);
            assert_true(mp_disk_flip(m->w->disk, NAME, m->offsets[seq] + 60, 1));
        }
        end(m);
    }
}

/* The next one is looked for at each place where one may begin. */
static void damage_of_a_length_costs_one_message_too(void **state)
{
    bool lost[600];
    uint64_t ranges;
    (void)state;

    for (int sealed = 0; sealed < 2; sealed++) {
        struct made *m = with_messages(11, 500, 300, 0);
        if (sealed)
            seal(m);
        for (uint64_t seq = 1; seq < 500; seq += 31) {
            assert_true(mp_disk_flip(m->w->disk, NAME, m->offsets[seq] + 1, 64));
            mp_index_cache_fini(&m->cache);
            read_all(m, lost, &ranges);
            assert_int_equal(ranges, 1);
            for (uint64_t i = 1; i <= 500; i++)
                assert_int_equal(lost[i], i == seq);
            assert_true(mp_disk_flip(m->w->disk, NAME, m->offsets[seq] + 1, 64));
        }
        end(m);
    }
}

static void a_file_that_is_missing_or_too_short_is_damage_of_all_that_is_gone(
    void **state)
{
    struct made *m = with_messages(12, 100, 300, 0);
    struct mp_chunk *c;
    uint64_t damage, ranges;
    bool lost[600];
    (void)state;

    assert_int_equal(m->w->env->file_truncate(m->w->env, m->f, m->offsets[60] + 50,
                                              NULL), MEMPHIS_OK);
    read_all(m, lost, &ranges);
    for (uint64_t i = 1; i <= 100; i++)
        assert_int_equal(lost[i], i >= 60);
    assert_int_equal(m->w->env->unlink(m->w->env, NAME, NULL), MEMPHIS_OK);
    assert_int_equal(read_block(m, 10, &c, &damage), MEMPHIS_CORRUPT);
    assert_int_equal(damage, 100);
    end(m);
}

/* Whatever it hits: it is told, and the rest is sealed around it. */
static void a_segment_with_old_rot_in_it_is_sealed_around_it(void **state)
{
    static const uint64_t places[] = { 0, 1, 4, 16, 60 }; /* length, CRC, sequence */
    (void)state;

    for (uint64_t i = 0; i < 5 * 3; i++) {
        struct made *m = with_messages(13, 100, 300, 0);
        struct mp_segment before = m->g, g;
        struct mp_ranges damage = { 0 };
        uint64_t seq = i / 5 == 0 ? 1 : i / 5 == 1 ? 60 : 100, ranges;
        bool lost[600];
        assert_true(
            mp_disk_flip(m->w->disk, NAME, m->offsets[seq] + places[i % 5], 64));
        assert_int_equal(
            mp_segment_seal(m->w->env, m->f, SHARD, 7, &m->g, &damage, NULL),
            MEMPHIS_OK);
        assert_int_equal(damage.count, 1);
        assert_int_equal(damage.items[0].first, seq);
        assert_int_equal(damage.items[0].last, seq);
        assert_int_equal(mp_segment_open_sealed(m->w->env, SHARD, 7, 1, &g, NULL),
                         MEMPHIS_OK);
        assert_int_equal(g.last, 100);
        assert_int_equal(g.length, before.length);
        read_all(m, lost, &ranges);
        for (uint64_t k = 1; k <= 100; k++)
            assert_int_equal(lost[k], k == seq);
        mp_ranges_fini(&damage);
        end(m);
    }
}

/* An entry with one or more encoded ones in its payload: `seqs` up to a 0. Between and
 * behind them are bytes that are none. */
static void put_forged(struct made *m, uint64_t seq, const uint64_t *seqs, size_t rest)
{
    struct mp_buf payload = { 0 };
    uint8_t inner[256];

    mp_buf_put(&payload, "01234567", 8);
    for (; *seqs > 0; seqs++) {
        struct mp_entry x = { .type = MP_ENTRY_MESSAGE, .pid = 7, .seq = *seqs,
                              .payload = { "never published", 15 } };
        (void)mp_entry_encode(&x, inner);
        mp_buf_put(&payload, inner, mp_entry_size(&x));
    }
    for (size_t i = 0; i < rest; i++)
        mp_buf_put(&payload, "x", 1);
    struct mp_entry e = { .type = MP_ENTRY_MESSAGE, .pid = 7, .seq = seq,
                          .time_ns = 1000 * seq, .payload = mp_buf_slice(&payload) };
    size_t length = mp_entry_size(&e);
    uint8_t *bytes = malloc(length);
    (void)mp_entry_encode(&e, bytes);
    memphis_slice v = mp_slice(bytes, length);
    assert_int_equal(m->w->env->file_write(m->w->env, m->f, m->g.length, &v, 1, NULL),
                     MEMPHIS_OK);
    m->offsets[seq] = m->g.length;
    m->g.length += length;
    free(bytes);
    mp_buf_fini(&payload);
}

/* Its own length is rotten, so it does not lead over what it holds. */
static void what_a_damaged_payload_holds_is_no_message(void **state)
{
    static const uint64_t seqs[][4] = { { 500 }, { 500, 501 }, { 501, 500, 499 },
                                        { 30, 499, 12 } };
    (void)state;

    for (int i = 0; i < 4 * 2 * 2; i++) {
        struct made *m = begin(14);
        struct mp_ranges damage = { 0 };
        uint64_t ranges, n = (uint64_t)i;
        bool lost[600];
        for (uint64_t seq = 1; seq <= 30; seq++) {
            if (seq == 6)
                put_forged(m, 6, seqs[n / 4], n % 2 == 0 ? 0 : 80);
            else
                put_entry(m, MP_ENTRY_MESSAGE, seq, 300);
        }
        put_entry(m, MP_ENTRY_MESSAGE, 550, 300); /* those between have died */
        if (n / 2 % 2 == 0) {
            mp_disk_flip(m->w->disk, NAME, m->offsets[6] + 1, 1);
            read_all(m, lost, &ranges);
            for (uint64_t seq = 1; seq <= 30; seq++)
                assert_int_equal(lost[seq], seq == 6);
        }
        mp_disk_flip(m->w->disk, NAME, m->offsets[6] + 1, n / 2 % 2 == 0 ? 2 : 1);
        assert_int_equal(
            mp_segment_seal(m->w->env, m->f, SHARD, 7, &m->g, &damage, NULL),
            MEMPHIS_OK);
        assert_int_equal(damage.count, 1);
        assert_int_equal(damage.items[0].first, 6);
        assert_int_equal(damage.items[0].last, 6);
        mp_ranges_fini(&damage);
        end(m);
    }
}

/* Messages 93 to 97 or so: the rest of the file is there for all readers. */
static void a_block_that_cannot_be_read_costs_what_is_in_it(void **state)
{
    (void)state;

    for (int sealed = 0; sealed < 2; sealed++) {
        struct made *m = with_messages(15, 200, 1000, 0);
        uint64_t ranges, from = 25 * MP_BLOCK_SIZE, to = from + MP_BLOCK_SIZE;
        bool lost[600];
        if (sealed)
            seal(m);
        assert_true(mp_disk_spoil(m->w->disk, NAME, from, to));
        for (uint64_t seq = 1, damage, last; seq <= 200; seq++) {
            struct mp_chunk *c;
            memphis_status s = read_block(m, seq, &c, &damage);
            bool hit = m->offsets[seq] < to &&
                       (seq == 200 || m->offsets[seq + 1] > from);
            assert_true(hit == (s == MEMPHIS_IO || s == MEMPHIS_CORRUPT));
            if (s == MEMPHIS_OK) {
                assert_int_equal(check_block(c, &last), seq);
                mp_chunk_unref(c);
            } else {
                assert_true(damage >= seq && damage < 100);
            }
        }
        if (!sealed) {
            struct mp_ranges damage = { 0 };
            assert_int_equal(
                mp_segment_seal(m->w->env, m->f, SHARD, 7, &m->g, &damage, NULL), 0);
            assert_int_equal(damage.count, 1);
            assert_int_equal(damage.items[0].first, owner_of(m, from));
            assert_int_equal(damage.items[0].last, owner_of(m, to - 1));
            mp_ranges_fini(&damage);
        }
        assert_true(mp_disk_spoil(m->w->disk, NAME, 0, 0));
        read_all(m, lost, &ranges);
        assert_int_equal(ranges, 0);
        end(m);
    }
}

static struct {
    memphis_status (*file_read)(struct mp_env *e, struct mp_file *f, uint64_t offset,
                                void *to, size_t size, size_t *got, memphis_error *err);
    uint64_t calls, bytes;
} reads;

static memphis_status read_counted(struct mp_env *e, struct mp_file *f, uint64_t offset,
                                   void *to, size_t size, size_t *got,
                                   memphis_error *err)
{
    reads.calls++;
    reads.bytes += size;
    return reads.file_read(e, f, offset, to, size, got, err);
}

static void count_reads(struct mp_env *e)
{
    reads.file_read = e->file_read;
    reads.calls = reads.bytes = 0;
    e->file_read = read_counted;
}

/* Each 24 bytes something that looks like an entry of a megabyte: to check them all
 * would be 90 GB. */
static void a_payload_full_of_beginnings_costs_no_time(void **state)
{
    enum { SIZE = 2 << 20 };
    struct made *m = begin(16);
    uint8_t *payload = calloc(1, SIZE);
    struct mp_ranges damage = { 0 };
    (void)state;

    for (uint32_t i = 0; i + 24 <= SIZE; i += 24) {
        mp_set_u32(payload + i, SIZE / 2);
        mp_set_u32(payload + i + 12, 7);
        mp_set_u64(payload + i + 16, 1000);
    }
    put_entry(m, MP_ENTRY_MESSAGE, 1, 300);
    struct mp_entry e = { .type = MP_ENTRY_MESSAGE, .pid = 7, .seq = 2,
                          .payload = { payload, SIZE } };
    size_t length = mp_entry_size(&e);
    uint8_t *bytes = malloc(length);
    (void)mp_entry_encode(&e, bytes);
    memphis_slice v = mp_slice(bytes, length);
    assert_int_equal(m->w->env->file_write(m->w->env, m->f, m->g.length, &v, 1, NULL),
                     MEMPHIS_OK);
    m->offsets[2] = m->g.length;
    m->g.length += length;
    for (uint64_t seq = 3; seq <= 500; seq++)
        put_entry(m, MP_ENTRY_MESSAGE, seq, 300);
    m->g.last = 2000;
    assert_true(mp_disk_flip(m->w->disk, NAME, m->offsets[2] + 1, 1));
    count_reads(m->w->env);
    assert_int_equal(mp_segment_seal(m->w->env, m->f, SHARD, 7, &m->g, &damage, NULL),
                     MEMPHIS_OK);
    assert_int_equal(damage.count, 1);
    assert_int_equal(damage.items[0].first, 2);
    assert_int_equal(damage.items[0].last, 2);
    assert_true(reads.bytes < 50 * length);
    mp_ranges_fini(&damage);
    free(payload);
    free(bytes);
    end(m);
}

/* A search ends where the file does, whatever the length is said to be. */
static void a_length_beyond_the_file_is_damage_of_what_is_not_there(void **state)
{
    struct made *m = with_messages(17, 100, 300, 0);
    struct mp_segment_scan scan = { 0 };
    struct mp_ranges damage = { 0 };
    (void)state;

    m->g.length = 1ull << 50;
    m->g.last = 120;
    count_reads(m->w->env);
    assert_int_equal(mp_segment_scan(m->w->env, m->f, 7, &m->g, &damage, &scan, NULL),
                     MEMPHIS_OK);
    assert_true(reads.calls < 20);
    assert_int_equal(scan.footer.count, 100);
    assert_int_equal(damage.count, 1);
    assert_int_equal(damage.items[0].first, 101);
    assert_int_equal(damage.items[0].last, 120);
    mp_ranges_fini(&damage);
    mp_segment_scan_fini(&scan);
    end(m);
}

static void a_footer_that_does_not_fit_the_file_is_none(void **state)
{
    struct made *m = with_messages(18, 100, 300, 0);
    struct mp_segment_footer footer = { .first_seq = 1, .last_seq = 100 };
    uint8_t block[MP_BLOCK_SIZE];
    struct mp_segment g;
    (void)state;

    seal(m);
    footer.data_bytes = m->g.length - MP_BLOCK_SIZE;
    for (int fits = 1; fits >= 0; fits--) {
        mp_segment_footer_encode(&footer, block);
        put_file(m->w, NAME, mp_block_up(m->g.length), block, sizeof block);
        assert_int_equal(mp_segment_open_sealed(m->w->env, SHARD, 7, 1, &g, NULL),
                         fits ? MEMPHIS_OK : MEMPHIS_NOT_FOUND);
        footer.data_bytes += MP_BLOCK_SIZE;
    }
    end(m);
}

/* Entries behind the length are none of the segment's: not even when only a search is
 * left to find them. */
static void what_was_cut_off_is_not_in_the_file_when_it_is_sealed(void **state)
{
    struct made *m = with_messages(19, 13, 40, 0);
    struct mp_segment_scan scan = { 0 };
    (void)state;

    m->g.length = m->offsets[11];
    m->g.last = 10;
    seal(m);
    m->g.length = mp_block_up(m->g.length);
    m->g.last = 13;
    assert_int_equal(mp_segment_scan(m->w->env, m->f, 7, &m->g, NULL, &scan, NULL),
                     MEMPHIS_OK);
    assert_int_equal(scan.footer.last_seq, 10);
    mp_segment_scan_fini(&scan);
    end(m);
}

static void names_of_files_are_as_documented(void **state)
{
    char path[MP_PATH_SIZE];
    (void)state;

    mp_path_shard(2, path);
    assert_string_equal(path, "s/00000002");
    mp_path_partition(2, 0, path);
    assert_string_equal(path, "s/00000002/dls");
    mp_path_meta(2, 0xabc, path);
    assert_string_equal(path, "s/00000002/00000abc/meta");
    mp_path_segment(2, 7, 42, path);
    assert_string_equal(path, "s/00000002/00000007/00000000000000000042.seg");
    mp_path_index(2, 7, 42, path);
    assert_string_equal(path, "s/00000002/00000007/00000000000000000042.idx");
    mp_path_state(2, 0, UINT64_MAX, path);
    assert_string_equal(path, "s/00000002/dls/state.18446744073709551615");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(each_sequence_finds_the_first_message_at_or_above_it),
        leak_checked(entries_larger_than_a_block_are_read_whole),
        leak_checked(an_active_segment_that_grows_is_read_to_its_new_end),
        leak_checked(the_footer_tells_what_is_in_a_sealed_segment),
        leak_checked(a_file_without_a_valid_footer_is_not_sealed),
        leak_checked(an_index_file_that_is_wrong_is_ignored),
        leak_checked(more_segments_than_the_cache_holds_do_not_mix),
        leak_checked(no_flipped_bit_gives_a_wrong_message_or_hides_one),
        leak_checked(damage_costs_one_message_when_its_length_is_whole),
        leak_checked(damage_of_a_length_costs_one_message_too),
        leak_checked(a_file_that_is_missing_or_too_short_is_damage_of_all_that_is_gone),
        leak_checked(a_segment_with_old_rot_in_it_is_sealed_around_it),
        leak_checked(what_a_damaged_payload_holds_is_no_message),
        leak_checked(a_block_that_cannot_be_read_costs_what_is_in_it),
        leak_checked(a_payload_full_of_beginnings_costs_no_time),
        leak_checked(a_length_beyond_the_file_is_damage_of_what_is_not_there),
        leak_checked(a_footer_that_does_not_fit_the_file_is_none),
        leak_checked(what_was_cut_off_is_not_in_the_file_when_it_is_sealed),
        leak_checked(names_of_files_are_as_documented),
    };

    return run_tests("store/segment", tests);
}
