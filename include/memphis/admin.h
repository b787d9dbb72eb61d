/* memphis/admin.h -- verbs for those who run a broker: users, permissions, stations,
 * dead letters.
 *
 * A verb takes a JSON object and answers with one. Sessions of root and of management
 * users reach the same verbs as requests on "$memphis_admin.<verb>".
 *
 *   user_add {username, password, user_type: "application" | "management", full_name,
 *             team, position, description, avatar_id, allow_read_permissions: [..],
 *             allow_write_permissions: [..], deny_read_permissions: [..],
 *             deny_write_permissions: [..]}        without lists: all stations
 *   user_list {limit, after}                  -> {users: [..], next}
 *   user_remove {username}                       his sessions end; root alone removes
 *                                                management users
 *   user_set_password {username, password}
 *   user_set_permissions {username, the four lists}
 *   station_create {name, partitions_number, retention_type, retention_value,
 *                   storage_type, idempotency_window_in_ms}
 *   station_list {limit, after}               -> {stations: [..], next}
 *   station_purge {name, partition_number}       0, or not there: all partitions
 *   station_set_dls {name, poison, schemaverse, dls_station}    those that are there;
 *                                                dls_station "": none
 *   station_remove {name}
 *   message_remove {name, partition_number, sequences: [..]}    at most 4,096 at once
 *   producer_list {name, limit, after}        -> {producers: [..], next}
 *   consumer_list {name, limit, after}        -> {consumers: [..], next}
 *   dls_list {name, limit, after}             -> {letters: [..], next, total,
 *                                                 resend: {..}}
 *   dls_resend {name, ids: [..]}                 or all: true, in the background
 *   dls_drop {name, ids: [..]}                   or all: true; who may write
 *
 * Lists come in pages of `limit` (100; at most 1,000) or less: while `next` is not null
 * there is more, `after` it. NOT_FOUND: that one is gone, the list begins again.
 *
 * A key that a verb does not have, or that comes twice, is refused.
 *
 * A pattern of a list is a station's name, or has stars, each for one or more
 * characters: "prod.*". To read is to consume; to write is to produce, and to make or
 * remove the station. A deny wins.
 */
#ifndef MEMPHIS_ADMIN_H
#define MEMPHIS_ADMIN_H

#include <memphis/broker.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Called once, inside memphis_admin; `json` is valid during the call. What went wrong
 * is {"error": "<sentence>"}. */
typedef void (*memphis_reply_fn)(void *ctx, memphis_status status, memphis_slice json);

/* Carries out a verb and waits until it is committed. `actor`: the user who wants it
 * and must be allowed to, copied; NULL: the program itself, who may what root may.
 * `json`: the arguments; empty is {}; borrowed until it returns. `fn` may be NULL.
 * Returns what the verb said: OK; NOT_FOUND (no such verb, or no such thing), DENIED,
 * INVALID, EXISTS, BUSY (try again); or, without fn having been called: MISUSE, CLOSED,
 * BROKEN, NOMEM, TIMEOUT and CANCELED (the outcome is unknown). Thread: any. */
MEMPHIS_API memphis_status memphis_admin(memphis_broker *b, const char *actor,
                                         const char *verb, memphis_slice json,
                                         memphis_reply_fn fn, void *ctx,
                                         memphis_error *err);

#ifdef __cplusplus
}
#endif
#endif
