#include "stream/nats_config.h"

#include "base/limits.h"
#include "base/mem.h"
#include "base/status.h"
#include "base/str.h"
#include "bus/subject.h"

enum { SUBJECTS_MAX = 1000, TEXT_MAX = 64 << 10 };

static const uint64_t WINDOW_DEFAULT_NS = 120000000000;
static const uint64_t AGE_MIN_NS = 100000000; /* as nats-server has it */

static const char *const retentions[] = { "limits", "interest", "workqueue" };

/* === Reading === */

/* Numbers of the object; -1 and 0 are both "no bound". */
struct numbers {
    int64_t consumers, messages, bytes, message_size, per_subject, age, window,
        replicas;
};

/* What would change the meaning of the stream. A default value is not meant. Not here:
 * allow_msg_ttl, which nats.py asks for with every bucket; a message that brings a
 * lifetime of its own is refused instead. */
static const char *const unsupported[] = {
    "mirror",    "sources",
    "republish", "subject_transform",
    "placement", "subject_delete_marker_ttl",
    "first_seq", "template_owner",
};
static const char *const unsupported_switches[] = {
    "sealed",
    "no_ack",
    "mirror_direct",

    "allow_atomic",
    "allow_msg_counter",
    "allow_msg_schedules",
    "allow_batched",
    "persist_mode",
};

static bool is_default(const struct mp_json_value *v)
{
    const char *text = "x";
    int64_t number = 1;
    bool is_on = true;

    if (mp_json_is_null(v) || (mp_json_is_array(v) && mp_json_count(v) == 0))
        return true;
    if (mp_json_get_int(v, NULL, &number, NULL) == MEMPHIS_OK)
        return number == 0;
    if (mp_json_get_bool(v, NULL, &is_on, NULL) == MEMPHIS_OK)
        return !is_on;
    if (mp_json_get_text(v, NULL, &text, NULL) == MEMPHIS_OK)
        return text[0] == 0 || strcmp(text, "default") == 0;
    return false;
}

static memphis_status check_supported(const struct mp_json_value *v, memphis_error *err)
{
    const char *bad = NULL, *compression = "none";
    struct mp_json_value const *limits = mp_json_get(v, "consumer_limits");

    for (size_t i = 0; i < sizeof(unsupported) / sizeof(unsupported[0]); i++)
        if (!is_default(mp_json_get(v, unsupported[i])))
            bad = unsupported[i];
    for (size_t i = 0;
         i < sizeof(unsupported_switches) / sizeof(unsupported_switches[0]); i++)
        if (!is_default(mp_json_get(v, unsupported_switches[i])))
            bad = unsupported_switches[i];
    if (!is_default(mp_json_get(limits, "inactive_threshold")) ||
        !is_default(mp_json_get(limits, "max_ack_pending")))
        bad = "consumer_limits";
    if (mp_json_get_text(v, "compression", &compression, err) != MEMPHIS_OK)
        return MEMPHIS_INVALID;
    if (compression[0] != 0 && strcmp(compression, "none") != 0)
        bad = "compression";
    if (bad != NULL)
        return mp_fail(err, MEMPHIS_UNSUPPORTED, "%s is not supported by this release",
                       bad);
    return MEMPHIS_OK;
}

static memphis_status read_numbers(const struct mp_json_value *v, struct numbers *n,
                                   memphis_error *err)
{
    const struct {
        const char *key;
        int64_t *to;
    } keys[] = { { "max_consumers", &n->consumers },
                 { "max_msgs", &n->messages },
                 { "max_bytes", &n->bytes },
                 { "max_msg_size", &n->message_size },
                 { "max_msgs_per_subject", &n->per_subject },
                 { "max_age", &n->age },
                 { "duplicate_window", &n->window },
                 { "num_replicas", &n->replicas } };
    memphis_status st = MEMPHIS_OK;

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]) && st == MEMPHIS_OK; i++)
        st = mp_json_get_int(v, keys[i].key, keys[i].to, err);
    return st;
}

static memphis_status read_switches(const struct mp_json_value *v,
                                    struct mp_nats_config *c, memphis_error *err)
{
    const struct {
        const char *key;
        bool *to;
    } keys[] = { { "allow_direct", &c->allow_direct },
                 { "deny_delete", &c->deny_delete },
                 { "deny_purge", &c->deny_purge },
                 { "allow_rollup_hdrs", &c->allow_rollup },
                 { "discard_new_per_subject", &c->discard_new_per_subject } };
    memphis_status st = MEMPHIS_OK;

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]) && st == MEMPHIS_OK; i++)
        st = mp_json_get_bool(v, keys[i].key, keys[i].to, err);
    return st;
}

static memphis_status read_words(const struct mp_json_value *v,
                                 struct mp_nats_config *c, memphis_error *err)
{
    const char *retention = "limits", *storage = "file", *discard = "old";
    memphis_status st = mp_json_get_text(v, "retention", &retention, err);
    uint32_t n = 0;

    if (st == MEMPHIS_OK)
        st = mp_json_get_text(v, "storage", &storage, err);
    if (st == MEMPHIS_OK)
        st = mp_json_get_text(v, "discard", &discard, err);
    if (st != MEMPHIS_OK)
        return st;
    while (n < 3 && strcmp(retention, retentions[n]) != 0)
        n++;
    c->retention = n;
    c->memory = strcmp(storage, "memory") == 0;
    c->discard_new = strcmp(discard, "new") == 0;
    if (n == 3 || (!c->memory && strcmp(storage, "file") != 0) ||
        (!c->discard_new && strcmp(discard, "old") != 0))
        return mp_fail(err, MEMPHIS_INVALID,
                       "retention, storage or discard is unknown");
    return MEMPHIS_OK;
}

static memphis_status add_subject(struct mp_nats_config *c, const char *text,
                                  memphis_error *err)
{
    memphis_slice s = mp_slice_text(text);

    if (s.size > MP_SUBJECT_MAX || !mp_subject_is_valid(s))
        return mp_fail(err, MEMPHIS_INVALID, "invalid subject");
    if (mp_subject_overlaps(s, MP_STR("$JS.API.>")) ||
        mp_subject_overlaps(s, MP_STR("$JS.ACK.>")) ||
        mp_subject_overlaps(s, MP_STR("$JS.FC.>")) ||
        mp_slice_starts(s, MP_STR("$memphis_")))
        return mp_fail(err, MEMPHIS_INVALID,
                       "subjects that overlap with the broker's own are not allowed");
    if (mp_nats_config_overlaps(c, s))
        return mp_fail(err, MEMPHIS_INVALID, "subjects of the stream overlap");
    c->subjects[c->subjects_count++] = mp_strdup(text);
    return MEMPHIS_OK;
}

/* Without any: the stream's own name, as nats-server has it. */
static memphis_status read_subjects(const struct mp_json_value *v,
                                    struct mp_nats_config *c, memphis_error *err)
{
    const struct mp_json_value *list = mp_json_get(v, "subjects");
    size_t n = mp_json_count(list);
    memphis_status st = MEMPHIS_OK;

    if ((list != NULL && !mp_json_is_array(list)) || n > SUBJECTS_MAX)
        return mp_fail(err, MEMPHIS_INVALID, "subjects must be a list of at most %d",
                       SUBJECTS_MAX);
    c->subjects = mp_alloc((n + 1) * sizeof(*c->subjects));
    if (n == 0)
        return add_subject(c, c->name, err);
    for (size_t i = 0; i < n && st == MEMPHIS_OK; i++) {
        const char *text = "";

        st = mp_json_get_text(mp_json_at(list, i), NULL, &text, err);
        if (st == MEMPHIS_OK)
            st = add_subject(c, text, err);
    }
    return st;
}

static uint64_t bound(int64_t n)
{
    return n > 0 ? (uint64_t)n : 0;
}

static memphis_status settle(struct mp_nats_config *c, const struct numbers *n,
                             memphis_error *err)
{
    c->consumers_max = bound(n->consumers);
    c->messages_max = bound(n->messages);
    c->bytes_max = bound(n->bytes);
    c->message_size_max = bound(n->message_size);
    c->per_subject_max = bound(n->per_subject);
    c->age_max_ns = bound(n->age);
    c->window_ns = n->window > 0 ? (uint64_t)n->window : WINDOW_DEFAULT_NS;
    if (n->window <= 0 && c->age_max_ns > 0 && c->age_max_ns < c->window_ns)
        c->window_ns = c->age_max_ns;
    if (n->replicas > 1)
        return mp_fail(err, MEMPHIS_UNSUPPORTED,
                       "replicas > 1 not supported in non-clustered mode");
    if (c->age_max_ns > 0 && c->age_max_ns < AGE_MIN_NS)
        return mp_fail(err, MEMPHIS_INVALID, "max age needs to be >= 100ms");
    if (c->age_max_ns > 0 && c->window_ns > c->age_max_ns)
        return mp_fail(err, MEMPHIS_INVALID,
                       "duplicates window can not be larger then max age");
    if (c->discard_new_per_subject && (!c->discard_new || c->per_subject_max == 0))
        return mp_fail(err, MEMPHIS_INVALID,
                       "discard new per subject requires discard new policy and max "
                       "msgs per subject to be set");
    return MEMPHIS_OK;
}

/* === Writing === */

void mp_nats_put_raw(struct mp_json_writer *w, const char *key, memphis_slice json)
{
    if (w->comma)
        mp_buf_put_u8(w->out, ',');
    if (key != NULL) {
        w->comma = false;
        mp_buf_format(w->out, "\"%s\":", key);
    }
    mp_buf_put_slice(w->out, json);
    w->comma = true;
}

static void put_pair(void *w, const char *key, const char *text)
{
    mp_json_put_str(w, key, text);
}

void mp_nats_put_metadata(struct mp_json_writer *w, const struct mp_json_value *v)
{
    const struct mp_json_value *m = mp_json_get(v, "metadata");

    if (m == NULL)
        return;
    mp_json_object(w, "metadata");
    mp_json_each_text(m, put_pair, w);
    mp_json_object_end(w);
}

static void put_bound(struct mp_json_writer *w, const char *key, uint64_t n)
{
    mp_json_put_int(w, key, n > 0 ? (int64_t)n : -1);
}

static void put_text(struct mp_nats_config *c, const char *description,
                     const struct mp_json_value *v, struct mp_buf *out)
{
    struct mp_json_writer w = { .out = out };

    mp_json_object(&w, NULL);
    mp_json_put_str(&w, "name", c->name);
    if (description[0] != 0)
        mp_json_put_str(&w, "description", description);
    mp_json_array(&w, "subjects");
    for (uint32_t i = 0; i < c->subjects_count; i++)
        mp_json_put_str(&w, NULL, c->subjects[i]);
    mp_json_array_end(&w);
    mp_json_put_str(&w, "retention", retentions[c->retention]);
    put_bound(&w, "max_consumers", c->consumers_max);
    put_bound(&w, "max_msgs", c->messages_max);
    put_bound(&w, "max_bytes", c->bytes_max);
    mp_json_put_uint(&w, "max_age", c->age_max_ns);
    put_bound(&w, "max_msgs_per_subject", c->per_subject_max);
    put_bound(&w, "max_msg_size", c->message_size_max);
    mp_json_put_str(&w, "discard", c->discard_new ? "new" : "old");
    if (c->discard_new_per_subject)
        mp_json_put_bool(&w, "discard_new_per_subject", true);
    mp_json_put_str(&w, "storage", c->memory ? "memory" : "file");
    mp_json_put_int(&w, "num_replicas", 1);
    mp_json_put_uint(&w, "duplicate_window", c->window_ns);
    mp_json_put_str(&w, "compression", "none");
    mp_json_put_bool(&w, "allow_direct", c->allow_direct);
    mp_json_put_bool(&w, "mirror_direct", false);
    mp_json_put_bool(&w, "sealed", false);
    mp_json_put_bool(&w, "deny_delete", c->deny_delete);
    mp_json_put_bool(&w, "deny_purge", c->deny_purge);
    mp_json_put_bool(&w, "allow_rollup_hdrs", c->allow_rollup);
    mp_json_object(&w, "consumer_limits");
    mp_json_object_end(&w);
    mp_nats_put_metadata(&w, v);
    mp_json_object_end(&w);
}

/* === Public === */

memphis_status mp_nats_config_read(const struct mp_json_value *v,
                                   struct mp_nats_config **out, memphis_error *err)
{
    const char *name = "", *description = "";
    struct numbers n = { .replicas = 1 };
    struct mp_nats_config *c = mp_alloc(sizeof(*c));
    struct mp_buf text = { 0 };
    memphis_status st = mp_json_get_text(v, "name", &name, err);

    if (st == MEMPHIS_OK)
        st = mp_json_get_text(v, "description", &description, err);
    c->name = mp_strdup(name);
    if (st == MEMPHIS_OK)
        st = check_supported(v, err);
    if (st == MEMPHIS_OK)
        st = read_numbers(v, &n, err);
    if (st == MEMPHIS_OK)
        st = read_switches(v, c, err);
    if (st == MEMPHIS_OK)
        st = read_words(v, c, err);
    if (st == MEMPHIS_OK)
        st = read_subjects(v, c, err);
    if (st == MEMPHIS_OK)
        st = settle(c, &n, err);
    if (st == MEMPHIS_OK) {
        put_text(c, description, v, &text);
        if (text.size > TEXT_MAX)
            st = mp_fail(err, MEMPHIS_INVALID, "the configuration is too large");
        c->text = mp_strndup(text.data, text.size);
    }
    mp_buf_fini(&text);
    if (st != MEMPHIS_OK) {
        mp_nats_config_free(c);
        c = NULL;
    }
    *out = c;
    return st;
}

memphis_status mp_nats_config_parse(memphis_slice text, struct mp_nats_config **out,
                                    memphis_error *err)
{
    struct mp_json *doc = NULL;
    memphis_status st = mp_json_parse(text, &doc, err);

    *out = NULL;
    if (st == MEMPHIS_OK)
        st = mp_nats_config_read(mp_json_root(doc), out, err);
    mp_json_free(doc);
    return st;
}

void mp_nats_config_free(struct mp_nats_config *c)
{
    if (c == NULL)
        return;
    for (uint32_t i = 0; i < c->subjects_count; i++)
        mp_free(c->subjects[i]);
    mp_free(c->subjects);
    mp_free(c->name);
    mp_free(c->text);
    mp_free(c);
}

const char *mp_nats_config_fixed(const struct mp_nats_config *now,
                                 const struct mp_nats_config *then)
{
    if (strcmp(now->name, then->name) != 0)
        return "stream configuration name must match original";
    if (now->memory != then->memory)
        return "stream configuration update can not change storage type";
    if (now->retention != then->retention)
        return "stream configuration update can not change retention policy";
    if (now->consumers_max != then->consumers_max)
        return "stream configuration update can not change MaxConsumers";
    if ((now->deny_delete && !then->deny_delete) ||
        (now->deny_purge && !then->deny_purge))
        return "stream configuration update can not cancel deny message deletes or "
               "purge";
    return NULL;
}

bool mp_nats_config_overlaps(const struct mp_nats_config *c, memphis_slice pattern)
{
    for (uint32_t i = 0; i < c->subjects_count; i++)
        if (mp_subject_overlaps(mp_slice_text(c->subjects[i]), pattern))
            return true;
    return false;
}

bool mp_nats_config_is_all(const struct mp_nats_config *c, memphis_slice filter)
{
    if (filter.size == 0 || mp_slice_equal(filter, MP_STR(">")))
        return true;
    return c->subjects_count == 1 &&
           mp_slice_equal(filter, mp_slice_text(c->subjects[0]));
}
