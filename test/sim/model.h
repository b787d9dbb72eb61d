/* The model of test_model.c: what stations, groups and dead letters do, said as plainly
 * as it can be. Arrays of messages; per group and message a state; dead letters with
 * the groups that have failed. Time is broker time in ns, a multiple of a millisecond.
 *
 * What happens between two checkpoints is not sure to outlive a crash, so what has
 * changed since the last one is *fresh*: there a crash may leave the old or the new.
 */
#ifndef TEST_SIM_MODEL_H
#define TEST_SIM_MODEL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum {
    STATIONS_MAX = 3,
    PARTITIONS_MAX = 3,
    GROUPS_MAX = 3,
    MESSAGES_MAX = 700, /* of a partition, ever */
    PULLS_MAX = 4,      /* of a group and partition */
    ROWS_MAX = 700,     /* of a station, ever */
    IDS_MAX = 12        /* different ids of a partition */
};

static const uint64_t MS = 1000000;
#define NEVER UINT64_MAX

struct message {
    uint32_t number; /* its payload says it */
    uint64_t time;
    bool has_id, is_told; /* told: its producer was answered */
};

enum state { UNSEEN, WAITING, DELAYED, READY, COUNTING, DYING, SETTLED };

struct item {
    enum state state;
    uint32_t deliveries;
    uint64_t due;           /* WAITING, DELAYED */
    uint64_t rank;          /* READY, COUNTING: who was due first */
    uint32_t epoch;         /* likewise: of becoming so */
    bool came_back;         /* a delivery was not made after all */
    bool is_extended;       /* its consumer asked for more time */
    bool is_fresh, is_sure; /* sure: its settlement was confirmed */
    enum state was;         /* when it became fresh */
    uint32_t had;           /* deliveries, likewise */
};

struct pull {
    int slot; /* of the inbox */
    uint32_t left, sent;
    uint64_t expires;
    bool no_wait;
};

/* A group on one partition. */
struct cursor {
    uint64_t next, next_was; /* next_was: at the last checkpoint */
    uint64_t dseq;
    struct item items[MESSAGES_MAX];
    struct pull pulls[PULLS_MAX]; /* a ring: the first is served next */
    uint32_t pulls_count;
};

struct partition {
    struct message messages[MESSAGES_MAX]; /* [seq] */
    uint64_t first, last;
    uint64_t first_was;    /* at the last checkpoint, or told since */
    uint64_t purge_to;     /* asked for: these may be gone */
    uint64_t ids[IDS_MAX]; /* sequence; 0: none */
    struct cursor cursors[GROUPS_MAX];
};

struct row {
    uint32_t partition;
    uint64_t seq;
    uint32_t id;              /* 0: not seen yet */
    uint32_t must, may;       /* groups, a bit each: is in the row, perhaps is */
    uint32_t were;            /* at the last checkpoint */
    bool is_fresh, is_unsure; /* unsure: of several changes any may be the last */
    uint8_t reason;
    uint32_t deliveries;
    char text[16];
    uint64_t changed; /* as the broker says it */
};

struct station {
    uint32_t partitions;
    uint64_t age, limit; /* NEVER: none; messages at most */
    uint64_t window;
    bool keeps_dead;
    bool has_group[GROUPS_MAX];
    uint64_t ack_wait[GROUPS_MAX];
    uint32_t deliveries_max[GROUPS_MAX];
    struct partition parts[PARTITIONS_MAX];
    struct row rows[ROWS_MAX];
    uint32_t rows_count;
};

struct model {
    uint32_t stations_count, epoch;
    uint64_t now, started, rank, start_rank;
    uint64_t dead_letters;
    struct station stations[STATIONS_MAX];
    char failure[400];
};

#define fail_if(m, condition, ...)                                                     \
    do {                                                                               \
        if ((condition) && (m)->failure[0] == 0)                                       \
            snprintf((m)->failure, sizeof(m)->failure, __VA_ARGS__);                   \
    } while (0)

static void touch(struct item *i)
{
    if (i->is_fresh)
        return;
    i->is_fresh = true;
    i->was = i->state;
    i->had = i->deliveries;
}

/* -- limits ------------------------------------------------------------------------ */

/* Gone by now, or about to go: nobody can count on it. `slack`: of the age's timer. */
static uint64_t first_alive(const struct model *m, const struct station *s,
                            const struct partition *p, uint64_t slack)
{
    uint64_t first = slack == 0 && p->purge_to > p->first ? p->purge_to : p->first;

    while (s->age != NEVER && first <= p->last &&
           p->messages[first].time + s->age + slack <= m->now)
        first++;
    if (s->limit != NEVER && p->last + 1 > s->limit && first < p->last + 1 - s->limit)
        first = p->last + 1 - s->limit;
    return first;
}

static bool may_be_gone(const struct model *m, const struct station *s,
                        const struct partition *p, uint64_t seq)
{
    return seq < first_alive(m, s, p, 0);
}

/* What lies below leaves its groups, as if it was settled. */
static void raise_first(struct station *s, struct partition *p, uint64_t first)
{
    if (first <= p->first)
        return;
    for (uint32_t g = 0; g < GROUPS_MAX; g++) {
        struct cursor *c = &p->cursors[g];

        for (uint64_t seq = p->first; seq < first && s->has_group[g]; seq++) {
            if (c->items[seq].state == DYING) {
                for (uint32_t r = 0; r < s->rows_count; r++)
                    if (&s->parts[s->rows[r].partition] == p && s->rows[r].seq == seq) {
                        s->rows[r].may |= s->rows[r].must & ~s->rows[r].were & 1u << g;
                        s->rows[r].must &= s->rows[r].were | ~(1u << g);
                        s->rows[r].is_unsure = true;
                    }
            }
            touch(&c->items[seq]);
            c->items[seq].state = SETTLED;
        }
        if (c->next < first)
            c->next = first;
    }
    p->first = first;
}

/* -- dead letters ------------------------------------------------------------------ */

static struct row *find_row(struct station *s, uint32_t partition, uint64_t seq)
{
    for (uint32_t r = 0; r < s->rows_count; r++)
        if (s->rows[r].partition == partition && s->rows[r].seq == seq)
            return &s->rows[r];
    return NULL;
}

static void touch_row(struct row *r)
{
    r->is_unsure |= r->is_fresh;
    r->is_fresh = true;
}

static void lose(struct model *m, struct station *s, uint32_t partition, uint32_t g,
                 uint64_t seq, uint8_t reason, const char *text)
{
    struct partition *p = &s->parts[partition];
    struct item *i = &p->cursors[g].items[seq];
    struct row *r = find_row(s, partition, seq);

    i->state = SETTLED;
    if (!s->keeps_dead)
        return;
    i->state = DYING;
    m->dead_letters++;
    if (r == NULL) {
        if (s->rows_count == ROWS_MAX) {
            fail_if(m, true, "the model has no room for another dead letter");
            return;
        }
        r = &s->rows[s->rows_count++];
        *r = (struct row){ .partition = partition, .seq = seq };
    }
    touch_row(r);
    r->reason = reason;
    r->deliveries = i->deliveries;
    if (may_be_gone(m, s, p, seq)) {
        r->may |= 1u << g;
        r->is_unsure = true;
    } else {
        r->must |= 1u << g;
    }
    if (text[0] != 0)
        snprintf(r->text, sizeof r->text, "%s", text);
}

/* Once in a row, a group is in it only until it settles. */
static void leave_row(struct row *r, uint32_t g)
{
    touch_row(r);
    r->must &= ~(1u << g);
    r->may &= ~(1u << g);
}

/* -- groups ------------------------------------------------------------------------ */

/* It is to be delivered again, or given up. */
static void becomes_due(struct model *m, struct station *s, uint32_t partition,
                        uint32_t g, uint64_t seq)
{
    struct item *i = &s->parts[partition].cursors[g].items[seq];

    touch(i);
    if (i->deliveries >= s->deliveries_max[g]) {
        lose(m, s, partition, g, seq, 1, "");
        return;
    }
    i->state = i->deliveries >= 2 ? COUNTING : READY;
    i->epoch = m->epoch;
    /* A start finds many that are due, in no order. */
    i->rank = m->now < m->started + 3 * MS ? m->start_rank : ++m->rank;
}

/* Time passes: in order of sequence what is due by now. */
static void advance(struct model *m, uint64_t now)
{
    if (now <= m->now)
        return;
    m->now = now;
    for (uint32_t n = 0; n < m->stations_count; n++)
        for (uint32_t p = 0; p < m->stations[n].partitions; p++)
            for (uint32_t g = 0; g < GROUPS_MAX; g++) {
                struct station *s = &m->stations[n];
                struct cursor *c = &s->parts[p].cursors[g];

                for (uint64_t seq = s->parts[p].first; seq < c->next && s->has_group[g];
                     seq++) {
                    const struct item *i = &c->items[seq];
                    if ((i->state == WAITING || i->state == DELAYED) && i->due <= now)
                        becomes_due(m, s, p, g, seq);
                }
            }
}

static bool is_open(const struct item *i)
{
    return i->state != UNSEEN && i->state != SETTLED;
}

/* Whether `seq` may be delivered again now: those who were due before it go first. Of
 * those that became due in one epoch the third and later deliveries wait for the log,
 * the others do not. */
static bool is_next_again(const struct model *m, const struct station *s,
                          const struct partition *p, const struct cursor *c,
                          uint64_t seq)
{
    const struct item *i = &c->items[seq];

    if (i->state != READY && i->state != COUNTING)
        return false;
    for (uint64_t other = p->first; other < c->next; other++) {
        const struct item *o = &c->items[other];

        if ((o->state != READY && o->state != COUNTING) || o == i ||
            may_be_gone(m, s, p, other))
            continue;
        if (o->epoch < i->epoch || (o->state == i->state && o->rank < i->rank))
            return false;
    }
    return true;
}

/* Whether there is something that a waiting pull must get. `sure`: at a checkpoint,
 * where nothing waits for the log. */
static bool has_more(const struct model *m, const struct station *s,
                     const struct partition *p, const struct cursor *c, bool sure)
{
    for (uint64_t seq = p->first; seq < c->next; seq++) {
        const struct item *i = &c->items[seq];

        if (may_be_gone(m, s, p, seq))
            continue;
        if (i->state == READY && (sure || i->epoch < m->epoch))
            return true;
        if (i->state == COUNTING && (sure || i->epoch < m->epoch))
            return true;
    }
    return c->next <= p->last && p->messages[p->last].is_told &&
           !may_be_gone(m, s, p, p->last);
}

/* A delivery: is it the right one, of the right count, for the right pull? */
static void delivered(struct model *m, struct station *s, uint32_t partition,
                      uint32_t g, int slot, uint64_t seq, uint32_t deliveries,
                      uint64_t dseq)
{
    struct partition *p = &s->parts[partition];
    struct cursor *c = &p->cursors[g];
    struct item *i = &c->items[seq];

    fail_if(m, seq < 1 || seq > p->last || !p->messages[seq].is_told,
            "message %d is delivered before it is stored", (int)seq);
    fail_if(m, seq < p->first, "message %d is delivered, which is gone", (int)seq);
    fail_if(m,
            seq <= p->last && s->age != NEVER &&
                p->messages[seq].time + s->age <= m->now,
            "message %d is delivered, which has expired", (int)seq);
    fail_if(m, c->pulls_count == 0 || c->pulls[0].slot != slot,
            "message %d is delivered to another pull than the next one", (int)seq);
    if (m->failure[0] != 0)
        return;
    if (seq >= c->next) {
        for (uint64_t before = c->next; before < seq; before++)
            fail_if(m, before >= p->first && !may_be_gone(m, s, p, before),
                    "message %d is left out", (int)before);
        for (uint64_t other = p->first; other < c->next; other++)
            fail_if(m, c->items[other].state == READY && !may_be_gone(m, s, p, other),
                    "message %d is delivered before %d, which is due again", (int)seq,
                    (int)other);
        for (; c->next < seq; c->next++) {
            touch(&c->items[c->next]);
            c->items[c->next].state = SETTLED;
        }
        c->next = seq + 1;
    } else {
        fail_if(m, i->state != READY && i->state != COUNTING,
                "message %d is delivered in state %d", (int)seq, (int)i->state);
        fail_if(m, !is_next_again(m, s, p, c, seq),
                "message %d is delivered out of turn", (int)seq);
    }
    touch(i);
    i->state = WAITING;
    i->due = m->now + s->ack_wait[g];
    fail_if(m, deliveries != ++i->deliveries, "message %d says delivery %u, not %u",
            (int)seq, deliveries, i->deliveries);
    fail_if(m, dseq != ++c->dseq, "message %d says consumer sequence %d, not %d",
            (int)seq, (int)dseq, (int)c->dseq);
    struct pull q = c->pulls[0];
    memmove(c->pulls, c->pulls + 1, --c->pulls_count * sizeof q);
    q.left--;
    q.sent++;
    if (q.left > 0)
        c->pulls[c->pulls_count++] = q;
}

static bool settle_item(struct model *m, struct station *s, uint32_t partition,
                        uint32_t g, uint64_t seq)
{
    struct item *i = &s->parts[partition].cursors[g].items[seq];

    (void)m;
    if (!is_open(i))
        return false;
    touch(i);
    if (i->state == DYING) { /* its letter may be on its way */
        struct row *r = find_row(s, partition, seq);
        r->must &= ~(1u << g);
        r->may |= 1u << g;
        r->is_unsure = true;
    }
    i->state = SETTLED;
    return true;
}

/* -- after a start ----------------------------------------------------------------- */

/* What a start makes of an item that it knows as it was. */
static void restart_item(struct model *m, struct item *i, uint32_t deliveries_max)
{
    bool is_unnamed = i->state == WAITING && i->deliveries == 1 && !i->came_back;

    if (is_unnamed || i->state == READY || i->state == COUNTING) {
        if (i->deliveries >= deliveries_max) {
            i->state = DELAYED; /* given up by the first tick */
            i->due = 0;
        } else {
            i->state = i->deliveries >= 2 ? COUNTING : READY;
            i->rank = m->start_rank;
            i->epoch = m->epoch;
        }
    } else if (i->state == WAITING) {
        i->state = DELAYED;
    }
}

#endif
