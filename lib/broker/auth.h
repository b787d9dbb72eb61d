/* broker/auth.h -- who may connect.
 *
 * Users are metadata rows with a bcrypt hash; "root" is made at the first start, and
 * its hash is made anew (on a worker, after listening) only when the configured
 * password no longer verifies. bcrypt takes 50 ms: on a worker of its own, one password
 * at a time, in turn for each address (peer.h), new hashes first. What it has confirmed
 * is remembered for the process, as an HMAC of password, hash and address under a
 * random key. Unknown users cost the same time as wrong passwords.
 *
 *   a login -> remembered for that address -> accepted at once
 *          `-> its address pauses? waits --.
 *           `-----------------------------> its turn -> bcrypt -> told, if the user
 *                                                        still has the judged hash
 *
 * Thread: core; bcrypt on the worker.
 */
#ifndef MP_BROKER_AUTH_H
#define MP_BROKER_AUTH_H

#include "broker/broker.h"

#define MP_ROOT_PASSWORD_DEFAULT "memphis"

struct mp_auth;

typedef void (*mp_auth_fn)(void *ctx, bool accepted,
                           const char *user); /* user: bare name */

/* `token` NULL: each user has a password. Else all share it: an SDK sends it, with its
 * user in the name of the connection, a plain client "<user>::<token>" (sdk-protocol
 * 1.4). */
struct mp_auth *mp_auth_new(struct mp_broker *b, const char *root_password,
                            const char *token);
void mp_auth_free(struct mp_auth *a);

/* What a client brings; data NULL: not there. Borrowed for the call. */
struct mp_credentials {
    memphis_slice user, password; /* user as sent: "root", "root$1" */
    memphis_slice token;
    memphis_slice named; /* the user in a name "<connection id>::<user>" */
    const char *peer;    /* his address; "local": he comes from no network */
};

/* fn is called later, on the core, perhaps before it returns (remembered). The handle
 * cancels it (fn is not called any more); NULL when it was answered at once.
 *
 * Whoever guesses waits: after ten refusals in a minute an address has a pause after
 * each further one, a second longer each, ten at most, in which none of its passwords
 * is looked at but remembered ones. At most 16 of its logins wait then, none longer
 * than ten seconds; the others are refused unheard. Other addresses do not feel it. */
struct mp_auth_check *mp_auth_check(struct mp_auth *a, const struct mp_credentials *c,
                                    mp_auth_fn fn, void *ctx);
void mp_auth_cancel(struct mp_auth_check *c); /* NULL-safe */

/* The hash of a new password, made on the worker. `hash` NULL: it could not be made.
 * fn is not called when the broker closes meanwhile. */
typedef void (*mp_auth_hash_fn)(void *ctx, const char *hash);
void mp_auth_hash(struct mp_auth *a, memphis_slice password, mp_auth_hash_fn fn,
                  void *ctx);

/* With the first session: root's hash is compared with the configured password, and
 * made anew where it differs, on the worker. Until the new one is committed that
 * password is compared directly. Later calls do nothing. */
void mp_auth_start(struct mp_auth *a);

#endif
