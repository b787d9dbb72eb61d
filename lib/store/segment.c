#include "store/segment.h"

#include "base/assert.h"
#include "base/enc.h"
#include "base/status.h"
#include "base/str.h"
#include "store/chunk.h"

enum {
    INDEX_ITEM_SIZE = 16,
    INDEX_STEP = 4096,
    AT_LENGTH = 0,
    AT_PID = 12,
    AT_SEQ = 16,
    ALIGNMENT = 8,        /* of entries */
    READ_SIZE = 256 << 10,
    CHECKED_PER_BYTE = 16 /* see find_entry */
};

/* -- names ------------------------------------------------------------------------- */

void mp_path_shard(uint32_t shard, char out[MP_PATH_SIZE])
{
    mp_format(out, MP_PATH_SIZE, "s/%08x", shard);
}

void mp_path_partition(uint32_t shard, uint32_t pid, char out[MP_PATH_SIZE])
{
    if (pid == 0)
        mp_format(out, MP_PATH_SIZE, "s/%08x/dls", shard);
    else
        mp_format(out, MP_PATH_SIZE, "s/%08x/%08x", shard, pid);
}

static void path_in(uint32_t shard, uint32_t pid, const char *name, char *out)
{
    char dir[MP_PATH_SIZE];

    mp_path_partition(shard, pid, dir);
    mp_format(out, MP_PATH_SIZE, "%s/%s", dir, name);
}

void mp_path_meta(uint32_t shard, uint32_t pid, char out[MP_PATH_SIZE])
{
    path_in(shard, pid, "meta", out);
}

static void numbered(uint32_t shard, uint32_t pid, const char *format, uint64_t number,
                     char *out)
{
    char name[MP_PATH_SIZE];

    mp_format(name, sizeof name, "%s%020llu%s", format[0] == 's' ? format : "",
              (unsigned long long)number, format[0] == '.' ? format : "");
    path_in(shard, pid, name, out);
}

void mp_path_segment(uint32_t shard, uint32_t pid, uint64_t first,
                     char out[MP_PATH_SIZE])
{
    numbered(shard, pid, ".seg", first, out);
}

void mp_path_index(uint32_t shard, uint32_t pid, uint64_t first, char out[MP_PATH_SIZE])
{
    numbered(shard, pid, ".idx", first, out);
}

void mp_path_state(uint32_t shard, uint32_t pid, uint64_t index, char out[MP_PATH_SIZE])
{
    numbered(shard, pid, "state.", index, out);
}

/* -- scan -------------------------------------------------------------------------- */

static void note_entry(void *ctx, const struct mp_entry *e, memphis_slice bytes)
{
    struct mp_segment_scan *scan = ctx;
    struct mp_segment_footer *f = &scan->footer;
    bool is_due = scan->count == 0 ||
                  scan->end - scan->items[scan->count - 1].offset >= INDEX_STEP;

    if (is_due) {
        if (scan->count == scan->capacity) {
            size_t capacity = scan->capacity > 0 ? scan->capacity * 2 : 64;
            scan->items = mp_realloc(scan->items, capacity * sizeof *scan->items);
            scan->capacity = capacity;
        }
        scan->items[scan->count++] = (struct mp_index_item){
            (uint32_t)(e->seq - f->first_seq), (uint32_t)scan->end, e->time_ns
        };
    }
    if (f->count == 0 || e->time_ns < f->min_time_ns)
        f->min_time_ns = e->time_ns;
    if (e->time_ns > f->max_time_ns)
        f->max_time_ns = e->time_ns;
    f->count++;
    f->last_seq = e->seq;
    f->data_crc = mp_crc32c(f->data_crc, bytes.data, bytes.size);
    scan->end += bytes.size;
}

/* Hands the whole good entries of a window out, which begins at w->at; returns their
 * bytes, and in `end` why there are no more. */
static size_t each_in(struct mp_segment_walk *w, memphis_slice window, mp_segment_fn fn,
                      void *ctx, memphis_error *end)
{
    const uint8_t *p = window.data;
    struct mp_entry e;
    size_t at = 0, size;

    while (at < window.size) {
        memphis_slice rest = { p + at, window.size - at };
        if (mp_entry_decode(rest, true, &e, &size, end) != MEMPHIS_OK)
            break;
        if (e.pid != w->pid || e.seq <= w->after || e.seq > w->last) {
            (void)mp_fail(end, MEMPHIS_CORRUPT, "an entry is out of order");
            break;
        }
        w->after = e.seq;
        fn(ctx, &e, mp_slice(p + at, size));
        at += size;
    }
    w->at += at;
    return at;
}

/* As much as the disk gives: up to the first block that it does not. */
static memphis_status read_some(struct mp_env *e, struct mp_file *f, uint64_t at,
                                size_t size, struct mp_buf *out, memphis_error *err)
{
    size_t got = 0;

    mp_buf_clear(out);
    mp_buf_reserve(out, size);
    memphis_status s = e->file_read(e, f, at, out->data, size, &out->size, err);
    if (s != MEMPHIS_IO)
        return s;
    for (out->size = 0; out->size < size; out->size += got) {
        size_t left = MP_BLOCK_SIZE - (size_t)((at + out->size) % MP_BLOCK_SIZE);
        left = left < size - out->size ? left : size - out->size;
        if (e->file_read(e, f, at + out->size, out->data + out->size, left, &got,
                         err) != MEMPHIS_OK ||
            got == 0)
            break;
    }
    return out->size > 0 ? MEMPHIS_OK : s;
}

memphis_status mp_segment_each(struct mp_segment_walk *w, mp_segment_fn fn, void *ctx,
                               memphis_error *err)
{
    struct mp_buf window = { 0 };
    memphis_status s = MEMPHIS_OK;
    size_t wanted = READ_SIZE;

    while (s == MEMPHIS_OK && w->at < w->length) {
        uint64_t left = w->length - w->at;
        size_t size = left < wanted ? (size_t)left : wanted;
        s = read_some(w->env, w->file, w->at, size, &window, err);
        if (s != MEMPHIS_OK)
            break;
        memphis_error end = { 0 };
        size_t good = each_in(w, mp_buf_slice(&window), fn, ctx, &end);
        wanted = READ_SIZE;
        if (good == 0 && end.status == MEMPHIS_UNSUPPORTED) {
            s = mp_fail(err, end.status, "%s", end.message);
        } else if (good == 0) {
            /* A large entry, or no entry at all: its own length decides. */
            uint64_t own = window.size >= 4 ? mp_get_u32(window.data + AT_LENGTH) : 0;
            if (own <= size || own > left || own > MP_ENTRY_SIZE_MAX)
                s = mp_fail(err, MEMPHIS_CORRUPT,
                            "a segment is damaged at offset %llu",
                            (unsigned long long)w->at);
            wanted = (size_t)own;
        }
    }
    mp_buf_fini(&window);
    return s;
}

/* The size of the entry that seems to begin there; 0: none does. */
static size_t size_of(const struct mp_segment_walk *w, memphis_slice bytes,
                      uint64_t left)
{
    const uint8_t *p = bytes.data;

    if (mp_get_u32(p + AT_PID) != w->pid)
        return 0;
    uint64_t seq = mp_get_u64(p + AT_SEQ);
    size_t size = mp_get_u32(p + AT_LENGTH);
    bool fits = size >= MP_ENTRY_HEADER_SIZE && size % 8 == 0 && size <= left &&
                size <= MP_ENTRY_SIZE_MAX;
    return fits && seq > w->after && seq <= w->last ? size : 0;
}

/* Whether it is whole and good. `bytes`: what is at hand of it. */
static bool is_good(const struct mp_segment_walk *w, uint64_t at, memphis_slice bytes,
                    size_t size)
{
    struct mp_buf own = { 0 };
    struct mp_entry e;

    if (size > bytes.size) {
        if (read_some(w->env, w->file, at, size, &own, NULL) != MEMPHIS_OK)
            own.size = 0;
        bytes = mp_buf_slice(&own);
    }
    bool good = mp_entry_decode(bytes, true, &e, &size, NULL) == MEMPHIS_OK;
    mp_buf_fini(&own);
    return good;
}

/* Goes to the first good entry that begins in [from, end), looked for at each place
 * where one may, and returns its sequence; 0: there is none. What looks like one is
 * checked as a whole, at most CHECKED_PER_BYTE times as much as is passed: a payload
 * can be full of such things. */
static uint64_t find_entry(struct mp_segment_walk *w, uint64_t from, uint64_t end)
{
    struct mp_buf window = { 0 };
    uint64_t found = 0, budget = MP_ENTRY_SIZE_MAX;

    while (found == 0 && from < end) {
        uint64_t left = w->length - from;
        size_t wanted = left < READ_SIZE ? (size_t)left : READ_SIZE, i = 0;
        memphis_status s = read_some(w->env, w->file, from, wanted, &window, NULL);
        if (s == MEMPHIS_OK && window.size == 0)
            break; /* the file ends before it should */
        if (s != MEMPHIS_OK || window.size < MP_ENTRY_HEADER_SIZE) {
            from = mp_block_up(from + 1);
            continue;
        }
        for (; found == 0 && i + MP_ENTRY_HEADER_SIZE <= window.size && from + i < end;
             i += ALIGNMENT) {
            memphis_slice bytes = { window.data + i, window.size - i };
            size_t size = size_of(w, bytes, left - i);
            budget += CHECKED_PER_BYTE * ALIGNMENT;
            if (size == 0 || size > budget)
                continue;
            budget -= size;
            if (is_good(w, from + i, bytes, size)) {
                found = mp_get_u64(window.data + i + AT_SEQ);
                w->at = from + i;
            }
        }
        from += i;
    }
    mp_buf_fini(&window);
    return found;
}

static void ignore(void *ctx, const struct mp_entry *e, memphis_slice bytes)
{
    (void)ctx;
    (void)e;
    (void)bytes;
}

/* An entry that was found in a payload is nobody's, however good. It shows when what
 * goes on behind it does so with a lower sequence: the walk goes there, and returns it.
 * 0: nothing speaks against `seq` at w->at. The damaged entry around it begins at
 * `from`: it is known where that ends at the latest. */
static uint64_t find_contradiction(struct mp_segment_walk *w, uint64_t from,
                                   uint64_t seq)
{
    uint64_t end = from + MP_ENTRY_SIZE_MAX;
    struct mp_segment_walk chain = *w;

    if (end > w->length)
        end = w->length;
    chain.after = seq - 1;
    chain.length = end;
    if (w->at >= end || mp_segment_each(&chain, ignore, NULL, NULL) == MEMPHIS_OK)
        return 0;
    chain.length = w->length;
    chain.after = w->after;
    chain.last = seq - 1;
    uint64_t lower = find_entry(&chain, chain.at, end);
    if (lower > 0)
        w->at = chain.at;
    return lower;
}

uint64_t mp_segment_skip(struct mp_segment_walk *w)
{
    uint64_t from = w->at, seq = 0, next;
    uint8_t own[4] = { 0 };
    size_t got;

    /* Its own length leads to the next one, if that is whole: what its payload holds is
     * nobody's entry. */
    if (w->env->file_read(w->env, w->file, from, own, sizeof own, &got, NULL) ==
        MEMPHIS_OK) {
        uint64_t to = from + mp_get_u32(own);
        if (to >= from + MP_ENTRY_HEADER_SIZE && to % ALIGNMENT == 0 && to < w->length)
            seq = find_entry(w, to, to + ALIGNMENT);
    }
    if (seq == 0)
        seq = find_entry(w, from + ALIGNMENT, w->length);
    /* When no more are missing than had room there, there is nothing to doubt. */
    while (seq > 0 && seq - w->after - 1 > (w->at - from) / MP_ENTRY_HEADER_SIZE &&
           (next = find_contradiction(w, from, seq)) > 0)
        seq = next;
    if (seq == 0)
        w->at = w->length;
    else
        w->after = seq - 1;
    return seq;
}

memphis_status mp_segment_scan(struct mp_env *e, struct mp_file *f, uint32_t pid,
                               const struct mp_segment *segment,
                               struct mp_ranges *damage, struct mp_segment_scan *scan,
                               memphis_error *err)
{
    struct mp_segment_footer *footer = &scan->footer;

    if (scan->end == 0) {
        scan->end = MP_BLOCK_SIZE;
        footer->first_seq = segment->first;
        footer->last_seq = segment->first - 1;
    }
    struct mp_segment_walk w = { e, f, pid, scan->end, segment->length,
                                 footer->last_seq, segment->last };
    memphis_status s;
    for (;;) {
        s = mp_segment_each(&w, note_entry, scan, err);
        if (s != MEMPHIS_CORRUPT && s != MEMPHIS_IO)
            break;
        s = MEMPHIS_OK;
        uint64_t after = w.after, next = mp_segment_skip(&w);
        uint64_t end = next > 0 ? next : segment->last + 1;
        if (damage != NULL && after + 1 < end)
            mp_ranges_add(damage, after + 1, end - 1);
        if (next == 0)
            break;
        scan->end = w.at; /* note_entry moves it along */
    }
    return s;
}

void mp_segment_scan_fini(struct mp_segment_scan *scan)
{
    mp_free(scan->items);
    *scan = (struct mp_segment_scan){ 0 };
}

/* -- index file -------------------------------------------------------------------- */

static void encode_index(const struct mp_segment_scan *scan, struct mp_buf *out)
{
    for (size_t i = 0; i < scan->count; i++) {
        mp_buf_put_u32(out, scan->items[i].seq);
        mp_buf_put_u32(out, scan->items[i].offset);
        mp_buf_put_u64(out, scan->items[i].time_ns);
    }
}

static memphis_status write_index(struct mp_env *e, uint32_t shard, uint32_t pid,
                                  struct mp_segment_scan *scan, memphis_error *err)
{
    struct mp_buf bytes = { 0 };
    struct mp_file *f = NULL;
    char path[MP_PATH_SIZE];

    mp_path_index(shard, pid, scan->footer.first_seq, path);
    encode_index(scan, &bytes);
    scan->footer.index_crc = mp_crc32c(0, bytes.data, bytes.size);
    memphis_slice v = mp_buf_slice(&bytes);
    memphis_status s = e->file_open(e, path, MP_FILE_WRITE | MP_FILE_CREATE, &f, err);
    if (s == MEMPHIS_OK)
        s = e->file_truncate(e, f, 0, err);
    if (s == MEMPHIS_OK)
        s = e->file_write(e, f, 0, &v, 1, err);
    e->file_close(e, f);
    mp_buf_fini(&bytes);
    return s;
}

memphis_status mp_segment_seal(struct mp_env *e, struct mp_file *f, uint32_t shard,
                               uint32_t pid, struct mp_segment *segment,
                               struct mp_ranges *damage, memphis_error *err)
{
    struct mp_segment_scan scan = { 0 };
    static const uint8_t zeros[MP_BLOCK_SIZE];
    uint8_t block[MP_BLOCK_SIZE];
    size_t padding = (size_t)(mp_block_up(segment->length) - segment->length);
    memphis_slice v[] = { { zeros, padding }, { block, sizeof block } };

    mp_assert(!segment->is_sealed);
    memphis_status s = mp_segment_scan(e, f, pid, segment, damage, &scan, err);
    scan.footer.last_seq = segment->last;
    scan.footer.data_bytes = segment->length - MP_BLOCK_SIZE;
    if (s == MEMPHIS_OK)
        s = write_index(e, shard, pid, &scan, err);
    if (s == MEMPHIS_OK) {
        scan.footer.live = scan.footer.count;
        scan.footer.live_bytes = scan.footer.data_bytes;
        mp_segment_footer_encode(&scan.footer, block);
        s = e->file_truncate(e, f, segment->length, err); /* no left-over in between */
    }
    if (s == MEMPHIS_OK)
        s = e->file_write(e, f, segment->length, v, 2, err);
    if (s == MEMPHIS_OK) {
        segment->min_time_ns = scan.footer.min_time_ns;
        segment->max_time_ns = scan.footer.max_time_ns;
        segment->is_sealed = true;
    }
    mp_segment_scan_fini(&scan);
    return s;
}

static memphis_status read_footer(struct mp_env *e, struct mp_file *f,
                                  struct mp_segment_footer *out, memphis_error *err)
{
    uint8_t block[MP_BLOCK_SIZE];
    uint64_t size = 0;
    size_t got = 0;

    memphis_status s = e->file_size(e, f, &size, err);
    if (s != MEMPHIS_OK)
        return s;
    if (size >= 2 * MP_BLOCK_SIZE &&
        e->file_read(e, f, size - MP_BLOCK_SIZE, block, sizeof block, &got, NULL) ==
            MEMPHIS_OK &&
        mp_segment_footer_decode(mp_slice(block, got), out) &&
        mp_block_up(MP_BLOCK_SIZE + out->data_bytes) == size - MP_BLOCK_SIZE)
        return MEMPHIS_OK;
    return mp_fail(err, MEMPHIS_NOT_FOUND, "a segment has no footer");
}

memphis_status mp_segment_open_sealed(struct mp_env *e, uint32_t shard, uint32_t pid,
                                      uint64_t first, struct mp_segment *segment,
                                      memphis_error *err)
{
    struct mp_segment_footer footer;
    struct mp_file *f = NULL;
    char path[MP_PATH_SIZE];

    mp_path_segment(shard, pid, first, path);
    memphis_status s = e->file_open(e, path, MP_FILE_READ, &f, err);
    if (s == MEMPHIS_OK)
        s = read_footer(e, f, &footer, err);
    e->file_close(e, f);
    if (s != MEMPHIS_OK)
        return s;
    if (footer.first_seq != first)
        return mp_fail(err, MEMPHIS_NOT_FOUND, "the footer is not of this segment");
    *segment = (struct mp_segment){ .first = first,
                                    .last = footer.last_seq,
                                    .length = MP_BLOCK_SIZE + footer.data_bytes,
                                    .min_time_ns = footer.min_time_ns,
                                    .max_time_ns = footer.max_time_ns,
                                    .is_sealed = true };
    return MEMPHIS_OK;
}

/* The index of a sealed segment from its file, when the footer vouches for it. */
static bool load_index(struct mp_env *e, uint32_t shard, uint32_t pid,
                       const struct mp_segment *segment, uint32_t crc,
                       struct mp_segment_scan *scan)
{
    struct mp_file *f = NULL;
    char path[MP_PATH_SIZE];
    uint64_t size = 0;
    size_t got = 0;
    bool good = false;

    mp_path_index(shard, pid, segment->first, path);
    if (e->file_open(e, path, MP_FILE_READ, &f, NULL) != MEMPHIS_OK)
        return false;
    if (e->file_size(e, f, &size, NULL) == MEMPHIS_OK && size % INDEX_ITEM_SIZE == 0 &&
        size > 0 && size <= segment->length) {
        uint8_t *bytes = mp_realloc(NULL, (size_t)size);
        good = e->file_read(e, f, 0, bytes, (size_t)size, &got, NULL) == MEMPHIS_OK &&
               got == size && mp_crc32c(0, bytes, got) == crc;
        mp_segment_scan_fini(scan);
        scan->count = scan->capacity = good ? got / INDEX_ITEM_SIZE : 0;
        scan->items = good ? mp_realloc(NULL, (size_t)size) : NULL;
        for (size_t i = 0; i < scan->count; i++) {
            const uint8_t *p = bytes + i * INDEX_ITEM_SIZE;
            scan->items[i] = (struct mp_index_item){ mp_get_u32(p), mp_get_u32(p + 4),
                                                     mp_get_u64(p + 8) };
        }
        mp_free(bytes);
    }
    e->file_close(e, f);
    return good;
}

/* -- cold reads -------------------------------------------------------------------- */

static struct mp_index_cached *cached_index(struct mp_index_cache *c, uint32_t shard,
                                            uint32_t pid, uint64_t first)
{
    for (size_t i = 0; i < MP_INDEXES_CACHED; i++) {
        struct mp_index_cached *k = &c->items[i];
        if (k->first == first && k->shard == shard && k->pid == pid)
            return k;
    }
    struct mp_index_cached *k = &c->items[c->next++ % MP_INDEXES_CACHED];
    mp_segment_scan_fini(&k->scan);
    k->shard = shard;
    k->pid = pid;
    k->first = first;
    return k;
}

void mp_index_cache_fini(struct mp_index_cache *c)
{
    for (size_t i = 0; i < MP_INDEXES_CACHED; i++)
        mp_segment_scan_fini(&c->items[i].scan);
    *c = (struct mp_index_cache){ 0 };
}

/* Where to begin looking for `seq`. If it is damaged there, the next indexed entry is
 * the next that can be found. */
static struct mp_segment_walk find_place(struct mp_env *e, struct mp_file *f,
                                         uint32_t shard, uint32_t pid,
                                         const struct mp_segment *segment, uint64_t seq,
                                         struct mp_index_cache *cache,
                                         uint64_t *damage_last)
{
    struct mp_segment_scan *scan =
        &cached_index(cache, shard, pid, segment->first)->scan;
    struct mp_segment_walk w = { e, f, pid, MP_BLOCK_SIZE, segment->length,
                                 segment->first - 1, segment->last };
    struct mp_segment_footer footer;

    if (scan->count == 0 && segment->is_sealed &&
        read_footer(e, f, &footer, NULL) == MEMPHIS_OK &&
        load_index(e, shard, pid, segment, footer.index_crc, scan))
        scan->end = segment->length;
    if (scan->end < segment->length)
        (void)mp_segment_scan(e, f, pid, segment, NULL, scan, NULL);
    size_t low = 0, high = scan->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (segment->first + scan->items[middle].seq <= seq)
            low = middle + 1;
        else
            high = middle;
    }
    if (low > 0) {
        w.at = scan->items[low - 1].offset;
        w.after = segment->first + scan->items[low - 1].seq - 1;
    }
    *damage_last = segment->last;
    if (low < scan->count)
        *damage_last = segment->first + scan->items[low].seq - 1;
    return w;
}

struct block {
    uint64_t seq;
    size_t size, skip;        /* skip: the entries below `seq` among them */
};

static void note_block(void *ctx, const struct mp_entry *e, memphis_slice bytes)
{
    struct block *b = ctx;

    b->size += bytes.size;
    if (e->seq < b->seq)
        b->skip = b->size;
}

memphis_status mp_segment_read(struct mp_env *e, uint32_t shard, uint32_t pid,
                               const struct mp_segment *segment, uint64_t seq,
                               struct mp_index_cache *cache, struct mp_chunk **out,
                               uint64_t *damage_last, memphis_error *err)
{
    struct mp_buf window = { 0 };
    struct mp_file *f = NULL;
    char path[MP_PATH_SIZE];

    *out = NULL;
    *damage_last = segment->last;
    mp_path_segment(shard, pid, segment->first, path);
    memphis_status s = e->file_open(e, path, MP_FILE_READ, &f, err);
    if (s == MEMPHIS_NOT_FOUND)
        return mp_fail(err, MEMPHIS_CORRUPT, "'%s' is missing", path);
    if (s != MEMPHIS_OK)
        return s;
    struct mp_segment_walk w =
        find_place(e, f, shard, pid, segment, seq, cache, damage_last);
    size_t wanted = MP_COLD_BLOCK_SIZE;
    while (*out == NULL && s == MEMPHIS_OK) {
        uint64_t at = w.at, left = w.length - at, own = 0;
        size_t size = left < wanted ? (size_t)left : wanted, good = 0;
        struct block b = { .seq = seq };
        if (left == 0) {
            s = mp_fail(err, MEMPHIS_NOT_FOUND, "no message from there on");
            break;
        }
        memphis_status given = read_some(e, f, at, size, &window, err);
        if (given == MEMPHIS_OK) {
            good = each_in(&w, mp_buf_slice(&window), note_block, &b, NULL);
            own = window.size >= 4 ? mp_get_u32(window.data + AT_LENGTH) : 0;
        }
        if (good > b.skip) {
            *out = mp_chunk_new(good - b.skip);
            if (*out == NULL) {
                s = mp_fail(err, MEMPHIS_NOMEM, "no memory for a block of a segment");
                break;
            }
            memcpy((*out)->bytes, window.data + b.skip, good - b.skip);
            (*out)->used = (uint32_t)(good - b.skip);
        } else if (good > 0) {
            wanted = MP_COLD_BLOCK_SIZE;
        } else if (own > size && own <= left && own <= MP_ENTRY_SIZE_MAX) {
            wanted = (size_t)own; /* one entry that is larger than a block */
        } else {
            uint64_t next = mp_segment_skip(&w);
            wanted = MP_COLD_BLOCK_SIZE;
            if (next > 0 && next <= seq)
                continue; /* what is damaged lies before */
            if (next > 0 && next - 1 < *damage_last)
                *damage_last = next - 1;
            s = given; /* IO: *err says so */
            if (s == MEMPHIS_OK)
                s = mp_fail(err, MEMPHIS_CORRUPT, "'%s' is damaged at offset %llu",
                            path, (unsigned long long)at);
        }
    }
    mp_buf_fini(&window);
    e->file_close(e, f);
    return s;
}
