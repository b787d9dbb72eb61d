/* proto/nats_write.h -- the server's lines, appended to a buffer.
 *
 * Thread: any (pure). */
#ifndef MP_PROTO_NATS_WRITE_H
#define MP_PROTO_NATS_WRITE_H

#include "base/buf.h"
#include "bus/bus.h"

struct mp_server_info {          /* what INFO says; owned by the broker */
    const char *server_id, *server_name, *host;
    uint32_t port, payload_max;
    bool auth_required, tls_required;
    bool lame_duck; /* it goes soon: clients look for another */
};

void mp_nats_write_info(struct mp_buf *out, const struct mp_server_info *i,
                        uint64_t client_id, const char *client_ip);
/* HMSG when there are headers and the client takes them, else MSG without them. */
void mp_nats_write_message(struct mp_buf *out, const char *sid,
                           const struct mp_message *m, bool headers);
void mp_nats_write_error(struct mp_buf *out, const char *text); /* -ERR 'text' */

#endif
