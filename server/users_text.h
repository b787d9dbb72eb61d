/* server/users_text.h -- reads INITIAL_CONFIG_FILE: strictly, and nothing but this.
 *
 *   users:
 *     mgmt:
 *     - {user: admin, password: Admin123456!}
 *     client:
 *     - user: app
 *       password: "App123456!@"
 *
 * Block and flow style of YAML, hence JSON; scalars on one line, plain or in quotes.
 * What else YAML has (anchors, tags, texts of many lines) is a fault, as is a key that
 * is not in this picture, one that comes twice, and an entry that lacks one.
 */
#ifndef MEMPHISD_USERS_TEXT_H
#define MEMPHISD_USERS_TEXT_H

#include <stdbool.h>

enum { USERS_TEXT_MAX = 128 };

struct users_entry {
    bool is_management;
    char user[USERS_TEXT_MAX], password[USERS_TEXT_MAX];
};

struct users_fault {
    const char *what; /* NULL: none */
    unsigned line, column;
};

/* `fn` gets each entry; it says false when it wants no more. False: a fault. */
bool users_read(const char *text, bool (*fn)(void *ctx, const struct users_entry *e),
                void *ctx, struct users_fault *fault);

#endif
