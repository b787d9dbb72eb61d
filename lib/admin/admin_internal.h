/* admin/admin_internal.h -- what the files of the verbs share.
 *
 * A handler reads call->args, starts a command, and ends in exactly one
 * mp_admin_finish or mp_admin_fail, now or when the command is committed; both free the
 * call. Thread: core.
 */
#ifndef MP_ADMIN_INTERNAL_H
#define MP_ADMIN_INTERNAL_H

#include "admin/admin.h"
#include "base/json.h"
#include "base/limits.h"
#include "broker/permission.h"

struct mp_admin_call {
    struct mp_broker *broker;
    const struct mp_json_value *args; /* as long as the call */
    struct mp_json *doc;
    char actor[MP_NAME_MAX + 1];
    uint32_t type;                    /* of the actor: MP_USER_* */
    struct mp_grants *grants;         /* his; NULL: all */
    char name[MP_NAME_MAX + 1];       /* a handler's: whom or what it is about */
    struct mp_admin_then then;
};

void mp_admin_finish(struct mp_admin_call *c, memphis_slice json);
void mp_admin_fail(struct mp_admin_call *c, memphis_status status, const char *text);
/* A `then` of a command: {} when it is committed, else its words. */
void mp_admin_done(void *call, memphis_status status, const char *text);
struct mp_then mp_admin_then_done(struct mp_admin_call *c);

/* Reading. A text that must be there: INVALID, "<key> is missing". */
memphis_status mp_admin_text(const struct mp_admin_call *c, const char *key,
                             const char **out, memphis_error *err);

/* Of a list: `limit` (100), at most 1,000. What there is beyond it the caller asks for
 * with `after`: "next" of the answer, null when there is nothing. */
memphis_status mp_admin_limit(const struct mp_admin_call *c, uint32_t *out,
                              memphis_error *err);
void mp_admin_put_next(struct mp_json_writer *w, const char *next); /* NULL: null */
/* Instead of an answer: `after` is gone. */
void mp_admin_no_after(struct mp_admin_call *c);

/* The station of the key "name", which the actor may `needs`; `verb` is for the words.
 * NULL: it was refused. */
struct mp_station *mp_admin_station(struct mp_admin_call *c, uint32_t needs,
                                    const char *verb);

/* -- verbs (a file for each kind of thing) -- */
void mp_admin_user_add(struct mp_admin_call *c);
void mp_admin_user_list(struct mp_admin_call *c);
void mp_admin_user_remove(struct mp_admin_call *c);
void mp_admin_user_set_password(struct mp_admin_call *c);
void mp_admin_user_set_permissions(struct mp_admin_call *c);
void mp_admin_station_create(struct mp_admin_call *c);
void mp_admin_station_list(struct mp_admin_call *c);
void mp_admin_station_purge(struct mp_admin_call *c);
void mp_admin_station_remove(struct mp_admin_call *c);
void mp_admin_station_set_dls(struct mp_admin_call *c);
void mp_admin_message_remove(struct mp_admin_call *c);
void mp_admin_producer_list(struct mp_admin_call *c);
void mp_admin_consumer_list(struct mp_admin_call *c);
void mp_admin_dls_list(struct mp_admin_call *c);
void mp_admin_dls_resend(struct mp_admin_call *c);
void mp_admin_dls_drop(struct mp_admin_call *c);

#endif
