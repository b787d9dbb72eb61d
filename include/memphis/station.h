/* memphis/station.h -- stations: named, partitioned, durable message logs.
 *
 * Names are folded to lower case: "Orders" and "orders" are one station. They have at
 * most 128 letters, digits, '_', '-' and '.'. Thread of all functions: as the mode of
 * the broker says.
 */
#ifndef MEMPHIS_STATION_H
#define MEMPHIS_STATION_H

#include <memphis/broker.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct memphis_station memphis_station;

/* What makes old messages leave: their age in seconds, their number or their bytes
 * (both per partition); or that each consumer group there is has settled them: then a
 * message that is produced while there is none goes at once. */
enum {
    MEMPHIS_RETAIN_AGE = 0,
    MEMPHIS_RETAIN_COUNT = 1,
    MEMPHIS_RETAIN_BYTES = 2,
    MEMPHIS_RETAIN_UNTIL_ACKED = 3
};

typedef struct memphis_station_options {
    uint32_t partitions;      /* 0: 1; at most 10,000; fixed for life */
    uint32_t replicas;        /* 0: 1; more needs a cluster */
    uint32_t retention;       /* MEMPHIS_RETAIN_* */
    uint64_t retention_value; /* seconds, messages or bytes; 0: one hour of age */
    uint64_t idempotency_ms; /* window of message ids; 0: 2 minutes; at most 24 hours */
    uint32_t memory_storage; /* 1: never on disk, gone at close */
    uint32_t must_be_new;    /* 1: EXISTS instead of opening */
    uint64_t reserved[8];
} memphis_station_options;

/* Makes the station, or opens the one that exists (its settings stay as they are).
 * INVALID (name, options), EXISTS, UNSUPPORTED, TIMEOUT, NO_SPACE, BROKEN, CLOSED. */
MEMPHIS_API memphis_status memphis_station_create(memphis_broker *b, const char *name,
                                                  const memphis_station_options *o,
                                                  memphis_station **out,
                                                  memphis_error *err);
/* NOT_FOUND, INVALID, TIMEOUT, BROKEN, CLOSED. */
MEMPHIS_API memphis_status memphis_station_open(memphis_broker *b, const char *name,
                                                memphis_station **out,
                                                memphis_error *err);
/* The stored name (lower case). Valid until the handle is closed. */
MEMPHIS_API const char *memphis_station_name(const memphis_station *s);
MEMPHIS_API uint32_t memphis_station_partitions(const memphis_station *s);
/* Removes the messages of partition `partition` (0: of all) that were produced so far,
 * in one step; sequences go on, groups have nothing pending, dead letters stay
 * (memphis_dls_drop). NOT_FOUND: no such partition, or the station is gone. */
MEMPHIS_API memphis_status memphis_station_purge(memphis_station *s, uint32_t partition,
                                                 memphis_error *err);
/* Removes station, messages and groups; the handle stays yours to close. NOT_FOUND:
 * somebody else removed it. */
MEMPHIS_API memphis_status memphis_station_drop(memphis_station *s, memphis_error *err);
MEMPHIS_API void memphis_station_close(memphis_station *s);

#ifdef __cplusplus
}
#endif
#endif
