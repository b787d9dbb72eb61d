/* memphis/stats.h -- counters since the start and sizes now. */
#ifndef MEMPHIS_STATS_H
#define MEMPHIS_STATS_H

#include <memphis/broker.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct memphis_stats {
    uint64_t stations, partitions, sessions; /* now; sessions: logged in */
    uint64_t messages_in, bytes_in;          /* from sessions: messages published */
    uint64_t messages_out, bytes_out;        /* to sessions */
    uint64_t stored;                         /* messages taken into stations */
    uint64_t duplicates, refused;            /* not stored: known id; error answered */
    uint64_t delivered, redelivered, acked;  /* by consumer groups */
    uint64_t dead; /* given up after the last delivery, or terminated by a consumer */
    uint64_t protocol_errors, auth_failures, slow_consumers;
    uint64_t memory_bytes, memory_blocks; /* held by the broker's allocator now */
    uint64_t turns;
    uint64_t dead_letters, dead_letters_bytes; /* kept now (memphis/dls.h) */
    uint64_t dead_letters_dropped; /* before their time, for dls_max_bytes */
    uint64_t message_ids_dropped;  /* before their window was over, for memory_max */
    uint64_t idle_removed; /* producers and consumers whose connection did not return
                              (gc_producer_consumer_retention_hours) */
    uint64_t subject_index_bytes; /* of NATS streams' indexes by subject, now */
    uint64_t subject_indexes_dropped; /* they were too large, for memory_max */
    uint64_t reserved[9];
} memphis_stats;

/* As of the end of the last turn. Thread: any; never blocks. */
MEMPHIS_API void memphis_stats_read(const memphis_broker *b, memphis_stats *out);

#ifdef __cplusplus
}
#endif
#endif
