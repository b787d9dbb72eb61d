/* admin/admin.h -- verbs for those who run the broker: (actor, verb, JSON) -> (status,
 * JSON).
 *
 *   memphis_admin ------+
 *   "$memphis_admin.x" -+--> table of verbs --> who may? --> handler --> broker
 *   HTTP, commands -----+         (admin.c)                     |
 *                                             reply <-- committed
 *
 * One table; a door is a row that points at it. A verb reads its arguments, starts a
 * command of broker/ and answers when that is committed, never before. What went wrong
 * is {"error": "<sentence>"}. Names of keys are those of http-api.md.
 *
 * Who may: root everything; management users everything but others' passwords and the
 * removal of managers; application users only verbs about stations, as far as their
 * permissions go. An actor that is no user may nothing.
 *
 * Thread: core.
 */
#ifndef MP_ADMIN_ADMIN_H
#define MP_ADMIN_ADMIN_H

#include "broker/broker.h"

struct mp_admin_then {
    /* Once, perhaps before mp_admin returns; `json` is valid during the call. */
    void (*fn)(void *ctx, memphis_status status, memphis_slice json);
    void *ctx;
};

/* `actor` NULL: the program that opened the broker, who may what root may. NOT_FOUND:
 * no such verb; DENIED; INVALID: what the sentence says; what the command says. */
void mp_admin(struct mp_broker *b, const char *actor, memphis_slice verb,
              memphis_slice json, struct mp_admin_then then);

/* Requests "$memphis_admin.<verb>" of sessions. */
void mp_admin_start(struct mp_broker *b);
void mp_admin_stop(struct mp_broker *b);

#endif
