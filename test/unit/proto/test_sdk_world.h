/* A whole broker without a disk, with the SDK and JetStream services, and one client
 * that remembers what it hears. For test_sdk.c and test_jsapi.c. */
#ifndef TEST_UNIT_PROTO_TEST_SDK_WORLD_H
#define TEST_UNIT_PROTO_TEST_SDK_WORLD_H

#include "support/test.h"

#include "broker/client.h"
#include "broker/connection.h"
#include "env/env_mem.h"
#include "proto/jsapi.h"
#include "proto/sdk.h"

#include <stdio.h>
#include <stdlib.h>

enum { HEARD_MAX = 64 };

struct heard {
    char *to, *subject, *reply, *headers, *payload;
};

struct world {
    struct mp_disk *disk;        /* virtual time; nothing is written */
    struct mp_broker *broker;
    struct mp_client client;
    struct heard heard[HEARD_MAX];
    int heard_count;
    int requests;                /* the number of the last inbox */
    uint32_t responders;         /* of the last publish */
};

static inline char *keep(memphis_slice s)
{
    return mp_strndup(s.size > 0 ? s.data : "", s.size);
}

static inline void hear(struct mp_client *c, struct mp_subscription *s,
                        const struct mp_message *m)
{
    struct world *w = mp_container_of(c, struct world, client);
    struct heard *h = &w->heard[w->heard_count];

    assert_true(w->heard_count < HEARD_MAX);
    h->to = mp_strdup(s->subject);
    h->subject = keep(m->subject);
    h->reply = keep(m->reply);
    h->headers = keep(m->headers);
    h->payload = keep(m->payload);
    w->heard_count++;
}

static inline void forget(struct world *w)
{
    for (int i = 0; i < w->heard_count; i++) {
        mp_free(w->heard[i].to);
        mp_free(w->heard[i].subject);
        mp_free(w->heard[i].reply);
        mp_free(w->heard[i].headers);
        mp_free(w->heard[i].payload);
    }
    w->heard_count = 0;
}

static inline void listen_to(struct world *w, const char *subject)
{
    struct mp_subscription *s;
    memphis_status st = mp_bus_subscribe(w->broker->bus, &w->client,
                                         mp_slice_text(subject), MP_STR(""), &s);

    assert_int_equal(st, MEMPHIS_OK);
}

static inline void world_open(struct world *w)
{
    struct mp_broker_options o = { .heap = mp_heap_current() };

    memset(w, 0, sizeof(*w));
    w->disk = mp_disk_new(1);
    o.env = mp_env_mem_open(w->disk, o.heap);
    assert_int_equal(mp_broker_open(&o, &w->broker, NULL), MEMPHIS_OK);
    mp_sdk_start(w->broker);
    mp_jsapi_start(w->broker);
    w->client = (struct mp_client){
        .deliver = hear, .user = "root", .connection_id = "conn-1", .lang = "go",
    };
    mp_bus_join(w->broker->bus, &w->client);
    mp_connection_up(w->broker, "conn-1");
    listen_to(w, "_INBOX.>");
}

static inline void world_close(struct world *w)
{
    forget(w);
    mp_bus_leave(w->broker->bus, &w->client);
    mp_connection_down(w->broker, "conn-1");
    mp_sdk_stop(w->broker);
    mp_jsapi_stop(w->broker);
    mp_broker_close(w->broker);
    mp_disk_free(w->disk);
}

static inline void turn(struct world *w)
{
    uint64_t next;

    mp_broker_turn(w->broker, &next);
}

/* Turns, a millisecond each, until nothing is open or on its way. */
static inline void settle_down(struct world *w)
{
    turn(w);
    for (int i = 0; i < 100 && !mp_broker_is_idle(w->broker); i++) {
        mp_disk_advance(w->disk, 1000000);
        turn(w);
    }
    assert_true(mp_broker_is_idle(w->broker));
}

static inline void publish(struct world *w, const char *subject, const char *reply,
                    const char *body)
{
    struct mp_message m = { .subject = mp_slice_text(subject),
                            .reply = mp_slice_text(reply),
                            .payload = mp_slice_text(body) };

    w->responders = mp_bus_publish(w->broker->bus, &w->client, &m);
}

/* One request and its only answer; NULL: none came. Valid until the next one. */
static inline const char *ask(struct world *w, const char *subject, const char *body)
{
    char inbox[32];

    forget(w);
    snprintf(inbox, sizeof(inbox), "_INBOX.r.%d", ++w->requests);
    publish(w, subject, inbox, body);
    settle_down(w);
    if (w->heard_count == 0)
        return NULL;
    for (int i = 0; i < w->heard_count - 1; i++)
        assert_string_not_equal(w->heard[i].subject, inbox);
    assert_string_equal(w->heard[w->heard_count - 1].subject, inbox);
    assert_string_equal(w->heard[w->heard_count - 1].headers, "");
    assert_string_equal(w->heard[w->heard_count - 1].reply, "");
    return w->heard[w->heard_count - 1].payload;
}

/* The request with ' for " (bodies stay readable). */
static inline const char *asks(struct world *w, const char *subject, const char *body)
{
    char text[4096];
    size_t i;

    for (i = 0; body[i] != 0; i++)
        text[i] = body[i] == '\'' ? '"' : body[i];
    text[i] = 0;
    return ask(w, subject, text);
}

/* A shape with ' for ", where # stands for a time and ^ for a number. */
static inline void assert_shape(const char *is, const char *shape)
{
    const char *p = is, *q = shape;

    assert_non_null(is);
    while (*q != 0) {
        if (*q == '#' && p[0] == '2' && strlen(p) >= 30 && p[29] == 'Z') {
            p += 30;
        } else if (*q == '^' && *p >= '0' && *p <= '9') {
            while (*p >= '0' && *p <= '9')
                p++;
        } else if (*p == (*q == '\'' ? '"' : *q)) {
            p++;
        } else {
            print_error("differs at: %s\nwanted: %s\nall of it: %s\n", p, q, is);
            fail();
        }
        q++;
    }
    assert_string_equal(p, "");
}

/* Answers of the JetStream API. */
#define API "$JS.API."
#define TYPE(x) "{'type':'io.nats.jetstream.api.v1." x "_response'"
#define ERROR(code, err, text) \
    ",'error':{'code':" #code ",'err_code':" #err ",'description':'" text "'}"
#define NO_STREAM ERROR(404, 10059, "stream not found")
#define NO_CONSUMER ERROR(404, 10014, "consumer not found")
#define PAGE(total, offset, limit) \
    ",'total':" #total ",'offset':" #offset ",'limit':" #limit

static inline void make_station(struct world *w, const char *name, int partitions)
{
    char body[256];

    snprintf(body, sizeof(body),
             "{\"name\":\"%s\",\"partitions_number\":%d,"
             "\"dls_configuration\":{\"poison\":true}}",
             name, partitions);
    assert_string_equal(ask(w, "$memphis_station_creations", body), "");
}

static inline void make_consumer(struct world *w, const char *station, const char *name)
{
    char body[512];
    const char *answer;

    snprintf(body, sizeof(body),
             "{\"name\":\"%s\",\"station_name\":\"%s\",\"connection_id\":\"conn-1\","
             "\"consumer_type\":\"application\",\"consumers_group\":\"%s\","
             "\"max_ack_time_ms\":30000,\"max_msg_deliveries\":2,"
             "\"start_consume_from_sequence\":1,\"last_messages\":-1,\"req_version\":4,"
             "\"app_id\":\"app\",\"sdk_lang\":\"go\"}",
             name, station, name);
    answer = ask(w, "$memphis_consumer_creations", body);
    assert_non_null(answer);
    assert_int_equal(answer[0], '{');
}

#endif
