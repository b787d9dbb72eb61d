/* proto/session.h -- one connection: bytes in, bytes out, no socket.
 *
 *      feed (queues)            work (inside a turn)            flush (end of the turn)
 *   bytes ---> input buffer ---> parser ---> bus/services ---> output buffer ---> pipe
 *                                  |
 *            NEW -> CONNECTING -> READY -> CLOSING     (table in session.c, mp_sm)
 *                    (a verdict is out: input is held, bounded, answered in order)
 *
 * The session is pure: the world is its host (identity check, liveness, turn requests)
 * and its pipe. Limits: base/limits.h; whoever breaks one gets the protocol's error, a
 * counter moves, nobody else notices.
 *
 * Thread: core (mp_session_feed too: an I/O thread hands over by mailbox).
 */
#ifndef MP_PROTO_SESSION_H
#define MP_PROTO_SESSION_H

#include "base/logger.h"
#include "base/timer.h"
#include "broker/auth.h"
#include "proto/nats_write.h"

struct mp_session;

struct mp_session_counters { /* of all sessions; owned by the broker */
    uint64_t messages_in, bytes_in, messages_out, bytes_out;
    uint64_t protocol_errors, auth_failures, slow_consumers, denied, stale;
    uint64_t sessions,
        output_bytes; /* now: how many, and what their peers did not take */
    bool held_back;   /* one was refused room for lack of it in all */
};

struct mp_session_host {
    struct mp_bus *bus;
    struct mp_timers *timers; /* ms of the broker's monotonic time */
    struct mp_logger *logger;
    const struct mp_server_info *info;
    struct mp_session_counters *counters;
    uint64_t output_max; /* backlog at which a slow reader is closed; above it
                          * for all together: at its part of it */
    /* Decide, now or later, by mp_session_verdict (never inside a freed session: the
     * host forgets it at `down`). */
    void (*authenticate)(void *ctx, struct mp_session *s,
                         const struct mp_credentials *c);
    void (*up)(void *ctx, struct mp_session *s);         /* authenticated */
    void (*down)(void *ctx, struct mp_session *s);       /* is being freed; up or not */
    void (*wants_turn)(void *ctx, struct mp_session *s); /* input waits */
    void (*wants_flush)(void *ctx, struct mp_session *s); /* output waits */
    void (*has_room)(void *ctx); /* a client that was asked and had none has it now */
    uint64_t (*now_ms)(void *ctx);
    void *ctx;
};

/* Where output goes. write borrows until it returns. close: the session is done, say
 * why to nobody; what was written before must still reach the peer. After close the
 * owner calls mp_session_free (not inside the callback). */
struct mp_session_pipe {
    void (*write)(void *ctx, const memphis_slice *v, size_t n);
    void (*close)(void *ctx, const char *why);
    void *ctx;
};

/* Sends INFO at its first flush. `peer` is an address for INFO and logs; `user` not
 * NULL: the embedder vouches for him (CONNECT's credentials are not looked at). */
struct mp_session *mp_session_new(const struct mp_session_host *h,
                                  const struct mp_session_pipe *p, const char *peer,
                                  const char *user);
void mp_session_free(struct mp_session *s); /* NULL-safe; ends its subscriptions */

/* Queues bytes. FULL: more than the session may hold; feed again after a turn (what
 * did fit was not taken either; pieces of up to 512 KiB fit in the end). CLOSED: it is
 * closing, perhaps because more than MP_AUTH_HELD_INPUT_MAX came before the verdict.
 * No bytes: the peer sends no more; the session closes when it has heard the rest. */
memphis_status mp_session_feed(struct mp_session *s, const void *bytes, size_t size);
/* What feed would say to that many bytes before it takes them. */
memphis_status mp_session_accepts(const struct mp_session *s, size_t size);
/* Applies queued input, at most about `bytes_max` and `*operations` (reduced by what
 * was used). Returns the bytes consumed; mp_session_has_input says whether more is
 * there that could be applied now. */
size_t mp_session_work(struct mp_session *s, size_t bytes_max, uint32_t *operations);
bool mp_session_has_input(const struct mp_session *s);
void mp_session_flush(struct mp_session *s);                 /* one write to the pipe */
void mp_session_drained(struct mp_session *s, size_t bytes); /* the peer took them */
void mp_session_verdict(struct mp_session *s, bool accepted, const char *user);
/* What its user may do from now on (NULL: everything); takes it over. Subscriptions
 * that he may not have any more end. */
struct mp_grants;
void mp_session_permit(struct mp_session *s, struct mp_grants *grants);

/* INFO again, as the host's `info` is now, for clients who take that at any time. */
void mp_session_send_info(struct mp_session *s);

struct mp_client *mp_session_client(struct mp_session *s);
void mp_session_set_ctx(struct mp_session *s, void *ctx); /* the host's own pointer */
void *mp_session_ctx(const struct mp_session *s);
/* -ERR with that text (NULL: none), then the end. */
void mp_session_close(struct mp_session *s, const char *error);

#endif
