/* server/tls.h -- TLS as a machine between bytes and bytes: no socket, no thread.
 *
 *   from the peer --- tls_feed --> [ handshake, then records ] --> plain()
 *   to the peer <---- cipher() <-- [                         ] <-- tls_write
 *
 * A context holds what all connections share: certificate, key, the authority of the
 * clients, random numbers, the keys of session tickets. It never changes: new files are
 * a new context, with new ticket keys, so that nobody comes back by a ticket of the old
 * one. A connection keeps its context alive.
 *
 * TLS 1.2 at least, no renegotiation, tickets (a client that comes back saves both
 * sides the costly part of the handshake).
 *
 * One file knows the library behind it: tls_mbedtls.c, or tls_openssl.c when memphisd
 * is made with TLS=openssl.
 *
 * Thread: a context and its connections belong to one thread at a time.
 */
#ifndef MEMPHISD_TLS_H
#define MEMPHISD_TLS_H

#include <stdbool.h>
#include <stddef.h>

struct tls_files {
    const char *cert; /* the server's chain */
    const char *key;
    const char *ca; /* of clients; "": they are not asked for certificates */
    bool verify;    /* each must have one; else: who shows one must be of the CA */
};

enum { TLS_TEXT_MAX = 512 };

struct tls_context;

/* NULL: the files are no good, and `text` is a sentence. Else `text` is "" or something
 * to warn of. */
struct tls_context *tls_context_new(const struct tls_files *files,
                                    char text[TLS_TEXT_MAX]);
void tls_context_free(struct tls_context *x); /* NULL-safe; its connections go on */

struct tls_pipe {
    /* What the peer has said; inside tls_feed only. */
    void (*plain)(void *ctx, const void *bytes, size_t size);
    /* For the peer; all of it is taken. Neither may call the machine. */
    void (*cipher)(void *ctx, const void *bytes, size_t size);
    void *ctx;
};

struct tls;

enum tls_status { TLS_GOES_ON, TLS_ENDED, TLS_FAILED };

/* NULL: no memory. */
struct tls *tls_new(struct tls_context *x, const struct tls_pipe *pipe);
void tls_free(struct tls *t); /* NULL-safe */

/* Takes all bytes. ENDED: the peer says no more. FAILED: tls_why says why in a few
 * words; what cipher() was given then tells the peer. */
enum tls_status tls_feed(struct tls *t, const void *bytes, size_t size);
bool tls_is_open(const struct tls *t); /* the handshake is done */
/* Only when it is open. False: no memory; some of it is lost, and so the connection. */
bool tls_write(struct tls *t, const void *bytes, size_t size);
void tls_close(struct tls *t); /* tells the peer that nothing follows */
const char *tls_why(const struct tls *t);

#endif
