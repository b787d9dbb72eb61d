/* test/unit/admin/world.h -- a broker whose verbs are called. Once per program. */
#ifndef TEST_UNIT_ADMIN_WORLD_H
#define TEST_UNIT_ADMIN_WORLD_H

#include "unit/broker/world.h"

#include "admin/admin.h"
#include "base/status.h"

static struct {
    int count;
    memphis_status status;
    char json[4096];
} said_by_verb;

static inline void hear_verb(void *ctx, memphis_status status, memphis_slice json)
{
    (void)ctx;
    said_by_verb.count++;
    said_by_verb.status = status;
    snprintf(said_by_verb.json, sizeof said_by_verb.json, "%.*s", (int)json.size,
             (const char *)json.data);
}

static inline memphis_status call(struct world *w, const char *actor, const char *verb,
                                  const char *json)
{
    said_by_verb.count = 0;
    mp_admin(w->broker, actor, mp_slice_text(verb), mp_slice_text(json),
             (struct mp_admin_then){ hear_verb, NULL });
    settle_down(w);
    assert_int_equal(said_by_verb.count, 1);
    return said_by_verb.status;
}

static inline void says(struct world *w, const char *actor, const char *verb,
                        const char *json, const char *expected)
{
    if (call(w, actor, verb, json) != MEMPHIS_OK)
        fail_msg("%s: %s", verb, said_by_verb.json);
    assert_string_equal(said_by_verb.json, expected);
}

static inline void refused(struct world *w, const char *actor, const char *verb,
                           const char *json, memphis_status status, const char *words)
{
    memphis_status st = call(w, actor, verb, json);

    if (st != status || strncmp(said_by_verb.json, "{\"error\":\"", 10) != 0 ||
        strstr(said_by_verb.json, words) == NULL)
        fail_msg("%s %s: %d %s", verb, json, (int)st, said_by_verb.json);
}

/* The page behind `after` (NULL: the first): its `key`s in `out`, apart by blanks, and
 * what "next" says. */
static inline void read_page(struct world *w, const char *actor, const char *verb,
                             const char *args, const char *key, char out[512],
                             char next[64])
{
    char quoted[32];
    const char *p;

    if (call(w, actor, verb, args) != MEMPHIS_OK)
        fail_msg("%s %s: %s", verb, args, said_by_verb.json);
    snprintf(quoted, sizeof quoted, "\"%s\":", key);
    out[0] = 0;
    for (p = said_by_verb.json; (p = strstr(p, quoted)) != NULL;) {
        p += strlen(quoted) + (p[strlen(quoted)] == '"');
        snprintf(out + strlen(out), 512 - strlen(out), "%s%.*s",
                 out[0] != 0 ? " " : "", (int)strcspn(p, "\","), p);
    }
    p = strstr(said_by_verb.json, "\"next\":");
    assert_non_null(p);
    p += 7 + (p[7] == '"');
    snprintf(next, 64, "%.*s", (int)strcspn(p, "\",}"), p);
}

static inline struct world *world_with_users(void)
{
    struct world *w = world_new();

    says(w, NULL, "user_add",
         "{\"username\":\"App\",\"password\":\"Secret1!\","
         "\"user_type\":\"application\"}",
         "{}");
    says(w, "root", "user_add",
         "{\"username\":\"boss\",\"password\":\"Secret1!\","
         "\"user_type\":\"management\"}",
         "{}");
    return w;
}

static inline void publish_with_reply(struct world *w, const char *subject,
                                      const char *payload)
{
    struct mp_subscription *s;
    struct mp_message m = { .subject = mp_slice_text(subject),
                            .reply = MP_STR("_INBOX.verb"),
                            .payload = mp_slice_text(payload) };

    w->heard_count = 0;
    if (!mp_bus_has_interest(w->broker->bus, m.reply))
        assert_int_equal(mp_bus_subscribe(w->broker->bus, &w->client, m.reply,
                                          MP_STR(""), &s),
                         MEMPHIS_OK);
    mp_bus_publish(w->broker->bus, &w->client, &m);
    settle_down(w);
}

#endif
