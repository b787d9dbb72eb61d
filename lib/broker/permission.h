/* broker/permission.h -- which stations a user may read and write.
 *
 *   row of the user -- four lists of patterns --> grants --> may they: station?
 *                                                            subject?
 *
 * A user without lists may do everything. Else what no allowing pattern names is
 * denied, and a denying one wins. To read is to consume; to write is to produce, and
 * to make or remove the station. Subjects are judged by the station in them at the
 * moment of use, so stations may come and go (http-api.md 4.4, sdk-protocol.md 3.9).
 *
 * A pattern is a station's name, or has stars, each for one or more characters:
 * "prod.*" is every station whose name begins with "prod.".
 *
 * Thread: any (pure).
 */
#ifndef MP_BROKER_PERMISSION_H
#define MP_BROKER_PERMISSION_H

#include "meta/meta.h"

struct mp_grants;

enum { MP_MAY_READ = 1, MP_MAY_WRITE = 2 };

/* NULL: he may do everything. */
struct mp_grants *mp_grants_new(const struct mp_user_row *row);
void mp_grants_free(struct mp_grants *g); /* NULL-safe */

/* One of `what` is enough. `station`: external name, lower case. g NULL: true. */
bool mp_grants_station(const struct mp_grants *g, uint32_t what, memphis_slice station);
/* Whether he may publish on it, else subscribe to it. */
bool mp_grants_subject(const struct mp_grants *g, bool publish, memphis_slice subject);

/* NULL: it is a pattern; else what is wrong, in words for a human. */
const char *mp_pattern_fault(memphis_slice pattern);

#endif
