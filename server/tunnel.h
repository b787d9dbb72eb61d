/* server/tunnel.h -- the I/O thread: each TLS connection is a tunnel through it.
 *
 *            socket                        socketpair
 *   client ==(TLS)== [ I/O thread: tunnel ] --(plain)-- conn.c -- session     (core)
 *
 * A handshake costs more than a millisecond, and records cost what they cost: none of
 * it runs on the core. For the core a TLS connection is a plain one whose peer is the
 * tunnel; that reading pauses when the session is FULL, that slow readers are noticed,
 * that a peer stops half way or is lost, works as for any socket. The threads share
 * nothing but descriptors, a pipe of commands and counters.
 *
 * The life of a tunnel (enum stage in tunnel.c): on the SDKs' port INFO goes out in
 * clear; then the client's first byte is waited for: one that does not speak TLS is
 * told so in clear and closed; one that does shakes hands, within HANDSHAKE_S, and at
 * most HANDSHAKES_MAX at a time (the others wait for their turn). Of handshakes one
 * step is done per round of the loop, so that those who are connected do not wait for
 * a crowd that comes.
 */
#ifndef MEMPHISD_TUNNEL_H
#define MEMPHISD_TUNNEL_H

#include <stdatomic.h>
#include <stdint.h>

struct server;

struct tunnel_counters {
    _Atomic uint64_t opened, failed, late, plain; /* handshakes; without TLS */
};

/* Reads the certificates: 0, or 1 after a sentence on stderr. Nothing without TLS. */
int tunnels_start(struct server *s);
/* Behind conn_close_all: last words have a moment to go out. */
void tunnels_stop(struct server *s);
/* Certificates are read anew, on the I/O thread; bad ones change nothing. Connections
 * go on with what they began with. */
void tunnels_reload(struct server *s);

/* Takes the socket, of one door, over. The core's end of it, or -1. */
int tunnel_open(struct server *s, int door, int fd, const char *peer);

const struct tunnel_counters *tunnels_counters(const struct server *s);

#endif
