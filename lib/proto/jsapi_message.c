/* One message of a stream: STREAM.MSG.GET answers with JSON, DIRECT.GET with the
 * message itself (streams of NATS clients that allow it). */
#include "proto/jsapi_internal.h"

#include "base/enc.h"
#include "base/mem.h"
#include "base/status.h"
#include "stream/nats.h"

struct get_request {
    int64_t seq;
    const char *last_by_subject, *next_by_subject;
};

/* A search that ends with the first message it sees. */
struct search {
    struct mp_scan scan; /* first */
    struct mp_jsapi_command *command;
    char *subject;
    bool direct, found;
};

/* === Answers === */

static void put_base64(struct mp_json_writer *w, const char *key, memphis_slice bytes)
{
    char *text;
    size_t size;

    if (bytes.size == 0)
        return;
    text = mp_realloc(NULL, mp_base64_size(bytes.size) + 1);
    size = mp_base64_encode(bytes.data, bytes.size, text);
    mp_json_put_text(w, key, mp_slice(text, size));
    mp_free(text);
}

static void send_message(struct mp_jsapi_call *c, const struct mp_stream *s,
                         const struct mp_entry *e)
{
    mp_jsapi_begin(c);
    mp_json_object(&c->w, "message");
    mp_json_put_text(&c->w, "subject", mp_stream_subject_of(s, e));
    mp_json_put_uint(&c->w, "seq", e->seq);
    put_base64(&c->w, "hdrs", e->headers);
    put_base64(&c->w, "data", e->payload);
    mp_jsapi_put_time(&c->w, "time", mp_wall_of(&c->broker->streams.wall, e->time_ns));
    mp_json_put_str(&c->w, "reply_subject", "");
    mp_json_put_str(&c->w, "tenant_name", "");
    mp_json_object_end(&c->w);
    mp_jsapi_send(c);
}

/* Its own headers, and where it comes from. */
static void send_direct(const struct mp_jsapi_call *c, const struct mp_stream *s,
                        const struct mp_entry *e)
{
    char time[MP_TIME_TEXT_SIZE + 1];
    memphis_slice subject = mp_stream_subject_of(s, e);
    struct mp_buf headers = { 0 };
    struct mp_message m = { .subject = c->reply, .payload = e->payload };

    mp_time_text(mp_wall_of(&c->broker->streams.wall, e->time_ns), time);
    time[MP_TIME_TEXT_SIZE] = 0;
    if (e->headers.size > 2) /* without the empty line at its end */
        mp_buf_put(&headers, e->headers.data, e->headers.size - 2);
    else
        mp_buf_put_text(&headers, "NATS/1.0\r\n");
    mp_buf_format(&headers,
                  "Nats-Stream: %s\r\nNats-Subject: %.*s\r\nNats-Sequence: ", s->name,
                  (int)subject.size, (const char *)subject.data);
    mp_buf_put_decimal(&headers, e->seq);
    mp_buf_format(&headers, "\r\nNats-Time-Stamp: %s\r\n\r\n", time);
    m.headers = mp_buf_slice(&headers);
    mp_bus_deliver(c->broker->bus, c->reply, &m);
    mp_buf_fini(&headers);
}

static void fail(struct mp_jsapi_call *c, bool direct, const struct mp_jsapi_error *e)
{
    struct mp_message m = { .subject = c->reply };

    if (!direct) {
        mp_jsapi_fail(c, e);
        return;
    }
    m.headers = e->code == 404 ? MP_STR("NATS/1.0 404 Message Not Found\r\n\r\n")
                               : MP_STR("NATS/1.0 408 Bad Request\r\n\r\n");
    mp_bus_deliver(c->broker->bus, c->reply, &m);
}

/* === The search === */

static bool take(struct mp_scan *scan, const struct mp_stored *m)
{
    struct search *x = (struct search *)(void *)scan;
    struct mp_jsapi_call c = mp_jsapi_command_call(x->command);

    x->found = true;
    if (x->direct)
        send_direct(&c, scan->stream, &m->entry);
    else
        send_message(&c, scan->stream, &m->entry);
    return false;
}

static const struct mp_jsapi_error no_message = { 404, 10037, "no message found" };

static void end(struct mp_scan *scan, memphis_status st)
{
    struct search *x = (struct search *)(void *)scan;
    struct mp_jsapi_call c = mp_jsapi_command_call(x->command);

    if (st == MEMPHIS_OK && !x->found)
        fail(&c, x->direct, &no_message);
    else if (st == MEMPHIS_NOT_FOUND)
        fail(&c, x->direct, &mp_jsapi_stream_not_found);
    mp_free(x->subject);
    mp_free(x->command);
    mp_free(x);
}

/* Where the newest one of a subject is, when the index knows; else all of it, from the
 * end. */
static void aim_at_last(struct mp_scan *scan, struct mp_stream *s,
                        memphis_slice subject)
{
    uint64_t last = mp_log_last(s->log, s->pid), seq;

    if (s->nats != NULL && mp_subject_is_literal(subject) &&
        mp_nats_last_of(s, subject, &seq) && seq <= last) {
        scan->at = seq;
        scan->end = seq > 0 ? seq + 1 : 0;
        return;
    }
    scan->backwards = true;
    scan->at = last;
    scan->end = mp_log_first(s->log, s->pid);
}

static void search(struct mp_jsapi_call *c, struct mp_stream *s, bool direct,
                   const struct get_request *r)
{
    struct search *x = mp_alloc(sizeof(*x));
    const char *subject =
        r->last_by_subject != NULL ? r->last_by_subject : r->next_by_subject;

    x->command = mp_jsapi_command_new(c, mp_slice(s->name, s->name_size), MP_STR(""));
    x->direct = direct;
    x->scan = (struct mp_scan){
        .stream = s, .at = r->seq > 0 ? (uint64_t)r->seq : 1, .each = take, .done = end
    };
    if (subject != NULL) {
        x->subject = mp_strdup(subject);
        x->scan.filter = mp_slice_text(x->subject);
    }
    if (r->last_by_subject != NULL)
        aim_at_last(&x->scan, s, x->scan.filter);
    else if (r->next_by_subject != NULL)
        x->scan.end = mp_log_last(s->log, s->pid) + 1;
    else /* that one, or none */
        x->scan.end = mp_log_has(s->log, s->pid, x->scan.at) ? x->scan.at + 1 : 0;
    mp_scan_start(&x->scan);
}

/* === Requests === */

static const struct mp_jsapi_error *read_get(const struct mp_json *doc,
                                             struct get_request *r)
{
    const struct mp_json_value *v = mp_json_root(doc);
    memphis_status st = mp_json_get_int(v, "seq", &r->seq, NULL);

    if (st == MEMPHIS_OK)
        st = mp_json_get_text(v, "last_by_subj", &r->last_by_subject, NULL);
    if (st == MEMPHIS_OK)
        st = mp_json_get_text(v, "next_by_subj", &r->next_by_subject, NULL);
    if (st != MEMPHIS_OK)
        return &mp_jsapi_invalid_json;
    if (r->last_by_subject == NULL && r->next_by_subject == NULL && r->seq <= 0)
        return &mp_jsapi_bad_request;
    /* Many at once: not in this release. */
    if (!mp_json_is_null(mp_json_get(v, "multi_last")) ||
        !mp_json_is_null(mp_json_get(v, "batch")))
        return &mp_jsapi_bad_request;
    return NULL;
}

static void get(struct mp_jsapi_call *c, struct mp_stream *s, bool direct)
{
    struct get_request r = { 0 };
    const struct mp_jsapi_error *e = s == NULL ? &mp_jsapi_stream_not_found : NULL;
    struct mp_json *doc = NULL;

    if (e == NULL && c->body.size == 0)
        e = &mp_jsapi_bad_request;
    if (e == NULL && mp_json_parse(c->body, &doc, NULL) != MEMPHIS_OK)
        e = &mp_jsapi_invalid_json;
    if (e == NULL)
        e = read_get(doc, &r);
    if (e == NULL)
        search(c, s, direct, &r);
    else
        fail(c, direct, e);
    mp_json_free(doc);
}

bool mp_jsapi_message_get(struct mp_jsapi_call *c)
{
    get(c, mp_jsapi_stream(c), false);
    return true;
}

bool mp_jsapi_direct_get(struct mp_jsapi_call *c)
{
    struct mp_stream *s = mp_jsapi_stream(c);
    struct get_request r = { 0 };
    char subject[MP_SUBJECT_MAX + 1];
    size_t size;

    if (s == NULL || s->nats == NULL || !s->nats->config->allow_direct)
        return false;
    if (c->name.size == 0) {
        get(c, s, true);
        return true;
    }
    size = c->filter.size > 0 ? c->name.size + 1 + c->filter.size : c->name.size;
    if (size > MP_SUBJECT_MAX)
        return false;
    memcpy(subject, c->name.data, size); /* the subject's tokens stand in one piece */
    subject[size] = 0;
    r.last_by_subject = subject;
    search(c, s, true, &r);
    return true;
}
