/* memphis/producer.h -- put messages into a station. */
#ifndef MEMPHIS_PRODUCER_H
#define MEMPHIS_PRODUCER_H

#include <memphis/message.h>
#include <memphis/station.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct memphis_producer memphis_producer;

typedef struct memphis_produce_options {
    const char
        *message_id; /* idempotent produce: see receipt.duplicate; <= 255 bytes */
    const char *partition_key; /* same key, same partition */
    uint32_t partition; /* from 1; at most one of key and partition; neither: in turn */
    uint32_t headers_count;
    const memphis_header *headers;
    uint64_t reserved[8];
} memphis_produce_options;

typedef struct memphis_receipt {
    uint64_t sequence;
    uint32_t partition;
    uint32_t duplicate; /* 1: not stored again, this is the first one's sequence */
    uint64_t reserved[4];
} memphis_receipt;

/* Outcome of one memphis_produce_async. `e` NULL: stored. */
typedef void (*memphis_produced_fn)(void *ctx, const memphis_receipt *r,
                                    const memphis_error *e);

/* Does not wait: a station that was removed is NOT_FOUND to the first message. INVALID
 * (name), NOMEM, BROKEN, CLOSED. */
MEMPHIS_API memphis_status memphis_producer_open(memphis_station *s, const char *name,
                                                 memphis_producer **out,
                                                 memphis_error *err);

/* Returns when the message is durable (memory stations: stored). `o`, `r`, `err` may be
 * NULL. TOO_BIG, INVALID, NOT_FOUND, NO_SPACE (retry), TIMEOUT (outcome unknown),
 * CANCELED (outcome unknown), BROKEN, CLOSED. */
MEMPHIS_API memphis_status memphis_produce(memphis_producer *p, const void *data,
                                           size_t size,
                                           const memphis_produce_options *o,
                                           memphis_receipt *r, memphis_error *err);

/* Does not wait: fn is called with the outcome inside a later memphis_producer_flush
 * (or memphis_produce_async that finds the window full) on the calling thread. The
 * bytes are copied before it returns. fn may be NULL. FULL: 65,536 of this producer are
 * under way, or an eighth of memory_max in bytes of all (one message of a producer that
 * has none is always taken). */
MEMPHIS_API memphis_status memphis_produce_async(memphis_producer *p, const void *data,
                                                 size_t size,
                                                 const memphis_produce_options *o,
                                                 memphis_produced_fn fn, void *ctx,
                                                 memphis_error *err);
/* Waits until everything under way has its outcome, calling back; 0: only calls back
 * what is there. TIMEOUT, CANCELED, BROKEN; CLOSED (the broker, or the producer by a
 * callback); MISUSE inside a callback, which may produce, and close the producer: then
 * the others are not called. */
MEMPHIS_API memphis_status memphis_producer_flush(memphis_producer *p,
                                                  uint32_t wait_ms);
/* Flushes first, for at most call_wait_ms (memphis_options). What has no outcome by
 * then may be stored all the same, and is not called back. */
MEMPHIS_API void memphis_producer_close(memphis_producer *p);

#ifdef __cplusplus
}
#endif
#endif
