/* stream/consumer_config.h -- what a NATS client has asked of a consumer.
 *
 * As nats_config.h: the `config` object of CONSUMER.INFO is the normal form that is
 * shown, stored with the group, and compared by. A group that a Memphis request makes
 * has none. Thread: any (pure).
 */
#ifndef MP_STREAM_CONSUMER_CONFIG_H
#define MP_STREAM_CONSUMER_CONFIG_H

#include "base/json.h"

enum { MP_ACK_NONE, MP_ACK_ALL, MP_ACK_EXPLICIT };
enum { MP_BACKOFF_MAX = 64, MP_FILTERS_MAX = 256 };

/* 0: no bound, or not asked for. */
struct mp_consumer_config {
    char *text; /* the normal form */
    char *name; /* "": the broker chooses one */
    bool is_durable;
    uint32_t policy;                   /* MP_START_* */
    uint64_t start_seq, start_time_ns; /* wall time */
    uint32_t ack;                      /* MP_ACK_* */
    uint64_t ack_wait_ns;
    uint32_t deliveries_max;
    uint64_t *backoff_ns;
    uint32_t backoff_count;
    char **filters; /* none: every subject */
    uint32_t filters_count;
    uint32_t pending_max, waiting_max;
    uint64_t batch_max, expires_max_ns, request_bytes_max;
    uint64_t inactive_ns, heartbeat_ns;
    char *deliver_subject, *deliver_group; /* NULL: a pull consumer */
    bool flow_control, headers_only;
};

/* The `config` of a request, with `name` where it names none itself. INVALID: it makes
 * no sense; UNSUPPORTED. */
memphis_status mp_consumer_config_read(const struct mp_json_value *v, const char *name,
                                       struct mp_consumer_config **out,
                                       memphis_error *err);
memphis_status mp_consumer_config_parse(memphis_slice text,
                                        struct mp_consumer_config **out,
                                        memphis_error *err);
void mp_consumer_config_free(struct mp_consumer_config *c); /* NULL-safe */

/* NULL: that one may become this one; else a sentence. */
const char *mp_consumer_config_fixed(const struct mp_consumer_config *now,
                                     const struct mp_consumer_config *then);

#endif
