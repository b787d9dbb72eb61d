/* proto/reserved.h -- subjects that belong to the broker: its requests are not stolen
 * by a subscriber, its pushes are not forged by a publisher (sdk-protocol 9, item 2).
 *
 * Thread: any (pure).
 */
#ifndef MP_PROTO_RESERVED_H
#define MP_PROTO_RESERVED_H

#include <memphis/base.h>

enum mp_reserved_use { MP_RESERVED_SUBSCRIBE, MP_RESERVED_PUBLISH };

/* Whether a client may not use the subject so. */
bool mp_subject_is_reserved(memphis_slice subject, enum mp_reserved_use use);

#endif
