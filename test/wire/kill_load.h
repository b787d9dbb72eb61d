/* wire/kill_load.h -- the parts of the program `kill_load`. */
#ifndef WIRE_KILL_LOAD_H
#define WIRE_KILL_LOAD_H

#include "wire/client.h"
#include "wire/daemon.h"
#include "wire/report.h"
#include "wire/slow_sync.h"

enum {
    PARTITIONS = 4,
    STATION_ROUNDS = 5,       /* a station's longest life */
    ITEMS_MAX = 1 << 18,      /* messages of one station */
    ACK_WAIT_MS = 1000,
    ACKED_LEAST = 1000,       /* messages acknowledged before a kill */
    NOISE_MS = 200,           /* an unanswered ack may be lost when it is younger */
    STORE_BYTES_MAX = 64 << 20,
    AGES = 6,
    LIVES = STATION_ROUNDS + 2
};

enum { PRODUCER, CONSUMERS, CONNECTIONS = CONSUMERS + 2 };

#define GROUP "workers"

/* What we know of one message; its place in the array is its number. */
struct item {
    uint32_t partition;
    uint32_t settled_round, verified_round;
    uint64_t seq;            /* 0: not acknowledged and not seen */
    uint64_t settled_ns;     /* when its ack was sent; 0: not, or that ack was lost */
    uint64_t confirmed_ns;
    bool has_id, was_resent,
        was_published;       /* published: acknowledged to the producer */
    bool is_confirmed;       /* its ack was answered */
    bool was_delivered;      /* to the group, in this or an earlier life */
};

struct kill_test {
    struct daemon daemon;
    struct client
        *clients[CONNECTIONS]; /* producer; two consumers share the partitions */
    struct dice dice;
    uint64_t seed;
    uint32_t round, rounds_left, sabotage;

    char station[32], dropped[32], side[32];
    uint32_t stations_made, stores;
    struct item *items;
    uint32_t items_count;
    struct {
        uint64_t seq;        /* a reader's position */
        uint64_t number;     /* + 1; the newest that was sent once */
    } read[PARTITIONS + 1];
    struct life {
        uint64_t kill_ns;
        struct sync_control *control;
    } lives[LIVES];          /* of round r: at r % LIVES */
    char failure[300];       /* the first one */

    /* a load */
    uint32_t window, outstanding, round_acked;
    uint32_t pulls[PARTITIONS + 1], sids[PARTITIONS + 1];
    uint32_t unanswered;     /* acks with a reply under way */
    bool side_asked, is_draining, is_dead;

    /* the sum */
    uint64_t acknowledged, verified, delivered, settled, confirmed, redelivered, resent,
        duplicates;
    uint32_t ages[AGES], strict;
};

/* Notes the first failure; false. */
bool kill_fail(struct kill_test *t, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The content of a message: its number, and bytes that depend on it. */
enum { CONTENT_SIZE = 640 };
size_t kill_content(const struct kill_test *t, uint32_t number, char out[CONTENT_SIZE]);

void kill_subscribe(struct kill_test *t); /* behind a start */
bool kill_load(struct kill_test *t);   /* until the kill, which it does */
bool kill_resend(struct kill_test *t); /* messages with an id whose fate is unknown */
bool kill_verify(struct kill_test *t); /* reads everything back */
bool kill_group_is_done(struct kill_test *t); /* nothing left to deliver or to settle */
bool kill_settle(struct kill_test *t); /* the group gets and confirms all there is */

#endif
