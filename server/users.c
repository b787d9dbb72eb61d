#include "users.h"

#include "server.h"
#include "users_text.h"

#include <stdio.h>
#include <string.h>

static void look(void *ctx, memphis_status status, memphis_slice json)
{
    *(bool *)ctx = status == MEMPHIS_OK &&
                   memmem(json.data, json.size, "\"username\"", 10) != NULL;
}

static void put_text(char *out, size_t size, const char *key, const char *text)
{
    size_t n = strlen(out);

    n += (size_t)snprintf(out + n, size - n, "%s\"%s\":\"", n > 0 ? "," : "{", key);
    for (; *text != 0 && n + 8 < size; text++) {
        if (*text == '"' || *text == '\\')
            out[n++] = '\\';
        if ((unsigned char)*text >= ' ')
            out[n++] = *text;
    }
    snprintf(out + n, size - n, "\"");
}

struct load {
    struct server *server;
    unsigned count;
};

static bool add(void *ctx, const struct users_entry *e)
{
    struct load *l = ctx;
    memphis_error err = { 0 };
    char json[1024] = "";

    put_text(json, sizeof(json), "username", e->user);
    put_text(json, sizeof(json), "password", e->password);
    put_text(json, sizeof(json), "user_type",
             e->is_management ? "management" : "application");
    size_t size = strlen(json);
    json[size++] = '}';
    if (memphis_admin(l->server->broker, NULL, "user_add",
                      (memphis_slice){ json, size }, NULL, NULL, &err) == MEMPHIS_OK) {
        l->count++;
        return true;
    }
    fprintf(stderr,
            "memphisd: user '%s' of INITIAL_CONFIG_FILE is not made, nor those behind "
            "it: %s.\n",
            e->user, err.message);
    return false;
}

static bool only_read(void *ctx, const struct users_entry *e)
{
    (void)ctx;
    (void)e;
    return true;
}

/* A text with a fault makes none: the rest would never come, as later starts have users
 * already. */
unsigned users_load(struct server *s)
{
    struct load l = { .server = s };
    struct users_fault fault;
    bool has_users = true;

    if (s->conf.users[0] == 0)
        return 0;
    (void)memphis_admin(s->broker, NULL, "user_list", (memphis_slice){ "{}", 2 }, look,
                        &has_users, NULL);
    if (has_users) /* at the first start only */
        return 0;
    if (users_read(s->conf.users, only_read, NULL, &fault))
        (void)users_read(s->conf.users, add, &l, &fault);
    else
        fprintf(stderr,
                "memphisd: no user of INITIAL_CONFIG_FILE is made: line %u, column %u: "
                "%s.\n",
                fault.line, fault.column, fault.what);
    return l.count;
}
