#include "stream/consumer_config.h"

#include "base/limits.h"
#include "base/mem.h"
#include "base/status.h"
#include "base/str.h"
#include "bus/subject.h"
#include "stream/nats_config.h"
#include "stream/stream.h"

#include <time.h>

static const uint64_t MS = 1000000, SECOND = 1000000000;

enum { DELIVERIES_MAX = 65535, ACK_PENDING_DEFAULT = 1000 };
enum { EPHEMERAL_INACTIVE_S = 5, TEXT_MAX = 64 << 10, BACKOFF_LEAST_NS = 1000000 };

static const char *const policies[] = {
    [MP_START_ALL] = "all",
    [MP_START_NEW] = "new",
    [MP_START_SEQUENCE] = "by_start_sequence",
    [MP_START_LAST] = "last",
    [MP_START_TIME] = "by_start_time",
    [MP_START_LAST_PER_SUBJECT] = "last_per_subject",
};
enum { POLICIES = sizeof(policies) / sizeof(policies[0]) };
static const char *const acks[] = { "none", "all", "explicit" };

/* === Reading === */

/* As sent. */
struct asked {
    const char *durable, *name, *description, *deliver, *ack, *replay, *filter, *push,
        *group, *time, *sample;
    int64_t start, ack_wait, deliveries, pending, waiting, batch, expires, bytes,
        inactive, heartbeat, rate, replicas;
    bool flow_control, headers_only, memory;
};

static memphis_status read_texts(const struct mp_json_value *v, struct asked *a,
                                 memphis_error *err)
{
    const struct {
        const char *key;
        const char **to;
    } texts[] = { { "durable_name", &a->durable },    { "name", &a->name },
                  { "description", &a->description }, { "deliver_policy", &a->deliver },
                  { "ack_policy", &a->ack },          { "replay_policy", &a->replay },
                  { "filter_subject", &a->filter },   { "deliver_subject", &a->push },
                  { "deliver_group", &a->group },     { "opt_start_time", &a->time },
                  { "sample_freq", &a->sample } };
    memphis_status st = MEMPHIS_OK;

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]) && st == MEMPHIS_OK; i++) {
        st = mp_json_get_text(v, texts[i].key, texts[i].to, err);
        if (*texts[i].to == NULL)
            *texts[i].to = "";
    }
    return st;
}

static memphis_status read_numbers(const struct mp_json_value *v, struct asked *a,
                                   memphis_error *err)
{
    const struct {
        const char *key;
        int64_t *to;
    } numbers[] = {
        { "opt_start_seq", &a->start },         { "ack_wait", &a->ack_wait },
        { "max_deliver", &a->deliveries },      { "max_ack_pending", &a->pending },
        { "max_waiting", &a->waiting },         { "max_batch", &a->batch },
        { "max_expires", &a->expires },         { "max_bytes", &a->bytes },
        { "inactive_threshold", &a->inactive }, { "idle_heartbeat", &a->heartbeat },
        { "rate_limit_bps", &a->rate },         { "num_replicas", &a->replicas }
    };
    memphis_status st = mp_json_get_bool(v, "flow_control", &a->flow_control, err);

    if (st == MEMPHIS_OK)
        st = mp_json_get_bool(v, "headers_only", &a->headers_only, err);
    if (st == MEMPHIS_OK)
        st = mp_json_get_bool(v, "mem_storage", &a->memory, err);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]) && st == MEMPHIS_OK;
         i++)
        st = mp_json_get_int(v, numbers[i].key, numbers[i].to, err);
    return st;
}

static bool digits(const char **p, int count, int *out)
{
    *out = 0;
    for (; count > 0; count--, (*p)++) {
        if (**p < '0' || **p > '9')
            return false;
        *out = *out * 10 + (**p - '0');
    }
    return true;
}

/* RFC 3339 with Z or +hh:mm -> wall time; false: unreadable. */
static bool parse_time(const char *p, uint64_t *ns)
{
    struct tm t = { 0 };
    int year, month, hours = 0, minutes = 0, sign = 0;
    uint64_t fraction = 0, unit = SECOND;
    time_t seconds;

    if (!digits(&p, 4, &year) || *p++ != '-' || !digits(&p, 2, &month) || *p++ != '-' ||
        !digits(&p, 2, &t.tm_mday) || (*p != 'T' && *p != ' '))
        return false;
    p++;
    if (!digits(&p, 2, &t.tm_hour) || *p++ != ':' || !digits(&p, 2, &t.tm_min) ||
        *p++ != ':' || !digits(&p, 2, &t.tm_sec))
        return false;
    if (*p == '.')
        for (p++; *p >= '0' && *p <= '9'; p++)
            if (unit > 1)
                unit /= 10, fraction += (uint64_t)(*p - '0') * unit;
    if (*p == '+' || *p == '-') {
        sign = *p++ == '+' ? -1 : 1;
        if (!digits(&p, 2, &hours) || *p++ != ':' || !digits(&p, 2, &minutes))
            return false;
    } else if (*p++ != 'Z') {
        return false;
    }
    t.tm_year = year - 1900;
    t.tm_mon = month - 1;
    seconds = timegm(&t) + sign * (hours * 3600 + minutes * 60);
    *ns = seconds > 0 ? (uint64_t)seconds * SECOND + fraction : 0;
    return *p == 0;
}

static memphis_status read_start(struct mp_consumer_config *c, const struct asked *a,
                                 memphis_error *err)
{
    const char *deliver = a->deliver[0] != 0 ? a->deliver : "all";

    while (c->policy < POLICIES && strcmp(deliver, policies[c->policy]) != 0)
        c->policy++;
    if (c->policy == POLICIES)
        return mp_fail(err, MEMPHIS_INVALID, "this deliver policy is unknown");
    if (c->policy == MP_START_SEQUENCE && a->start <= 0)
        return mp_fail(err, MEMPHIS_INVALID,
                       "consumer delivery policy is deliver by start sequence, but "
                       "optional start sequence is not set");
    if (c->policy == MP_START_TIME && !parse_time(a->time, &c->start_time_ns))
        return mp_fail(
            err, MEMPHIS_INVALID,
            "consumer delivery policy is deliver by start time, but optional "
            "start time is not set");
    if (c->policy == MP_START_SEQUENCE)
        c->start_seq = (uint64_t)a->start;
    return MEMPHIS_OK;
}

static memphis_status add_filter(struct mp_consumer_config *c, const char *text,
                                 memphis_error *err)
{
    memphis_slice s = mp_slice_text(text);

    if (s.size > MP_SUBJECT_MAX || !mp_subject_is_valid(s))
        return mp_fail(err, MEMPHIS_INVALID,
                       "bad request: the filter subject is not valid");
    for (uint32_t i = 0; i < c->filters_count; i++)
        if (mp_subject_overlaps(mp_slice_text(c->filters[i]), s))
            return mp_fail(err, MEMPHIS_INVALID,
                           "consumer subject filters cannot overlap");
    c->filters[c->filters_count++] = mp_strdup(text);
    return MEMPHIS_OK;
}

static memphis_status read_filters(struct mp_consumer_config *c, const struct asked *a,
                                   const struct mp_json_value *v, memphis_error *err)
{
    const struct mp_json_value *list = mp_json_get(v, "filter_subjects");
    size_t n = mp_json_count(list);
    memphis_status st = MEMPHIS_OK;

    if (n > MP_FILTERS_MAX || (n > 0 && a->filter[0] != 0))
        return mp_fail(err, MEMPHIS_INVALID,
                       "consumer cannot have both FilterSubject and FilterSubjects "
                       "specified");
    c->filters = mp_alloc((n + 1) * sizeof(*c->filters));
    if (n == 0 && a->filter[0] != 0)
        return add_filter(c, a->filter, err);
    for (size_t i = 0; i < n && st == MEMPHIS_OK; i++) {
        const char *text = "";

        st = mp_json_get_text(mp_json_at(list, i), NULL, &text, err);
        if (st == MEMPHIS_OK)
            st = add_filter(c, text, err);
    }
    return st;
}

static memphis_status read_backoff(struct mp_consumer_config *c,
                                   const struct mp_json_value *v, memphis_error *err)
{
    const struct mp_json_value *list = mp_json_get(v, "backoff");
    size_t n = mp_json_count(list);
    memphis_status st = MEMPHIS_OK;

    if (n == 0)
        return MEMPHIS_OK;
    if (n > MP_BACKOFF_MAX || (c->deliveries_max > 0 && n > c->deliveries_max))
        return mp_fail(err, MEMPHIS_INVALID,
                       "max deliver is required to be > length of backoff values");
    c->backoff_ns = mp_alloc(n * sizeof(*c->backoff_ns));
    for (size_t i = 0; i < n && st == MEMPHIS_OK; i++) {
        int64_t ns = 0;

        st = mp_json_get_int(mp_json_at(list, i), NULL, &ns, err);
        if (st == MEMPHIS_OK && ns < BACKOFF_LEAST_NS)
            st = mp_fail(err, MEMPHIS_INVALID, "backoff values are 1 ms at least");
        c->backoff_ns[i] = ns > 0 ? (uint64_t)ns : 0;
    }
    c->backoff_count = (uint32_t)n;
    c->ack_wait_ns = c->backoff_ns[0];
    return st;
}

static memphis_status read_acks(struct mp_consumer_config *c, const struct asked *a,
                                const struct mp_json_value *v, memphis_error *err)
{
    uint64_t wait =
        a->ack_wait > 0 ? (uint64_t)a->ack_wait : MP_ACK_WAIT_DEFAULT_MS * MS;

    while (c->ack < 3 && strcmp(a->ack[0] != 0 ? a->ack : "none", acks[c->ack]) != 0)
        c->ack++;
    if (c->ack == 3)
        return mp_fail(err, MEMPHIS_INVALID, "this ack policy is unknown");
    c->ack_wait_ns = (wait + MS - 1) / MS * MS; /* the log counts milliseconds */
    if (a->deliveries > 0)
        c->deliveries_max =
            a->deliveries < DELIVERIES_MAX ? (uint32_t)a->deliveries : DELIVERIES_MAX;
    c->pending_max = a->pending == 0 ? ACK_PENDING_DEFAULT
                     : a->pending < 0 || a->pending > MP_PENDING_MAX
                         ? MP_PENDING_MAX
                         : (uint32_t)a->pending;
    if (c->ack == MP_ACK_NONE)
        c->pending_max = MP_PENDING_MAX;
    return read_backoff(c, v, err);
}

static memphis_status read_push(struct mp_consumer_config *c, const struct asked *a,
                                memphis_error *err)
{
    if (a->push[0] == 0) {
        if (a->flow_control || a->heartbeat > 0 || a->group[0] != 0)
            return mp_fail(err, MEMPHIS_INVALID,
                           "consumer flow control, heartbeat and group require a "
                           "delivery subject");
        c->waiting_max = a->waiting > 0 && a->waiting < MP_PULLS_WAITING_MAX
                             ? (uint32_t)a->waiting
                             : MP_PULLS_WAITING_MAX;
        return MEMPHIS_OK;
    }
    if (!mp_subject_is_literal(mp_slice_text(a->push)) || strlen(a->push) > 255)
        return mp_fail(err, MEMPHIS_INVALID,
                       "consumer deliver subject has wildcards or is not valid");
    if (mp_slice_starts(mp_slice_text(a->push), MP_STR("$")))
        return mp_fail(err, MEMPHIS_INVALID,
                       "consumer deliver subject belongs to the broker");
    if (a->flow_control && a->heartbeat <= 0)
        return mp_fail(err, MEMPHIS_INVALID,
                       "consumer with flow control also needs heartbeats");
    if (a->heartbeat > 0 && (uint64_t)a->heartbeat < 100 * MS)
        return mp_fail(err, MEMPHIS_INVALID,
                       "consumer idle heartbeat needs to be >= 100ms");
    c->deliver_subject = mp_strdup(a->push);
    c->deliver_group = a->group[0] != 0 ? mp_strdup(a->group) : NULL;
    c->flow_control = a->flow_control;
    c->heartbeat_ns = a->heartbeat > 0 ? (uint64_t)a->heartbeat : 0;
    return MEMPHIS_OK;
}

static uint64_t bound(int64_t n)
{
    return n > 0 ? (uint64_t)n : 0;
}

static memphis_status settle(struct mp_consumer_config *c, const struct asked *a,
                             memphis_error *err)
{
    c->batch_max = bound(a->batch);
    c->expires_max_ns = bound(a->expires);
    c->request_bytes_max = bound(a->bytes);
    c->inactive_ns = bound(a->inactive);
    if (c->inactive_ns == 0 && !c->is_durable)
        c->inactive_ns = EPHEMERAL_INACTIVE_S * SECOND;
    c->headers_only = a->headers_only;
    if (a->replay[0] != 0 && strcmp(a->replay, "instant") != 0)
        return mp_fail(err, MEMPHIS_UNSUPPORTED,
                       "replay policies other than instant are not supported by this "
                       "release");
    if (a->rate > 0)
        return mp_fail(err, MEMPHIS_UNSUPPORTED,
                       "rate limits are not supported by this release");
    return MEMPHIS_OK;
}

/* === Writing === */

static void put_filters(struct mp_json_writer *w, const struct mp_consumer_config *c)
{
    if (c->filters_count == 1)
        mp_json_put_str(w, "filter_subject", c->filters[0]);
    if (c->filters_count < 2)
        return;
    mp_json_array(w, "filter_subjects");
    for (uint32_t i = 0; i < c->filters_count; i++)
        mp_json_put_str(w, NULL, c->filters[i]);
    mp_json_array_end(w);
}

static void put_acks(struct mp_json_writer *w, const struct mp_consumer_config *c)
{
    mp_json_put_str(w, "ack_policy", acks[c->ack]);
    if (c->ack != MP_ACK_NONE)
        mp_json_put_uint(w, "ack_wait", c->ack_wait_ns);
    mp_json_put_int(w, "max_deliver",
                    c->deliveries_max > 0 ? (int64_t)c->deliveries_max : -1);
    if (c->backoff_count == 0)
        return;
    mp_json_array(w, "backoff");
    for (uint32_t i = 0; i < c->backoff_count; i++)
        mp_json_put_uint(w, NULL, c->backoff_ns[i]);
    mp_json_array_end(w);
}

static void put_if(struct mp_json_writer *w, const char *key, uint64_t n)
{
    if (n > 0)
        mp_json_put_uint(w, key, n);
}

static void put_push(struct mp_json_writer *w, const struct mp_consumer_config *c)
{
    mp_json_put_str(w, "deliver_subject", c->deliver_subject);
    if (c->deliver_group != NULL)
        mp_json_put_str(w, "deliver_group", c->deliver_group);
    if (c->flow_control)
        mp_json_put_bool(w, "flow_control", true);
    put_if(w, "idle_heartbeat", c->heartbeat_ns);
}

static void put_text(const struct mp_consumer_config *c, const struct asked *a,
                     const struct mp_json_value *v, struct mp_buf *out)
{
    struct mp_json_writer w = { .out = out };

    mp_json_object(&w, NULL);
    mp_json_put_str(&w, c->is_durable ? "durable_name" : "name", c->name);
    if (a->description[0] != 0)
        mp_json_put_str(&w, "description", a->description);
    mp_json_put_str(&w, "deliver_policy", policies[c->policy]);
    put_if(&w, "opt_start_seq", c->start_seq);
    if (c->policy == MP_START_TIME)
        mp_json_put_str(&w, "opt_start_time", a->time);
    put_acks(&w, c);
    put_filters(&w, c);
    mp_json_put_str(&w, "replay_policy", "instant");
    if (a->sample[0] != 0)
        mp_json_put_str(&w, "sample_freq", a->sample);
    put_if(&w, "max_waiting", c->waiting_max);
    if (c->ack != MP_ACK_NONE)
        mp_json_put_int(&w, "max_ack_pending",
                        c->pending_max < MP_PENDING_MAX ? (int64_t)c->pending_max : -1);
    if (c->deliver_subject != NULL)
        put_push(&w, c);
    if (c->headers_only)
        mp_json_put_bool(&w, "headers_only", true);
    put_if(&w, "max_batch", c->batch_max);
    put_if(&w, "max_expires", c->expires_max_ns);
    put_if(&w, "max_bytes", c->request_bytes_max);
    put_if(&w, "inactive_threshold", c->inactive_ns);
    mp_json_put_int(&w, "num_replicas", a->replicas > 0 ? 1 : 0);
    if (a->memory)
        mp_json_put_bool(&w, "mem_storage", true);
    mp_nats_put_metadata(&w, v);
    mp_json_object_end(&w);
}

/* === Public === */

memphis_status mp_consumer_config_read(const struct mp_json_value *v, const char *name,
                                       struct mp_consumer_config **out,
                                       memphis_error *err)
{
    struct mp_consumer_config *c = mp_alloc(sizeof(*c));
    struct asked a = { 0 };
    struct mp_buf text = { 0 };
    memphis_status st = read_texts(v, &a, err);

    if (st == MEMPHIS_OK)
        st = read_numbers(v, &a, err);
    if (st == MEMPHIS_OK) {
        c->is_durable = a.durable[0] != 0;
        c->name = mp_strdup(c->is_durable ? a.durable : a.name[0] != 0 ? a.name : name);
        st = read_start(c, &a, err);
    }
    if (st == MEMPHIS_OK)
        st = read_acks(c, &a, v, err);
    if (st == MEMPHIS_OK)
        st = read_filters(c, &a, v, err);
    if (st == MEMPHIS_OK)
        st = read_push(c, &a, err);
    if (st == MEMPHIS_OK)
        st = settle(c, &a, err);
    if (st == MEMPHIS_OK) {
        put_text(c, &a, v, &text);
        if (text.size > TEXT_MAX)
            st = mp_fail(err, MEMPHIS_INVALID,
                         "the configuration of a consumer has at most 64 KiB");
    }
    if (st == MEMPHIS_OK) {
        c->text = mp_strndup(text.data, text.size);
    } else {
        mp_consumer_config_free(c);
        c = NULL;
    }
    mp_buf_fini(&text);
    *out = c;
    return st;
}

memphis_status mp_consumer_config_parse(memphis_slice text,
                                        struct mp_consumer_config **out,
                                        memphis_error *err)
{
    struct mp_json *doc = NULL;
    memphis_status st = mp_json_parse(text, &doc, err);

    *out = NULL;
    if (st == MEMPHIS_OK)
        st = mp_consumer_config_read(mp_json_root(doc), "", out, err);
    mp_json_free(doc);
    return st;
}

void mp_consumer_config_free(struct mp_consumer_config *c)
{
    if (c == NULL)
        return;
    for (uint32_t i = 0; i < c->filters_count; i++)
        mp_free(c->filters[i]);
    mp_free(c->filters);
    mp_free(c->backoff_ns);
    mp_free(c->deliver_subject);
    mp_free(c->deliver_group);
    mp_free(c->name);
    mp_free(c->text);
    mp_free(c);
}

const char *mp_consumer_config_fixed(const struct mp_consumer_config *now,
                                     const struct mp_consumer_config *then)
{
    if (now->policy != then->policy)
        return "deliver policy can not be updated";
    if (now->start_seq != then->start_seq)
        return "start sequence can not be updated";
    if (now->start_time_ns != then->start_time_ns)
        return "start time can not be updated";
    if (now->ack != then->ack)
        return "ack policy can not be updated";
    if (now->waiting_max != then->waiting_max)
        return "max waiting can not be updated";
    if ((now->deliver_subject != NULL) != (then->deliver_subject != NULL))
        return "can not update pull consumer to push based";
    if (now->flow_control != then->flow_control)
        return "flow control can not be updated";
    if (now->heartbeat_ns != then->heartbeat_ns)
        return "heart beats can not be updated";
    return NULL;
}
