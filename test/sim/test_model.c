/* The model test: random operations on a whole broker, and beside it a model that says
 * what it must do (model.h).
 *
 * Each seed makes stations, partitions and groups, then produces (with and without
 * ids), fetches, acks, nacks, delays, terminates, lets ack waits and retention pass,
 * purges, resends, settles and drops dead letters, stops, crashes and starts again.
 * Each delivery is checked as it comes: message, count, order, pull. At checkpoints,
 * when nothing is under way, everything else is: sequences, ids, positions and counts
 * of groups, rows of dead letters. After a crash what the last checkpoint saw, and
 * what was confirmed since, must be there; the rest may be as it was or as it became.
 *
 * A run counts when it has at least 200 operations, a start, a dead letter and a
 * resend; it goes on until it does.
 *
 *   test_model                      the seeds of `make test`
 *   test_model SEED                 one seed
 *   test_model FIRST-LAST [MINUTES] a range; after that time it says where to go on
 */
#include "sim/model_world.h"

/* -- operations -------------------------------------------------------------------- */

/* Where an operation goes. */
struct place {
    uint32_t n, partition, g;
    struct station *s;
    struct partition *p;
    struct cursor *c;
};

static struct place somewhere(struct world *w)
{
    struct place at = { .n = (uint32_t)draw(w, w->m.stations_count) };

    at.s = &w->m.stations[at.n];
    at.partition = (uint32_t)draw(w, at.s->partitions);
    at.p = &at.s->parts[at.partition];
    do
        at.g = (uint32_t)draw(w, GROUPS_MAX);
    while (!at.s->has_group[at.g]);
    at.c = &at.p->cursors[at.g];
    return at;
}

static void on_receipt(void *ctx, const struct mp_receipt *r)
{
    struct asked *a = ctx;
    struct model *m = &a->world->m;

    if (a->world->is_closing)
        return;
    a->is_answered = true;
    fail_if(m, r->status != MEMPHIS_OK, "a message is refused: %d", (int)r->status);
    fail_if(m, r->seq != a->seq || r->duplicate != a->is_duplicate,
            "a message is stored as %d%s, not as %d%s", (int)r->seq,
            r->duplicate ? " (a duplicate)" : "", (int)a->seq,
            a->is_duplicate ? " (a duplicate)" : "");
    a->p->messages[a->seq].is_told = true;
}

static void produce(struct world *w, struct place *at)
{
    struct partition *p = at->p;
    struct asked *a;
    uint32_t id = (uint32_t)draw(w, 3 * IDS_MAX);
    char payload[80], name[16] = "";
    uint64_t now = w->broker->now_ns;

    if (p->last + 1 == MESSAGES_MAX)
        return;
    w->operations++;
    a = ask(w);
    a->p = p;
    a->seq = p->last + 1;
    if (id < IDS_MAX) {
        snprintf(name, sizeof name, "id%u", id);
        a->is_duplicate =
            p->ids[id] != 0 && p->messages[p->ids[id]].time + at->s->window > now;
        if (a->is_duplicate)
            a->seq = p->ids[id];
        else
            p->ids[id] = a->seq;
    }
    if (!a->is_duplicate)
        p->messages[++p->last] = (struct message){ .number = ++w->numbers,
                                                   .time = now,
                                                   .has_id = id < IDS_MAX };
    snprintf(payload, sizeof payload, "%u%.*s", w->numbers, (int)draw(w, 60),
             ".............................................................");
    mp_stream_produce(stream_of(w, at->n, at->partition),
                      chance(w, 2) ? MP_STR("NATS/1.0\r\ncolor: red\r\n\r\n")
                                   : MP_STR(""),
                      mp_slice_text(payload), mp_slice_text(name), on_receipt, a);
}

static void fetch(struct world *w, struct place *at)
{
    struct pull q = { .left = 1 + (uint32_t)draw(w, 8), .expires = NEVER };
    struct mp_pull_request r = { .batch = q.left };
    char inbox[24];

    while (q.slot < SLOTS && w->slots[q.slot].is_taken)
        q.slot++;
    if (q.slot == SLOTS || at->c->pulls_count == PULLS_MAX)
        return;
    w->operations++;
    q.no_wait = r.no_wait = draw(w, 3) > 0;
    if (!q.no_wait) {
        r.has_expires = true;
        r.expires_ns = (1 + draw(w, chance(w, 6) ? 20000 : 60)) * MS;
        q.expires = w->broker->now_ns + r.expires_ns + MP_PULL_LATE_NS;
    }
    w->slots[q.slot] = (struct slot){ true, at->n, at->partition, at->g };
    at->c->pulls[at->c->pulls_count++] = q;
    snprintf(inbox, sizeof inbox, "_INBOX.%d", q.slot);
    mp_stream_pull(group_of(w, at->n, at->partition, at->g), &r, mp_slice_text(inbox));
}

/* One that is open, mostly; 0: there is none. */
static uint64_t pick(struct world *w, const struct place *at)
{
    uint64_t count = at->c->next - at->p->first, from;

    if (at->c->next <= at->p->first)
        return 0;
    from = draw(w, count);
    for (uint64_t k = 0; k < count; k++) {
        uint64_t seq = at->p->first + (from + k) % count;
        if (is_open(&at->c->items[seq]) || chance(w, 60))
            return seq;
    }
    return 0;
}

static void say(struct world *w, const struct place *at, uint64_t seq,
                const char *verdict, const char *reply)
{
    w->operations++;
    mp_stream_settle(group_of(w, at->n, at->partition, at->g), seq,
                     mp_slice_text(verdict), mp_slice_text(reply));
}

static void ack(struct world *w, struct place *at)
{
    static const char *const words[] = { "", "+ACK", "+OK" };
    uint64_t seq = pick(w, at);
    char reply[24] = "";

    if (seq == 0)
        return;
    settle_item(&w->m, at->s, at->partition, at->g, seq);
    if (chance(w, 3)) {
        snprintf(reply, sizeof reply, "_ACK.%u", w->asked_count);
        struct asked *a = ask(w);
        a->p = at->p;
        a->group = at->g;
        a->seq = seq;
    }
    say(w, at, seq, words[draw(w, 3)], reply);
}

static void nack(struct world *w, struct place *at)
{
    uint64_t seq = pick(w, at);
    uint64_t delay = chance(w, 2) ? (1 + draw(w, 300)) * MS : 0;
    struct item *i = &at->c->items[seq];
    char verdict[48] = "-NAK";

    if (seq == 0)
        return;
    if (i->state == WAITING || i->state == DELAYED) {
        touch(i);
        if (delay > 0) {
            i->state = DELAYED;
            i->due = w->broker->now_ns + delay;
        } else {
            becomes_due(&w->m, at->s, at->partition, at->g, seq);
        }
    }
    if (delay > 0)
        snprintf(verdict, sizeof verdict, "-NAK {\"delay\":%llu}",
                 (unsigned long long)delay);
    say(w, at, seq, verdict, "");
}

static void terminate(struct world *w, struct place *at)
{
    uint64_t seq = pick(w, at);
    char text[16] = "", verdict[32] = "+TERM";
    struct item *i = &at->c->items[seq];
    bool is_new = seq != 0 && is_open(i) && i->state != DYING;
    uint64_t way = draw(w, 3);

    if (seq == 0)
        return;
    if (way > 0)
        snprintf(text, sizeof text, "bad %u", (unsigned)draw(w, 100));
    if (way == 1)
        snprintf(verdict, sizeof verdict, "+TERM %s", text);
    if (is_new) {
        touch(i);
        lose(&w->m, at->s, at->partition, at->g, seq, MP_DEAD_NACKED, text);
    }
    say(w, at, seq, verdict, "");
    if (is_new && way == 2) {
        char name[4] = { 'g', (char)('0' + at->g), 0 };
        mp_dls_nacked(broker_station(w, at->n), at->partition + 1, seq,
                      mp_slice_text(name), mp_slice_text(text));
    }
}

static void extend(struct world *w, struct place *at)
{
    uint64_t seq = pick(w, at);

    if (seq == 0)
        return;
    if (at->c->items[seq].state == WAITING) {
        touch(&at->c->items[seq]);
        at->c->items[seq].due = w->broker->now_ns + at->s->ack_wait[at->g];
        at->c->items[seq].is_extended = true;
    }
    say(w, at, seq, "+WPI", "");
}

/* A delivery that its consumer never saw. */
static void give_back(struct world *w, struct place *at)
{
    uint64_t seq = pick(w, at);
    struct item *i = &at->c->items[seq];

    if (seq == 0 || i->state != WAITING)
        return;
    w->operations++;
    mp_stream_return(group_of(w, at->n, at->partition, at->g), seq, i->deliveries);
    touch(i);
    i->came_back = true;
    i->deliveries--;
    i->state = READY;
    i->epoch = w->m.epoch;
    i->rank = ++w->m.rank;
}

static void unknown(struct world *w, struct place *at)
{
    static const char *const words[] = { "", "-NAK", "+TERM", "+WPI", "what?" };

    say(w, at, at->c->next + draw(w, 5), words[draw(w, 5)], "");
    say(w, at, 0, words[draw(w, 5)], "");
}

static void on_purged(void *ctx, memphis_status status, const char *text)
{
    struct asked *a = ctx;
    struct model *m = &a->world->m;

    if (a->world->is_closing)
        return;
    a->is_answered = true;
    fail_if(m, status != MEMPHIS_OK, "a purge says %s", text);
    for (uint32_t p = 0; p < a->s->partitions; p++) {
        struct partition *part = &a->s->parts[p];

        if (a->purge_to[p] == 0)
            continue;
        raise_first(a->s, part, a->purge_to[p]);
        part->first_was = part->first;
    }
}

static void purge(struct world *w, struct place *at)
{
    struct asked *a = ask(w);

    uint32_t number = chance(w, 2) ? 0 : at->partition + 1;

    w->operations++;
    a->s = at->s;
    for (uint32_t p = 0; p < at->s->partitions; p++)
        if (number == 0 || number == p + 1)
            a->purge_to[p] = at->s->parts[p].purge_to = at->s->parts[p].last + 1;
    mp_station_purge(broker_station(w, at->n), number,
                     (struct mp_then){ on_purged, a });
}

/* A row that the last checkpoint has seen. */
static struct row *some_row(struct world *w, struct place *at)
{
    uint64_t from;

    if (at->s->rows_count == 0)
        return NULL;
    from = draw(w, at->s->rows_count);
    for (uint32_t k = 0; k < at->s->rows_count; k++) {
        struct row *r = &at->s->rows[(from + k) % at->s->rows_count];
        if (r->id != 0 && r->must != 0 && !r->is_fresh)
            return r;
    }
    return NULL;
}

static void settle_row(struct world *w, struct place *at, struct row *r, uint32_t g)
{
    char name[4] = { 'g', (char)('0' + g), 0 };

    w->operations++;
    leave_row(r, g);
    mp_dls_settle(w->broker, r->id, mp_slice_text(name));
    (void)at;
}

/* To each of its groups, twice: the subject of now and that of old SDKs. Then some of
 * them settle, perhaps all in one breath. */
static void resend(struct world *w, struct place *at)
{
    checkpoint(w);
    struct row *r = is_over(w) ? NULL : some_row(w, at);

    if (r == NULL)
        return;
    uint32_t groups = r->must; /* another may lose it, too, meanwhile */
    w->resent = r;
    w->resent_station = at->n;
    memset(w->resent_heard, 0, sizeof w->resent_heard);
    struct mp_resend_progress done = { .is_running = true };
    fail_if(&w->m, mp_dls_resend(broker_station(w, at->n), &r->id, 1) != MEMPHIS_OK,
            "a resend is refused");
    for (int i = 0; i < 1000 && done.is_running && !is_over(w); i++) {
        pass(w, 1);
        if (!is_over(w))
            mp_dls_resend_progress(broker_station(w, at->n), &done);
    }
    settle_down(w);
    for (uint32_t g = 0; g < GROUPS_MAX && !is_over(w); g++)
        fail_if(&w->m, w->resent_heard[g] != 2 * (groups >> g & 1),
                "a dead letter comes %u times to group %u", w->resent_heard[g], g);
    w->resent = NULL;
    w->resends++;
    w->operations++;
    for (uint32_t g = 0; g < GROUPS_MAX && !is_over(w); g++)
        if ((groups >> g & 1) != 0 && chance(w, 2))
            settle_row(w, at, r, g);
}

static void on_dropped(void *ctx, memphis_status status, const char *text)
{
    struct asked *a = ctx;
    struct model *m = &a->world->m;

    if (a->world->is_closing)
        return;
    a->is_answered = true;
    fail_if(m, status != MEMPHIS_OK, "removing a dead letter says %s", text);
    for (uint32_t k = 0; k < a->s->rows_count; k++)
        if (a->s->rows[k].id == a->seq) {
            a->s->rows[k].were = 0; /* for good */
            a->s->rows[k].text[0] = 0;
        }
}

/* Another group gives up the message of that row at the same moment. */
static void give_up_too(struct world *w, struct place at, const struct row *r)
{
    at.partition = r->partition;
    for (at.g = 0; at.g < GROUPS_MAX; at.g++) {
        struct item *i = &at.s->parts[r->partition].cursors[at.g].items[r->seq];

        if (!at.s->has_group[at.g] || !is_open(i) || i->state == DYING)
            continue;
        touch(i);
        lose(&w->m, at.s, at.partition, at.g, r->seq, MP_DEAD_NACKED, "");
        say(w, &at, r->seq, "+TERM", "");
    }
}

static void drop_row(struct world *w, struct place *at)
{
    struct row *r = some_row(w, at);
    struct asked *a;

    if (r == NULL)
        return;
    w->operations++;
    a = ask(w);
    a->s = at->s;
    a->seq = r->id;
    touch_row(r);
    r->must = r->may = 0;
    mp_dls_drop(broker_station(w, at->n), &r->id, 1, (struct mp_then){ on_dropped, a });
    if (chance(w, 2))
        give_up_too(w, *at, r);
}

static void flush(struct world *w)
{
    w->broker->replica->wants_flush = true;
}

/* Half of a second station's retention is little beside what an ack waits. */
static void long_time(struct world *w)
{
    static const uint64_t spans[] = { 400, 900, 1600, 2500, 11000, 10900000 };
    uint64_t n = draw(w, chance(w, 8) ? 6 : 5);

    checkpoint(w);
    if (is_over(w))
        return;
    w->operations++;
    pass(w, spans[n]);
}

/* What an ack waits, about. */
static void let_pass(struct world *w)
{
    w->operations++;
    for (uint64_t k = draw(w, 60); k > 0 && !is_over(w); k--)
        pass(w, 1);
}

/* Delivered and given up within one progress of its group; perhaps the last one. */
static void snatch(struct world *w, struct place *at)
{
    produce(w, at);
    fetch(w, at);
    for (int i = 0; i < 2 && !is_over(w); i++)
        pass(w, 1);
    if (is_over(w))
        return;
    terminate(w, at);
    if (chance(w, 2))
        restart(w);
}

static void on_then(void *ctx, memphis_status status, const char *text)
{
    struct asked *a = ctx;

    a->is_answered = true;
    fail_if(&a->world->m, status != MEMPHIS_OK, "a call says %s", text);
}

/* From the first message, from the next one, or from one of the newest. */
static void make_group(struct world *w, uint32_t n, uint32_t g, int64_t newest)
{
    struct station *s = &w->m.stations[n];
    char name[4] = { 'g', (char)('0' + g), 0 };

    s->ack_wait[g] = (5 + draw(w, 60)) * MS;
    s->deliveries_max[g] = 1 + (uint32_t)draw(w, 4);
    struct mp_consumer_request r = { .name = name,
                                     .group = name,
                                     .connection_id = "c1",
                                     .app_id = "app",
                                     .sdk = "go",
                                     .user = "root",
                                     .version = 4,
                                     .ack_wait_ms = s->ack_wait[g] / MS,
                                     .deliveries_max = s->deliveries_max[g],
                                     .start_sequence = 1,
                                     .last_messages = newest };
    mp_consumer_add(broker_station(w, n), &r, (struct mp_then){ on_then, ask(w) });
    for (uint32_t p = 0; p < s->partitions; p++) {
        struct partition *part = &s->parts[p];
        struct cursor *c = &part->cursors[g];
        uint64_t end = part->last + 1;

        memset(c, 0, sizeof *c);
        c->next = part->first;
        if (newest >= 0)
            c->next = end > (uint64_t)newest ? end - (uint64_t)newest : 1;
        if (c->next < part->first)
            c->next = part->first;
        c->next_was = c->next;
    }
    settle_down(w);
    s->has_group[g] = true;
}

/* Its pulls hear it, its dead letters forget it; perhaps it is made anew. */
static void replace_group(struct world *w, struct place *at)
{
    char name[4] = { 'g', (char)('0' + at->g), 0 };
    struct station *s = at->s;

    mp_disk_crash_at(w->disk, 0); /* test_station.c crashes such calls */
    checkpoint(w);
    if (is_over(w))
        return;
    w->operations++;
    w->leaving = s; /* it goes on until that is committed */
    w->leaving_group = at->g;
    mp_consumer_drop(broker_station(w, at->n), name, "c1",
                     (struct mp_then){ on_then, ask(w) });
    settle_down(w);
    w->leaving = NULL;
    s->has_group[at->g] = false;
    for (uint32_t k = 0; k < s->rows_count; k++) {
        struct row *r = &s->rows[k];

        r->is_unsure |= r->is_fresh || (r->must >> at->g & 1) != 0;
        r->must &= ~(1u << at->g);
        r->may &= ~(1u << at->g);
        r->were &= ~(1u << at->g);
    }
    checkpoint(w);
    for (uint32_t p = 0; p < s->partitions; p++)
        fail_if(&w->m, s->parts[p].cursors[at->g].pulls_count > 0,
                "a pull of a group that was removed does not end");
    if (!is_over(w))
        make_group(w, at->n, at->g, (int64_t)draw(w, 6) - 1);
    checkpoint(w);
}

static void operate(struct world *w)
{
    struct place at = somewhere(w);
    uint64_t what = draw(w, 1000);

    w->tries++;
    if (what < 10)
        snatch(w, &at);
    else if (what < 14)
        replace_group(w, &at);
    else if (what < 280)
        for (uint64_t k = 1 + draw(w, 3); k > 0; k--)
            produce(w, &at);
    else if (what < 500)
        fetch(w, &at);
    else if (what < 630)
        ack(w, &at);
    else if (what < 720)
        nack(w, &at);
    else if (what < 760)
        terminate(w, &at);
    else if (what < 780)
        extend(w, &at);
    else if (what < 800)
        give_back(w, &at);
    else if (what < 810)
        unknown(w, &at);
    else if (what < 920)
        let_pass(w);
    else if (what < 945)
        resend(w, &at);
    else if (what < 955)
        drop_row(w, &at);
    else if (what < 965)
        purge(w, &at);
    else if (what < 972)
        flush(w);
    else if (what < 982)
        long_time(w);
    else if (what < 990)
        restart(w);
    else
        mp_disk_crash_at(w->disk, 1 + draw(w, 12));
}

/* -- a run ------------------------------------------------------------------------- */

static void make_station(struct world *w, uint32_t n)
{
    struct station *s = &w->m.stations[n];
    struct mp_station_settings settings;
    char name[4] = { 's', (char)('0' + n), 0 };
    uint64_t kind = draw(w, 4);

    mp_station_settings_default(&settings);
    *s = (struct station){ .partitions = 1 + (uint32_t)draw(w, PARTITIONS_MAX),
                           .age = 3600000 * MS,
                           .limit = NEVER,
                           .window = 300 * MS };
    if (kind == 0) {
        s->age = 2000 * MS;
        settings.retention_value = 2;
        s->window = 1500 * MS;
    } else if (kind == 1) {
        s->age = NEVER;
        s->limit = 10 + draw(w, 30);
        settings.retention = MP_RETAIN_MESSAGES;
        settings.retention_value = s->limit;
    }
    s->keeps_dead = n == 0 || !chance(w, 4);
    settings.partitions = s->partitions;
    settings.idempotency_ms = s->window / MS;
    settings.dls_poison = s->keeps_dead;
    mp_station_create(w->broker, name, &settings, "root",
                      (struct mp_then){ on_then, ask(w) });
    settle_down(w);
    for (uint32_t p = 0; p < s->partitions; p++)
        s->parts[p].first = s->parts[p].first_was = 1;
    for (uint32_t g = 1 + (uint32_t)draw(w, GROUPS_MAX); g > 0; g--)
        make_group(w, n, g - 1, -1);
}

static bool counts(const struct world *w)
{
    return w->operations >= OPERATIONS_MIN && w->starts > 0 && w->m.dead_letters > 0 &&
           w->resends > 0;
}

static struct {
    uint64_t runs, operations, starts, crashes, dead_letters, resends, not_counted;
} all;

static void run_seed(uint64_t number, char *failure)
{
    static const char *const files[] = { "", "-wal", "-shm" };
    struct world *w = calloc(1, sizeof *w);
    char path[64];

    w->seed = number;
    w->random = number * 0x2545f4914f6cdd1dull;
    w->m.epoch = 1;
    w->m.stations_count = 1 + (uint32_t)draw(w, STATIONS_MAX);
    snprintf(w->dir, sizeof w->dir, "%s/mp-model-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(w->dir));
    w->disk = mp_disk_new(number);
    start(w);
    assert_non_null(w->broker);
    pass(w, 1);
    for (uint32_t n = 0; n < w->m.stations_count; n++)
        make_station(w, n);
    checkpoint(w);
    while (w->m.failure[0] == 0 && w->tries < TRIES_MAX &&
           (w->operations < OPERATIONS_MIN + number % OPERATIONS_MORE || !counts(w))) {
        operate(w);
        if (w->m.failure[0] != 0)
            break;
        if (mp_disk_has_crashed(w->disk) || w->broker->is_broken) {
            crash(w);
            continue;
        }
        if (chance(w, 3))
            pass(w, 1);
        if (chance(w, 4))
            checkpoint(w);
    }
    if (mp_disk_has_crashed(w->disk) && w->m.failure[0] == 0)
        crash(w);
    mp_disk_crash_at(w->disk, 0);
    if (w->m.failure[0] == 0)
        restart(w);
    if (w->m.failure[0] != 0)
        snprintf(failure, 600, "seed %llu, after %u operations: %s",
                 (unsigned long long)number, w->operations, w->m.failure);
    stop(w);
    mp_disk_free(w->disk);
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/meta.db%s", w->dir, files[i]);
        unlink(path);
    }
    rmdir(w->dir);
    all.runs++;
    all.not_counted += failure[0] == 0 && !counts(w);
    all.operations += w->operations;
    all.starts += w->starts;
    all.crashes += w->crashes;
    all.dead_letters += w->m.dead_letters;
    all.resends += w->resends;
    free(w);
}

static uint64_t first_seed = 1, last_seed = 2500, minutes;

static uint64_t seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec;
}

static uint64_t seed; /* the one that runs, or the first that did not */

/* The last line that is printed: what ran, and how it ended. */
static void tell_verdict(const char *program, bool failed)
{
    printf("%llu runs: %llu operations, %llu starts (%llu times the power went), %llu "
           "dead letters, %llu resends\n",
           (unsigned long long)all.runs, (unsigned long long)all.operations,
           (unsigned long long)all.starts, (unsigned long long)all.crashes,
           (unsigned long long)all.dead_letters, (unsigned long long)all.resends);
    if (all.not_counted > 0)
        printf("%llu runs do not count: fewer than %d operations, or no start, dead "
               "letter or resend\n",
               (unsigned long long)all.not_counted, OPERATIONS_MIN);
    if (failed)
        printf("verdict: failed at seed %llu; again: %s %llu\n",
               (unsigned long long)seed, program, (unsigned long long)seed);
    else if (seed <= last_seed)
        printf("verdict: seeds %llu-%llu hold; time is up: go on with %llu-%llu\n",
               (unsigned long long)first_seed, (unsigned long long)seed - 1,
               (unsigned long long)seed, (unsigned long long)last_seed);
    else
        printf("verdict: seeds %llu-%llu hold\n", (unsigned long long)first_seed,
               (unsigned long long)last_seed);
}

static void the_broker_does_what_the_model_says(void **state)
{
    uint64_t begin = seconds();
    char failure[600] = "";

    (void)state;
    printf("seeds %llu-%llu\n", (unsigned long long)first_seed,
           (unsigned long long)last_seed);
    for (seed = first_seed; seed <= last_seed; seed++) {
        if (minutes > 0 && seconds() - begin >= minutes * 60)
            break;
        run_seed(seed, failure);
        if (failure[0] != 0)
            fail_msg("%s", failure);
        assert_int_equal(all.not_counted, 0);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        leak_checked(the_broker_does_what_the_model_says),
    };
    const char *dash = argc > 1 ? strchr(argv[1], '-') : NULL;

    /* Disks are big blocks that come and go: they stay in this process. */
    mallopt(M_MMAP_THRESHOLD, 64 << 20);
    mallopt(M_TRIM_THRESHOLD, 512 << 20);
    setvbuf(stdout, NULL, _IOLBF, 0);
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
    last_seed = 300; /* ten times as slow */
#endif
    if (argc > 1)
        first_seed = last_seed = strtoull(argv[1], NULL, 10);
    if (dash != NULL)
        last_seed = strtoull(dash + 1, NULL, 10);
    if (argc > 2)
        minutes = strtoull(argv[2], NULL, 10);
    int failed = run_tests("sim/model", tests);
    tell_verdict(argv[0], failed != 0);
    return failed;
}
