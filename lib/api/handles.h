/* api/handles.h -- handles that the API's files share. Thread: any. */
#ifndef MP_API_HANDLES_H
#define MP_API_HANDLES_H

#include "api/api.h"

struct memphis_station {
    memphis_broker *b;
    _Atomic uint32_t refs; /* the user's, and its producers' and consumers' */
    uint32_t partitions;
    char name[MP_NAME_MAX + 1];
};

memphis_station *api_station_ref(memphis_station *s);

/* Lower case and checked; INVALID with the product's text. */
memphis_status api_fold_name(const char *name, const char *object,
                             char out[MP_NAME_MAX + 1], memphis_error *err);

#endif
