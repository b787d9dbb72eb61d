#include "proto/sdk.h"

#include "base/json.h"
#include "base/mem.h"
#include "base/status.h"
#include "proto/sdk_internal.h"
#include "proto/sdk_text.h"

enum field_kind { FIELD_TEXT, FIELD_INT, FIELD_BOOL };

struct field {
    const char *within, *key;   /* within: key of the object around it, or NULL */
    enum field_kind kind;
    size_t offset;              /* in struct mp_sdk_body */
};

struct mp_sdk_subject {
    const char *name;
    /* Ends in an answer, now or later. NULL: accepted without a word. */
    void (*handle)(const struct mp_sdk_call *c, struct mp_sdk_request *r);
    const struct field *fields;                 /* up to a NULL key */
    /* Notices have none: nobody is answered. */
    void (*put_error)(struct mp_buf *out, const char *text);
    void (*put_unreadable)(struct mp_buf *out, const char *text);
};

/* === Replies === */

void mp_sdk_finish(struct mp_sdk_request *r, memphis_slice payload)
{
    memphis_slice to = mp_slice(r->reply, r->reply_size);
    struct mp_message m = { .subject = to, .payload = payload };

    if (to.size > 0)
        mp_bus_deliver(r->broker->bus, to, &m);
    mp_free(r);
}

void mp_sdk_finish_empty(struct mp_sdk_request *r)
{
    mp_sdk_finish(r, MP_STR(""));
}

void mp_sdk_refuse(struct mp_sdk_request *r, const char *text)
{
    struct mp_buf b = { 0 };

    r->subject->put_error(&b, text);
    mp_sdk_finish(r, mp_buf_slice(&b));
    mp_buf_fini(&b);
}

void mp_sdk_refuse_status(struct mp_sdk_request *r, memphis_status st, const char *text)
{
    mp_sdk_refuse(r, text != NULL && text[0] != 0 ? text : memphis_status_text(st));
}

void mp_sdk_refuse_gone(struct mp_sdk_request *r)
{
    memphis_error err;

    mp_fail(&err, MEMPHIS_NOT_FOUND, MP_TEXT_STATION_GONE, r->station);
    mp_sdk_refuse(r, err.message);
}

static void put_text(struct mp_buf *out, const char *text)
{
    mp_buf_put_text(out, text);
}

static void put_error_object(struct mp_buf *out, const char *text)
{
    struct mp_json_writer w = { .out = out };

    mp_json_object(&w, NULL);
    mp_json_put_str(&w, "error", text);
    mp_json_object_end(&w);
}

/* === Reading === */

static memphis_status read_field(const struct mp_json_value *v, const struct field *f,
                                 struct mp_sdk_body *out, memphis_error *err)
{
    void *to = (char *)out + f->offset;

    if (f->within != NULL)
        v = mp_json_get(v, f->within);
    if (v == NULL)
        return MEMPHIS_OK;
    if (f->kind == FIELD_TEXT)
        return mp_json_get_text(v, f->key, to, err);
    if (f->kind == FIELD_INT)
        return mp_json_get_int(v, f->key, to, err);
    return mp_json_get_bool(v, f->key, to, err);
}

static memphis_status read_body(const struct mp_json *doc, const struct field *fields,
                                struct mp_sdk_body *out, memphis_error *err)
{
    const struct mp_json_value *root = mp_json_root(doc);
    memphis_status st = MEMPHIS_OK;

    if (!mp_json_is_null(root) && !mp_json_is_object(root))
        return mp_fail(err, MEMPHIS_INVALID, "the request must be a JSON object");
    for (const struct field *f = fields; f->key != NULL && st == MEMPHIS_OK; f++)
        st = read_field(root, f, out, err);
    return st;
}

memphis_status mp_sdk_take_text(const char *text, const char *what,
                                char out[MP_SDK_TEXT_MAX + 1], memphis_error *err)
{
    size_t size = strlen(text);

    if (size > MP_SDK_TEXT_MAX)
        return mp_fail(err, MEMPHIS_INVALID, "%s should be under %d characters", what,
                       MP_SDK_TEXT_MAX + 1);
    memcpy(out, text, size + 1);
    return MEMPHIS_OK;
}

memphis_status mp_sdk_take_name(const char *text, const char *object, bool internal,
                                char out[MP_NAME_MAX + 1], memphis_error *err)
{
    size_t size = strlen(text);

    if (size > MP_NAME_MAX) /* this rule comes before the letters' */
        return mp_name_check(mp_slice(text, size), object, err);
    memcpy(out, text, size + 1);
    mp_fold_lower(out, size);
    if (internal)
        mp_name_external(out, size);
    return mp_name_check(mp_slice(out, size), object, err);
}

bool mp_sdk_choose(const struct mp_sdk_choice *c, const char *text, uint32_t *out)
{
    for (; c->name != NULL; c++)
        if (mp_slice_equal_fold(mp_slice_text(c->name), mp_slice_text(text))) {
            *out = c->value;
            return true;
        }
    return false;
}

int64_t mp_sdk_clamp(int64_t v, int64_t low, int64_t high)
{
    return v < low ? low : v > high ? high : v;
}

memphis_status mp_sdk_may(const struct mp_sdk_call *c, uint32_t what, const char *verb,
                          const char *station, memphis_error *err)
{
    if (c->from == NULL ||
        mp_grants_station(c->from->grants, what, mp_slice_text(station)))
        return MEMPHIS_OK;
    return mp_fail(err, MEMPHIS_DENIED, MP_TEXT_NOT_ALLOWED, c->from->user, verb,
                   station);
}

/* === Schemas === */

static void refuse_schema(const struct mp_sdk_call *c, struct mp_sdk_request *r)
{
    (void)c;
    mp_sdk_refuse(r, MP_TEXT_NO_SCHEMAS);
}

/* === The table === */

#define MEMBER(x) offsetof(struct mp_sdk_body, x)
#define TEXT_FIELD(key, member) { NULL, key, FIELD_TEXT, MEMBER(member) }
#define INT_FIELD(key, member) { NULL, key, FIELD_INT, MEMBER(member) }
#define BOOL_FIELD(within, key, member) { within, key, FIELD_BOOL, MEMBER(member) }
#define END_OF_FIELDS { NULL, NULL, FIELD_TEXT, 0 }

static const struct field no_fields[] = { END_OF_FIELDS };

static const struct field station_fields[] = {
    TEXT_FIELD("name", name),
    TEXT_FIELD("schema_name", schema_name),
    TEXT_FIELD("retention_type", retention_type),
    INT_FIELD("retention_value", retention_value),
    TEXT_FIELD("storage_type", storage_type),
    INT_FIELD("replicas", replicas),
    INT_FIELD("idempotency_windows_in_ms", window_ms), /* as .NET spells it */
    INT_FIELD("idempotency_window_in_ms", window_ms),
    BOOL_FIELD("dls_configuration", "poison", dls_poison),
    BOOL_FIELD("dls_configuration", "schemaverse", dls_schema),
    BOOL_FIELD(NULL, "tiered_storage_enabled", tiered),
    INT_FIELD("partitions_number", partitions),
    TEXT_FIELD("dls_station", dls_station),
    END_OF_FIELDS,
};

static const struct field station_name_fields[] = {
    TEXT_FIELD("station_name", station_name),
    END_OF_FIELDS,
};

static const struct field producer_fields[] = {
    TEXT_FIELD("name", name),
    TEXT_FIELD("station_name", station_name),
    TEXT_FIELD("connection_id", connection_id),
    TEXT_FIELD("producer_type", type),
    INT_FIELD("req_version", req_version),
    TEXT_FIELD("app_id", app_id),
    TEXT_FIELD("sdk_lang", sdk_lang),
    END_OF_FIELDS,
};

static const struct field consumer_fields[] = {
    TEXT_FIELD("name", name),
    TEXT_FIELD("station_name", station_name),
    TEXT_FIELD("connection_id", connection_id),
    TEXT_FIELD("consumer_type", type),
    TEXT_FIELD("consumers_group", group),
    INT_FIELD("max_ack_time_ms", ack_wait_ms),
    INT_FIELD("max_msg_deliveries", deliveries_max),
    INT_FIELD("start_consume_from_sequence", start_sequence),
    INT_FIELD("last_messages", last_messages),
    INT_FIELD("req_version", req_version),
    TEXT_FIELD("app_id", app_id),
    TEXT_FIELD("sdk_lang", sdk_lang),
    END_OF_FIELDS,
};

static const struct field member_fields[] = {
    TEXT_FIELD("name", name),
    TEXT_FIELD("station_name", station_name),
    TEXT_FIELD("connection_id", connection_id),
    END_OF_FIELDS,
};

static const struct field refused_fields[] = {
    TEXT_FIELD("station_name", station_name),
    TEXT_FIELD("validation_error", text),
    { "message", "data", FIELD_TEXT, MEMBER(data) },
    END_OF_FIELDS,
};

static const struct field nacked_fields[] = {
    TEXT_FIELD("station_name", station_name),
    TEXT_FIELD("cg_name", group),
    TEXT_FIELD("error", text),
    INT_FIELD("partition", partition),
    INT_FIELD("seq", seq),
    END_OF_FIELDS,
};

static const struct field settled_fields[] = {
    INT_FIELD("id", id),
    TEXT_FIELD("cg_name", group),
    END_OF_FIELDS,
};

/* Consumer creation refuses in plain text, which all SDKs understand, but a body that
 * cannot be read with an object, as they know it (sdk-protocol 2.0). */
static const struct mp_sdk_subject subjects[] = {
    { "$memphis_station_creations",
      mp_sdk_create_station, station_fields, put_text, put_text },
    { "$memphis_station_destructions",
      mp_sdk_destroy_station, station_name_fields, put_text, put_text },
    { "$memphis_producer_creations",
      mp_sdk_create_producer, producer_fields, mp_sdk_put_producer_error,
      mp_sdk_put_producer_error },
    { "$memphis_producer_destructions",
      mp_sdk_destroy_producer, member_fields, put_text, put_text },
    { "$memphis_consumer_creations",
      mp_sdk_create_consumer, consumer_fields, put_text, put_error_object },
    { "$memphis_consumer_destructions",
      mp_sdk_destroy_consumer, member_fields, put_text, put_text },
    { "$memphis_schema_creations",
      refuse_schema, no_fields, put_error_object, put_error_object },
    { "$memphis_schema_attachments", refuse_schema, no_fields, put_text, put_text },
    { "$memphis_schema_detachments", refuse_schema, no_fields, put_text, put_text },
    { "$memphis_notifications", NULL, no_fields, NULL, NULL },
    { "$memphis_schemaverse_dls",
      mp_sdk_take_refused, refused_fields, NULL, NULL },
    { "$memphis_nacked_dls", mp_sdk_take_nacked, nacked_fields, NULL, NULL },
    { "$memphis_pm_acks", mp_sdk_take_settled, settled_fields, NULL, NULL },
};

enum { SUBJECTS_COUNT = sizeof(subjects) / sizeof(subjects[0]) };

/* === Services === */

/* What start made for one broker; reached again by its last service. */
struct sdk {
    struct mp_broker *broker;
    struct door {
        struct sdk *sdk;
        const struct mp_sdk_subject *subject;
        struct mp_service *service;
    } doors[SUBJECTS_COUNT];
    struct mp_service *ending;
};

/* No client can take part in it: see on_ending. */
#define ENDING_SUBJECT MP_STR("$memphis_services_end.sdk")

static struct mp_sdk_request *request_new(struct mp_broker *b,
                                          const struct mp_sdk_subject *subject,
                                          const struct mp_client *from,
                                          const struct mp_message *m)
{
    struct mp_sdk_request *r = mp_alloc(sizeof(*r) + m->reply.size);

    r->broker = b;
    r->subject = subject;
    r->is_java = from != NULL && from->lang != NULL &&
                 strcmp(from->lang, MP_TEXT_LANG_JAVA) == 0;
    r->reply_size = (uint32_t)m->reply.size;
    if (m->reply.size > 0)
        memcpy(r->reply, m->reply.data, m->reply.size);
    return r;
}

/* Texts that are missing are empty. */
static void body_init(struct mp_sdk_body *b, const struct field *fields)
{
    for (; fields->key != NULL; fields++)
        if (fields->kind == FIELD_TEXT)
            *(const char **)(void *)((char *)b + fields->offset) = "";
}

static void refuse_unreadable(struct mp_sdk_request *r, const char *text)
{
    struct mp_buf b = { 0 };

    if (r->subject->put_unreadable == NULL) { /* a notice */
        mp_free(r);
        return;
    }
    r->subject->put_unreadable(&b, text);
    mp_sdk_finish(r, mp_buf_slice(&b));
    mp_buf_fini(&b);
}

static bool on_request(void *ctx, struct mp_client *from, const struct mp_message *m)
{
    const struct door *d = ctx;
    const struct mp_sdk_subject *s = d->subject;
    struct mp_sdk_call c = { .broker = d->sdk->broker, .from = from };
    struct mp_json *doc = NULL;
    struct mp_sdk_request *r;
    memphis_error err;
    memphis_status st;

    if (s->handle == NULL) { /* schemas: a later release */
        mp_logf(c.broker->logger, MEMPHIS_LOG_DEBUG, "sdk",
                "a notice was accepted and not used subject=%s", s->name);
        return true;
    }
    r = request_new(c.broker, s, from, m);
    body_init(&c.body, s->fields);
    st = mp_json_parse(m->payload, &doc, &err);
    c.doc = doc;
    if (st == MEMPHIS_OK)
        st = read_body(doc, s->fields, &c.body, &err);
    if (st == MEMPHIS_OK && from != NULL && from->user != NULL)
        st = mp_sdk_take_text(from->user, "user", r->user, &err);
    if (st != MEMPHIS_OK)
        refuse_unreadable(r, err.message);
    else
        s->handle(&c, r);
    mp_json_free(doc);
    return true;
}

/* Only the broker itself publishes without a client. */
static bool on_ending(void *ctx, struct mp_client *from, const struct mp_message *m)
{
    struct sdk *k = ctx;
    struct mp_bus *bus = k->broker->bus;

    (void)m;
    if (from != NULL)
        return false;
    for (size_t i = 0; i < SUBJECTS_COUNT; i++)
        mp_bus_unserve(bus, k->doors[i].service);
    k->broker->station_removed = NULL;
    k->broker->station_changed = NULL;
    mp_bus_unserve(bus, k->ending);
    mp_free(k);
    return true;
}

void mp_sdk_start(struct mp_broker *b)
{
    struct sdk *k = mp_alloc(sizeof(*k));

    k->broker = b;
    /* Before any reply: who creates the station again at once keeps what is new. */
    b->station_removed = mp_sdk_station_removed;
    b->station_changed = mp_sdk_station_changed;
    for (size_t i = 0; i < SUBJECTS_COUNT; i++) {
        struct door *d = &k->doors[i];

        d->sdk = k;
        d->subject = &subjects[i];
        d->service =
            mp_bus_serve(b->bus, mp_slice_text(subjects[i].name), 0, on_request, d);
    }
    k->ending = mp_bus_serve(b->bus, ENDING_SUBJECT, 0, on_ending, k);
}

void mp_sdk_stop(struct mp_broker *b)
{
    struct mp_message end = { .subject = ENDING_SUBJECT };

    if (b != NULL)
        mp_bus_publish(b->bus, NULL, &end);
}

void mp_sdk_connection_up(struct mp_broker *b, const char *connection_id)
{
    struct mp_buf subject = { 0 };
    struct mp_message m = { .payload = MP_STR(MP_TEXT_INIT_NOTICE) };

    mp_buf_put_text(&subject, MP_TEXT_INIT_SUBJECT);
    mp_buf_put_text(&subject, connection_id);
    m.subject = mp_buf_slice(&subject);
    if (mp_subject_is_literal(m.subject)) /* a client chose the id */
        mp_bus_deliver(b->bus, m.subject, &m);
    mp_buf_fini(&subject);
}
