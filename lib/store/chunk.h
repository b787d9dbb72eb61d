/* store/chunk.h -- the memory of the log: 64 KiB blocks that hold encoded entries.
 *
 * A payload is copied once, from the socket's buffer into a chunk, already in the form
 * that goes to disk (storage-design 4.2). WAL write, memtable, delivery and redelivery
 * all read those bytes. A larger entry has a chunk of its own size. A chunk lives until
 * the log has flushed it and the last reader let go; memory is counted in whole chunks.
 *
 * Thread: the reference count is atomic, a reader may let go on any thread; the bytes
 * are immutable once committed.
 */
#ifndef MP_STORE_CHUNK_H
#define MP_STORE_CHUNK_H

#include "base/list.h"
#include "base/mem.h"

#include <stdatomic.h>

struct mp_chunk {
    _Atomic uint32_t refs;
    uint32_t size; /* capacity of bytes[] */
    uint32_t used;
    struct mp_chunks *log;     /* in whose list it is; NULL: in none. core */
    struct mp_list node;       /* that list, in log order; core */
    uint32_t live;             /* entries that the log still needs; core */
    bool is_open;              /* takes more entries; core */
    bool is_flushed;           /* all of it is in segments, too; core */
    uint64_t last_index;       /* of the last shard entry with bytes in it; core */
    uint8_t bytes[];
};

struct mp_chunk *mp_chunk_new(size_t size); /* NULL: no memory */
void mp_chunk_ref(struct mp_chunk *c);
void mp_chunk_unref(struct mp_chunk *c); /* NULL-safe */

/* -- the log's side: its chunks in log order; it holds one reference on each that has
 *    live entries. Thread: core -- */
struct mp_chunks {
    struct mp_list all;
    struct mp_chunk *open; /* the newest, takes more; NULL: none */
    uint64_t bytes;        /* of all in the list ... */
    uint64_t unflushed;    /* ... and of those that are not in segments */
    size_t chunk_size;
};

void mp_chunks_init(struct mp_chunks *l, size_t chunk_size);
void mp_chunks_fini(struct mp_chunks *l);
/* A chunk with `size` bytes of room, the open one or a new one. NULL: no memory. Who
 * puts an entry there raises `live` and `used`. */
struct mp_chunk *mp_chunks_room(struct mp_chunks *l, size_t size);
void mp_chunks_seal(struct mp_chunks *l); /* the open one takes no more */
void mp_chunks_seal_full(struct mp_chunks *l); /* likewise, when it has no room */
/* Entries above `index` have failed: no chunk waits for them. */
void mp_chunks_fail(struct mp_chunks *l, uint64_t index);
/* Everything up to shard entry `index` is in segments. */
void mp_chunks_flushed(struct mp_chunks *l, uint64_t index);
/* The oldest one, when it is flushed and can be evicted; NULL: there is none. */
struct mp_chunk *mp_chunks_evictable(const struct mp_chunks *l);
void mp_chunk_drop(struct mp_chunk *c);   /* one live entry less; may free the chunk */

#endif
