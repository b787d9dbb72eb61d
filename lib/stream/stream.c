/* A stream's life: settings, what its log says, limits. */
#include "stream/internal.h"

#include "base/assert.h"
#include "base/limits.h"
#include "base/status.h"
#include "stream/consumer.h"
#include "stream/nats.h"
#include "stream/scan.h"

#include <inttypes.h>

static const uint64_t MS = 1000000;

/* First byte of a group entry (storage-design 4.8). */
enum { GROUP_CREATE = 1, GROUP_UPDATE = 2, GROUP_DELETE = 3, GROUP_PROGRESS = 4 };
enum { /* flags of a create op */
       GROUP_HAS_FILTER = 1,
       GROUP_IS_PLAIN = 2,
       GROUP_IS_NATS = 4 /* its configuration stands at the end */
};

/* Tags of the settings (docs/disk-format.md); odd ones out are skipped from 32,768 on.
 */
enum {
    TAG_NAME = 1,
    TAG_LIMIT = 2,
    TAG_LIMIT_VALUE = 3,
    TAG_WINDOW = 4,
    TAG_STATION = 5,
    TAG_NUMBER = 6,
    TAG_NATS = 7,
    TAG_OPTIONAL = 32768
};

/* State file items (storage-design 4.9). */
enum { ITEM_GROUP = 1 };

/* === Settings === */

static void put_tlv_u64(struct mp_buf *out, uint16_t tag, uint64_t v)
{
    mp_buf_put_u16(out, tag);
    mp_buf_put_u32(out, 8);
    mp_buf_put_u64(out, v);
}

void mp_stream_settings_encode(const struct mp_stream_settings *s, struct mp_buf *out)
{
    mp_buf_put_u16(out, TAG_NAME);
    mp_buf_put_u32(out, (uint32_t)strlen(s->name));
    mp_buf_put_text(out, s->name);
    put_tlv_u64(out, TAG_LIMIT, s->limit);
    put_tlv_u64(out, TAG_LIMIT_VALUE, s->limit_value);
    put_tlv_u64(out, TAG_WINDOW, s->window_ns);
    put_tlv_u64(out, TAG_STATION, s->station_id);
    put_tlv_u64(out, TAG_NUMBER, s->number);
    if (s->nats == NULL)
        return;
    mp_buf_put_u16(out, TAG_NATS);
    mp_buf_put_u32(out, (uint32_t)strlen(s->nats));
    mp_buf_put_text(out, s->nats);
}

static memphis_status check_nats(const char *text)
{
    struct mp_nats_config *c;
    memphis_status st = mp_nats_config_parse(mp_slice_text(text), &c, NULL);

    mp_nats_config_free(c);
    return st == MEMPHIS_INVALID ? MEMPHIS_CORRUPT : st;
}

memphis_status mp_stream_settings_decode(struct mp_cursor *in, struct mp_arena *a,
                                         struct mp_stream_settings *out)
{
    memset(out, 0, sizeof(*out));
    while (mp_cursor_left(in) > 0) {
        uint16_t tag = mp_cursor_u16(in);
        uint32_t size = mp_cursor_u32(in);
        memphis_slice v = mp_cursor_take(in, size);
        struct mp_cursor c = mp_cursor_of(v);

        if (in->bad)
            return MEMPHIS_CORRUPT;
        if (tag == TAG_NAME)
            out->name = mp_arena_strndup(a, v.data, v.size);
        else if (tag == TAG_LIMIT)
            out->limit = (uint32_t)mp_cursor_u64(&c);
        else if (tag == TAG_LIMIT_VALUE)
            out->limit_value = mp_cursor_u64(&c);
        else if (tag == TAG_WINDOW)
            out->window_ns = mp_cursor_u64(&c);
        else if (tag == TAG_STATION)
            out->station_id = (uint32_t)mp_cursor_u64(&c);
        else if (tag == TAG_NUMBER)
            out->number = (uint32_t)mp_cursor_u64(&c);
        else if (tag == TAG_NATS)
            out->nats = mp_arena_strndup(a, v.data, v.size);
        else if (tag < TAG_OPTIONAL)
            return MEMPHIS_UNSUPPORTED;
        if (c.bad)
            return MEMPHIS_CORRUPT;
    }
    if (out->name == NULL || strlen(out->name) > MP_NAME_MAX + 8)
        return MEMPHIS_CORRUPT;
    return out->nats == NULL ? MEMPHIS_OK : check_nats(out->nats);
}

/* === Limits === */

bool mp_stream_is_expired(const struct mp_stream *s, const struct mp_entry *e)
{
    return *s->host->now_ns > e->time_ns &&
           *s->host->now_ns - e->time_ns >= s->age_max_ns;
}

/* Reasons of a floor entry; numbers are on disk. */
enum { FLOOR_AGE = 1, FLOOR_MESSAGES = 2, FLOOR_BYTES = 3, FLOOR_PURGE = 4 };

void mp_stream_floor_encode(uint64_t first, struct mp_buf *out)
{
    mp_buf_put_u64(out, first);
    mp_buf_put_u8(out, FLOOR_PURGE);
}

void mp_stream_purge_encode(const struct mp_stream *s, struct mp_buf *out)
{
    mp_stream_floor_encode(s->proposed_last + 1, out);
}

void mp_stream_removal_encode(const uint64_t *seqs, size_t n, struct mp_buf *out)
{
    uint64_t at = seqs[0];

    mp_assert(n > 0 && n <= MP_STREAM_REMOVALS_MAX);
    mp_buf_put_varint(out, n);
    for (size_t i = 0; i < n; i++) {
        mp_assert(seqs[i] >= at);
        mp_buf_put_varint(out, seqs[i] - at);
        mp_buf_put_varint(out, 1);
        at = seqs[i] + 1;
    }
}

bool mp_stream_propose_floor(struct mp_stream *s, uint64_t first, uint8_t reason)
{
    struct mp_buf b = { 0 };
    struct mp_entry e = { .type = MP_ENTRY_FLOOR,
                          .pid = s->pid,
                          .time_ns = *s->host->now_ns };

    if (first <= s->proposed_first || first <= mp_log_first(s->log, s->pid))
        return true;
    mp_buf_put_u64(&b, first);
    mp_buf_put_u8(&b, reason);
    e.payload = mp_buf_slice(&b);
    bool is_taken = mp_log_append(s->log, &e, 1, MP_STREAM_TAG) == MEMPHIS_OK;
    if (is_taken)
        s->proposed_first = first;
    mp_buf_fini(&b);
    return is_taken;
}

/* First message that is not expired, by bisection over the sequences: times do not
 * fall. MP_PENDING: a read is on its way, asked again when it is there. */
static memphis_status first_alive(struct mp_stream *s, uint64_t *out, uint64_t *time_ns)
{
    uint64_t low = mp_log_first(s->log, s->pid);
    uint64_t high = mp_log_last(s->log, s->pid) + 1;

    *time_ns = 0;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        struct mp_stored m;
        memphis_status st = mp_log_read(s->log, s->pid, middle, &m);
        bool expired;

        if (st == MP_PENDING)
            return st;
        if (st == MEMPHIS_CORRUPT && m.entry.seq + 1 < high) {
            low = m.entry.seq + 1; /* a damaged range goes with what is before it */
            continue;
        }
        if (st != MEMPHIS_OK) { /* nothing stored from the middle on */
            high = middle;
            continue;
        }
        expired = mp_stream_is_expired(s, &m.entry);
        if (expired) {
            low = m.entry.seq + 1;
        } else {
            high = middle;
            *time_ns = m.entry.time_ns;
        }
        mp_stored_release(&m);
    }
    *out = low;
    return MEMPHIS_OK;
}

void mp_stream_limit_age(struct mp_stream *s)
{
    struct mp_log_stats st;
    uint64_t first, time_ns;

    mp_log_stats(s->log, s->pid, &st);
    if (st.messages == 0)
        return;
    time_ns = st.first_time_ns; /* on disk: perhaps that of an older one */
    if (time_ns + s->age_max_ns <= *s->host->now_ns) {
        if (first_alive(s, &first, &time_ns) != MEMPHIS_OK)
            return; /* asked again when it is read */
        (void)mp_stream_propose_floor(s, first, FLOOR_AGE);
        if (first > st.first_seq || time_ns == 0)
            return; /* armed again when the floor is applied */
    }
    if (!mp_timer_is_set(&s->limit_timer))
        mp_timer_set(s->host->timers, &s->limit_timer,
                     (time_ns + s->age_max_ns) / MS + 1);
}

/* From the first one on, since holes are no messages; where there are holes the floor
 * does too little, and its own apply looks again. */
void mp_stream_limit_messages(struct mp_stream *s, uint64_t max)
{
    struct mp_log_stats st;

    mp_log_stats(s->log, s->pid, &st);
    if (st.messages > max)
        (void)mp_stream_propose_floor(s, st.first_seq + (st.messages - max),
                                      FLOOR_MESSAGES);
}

void mp_stream_limit_bytes(struct mp_stream *s, uint64_t max)
{
    struct mp_log_stats st;
    uint64_t seq = mp_log_first(s->log, s->pid), over;

    mp_log_stats(s->log, s->pid, &st);
    over = st.bytes > max ? st.bytes - max : 0;
    while (over > 0) {
        struct mp_stored m;
        uint64_t size;

        memphis_status status = mp_log_read(s->log, s->pid, seq, &m);

        if (status != MEMPHIS_OK && status != MEMPHIS_CORRUPT)
            break; /* on its way: asked again when it is read */
        seq = m.entry.seq + 1;
        if (status == MEMPHIS_CORRUPT)
            continue;
        size = mp_entry_size(&m.entry);
        over = over > size ? over - size : 0;
        mp_stored_release(&m);
    }
    (void)mp_stream_propose_floor(s, seq, FLOOR_BYTES);
}

void mp_stream_check_limits(struct mp_stream *s)
{
    if (s->nats != NULL)
        mp_nats_limits(s);
    else if (s->settings.limit == MP_LIMIT_AGE)
        mp_stream_limit_age(s);
    else if (s->settings.limit == MP_LIMIT_MESSAGES)
        mp_stream_limit_messages(s, s->settings.limit_value);
    else if (s->settings.limit == MP_LIMIT_BYTES)
        mp_stream_limit_bytes(s, s->settings.limit_value);
    else
        mp_stream_limit_acked(s);
}

static void fire_limit(struct mp_timer *t, uint64_t now_ms)
{
    struct mp_stream *s = mp_container_of(t, struct mp_stream, limit_timer);

    (void)now_ms;
    mp_stream_check_limits(s);
}

/* === Groups as entries === */

static void put_nats(const char *config, struct mp_buf *out)
{
    mp_buf_put_u32(out, (uint32_t)strlen(config));
    mp_buf_put_text(out, config);
}

void mp_stream_group_create_encode(struct mp_stream *s,
                                   const struct mp_stream_group_config *c,
                                   struct mp_buf *out)
{
    size_t name = strlen(c->name), filter = c->filter ? strlen(c->filter) : 0;

    mp_assert(name > 0 && name < 256 && c->start >= 1);
    mp_buf_put_u8(out, GROUP_CREATE);
    mp_buf_put_u32(out, s->next_gid++);
    mp_buf_put_u64(out, c->start);
    mp_buf_put_u64(out, c->group.ack_wait_ns / MS);
    mp_buf_put_u16(out, (uint16_t)c->group.deliveries_max);
    mp_buf_put_u8(out, (uint8_t)name);
    mp_buf_put(out, c->name, name);
    mp_buf_put_u8(out, (uint8_t)((c->filter ? GROUP_HAS_FILTER : 0) |
                                 (c->plain ? GROUP_IS_PLAIN : 0) |
                                 (c->nats ? GROUP_IS_NATS : 0)));
    mp_buf_put_u8(out, (uint8_t)c->policy);
    mp_buf_put_u64(out, c->asked_start);
    mp_buf_put_u32(out, c->group.pending_max);
    mp_buf_put_u16(out, (uint16_t)filter);
    mp_buf_put(out, c->filter, filter);
    if (c->nats != NULL)
        put_nats(c->nats, out);
}

void mp_stream_group_update_encode(struct mp_stream_group *g,
                                   const struct mp_group_config *c, const char *nats,
                                   struct mp_buf *out)
{
    mp_buf_put_u8(out, GROUP_UPDATE);
    mp_buf_put_u32(out, g->gid);
    mp_buf_put_u64(out, c->ack_wait_ns / MS);
    mp_buf_put_u16(out, (uint16_t)c->deliveries_max);
    if (nats != NULL)
        put_nats(nats, out);
}

void mp_stream_group_delete_encode(struct mp_stream_group *g, struct mp_buf *out)
{
    g->leaving = true;
    mp_buf_put_u8(out, GROUP_DELETE);
    mp_buf_put_u32(out, g->gid);
}

struct mp_stream_group *mp_stream_group_by_gid(const struct mp_stream *s, uint32_t gid)
{
    struct mp_stream_group *g;

    for (uint32_t i = 0; (g = mp_map_next(&s->groups, &i)) != NULL;)
        if (g->gid == gid)
            return g;
    return NULL;
}

/* Fields behind the gid of a create op; also the head of a group in a state file. */
struct group_fields {
    uint32_t gid;
    uint64_t start, ack_wait_ms, asked_start;
    uint16_t deliveries_max;
    uint8_t flags, policy;
    uint32_t pending_max;
    memphis_slice name, filter, nats;
};

static bool has_zero(memphis_slice s)
{
    return s.size > 0 && memchr(s.data, 0, s.size) != NULL;
}

static memphis_status check_consumer(memphis_slice text)
{
    struct mp_consumer_config *c;
    memphis_status st = mp_consumer_config_parse(text, &c, NULL);

    mp_consumer_config_free(c);
    return st == MEMPHIS_INVALID ? MEMPHIS_CORRUPT : st;
}

static memphis_status decode_group(struct mp_cursor *c, struct group_fields *f)
{
    f->gid = mp_cursor_u32(c);
    f->start = mp_cursor_u64(c);
    f->ack_wait_ms = mp_cursor_u64(c);
    f->deliveries_max = mp_cursor_u16(c);
    f->name = mp_cursor_take(c, mp_cursor_u8(c));
    f->flags = mp_cursor_u8(c);
    f->policy = mp_cursor_u8(c);
    f->asked_start = mp_cursor_u64(c);
    f->pending_max = mp_cursor_u32(c);
    f->filter = mp_cursor_take(c, mp_cursor_u16(c));
    f->nats = MP_STR("");
    if (f->flags & GROUP_IS_NATS)
        f->nats = mp_cursor_take(c, mp_cursor_u32(c));
    if (c->bad || f->start < 1 || f->name.size == 0 || f->name.size > MP_NAME_MAX ||
        f->ack_wait_ms >= UINT64_MAX / MS || has_zero(f->name) || has_zero(f->filter))
        return MEMPHIS_CORRUPT;
    if ((f->flags & ~(GROUP_HAS_FILTER | GROUP_IS_PLAIN | GROUP_IS_NATS)) != 0 ||
        f->policy > MP_START_LAST_PER_SUBJECT)
        return MEMPHIS_UNSUPPORTED;
    return f->flags & GROUP_IS_NATS ? check_consumer(f->nats) : MEMPHIS_OK;
}

static struct mp_stream_group *add_group(struct mp_stream *s,
                                         const struct group_fields *f, uint64_t time_ns)
{
    struct mp_stream_group *g;
    struct mp_group_config c = { .ack_wait_ns = f->ack_wait_ms * MS,
                                 .deliveries_max = f->deliveries_max,
                                 .pending_max = f->pending_max };
    struct mp_buf prefix = { 0 };

    if (f->gid >= s->next_gid)
        s->next_gid = f->gid + 1;
    if (mp_map_find(&s->groups, f->name) != NULL)
        return NULL; /* two requests raced: the first one made it */
    g = mp_alloc(sizeof(*g));
    g->stream = s;
    g->gid = f->gid;
    g->name = mp_strndup(f->name.data, f->name.size);
    g->name_size = (uint32_t)f->name.size;
    if (f->flags & GROUP_HAS_FILTER)
        g->filter = mp_strndup(f->filter.data, f->filter.size);
    g->plain = f->flags & GROUP_IS_PLAIN;
    g->policy = f->policy;
    g->asked_start = f->asked_start;
    g->created_ns = mp_wall_of(&s->host->wall, time_ns);
    mp_buf_format(&prefix, "$JS.ACK.%s.%s.", s->name, g->name);
    g->ack_prefix_size = (uint32_t)prefix.size;
    g->ack_prefix = mp_strndup(prefix.data, prefix.size);
    mp_buf_fini(&prefix);
    mp_group_init(&g->group, &c, f->start);
    mp_pulls_init(&g->pulls);
    g->timer.fire = mp_stream_group_fire;
    if (f->flags & GROUP_IS_NATS)
        mp_consumer_new(g, f->nats);
    mp_map_put(&s->groups, mp_slice(g->name, g->name_size), g);
    return g;
}

static void apply_update(struct mp_stream_group *g, struct mp_cursor *c, bool live)
{
    struct mp_group_config config = g->group.config;

    config.ack_wait_ns = mp_cursor_u64(c) * MS;
    config.deliveries_max = mp_cursor_u16(c);
    if (c->bad)
        return;
    if (g->nats != NULL && mp_cursor_left(c) > 0) {
        mp_consumer_configure(g, mp_cursor_take(c, mp_cursor_u32(c)));
        config.pending_max = g->nats->config->pending_max;
    }
    mp_group_configure(&g->group, &config);
    mp_stream_group_arm(g);
    if (g->nats != NULL && live)
        mp_consumer_start(g);
}

/* What cannot be read is left out; what could be read by a newer release is not. */
static memphis_status apply_group(struct mp_stream *s, const struct mp_entry *e,
                                  uint64_t own_tag)
{
    struct mp_cursor c = mp_cursor_of(e->payload);
    uint8_t op = mp_cursor_u8(&c);
    struct group_fields f;
    struct mp_stream_group *g;

    if (!c.bad && (op < GROUP_CREATE || op > GROUP_PROGRESS))
        return MEMPHIS_UNSUPPORTED;
    if (op == GROUP_CREATE) {
        memphis_status st = decode_group(&c, &f);
        g = st == MEMPHIS_OK ? add_group(s, &f, e->time_ns) : NULL;
        if (g != NULL && own_tag != 0) /* messages may have gone since it was asked */
            mp_group_trim(&g->group, mp_log_first(s->log, s->pid));
        if (g != NULL && own_tag != 0 && g->nats != NULL)
            mp_consumer_start(g);
        return st == MEMPHIS_UNSUPPORTED ? st : MEMPHIS_OK;
    }
    g = mp_stream_group_by_gid(s, mp_cursor_u32(&c));
    if (g == NULL)
        return MEMPHIS_OK; /* deleted meanwhile: its progress was on the way */
    if (op == GROUP_UPDATE) {
        apply_update(g, &c, own_tag != 0);
    } else if (op == GROUP_DELETE) {
        uint32_t gid = g->gid;

        mp_map_remove(&s->groups, mp_slice(g->name, g->name_size));
        mp_stream_group_free(g, own_tag != 0);
        if (own_tag != 0 && s->host->dead.group_gone != NULL)
            s->host->dead.group_gone(s->host->dead.ctx, s, gid);
        if (own_tag != 0)
            mp_stream_limit_acked(s); /* what only it had not settled */
    } else if (op == GROUP_PROGRESS && own_tag != 0) {
        mp_stream_group_committed(g);
        mp_stream_limit_acked(s);
    } else if (op == GROUP_PROGRESS) {
        if (mp_group_progress_replay(&g->group, &c) != MEMPHIS_OK)
            mp_logf(s->host->logger, MEMPHIS_LOG_ERROR, "stream",
                    "a progress entry cannot be read and was skipped; messages may be "
                    "delivered again group=%s stream=%s",
                    g->name, s->name);
    }
    return MEMPHIS_OK;
}

/* === The log's side === */

static void count_new(struct mp_stream *s, const struct mp_entry *e)
{
    struct mp_stream_group *g;

    for (uint32_t i = 0; (g = mp_map_next(&s->groups, &i)) != NULL;)
        if (g->nats != NULL)
            mp_consumer_committed(g, e);
}

static void wake_groups(struct mp_stream *s)
{
    struct mp_stream_group *g;

    for (uint32_t i = 0; (g = mp_map_next(&s->groups, &i)) != NULL;)
        mp_stream_group_wake(g);
}

static void trim_groups(struct mp_stream *s)
{
    uint64_t first = mp_log_first(s->log, s->pid);
    struct mp_stream_group *g;

    for (uint32_t i = 0; (g = mp_map_next(&s->groups, &i)) != NULL;) {
        if (g->nats != NULL && first > 0)
            mp_consumer_removed(g, first - 1);
        mp_group_trim(&g->group, first);
        if (g->group.dirty)
            mp_stream_group_dirty(g);
    }
}

/* What waits for an ack of a removed message is settled. */
static void forget_deleted(struct mp_stream *s, const struct mp_entry *e)
{
    struct mp_cursor c = mp_cursor_of(e->payload);
    uint64_t at = e->seq;
    struct mp_stream_group *g;

    if (s->settings.limit == MP_LIMIT_ACKED && s->nats == NULL)
        return; /* it goes because it was settled */
    for (uint64_t n = mp_cursor_varint(&c); n > 0 && !c.bad; n--) {
        uint64_t first = at + mp_cursor_varint(&c);

        at = first + mp_cursor_varint(&c);
        for (uint32_t i = 0; (g = mp_map_next(&s->groups, &i)) != NULL;) {
            if (g->nats != NULL)
                mp_consumer_removed(g, at - 1);
            mp_group_forget(&g->group, first, at - 1);
            if (g->group.dirty)
                mp_stream_group_dirty(g);
        }
    }
}

/* One more message: whether a limit may say something to that. */
static bool may_be_over(const struct mp_stream *s)
{
    if (s->settings.limit == MP_LIMIT_AGE)
        return !mp_timer_is_set(&s->limit_timer);
    return s->settings.limit != MP_LIMIT_ACKED || s->groups.count == 0;
}

static void apply_message(struct mp_stream *s, const struct mp_entry *e,
                          uint64_t own_tag)
{
    if (own_tag == 0) { /* replay */
        if (e->id.size > 0)
            mp_dedup_put(&s->dedup, e->id, e->seq, e->time_ns);
        if (e->seq > s->proposed_last)
            s->proposed_last = e->seq;
        return;
    }
    mp_assert(e->seq <= s->proposed_last);
    mp_stream_answer_waiting(s);
    if (s->consumers_count > 0)
        count_new(s, e);
    wake_groups(s);
    if (s->nats != NULL)
        mp_nats_committed(s, e);
    else if (may_be_over(s))
        mp_stream_check_limits(s);
}

memphis_status mp_stream_apply(struct mp_stream *s, const struct mp_entry *e,
                               uint64_t own_tag)
{
    switch (e->type) {
    case MP_ENTRY_MESSAGE:
        apply_message(s, e, own_tag);
        break;
    case MP_ENTRY_ID:
        if (own_tag == 0)
            mp_dedup_put(&s->dedup, e->id, e->seq, e->time_ns);
        break;
    case MP_ENTRY_GROUP:
        return apply_group(s, e, own_tag);
    case MP_ENTRY_DELETE:
        if (own_tag != 0)
            forget_deleted(s, e);
        if (own_tag != 0 && s->nats != NULL)
            mp_nats_deleted(s, own_tag);
        /* fall through */
    case MP_ENTRY_FLOOR:
    case MP_ENTRY_DAMAGE:
        if (own_tag != 0) {
            trim_groups(s);
            mp_stream_check_limits(s);
        }
        break;
    default: /* the log knows the rest */
        break;
    }
    return MEMPHIS_OK;
}

static void call_waiters(struct mp_stream *s, bool gone)
{
    struct mp_list now, *l;

    mp_list_init(&now); /* they may come back at once */
    while ((l = mp_list_pop_front(&s->waiters)) != NULL)
        mp_list_push_back(&now, l);
    while ((l = mp_list_pop_front(&now)) != NULL) {
        struct mp_stream_waiter *w = mp_container_of(l, struct mp_stream_waiter, node);
        w->again(w, gone ? NULL : s);
    }
}

void mp_stream_wait(struct mp_stream *s, struct mp_stream_waiter *w)
{
    mp_list_push_back(&s->waiters, &w->node);
}

void mp_stream_failed(struct mp_stream *s, memphis_status status)
{
    uint64_t last = mp_log_last(s->log, s->pid);
    struct mp_stream_group *g;

    if (status != MEMPHIS_NO_SPACE)
        return;
    s->proposed_first = 0;
    mp_stream_acked_failed(s);
    if (s->nats != NULL)
        mp_nats_failed(s);
    for (uint32_t i = 0; (g = mp_map_next(&s->groups, &i)) != NULL;) {
        g->leaving = false;
        if (g->group.in_flight)
            mp_stream_group_failed(g);
    }
    if (s->proposed_last > last) {
        s->host->counters.published -= s->proposed_last - last;
        s->proposed_last = last;
        mp_dedup_undo(&s->dedup, last + 1);
    }
    mp_stream_refuse_waiting(s, status);
}

void mp_stream_ready(struct mp_stream *s)
{
    call_waiters(s, false);
    wake_groups(s);
    mp_stream_bury_again(s);
    mp_stream_check_limits(s);
}

void mp_stream_state(struct mp_stream *s, struct mp_buf *out)
{
    struct mp_stream_group *g;

    for (uint32_t i = 0; (g = mp_map_next(&s->groups, &i)) != NULL;) {
        struct mp_stream_group_config c = {
            .name = g->name,
            .start = 1,
            .group = g->group.config,
            .policy = g->policy,
            .asked_start = g->asked_start,
            .filter = g->filter,
            .plain = g->plain,
            .nats = g->nats != NULL ? g->nats->config->text : NULL,
        };
        uint32_t next_gid = s->next_gid;
        struct mp_buf item = { 0 };

        s->next_gid = g->gid; /* the create op, as the group was made */
        mp_stream_group_create_encode(s, &c, &item);
        s->next_gid = next_gid;
        mp_buf_put_u64(&item, g->created_ns);
        mp_group_state_encode(&g->group, &item);
        mp_buf_put_u16(out, ITEM_GROUP);
        mp_buf_put_u32(out, (uint32_t)item.size);
        mp_buf_put_slice(out, mp_buf_slice(&item));
        mp_buf_fini(&item);
    }
}

static memphis_status restore_group(struct mp_stream *s, memphis_slice item)
{
    struct mp_cursor c = mp_cursor_of(item);
    struct group_fields f;
    struct mp_stream_group *g;

    uint8_t op = mp_cursor_u8(&c);
    if (!c.bad && op != GROUP_CREATE)
        return MEMPHIS_UNSUPPORTED;
    memphis_status st = decode_group(&c, &f);
    if (st != MEMPHIS_OK)
        return st;
    g = add_group(s, &f, 0);
    if (g == NULL)
        return MEMPHIS_CORRUPT;
    g->created_ns = mp_cursor_u64(&c);
    return mp_group_progress_replay(&g->group, &c);
}

memphis_status mp_stream_restore(struct mp_stream *s, memphis_slice state,
                                 memphis_error *err)
{
    struct mp_cursor c = mp_cursor_of(state);

    while (mp_cursor_left(&c) > 0) {
        uint16_t tag = mp_cursor_u16(&c);
        memphis_slice item = mp_cursor_take(&c, mp_cursor_u32(&c));

        memphis_status st = MEMPHIS_OK;

        if (c.bad)
            st = MEMPHIS_CORRUPT;
        else if (tag == ITEM_GROUP)
            st = restore_group(s, item);
        if (st != MEMPHIS_OK)
            return mp_fail(err, st, "the state file of stream '%s' %s", s->name,
                           st == MEMPHIS_UNSUPPORTED ? "needs a newer release"
                                                     : "cannot be read");
    }
    return MEMPHIS_OK;
}

void mp_stream_replay_done(struct mp_stream *s)
{
    uint64_t last = mp_log_last(s->log, s->pid);
    struct mp_stream_group *g;

    if (last > s->proposed_last)
        s->proposed_last = last;
    for (uint32_t i = 0; (g = mp_map_next(&s->groups, &i)) != NULL;) {
        mp_group_trim(&g->group, mp_log_first(s->log, s->pid));
        mp_group_replay_done(&g->group, last, *s->host->now_ns);
        mp_stream_group_arm(g);
    }
    if (s->nats != NULL)
        mp_nats_start(s);
    for (uint32_t i = 0; (g = mp_map_next(&s->groups, &i)) != NULL;)
        if (g->nats != NULL)
            mp_consumer_start(g);
    mp_stream_check_limits(s);
}

/* === Life === */

static bool on_publish(void *ctx, struct mp_client *from, const struct mp_message *m)
{
    (void)from;
    mp_stream_publish(ctx, m);
    return true;
}

void mp_stream_host_init(struct mp_stream_host *h)
{
    memset(h, 0, sizeof(*h));
    mp_dedup_budget_init(&h->ids, MP_MEMORY_MAX_DEFAULT / MP_DEDUPE_SHARE);
    mp_list_init(&h->looks);
    mp_list_init(&h->serving);
    mp_list_init(&h->held);
    mp_list_init(&h->dirty);
    mp_list_init(&h->scans);
    mp_list_init(&h->unheard);
    h->subjects_bytes_max = MP_SUBJECTS_BYTES_DEFAULT;
}

struct mp_stream *mp_stream_new(struct mp_stream_host *h, struct mp_log *log,
                                uint32_t pid, const struct mp_stream_settings *settings)
{
    struct mp_stream *s = mp_alloc(sizeof(*s));
    struct mp_buf subject = { 0 };

    s->host = h;
    s->log = log;
    s->pid = pid;
    s->settings = *settings;
    s->name = mp_strdup(settings->name);
    s->name_size = (uint32_t)strlen(s->name);
    s->settings.name = s->name;
    s->created_ns = mp_wall_of(&h->wall, *h->now_ns);
    s->next_gid = 1;
    mp_buf_format(&subject, "%s.final", s->name);
    s->final_size = (uint32_t)subject.size;
    s->final_subject = mp_strndup(subject.data, subject.size);
    mp_buf_clear(&subject);
    mp_buf_format(&subject, "%s.>", s->name);
    if (settings->nats == NULL)
        s->service =
            mp_bus_serve(h->bus, mp_buf_slice(&subject), MP_SERVICE_TAP, on_publish, s);
    mp_buf_fini(&subject);
    s->age_max_ns = UINT64_MAX;
    if (settings->nats != NULL)
        mp_nats_new(s, on_publish);
    else if (settings->limit == MP_LIMIT_AGE)
        s->age_max_ns = settings->limit_value;
    mp_dedup_init(&s->dedup, &h->ids, h->dedup_key, settings->window_ns,
                  MP_DEDUPE_IDS_MAX);
    s->limit_timer.fire = fire_limit;
    mp_list_init(&s->waiters);
    return s;
}

void mp_stream_free(struct mp_stream *s, bool tell)
{
    struct mp_stream_group *g;

    if (s == NULL)
        return;
    mp_scans_end(s, tell ? MEMPHIS_NOT_FOUND : MEMPHIS_CLOSED);
    call_waiters(s, true);
    for (uint32_t i = 0; (g = mp_map_next(&s->groups, &i)) != NULL;)
        mp_stream_group_free(g, tell);
    mp_map_fini(&s->groups);
    mp_bus_unserve(s->host->bus, s->service);
    mp_nats_free(s);
    mp_timer_cancel(s->host->timers, &s->limit_timer);
    mp_stream_acked_free(s);
    mp_list_remove(&s->node);
    mp_stream_publish_fini(s, tell ? MEMPHIS_NOT_FOUND : MEMPHIS_CLOSED);
    mp_dedup_fini(&s->dedup);
    mp_free(s->name);
    mp_free(s->final_subject);
    mp_free(s);
}

struct mp_stream_group *mp_stream_group(struct mp_stream *s, memphis_slice durable)
{
    return mp_map_find(&s->groups, durable);
}

uint64_t mp_stream_start_of(const struct mp_stream *s, uint32_t policy, uint64_t n)
{
    uint64_t first = mp_log_first(s->log, s->pid);
    uint64_t end = s->proposed_last + 1;
    uint64_t start = first;

    if (policy == MP_START_NEW)
        start = end;
    else if (policy == MP_START_LAST)
        start = end > n ? end - n : 1;
    else if (policy == MP_START_SEQUENCE)
        start = n;
    start = start < first ? first : start > end ? end : start;
    return start > 0 ? start : 1;
}
