#include "proto/reserved.h"

#include "base/str.h"

#include <string.h>

/* '*' stands for any bytes, also for none. */
static const struct {
    const char *pattern;
    enum mp_reserved_use use;
} rules[] = {
    { "$memphis_*_creations", MP_RESERVED_SUBSCRIBE },
    { "$memphis_*_destructions", MP_RESERVED_SUBSCRIBE },
    { "$memphis_*_attachments", MP_RESERVED_SUBSCRIBE },
    { "$memphis_*_detachments", MP_RESERVED_SUBSCRIBE },
    { "$memphis_admin.*", MP_RESERVED_SUBSCRIBE },
    { "$memphis_pm_acks", MP_RESERVED_SUBSCRIBE },
    { "$memphis_nacked_dls", MP_RESERVED_SUBSCRIBE },
    { "$memphis_schemaverse_dls", MP_RESERVED_SUBSCRIBE },
    { "$memphis_notifications", MP_RESERVED_SUBSCRIBE },
    { "$JS.API.*", MP_RESERVED_SUBSCRIBE },
    { "$JS.ACK.*", MP_RESERVED_SUBSCRIBE },
    { "$JS.EVENT.*", MP_RESERVED_PUBLISH },
    { "$memphis_schema_updates_*", MP_RESERVED_PUBLISH },
    { "$memphis_functions_updates_*", MP_RESERVED_PUBLISH },
    { "$memphis_sdk_clients_updates*", MP_RESERVED_PUBLISH },
    { "$memphis_configurations_updates.*", MP_RESERVED_PUBLISH },
    { "$memphis_dls_*", MP_RESERVED_PUBLISH },
    { "$memphis_ws_pubs.*", MP_RESERVED_PUBLISH },
    { "$memphis_connection_status*", MP_RESERVED_PUBLISH },
    { "$memphis_integration_updates*", MP_RESERVED_PUBLISH },
    { "$memphis_config_reload_signal*", MP_RESERVED_PUBLISH },
    { "$memphis_cache_updates*", MP_RESERVED_PUBLISH },
};

static bool matches(const char *pattern, memphis_slice subject)
{
    const char *star = strchr(pattern, '*');
    memphis_slice head, tail;

    if (star == NULL)
        return mp_slice_equal(subject, mp_slice_text(pattern));
    head = mp_slice(pattern, (size_t)(star - pattern));
    tail = mp_slice_text(star + 1);
    return mp_slice_starts(subject, head) && subject.size >= head.size + tail.size &&
           mp_slice_equal(mp_slice((const char *)subject.data + subject.size -
                                       tail.size,
                                   tail.size),
                          tail);
}

/* The table is looked at only for subjects with a '$' in front. */
bool mp_subject_is_reserved(memphis_slice subject, enum mp_reserved_use use)
{
    if (subject.size == 0 || *(const char *)subject.data != '$')
        return false;
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
        if (rules[i].use == use && matches(rules[i].pattern, subject))
            return true;
    return false;
}
