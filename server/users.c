#include "users.h"

#include "server.h"

#include <stdio.h>
#include <string.h>

/* === The text === */

static bool is_break(char c)
{
    return c == 0 || c == '\n' || c == '\r';
}

/* Up to the quote, or to the end of a plain scalar. A text that is too long is "". */
static void read_scalar(const char **at, char out[USERS_TEXT_MAX])
{
    const char *p = *at;
    char quote = *p == '"' || *p == '\'' ? *p++ : 0;
    size_t n = 0;

    while (quote != 0 ? *p != quote && *p != 0
                      : !is_break(*p) && strchr(",}]:", *p) == NULL &&
                            !(*p == '#' && p > *at && p[-1] == ' ')) {
        if (n < USERS_TEXT_MAX)
            out[n] = *p;
        n++;
        p++;
    }
    *at = p + (quote != 0 && *p == quote);
    while (quote == 0 && n > 0 && n <= USERS_TEXT_MAX && out[n - 1] == ' ')
        n--;
    out[n < USERS_TEXT_MAX ? n : 0] = 0;
}

/* The next key or value. False: the end. */
static bool next_scalar(const char **at, char out[USERS_TEXT_MAX])
{
    for (;;) {
        *at += strspn(*at, " \t\r\n{}[],:-");
        if (**at != '#')
            break;
        *at += strcspn(*at, "\n");
    }
    if (**at == 0)
        return false;
    read_scalar(at, out);
    return true;
}

bool users_next(struct users_reader *r)
{
    char text[USERS_TEXT_MAX];

    r->user[0] = r->password[0] = 0;
    while (next_scalar(&r->at, text)) {
        if (strcmp(text, "mgmt") == 0 || strcmp(text, "client") == 0)
            r->section = text[0];
        else if (r->section != 0 && strcmp(text, "user") == 0)
            (void)next_scalar(&r->at, r->user);
        else if (r->section != 0 && strcmp(text, "password") == 0)
            (void)next_scalar(&r->at, r->password);
        if (r->user[0] != 0 && r->password[0] != 0)
            return true;
    }
    return false;
}

/* === The broker === */

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

static bool add(struct server *s, const struct users_reader *r)
{
    memphis_error err = { 0 };
    char json[1024] = "";

    put_text(json, sizeof(json), "username", r->user);
    put_text(json, sizeof(json), "password", r->password);
    put_text(json, sizeof(json), "user_type",
             r->section == 'm' ? "management" : "application");
    size_t size = strlen(json);
    json[size++] = '}';
    if (memphis_admin(s->broker, NULL, "user_add", (memphis_slice){ json, size }, NULL,
                      NULL, &err) == MEMPHIS_OK)
        return true;
    fprintf(stderr,
            "memphisd: user '%s' of INITIAL_CONFIG_FILE is not made, nor those behind "
            "it: %s.\n",
            r->user, err.message);
    return false;
}

unsigned users_load(struct server *s)
{
    struct users_reader r = { .at = s->conf.users };
    bool has_users = true;
    unsigned count = 0;

    if (s->conf.users[0] == 0)
        return 0;
    (void)memphis_admin(s->broker, NULL, "user_list", (memphis_slice){ "{}", 2 }, look,
                        &has_users, NULL);
    while (!has_users && users_next(&r) && add(s, &r)) /* at the first start only */
        count++;
    return count;
}
