/* bench/inproc.c -- the library without a socket: produce and consume in this process.
 *
 *   inproc DIR|memory [seconds] [size]
 *
 * DIR: a durable broker there, THREADED; "memory": a broker without a directory. One
 * producer with memphis_produce_async, up to 16,384 under way; each outcome is counted
 * and its sequence checked. Then everything is read back with memphis_consume. Memory
 * has an end: there, rounds of produce and consume alternate, old messages leave by
 * their number, and each half of the rounds is timed for itself. */
#include <memphis/memphis.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    WINDOW = 16384,
    SIZE_MAX_HERE = 1 << 16,
    ROUND_BYTES = 32 << 20 /* of payload, in memory */
};

static struct {
    uint64_t sent, produced, consumed;
    size_t size;
} count;

static double now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void must(memphis_status st, const memphis_error *e, const char *what)
{
    if (st == MEMPHIS_OK)
        return;
    fprintf(stderr, "inproc: %s: %s %s\n", what, memphis_status_name(st), e->message);
    exit(1);
}

static void on_produced(void *ctx, const memphis_receipt *r, const memphis_error *e)
{
    (void)ctx;
    if (e != NULL)
        must(e->status, e, "produce");
    if (r->sequence != ++count.produced) {
        fprintf(stderr, "inproc: sequence %llu came when %llu was due\n",
                (unsigned long long)r->sequence, (unsigned long long)count.produced);
        exit(1);
    }
}

static int32_t on_message(void *ctx, memphis_message *m)
{
    uint64_t n = 0;

    (void)ctx;
    memcpy(&n, memphis_message_data(m).data, sizeof(n));
    if (memphis_message_data(m).size != count.size || n != count.consumed ||
        memphis_message_sequence(m) != n + 1) {
        fprintf(stderr, "inproc: message %llu came when %llu was due\n",
                (unsigned long long)n, (unsigned long long)count.consumed);
        exit(1);
    }
    count.consumed++;
    return MEMPHIS_ACK;
}

/* Until `end` messages are sent or the time is up, and all are acknowledged. */
static double produce(memphis_producer *p, uint64_t end, double seconds)
{
    static char payload[SIZE_MAX_HERE];
    memphis_error e = { 0 };
    double start = now_s();

    memset(payload, 'x', sizeof(payload));
    while (count.sent < end && (count.sent % 256 != 0 || now_s() - start < seconds)) {
        memcpy(payload, &count.sent, sizeof(count.sent));
        must(memphis_produce_async(p, payload, count.size, NULL, on_produced, NULL, &e),
             &e, "produce");
        if (++count.sent % 256 == 0)
            (void)memphis_producer_flush(p, 0); /* TIMEOUT: some are under way */
        if (count.sent - count.produced >= WINDOW)
            must(memphis_producer_flush(p, 60000), &e, "flush");
    }
    must(memphis_producer_flush(p, 60000), &e, "flush");
    return now_s() - start;
}

static double consume(memphis_consumer *c)
{
    memphis_error e = { 0 };
    double start = now_s();

    while (count.consumed < count.produced)
        must(memphis_consume(c, 4096, 1000, on_message, NULL, NULL, &e), &e, "consume");
    return now_s() - start;
}

static void measure(memphis_station *s, double seconds, uint64_t round)
{
    memphis_producer *p;
    memphis_consumer *c;
    memphis_error e = { 0 };
    double produced = 0, consumed = 0;

    must(memphis_producer_open(s, "bench", &p, &e), &e, "producer");
    must(memphis_consumer_open(s, "readers", NULL, &c, &e), &e, "consumer");
    while (produced < seconds) {
        produced += produce(p, round > 0 ? count.sent + round : UINT64_MAX,
                            seconds - produced);
        consumed += consume(c);
    }
    printf("n=%llu rate=%.0f consume=%.0f\n", (unsigned long long)count.produced,
           (double)count.produced / produced, (double)count.consumed / consumed);
    memphis_consumer_close(c);
    memphis_producer_close(p);
}

int main(int argc, char **argv)
{
    bool memory = argc > 1 && strcmp(argv[1], "memory") == 0;
    memphis_options o = { .data_dir = memory || argc < 2 ? NULL : argv[1] };
    memphis_station_options how = { .retention = MEMPHIS_RETAIN_COUNT };
    double seconds = argc > 2 ? strtod(argv[2], NULL) : 5;
    memphis_broker *b;
    memphis_station *s;
    memphis_error e = { 0 };

    count.size = argc > 3 ? strtoul(argv[3], NULL, 10) : 128;
    if (argc < 2 || count.size < sizeof(uint64_t) || count.size > SIZE_MAX_HERE) {
        fprintf(stderr, "usage: inproc DIR|memory [seconds] [size]\n");
        return 2;
    }
    must(memphis_open(&o, &b, &e), &e, "open");
    how.retention_value = ROUND_BYTES / count.size;
    must(memphis_station_create(b, "bench", memory ? &how : NULL, &s, &e), &e,
         "station");
    measure(s, seconds, memory ? how.retention_value : 0);
    memphis_station_close(s);
    memphis_close(b);
    return 0;
}
