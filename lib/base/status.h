/* base/status.h -- inside view of memphis_status. The table is in status_table.h.
 * Thread: any (pure). */
#ifndef MP_BASE_STATUS_H
#define MP_BASE_STATUS_H

#include <memphis/status.h>

/* Internal, never leaves the library: the answer is not here yet, a ready call
 * follows. */
#define MP_PENDING ((memphis_status)-1)

/* Fills err (may be NULL) and returns `status`: return mp_fail(err, MEMPHIS_NOT_FOUND,
 * "station '%s' does not exist", name); Who detects an error fills it, others pass on.
 * A text that is too long is cut; it may quote err->message. */
memphis_status mp_fail(memphis_error *err, memphis_status status, const char *format,
                       ...) __attribute__((format(printf, 3, 4)));

int mp_status_http(memphis_status s); /* HTTP code: 404 for NOT_FOUND */

#endif
