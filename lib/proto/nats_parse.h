/* proto/nats_parse.h -- push parser of the NATS client protocol (sdk-protocol 1.1).
 *
 * Feed it the bytes that are there; it finds one operation at a time and borrows from
 * them: subject, reply, headers and payload of an operation point into the caller's
 * bytes, nothing is copied. When an operation is not complete it says MORE and
 * remembers how far it looked, so that one byte at a time costs no second scan.
 *
 * Verbs are a table. Thread: any (pure).
 */
#ifndef MP_PROTO_NATS_PARSE_H
#define MP_PROTO_NATS_PARSE_H

#include "base/str.h"

enum mp_nats_verb {
    MP_NATS_CONNECT = 1, MP_NATS_PING, MP_NATS_PONG, MP_NATS_PUB, MP_NATS_HPUB,
    MP_NATS_SUB, MP_NATS_UNSUB, MP_NATS_IGNORED /* +OK, INFO from a client */
};

struct mp_nats_op {
    enum mp_nats_verb verb;
    memphis_slice subject, reply, queue, sid;
    memphis_slice headers, payload;
    memphis_slice json;       /* CONNECT */
    uint64_t max;             /* UNSUB; 0: none */
};

enum mp_nats_result {
    MP_NATS_MORE,             /* not complete */
    MP_NATS_OP,               /* *op is filled */
    MP_NATS_ERROR,            /* `error` is the text for -ERR; close */
    MP_NATS_CLOSE             /* close without a word (-ERR from a client) */
};

struct mp_nats_parser {
    uint32_t payload_max;
    bool allow_headers;       /* CONNECT said headers:true */
    size_t scanned;           /* bytes of the incomplete operation already looked at */
    bool has_line;            /* its control line is checked, the payload is awaited */
    size_t line_size, body_size, header_size; /* of that line; body holds both */
    const char *error;
};

void mp_nats_parser_init(struct mp_nats_parser *p, uint32_t payload_max);

/* Looks at `in`, which begins at the first byte not yet consumed. On OP *consumed is
 * the size of the whole operation. */
enum mp_nats_result mp_nats_parse(struct mp_nats_parser *p, memphis_slice in,
                                  struct mp_nats_op *op, size_t *consumed);

#endif
