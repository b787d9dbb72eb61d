#include "admin/admin.h"

#include "admin/admin_internal.h"
#include "base/mem.h"
#include "base/status.h"
#include "base/str.h"

/* === The table === */

enum {
    ROOT = 1 << MP_USER_ROOT,
    MANAGEMENT = 1 << MP_USER_MANAGEMENT,
    APPLICATION = 1 << MP_USER_APPLICATION,
    MANAGERS = ROOT | MANAGEMENT,
    ALL = MANAGERS | APPLICATION /* the handler looks at his permissions */
};

enum { LIMIT_DEFAULT = 100, LIMIT_MAX = 1000 };

#define LISTS                                                                          \
    "allow_read_permissions allow_write_permissions deny_read_permissions "            \
    "deny_write_permissions"

static const struct verb {
    const char *name;
    uint32_t who;
    void (*handle)(struct mp_admin_call *c);
    const char *keys; /* a misspelt one is refused, not left out */
} verbs[] = {
    { "user_add", MANAGERS, mp_admin_user_add,
      "username password user_type full_name team position description "
      "avatar_id " LISTS },
    { "user_list", MANAGERS, mp_admin_user_list, "limit after" },
    { "user_remove", MANAGERS, mp_admin_user_remove, "username" },
    { "user_set_password", MANAGERS, mp_admin_user_set_password, "username password" },
    { "user_set_permissions", MANAGERS, mp_admin_user_set_permissions,
      "username " LISTS },
    { "station_create", ALL, mp_admin_station_create,
      "name partitions_number retention_type retention_value storage_type "
      "idempotency_window_in_ms" },
    { "station_list", ALL, mp_admin_station_list, "limit after" },
    { "station_purge", ALL, mp_admin_station_purge, "name partition_number" },
    { "station_set_dls", ALL, mp_admin_station_set_dls,
      "name poison schemaverse dls_station" },
    { "station_remove", ALL, mp_admin_station_remove, "name" },
    { "message_remove", ALL, mp_admin_message_remove,
      "name partition_number sequences" },
    { "producer_list", ALL, mp_admin_producer_list, "name limit after" },
    { "consumer_list", ALL, mp_admin_consumer_list, "name limit after" },
    { "dls_list", ALL, mp_admin_dls_list, "name limit after" },
    { "dls_resend", ALL, mp_admin_dls_resend, "name ids all" },
    { "dls_drop", ALL, mp_admin_dls_drop, "name ids all" },
};

/* === Answers === */

static void call_free(struct mp_admin_call *c)
{
    mp_json_free(c->doc);
    mp_grants_free(c->grants);
    mp_free(c);
}

void mp_admin_finish(struct mp_admin_call *c, memphis_slice json)
{
    c->then.fn(c->then.ctx, MEMPHIS_OK, json);
    call_free(c);
}

static void refuse(struct mp_admin_then then, memphis_status status, const char *text)
{
    struct mp_buf out = { 0 };
    struct mp_json_writer w = { .out = &out };

    mp_json_object(&w, NULL);
    mp_json_put_str(&w, "error", text[0] != 0 ? text : memphis_status_text(status));
    mp_json_object_end(&w);
    then.fn(then.ctx, status, mp_buf_slice(&out));
    mp_buf_fini(&out);
}

void mp_admin_fail(struct mp_admin_call *c, memphis_status status, const char *text)
{
    refuse(c->then, status, text);
    call_free(c);
}

void mp_admin_done(void *call, memphis_status status, const char *text)
{
    if (status == MEMPHIS_OK)
        mp_admin_finish(call, MP_STR("{}"));
    else
        mp_admin_fail(call, status, text);
}

struct mp_then mp_admin_then_done(struct mp_admin_call *c)
{
    return (struct mp_then){ mp_admin_done, c };
}

/* === Reading === */

memphis_status mp_admin_text(const struct mp_admin_call *c, const char *key,
                             const char **out, memphis_error *err)
{
    *out = NULL;
    memphis_status st = mp_json_get_text(c->args, key, out, err);

    if (st == MEMPHIS_OK && *out == NULL)
        st = mp_fail(err, MEMPHIS_INVALID, "%s is missing", key);
    return st;
}

memphis_status mp_admin_limit(const struct mp_admin_call *c, uint32_t *out,
                              memphis_error *err)
{
    int64_t limit = LIMIT_DEFAULT;
    memphis_status st = mp_json_get_int(c->args, "limit", &limit, err);

    if (st == MEMPHIS_OK && (limit < 1 || limit > LIMIT_MAX))
        st = mp_fail(err, MEMPHIS_INVALID, "limit is a number from 1 to %d", LIMIT_MAX);
    *out = (uint32_t)limit;
    return st;
}

void mp_admin_put_next(struct mp_json_writer *w, const char *next)
{
    if (next != NULL)
        mp_json_put_str(w, "next", next);
    else
        mp_json_put_null(w, "next");
}

void mp_admin_no_after(struct mp_admin_call *c)
{
    mp_admin_fail(c, MEMPHIS_NOT_FOUND,
                  "what `after` names is gone: begin the list again");
}

/* === A call === */

static const struct verb *find_verb(memphis_slice name)
{
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        if (mp_slice_equal(name, mp_slice_text(verbs[i].name)))
            return &verbs[i];
    return NULL;
}

/* Fills in who acts. False: there is no such user. */
static bool identify(struct mp_admin_call *c, const char *actor)
{
    const struct mp_user_row *row = NULL;

    mp_format(c->actor, sizeof c->actor, "%.*s", MP_NAME_MAX,
              actor != NULL ? actor : "root");
    c->type = MP_USER_ROOT;
    if (strcmp(c->actor, "root") == 0) /* its row comes with the first session */
        return true;
    row = mp_meta_user(c->broker->meta, mp_slice_text(c->actor));
    if (row == NULL)
        return false;
    c->type = row->type;
    if (row->type == MP_USER_APPLICATION)
        c->grants = mp_grants_new(row);
    return true;
}

void mp_admin(struct mp_broker *b, const char *actor, memphis_slice verb,
              memphis_slice json, struct mp_admin_then then)
{
    const struct verb *v = find_verb(verb);
    struct mp_json *doc = NULL;
    memphis_error err;

    if (v == NULL) {
        refuse(then, MEMPHIS_NOT_FOUND, "there is no such verb");
        return;
    }
    if (mp_json_parse(json.size > 0 ? json : MP_STR("{}"), &doc, &err) != MEMPHIS_OK ||
        !mp_json_is_object(mp_json_root(doc))) {
        refuse(then, MEMPHIS_INVALID,
               doc == NULL ? err.message : "the arguments must be a JSON object");
        mp_json_free(doc);
        return;
    }
    struct mp_admin_call *c = mp_alloc(sizeof *c);
    c->broker = b;
    c->doc = doc;
    c->args = mp_json_root(doc);
    c->then = then;
    if (!identify(c, actor))
        mp_admin_fail(c, MEMPHIS_DENIED, "there is no user of the actor's name");
    else if ((v->who >> c->type & 1) == 0)
        mp_admin_fail(c, MEMPHIS_DENIED,
                      "only root and management users may do that");
    else if (mp_json_check_keys(c->args, v->keys, &err) != MEMPHIS_OK)
        mp_admin_fail(c, MEMPHIS_INVALID, err.message);
    else
        v->handle(c);
}

/* === Requests on the bus === */

#define PREFIX "$memphis_admin."

struct asking {
    struct mp_broker *broker;
    size_t reply_size;
    char reply[];
};

static void answer(void *ctx, memphis_status status, memphis_slice json)
{
    struct asking *a = ctx;
    memphis_slice to = { a->reply, a->reply_size };
    struct mp_message m = { .subject = to, .payload = json };

    (void)status; /* the JSON says it */
    if (to.size > 0)
        mp_bus_deliver(a->broker->bus, to, &m);
    mp_free(a);
}

static bool on_request(void *ctx, struct mp_client *from, const struct mp_message *m)
{
    struct mp_broker *b = ctx;
    const size_t skip = sizeof PREFIX - 1;

    if (from == NULL || from->user == NULL)
        return false;
    struct asking *a = mp_alloc(sizeof *a + m->reply.size);
    a->broker = b;
    a->reply_size = m->reply.size;
    if (m->reply.size > 0)
        memcpy(a->reply, m->reply.data, m->reply.size);
    mp_admin(b, from->user,
             mp_slice((const char *)m->subject.data + skip, m->subject.size - skip),
             m->payload, (struct mp_admin_then){ answer, a });
    return true;
}

void mp_admin_start(struct mp_broker *b)
{
    b->admin = mp_bus_serve(b->bus, MP_STR(PREFIX "*"), 0, on_request, b);
}

void mp_admin_stop(struct mp_broker *b)
{
    if (b == NULL || b->admin == NULL)
        return;
    mp_bus_unserve(b->bus, b->admin);
    b->admin = NULL;
}
