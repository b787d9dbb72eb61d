/* Two members of one group share the work: each message goes to one of them. A broker
 * in memory (no data_dir), as you would use it in a unit test. Ends by itself. */
#include <memphis/memphis.h>

#include <pthread.h>
#include <stdio.h>

enum { MESSAGES = 1000 };

struct member {
    memphis_consumer *consumer;
    unsigned seen;
};

static int32_t on_job(void *ctx, memphis_message *m)
{
    struct member *me = ctx;

    (void)m;
    me->seen++;
    return MEMPHIS_ACK;
}

static void *work(void *ctx)
{
    struct member *me = ctx;
    uint32_t handled = 0;

    while (memphis_consume(me->consumer, 20, 500, on_job, me, &handled, NULL) ==
               MEMPHIS_OK &&
           handled > 0)
        ; /* until half a quiet second */
    return NULL;
}

int main(void)
{
    memphis_error err = { 0 };
    memphis_broker *broker = NULL;
    memphis_station *jobs = NULL;
    memphis_producer *boss = NULL;
    struct member a = { 0 }, b = { 0 };
    memphis_consumer_options crew = { .group = "crew" };
    pthread_t threads[2];

    if (memphis_open(NULL, &broker, &err) ||
        memphis_station_create(broker, "jobs", NULL, &jobs, &err) ||
        memphis_producer_open(jobs, "boss", &boss, &err) ||
        memphis_consumer_open(jobs, "anna", &crew, &a.consumer, &err) ||
        memphis_consumer_open(jobs, "bert", &crew, &b.consumer, &err))
        goto out;
    for (int i = 0; i < MESSAGES && !err.status; i++)
        memphis_produce_async(boss, &i, sizeof i, NULL, NULL, NULL, &err);
    if (err.status || (err.status = memphis_producer_flush(boss, 10000)))
        goto out;
    pthread_create(&threads[0], NULL, work, &a);
    pthread_create(&threads[1], NULL, work, &b);
    pthread_join(threads[0], NULL);
    pthread_join(threads[1], NULL);
    printf("anna %u + bert %u = %u\n", a.seen, b.seen, a.seen + b.seen);
out:
    if (err.status)
        fprintf(stderr, "%s: %s\n", memphis_status_name(err.status), err.message);
    memphis_consumer_close(a.consumer);
    memphis_consumer_close(b.consumer);
    memphis_producer_close(boss);
    memphis_station_close(jobs);
    memphis_close(broker);
    return err.status != MEMPHIS_OK || a.seen + b.seen != MESSAGES;
}
