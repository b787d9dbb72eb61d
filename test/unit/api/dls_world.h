/* A station with a producer and consumers, for the tests of dead letters in api/. */
#ifndef TEST_UNIT_API_DLS_WORLD_H
#define TEST_UNIT_API_DLS_WORLD_H

#include "support/broker.h"

#include "api/api.h"

#include <stdio.h>
#include <unistd.h>

struct world {
    struct test_world w;
    memphis_station *s;
    memphis_producer *p;
    memphis_consumer *c; /* of group "g.one", which gives up at once */
    memphis_error err;
};

static inline memphis_consumer *join_group(struct world *x, const char *name,
                                           const char *group)
{
    memphis_consumer_options o = { .group = group, .deliveries_max = 1,
                                   .ack_wait_ms = 60000 };
    memphis_consumer *c = NULL;

    if (memphis_consumer_open(x->s, name, &o, &c, &x->err) != MEMPHIS_OK)
        fail_msg("%s", x->err.message);
    return c;
}

static inline struct world *begin(int mode)
{
    static struct world x;

    x = (struct world){ .s = NULL };
    test_world_init(&x.w, mode, true);
    assert_int_equal(test_world_open(&x.w), MEMPHIS_OK);
    assert_int_equal(memphis_station_create(x.w.b, "Or.ders", NULL, &x.s, NULL),
                     MEMPHIS_OK);
    assert_int_equal(memphis_producer_open(x.s, "p", &x.p, NULL), MEMPHIS_OK);
    x.c = join_group(&x, "c", "G.One");
    return &x;
}

static inline void end(struct world *x)
{
    memphis_consumer_close(x->c);
    memphis_producer_close(x->p);
    memphis_station_close(x->s);
    test_world_end(&x->w);
}

static inline void produce(struct world *x, int n)
{
    memphis_header h = { "color", "green", 0 };
    memphis_produce_options o = { .headers = &h, .headers_count = 1 };
    char body[16];

    for (int i = 1; i <= n; i++) {
        int size = snprintf(body, sizeof body, "m%d", i);
        assert_int_equal(memphis_produce(x->p, body, (size_t)size, &o, NULL, NULL),
                         MEMPHIS_OK);
    }
}

static inline memphis_message *next(memphis_consumer *c)
{
    memphis_message *m = NULL;
    uint32_t got = 0;

    assert_int_equal(memphis_fetch(c, &m, 1, 20000, &got, NULL), MEMPHIS_OK);
    assert_int_equal(got, 1);
    return m;
}

static inline bool has_next(memphis_consumer *c)
{
    memphis_message *m;
    uint32_t got = 0;

    assert_int_equal(memphis_fetch(c, &m, 1, 0, &got, NULL), MEMPHIS_OK);
    if (got > 0)
        memphis_message_unref(m);
    return got > 0;
}

static inline memphis_dls_info info(struct world *x)
{
    memphis_dls_info i;

    assert_int_equal(memphis_dls_read_info(x->s, &i, NULL), MEMPHIS_OK);
    return i;
}

/* Letters are written with their group's next progress. */
static inline void await_letters(struct world *x, uint64_t n)
{
    for (int i = 0; i < 4000 && info(x).letters != n; i++) {
        if (x->w.options.mode == MEMPHIS_MANUAL)
            assert_int_equal(memphis_step(x->w.b, NULL), MEMPHIS_OK);
        usleep(1000);
    }
    assert_int_equal(info(x).letters, n);
}

/* The next message becomes a dead letter. */
static inline void kill_next(memphis_consumer *c, const char *reason)
{
    memphis_message *m = next(c);

    assert_int_equal(memphis_message_dead_letter(m, reason), MEMPHIS_OK);
    memphis_message_unref(m);
}

/* What memphis_dls_each shows. */
struct seen {
    int count, stop_at;
    uint64_t ids[300];
    memphis_message *kept;
    char groups[64], detail[1100], body[32], header[32];
    memphis_dead last;
};

static inline bool see(void *ctx, const memphis_dead *d)
{
    struct seen *s = ctx;
    memphis_slice body = memphis_message_data(d->message);
    memphis_slice header = memphis_message_header(d->message, "color");

    assert_true(s->count < 300);
    s->ids[s->count++] = d->id;
    s->groups[0] = 0;
    for (uint32_t i = 0; i < d->groups_count; i++) {
        size_t n = strlen(s->groups);
        snprintf(s->groups + n, sizeof s->groups - n, "%s ", d->groups[i]);
    }
    snprintf(s->detail, sizeof s->detail, "%s", d->detail);
    snprintf(s->body, sizeof s->body, "%.*s", (int)body.size, (const char *)body.data);
    snprintf(s->header, sizeof s->header, "%.*s", (int)header.size,
             header.size > 0 ? (const char *)header.data : "");
    memphis_message_unref(s->kept);
    s->kept = memphis_message_ref(d->message);
    s->last = *d;
    return s->count != s->stop_at;
}

static inline struct seen each(struct world *x, int stop_at)
{
    struct seen s = { .stop_at = stop_at };

    assert_int_equal(memphis_dls_each(x->s, see, &s, NULL), MEMPHIS_OK);
    return s;
}

#endif
