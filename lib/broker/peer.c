#include "broker/peer.h"

#include "base/assert.h"
#include "base/mem.h"
#include "base/str.h"

#include <arpa/inet.h>
#include <string.h>

enum { FAILURES_FREE = 10, PAUSE_MAX_S = 10, WINDOW_MS = 60000, IDLE_MAX = 1024 };

/* IPv4 also as ::ffff:1.2.3.4; of a link-local "fe80::1%eth0" the address counts. What
 * is no address is its own key. */
static void make_key(const char *address, char key[MP_PEER_KEY_MAX])
{
    static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
    uint8_t bytes[16];

    key[0] = 0;
    if (address == NULL || strcmp(address, "local") == 0)
        return;
    mp_format(key, MP_PEER_KEY_MAX, "%.*s", (int)strcspn(address, "%"), address);
    if (inet_pton(AF_INET6, key, bytes) != 1)
        return;
    if (memcmp(bytes, mapped, sizeof mapped) == 0) {
        (void)inet_ntop(AF_INET, bytes + sizeof mapped, key, MP_PEER_KEY_MAX);
        return;
    }
    memset(bytes + 8, 0, 8);
    (void)inet_ntop(AF_INET6, bytes, key, MP_PEER_KEY_MAX);
}

void mp_peers_init(struct mp_peers *ps)
{
    *ps = (struct mp_peers){ 0 };
    mp_list_init(&ps->idle);
}

static void forget(struct mp_peers *ps, struct mp_peer *p)
{
    if (mp_list_is_linked(&p->idle)) {
        mp_list_remove(&p->idle);
        ps->idle_count--;
    }
    mp_map_remove(&ps->map, mp_slice_text(p->key));
    mp_free(p);
}

void mp_peers_fini(struct mp_peers *ps)
{
    while (!mp_list_is_empty(&ps->idle))
        forget(ps, mp_container_of(ps->idle.next, struct mp_peer, idle));
    mp_assert(ps->map.count == 0);
    mp_map_fini(&ps->map);
}

struct mp_peer *mp_peers_hold(struct mp_peers *ps, const char *address)
{
    char key[MP_PEER_KEY_MAX];

    make_key(address, key);
    struct mp_peer *p = mp_map_find(&ps->map, mp_slice_text(key));
    if (p == NULL) {
        p = mp_alloc(sizeof *p);
        mp_list_init(&p->checks);
        memcpy(p->key, key, strlen(key)); /* the rest is zero */
        mp_map_put(&ps->map, mp_slice_text(p->key), p);
    }
    if (mp_list_is_linked(&p->idle)) {
        mp_list_remove(&p->idle);
        ps->idle_count--;
    }
    p->held++;
    return p;
}

void mp_peers_release(struct mp_peers *ps, struct mp_peer *p)
{
    mp_assert(p->held > 0);
    if (--p->held > 0)
        return;
    p->is_full_logged = false;
    if (p->failures == 0) {
        forget(ps, p);
        return;
    }
    mp_list_push_back(&ps->idle, &p->idle);
    if (++ps->idle_count > IDLE_MAX)
        forget(ps, mp_container_of(ps->idle.next, struct mp_peer, idle));
}

void mp_peer_failed(struct mp_peer *p, uint64_t now_ms)
{
    if (p->key[0] == 0)
        return;
    if (p->failures == 0 || now_ms - p->since_ms >= WINDOW_MS) {
        p->failures = 0;
        p->since_ms = now_ms;
    }
    p->failures++;
    if (p->failures < FAILURES_FREE)
        return;
    uint32_t more = p->failures - FAILURES_FREE + 1;
    uint64_t pause_s = more < PAUSE_MAX_S ? more : PAUSE_MAX_S;
    p->pause_ends_ms = now_ms + pause_s * 1000;
}

bool mp_peer_is_suspect(const struct mp_peer *p, uint64_t now_ms)
{
    return p->failures >= FAILURES_FREE && now_ms - p->since_ms < WINDOW_MS;
}
