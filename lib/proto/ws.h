/* proto/ws.h -- the WebSocket protocol (RFC 6455), server side: bytes in, events out.
 *
 *   GET / HTTP/1.1 ...  --> OPEN    to be answered with 101 (mp_ws_put_accept)
 *   frames              --> DATA in pieces, PING, CLOSE
 *   anything else       --> FAILED  `status` is the HTTP status before OPEN, behind it
 *                                   the close code; `why` the sentence
 *
 * What frames carry here is one stream of bytes, the NATS protocol. So a message is
 * never put together: its payload is passed on piece by piece as it comes, and who
 * announces 2^62 bytes costs no memory. Kept are only the head of the request until it
 * is whole (MP_WS_HEAD_MAX) and one control frame (125 bytes). A message may have
 * MP_WS_MESSAGE_MAX bytes with the headers of its frames, so that one of endlessly many
 * empty fragments ends, too.
 *
 * Text and binary are the same; nobody reads the text, so it is not checked for UTF-8.
 * No extension and no sub-protocol is ever agreed to; any path and origin will do.
 *
 * Thread: any (pure).
 */
#ifndef MP_PROTO_WS_H
#define MP_PROTO_WS_H

#include "base/buf.h"

enum {
    MP_WS_CONTROL_MAX = 125,
    MP_WS_HEADER_MAX = 14,     /* of a frame, with its mask */
    MP_WS_FRAME_HEADER_MAX = 10, /* of ours, which have none */
    MP_WS_ACCEPT_SIZE = 28
};

enum { /* opcodes */
    MP_WS_CONTINUATION = 0,
    MP_WS_TEXT = 1,
    MP_WS_BINARY = 2,
    MP_WS_CLOSE_FRAME = 8,
    MP_WS_PING_FRAME = 9,
    MP_WS_PONG_FRAME = 10
};

enum { /* close codes */
    MP_WS_NORMAL = 1000,
    MP_WS_GOING_AWAY = 1001,
    MP_WS_PROTOCOL_ERROR = 1002,
    MP_WS_NO_CODE = 1005, /* never on the wire: the frame was empty */
    MP_WS_BAD_TEXT = 1007,
    MP_WS_POLICY = 1008,
    MP_WS_TOO_BIG = 1009,
    MP_WS_INTERNAL = 1011
};

enum mp_ws_event {
    MP_WS_MORE,  /* all bytes are used up */
    MP_WS_OPEN,  /* the request is in order */
    MP_WS_DATA,  /* a piece of payload is in the room */
    MP_WS_PING,  /* its payload is in `control`, until the next call */
    MP_WS_CLOSE, /* `status` is the peer's code, or MP_WS_NO_CODE; nothing follows */
    MP_WS_FAILED /* nothing follows */
};

struct mp_ws {
    uint32_t state;     /* in ws.c; 0: waits for the request */
    struct mp_buf head; /* of the request, as far as it is there */
    char accept[MP_WS_ACCEPT_SIZE + 1];

    uint8_t header[MP_WS_HEADER_MAX]; /* of the frame */
    uint32_t header_size;             /* as far as it is there */
    uint64_t left;                    /* payload of the frame that is still to come */
    uint32_t mask_at;
    bool in_message;       /* its last fragment has not come */
    uint64_t message_size; /* so far */

    uint8_t control[MP_WS_CONTROL_MAX];
    uint32_t control_size;

    uint32_t status;
    bool is_closed_by_peer;
    const char *why; /* static */
};

/* Zero-initialise before the first call. */
void mp_ws_fini(struct mp_ws *w);

/* Takes bytes from the front of `in` up to the next event. Payload is written without
 * its mask to `room`, `*size` bytes of it. After CLOSE and FAILED it is not called. */
enum mp_ws_event mp_ws_read(struct mp_ws *w, memphis_slice *in, void *room,
                            size_t room_size, size_t *size);
bool mp_ws_is_over(const struct mp_ws *w);

/* The answer to OPEN. */
void mp_ws_put_accept(struct mp_buf *out, const struct mp_ws *w);
/* An HTTP answer that refuses; `why` is its body. */
void mp_ws_put_refusal(struct mp_buf *out, uint32_t http_status, const char *why);
/* The header of a whole, unmasked frame; returns its size. */
size_t mp_ws_frame_header(uint8_t out[MP_WS_FRAME_HEADER_MAX], uint8_t opcode,
                          uint64_t payload_size);
/* `reason` is cut to what a frame holds. */
void mp_ws_put_close(struct mp_buf *out, uint32_t code, const char *reason);

#endif
