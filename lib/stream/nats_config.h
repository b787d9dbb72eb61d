/* stream/nats_config.h -- what a NATS client has asked of a stream, as JSON and read.
 *
 * A stream that a NATS client makes has the settings of the JetStream API: subjects of
 * its own, several limits at once. Their normal form is the `config` object of that
 * API, with all keys in one order: it is what STREAM.INFO shows, what the metadata and
 * the log store, and what two configurations are compared by.
 *
 * What this release cannot do is refused by name, never left out in silence.
 * Thread: any (pure).
 */
#ifndef MP_STREAM_NATS_CONFIG_H
#define MP_STREAM_NATS_CONFIG_H

#include "base/json.h"

enum { MP_NATS_LIMITS, MP_NATS_INTEREST, MP_NATS_WORKQUEUE };

/* 0: no bound. */
struct mp_nats_config {
    char *text; /* the normal form */
    char *name;
    char **subjects;
    uint32_t subjects_count;
    uint32_t retention; /* MP_NATS_* */
    uint64_t consumers_max, messages_max, bytes_max, message_size_max, per_subject_max;
    uint64_t age_max_ns, window_ns;
    bool memory, discard_new, discard_new_per_subject;
    bool allow_direct, deny_delete, deny_purge, allow_rollup;
};

/* The `config` of a request. INVALID: it makes no sense; UNSUPPORTED: this release has
 * no such thing. */
memphis_status mp_nats_config_read(const struct mp_json_value *v,
                                   struct mp_nats_config **out, memphis_error *err);
memphis_status mp_nats_config_parse(memphis_slice text, struct mp_nats_config **out,
                                    memphis_error *err);
void mp_nats_config_free(struct mp_nats_config *c); /* NULL-safe */

/* NULL: that one may become this one; else a sentence. */
const char *mp_nats_config_fixed(const struct mp_nats_config *now,
                                 const struct mp_nats_config *then);
bool mp_nats_config_overlaps(const struct mp_nats_config *c, memphis_slice pattern);
/* The filter lets through whatever the stream can hold. */
bool mp_nats_config_is_all(const struct mp_nats_config *c, memphis_slice filter);

/* A member whose value is JSON already. */
void mp_nats_put_raw(struct mp_json_writer *w, const char *key, memphis_slice json);
/* {"k":"v"} of a request, as it is. */
void mp_nats_put_metadata(struct mp_json_writer *w, const struct mp_json_value *v);

#endif
