/* server/users.h -- the users of a first start (INITIAL_CONFIG_FILE).
 *
 *   users:
 *     mgmt:
 *     - {user: admin, password: Admin123456!}
 *     client:
 *     - {user: app, password: "App123456!@"}
 *
 * Lists and maps in either style of YAML, and JSON, which is YAML, too.
 */
#ifndef MEMPHISD_USERS_H
#define MEMPHISD_USERS_H

#include <stdbool.h>
#include <stddef.h>

enum { USERS_TEXT_MAX = 128 };

struct users_reader {
    const char *at;
    int section;    /* 0: none; 'm': mgmt; 'c': client */
    char user[USERS_TEXT_MAX], password[USERS_TEXT_MAX];
};

/* The next user whose name and password are known. False: no more. */
bool users_next(struct users_reader *r);

struct server;
/* Makes them when the broker has no users yet, and returns how many. A bad one ends it
 * with a warning. */
unsigned users_load(struct server *s);

#endif
