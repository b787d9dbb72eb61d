/* proto/nats_connect.h -- the JSON of CONNECT (sdk-protocol 1.3, 1.4).
 *
 * Thread: any (pure).
 */
#ifndef MP_PROTO_NATS_CONNECT_H
#define MP_PROTO_NATS_CONNECT_H

#include "base/json.h"

/* Texts belong to the document; NULL: not there. */
struct mp_nats_connect {
    const char *user, *pass, *token, *name, *lang, *version, *unused;
    bool verbose, pedantic, echo, headers, no_responders, tls_required;
    int64_t protocol;
};

/* False: no object, or a known key with a value of another type. */
bool mp_nats_connect_read(const struct mp_json *doc, struct mp_nats_connect *out);

/* Splits "<connection id>::<user>". A plain name gives neither (data NULL), and the
 * NATS tool, which puts its version into the name, has a plain one. False: it has more
 * parts than that. */
bool mp_nats_connect_name(memphis_slice name, memphis_slice *connection_id,
                          memphis_slice *user);

#endif
