/* proto/ws_pipe.h -- a session behind WebSocket frames.
 *
 *   transport -- mp_ws_pipe_feed --> ws.c -- payload --> mp_session_feed
 *   transport <- the pipe below  <-- one binary frame <-- what the session writes
 *
 * It is a filter between a session and its pipe, which know nothing of it: limits,
 * timers and slow readers stay the session's. Before the request is answered the
 * session's INFO waits here, and the time for its CONNECT runs already. A ping is
 * answered when the answer to the one before has been taken, with the newest payload
 * (RFC 6455 5.5.3): who pings and does not read costs 125 bytes.
 *
 * The owner calls feed, flush and drained here instead of those of the session.
 *
 * Thread: core.
 */
#ifndef MP_PROTO_WS_PIPE_H
#define MP_PROTO_WS_PIPE_H

#include "proto/session.h"
#include "proto/ws.h"

struct mp_ws_pipe;

/* Makes the session, too; the arguments are those of mp_session_new. */
struct mp_ws_pipe *mp_ws_pipe_new(const struct mp_session_host *h,
                                  const struct mp_session_pipe *below,
                                  const char *peer, const char *user);
/* NULL-safe; frees the session. */
void mp_ws_pipe_free(struct mp_ws_pipe *p);
struct mp_session *mp_ws_pipe_session(struct mp_ws_pipe *p);

/* As mp_session_feed. */
memphis_status mp_ws_pipe_feed(struct mp_ws_pipe *p, const void *bytes, size_t size);
void mp_ws_pipe_flush(struct mp_ws_pipe *p);
/* Bytes of the transport: headers and answers are not the session's. */
void mp_ws_pipe_drained(struct mp_ws_pipe *p, size_t bytes);

#endif
