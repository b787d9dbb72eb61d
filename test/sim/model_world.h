/* The world of test_model.c: a broker on a disk that forgets, virtual time, a client
 * whose ears feed the model (model.h), and the comparison of the two. */
#ifndef TEST_SIM_MODEL_WORLD_H
#define TEST_SIM_MODEL_WORLD_H

#include "support/test.h"

#include "sim/model.h"

#include "base/limits.h"
#include "base/status.h"
#include "base/str.h"
#include "broker/client.h"
#include "broker/connection.h"
#include "broker/dls.h"
#include "env/env_mem.h"
#include "replica/solo.h"

#include <malloc.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum {
    SLOTS = 12,
    ASKED_MAX = 4096,
    OPERATIONS_MIN = 200, /* of a run; with fewer it does not count */
    OPERATIONS_MORE = 50, /* by seed */
    TRIES_MAX = 3000      /* not each finds something to do */
};

enum { PULL = 1, REPLY, RESENT }; /* what a subscription is for */

/* One of several things that wait for an answer. */
struct asked {
    struct world *world;
    struct station *s;
    struct partition *p;
    uint32_t group;
    uint64_t seq;
    uint64_t purge_to[PARTITIONS_MAX]; /* 0: not purged */
    bool is_duplicate, is_answered;
};

struct ear {
    int kind, slot;
    uint32_t station, group;
};

struct slot {
    bool is_taken;
    uint32_t station, partition, group;
};

struct world {
    uint64_t seed, random;
    struct mp_disk *disk;
    char dir[40];
    struct mp_broker *broker;
    struct mp_client client;
    struct slot slots[SLOTS];
    struct ear ears[SLOTS + 1 + 2 * STATIONS_MAX * GROUPS_MAX];
    struct asked asked[ASKED_MAX];
    uint32_t asked_count;
    uint32_t numbers; /* of payloads */
    bool is_closing;
    uint32_t tries, operations, starts, crashes, resends;
    struct row *resent; /* what is under way */
    uint32_t resent_station, resent_heard[GROUPS_MAX];
    struct station *leaving; /* whose group is being removed */
    uint32_t leaving_group;
    uint32_t read_number; /* of the dead letter that was read */
    struct model m;
};

static uint64_t draw(struct world *w, uint64_t n)
{
    uint64_t z = w->random += 0x9e3779b97f4a7c15ull;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return (z ^ z >> 31) % n;
}

static bool chance(struct world *w, uint64_t one_in)
{
    return draw(w, one_in) == 0;
}

/* -- the broker's side of things --------------------------------------------------- */

static struct mp_station *broker_station(struct world *w, uint32_t station)
{
    char name[4] = { 's', (char)('0' + station), 0 };

    return mp_station_find(w->broker, mp_slice_text(name));
}

static struct mp_stream *stream_of(struct world *w, uint32_t station,
                                   uint32_t partition)
{
    return mp_station_stream(broker_station(w, station), partition + 1);
}

static struct mp_stream_group *group_of(struct world *w, uint32_t station,
                                        uint32_t partition, uint32_t g)
{
    char name[4] = { 'g', (char)('0' + g), 0 };

    return mp_stream_group(stream_of(w, station, partition), mp_slice_text(name));
}

/* -- hearing ----------------------------------------------------------------------- */

static uint32_t number_of(memphis_slice payload)
{
    uint64_t n = 0;
    const char *text = payload.data;
    size_t size = 0;

    while (size < payload.size && text[size] >= '0' && text[size] <= '9')
        size++;
    return mp_parse_u64(mp_slice(text, size), &n) ? (uint32_t)n : 0;
}

/* The last n decimal tokens of a subject. */
static void tokens_of(memphis_slice subject, uint64_t *out, int n)
{
    const char *text = subject.data;
    size_t end = subject.size;

    for (int i = n - 1; i >= 0; i--) {
        size_t from = end;
        while (from > 0 && text[from - 1] != '.')
            from--;
        out[i] = 0;
        (void)mp_parse_u64(mp_slice(text + from, end - from), &out[i]);
        end = from > 0 ? from - 1 : 0;
    }
}

static void hear_status(struct world *w, int slot, const char *headers)
{
    struct slot *k = &w->slots[slot];
    struct station *s = &w->m.stations[k->station];
    struct partition *p = &s->parts[k->partition];
    struct cursor *c = &p->cursors[k->group];
    int status = (int)strtol(headers + 9, NULL, 10);
    uint32_t at = 0;

    while (at < c->pulls_count && c->pulls[at].slot != slot)
        at++;
    fail_if(&w->m, at == c->pulls_count, "status %d to a pull that has ended", status);
    if (at == c->pulls_count)
        return;
    struct pull q = c->pulls[at];
    memmove(&c->pulls[at], &c->pulls[at + 1], (--c->pulls_count - at) * sizeof q);
    k->is_taken = false;
    if ((status == 408 && q.expires <= w->m.now) ||
        (status == 409 && s == w->leaving && k->group == w->leaving_group))
        return;
    fail_if(&w->m, !q.no_wait || status != (q.sent > 0 ? 408 : 404),
            "a pull that got %u ends with %d", q.sent, status);
    fail_if(&w->m, has_more(&w->m, s, p, c, false),
            "a pull ends with %d, and there is more", status);
}

static void hear_pull(struct world *w, int slot, const struct mp_message *m)
{
    struct slot *k = &w->slots[slot];
    struct station *s = &w->m.stations[k->station];
    uint64_t t[5];

    if (m->payload.size == 0) {
        hear_status(w, slot, m->headers.data);
        return;
    }
    tokens_of(m->reply, t, 5); /* deliveries, seq, dseq, time, pending */
    delivered(&w->m, s, k->partition, k->group, slot, t[1], (uint32_t)t[0], t[2]);
    if (w->m.failure[0] != 0)
        return;
    struct partition *p = &s->parts[k->partition];
    struct cursor *c = &p->cursors[k->group];
    fail_if(&w->m, number_of(m->payload) != p->messages[t[1]].number,
            "message %d has the payload of another", (int)t[1]);
    uint64_t log_last =
        mp_log_last(w->broker->data_log, stream_of(w, k->station, k->partition)->pid);
    fail_if(&w->m, t[4] != log_last - (c->next - 1),
            "message %d says %d pending, not %d", (int)t[1], (int)t[4],
            (int)(log_last - (c->next - 1)));
    bool goes_on = false;
    for (uint32_t i = 0; i < c->pulls_count; i++)
        goes_on |= c->pulls[i].slot == slot;
    k->is_taken = goes_on;
}

static void hear_reply(struct world *w, const struct mp_message *m)
{
    uint64_t n;

    tokens_of(m->subject, &n, 1);
    fail_if(&w->m, n >= w->asked_count || w->asked[n].is_answered,
            "an ack is answered twice");
    if (n >= w->asked_count)
        return;
    struct asked *a = &w->asked[n];
    a->is_answered = true;
    struct item *i = &a->p->cursors[a->group].items[a->seq];
    if (i->state == SETTLED)
        i->is_sure = true;
}

static void hear_resent(struct world *w, const struct ear *e,
                        const struct mp_message *m)
{
    struct row *r = w->resent;

    fail_if(&w->m,
            r == NULL || w->resent_station != e->station ||
                ((r->must | r->may) >> e->group & 1) == 0,
            "a dead letter comes to group %u of station %u, where none was lost",
            e->group, e->station);
    if (w->m.failure[0] != 0)
        return;
    const struct partition *p = &w->m.stations[e->station].parts[r->partition];
    fail_if(&w->m, number_of(m->payload) != p->messages[r->seq].number,
            "what is resent has the payload of another");
    fail_if(&w->m, number_of(mp_header_find(m->headers, "$memphis_pm_id")) != r->id,
            "what is resent has another id");
    w->resent_heard[e->group]++;
}

static void hear(struct mp_client *c, struct mp_subscription *s,
                 const struct mp_message *m)
{
    struct world *w = mp_container_of(c, struct world, client);
    const struct ear *e = s->ctx;

    if (w->is_closing)
        return;
    advance(&w->m, w->broker->now_ns);
    if (e->kind == PULL)
        hear_pull(w, e->slot, m);
    else if (e->kind == REPLY)
        hear_reply(w, m);
    else
        hear_resent(w, e, m);
}

static struct asked *ask(struct world *w)
{
    assert_true(w->asked_count < ASKED_MAX);
    w->asked[w->asked_count] = (struct asked){ .world = w };
    return &w->asked[w->asked_count++];
}

/* -- start and stop ---------------------------------------------------------------- */

static void listen_to(struct world *w, struct ear *e, const char *subject)
{
    struct mp_subscription *s;

    assert_int_equal(mp_bus_subscribe(w->broker->bus, &w->client,
                                      mp_slice_text(subject), MP_STR(""), &s),
                     MEMPHIS_OK);
    s->ctx = e;
}

static void listen_to_all(struct world *w)
{
    struct ear *e = w->ears;
    char subject[64];

    for (int i = 0; i < SLOTS; i++) {
        snprintf(subject, sizeof subject, "_INBOX.%d", i);
        *e = (struct ear){ .kind = PULL, .slot = i };
        listen_to(w, e++, subject);
    }
    *e = (struct ear){ .kind = REPLY };
    listen_to(w, e++, "_ACK.*");
    for (uint32_t s = 0; s < w->m.stations_count; s++)
        for (uint32_t g = 0; g < GROUPS_MAX; g++)
            for (int k = 0; k < 2; k++) {
                snprintf(subject, sizeof subject, "$memphis_dls_s%u%cg%u", s, "._"[k],
                         g);
                *e = (struct ear){ .kind = RESENT, .station = s, .group = g };
                listen_to(w, e++, subject);
            }
}

static void on_broken(void *ctx, const memphis_error *why)
{
    (void)ctx, (void)why;
}

static void start(struct world *w)
{
    struct mp_broker_options o = {
        .heap = mp_heap_current(), .data_dir = w->dir, .broken = on_broken, .ctx = w
    };
    memphis_error err = { 0 };

    o.env = mp_env_mem_open(w->disk, o.heap);
    if (mp_broker_open(&o, &w->broker, &err) != MEMPHIS_OK) {
        fail_if(&w->m, !mp_disk_has_crashed(w->disk), "the start says %s", err.message);
        w->broker = NULL;
        return;
    }
    w->client = (struct mp_client){ .deliver = hear, .connection_id = "c1" };
    mp_bus_join(w->broker->bus, &w->client);
    mp_connection_up(w->broker, "c1");
    listen_to_all(w);
    w->is_closing = false;
    w->m.now = w->m.started = w->broker->now_ns;
    w->m.start_rank = ++w->m.rank;
}

static void stop(struct world *w)
{
    if (w->broker == NULL)
        return;
    w->is_closing = true;
    mp_connection_down(w->broker, "c1");
    mp_bus_leave(w->broker->bus, &w->client);
    mp_broker_close(w->broker);
    w->broker = NULL;
}

static bool is_over(const struct world *w)
{
    return w->broker == NULL || w->broker->is_broken || w->m.failure[0] != 0 ||
           mp_disk_has_crashed(w->disk);
}

/* To the next full millisecond of broker time, and some more; then a turn. */
static void pass(struct world *w, uint64_t ms)
{
    const struct mp_clock *c = w->broker->clock;
    uint64_t now =
        c->start_broker_ns + w->broker->env->boot_ns(w->broker->env) - c->start_boot_ns;
    uint64_t next;

    mp_disk_advance(w->disk, MS - now % MS + (ms - 1) * MS);
    mp_broker_turn(w->broker, &next);
    if (!w->broker->is_broken)
        advance(&w->m, w->broker->now_ns);
}

/* Retention reads from disk, step by step. */
static bool is_expiring(struct world *w)
{
    for (uint32_t n = 0; n < w->m.stations_count; n++)
        for (uint32_t p = 0; p < w->m.stations[n].partitions; p++) {
            struct station *s = &w->m.stations[n];
            const struct mp_stream *stream =
                s->parts[p].first > 0 ? stream_of(w, n, p) : NULL;

            if (stream != NULL && mp_log_first(stream->log, stream->pid) <
                                      first_alive(&w->m, s, &s->parts[p], 3 * MS))
                return true;
        }
    return false;
}

/* Until nothing is under way; what is read from disk takes a turn or two. */
static void settle_down(struct world *w)
{
    int idle = 0;

    for (int i = 0; i < 3000 && idle < 8 && !is_over(w); i++) {
        pass(w, 1);
        if (!is_over(w))
            idle = mp_broker_is_idle(w->broker) ? idle + 1 : 0;
        if (idle == 8 && i < 200 && is_expiring(w))
            idle = 0;
    }
    fail_if(&w->m, idle < 8 && !is_over(w), "it does not come to rest");
}

/* -- comparing --------------------------------------------------------------------- */

static void compare_cursor(struct world *w, uint32_t n, uint32_t partition, uint32_t g)
{
    struct model *m = &w->m;
    struct station *s = &m->stations[n];
    struct partition *p = &s->parts[partition];
    struct cursor *c = &p->cursors[g];
    const struct mp_stream_group *group = group_of(w, n, partition, g);
    uint64_t open = 0, again = 0, floor = NEVER;

    fail_if(m, group == NULL, "group %u is gone", g);
    if (m->failure[0] != 0)
        return;
    /* What has just expired is left out a moment before it is removed. */
    for (; c->next < group->group.next && may_be_gone(m, s, p, c->next); c->next++)
        c->items[c->next].state = SETTLED;
    fail_if(m, group->group.next != c->next, "group %u is at %d, not at %d", g,
            (int)group->group.next, (int)c->next);
    for (uint64_t seq = p->first; seq < c->next; seq++) {
        struct item *i = &c->items[seq];
        bool is_pending = mp_pending_find(&group->group.pending, seq) != NULL;

        if (i->state == DYING)
            i->state = SETTLED; /* the rows tell whether it is there */
        if (is_open(i) && !is_pending && may_be_gone(m, s, p, seq))
            i->state = SETTLED;
        fail_if(m, is_pending != is_open(i), "group %u: message %d is %s", g, (int)seq,
                is_pending ? "pending, and was settled" : "forgotten");
        if (is_open(i) && floor == NEVER)
            floor = seq - 1;
        open += is_open(i);
        again += is_open(i) && i->deliveries >= 2;
        i->is_fresh = i->is_sure = false;
    }
    if (open == 0)
        floor = c->next - 1;
    fail_if(m, group->group.pending.count != open, "group %u: %d pending, not %d", g,
            (int)group->group.pending.count, (int)open);
    fail_if(m, group->group.floor != floor, "group %u: floor %d, not %d", g,
            (int)group->group.floor, (int)floor);
    fail_if(m, group->group.redelivered != again, "group %u: %d redelivered, not %d", g,
            (int)group->group.redelivered, (int)again);
    fail_if(m, mp_stream_group_unseen(group) != p->last + 1 - c->next,
            "group %u: %d unseen, not %d", g, (int)mp_stream_group_unseen(group),
            (int)(p->last + 1 - c->next));
    for (uint32_t k = 0; k < c->pulls_count; k++)
        fail_if(m, c->pulls[k].no_wait || c->pulls[k].expires <= m->now,
                "group %u: a pull does not end", g);
    fail_if(m, c->pulls_count > 0 && has_more(m, s, p, c, true),
            "group %u: a pull waits, and there is something for it", g);
    c->next_was = c->next;
}

static void compare_message(struct world *w, uint32_t n, uint32_t partition,
                            uint64_t seq)
{
    struct mp_stream *stream = stream_of(w, n, partition);
    struct mp_stored stored;
    memphis_status st = mp_log_read(stream->log, stream->pid, seq, &stored);

    for (int i = 0; i < 100 && st == MP_PENDING; i++) {
        mp_mailbox_drain(&w->broker->mailbox);
        st = mp_log_read(stream->log, stream->pid, seq, &stored);
    }
    fail_if(&w->m, st != MEMPHIS_OK || stored.entry.seq != seq,
            "message %d cannot be read: status %d", (int)seq, (int)st);
    if (st != MEMPHIS_OK)
        return;
    fail_if(&w->m,
            number_of(stored.entry.payload) !=
                w->m.stations[n].parts[partition].messages[seq].number,
            "message %d is another", (int)seq);
    mp_stored_release(&stored);
}

static void compare_partition(struct world *w, uint32_t n, uint32_t partition)
{
    struct model *m = &w->m;
    struct station *s = &m->stations[n];
    struct partition *p = &s->parts[partition];
    const struct mp_stream *stream = stream_of(w, n, partition);
    struct mp_log_stats st;
    uint64_t first = mp_log_first(stream->log, stream->pid);

    fail_if(m, first < first_alive(m, s, p, 3 * MS),
            "what has expired is there: %d, not %d", (int)first,
            (int)first_alive(m, s, p, 3 * MS));
    fail_if(m, first > first_alive(m, s, p, 0),
            "messages before %d are gone, not before %d", (int)first,
            (int)first_alive(m, s, p, 0));
    fail_if(m, mp_log_last(stream->log, stream->pid) != p->last, "last is %d, not %d",
            (int)mp_log_last(stream->log, stream->pid), (int)p->last);
    raise_first(s, p, first);
    mp_log_stats(stream->log, stream->pid, &st);
    fail_if(m, st.messages != p->last + 1 - p->first, "%d messages, not %d",
            (int)st.messages, (int)(p->last + 1 - p->first));
    for (uint64_t seq = p->last; seq >= p->first && !p->messages[seq].is_told; seq--)
        fail_if(m, true, "message %d is not acknowledged", (int)seq);
    if (p->last >= p->first && m->failure[0] == 0)
        compare_message(w, n, partition, p->first + draw(w, p->last + 1 - p->first));
    p->first_was = p->first;
    p->purge_to = 0;
    for (uint32_t g = 0; g < GROUPS_MAX && m->failure[0] == 0; g++)
        if (s->has_group[g])
            compare_cursor(w, n, partition, g);
}

static void take_row(struct model *m, struct station *s, struct row *r,
                     const struct mp_dead_row *row)
{
    uint32_t groups = 0;

    for (uint32_t k = 0; k < row->gids_count; k++) {
        const struct mp_stream_group *g = mp_dls_group(row, k);
        uint32_t bit = g != NULL ? 1u << (g->name[1] - '0') : 0;

        fail_if(m, bit == 0 || (groups & bit) != 0,
                "a dead letter names a group twice, or one that is gone");
        groups |= bit;
    }
    (void)s;
    fail_if(m,
            groups == 0 || (r->must & ~groups) != 0 ||
                (groups & ~(r->must | r->may)) != 0,
            "message %d is dead for groups %x, not for %x (or %x)", (int)r->seq, groups,
            r->must, r->may);
    fail_if(m, (r->were & groups) != 0 && r->id != row->id,
            "the dead letter of %d has another id", (int)r->seq);
    if (r->is_unsure) {
        r->reason = row->reason;
        r->deliveries = row->deliveries;
        snprintf(r->text, sizeof r->text, "%s", row->text != NULL ? row->text : "");
    }
    fail_if(m,
            row->reason != r->reason || row->deliveries != r->deliveries ||
                strcmp(row->text != NULL ? row->text : "", r->text) != 0,
            "dead letter of %d: reason %d, %d deliveries, '%s'; not %d, %d, '%s'",
            (int)r->seq, row->reason, row->deliveries,
            row->text != NULL ? row->text : "", r->reason, (int)r->deliveries, r->text);
    r->id = row->id;
    r->changed = row->updated_ns;
    r->must = groups;
}

static void note_letter(void *ctx, struct mp_dead_row *row,
                        const struct mp_dead_letter *letter)
{
    struct world *w = ctx;

    w->read_number = row != NULL ? number_of(letter->payload) : 0;
}

static void compare_rows(struct world *w, uint32_t n)
{
    static const uint64_t keep = MP_DLS_RETENTION_DEFAULT_H * 3600ull * 1000000000;
    struct model *m = &w->m;
    struct station *s = &m->stations[n];
    struct mp_dead_row *row = NULL;
    bool seen[ROWS_MAX] = { false };
    uint64_t before = 0;

    for (uint32_t k = 0; k < s->rows_count; k++) {
        struct row *r = &s->rows[k];
        if (r->must == 0 || r->changed == 0 || r->changed + keep > m->now)
            continue;
        fail_if(m,
                !r->is_fresh && r->changed + keep + 5 * MS <= m->now &&
                    mp_dls_find(w->broker, r->id) != NULL,
                "a dead letter does not end");
        r->may |= r->must & r->were;
        r->must &= ~r->were;
        r->is_unsure = true;
    }
    while (m->failure[0] == 0 &&
           (row = mp_dls_next(broker_station(w, n), row)) != NULL) {
        uint32_t partition = row->pid - broker_station(w, n)->first_pid;
        struct row *r = find_row(s, partition, row->seq);
        fail_if(m, r == NULL || seen[r - s->rows],
                "a dead letter of %d in partition %u%s", (int)row->seq, partition,
                r == NULL ? ", where none was lost" : ", twice");
        fail_if(m, row->updated_ns < before, "dead letters are out of order");
        before = row->updated_ns;
        if (m->failure[0] != 0)
            return;
        seen[r - s->rows] = true;
        take_row(m, s, r, row);
        if (!chance(w, 4))
            continue;
        w->read_number = UINT32_MAX;
        mp_dls_read(w->broker, row->id, note_letter, w);
        for (int i = 0; i < 100 && w->read_number == UINT32_MAX; i++)
            mp_mailbox_drain(&w->broker->mailbox);
        fail_if(m, w->read_number != s->parts[partition].messages[r->seq].number,
                "the dead letter of %d reads as another", (int)r->seq);
    }
    for (uint32_t k = 0; k < s->rows_count; k++) {
        struct row *r = &s->rows[k];
        fail_if(m, r->must != 0 && !seen[k], "the dead letter of %d is not there",
                (int)r->seq);
        if (!seen[k]) {
            r->id = r->must = 0;
            r->changed = 0;
            r->text[0] = 0;
        }
        r->may = 0;
        r->were = r->must;
        r->is_fresh = r->is_unsure = false;
    }
}

/* Nothing is under way: everything can be compared, and is durable. */
static void checkpoint(struct world *w)
{
    settle_down(w);
    if (is_over(w))
        return;
    for (uint32_t n = 0; n < w->m.stations_count && w->m.failure[0] == 0; n++) {
        for (uint32_t p = 0; p < w->m.stations[n].partitions && w->m.failure[0] == 0;
             p++) {
            compare_partition(w, n, p);
            if (w->m.failure[0] != 0) {
                char why[300];
                snprintf(why, sizeof why, "%.290s", w->m.failure);
                snprintf(w->m.failure, sizeof w->m.failure,
                         "station %u, partition %u: %s", n, p, why);
            }
        }
        if (w->m.failure[0] == 0)
            compare_rows(w, n);
    }
    for (uint32_t k = 0; k < w->asked_count; k++)
        fail_if(&w->m, !w->asked[k].is_answered, "a call is not answered");
    w->asked_count = 0;
    w->m.epoch++;
}

/* -- what a start finds ------------------------------------------------------------ */

/* Its group has not given it up after all. */
static void stays(struct row *r, uint32_t g)
{
    if (r == NULL)
        return;
    r->must &= ~(1u << g);
    r->may &= ~(1u << g);
}

/* An item that has changed since the last checkpoint is as it was, or as it became. */
static void adopt_fresh(struct model *m, struct station *s, struct row *r, uint32_t g,
                        uint64_t seq, struct item *i,
                        const struct mp_pending_item *found, bool may_go)
{
    uint32_t low = i->was == UNSEEN ? 1 : i->had;

    (void)s;
    if (found == NULL) {
        fail_if(m, i->state != SETTLED && i->state != DYING && !may_go,
                "group %u: message %d is lost by a crash", g, (int)seq);
        i->state = SETTLED;
        return;
    }
    fail_if(m, i->is_sure, "group %u: a confirmed ack of %d is undone", g, (int)seq);
    fail_if(m, i->was == SETTLED, "group %u: the settled message %d is back", g,
            (int)seq);
    if (i->state == DYING)
        stays(r, g);
    i->came_back |= (found->flags & MP_PENDING_RETURNED) != 0;
    if (i->came_back && low > 0)
        low--;
    fail_if(m, found->deliveries < low || found->deliveries > i->deliveries + 1,
            "group %u: message %d had %u to %u deliveries, a start finds %u", g,
            (int)seq, low, i->deliveries, found->deliveries);
    i->deliveries = found->deliveries;
    i->state = DELAYED;
    i->due = found->time_ns;
    if (found->state == MP_PENDING_READY) {
        if (i->deliveries >= 3)
            i->deliveries--; /* counted, not made */
        i->state = i->deliveries >= 2 ? COUNTING : READY;
        i->rank = m->start_rank;
        i->epoch = m->epoch;
    }
}

static void adopt_cursor(struct world *w, uint32_t n, uint32_t partition, uint32_t g)
{
    struct model *m = &w->m;
    struct station *s = &m->stations[n];
    struct partition *p = &s->parts[partition];
    struct cursor *c = &p->cursors[g];
    const struct mp_stream_group *group = group_of(w, n, partition, g);
    uint64_t next;

    fail_if(m, group == NULL, "group %u is gone", g);
    if (group == NULL)
        return;
    next = group->group.next;
    fail_if(m, next < c->next_was || (next > c->next && next != p->first),
            "group %u goes on at %d, not between %d and %d", g, (int)next,
            (int)c->next_was, (int)c->next);
    for (uint64_t seq = next; seq < c->next && seq < MESSAGES_MAX; seq++) {
        fail_if(m, c->items[seq].is_sure, "group %u: a confirmed ack of %d is undone",
                g, (int)seq);
        if (c->items[seq].state == DYING)
            stays(find_row(s, partition, seq), g);
        c->items[seq] = (struct item){ .state = UNSEEN };
    }
    c->next = next;
    c->dseq = next - 1;
    c->pulls_count = 0;
    for (uint64_t seq = p->first; seq < next && m->failure[0] == 0; seq++) {
        struct item *i = &c->items[seq];
        const struct mp_pending_item *found =
            mp_pending_find(&group->group.pending, seq);

        if (i->is_fresh) {
            adopt_fresh(m, s, find_row(s, partition, seq), g, seq, i, found,
                        may_be_gone(m, s, p, seq));
            continue;
        }
        restart_item(m, i, s->deliveries_max[g]);
        if (is_open(i) && found == NULL && may_be_gone(m, s, p, seq))
            i->state = SETTLED;
        fail_if(m, is_open(i) != (found != NULL),
                "group %u: after a start message %d is %s", g, (int)seq,
                found != NULL ? "pending" : "forgotten");
        if (found == NULL)
            continue;
        if (i->state == READY && found->state == MP_PENDING_DELAYED &&
            found->time_ns <= m->now) { /* due in either case: by the first tick */
            i->state = DELAYED;
            i->due = found->time_ns;
        }
        fail_if(m, (i->state == DELAYED) != (found->state == MP_PENDING_DELAYED),
                "group %u: after a start message %d is in state %d, not %d", g,
                (int)seq, found->state, (int)i->state);
        /* That it was extended is not logged. */
        fail_if(m,
                i->state == DELAYED && i->due != 0 && i->due != found->time_ns &&
                    (!i->is_extended || found->time_ns > i->due),
                "group %u: after a start message %d is due at another time", g,
                (int)seq);
        if (i->state == DELAYED && i->due != 0)
            i->due = found->time_ns;
    }
}

static void adopt_partition(struct world *w, uint32_t n, uint32_t partition)
{
    struct model *m = &w->m;
    struct station *s = &m->stations[n];
    struct partition *p = &s->parts[partition];
    const struct mp_stream *stream = stream_of(w, n, partition);
    uint64_t last = mp_log_last(stream->log, stream->pid);
    uint64_t first = mp_log_first(stream->log, stream->pid);
    uint64_t told = p->last;

    while (told > 0 && !p->messages[told].is_told)
        told--;
    fail_if(m, last < told || last > p->last, "a start finds %d messages, not %d to %d",
            (int)last, (int)told, (int)p->last);
    for (uint32_t k = 0; k < IDS_MAX; k++)
        if (p->ids[k] > last)
            p->ids[k] = 0;
    p->last = last;
    for (uint64_t seq = last; seq > told; seq--)
        p->messages[seq].is_told = true;
    fail_if(m, first < p->first_was || first > first_alive(m, s, p, 0),
            "a start finds %d to be the first, not %d to %d", (int)first,
            (int)p->first_was, (int)first_alive(m, s, p, 0));
    if (m->failure[0] != 0)
        return;
    raise_first(s, p, first);
    for (uint32_t g = 0; g < GROUPS_MAX; g++)
        if (s->has_group[g])
            adopt_cursor(w, n, partition, g);
    p->purge_to = 0;
}

static void adopt(struct world *w)
{
    struct model *m = &w->m;

    m->epoch++;
    for (uint32_t n = 0; n < m->stations_count; n++) {
        struct station *s = &m->stations[n];

        fail_if(m,
                broker_station(w, n) == NULL ||
                    !mp_station_is_ready(broker_station(w, n)),
                "station %u is gone", n);
        for (uint32_t p = 0; p < s->partitions && m->failure[0] == 0; p++)
            adopt_partition(w, n, p);
        for (uint32_t k = 0; k < s->rows_count; k++) {
            struct row *r = &s->rows[k];
            if (!r->is_fresh)
                continue;
            r->is_unsure = true;
            r->may |= r->were & ~r->must; /* it may not have left after all */
            if (r->seq < s->parts[r->partition].first) {
                r->may |= r->must & ~r->were;
                r->must &= r->were;
            }
        }
    }
    memset(w->slots, 0, sizeof w->slots);
    w->asked_count = 0;
    for (int i = 0; i < 4 && !is_over(w); i++)
        pass(w, 1);
    if (w->broker != NULL && w->broker->is_broken)
        fail_if(m, true, "it broke: %s", w->broker->why.message);
    checkpoint(w);
}

/* The power may have gone as it was stopped, and may go again in the start. */
static void start_again(struct world *w)
{
    for (int tries = 0; w->broker == NULL && w->m.failure[0] == 0; tries++) {
        if (mp_disk_has_crashed(w->disk))
            mp_disk_crash(w->disk, (enum mp_disk_outcome)draw(w, MP_CRASH_OUTCOMES),
                          draw(w, 1000));
        if (tries < 3 && chance(w, 8))
            mp_disk_crash_at(w->disk, 1 + draw(w, 20));
        start(w);
        if (!mp_disk_has_crashed(w->disk))
            continue;
        stop(w);
        w->crashes++;
    }
    w->starts++;
    w->operations++;
    mp_disk_crash_at(w->disk, 0);
    if (!is_over(w))
        adopt(w);
}

static void restart(struct world *w)
{
    checkpoint(w);
    if (is_over(w))
        return;
    stop(w);
    start_again(w);
}

/* The power goes now, if it has not gone already. */
static void crash(struct world *w)
{
    mp_disk_crash_at(w->disk, 1);
    w->broker->env->dir_sync(w->broker->env, "", NULL); /* which the crash hits */
    stop(w);
    start_again(w);
    w->crashes++;
}

#endif
