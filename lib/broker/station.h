/* broker/station.h -- stations: create, open partitions, find, drop.
 *
 * A station is a metadata row plus P partitions. Making one (storage-design 12): one
 * metadata command with all ids inside -> committed -> one entry that opens all
 * partitions in the data shard (memory stations: in the memory shard) -> committed ->
 * READY. Racing requests for one name all succeed: who comes later waits for READY.
 * After a crash between the two steps the start proposes what is missing.
 *
 * Names: external "orders.eu", internal "orders#eu"; streams "orders#eu$1" ...
 *
 * Thread: core.
 */
#ifndef MP_BROKER_STATION_H
#define MP_BROKER_STATION_H

#include "broker/broker.h"
#include "stream/nats_config.h"

struct mp_station {
    struct mp_broker *broker;
    uint32_t id;
    char *name, *internal;
    struct mp_station_settings settings;
    uint32_t first_pid;
    uint64_t created_ns;        /* wall time */
    struct mp_stream **streams; /* [partitions]; NULL until opened */
    uint32_t streams_open;
    struct mp_list waiting; /* struct station_waiter, until READY */
    bool opening; /* its partitions are proposed */
    bool dropping; /* its removal is proposed */
    struct mp_list dead;     /* rows of dls.h */
    uint64_t dead_count;
    struct mp_resend *resend; /* of them; NULL: none was ever asked for */
    uint32_t next_partition; /* round robin of in-process producers */
};

/* Checks and normalises settings of a client (sdk-protocol 2.1): defaults for zero and
 * out-of-range values, INVALID with exactly the text that SDKs and users know. `name`
 * is for the text. */
memphis_status mp_station_settings_check(struct mp_station_settings *s,
                                         const char *name, memphis_error *err);
/* message_age_sec 3600, file, 1 replica, 1 partition ... (2.1.1). */
void mp_station_settings_default(struct mp_station_settings *s);

/* External or internal name in any case -> READY or opening station; NULL: none. */
struct mp_station *mp_station_find(struct mp_broker *b, memphis_slice name);
bool mp_station_is_ready(const struct mp_station *s);
struct mp_station *mp_station_next(struct mp_broker *b,
                                   uint32_t *at); /* as mp_map_next */
/* As mp_map_behind; the name as for mp_station_find. */
bool mp_station_behind(struct mp_broker *b, memphis_slice name, uint32_t *at);

/* `name` is external, folded and checked by mp_name_check; settings are checked. An
 * existing station, or one that somebody else makes first, is left as it is: status
 * EXISTS when it is READY. */
void mp_station_create(struct mp_broker *b, const char *name,
                       const struct mp_station_settings *s, const char *user,
                       struct mp_then then);
/* Calls then when the station is READY (OK) or could not be made. `make`: makes it
 * with defaults when it does not exist; else NOT_FOUND. */
void mp_station_ensure(struct mp_broker *b, const char *name, bool make,
                       const char *user, struct mp_then then);
/* Other settings for a station that is READY: of a stream of a NATS client, or of what
 * dead letters do. */
void mp_station_change(struct mp_station *s, const struct mp_station_settings *settings,
                       struct mp_then then);
/* The settings of the station of such a stream. `c` outlives them. */
void mp_station_settings_nats(const struct mp_nats_config *c,
                              struct mp_station_settings *out);
/* Groups hear 409, data goes, rows go. NOT_FOUND: already gone. */
void mp_station_drop(struct mp_broker *b, struct mp_station *s, const char *user,
                     struct mp_then then);

/* What was produced so far to partition `number` (0: to any) goes, in one commit;
 * sequences go on. Dead letters stay: mp_dls_drop. NOT_FOUND: no such partition. */
void mp_station_purge(struct mp_station *s, uint32_t number, struct mp_then then);

/* Messages of partition `number` go, in one commit: `seqs` ascending, at most
 * MP_STREAM_REMOVALS_MAX; what is not there is no error. NOT_FOUND: no such
 * partition. */
void mp_station_remove_messages(struct mp_station *s, uint32_t number,
                                const uint64_t *seqs, size_t n, struct mp_then then);

/* The log of the shard in which its partitions are. */
struct mp_log *mp_station_log(const struct mp_station *s);
/* Partition `number` from 1; NULL: no such one (or not open). */
struct mp_stream *mp_station_stream(struct mp_station *s, uint32_t number);
/* By the stream's own name "orders#eu$1", or that of a NATS stream; NULL: none. */
struct mp_stream *mp_broker_stream(struct mp_broker *b, memphis_slice name);

/* -- broker.c's side -- */
void mp_station_applied(struct mp_broker *b, const struct mp_command *c,
                        memphis_status result, void *row, uint64_t tag);
void mp_station_partition_applied(struct mp_broker *b, struct mp_log *log,
                                  const struct mp_entry *e);
/* Partitions on their way to that log were given back: who waits for them hears it. */
void mp_stations_failed(struct mp_broker *b, const struct mp_log *log,
                        memphis_status status);
void mp_stations_load(struct mp_broker *b);         /* rows that came from meta.db */
/* Calls fn with the open entry of each partition that the metadata puts on disk. */
void mp_stations_each_open(struct mp_broker *b,
                           void (*fn)(void *to, const struct mp_entry *open), void *to);
void mp_stations_finish_start(struct mp_broker *b); /* proposes what is missing */
void mp_stations_free(struct mp_broker *b);

#endif
