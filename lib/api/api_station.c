/* Stations and producers. */
#include "api/api.h"

#include "api/handles.h"
#include "base/assert.h"
#include "base/status.h"
#include "base/str.h"
#include "broker/client.h"
#include "proto/sdk.h"

#include <unistd.h>

/* === Stations === */

struct station_call {
    struct api_call call;
    struct mp_station_settings settings;
    bool create, must_be_new;
    char folded[MP_NAME_MAX + 1];
    uint32_t partitions;
};

static void on_station(void *ctx, memphis_status st, const char *text)
{
    struct station_call *c = ctx;
    struct mp_broker *core = c->call.b->core;
    struct mp_station *s = mp_station_find(core, mp_slice_text(c->folded));

    if (st == MEMPHIS_EXISTS && !c->must_be_new)
        st = MEMPHIS_OK;
    else if (st == MEMPHIS_EXISTS)
        text = "the station exists already";
    if (st == MEMPHIS_OK && s == NULL) {
        st = MEMPHIS_NOT_FOUND;
        text = "the station was removed meanwhile";
    }
    if (st == MEMPHIS_OK)
        c->partitions = s->settings.partitions;
    api_finish(&c->call, st, text);
}

static void run_station(struct api_call *call)
{
    struct station_call *c = (struct station_call *)(void *)call;
    struct mp_then then = { on_station, c };
    memphis_error err = { 0 };
    memphis_status st;

    if (!c->create) {
        mp_station_ensure(call->b->core, c->folded, false, "", then);
        return;
    }
    st = mp_station_settings_check(&c->settings, c->folded, &err);
    if (st != MEMPHIS_OK)
        api_finish(call, st, err.message);
    else
        mp_station_create(call->b->core, c->folded, &c->settings, "", then);
}

static memphis_status settings_of(const memphis_station_options *o,
                                  struct mp_station_settings *s, memphis_error *err)
{
    static const uint32_t kinds[] = { MP_RETAIN_AGE, MP_RETAIN_MESSAGES,
                                      MP_RETAIN_BYTES, MP_RETAIN_ACKED };

    mp_station_settings_default(s);
    if (o == NULL)
        return MEMPHIS_OK;
    if (!api_reserved_is_zero(o->reserved, 8))
        return mp_fail(err, MEMPHIS_INVALID,
                       "the reserved words of memphis_station_options must be zero");
    if (o->retention > MEMPHIS_RETAIN_UNTIL_ACKED)
        return mp_fail(err, MEMPHIS_INVALID, "there is no such retention");
    s->partitions = o->partitions ? o->partitions : 1;
    s->replicas = o->replicas ? o->replicas : 1;
    s->retention = kinds[o->retention];
    s->retention_value = o->retention_value;
    s->idempotency_ms = o->idempotency_ms ? o->idempotency_ms : s->idempotency_ms;
    s->storage = o->memory_storage ? MP_STORAGE_MEMORY : MP_STORAGE_FILE;
    return MEMPHIS_OK;
}

static memphis_station *station_handle(memphis_broker *b, const char *name,
                                       uint32_t partitions)
{
    memphis_station *s = b->heap.hooks.alloc(b->heap.hooks.ctx, sizeof(*s));

    if (s == NULL)
        return NULL;
    memset(s, 0, sizeof(*s));
    s->b = api_ref(b);
    s->refs = 1;
    s->partitions = partitions;
    mp_format(s->name, sizeof(s->name), "%s", name);
    return s;
}

memphis_status api_fold_name(const char *name, const char *object,
                             char out[MP_NAME_MAX + 1], memphis_error *err)
{
    size_t size = name != NULL ? strlen(name) : 0;
    memphis_status st;

    if (size > MP_NAME_MAX)
        return mp_fail(err, MEMPHIS_INVALID, "%s should be under 128 characters",
                       object);
    if (size > 0)
        memcpy(out, name, size);
    out[size] = 0;
    mp_fold_lower(out, size);
    st = mp_name_check(mp_slice(out, size), object, err);
    return st;
}

static memphis_status station_common(memphis_broker *b, const char *name,
                                     const memphis_station_options *o, bool create,
                                     memphis_station **out, memphis_error *err)
{
    struct station_call *c;
    struct mp_station_settings settings;
    char folded[MP_NAME_MAX + 1];
    memphis_status st;

    if (b == NULL || out == NULL)
        return mp_fail(err, MEMPHIS_INVALID, "a station needs a broker and an output");
    st = api_fold_name(name, "Station", folded, err);
    if (st == MEMPHIS_OK)
        st = settings_of(o, &settings, err);
    if (st == MEMPHIS_OK)
        st = api_usable(b, err);
    if (st != MEMPHIS_OK)
        return st;
    c = api_call_new(b, sizeof(*c), run_station);
    if (c == NULL)
        return mp_fail(err, MEMPHIS_NOMEM, "no memory");
    c->create = create;
    c->must_be_new = o != NULL && o->must_be_new;
    c->settings = settings;
    memcpy(c->folded, folded, sizeof(folded));
    st = api_run(&c->call, api_default_wait(b), err);
    if (st == MEMPHIS_OK) {
        *out = station_handle(b, folded, c->partitions);
        if (*out == NULL)
            st = mp_fail(err, MEMPHIS_NOMEM, "no memory");
    }
    api_call_unref(&c->call);
    return st;
}

memphis_status memphis_station_create(memphis_broker *b, const char *name,
                                      const memphis_station_options *o,
                                      memphis_station **out, memphis_error *err)
{
    return station_common(b, name, o, true, out, err);
}

memphis_status memphis_station_open(memphis_broker *b, const char *name,
                                    memphis_station **out, memphis_error *err)
{
    return station_common(b, name, NULL, false, out, err);
}

const char *memphis_station_name(const memphis_station *s)
{
    return s->name;
}

uint32_t memphis_station_partitions(const memphis_station *s)
{
    return s->partitions;
}

struct named_call {
    struct api_call call;
    memphis_station *s;
    uint32_t partition; /* a purge's */
};

static void on_done(void *ctx, memphis_status st, const char *text)
{
    struct named_call *c = ctx;

    api_finish(&c->call, st, text);
}

static void run_drop(struct api_call *call)
{
    struct named_call *c = (struct named_call *)(void *)call;
    struct mp_station *s = mp_station_find(call->b->core, mp_slice_text(c->s->name));

    api_produces_let_in(call->b);
    if (s == NULL)
        api_finish(call, MEMPHIS_NOT_FOUND, "the station does not exist any more");
    else
        mp_station_drop(call->b->core, s, "", (struct mp_then){ on_done, c });
}

static void run_purge(struct api_call *call)
{
    struct named_call *c = (struct named_call *)(void *)call;
    struct mp_station *s = mp_station_find(call->b->core, mp_slice_text(c->s->name));

    api_produces_let_in(call->b);
    if (s == NULL || !mp_station_is_ready(s))
        api_finish(call, MEMPHIS_NOT_FOUND, "the station does not exist any more");
    else
        mp_station_purge(s, c->partition, (struct mp_then){ on_done, c });
}

static memphis_status call_station(memphis_station *s, uint32_t partition,
                                   void (*run)(struct api_call *call),
                                   memphis_error *err)
{
    struct named_call *c;
    memphis_status st;

    if (s == NULL)
        return mp_fail(err, MEMPHIS_INVALID, "no station");
    st = api_usable(s->b, err);
    if (st != MEMPHIS_OK)
        return st;
    c = api_call_new(s->b, sizeof(*c), run);
    if (c == NULL)
        return mp_fail(err, MEMPHIS_NOMEM, "no memory");
    c->s = s;
    c->partition = partition;
    st = api_run(&c->call, api_default_wait(s->b), err);
    api_call_unref(&c->call);
    return st;
}

memphis_status memphis_station_drop(memphis_station *s, memphis_error *err)
{
    return call_station(s, 0, run_drop, err);
}

memphis_status memphis_station_purge(memphis_station *s, uint32_t partition,
                                     memphis_error *err)
{
    return call_station(s, partition, run_purge, err);
}

memphis_station *api_station_ref(memphis_station *s)
{
    atomic_fetch_add(&s->refs, 1);
    return s;
}

void memphis_station_close(memphis_station *s)
{
    memphis_broker *b;

    if (s == NULL || api_is_forked(s->b) || atomic_fetch_sub(&s->refs, 1) != 1)
        return;
    b = s->b;
    b->heap.hooks.free(b->heap.hooks.ctx, s);
    api_unref(b);
}

/* === Producers === */

struct memphis_producer {
    memphis_station *s;
    _Atomic uint32_t refs; /* the user's, and one per asynchronous call */
    char name[MP_NAME_MAX + 1];
    pthread_mutex_t lock;      /* outcomes below, between core and callers */
    struct produce_call *done; /* asynchronous ones with an outcome, oldest first */
    struct produce_call **done_last;
    _Atomic bool is_closed;     /* nobody waits for outcomes any more */
    _Atomic uint32_t under_way; /* asynchronous ones without a callback made */
};

enum { ASYNC_MAX = 65536 };

struct produce_call {
    struct api_call call;
    memphis_producer *p; /* asynchronous: whose list, pinned; else NULL */
    memphis_station *s;
    const void *data;
    size_t size;
    uint32_t partition; /* 0: in turn */
    memphis_slice id, headers;
    memphis_receipt receipt;
    memphis_produced_fn fn;
    void *ctx;
    struct produce_call *next;
    char space[]; /* headers; asynchronous: body and id too */
};

static void producer_unref(memphis_producer *p)
{
    memphis_allocator hooks = p->s->b->heap.hooks;

    if (atomic_fetch_sub(&p->refs, 1) != 1)
        return;
    pthread_mutex_destroy(&p->lock);
    memphis_station_close(p->s);
    hooks.free(hooks.ctx, p);
}

static uint64_t bytes_of(const struct produce_call *c)
{
    return c->headers.size + c->size + c->id.size;
}

static void produce_fini(struct api_call *call)
{
    struct produce_call *c = (struct produce_call *)(void *)call;

    if (c->p == NULL)
        return;
    atomic_fetch_sub(&call->b->async_bytes, bytes_of(c));
    producer_unref(c->p);
}

static const char *text_of(memphis_status st)
{
    if (st == MEMPHIS_TOO_BIG)
        return "the message is larger than the limit";
    if (st == MEMPHIS_CLOSED)
        return "the broker is closed";
    if (st == MEMPHIS_NOT_FOUND)
        return "the station does not exist any more";
    return st == MEMPHIS_NO_SPACE ? "no space left for messages; try again later"
                                  : "the message was refused";
}

/* An asynchronous outcome goes to its producer's list, finished; the call waits there.
 * When the producer was closed meanwhile nobody asks for it. */
static void settle_async(struct produce_call *c, memphis_status st)
{
    memphis_producer *p = c->p;
    bool is_wanted;

    api_finish(&c->call, st, text_of(st)); /* the list's reference is left */
    pthread_mutex_lock(&p->lock);
    is_wanted = !p->is_closed;
    if (is_wanted) {
        c->next = NULL;
        *p->done_last = c;
        p->done_last = &c->next;
    }
    pthread_mutex_unlock(&p->lock);
    if (!is_wanted)
        api_call_unref(&c->call);
}

static void on_produced(void *ctx, const struct mp_receipt *r)
{
    struct produce_call *c = ctx;

    c->receipt.sequence = r->seq;
    c->receipt.duplicate = r->duplicate;
    if (c->p != NULL)
        settle_async(c, r->status);
    else
        api_finish(&c->call, r->status, text_of(r->status));
}

static void produce(struct produce_call *c)
{
    struct mp_station *s = mp_station_find(c->call.b->core, mp_slice_text(c->s->name));
    struct mp_receipt none = { .status = MEMPHIS_NOT_FOUND };
    struct mp_stream *stream;

    if (s != NULL && c->partition == 0)
        c->partition = 1 + s->next_partition++ % s->settings.partitions;
    stream = s != NULL && !s->dropping ? mp_station_stream(s, c->partition) : NULL;
    c->receipt.partition = c->partition;
    if (stream == NULL) {
        on_produced(c, &none);
        return;
    }
    mp_stream_produce(stream, c->headers, mp_slice(c->data, c->size), c->id,
                      on_produced, c);
}

/* A session's bytes wait in its input while the log is full; produces wait here, and a
 * turn takes them like those bytes. */
struct api_held {
    struct api_held *next;
    struct produce_call *c;
    memphis_station *s; /* of memphis_produce, whose caller may leave and close it */
    size_t lent_size;
    char lent[]; /* a copy of what he may take back */
};

static void hold(memphis_broker *b, struct produce_call *c)
{
    static const struct mp_receipt full = { .status = MEMPHIS_NO_SPACE };
    size_t lent = c->p == NULL ? c->size + c->id.size : 0;
    struct api_held *h;

    if (b->held_bytes > 0 && b->held_bytes + lent > b->async_bytes_max) {
        on_produced(c, &full); /* of callers that did not wait for the end */
        return;
    }
    h = mp_alloc(sizeof(*h) + lent);
    h->c = c;
    h->lent_size = lent;
    b->held_bytes += lent;
    if (c->p == NULL)
        h->s = api_station_ref(c->s);
    if (lent > 0) {
        if (c->size > 0)
            memcpy(h->lent, c->data, c->size);
        if (c->id.size > 0)
            memcpy(h->lent + c->size, c->id.data, c->id.size);
        c->data = h->lent;
        c->id.data = h->lent + c->size;
    }
    h->next = NULL;
    *b->held_last = h;
    b->held_last = &h->next;
    mp_broker_wants_turn(b->core, &b->produces);
}

/* The oldest one gets in; returns its bytes. */
static size_t let_in(memphis_broker *b)
{
    struct api_held *h = b->held;
    size_t bytes = bytes_of(h->c);

    b->held = h->next;
    if (b->held == NULL)
        b->held_last = &b->held;
    b->held_bytes -= h->lent_size;
    produce(h->c);
    memphis_station_close(h->s);
    mp_free(h);
    return bytes;
}

static void run_produce(struct api_call *call)
{
    struct produce_call *c = (struct produce_call *)(void *)call;

    if (call->b->held != NULL || mp_broker_is_full(call->b->core))
        hold(call->b, c);
    else
        produce(c);
}

static size_t produces_work(struct mp_source *s, size_t bytes_max, uint32_t *operations)
{
    memphis_broker *b = mp_container_of(s, memphis_broker, produces);
    size_t bytes = 0;

    while (b->held != NULL && bytes < bytes_max && *operations > 0 &&
           !mp_broker_is_full(b->core)) {
        bytes += let_in(b);
        --*operations;
    }
    return bytes;
}

static bool produces_has_input(struct mp_source *s)
{
    return mp_container_of(s, memphis_broker, produces)->held != NULL;
}

void api_produces_init(memphis_broker *b)
{
    b->produces.work = produces_work;
    b->produces.has_input = produces_has_input;
    b->held_last = &b->held;
}

void api_produces_let_in(memphis_broker *b)
{
    while (b->held != NULL)
        (void)let_in(b);
}

/* murmur3, 32 bits, seed 31: the partition that Go and Python choose for a key. */
static uint32_t key_hash(const char *key)
{
    size_t size = strlen(key);
    const uint8_t *p = (const uint8_t *)key;
    uint32_t h = 31, k;

    for (size_t i = 0; i + 4 <= size; i += 4) {
        k = mp_get_u32(p + i) * 0xcc9e2d51u;
        k = (k << 15 | k >> 17) * 0x1b873593u;
        h ^= k;
        h = (h << 13 | h >> 19) * 5 + 0xe6546b64u;
    }
    k = 0;
    for (size_t i = size & 3; i > 0; i--)
        k = k << 8 | p[(size & ~(size_t)3) + i - 1];
    k *= 0xcc9e2d51u;
    k = (k << 15 | k >> 17) * 0x1b873593u;
    h ^= k ^ (uint32_t)size;
    h = (h ^ h >> 16) * 0x85ebca6bu;
    h = (h ^ h >> 13) * 0xc2b2ae35u;
    return h ^ h >> 16;
}

static const char head_text[] = "NATS/1.0\r\n$memphis_producedBy: ";
static const char connection_text[] = "\r\n$memphis_connectionId: \r\n";

/* Their size as a block; INVALID when one of them cannot be a header. */
static memphis_status measure_headers(const char *producer,
                                      const memphis_produce_options *o, size_t *size,
                                      memphis_error *err)
{
    *size = sizeof(head_text) + strlen(producer) + sizeof(connection_text);
    for (uint32_t i = 0; o != NULL && i < o->headers_count; i++) {
        const memphis_header *h = &o->headers[i];

        if (h->name == NULL || h->value == NULL || h->reserved != 0 ||
            h->name[0] == 0 || strncmp(h->name, "$memphis", 8) == 0 ||
            strpbrk(h->name, ":\r\n") != NULL || strpbrk(h->value, "\r\n") != NULL)
            return mp_fail(
                err, MEMPHIS_INVALID,
                "header %u is not valid: names may not be empty, hold ':' or a "
                "line break, or begin with $memphis",
                i);
        *size += strlen(h->name) + strlen(h->value) + 4;
    }
    if (*size > MP_HEADERS_MAX)
        return mp_fail(err, MEMPHIS_TOO_BIG, "the headers are larger than 64 KiB");
    return MEMPHIS_OK;
}

static void put_headers(struct mp_buf *b, const char *producer,
                        const memphis_produce_options *o)
{
    mp_buf_put_text(b, head_text);
    mp_buf_put_text(b, producer);
    mp_buf_put_text(b, connection_text);
    for (uint32_t i = 0; o != NULL && i < o->headers_count; i++) {
        mp_buf_put_text(b, o->headers[i].name);
        mp_buf_put_text(b, ": ");
        mp_buf_put_text(b, o->headers[i].value);
        mp_buf_put_text(b, "\r\n");
    }
    mp_buf_put_text(b, "\r\n");
}

static memphis_status check_produce(memphis_producer *p, const void *data, size_t size,
                                    const memphis_produce_options *o,
                                    size_t *headers_size, memphis_error *err)
{
    if (p == NULL || (data == NULL && size > 0))
        return mp_fail(err, MEMPHIS_INVALID, "no producer, or no data");
    if (o != NULL && !api_reserved_is_zero(o->reserved, 8))
        return mp_fail(err, MEMPHIS_INVALID,
                       "the reserved words of memphis_produce_options must be zero");
    if (o != NULL && o->partition_key != NULL && o->partition != 0)
        return mp_fail(err, MEMPHIS_INVALID, "give a partition or a key, not both");
    if (o != NULL && o->partition > p->s->partitions)
        return mp_fail(err, MEMPHIS_INVALID, "station '%s' has %u partitions",
                       p->s->name, p->s->partitions);
    if (size > p->s->b->infos[0][0].payload_max)
        return mp_fail(err, MEMPHIS_TOO_BIG, "a message has at most %u bytes",
                       p->s->b->infos[0][0].payload_max);
    return measure_headers(p->name, o, headers_size, err);
}

/* Everything in one block; `copies`: the arguments may go before the core has run it.
 */
static memphis_status produce_call_new(memphis_producer *p, const void *data,
                                       size_t size, const memphis_produce_options *o,
                                       bool copies, struct produce_call **out,
                                       memphis_error *err)
{
    memphis_slice id = { 0 };
    struct produce_call *c;
    struct mp_buf b = { 0 };

    memphis_status st = check_produce(p, data, size, o, &b.capacity, err);
    if (st == MEMPHIS_OK)
        st = api_usable(p->s->b, err);
    if (st != MEMPHIS_OK)
        return st;
    if (o != NULL && o->message_id != NULL)
        id = mp_slice_text(o->message_id);
    if (copies)
        b.capacity += size + id.size;
    c = api_call_new_with(p->s->b, sizeof(*c), b.capacity, run_produce);
    if (c == NULL)
        return mp_fail(err, MEMPHIS_NOMEM, "no memory");
    b.data = (uint8_t *)c->space;
    put_headers(&b, p->name, o);
    c->call.fini = produce_fini;
    c->s = p->s;
    c->headers = mp_buf_slice(&b);
    c->data = data;
    c->size = size;
    c->id = id;
    if (o != NULL && o->partition_key != NULL)
        c->partition = 1 + key_hash(o->partition_key) % p->s->partitions;
    else
        c->partition = o != NULL ? o->partition : 0;
    if (copies) {
        c->data = b.data + b.size;
        mp_buf_put(&b, data, size);
        c->id.data = b.data + b.size;
        mp_buf_put_slice(&b, id);
    }
    mp_assert(b.data == (uint8_t *)c->space);
    *out = c;
    return MEMPHIS_OK;
}

memphis_status memphis_producer_open(memphis_station *s, const char *name,
                                     memphis_producer **out, memphis_error *err)
{
    memphis_producer *p;
    char folded[MP_NAME_MAX + 1];
    memphis_status st;

    if (s == NULL || out == NULL)
        return mp_fail(err, MEMPHIS_INVALID,
                       "a producer needs a station and an output");
    st = api_fold_name(name, "Producer", folded, err);
    if (st == MEMPHIS_OK)
        st = api_usable(s->b, err);
    if (st != MEMPHIS_OK)
        return st;
    p = s->b->heap.hooks.alloc(s->b->heap.hooks.ctx, sizeof(*p));
    if (p == NULL)
        return mp_fail(err, MEMPHIS_NOMEM, "no memory");
    memset(p, 0, sizeof(*p));
    p->s = api_station_ref(s);
    p->refs = 1;
    memcpy(p->name, folded, sizeof(folded));
    p->done_last = &p->done;
    pthread_mutex_init(&p->lock, NULL);
    *out = p;
    return MEMPHIS_OK;
}

memphis_status memphis_produce(memphis_producer *p, const void *data, size_t size,
                               const memphis_produce_options *o, memphis_receipt *r,
                               memphis_error *err)
{
    struct produce_call *c;
    memphis_status st = produce_call_new(p, data, size, o, false, &c, err);

    if (st != MEMPHIS_OK)
        return st;
    st = api_run(&c->call, api_default_wait(p->s->b), err);
    if (st == MEMPHIS_OK && r != NULL)
        *r = c->receipt;
    api_call_unref(&c->call);
    return st;
}

/* Inside a callback of this thread its own outcome is still under way: who waited for
 * that would wait for himself. */
static _Thread_local bool is_calling_back;

/* Calls back what has an outcome; returns how many. The caller has pinned it: a
 * callback may close it, and then the others are not called. */
static uint32_t call_back(memphis_producer *p)
{
    struct produce_call *c;
    uint32_t n = 0;

    if (is_calling_back)
        return 0;
    is_calling_back = true;
    pthread_mutex_lock(&p->lock);
    c = p->done;
    p->done = NULL;
    p->done_last = &p->done;
    pthread_mutex_unlock(&p->lock);
    while (c != NULL) {
        struct produce_call *next = c->next;

        if (c->fn != NULL && !p->is_closed)
            c->fn(c->ctx, &c->receipt,
                  c->call.status != MEMPHIS_OK ? &c->call.error : NULL);
        api_call_unref(&c->call);
        n++;
        c = next;
    }
    atomic_fetch_sub(&p->under_way, n);
    is_calling_back = false;
    return n;
}

static bool has_outcome(memphis_producer *p)
{
    bool some;

    pthread_mutex_lock(&p->lock);
    some = p->done != NULL;
    pthread_mutex_unlock(&p->lock);
    return some;
}

/* MANUAL: a turn, and a rest when it brought nothing. */
static void step_manual(memphis_producer *p, uint64_t wait_ms, uint64_t *next_ns)
{
    memphis_broker *b = p->s->b;

    if (api_turn(b, next_ns) && !has_outcome(p))
        api_idle(b, *next_ns, wait_ms);
}

/* The bytes are the broker's; a producer with nothing under way has room for one, so
 * that none is kept waiting by others who do not flush. */
static bool has_room(const memphis_producer *p)
{
    const memphis_broker *b = p->s->b;
    uint32_t n = atomic_load(&p->under_way);

    return n == 0 ||
           (n < ASYNC_MAX && atomic_load(&b->async_bytes) < b->async_bytes_max);
}

static memphis_status make_room(memphis_producer *p, memphis_error *err)
{
    memphis_status st;

    if (has_room(p))
        return MEMPHIS_OK;
    st = api_usable(p->s->b, err); /* after a fork no lock is touched */
    if (st != MEMPHIS_OK)
        return st;
    call_back(p);
    return has_room(p) ? MEMPHIS_OK
                       : mp_fail(err, MEMPHIS_FULL,
                                 "65,536 messages or an eighth of memory_max are under "
                                 "way; flush first");
}

static memphis_status post_produce(memphis_producer *p, const void *data, size_t size,
                                   const memphis_produce_options *o,
                                   memphis_produced_fn fn, void *ctx,
                                   memphis_error *err)
{
    struct produce_call *c;
    memphis_status st = make_room(p, err);

    if (st == MEMPHIS_OK && p->is_closed)
        st = mp_fail(err, MEMPHIS_CLOSED, "the producer was closed in a callback");
    if (st == MEMPHIS_OK)
        st = produce_call_new(p, data, size, o, true, &c, err);
    if (st != MEMPHIS_OK)
        return st;
    atomic_fetch_add(&p->refs, 1);
    c->p = p;
    atomic_fetch_add(&p->s->b->async_bytes, bytes_of(c));
    c->fn = fn;
    c->ctx = ctx;
    /* Counted before the core sees it: its outcome may be called back right away. */
    atomic_fetch_add(&p->under_way, 1);
    st = api_post(&c->call, err);
    if (st != MEMPHIS_OK) {
        atomic_fetch_sub(&p->under_way, 1);
        api_call_unref(&c->call);
    }
    return st;
}

memphis_status memphis_produce_async(memphis_producer *p, const void *data, size_t size,
                                     const memphis_produce_options *o,
                                     memphis_produced_fn fn, void *ctx,
                                     memphis_error *err)
{
    memphis_status st;

    if (p == NULL)
        return mp_fail(err, MEMPHIS_INVALID, "no producer");
    atomic_fetch_add(&p->refs, 1);
    st = post_produce(p, data, size, o, fn, ctx, err);
    producer_unref(p);
    return st;
}

/* *next_ns: as of its last turn, if it took one. */
static memphis_status flush(memphis_producer *p, uint32_t wait_ms, uint64_t *next_ns)
{
    memphis_broker *b = p->s->b;
    uint64_t until = wait_ms == UINT32_MAX ? UINT64_MAX : api_boot_ms() + wait_ms;
    uint32_t interrupts = atomic_load(&b->interrupts);

    for (;;) {
        memphis_status st = api_may_wait(b, NULL);
        uint64_t number, now;

        if (st == MEMPHIS_MISUSE)
            return st; /* after a fork no lock is touched */
        number = api_finish_number(b);
        call_back(p);
        if (p->is_closed)
            return MEMPHIS_CLOSED;
        if (atomic_load(&p->under_way) == 0)
            return MEMPHIS_OK;
        if (st != MEMPHIS_OK)
            return st;
        now = api_boot_ms();
        if (now >= until)
            return MEMPHIS_TIMEOUT;
        if (atomic_load(&b->interrupts) != interrupts)
            return MEMPHIS_CANCELED;
        if (b->mode == MEMPHIS_MANUAL)
            step_manual(p, until - now, next_ns);
        else
            api_wait_finish(b, number, until - now);
    }
}

memphis_status memphis_producer_flush(memphis_producer *p, uint32_t wait_ms)
{
    uint64_t next_ns = UINT64_MAX;
    memphis_status st;

    if (p == NULL)
        return MEMPHIS_INVALID;
    if (is_calling_back)
        return MEMPHIS_MISUSE;
    atomic_fetch_add(&p->refs, 1); /* a callback may close it */
    st = flush(p, wait_ms, &next_ns);
    if (next_ns != UINT64_MAX)
        api_tell_loop(p->s->b, next_ns);
    producer_unref(p);
    return st;
}

void memphis_producer_close(memphis_producer *p)
{
    struct produce_call *c;

    if (p == NULL || api_is_forked(p->s->b))
        return;
    /* What has no outcome by then never calls back; the core lets it go. */
    (void)memphis_producer_flush(p, api_default_wait(p->s->b));
    pthread_mutex_lock(&p->lock);
    p->is_closed = true;
    c = p->done;
    pthread_mutex_unlock(&p->lock);
    while (c != NULL) {
        struct produce_call *next = c->next;

        api_call_unref(&c->call);
        c = next;
    }
    producer_unref(p);
}
