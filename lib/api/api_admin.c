/* The verbs' door in C. */
#include "api/api.h"

#include "admin/admin.h"
#include "base/json.h"
#include "base/status.h"
#include "base/str.h"

struct admin_call {
    struct api_call call;
    const char *actor, *verb; /* borrowed until it ran */
    memphis_slice json;
    struct mp_buf reply;
    bool is_answered;
};

static void admin_fini(struct api_call *call)
{
    mp_buf_fini(&((struct admin_call *)(void *)call)->reply);
}

static void answered(void *ctx, memphis_status status, memphis_slice json)
{
    struct admin_call *c = ctx;
    struct mp_json *doc = NULL;
    const char *text = "";

    mp_buf_put_slice(&c->reply, json);
    c->is_answered = true;
    if (status != MEMPHIS_OK && mp_json_parse(json, &doc, NULL) == MEMPHIS_OK)
        (void)mp_json_get_text(mp_json_root(doc), "error", &text, NULL);
    api_finish(&c->call, status, text);
    mp_json_free(doc);
}

static void run_admin(struct api_call *call)
{
    struct admin_call *c = (struct admin_call *)(void *)call;

    mp_admin(call->b->core, c->actor, mp_slice_text(c->verb), c->json,
             (struct mp_admin_then){ answered, c });
}

memphis_status memphis_admin(memphis_broker *b, const char *actor, const char *verb,
                             memphis_slice json, memphis_reply_fn fn, void *ctx,
                             memphis_error *err)
{
    struct admin_call *c;
    memphis_status st;

    if (b == NULL || verb == NULL)
        return mp_fail(err, MEMPHIS_INVALID, "a broker and a verb");
    st = api_may_wait(b, err);
    if (st != MEMPHIS_OK)
        return st;
    c = api_call_new(b, sizeof(*c), run_admin);
    if (c == NULL)
        return mp_fail(err, MEMPHIS_NOMEM, "no memory");
    c->actor = actor;
    c->verb = verb;
    c->json = json;
    c->call.fini = admin_fini;
    st = api_run(&c->call, api_default_wait(b), err);
    if (atomic_load(&c->call.done) && c->is_answered && fn != NULL)
        fn(ctx, st, mp_buf_slice(&c->reply));
    api_call_unref(&c->call);
    return st;
}
