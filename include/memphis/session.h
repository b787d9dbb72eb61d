/* memphis/session.h -- speak the client protocol (NATS, as the official SDKs do) over
 * any byte pipe: a socket, a Unix socket, a serial line, a test.
 *
 *   your transport -- memphis_session_feed --> session -- memphis_pipe.write --> yours
 *
 * Bytes are queued by feed and applied in the broker's next turn; output comes in one
 * write per turn. Tell the session what your peer has taken (memphis_session_drained):
 * when nothing of what write was given has been taken for ten seconds, or the backlog
 * is a quarter of memory_max (64 MiB at most), the session is closed as a slow
 * consumer.
 *
 * Thread: MANUAL: the core thread. THREADED: any thread, one at a time per session; the
 * pipe's functions run on the core thread and must not block. Inside them
 * memphis_session_feed and memphis_session_drained may be called; every call that would
 * wait returns MISUSE.
 */
#ifndef MEMPHIS_SESSION_H
#define MEMPHIS_SESSION_H

#include <memphis/broker.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct memphis_session memphis_session;

typedef struct memphis_pipe {
    /* Output for the peer; the bytes are borrowed until it returns. */
    void (*write)(void *ctx, const memphis_slice *v, size_t n);
    /* The session has ended: deliver what was written, then close the transport and
     * call memphis_session_free (not inside this function). `why` is for a log. */
    void (*close)(void *ctx, const char *why);
    void *ctx;
    uint64_t reserved[2];
} memphis_pipe;

typedef struct memphis_session_options {
    const char *peer; /* address for INFO and logs; NULL: "local" */
    const char *user; /* not NULL: the peer is this user, already authenticated (for
                         example by Unix peer credentials) */
    uint32_t websocket; /* not 0: the pipe is that of an HTTP client that asks for a
                           WebSocket (RFC 6455); the protocol is inside its frames */
    uint32_t tls; /* not 0: the pipe's transport encrypts. INFO says so (tls_required);
                     it goes out at once, before a handshake or inside. CONNECT has 30
                     seconds instead of two: how long a handshake takes you guard */
    uint64_t reserved[5];
} memphis_session_options;

/* `o` may be NULL. The pipe struct is copied. BROKEN, CLOSED, NOMEM, FULL (too many).
 */
MEMPHIS_API memphis_status memphis_session_new(memphis_broker *b,
                                               const memphis_pipe *pipe,
                                               const memphis_session_options *o,
                                               memphis_session **out,
                                               memphis_error *err);

/* Queues bytes from the peer. FULL: nothing was taken, as more waits than a turn
 * applies; feed the same again after a step (MANUAL) or a moment later (THREADED).
 * Pieces of up to 512 KiB fit in the end. `size` 0: the peer sends no more; what is
 * queued is still carried out, then the session closes its pipe. CLOSED: the session
 * has ended. MISUSE, BROKEN, NOMEM (THREADED). */
MEMPHIS_API memphis_status memphis_session_feed(memphis_session *s, const void *bytes,
                                                size_t size);

/* The transport has passed on `bytes` of what write() gave it; inside of write, too. */
MEMPHIS_API void memphis_session_drained(memphis_session *s, size_t bytes);

/* Ends it from this side: what is queued for the peer goes out in the next turn, a
 * WebSocket is told that the server goes (1001), then the pipe's close is called. */
MEMPHIS_API void memphis_session_close(memphis_session *s);

/* Ends the session (the peer is gone, or close() was called). No callback afterwards.
 */
MEMPHIS_API void memphis_session_free(memphis_session *s);

/* Tells every peer, now and when a session begins, that this broker goes soon (INFO
 * with "ldm":true, NATS client protocol): clients that know other servers move. Nothing
 * else changes; when to close the sessions is the caller's choice, and there is no way
 * back. `err` may be NULL. CLOSED, BROKEN, MISUSE, NOMEM, TIMEOUT. */
MEMPHIS_API memphis_status memphis_lame_duck(memphis_broker *b, memphis_error *err);

#ifdef __cplusplus
}
#endif
#endif
