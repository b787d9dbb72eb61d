/* bench/inproc.c -- the library without a socket: produce and consume in this process.
 *
 *   inproc DIR|memory [seconds] [size]
 *
 * DIR: a durable broker there, THREADED; "memory": a broker without a directory. One
 * producer with memphis_produce_async, up to 16,384 under way; each outcome is counted
 * and its sequence checked. Then everything is read back with memphis_consume. */
#include <memphis/memphis.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WINDOW = 16384, SIZE_MAX_HERE = 1 << 16 };

static struct {
    uint64_t produced, consumed;
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

static double produce(memphis_station *s, double seconds)
{
    static char payload[SIZE_MAX_HERE];
    memphis_producer *p;
    memphis_error e = { 0 };
    double start;
    uint64_t n = 0;

    must(memphis_producer_open(s, "bench", &p, &e), &e, "producer");
    memset(payload, 'x', sizeof(payload));
    start = now_s();
    while (n % 256 != 0 || now_s() - start < seconds) {
        memcpy(payload, &n, sizeof(n));
        must(memphis_produce_async(p, payload, count.size, NULL, on_produced, NULL, &e),
             &e, "produce");
        if (++n % 256 == 0)
            (void)memphis_producer_flush(p, 0); /* TIMEOUT: some are under way */
        if (n - count.produced >= WINDOW)
            must(memphis_producer_flush(p, 60000), &e, "flush");
    }
    must(memphis_producer_flush(p, 60000), &e, "flush");
    memphis_producer_close(p);
    return now_s() - start;
}

static double consume(memphis_station *s)
{
    memphis_consumer *c;
    memphis_error e = { 0 };
    double start = now_s();

    must(memphis_consumer_open(s, "readers", NULL, &c, &e), &e, "consumer");
    while (count.consumed < count.produced)
        must(memphis_consume(c, 4096, 1000, on_message, NULL, NULL, &e), &e, "consume");
    start = now_s() - start;
    memphis_consumer_close(c);
    return start;
}

int main(int argc, char **argv)
{
    bool memory = argc > 1 && strcmp(argv[1], "memory") == 0;
    memphis_options o = { .data_dir = memory || argc < 2 ? NULL : argv[1] };
    double seconds = argc > 2 ? strtod(argv[2], NULL) : 5, produced, consumed;
    memphis_broker *b;
    memphis_station *s;
    memphis_error e = { 0 };

    count.size = argc > 3 ? strtoul(argv[3], NULL, 10) : 128;
    if (argc < 2 || count.size < sizeof(uint64_t) || count.size > SIZE_MAX_HERE) {
        fprintf(stderr, "usage: inproc DIR|memory [seconds] [size]\n");
        return 2;
    }
    must(memphis_open(&o, &b, &e), &e, "open");
    must(memphis_station_create(b, "bench", NULL, &s, &e), &e, "station");
    produced = produce(s, seconds);
    consumed = consume(s);
    printf("n=%llu rate=%.0f consume=%.0f\n", (unsigned long long)count.produced,
           (double)count.produced / produced, (double)count.consumed / consumed);
    memphis_station_close(s);
    memphis_close(b);
    return 0;
}
