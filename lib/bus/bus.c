/* Publish and subscribe. Results of a lookup are kept in a small cache by subject; it
 * is out of date after any change of interest but in inboxes, which it never holds.
 * While messages are being delivered, what is removed is only marked and freed at the
 * end. */
#include "bus/bus.h"

#include "base/assert.h"
#include "base/limits.h"
#include "base/mem.h"
#include "bus/interest.h"

#include <stdlib.h>

enum {
    CACHE_SLOTS = 1024,
    SUBJECT_CACHED_MAX = 256,
    TOKENS_FREE = 12 /* no SDK subscribes to more */
};

struct mp_service {
    mp_service_fn fn; /* NULL: removed, memory goes after the delivery */
    void *ctx;
    struct mp_interest_node *node;
    struct mp_service *next_dead;
    uint32_t flags;
    uint64_t order; /* of registration */
};

/* Who gets what is published on one subject. Plain subscribers first; members of a
 * queue group stand together behind them. */
struct route {
    struct mp_service *service;
    struct mp_matches subs;
    size_t plain;
};

struct cache_slot {
    uint64_t hash, generation; /* generation 0: empty */
    uint32_t subject_size;
    char *subject; /* room for SUBJECT_CACHED_MAX once used */
    struct route route;
};

struct mp_bus {
    struct mp_interest services, clients;
    uint64_t key[2];
    uint64_t generation; /* of interest outside inboxes */
    uint64_t next_client, next_service, next_subscription;
    struct cache_slot *cache;
    struct mp_matches probe;           /* of questions, which deliver nothing */
    struct route scratch;              /* of lookups that are not cached */
    bool scratch_taken;                /* a delivery further out uses it */
    uint32_t delivering;               /* depth */
    struct mp_subscription *dead_subs; /* chained by ctx */
    struct mp_service *dead_services;
    void (*watch)(void *ctx, memphis_slice pattern);
    void *watch_ctx;
};

/* === Life === */

struct mp_bus *mp_bus_new(uint64_t seed)
{
    struct mp_bus *b = mp_alloc(sizeof(*b));

    b->key[0] = seed;
    b->key[1] = seed ^ 0x9e3779b97f4a7c15u;
    b->generation = 1;
    mp_interest_init(&b->services, b->key[1], b->key[0]);
    mp_interest_init(&b->clients, b->key[1], b->key[0]);
    b->cache = mp_realloc(NULL, CACHE_SLOTS * sizeof(*b->cache));
    memset(b->cache, 0, CACHE_SLOTS * sizeof(*b->cache));
    return b;
}

void mp_bus_free(struct mp_bus *b)
{
    if (b == NULL)
        return;
    mp_assert(b->delivering == 0);
    for (int i = 0; i < CACHE_SLOTS; i++) {
        mp_free(b->cache[i].subject);
        mp_matches_fini(&b->cache[i].route.subs);
    }
    mp_free(b->cache);
    mp_matches_fini(&b->scratch.subs);
    mp_matches_fini(&b->probe);
    mp_interest_fini(&b->services);
    mp_interest_fini(&b->clients);
    mp_free(b);
}

void mp_bus_join(struct mp_bus *b, struct mp_client *c)
{
    mp_assert(c->deliver != NULL && mp_list_is_empty(&c->subscriptions));
    c->id = ++b->next_client;
    mp_list_init(&c->subscriptions);
    c->subscriptions_cost = 0;
}

void mp_bus_leave(struct mp_bus *b, struct mp_client *c)
{
    while (!mp_list_is_empty(&c->subscriptions))
        mp_bus_unsubscribe(b, mp_container_of(c->subscriptions.next,
                                              struct mp_subscription, of_client));
}

/* === Interest === */

static bool is_inbox(memphis_slice s)
{
    return s.size > 7 && memcmp(s.data, "_INBOX.", 7) == 0;
}

static bool is_cached(memphis_slice s)
{
    return s.size <= SUBJECT_CACHED_MAX && !is_inbox(s) &&
           !(s.size > 8 && memcmp(s.data, "$JS.ACK.", 8) == 0);
}

static void interest_changed(struct mp_bus *b, memphis_slice pattern)
{
    if (!is_inbox(pattern))
        b->generation++;
}

memphis_status mp_bus_subscribe(struct mp_bus *b, struct mp_client *c,
                                memphis_slice subject, memphis_slice queue,
                                struct mp_subscription **out)
{
    struct mp_subscription *s;
    uint32_t tokens, cost;

    if (!mp_subject_is_valid(subject) ||
        (tokens = mp_subject_tokens(subject)) > MP_SUBJECT_TOKENS_MAX)
        return MEMPHIS_INVALID;
    cost = 1 + tokens / TOKENS_FREE;
    if (c->subscriptions_cost + cost > MP_SUBSCRIPTIONS_MAX)
        return MEMPHIS_FULL;
    s = mp_alloc(sizeof(*s));
    s->cost = cost;
    s->client = c;
    s->order = b->next_subscription++;
    s->subject = mp_strndup(subject.data, subject.size);
    s->subject_size = (uint32_t)subject.size;
    if (queue.size > 0) {
        s->queue = mp_strndup(queue.data, queue.size);
        s->queue_size = (uint32_t)queue.size;
    }
    s->node = mp_interest_add(&b->clients, subject, s);
    mp_list_push_back(&c->subscriptions, &s->of_client);
    c->subscriptions_cost += cost;
    interest_changed(b, subject);
    *out = s;
    if (b->watch != NULL)
        b->watch(b->watch_ctx, subject);
    return MEMPHIS_OK;
}

void mp_bus_watch(struct mp_bus *b, void (*fn)(void *ctx, memphis_slice pattern),
                  void *ctx)
{
    b->watch = fn;
    b->watch_ctx = ctx;
}

static void subscription_free(struct mp_subscription *s)
{
    mp_free(s->subject);
    mp_free(s->queue);
    mp_free(s);
}

void mp_bus_unsubscribe(struct mp_bus *b, struct mp_subscription *s)
{
    mp_assert(s->client != NULL && s->client->subscriptions_cost >= s->cost);
    mp_list_remove(&s->of_client);
    s->client->subscriptions_cost -= s->cost;
    s->client = NULL; /* a delivery under way skips it */
    mp_interest_remove(&b->clients, s->node, s);
    interest_changed(b, mp_slice(s->subject, s->subject_size));
    if (b->delivering == 0) {
        subscription_free(s);
    } else {
        s->ctx = b->dead_subs;
        b->dead_subs = s;
    }
}

struct mp_service *mp_bus_serve(struct mp_bus *b, memphis_slice pattern, uint32_t flags,
                                mp_service_fn fn, void *ctx)
{
    struct mp_service *s = mp_alloc(sizeof(*s));

    mp_assert(mp_subject_is_valid(pattern) && fn != NULL);
    s->fn = fn;
    s->ctx = ctx;
    s->flags = flags;
    s->order = b->next_service++;
    if (flags & MP_SERVICE_LAST)
        s->order |= 1ull << 63;
    s->node = mp_interest_add(&b->services, pattern, s);
    b->generation++;
    return s;
}

void mp_bus_unserve(struct mp_bus *b, struct mp_service *s)
{
    if (s == NULL)
        return;
    mp_interest_remove(&b->services, s->node, s);
    b->generation++;
    s->fn = NULL;
    if (b->delivering == 0) {
        mp_free(s);
    } else {
        s->next_dead = b->dead_services;
        b->dead_services = s;
    }
}

/* === Routes === */

static bool same_queue(const struct mp_subscription *a, const struct mp_subscription *b)
{
    return a->queue != NULL && b->queue != NULL && a->queue_size == b->queue_size &&
           memcmp(a->queue, b->queue, a->queue_size) == 0;
}

static void swap(void **a, void **b)
{
    void *t = *a;

    *a = *b;
    *b = t;
}

static int by_queue(const void *a, const void *b)
{
    const struct mp_subscription *x = *(void *const *)a, *y = *(void *const *)b;
    int difference = mp_slice_compare(mp_slice(x->queue, x->queue_size),
                                      mp_slice(y->queue, y->queue_size));

    return difference != 0 ? difference : x->order < y->order ? -1 : 1;
}

/* Plain ones to the front, then group after group. A client may belong to thousands of
 * groups, so they are sorted and not searched for. */
static void arrange(struct route *r)
{
    struct mp_subscription **s = (struct mp_subscription **)(void *)r->subs.items;
    size_t n = r->subs.count;

    r->plain = 0;
    for (size_t i = 0; i < n; i++)
        if (s[i]->queue == NULL)
            swap(&r->subs.items[r->plain++], &r->subs.items[i]);
    if (n - r->plain > 1)
        qsort(&r->subs.items[r->plain], n - r->plain, sizeof(void *), by_queue);
}

static void find_service(struct mp_bus *b, memphis_slice subject, struct route *r)
{
    r->subs.count = 0;
    mp_interest_match(&b->services, subject, &r->subs);
    r->service = NULL;
    for (size_t i = 0; i < r->subs.count; i++) {
        struct mp_service *s = r->subs.items[i];

        if (r->service == NULL || s->order < r->service->order)
            r->service = s;
    }
    r->subs.count = 0;
}

static void find_clients(struct mp_bus *b, memphis_slice subject, struct route *r)
{
    r->subs.count = 0;
    mp_interest_match(&b->clients, subject, &r->subs);
    arrange(r);
}

static struct route *route_cached(struct mp_bus *b, memphis_slice subject)
{
    uint64_t hash = mp_siphash(b->key, subject.data, subject.size);
    struct cache_slot *c = &b->cache[hash & (CACHE_SLOTS - 1)];

    if (c->generation == b->generation && c->hash == hash &&
        c->subject_size == subject.size &&
        memcmp(c->subject, subject.data, subject.size) == 0)
        return &c->route;
    if (c->subject == NULL)
        c->subject = mp_realloc(NULL, SUBJECT_CACHED_MAX);
    memcpy(c->subject, subject.data, subject.size);
    c->subject_size = (uint32_t)subject.size;
    c->hash = hash;
    c->generation = b->generation;
    find_service(b, subject, &c->route);
    find_clients(b, subject, &c->route);
    return &c->route;
}

/* === Delivery === */

static void bury(struct mp_bus *b)
{
    struct mp_subscription *s = b->dead_subs;
    struct mp_service *v = b->dead_services;

    b->dead_subs = NULL;
    b->dead_services = NULL;
    while (s != NULL) {
        struct mp_subscription *next = s->ctx;

        subscription_free(s);
        s = next;
    }
    while (v != NULL) {
        struct mp_service *next = v->next_dead;

        mp_free(v);
        v = next;
    }
}

static bool may_hear(struct mp_client *c, memphis_slice heard_as)
{
    return heard_as.size == 0 || c->may_hear == NULL || c->may_hear(c, heard_as);
}

static bool takes(const struct mp_subscription *s, const struct mp_client *from,
                  const struct mp_message *m)
{
    return s->client != NULL && !(s->client == from && from->no_echo) &&
           may_hear(s->client, m->heard_as);
}

static bool has_room(const struct mp_subscription *s, const struct mp_message *m)
{
    struct mp_client *c = s->client;

    return c->has_room == NULL || c->has_room(c, m->headers.size + m->payload.size);
}

/* One member of the group items[from..to), in turn, of those that have room when some
 * have; false: none takes it. Each group counts for itself: with one counter for all,
 * two groups of two that hear the same messages would always choose the same members.
 */
static bool to_one(void **items, size_t from, size_t to, struct mp_client *sender,
                   const struct mp_message *m)
{
    struct mp_subscription *counts = items[from], *chosen = NULL;
    size_t n = to - from, first = (size_t)(counts->turn++ % n);

    for (size_t i = 0; i < n; i++) {
        struct mp_subscription *s = items[from + (first + i) % n];

        if (!takes(s, sender, m))
            continue;
        if (chosen == NULL)
            chosen = s;
        if (n == 1 || has_room(s, m)) {
            chosen = s;
            break;
        }
    }
    if (chosen != NULL)
        chosen->client->deliver(chosen->client, chosen, m);
    return chosen != NULL;
}

/* The items are a private copy when more than one: deliver() may change the route. */
static uint32_t to_all(void **items, size_t count, size_t plain, struct mp_client *from,
                       const struct mp_message *m)
{
    uint32_t taken = 0;
    size_t i, end;

    for (i = 0; i < plain; i++) {
        struct mp_subscription *s = items[i];

        if (takes(s, from, m)) {
            s->client->deliver(s->client, s, m);
            taken++;
        }
    }
    for (i = plain; i < count; i = end) {
        for (end = i + 1; end < count && same_queue(items[i], items[end]); end++)
            ;
        taken += to_one(items, i, end, from, m);
    }
    return taken;
}

static uint32_t fan_out(struct mp_bus *b, const struct route *r, struct mp_client *from,
                        const struct mp_message *m)
{
    void *few[16];
    void **copy = few;
    size_t count = r->subs.count, plain = r->plain;
    uint32_t taken;

    if (count == 0)
        return 0;
    if (count > 16)
        copy = mp_realloc(NULL, count * sizeof(*copy));
    memcpy(copy, r->subs.items, count * sizeof(*copy));
    b->delivering++;
    taken = to_all(copy, count, plain, from, m);
    if (--b->delivering == 0 && (b->dead_subs != NULL || b->dead_services != NULL))
        bury(b);
    if (copy != few)
        mp_free(copy);
    return taken;
}

static bool serve(struct mp_bus *b, struct mp_service *s, struct mp_client *from,
                  const struct mp_message *m)
{
    bool taken;

    b->delivering++;
    taken = s->fn(s->ctx, from, m);
    if (--b->delivering == 0 && (b->dead_subs != NULL || b->dead_services != NULL))
        bury(b);
    return taken;
}

/* Ordinary subscribers hear at once what a service with a tap takes. One of them may
 * end the service. */
static uint32_t serve_tapped(struct mp_bus *b, const struct route *r,
                             struct mp_client *from, const struct mp_message *m)
{
    struct mp_service *s = r->service; /* the route may change meanwhile */
    uint32_t taken;

    b->delivering++;
    taken = fan_out(b, r, from, m);
    taken += s->fn != NULL && s->fn(s->ctx, from, m);
    if (--b->delivering == 0)
        bury(b);
    return taken;
}

static uint32_t publish_on(struct mp_bus *b, const struct route *r,
                           struct mp_client *from, const struct mp_message *m)
{
    if (r->service == NULL)
        return fan_out(b, r, from, m);
    if (r->subs.count > 0 && (r->service->flags & MP_SERVICE_TAP) != 0)
        return serve_tapped(b, r, from, m);
    return serve(b, r->service, from, m);
}

static uint32_t publish_uncached(struct mp_bus *b, struct mp_client *from,
                                 const struct mp_message *m)
{
    struct route r = { 0 };
    struct route *used = b->scratch_taken ? &r : &b->scratch;
    uint32_t taken;

    b->scratch_taken = true;
    find_service(b, m->subject, used);
    if (used->service == NULL || (used->service->flags & MP_SERVICE_TAP) != 0)
        find_clients(b, m->subject, used);
    taken = publish_on(b, used, from, m);
    if (used == &r)
        mp_matches_fini(&r.subs);
    else
        b->scratch_taken = false;
    return taken;
}

uint32_t mp_bus_publish(struct mp_bus *b, struct mp_client *from,
                        const struct mp_message *m)
{
    if (!is_cached(m->subject))
        return publish_uncached(b, from, m);
    return publish_on(b, route_cached(b, m->subject), from, m);
}

uint32_t mp_bus_deliver(struct mp_bus *b, memphis_slice to, const struct mp_message *m)
{
    struct route r = { 0 };
    struct route *used;
    uint32_t taken;

    if (is_cached(to))
        return fan_out(b, route_cached(b, to), NULL, m);
    used = b->scratch_taken ? &r : &b->scratch;
    b->scratch_taken = true;
    find_clients(b, to, used);
    taken = fan_out(b, used, NULL, m);
    if (used == &r)
        mp_matches_fini(&r.subs);
    else
        b->scratch_taken = false;
    return taken;
}

static struct mp_subscription *interest_of(struct mp_bus *b, struct mp_client *c,
                                           memphis_slice subject)
{
    struct mp_subscription *found = NULL;

    b->probe.count = 0;
    mp_interest_match(&b->clients, subject, &b->probe);
    for (size_t i = 0; i < b->probe.count && found == NULL; i++) {
        struct mp_subscription *s = b->probe.items[i];

        if (c == NULL || s->client == c)
            found = s;
    }
    return found;
}

bool mp_bus_has_interest(struct mp_bus *b, memphis_slice subject)
{
    return interest_of(b, NULL, subject) != NULL;
}

enum mp_bus_reach mp_bus_reach(struct mp_bus *b, memphis_slice subject,
                               memphis_slice heard_as, size_t size)
{
    enum mp_bus_reach reach = MP_BUS_NOBODY;

    b->probe.count = 0;
    mp_interest_match(&b->clients, subject, &b->probe);
    for (size_t i = 0; i < b->probe.count; i++) {
        struct mp_client *c = ((struct mp_subscription *)b->probe.items[i])->client;

        if (!may_hear(c, heard_as))
            continue;
        if (c->has_room == NULL || c->has_room(c, size))
            return MP_BUS_READY;
        reach = MP_BUS_BUSY;
    }
    return reach;
}

struct mp_subscription *mp_bus_own_interest(struct mp_bus *b, struct mp_client *c,
                                            memphis_slice subject)
{
    mp_assert(c != NULL);
    return interest_of(b, c, subject);
}

/* === Headers === */

memphis_slice mp_header_find(memphis_slice headers, const char *key)
{
    size_t size = strlen(key);

    if (headers.size == 0)
        return (memphis_slice){ 0 };
    const char *p = headers.data, *end = p + headers.size;
    while (p < end) {
        const char *eol = memchr(p, '\n', (size_t)(end - p));
        const char *stop = eol != NULL ? eol : end;
        const char *next = eol != NULL ? eol + 1 : end;

        if ((size_t)(stop - p) > size && p[size] == ':' && memcmp(p, key, size) == 0) {
            p += size + 1;
            while (p < stop && *p == ' ')
                p++;
            if (stop > p && stop[-1] == '\r')
                stop--;
            return mp_slice(p, (size_t)(stop - p));
        }
        p = next;
    }
    return (memphis_slice){ 0 };
}
