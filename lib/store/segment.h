/* store/segment.h -- the segment files of a partition, and finding messages in them.
 *
 *   | header 4 KiB | entry entry entry ... | zeros | footer 4 KiB |     <first seq>.seg
 *                    ^ sparse index: an item per 4 KiB             <first seq>.idx
 *
 * The active segment (the last one) has no footer; how far it is synced stands in the
 * partition's meta slot. A sealed one never changes. The index is never trusted: it is
 * checked against the footer, or made again by a scan.
 *
 * Thread: worker (blocks on the disk); each object belongs to one thread at a time.
 */
#ifndef MP_STORE_SEGMENT_H
#define MP_STORE_SEGMENT_H

#include "env/env.h"
#include "store/layout.h"
#include "store/ranges.h"
#include "store/record.h"

struct mp_chunk;

enum { MP_PATH_SIZE = 64, MP_COLD_BLOCK_SIZE = 64 << 10 };

/* What the core knows of a segment. */
struct mp_segment {
    uint64_t first, last;      /* sequences; last: of its newest entry */
    uint64_t length;           /* offset behind its last synced entry */
    uint64_t min_time_ns, max_time_ns;
    bool is_sealed;
};

/* Item of the sparse index. */
struct mp_index_item {
    uint32_t seq;              /* less the first one of the segment */
    uint32_t offset;
    uint64_t time_ns;
};

/* The result of reading all entry headers of a segment. */
struct mp_segment_scan {
    struct mp_index_item *items;
    size_t count, capacity;
    struct mp_segment_footer footer; /* but for index_crc and the live counts */
    uint64_t end;                    /* offset behind the last whole entry */
};

/* The indexes that a reader used last. Zero-initialise. */
enum { MP_INDEXES_CACHED = 4 };
struct mp_index_cached {
    uint32_t shard, pid;
    uint64_t first;
    struct mp_segment_scan scan;
};
struct mp_index_cache {
    struct mp_index_cached items[MP_INDEXES_CACHED];
    uint32_t next;
};
void mp_index_cache_fini(struct mp_index_cache *c);

/* "s/00000002", "s/00000002/00000007", "s/00000002/dls"; and files in the latter. */
void mp_path_shard(uint32_t shard, char out[MP_PATH_SIZE]);
void mp_path_partition(uint32_t shard, uint32_t pid, char out[MP_PATH_SIZE]);
void mp_path_meta(uint32_t shard, uint32_t pid, char out[MP_PATH_SIZE]);
void mp_path_segment(uint32_t shard, uint32_t pid, uint64_t first,
                     char out[MP_PATH_SIZE]);
void mp_path_index(uint32_t shard, uint32_t pid, uint64_t first,
                   char out[MP_PATH_SIZE]);
void mp_path_state(uint32_t shard, uint32_t pid, uint64_t index,
                   char out[MP_PATH_SIZE]);

/* Entries of a partition in a file, in order: their sequences ascend. */
struct mp_segment_walk {
    struct mp_env *env;
    struct mp_file *file;
    uint32_t pid;
    uint64_t at, length;       /* where in the file, and how far */
    uint64_t after, last;      /* sequences that may come: (after, last] */
};

/* Calls fn for each entry, checked, and moves w->at behind it. The bytes are borrowed
 * during the call. CORRUPT, IO: no good entry there; UNSUPPORTED: one that needs a
 * newer release. */
typedef void (*mp_segment_fn)(void *ctx, const struct mp_entry *e, memphis_slice bytes);
memphis_status mp_segment_each(struct mp_segment_walk *w, mp_segment_fn fn, void *ctx,
                               memphis_error *err);

/* Behind damage at w->at: goes to the next good entry and returns its sequence; 0:
 * there is none. Whatever a payload holds is no entry: of two that contradict each
 * other the one that fits the order counts. */
uint64_t mp_segment_skip(struct mp_segment_walk *w);

/* Reads the entries in [scan->end or the first, segment->length) and adds them to the
 * scan. What cannot be read is skipped; which sequences that may be goes to `damage`,
 * unless that is NULL. UNSUPPORTED. */
memphis_status mp_segment_scan(struct mp_env *e, struct mp_file *f, uint32_t pid,
                               const struct mp_segment *segment,
                               struct mp_ranges *damage, struct mp_segment_scan *scan,
                               memphis_error *err);
void mp_segment_scan_fini(struct mp_segment_scan *scan);

/* Writes index file and footer behind `length`; the caller syncs. Old damage that it
 * meets is no reason to fail: it goes to `damage`. */
memphis_status mp_segment_seal(struct mp_env *e, struct mp_file *f, uint32_t shard,
                               uint32_t pid, struct mp_segment *segment,
                               struct mp_ranges *damage, memphis_error *err);

/* Fills `segment` of a sealed file from its footer. NOT_FOUND: it has no good one, or
 * none that fits the file. */
memphis_status mp_segment_open_sealed(struct mp_env *e, uint32_t shard, uint32_t pid,
                                      uint64_t first, struct mp_segment *segment,
                                      memphis_error *err);

/* A block of whole, checked entries, the first of which is the first at or above `seq`.
 * NOT_FOUND: none below segment->length. CORRUPT, IO: the entry that should hold `seq`
 * is damaged, or the file is missing; seq..*damage_last cannot be read. NOMEM. */
memphis_status mp_segment_read(struct mp_env *e, uint32_t shard, uint32_t pid,
                               const struct mp_segment *segment, uint64_t seq,
                               struct mp_index_cache *cache, struct mp_chunk **out,
                               uint64_t *damage_last, memphis_error *err);

#endif
