/* broker/peer.h -- where logins come from: who failed how often, and who waits.
 *
 * An address is an IPv4 address or the /64 of an IPv6 one, as whoever has one address
 * of a /64 has them all. After ten failures in a minute it is suspect: each further one
 * makes its next login wait a second longer, ten at most. What is held is kept; of
 * others that failed the last 1,024.
 *
 * Thread: core. Used by auth.c alone.
 */
#ifndef MP_BROKER_PEER_H
#define MP_BROKER_PEER_H

#include "base/list.h"
#include "base/map.h"
#include "base/timer.h"

enum { MP_PEER_KEY_MAX = 64 };

struct mp_peer {
    struct mp_list checks; /* auth.c's: logins that wait, in their order */
    struct mp_list turn;   /* linked: the first of them may be judged */
    struct mp_timer pause; /* set: they wait for the end of the pause */
    uint64_t pause_ends_ms;
    bool is_full_logged;
    /* -- peer.c's -- */
    uint32_t held;
    uint32_t failures; /* since `since_ms` */
    uint64_t since_ms;
    struct mp_list idle;
    char key[MP_PEER_KEY_MAX]; /* "": from no network, and never suspect */
};

struct mp_peers {
    struct mp_map map;
    struct mp_list idle; /* nobody holds them; the latest last */
    uint32_t idle_count;
};

void mp_peers_init(struct mp_peers *ps);
void mp_peers_fini(struct mp_peers *ps); /* nobody holds one any more */

/* The peer of an address as text; "local" or NULL: no network. Once more held. */
struct mp_peer *mp_peers_hold(struct mp_peers *ps, const char *address);
void mp_peers_release(struct mp_peers *ps, struct mp_peer *p);

/* Another failure; sets the end of its pause. */
void mp_peer_failed(struct mp_peer *p, uint64_t now_ms);
bool mp_peer_is_suspect(const struct mp_peer *p, uint64_t now_ms);

#endif
