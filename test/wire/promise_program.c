/* A program with the broker inside, whose syncs take 300 ms longer. */
#include "wire/promise.h"

#include "wire/client.h"
#include "wire/report.h"

#include <memphis/memphis.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 10, ROUNDS = 6, ASYNC = 60 };

enum call {
    CREATE_STATION,
    OPEN_CONSUMER,
    PRODUCE,
    PRODUCE_AGAIN,
    DROP_STATION,
    CALLS
};

static const char *const call_names[CALLS] = {
    "memphis_station_create", "memphis_consumer_open", "memphis_produce",
    "memphis_produce of an id again", "memphis_station_drop"
};

struct timed {
    uint64_t sent_ns, got_ns;
    memphis_status status;
};

struct program {
    memphis_broker *broker;
    memphis_station *station;
    struct sync_control *control;
    struct timed calls[CALLS][THREADS][ROUNDS];
};

struct actor {
    struct program *program;
    unsigned number;
};

static memphis_status call(struct program *p, enum call what, unsigned thread,
                           unsigned round, memphis_producer *producer)
{
    char name[48];
    memphis_status st;

    snprintf(name, sizeof(name), "n%u-%u", thread, round);
    if (what == PRODUCE || what == PRODUCE_AGAIN) {
        memphis_produce_options o = { .message_id = name, .partition = 1 };

        return memphis_produce(producer, "m", 1, &o, NULL, NULL);
    }
    if (what == OPEN_CONSUMER) {
        memphis_consumer *c = NULL;

        st = memphis_consumer_open(p->station, name, NULL, &c, NULL);
        memphis_consumer_close(c);
        return st;
    }
    memphis_station *s = NULL;
    if (what == CREATE_STATION)
        st = memphis_station_create(p->broker, name, NULL, &s, NULL);
    else
        st = memphis_station_open(p->broker, name, &s, NULL);
    if (what == DROP_STATION && st == MEMPHIS_OK)
        st = memphis_station_drop(s, NULL);
    memphis_station_close(s);
    return st;
}

static void *act(void *ctx)
{
    struct actor *a = ctx;
    struct program *p = a->program;
    struct dice dice = dice_of(a->number + 1);
    memphis_producer *producer = NULL;

    if (memphis_producer_open(p->station, "p", &producer, NULL) != MEMPHIS_OK)
        return NULL;
    for (unsigned i = 0; i < ROUNDS * CALLS; i++) {
        enum call what = (enum call)(i % CALLS);
        struct timed *t = &p->calls[what][a->number][i / CALLS];

        usleep(dice_roll(&dice, 40000));
        t->sent_ns = client_now_ns();
        t->status = call(p, what, a->number, i / CALLS, producer);
        t->got_ns = client_now_ns();
    }
    memphis_producer_close(producer);
    return NULL;
}

static void judge(const struct program *p, const char *name, const struct timed *t,
                  unsigned n, bool may_be_done_before)
{
    unsigned fine = 0, early = 0, bare = 0;
    uint64_t least = UINT64_MAX;

    for (unsigned i = 0; i < n; i++) {
        uint64_t took = t[i].got_ns - t[i].sent_ns;

        fine += t[i].status == MEMPHIS_OK && t[i].got_ns != 0;
        if (may_be_done_before)
            continue;
        early += took < PROMISE_DELAY_MS * 1000000ull;
        bare += !sync_covers(p->control, t[i].sent_ns, t[i].got_ns);
        least = took < least ? took : least;
    }
    report(
        fine == n && early + bare == 0,
        "%-29s %u calls, %u fine, the fastest took %.0f ms, %u too early, %u without a "
        "sync behind",
        name, n, fine, least == UINT64_MAX ? 0.0 : (double)least / 1e6, early, bare);
}

static void on_produced(void *ctx, const memphis_receipt *r, const memphis_error *e)
{
    struct timed *t = ctx;

    (void)r;
    t->got_ns = client_now_ns();
    t->status = e != NULL ? e->status : MEMPHIS_OK;
}

/* The calling thread looks for outcomes all the time: none may be there too early. */
static void produce_async(struct program *p)
{
    static struct timed all[ASYNC];
    memphis_producer *producer = NULL;

    if (memphis_producer_open(p->station, "a", &producer, NULL) != MEMPHIS_OK)
        return;
    for (int i = 0; i < ASYNC; i++) {
        usleep(i % 3 == 0 ? 20000 : 0);
        all[i].sent_ns = client_now_ns();
        all[i].status =
            memphis_produce_async(producer, "a", 1, NULL, on_produced, &all[i], NULL);
        memphis_producer_flush(producer, 0);
    }
    memphis_producer_flush(producer, 10000);
    memphis_producer_close(producer);
    judge(p, "memphis_produce_async", all, ASYNC, false);
}

int promise_program_main(const char *dir)
{
    struct program p = { .broker = NULL };
    memphis_error err = { 0 };
    pthread_t threads[THREADS];
    struct actor actors[THREADS];
    char store[300];

    p.control = sync_control_open(getenv("SYNC_CONTROL"));
    snprintf(store, sizeof(store), "%.280s/store", dir);
    memphis_options o = { .data_dir = store };
    if (p.control == NULL || memphis_open(&o, &p.broker, &err) != MEMPHIS_OK ||
        memphis_station_create(p.broker, "s", NULL, &p.station, &err) != MEMPHIS_OK) {
        report(false, "a program opens its broker: %s", err.message);
        return report_end();
    }
    p.control->delay_ms = PROMISE_DELAY_MS;
    for (unsigned i = 0; i < THREADS; i++) {
        actors[i] = (struct actor){ &p, i };
        pthread_create(&threads[i], NULL, act, &actors[i]);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int what = 0; what < CALLS; what++) /* the first one has waited already */
        judge(&p, call_names[what], &p.calls[what][0][0], THREADS * ROUNDS,
              what == PRODUCE_AGAIN);
    produce_async(&p);
    p.control->delay_ms = 0;
    memphis_station_close(p.station);
    memphis_close(p.broker);
    sync_control_free(p.control);
    return report_end();
}

void promise_program(const struct promise *p)
{
    struct daemon d = promise_daemon(p, "program");
    unsigned passed = 0, failed = 1;
    char command[2000], line[400];

    snprintf(command, sizeof(command), "%s/syncs", d.dir);
    sync_control_free(sync_control_new(command));
    snprintf(command, sizeof(command), "SYNC_CONTROL='%s/syncs' LD_PRELOAD='%s' '%s' "
             "in-process '%s'", d.dir, p->preload, p->self, d.dir);
    fflush(stdout);
    FILE *f = popen(command, "r");
    while (f != NULL && fgets(line, sizeof(line), f) != NULL)
        if (sscanf(line, "%u passed, %u failed", &passed, &failed) != 2)
            fputs(line, stdout);
    if (f != NULL)
        pclose(f);
    report_more(passed, failed);
}
