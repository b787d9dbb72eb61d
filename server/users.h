/* server/users.h -- the users of a first start (INITIAL_CONFIG_FILE, users_text.h). */
#ifndef MEMPHISD_USERS_H
#define MEMPHISD_USERS_H

struct server;
/* Makes them when the broker has no users yet, and returns how many. A text with a
 * fault makes none, a user that is refused ends it, both with a warning. */
unsigned users_load(struct server *s);

#endif
