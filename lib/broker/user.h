/* broker/user.h -- users: who there is, their passwords, what they may.
 *
 *   request -> rules -> hash (worker, 50 ms) -> metadata command -> committed
 *                                                  -> sessions of the user hear of it
 *
 * "root" is made by the first start and cannot be removed. Management users use the
 * dashboard and the admin verbs, application users the SDKs. Rules: http-api.md 4.2
 * (passwords: up to 72 bytes, as bcrypt looks no further).
 *
 * Thread: core.
 */
#ifndef MP_BROKER_USER_H
#define MP_BROKER_USER_H

#include "broker/broker.h"

/* Texts are borrowed; NULL is "". Names are folded to lower case. */
struct mp_user_request {
    const char *name, *password;
    uint32_t type;        /* MP_USER_APPLICATION, MP_USER_MANAGEMENT */
    const char *owner, *description, *full_name, *team, *position;
    uint32_t avatar;
    bool is_restricted;   /* the lists count: patterns, one per line */
    const char *allow_read, *allow_write, *deny_read, *deny_write;
};

/* INVALID: a rule is broken, with words for a human; EXISTS. */
void mp_user_add(struct mp_broker *b, const struct mp_user_request *r,
                 struct mp_then then);
/* DENIED: root. NOT_FOUND. His sessions end. */
void mp_user_drop(struct mp_broker *b, const char *name, struct mp_then then);
/* DENIED: root's is configured. INVALID, NOT_FOUND. Sessions go on. */
void mp_user_set_password(struct mp_broker *b, const char *name, const char *password,
                          struct mp_then then);
/* Sessions are held to the new lists at once. DENIED: root; INVALID, NOT_FOUND. */
void mp_user_set_permissions(struct mp_broker *b, const char *name, bool is_restricted,
                             const char *allow_read, const char *allow_write,
                             const char *deny_read, const char *deny_write,
                             struct mp_then then);

/* -- broker.c's side -- */
void mp_user_applied(struct mp_broker *b, const struct mp_command *c,
                     memphis_status result);

#endif
