/* CONSUMER.CREATE: what NATS clients make of consumers, and change of them. */
#include "proto/jsapi_internal.h"

#include "base/assert.h"
#include "base/mem.h"
#include "base/status.h"
#include "broker/permission.h"
#include "stream/consumer.h"
#include "stream/nats.h"

static const uint64_t MS = 1000000;

static const struct mp_jsapi_error
    wrong_stream = { 400, 10056, "stream name in subject does not match request" },
    wrong_durable = { 400, 10017,
                      "consumer name in subject does not match durable name in "
                      "request" },
    wrong_filter = { 400, 10131,
                     "Consumer create request did not match filtered subject from "
                     "create subject" },
    too_many = { 400, 10026, "maximum consumers limit reached" },
    bad_name = { 400, 10003, "bad request: the consumer name is not valid" },
    exists = { 400, 10148, "consumer already exists" },
    is_missing = { 400, 10149, "consumer does not exist" },
    no_index = { 500, 10012,
                 "the last message of each subject is only known of NATS streams" },
    queue_acks = { 400, 10098, "workqueue stream requires explicit ack" },
    queue_pull = { 400, 10084,
                   "consumer in pull mode requires explicit ack policy on workqueue "
                   "stream" },
    queue_start = { 400, 10101, "consumer must be deliver all on workqueue stream" },
    queue_second = { 400, 10099,
                     "multiple non-filtered consumers not allowed on workqueue "
                     "stream" },
    queue_filter = { 400, 10100, "filtered consumer not unique on workqueue stream" },
    not_granted = { 500, 10012,
                    "the user is not allowed to write to the deliver subject" },
    memphis_group = {
        500, 10012,
        "a consumer group of a Memphis station is changed by the requests "
        "of a Memphis SDK"
    };

/* === Answers === */

/* Made or updated: the answer shows what it is now. */
static void created(void *ctx, memphis_status st, const char *text)
{
    struct mp_jsapi_command *k = ctx;
    struct mp_jsapi_call c = mp_jsapi_command_call(k);
    struct mp_stream_group *g;

    (void)text;
    if (st != MEMPHIS_OK) {
        mp_jsapi_fail(&c, &mp_jsapi_unavailable);
    } else if ((g = mp_jsapi_group(&c)) !=
               NULL) { /* else: removed in the same breath */
        mp_jsapi_begin(&c);
        mp_jsapi_put_group(&c.w, k->broker, g);
        mp_jsapi_send(&c);
    }
    mp_free(k);
}

void mp_jsapi_append_group(struct mp_stream *s, memphis_slice payload,
                           struct mp_then then)
{
    struct mp_jsapi_command *k = then.ctx;
    struct mp_operation *op = mp_operation_new(k->broker, then);
    struct mp_entry e = { .type = MP_ENTRY_GROUP,
                          .pid = s->pid,
                          .time_ns = k->broker->now_ns,
                          .payload = payload };
    memphis_status st = mp_log_append(s->log, &e, 1, mp_operation_tag(op));

    if (st != MEMPHIS_OK) {
        mp_operation_fail(op, st, "the consumer could not be written");
        mp_operation_done(op);
    }
    mp_operation_done(op);
}

/* === Checks === */

/* The request as a whole. */
struct asked {
    const char *stream, *action, *durable;
    struct mp_consumer_config *config;
};

static bool is_same(const char *text, memphis_slice s)
{
    return mp_slice_equal(mp_slice_text(text), s);
}

/* Subject against body. NULL: fine. */
static const struct mp_jsapi_error *check_names(const struct mp_jsapi_call *c,
                                                const struct asked *a)
{
    const struct mp_consumer_config *o = a->config;
    const char *filter = o->filters_count == 1 ? o->filters[0] : "";

    if (a->stream != NULL && a->stream[0] != 0 && !is_same(a->stream, c->stream))
        return &wrong_stream;
    if (c->name.size > 0 && !is_same(o->name, c->name))
        return &wrong_durable;
    if (o->name[0] == 0 || strlen(o->name) > MP_NAME_MAX ||
        strpbrk(o->name, ". \t\r\n*>/\\") != NULL)
        return &bad_name;
    if (c->filter.size > 0 && !is_same(filter, c->filter))
        return &wrong_filter;
    if (o->deliver_subject != NULL &&
        !mp_grants_subject(c->grants, true, mp_slice_text(o->deliver_subject)))
        return &not_granted;
    return NULL;
}

static bool share_a_subject(const struct mp_consumer_config *a,
                            const struct mp_consumer_config *b)
{
    for (uint32_t i = 0; i < a->filters_count; i++)
        for (uint32_t k = 0; k < b->filters_count; k++)
            if (mp_subject_overlaps(mp_slice_text(a->filters[i]),
                                    mp_slice_text(b->filters[k])))
                return true;
    return false;
}

/* Each message of a work queue is for one consumer. */
static const struct mp_jsapi_error *check_queue(const struct mp_stream *s,
                                                const struct mp_consumer_config *o)
{
    const struct mp_stream_group *g;

    if (s->nats == NULL || s->nats->config->retention != MP_NATS_WORKQUEUE)
        return NULL;
    if (o->ack != MP_ACK_EXPLICIT)
        return o->deliver_subject != NULL ? &queue_acks : &queue_pull;
    if (o->policy != MP_START_ALL)
        return &queue_start;
    for (uint32_t i = 0; (g = mp_map_next(&s->groups, &i)) != NULL;) {
        if (g->leaving || g->nats == NULL || strcmp(g->name, o->name) == 0)
            continue;
        if (o->filters_count == 0 || g->nats->config->filters_count == 0)
            return &queue_second;
        if (share_a_subject(o, g->nats->config))
            return &queue_filter;
    }
    return NULL;
}

static const struct mp_jsapi_error *check_new(const struct mp_stream *s,
                                              const struct asked *a)
{
    uint64_t max = s->nats != NULL && s->nats->config->consumers_max > 0
                       ? s->nats->config->consumers_max
                       : MP_GROUPS_MAX;

    if (a->action != NULL && strcmp(a->action, "update") == 0)
        return &is_missing;
    return s->groups.count >= max ? &too_many : NULL;
}

/* === Create or update === */

static struct mp_group_config group_config_of(const struct mp_consumer_config *o)
{
    return (struct mp_group_config){ .ack_wait_ns = o->ack_wait_ns / MS * MS,
                                     .deliveries_max = o->deliveries_max,
                                     .pending_max = o->pending_max };
}

static void encode_new(struct mp_stream *s, const struct mp_consumer_config *o,
                       uint64_t start, uint64_t asked_start, struct mp_buf *out)
{
    struct mp_stream_group_config g = {
        .name = o->name,
        .group = group_config_of(o),
        .policy = o->policy,
        .asked_start = asked_start,
        .start = start,
        .plain = true,
        .nats = o->text,
        .filter = o->filters_count == 1 ? o->filters[0] : "",
    };

    if (g.group.ack_wait_ns == 0)
        g.group.ack_wait_ns = MS;
    mp_stream_group_create_encode(s, &g, out);
}

static void append(struct mp_jsapi_call *c, struct mp_stream *s,
                   const struct mp_consumer_config *o, const struct mp_buf *payload)
{
    struct mp_jsapi_command *k = mp_jsapi_command_new(
        c, mp_slice(s->name, s->name_size), mp_slice_text(o->name));

    if (payload->size > 0)
        mp_jsapi_append_group(s, mp_buf_slice(payload), (struct mp_then){ created, k });
    else
        created(k, MEMPHIS_OK, "");
}

/* "The last N" has become a sequence when the group was made. */
static uint32_t shown_policy(uint32_t policy)
{
    return policy == MP_START_LAST ? MP_START_SEQUENCE : policy;
}

/* Where a group began stays. NULL: it is not asked to be otherwise. */
static const struct mp_jsapi_error *other_start(const struct mp_stream_group *g,
                                                const struct mp_consumer_config *o)
{
    static const struct mp_jsapi_error
        policy = { 500, 10012, "deliver policy can not be updated" },
        sequence = { 500, 10012, "start sequence can not be updated" };

    if (shown_policy(g->policy) != o->policy)
        return &policy;
    return o->policy == MP_START_SEQUENCE && o->start_seq != g->asked_start ? &sequence
                                                                            : NULL;
}

/* A group of a Memphis station: a pull consumer of what is produced, with explicit
 * acks; ack wait and deliveries may change. */
static void update_group(struct mp_jsapi_call *c, struct mp_stream_group *g,
                         const struct mp_consumer_config *o)
{
    struct mp_group_config now = group_config_of(o);
    const char *filter = g->filter != NULL ? g->filter : g->stream->final_subject;
    struct mp_buf payload = { 0 };

    if (other_start(g, o) != NULL) {
        mp_jsapi_fail(c, other_start(g, o));
        return;
    }
    if (o->ack != MP_ACK_EXPLICIT || o->deliver_subject != NULL ||
        strcmp(o->filters_count == 1 ? o->filters[0] : "", filter) != 0) {
        mp_jsapi_fail(c, &memphis_group);
        return;
    }
    if (now.ack_wait_ns != g->group.config.ack_wait_ns ||
        now.deliveries_max != g->group.config.deliveries_max)
        mp_stream_group_update_encode(g, &now, NULL, &payload);
    append(c, g->stream, o, &payload);
    mp_buf_fini(&payload);
}

/* A durable keeps its position; much of the rest may change. */
static void update(struct mp_jsapi_call *c, struct mp_stream_group *g,
                   const struct asked *a)
{
    const struct mp_consumer_config *o = a->config;
    struct mp_group_config now = group_config_of(o);
    struct mp_buf payload = { 0 };
    bool same = g->nats != NULL && strcmp(g->nats->config->text, o->text) == 0;
    struct mp_jsapi_error fixed = { 500, 10012, NULL };

    if (g->nats == NULL) {
        update_group(c, g, o);
        return;
    }
    fixed.text = mp_consumer_config_fixed(g->nats->config, o);
    if (!same && a->action != NULL && strcmp(a->action, "create") == 0) {
        mp_jsapi_fail(c, &exists);
    } else if (fixed.text != NULL) {
        mp_jsapi_fail(c, &fixed);
    } else {
        if (!same)
            mp_stream_group_update_encode(g, &now, o->text, &payload);
        append(c, g->stream, o, &payload);
    }
    mp_buf_fini(&payload);
}

/* A request whose start is being looked for on the disk. */
struct waiting {
    struct mp_stream_waiter waiter; /* first */
    struct mp_jsapi_command *command;
    char *config;
};

static void make(struct mp_jsapi_call *c, struct mp_stream *s,
                 const struct mp_consumer_config *o);

static void again(struct mp_stream_waiter *waiter, struct mp_stream *s)
{
    struct waiting *w = (struct waiting *)(void *)waiter;
    struct mp_jsapi_call c = mp_jsapi_command_call(w->command);
    struct mp_consumer_config *o = NULL;

    if (s == NULL)
        mp_jsapi_fail(&c, &mp_jsapi_stream_not_found);
    else if (mp_consumer_config_parse(mp_slice_text(w->config), &o, NULL) == MEMPHIS_OK)
        make(&c, s, o);
    mp_consumer_config_free(o);
    mp_free(w->config);
    mp_free(w->command);
    mp_free(w);
}

static void wait_for(struct mp_jsapi_call *c, struct mp_stream *s,
                     const struct mp_consumer_config *o)
{
    struct waiting *w = mp_alloc(sizeof(*w));

    w->waiter.again = again;
    w->config = mp_strdup(o->text);
    w->command = mp_jsapi_command_new(c, mp_slice(s->name, s->name_size),
                                      mp_slice_text(o->name));
    mp_stream_wait(s, &w->waiter);
}

static void make(struct mp_jsapi_call *c, struct mp_stream *s,
                 const struct mp_consumer_config *o)
{
    uint64_t start, asked_start;
    memphis_status st = mp_consumer_start_of(s, o, &start, &asked_start);
    struct mp_buf payload = { 0 };

    if (st == MP_PENDING) {
        wait_for(c, s, o);
    } else if (st != MEMPHIS_OK) {
        mp_jsapi_fail(c, s->nats == NULL || s->nats->has_given_up
                             ? &no_index
                             : &mp_jsapi_unavailable);
    } else {
        encode_new(s, o, start, asked_start, &payload);
        append(c, s, o, &payload);
    }
    mp_buf_fini(&payload);
}

static void create(struct mp_jsapi_call *c, struct mp_stream *s, const struct asked *a)
{
    const struct mp_jsapi_error *e = check_names(c, a);
    struct mp_stream_group *g = NULL;

    if (e == NULL && s == NULL)
        e = &mp_jsapi_stream_not_found;
    if (e == NULL) {
        g = mp_stream_group(s, mp_slice_text(a->config->name));
        if (g != NULL && g->leaving)
            g = NULL;
        e = check_queue(s, a->config);
    }
    if (e == NULL && g == NULL)
        e = check_new(s, a);
    if (e != NULL)
        mp_jsapi_fail(c, e);
    else if (g != NULL)
        update(c, g, a);
    else
        make(c, s, a->config);
}

/* === The request === */

static void refuse_config(struct mp_jsapi_call *c, const memphis_error *err)
{
    static const struct {
        const char *part;
        int err_code;
    } known[] = { { "start sequence is not set", 10094 },
                  { "bad request", 10003 },
                  { "start time is not set", 10094 },
                  { "cannot overlap", 10138 },
                  { "FilterSubjects specified", 10136 },
                  { "backoff values", 10116 },
                  { "has wildcards", 10079 },
                  { "needs heartbeats", 10108 },
                  { "require a delivery subject", 10088 } };
    struct mp_jsapi_error e = { 500, 10012, err->message };

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (strstr(err->message, known[i].part) != NULL)
            e = (struct mp_jsapi_error){ 400, known[i].err_code, err->message };
    mp_jsapi_fail(c, &e);
}

/* Of a consumer that its client gave none. */
static void random_name(struct mp_broker *b, char name[9])
{
    static const char letters[] =
        "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    uint8_t random[8];

    b->env->random(b->env, random, sizeof(random));
    for (size_t i = 0; i < sizeof(random); i++)
        name[i] = letters[random[i] % (sizeof(letters) - 1)];
    name[8] = 0;
}

bool mp_jsapi_consumer_create(struct mp_jsapi_call *c)
{
    struct mp_json *doc = NULL;
    const struct mp_json_value *root = NULL;
    struct asked a = { 0 };
    char name[MP_NAME_MAX + 2] = "";
    memphis_error err;

    if (c->name.size > 0 && c->name.size < sizeof(name))
        memcpy(name, c->name.data, c->name.size);
    else
        random_name(c->broker, name);
    if (mp_json_parse(c->body, &doc, NULL) == MEMPHIS_OK)
        root = mp_json_root(doc);
    if (root == NULL || !mp_json_is_object(root) ||
        mp_json_get_text(root, "stream_name", &a.stream, NULL) != MEMPHIS_OK ||
        mp_json_get_text(root, "action", &a.action, NULL) != MEMPHIS_OK)
        mp_jsapi_fail(c, &mp_jsapi_invalid_json);
    else if (mp_consumer_config_read(mp_json_get(root, "config"), name, &a.config,
                                     &err) != MEMPHIS_OK)
        refuse_config(c, &err);
    else
        create(c, mp_jsapi_stream(c), &a);
    mp_consumer_config_free(a.config);
    mp_json_free(doc);
    return true;
}
