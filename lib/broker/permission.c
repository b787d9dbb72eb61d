#include "broker/permission.h"

#include "base/limits.h"
#include "base/mem.h"
#include "base/str.h"
#include "bus/subject.h"

#include <string.h>

enum { PATTERN_MAX = 120 };

struct mp_grants {
    char *allow[2], *deny[2]; /* read, write: patterns, one per line */
};

/* === Patterns === */

const char *mp_pattern_fault(memphis_slice pattern)
{
    const char *p = pattern.data;

    if (pattern.size == 0 || pattern.size > PATTERN_MAX)
        return "a permission pattern has 1 to 120 characters";
    for (size_t i = 0; i < pattern.size; i++)
        if (!((p[i] >= 'a' && p[i] <= 'z') || (p[i] >= '0' && p[i] <= '9') ||
              (p[i] != 0 && strchr("_.-*", p[i]) != NULL)))
            return "a permission pattern consists of a-z, 0-9 and the characters "
                   "_ . - *";
    return NULL;
}

/* A star stands for one or more characters. The last one that was met is the only one
 * that may have to take more. */
static bool matches(memphis_slice pattern, memphis_slice name)
{
    const char *p = pattern.data, *n = name.data;
    size_t i = 0, k = 0, star = SIZE_MAX, taken = 0;

    while (k < name.size) {
        if (i < pattern.size && p[i] == '*') {
            star = i++;
            taken = ++k;
        } else if (i < pattern.size && p[i] == n[k]) {
            i++;
            k++;
        } else if (star != SIZE_MAX) {
            i = star + 1;
            k = ++taken;
        } else {
            return false;
        }
    }
    return i == pattern.size;
}

static bool any_matches(const char *lines, memphis_slice name)
{
    while (*lines != 0) {
        size_t size = strcspn(lines, "\n");
        if (matches(mp_slice(lines, size), name))
            return true;
        lines += size + (lines[size] != 0);
    }
    return false;
}

/* === Grants === */

static char *copy(const char *lines)
{
    return mp_strdup(lines != NULL ? lines : "");
}

struct mp_grants *mp_grants_new(const struct mp_user_row *row)
{
    struct mp_grants *g;

    if (!row->is_restricted)
        return NULL;
    g = mp_alloc(sizeof *g);
    g->allow[0] = copy(row->allow_read);
    g->allow[1] = copy(row->allow_write);
    g->deny[0] = copy(row->deny_read);
    g->deny[1] = copy(row->deny_write);
    return g;
}

void mp_grants_free(struct mp_grants *g)
{
    if (g == NULL)
        return;
    for (int i = 0; i < 2; i++) {
        mp_free(g->allow[i]);
        mp_free(g->deny[i]);
    }
    mp_free(g);
}

bool mp_grants_station(const struct mp_grants *g, uint32_t what, memphis_slice station)
{
    if (g == NULL)
        return true;
    for (int i = 0; i < 2; i++)
        if ((what >> i & 1) != 0 && any_matches(g->allow[i], station) &&
            !any_matches(g->deny[i], station))
            return true;
    return false;
}

/* === Subjects === */

enum {
    EITHER = MP_MAY_READ | MP_MAY_WRITE,
    PUBLISH = 1,
    SUBSCRIBE = 2,
    BOTH = PUBLISH | SUBSCRIBE
};

/* Whole subjects that everybody needs: the broker asks for the station itself. */
static const char *const always[] = {
    "$memphis_nacked_dls",           "$memphis_schemaverse_dls",
    "$memphis_sdk_clients_updates",  "$memphis_pm_acks",
    "$memphis_schema_attachments",   "$memphis_schema_detachments",
    "$memphis_schema_creations",     "$memphis_consumer_creations",
    "$memphis_consumer_destructions", "$memphis_producer_creations",
    "$memphis_producer_destructions", "$memphis_station_creations",
    "$memphis_station_destructions", "$memphis_notifications",
    "$JS.API.STREAM.NAMES",          "$JS.API.INFO",
};

#define DLS "$memphis_dls_" /* and "<station>.<group>", or with '_' */

/* Behind the prefix stands a station, or one of its streams, up to the next dot. */
static const struct {
    const char *prefix;
    uint8_t doors, needs;
} of_station[] = {
    { "$memphis_functions_updates_", BOTH, EITHER },
    { "$memphis_schema_updates_", BOTH, EITHER },
    { "$memphis_configurations_updates.init.", BOTH, EITHER },
    { "$memphis_ws_pubs.", BOTH, EITHER },
    { DLS, BOTH, EITHER },
    { "$JS.ACK.", PUBLISH, MP_MAY_READ },
    { "$JS.API.CONSUMER.LIST.", PUBLISH, MP_MAY_READ },
    { "$JS.API.CONSUMER.NAMES.", PUBLISH, MP_MAY_READ },
    { "$JS.API.CONSUMER.CREATE.", PUBLISH, MP_MAY_READ },
    { "$JS.API.CONSUMER.DURABLE.CREATE.", PUBLISH, MP_MAY_READ },
    { "$JS.API.CONSUMER.MSG.NEXT.", PUBLISH, MP_MAY_READ },
    { "$JS.API.CONSUMER.INFO.", PUBLISH, MP_MAY_READ },
    { "$JS.API.CONSUMER.DELETE.", PUBLISH, MP_MAY_READ },
    { "$JS.FC.", PUBLISH, MP_MAY_READ },
    { "$JS.API.STREAM.MSG.GET.", PUBLISH, MP_MAY_READ },
    { "$JS.API.DIRECT.GET.", PUBLISH, MP_MAY_READ },
    { "$JS.API.STREAM.PURGE.", PUBLISH, MP_MAY_WRITE },
    { "$JS.API.STREAM.MSG.DELETE.", PUBLISH, MP_MAY_WRITE },
    { "$JS.API.STREAM.INFO.", PUBLISH, EITHER },
    { "$JS.API.STREAM.CREATE.", PUBLISH, MP_MAY_WRITE },
    { "$JS.API.STREAM.UPDATE.", PUBLISH, MP_MAY_WRITE },
    { "$JS.API.STREAM.DELETE.", PUBLISH, MP_MAY_WRITE },
};

/* "orders#eu$3" -> "orders.eu". False: no name of one station ("*", too long). */
static bool station_of(memphis_slice token, char out[MP_NAME_MAX + 1], size_t *size)
{
    const char *p = token.data;
    size_t end = token.size, digits = 0;

    while (digits < end && p[end - 1 - digits] >= '0' && p[end - 1 - digits] <= '9')
        digits++;
    if (digits > 0 && digits < end && p[end - 1 - digits] == '$')
        end -= digits + 1;
    if (end == 0 || end > MP_NAME_MAX)
        return false;
    for (size_t i = 0; i < end; i++) {
        if (p[i] == '*' || p[i] == '>' || p[i] == '$')
            return false;
        out[i] = p[i] == '#' ? '.' : p[i];
    }
    mp_fold_lower(out, end); /* a stream SECRET is the station secret */
    out[end] = 0;
    *size = end;
    return true;
}

static bool may_use_token(const struct mp_grants *g, uint32_t needs, memphis_slice rest)
{
    const char *dot = rest.size > 0 ? memchr(rest.data, '.', rest.size) : NULL;
    char name[MP_NAME_MAX + 1];
    size_t size;

    if (dot != NULL)
        rest.size = (size_t)(dot - (const char *)rest.data);
    return station_of(rest, name, &size) &&
           mp_grants_station(g, needs, mp_slice(name, size));
}

/* "orders_eu_billing" of old SDKs: the group "eu_billing" of "orders", or "billing" of
 * "orders_eu". One of them is enough, as each message says whose it is (heard_as in
 * bus.h). */
static bool may_use_old_token(const struct mp_grants *g, uint32_t needs,
                              memphis_slice rest)
{
    const char *p = rest.data;

    for (size_t i = 1; i + 1 < rest.size && i <= MP_NAME_MAX; i++)
        if (p[i] == '_' && may_use_token(g, needs, mp_slice(p, i)))
            return true;
    return false;
}

/* Whoever knows its first token: who made it up, and who is to answer there. With a
 * wildcard in that place it would be the inboxes of all; no SDK asks for them. */
static bool is_own_inbox(memphis_slice subject)
{
    memphis_slice token = mp_subject_token(subject, 1);

    return !mp_slice_equal(token, MP_STR("*")) && !mp_slice_equal(token, MP_STR(">"));
}

bool mp_grants_subject(const struct mp_grants *g, bool publish, memphis_slice subject)
{
    const uint8_t door = publish ? PUBLISH : SUBSCRIBE;

    if (g == NULL)
        return true;
    if (mp_slice_starts(subject, MP_STR("_INBOX.")))
        return is_own_inbox(subject);
    for (size_t i = 0; i < sizeof always / sizeof always[0]; i++)
        if (mp_slice_equal(subject, mp_slice_text(always[i])))
            return true;
    for (size_t i = 0; i < sizeof of_station / sizeof of_station[0]; i++) {
        memphis_slice prefix = mp_slice_text(of_station[i].prefix), rest;
        if (!mp_slice_starts(subject, prefix))
            continue;
        rest = mp_slice((const char *)subject.data + prefix.size,
                        subject.size - prefix.size);
        if ((of_station[i].doors & door) == 0)
            return false;
        if (strcmp(of_station[i].prefix, DLS) == 0 &&
            memchr(rest.data, '.', rest.size) == NULL)
            return may_use_old_token(g, of_station[i].needs, rest);
        return may_use_token(g, of_station[i].needs, rest);
    }
    return may_use_token(g, publish ? MP_MAY_WRITE : MP_MAY_READ, subject);
}
