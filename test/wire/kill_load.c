/* kill_load BUILD DIR ROUNDS [SEED]: kill -9 under load, again and again, on one store.
 *
 * A round:
 *
 *      start --> look at what is there --> load: produce, pull, settle --> kill -9
 *        ^                                                                   |
 *        +-------------------------------------------------------------------+
 *
 * What must hold after every start:
 *   - every acknowledged or delivered message is at its sequence, once, whole; in each
 *     partition sequences have no gap and messages are in the order of their sending;
 *   - a message with an id that is sent again (its fate was unknown) is there once;
 *   - a confirmed ack never comes back to its group; one without an answer comes back
 *     only if it was sent shortly before the kill;
 *   - at the end of a station's life its group has seen every message;
 *   - stations that were made are there, and those that were removed are not.
 *
 * Stations live for a few rounds, and a store that has grown too big is left for a new
 * one. Environment: KILL_SABOTAGE=n: in round n the store of the round before is put
 * back, which must be noticed. */
#include "wire/kill_load.h"

#include "wire/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* === Daemon and store === */

static bool start(struct kill_test *t)
{
    static char control[320];
    /* With little memory messages are on their way to segments when the kill comes. */
    const char *env[] = { control,
                          t->round % 3 ? "MEMPHIS_MEMORY_MAX=4M"
                                       : "MEMPHIS_MEMORY_MAX=256M",
                          NULL };

    struct life *life = &t->lives[t->round % LIVES];

    snprintf(control, sizeof(control), "SYNC_CONTROL=%s/syncs.%u", t->daemon.dir,
             t->round % LIVES);
    sync_control_free(life->control);
    life->control = sync_control_new(strchr(control, '=') + 1);
    if (life->control == NULL || !daemon_start(&t->daemon, env))
        return kill_fail(t, "the daemon cannot be started");
    for (int i = 0; i < CONNECTIONS; i++) {
        t->clients[i] = client_connect(t->daemon.port, 20000);
        if (t->clients[i] == NULL)
            return kill_fail(t, "the daemon does not start: see %s/log", t->daemon.dir);
    }
    kill_subscribe(t);
    return true;
}

static void close_clients(struct kill_test *t)
{
    for (int i = 0; i < CONNECTIONS; i++) {
        client_close(t->clients[i]);
        t->clients[i] = NULL;
    }
}

static void path(const struct kill_test *t, const char *name, char out[400])
{
    snprintf(out, 400, "%s/%s", t->daemon.dir, name);
}

/* The store as the kill left it, for whoever has to find out what went wrong. */
static void keep_store(struct kill_test *t)
{
    char store[400], before[400], older[400];

    path(t, "store", store);
    path(t, "store.before", before);
    path(t, "store.older", older);
    if (t->sabotage != 0) {
        folder_remove(older);
        rename(before, older);
    }
    folder_copy(store, before);
    if (t->round == t->sabotage && t->round > 0) {
        folder_copy(older, store);
        printf("round %u: the store of the round before was put back\n", t->round);
    }
}

static void leave_traces(struct kill_test *t)
{
    char from[400], to[400], name[80];

    snprintf(name, sizeof(name), "failed-seed-%llu-round-%u",
             (unsigned long long)t->seed, t->round);
    path(t, name, to);
    folder_remove(to);
    mkdir(to, 0755);
    path(t, "store.before", from);
    snprintf(to + strlen(to), 40, "/store");
    folder_copy(from, to);
    path(t, "log", from);
    to[strlen(to) - strlen("store")] = 0;
    snprintf(to + strlen(to), 40, "log");
    folder_copy(from, to);
    printf("the store as the kill left it, and the log: %s/%s\n", t->daemon.dir, name);
}

/* === Stations === */

static bool new_station(struct kill_test *t)
{
    struct client *c = t->clients[PRODUCER];

    if (t->station[0] != 0) {
        if (!client_drop_station(c, t->station))
            return kill_fail(t, "station %s cannot be removed", t->station);
        memcpy(t->dropped, t->station, sizeof(t->dropped));
    }
    memset(t->items, 0, t->items_count * sizeof(t->items[0]));
    t->items_count = 0;
    snprintf(t->station, sizeof(t->station), "k%u", ++t->stations_made);
    t->rounds_left = 1 + dice_roll(&t->dice, STATION_ROUNDS);
    if (!client_create_station(c, t->station, PARTITIONS) ||
        !client_create_consumer(c, t->station, GROUP, ACK_WAIT_MS))
        return kill_fail(t, "station %s cannot be made", t->station);
    return true;
}

/* A store that has grown too big makes room for a new one. */
static bool new_store(struct kill_test *t)
{
    char store[400];

    path(t, "store", store);
    if (folder_bytes(store) < (uint64_t)STORE_BYTES_MAX)
        return true;
    close_clients(t);
    if (daemon_stop(&t->daemon, 10000) != 0)
        return kill_fail(t, "the daemon did not stop with status 0");
    folder_remove(store);
    t->stores++;
    t->station[0] = t->dropped[0] = t->side[0] = 0;
    return start(t);
}

static bool check_stations(struct kill_test *t)
{
    struct client *c = t->clients[PRODUCER];

    if (t->dropped[0] != 0 && client_has_station(c, t->dropped))
        return kill_fail(t, "station %s was removed and is back", t->dropped);
    if (t->side[0] != 0 && !client_has_station(c, t->side))
        return kill_fail(t, "station %s was made and is gone", t->side);
    if (t->side[0] != 0 && !client_drop_station(c, t->side))
        return kill_fail(t, "station %s cannot be removed", t->side);
    t->side[0] = 0;
    return true;
}

/* === Rounds === */

static bool run_round(struct kill_test *t)
{
    if (!start(t) || !check_stations(t))
        return false;
    if (t->station[0] != 0) {
        if (!kill_resend(t) || !kill_verify(t))
            return false;
        if ((t->rounds_left == 0 || dice_roll(&t->dice, 2) == 0) && !kill_settle(t))
            return false;
    }
    if (t->station[0] == 0 || t->rounds_left == 0) {
        if (!new_store(t) || !new_station(t))
            return false;
    }
    t->rounds_left--;
    if (!kill_load(t))
        return false;
    close_clients(t);
    keep_store(t);
    return true;
}

static void print_sum(const struct kill_test *t, uint64_t began_ns)
{
    static const char *const names[AGES] = { "below 1 ms", "1 to 5", "5 to 20",
                                             "20 to 50",   "50 to 200", "above" };

    printf("rounds %u (%u stations, %u stores), acknowledged %llu, verified %llu, "
           "delivered %llu, settled %llu (%llu confirmed), redelivered %llu, %.0f s\n",
           t->round, t->stations_made, t->stores, (unsigned long long)t->acknowledged,
           (unsigned long long)t->verified, (unsigned long long)t->delivered,
           (unsigned long long)t->settled, (unsigned long long)t->confirmed,
           (unsigned long long)t->redelivered,
           (double)(client_now_ns() - began_ns) / 1e9);
    printf("sent again with their ids: %llu, of them stored before the kill: %llu\n",
           (unsigned long long)t->resent, (unsigned long long)t->duplicates);
    printf("acks without an answer that came back after a kill, by their age at it:");
    for (int i = 0; i < AGES; i++)
        printf(" %s: %u%s", names[i], t->ages[i], i + 1 < AGES ? "," : "\n");
    printf("of them older than 5 ms and two syncs: %u\n", t->strict);
}

int main(int argc, char **argv)
{
    static struct kill_test t;
    uint32_t rounds = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 0;
    const char *sabotage = getenv("KILL_SABOTAGE");
    char binary[300], preload[300];
    uint64_t began = client_now_ns();

    if (rounds == 0) {
        fprintf(stderr, "usage: kill_load BUILD DIR ROUNDS [SEED]\n");
        return 2;
    }
    t.seed = argc > 4 ? strtoull(argv[4], NULL, 10) : began % 1000000;
    t.dice = dice_of(t.seed);
    t.sabotage = sabotage != NULL ? (uint32_t)strtoul(sabotage, NULL, 10) : 0;
    t.items = calloc(ITEMS_MAX, sizeof(t.items[0]));
    t.stores = 1;
    snprintf(binary, sizeof(binary), "%.250s/memphisd", argv[1]);
    snprintf(preload, sizeof(preload), "%.250s/test/wire/slow_sync.so", argv[1]);
    t.daemon = (struct daemon){ .binary = binary, .preload = realpath(preload, NULL) };
    snprintf(t.daemon.dir, sizeof(t.daemon.dir), "%.200s/work", argv[2]);
    mkdir(argv[2], 0755);
    folder_remove(t.daemon.dir);
    mkdir(t.daemon.dir, 0755);
    t.daemon.port = daemon_free_port();
    printf("seed %llu\n", (unsigned long long)t.seed);
    for (t.round = 1; t.round <= rounds; t.round++) {
        fflush(stdout);
        if (!run_round(&t))
            break;
        if (t.round % 50 == 0)
            fprintf(stderr, "%u of %u rounds, %llu s\n", t.round, rounds,
                    (unsigned long long)((client_now_ns() - began) / 1000000000u));
    }
    t.round = t.round > rounds ? rounds : t.round;
    close_clients(&t);
    daemon_kill(&t.daemon);
    if (t.failure[0] != 0) {
        printf("round %u: %s\n", t.round, t.failure);
        leave_traces(&t);
    }
    print_sum(&t, began);
    report(t.failure[0] == 0, "%u rounds of kill -9 under load", t.round);
    return report_end();
}
