/* Verbs about users (http-api.md 4, 7.2). */
#include "admin/admin_internal.h"
#include "base/enc.h"
#include "base/status.h"
#include "base/str.h"
#include "broker/user.h"

/* === Permissions === */

static const char *const list_keys[] = {
    "allow_read_permissions", "allow_write_permissions", "deny_read_permissions",
    "deny_write_permissions"
};
enum { LISTS = 4 };

/* Patterns, one per line. */
struct lists {
    struct mp_buf lines[LISTS];
    bool is_restricted; /* one of them is given, be it empty */
};

static void lists_fini(struct lists *l)
{
    for (int i = 0; i < LISTS; i++)
        mp_buf_fini(&l->lines[i]);
}

static const char *lines_of(const struct lists *l, int i)
{
    return (const char *)l->lines[i].data;
}

static memphis_status read_list(const struct mp_json_value *list, struct mp_buf *out,
                                memphis_error *err)
{
    for (size_t i = 0; i < mp_json_count(list); i++) {
        const char *pattern = NULL;
        memphis_status st =
            mp_json_get_text(mp_json_at(list, i), NULL, &pattern, err);
        if (st == MEMPHIS_OK &&
            (pattern == NULL || pattern[0] == 0 || strchr(pattern, '\n') != NULL))
            st = mp_fail(err, MEMPHIS_INVALID, "a permission pattern is a line");
        if (st != MEMPHIS_OK)
            return st;
        if (i > 0)
            mp_buf_put_u8(out, '\n');
        mp_buf_put_text(out, pattern);
    }
    mp_buf_put_u8(out, 0);
    return MEMPHIS_OK;
}

static memphis_status read_lists(const struct mp_admin_call *c, struct lists *out,
                                 memphis_error *err)
{
    memphis_status st = MEMPHIS_OK;

    *out = (struct lists){ 0 };
    for (int i = 0; i < LISTS && st == MEMPHIS_OK; i++) {
        const struct mp_json_value *list = mp_json_get(c->args, list_keys[i]);
        out->is_restricted |= !mp_json_is_null(list);
        if (!mp_json_is_null(list) && !mp_json_is_array(list))
            st = mp_fail(err, MEMPHIS_INVALID, "%s must be a list", list_keys[i]);
        else
            st = read_list(list, &out->lines[i], err);
    }
    return st;
}

static void put_list(struct mp_json_writer *w, const char *key, const char *lines)
{
    memphis_slice rest = mp_slice_text(lines);

    mp_json_array(w, key);
    while (rest.size > 0)
        mp_json_put_text(w, NULL, mp_slice_split(&rest, '\n'));
    mp_json_array_end(w);
}

/* === Verbs === */

static const char *const types[] = { [MP_USER_ROOT] = "root",
                                     [MP_USER_APPLICATION] = "application",
                                     [MP_USER_MANAGEMENT] = "management" };

static memphis_status read_request(const struct mp_admin_call *c,
                                   struct mp_user_request *r, memphis_error *err)
{
    struct {
        const char *key, **to;
    } const texts[] = {
        { "username", &r->name },         { "password", &r->password },
        { "full_name", &r->full_name },   { "team", &r->team },
        { "position", &r->position },     { "description", &r->description },
    };
    const char *type = NULL;
    int64_t avatar = 1;
    memphis_status st = mp_json_get_text(c->args, "user_type", &type, err);

    for (size_t i = 0; i < sizeof texts / sizeof texts[0] && st == MEMPHIS_OK; i++)
        st = mp_json_get_text(c->args, texts[i].key, texts[i].to, err);
    if (st == MEMPHIS_OK)
        st = mp_json_get_int(c->args, "avatar_id", &avatar, err);
    if (st == MEMPHIS_OK && (avatar < 0 || avatar > 8))
        st = mp_fail(err, MEMPHIS_INVALID, "avatar_id is a number from 1 to 8");
    r->avatar = (uint32_t)avatar;
    r->type = MP_USER_ROOT; /* which nobody can make */
    if (type != NULL && strcmp(type, "application") == 0)
        r->type = MP_USER_APPLICATION;
    else if (type != NULL && strcmp(type, "management") == 0)
        r->type = MP_USER_MANAGEMENT;
    return st;
}

void mp_admin_user_add(struct mp_admin_call *c)
{
    struct mp_user_request r = { .owner = c->actor };
    struct lists lists;
    memphis_error err;
    memphis_status st = read_lists(c, &lists, &err);

    if (st == MEMPHIS_OK)
        st = read_request(c, &r, &err);
    if (st == MEMPHIS_OK) {
        r.is_restricted = lists.is_restricted;
        r.allow_read = lines_of(&lists, 0);
        r.allow_write = lines_of(&lists, 1);
        r.deny_read = lines_of(&lists, 2);
        r.deny_write = lines_of(&lists, 3);
        mp_user_add(c->broker, &r, mp_admin_then_done(c));
    } else {
        mp_admin_fail(c, st, err.message);
    }
    lists_fini(&lists);
}

static void put_user(struct mp_json_writer *w, const struct mp_user_row *u)
{
    char time[MP_TIME_TEXT_SIZE + 1];

    mp_time_text(u->created_ns, time);
    mp_json_object(w, NULL);
    mp_json_put_str(w, "username", u->name);
    mp_json_put_str(w, "user_type", types[u->type]);
    mp_json_put_text(w, "created_at", mp_slice(time, MP_TIME_TEXT_SIZE));
    mp_json_put_str(w, "owner", u->owner);
    mp_json_put_str(w, "description", u->description);
    mp_json_put_str(w, "full_name", u->full_name);
    mp_json_put_str(w, "team", u->team);
    mp_json_put_str(w, "position", u->position);
    mp_json_put_uint(w, "avatar_id", u->avatar);
    if (u->is_restricted) {
        mp_json_object(w, "permissions");
        put_list(w, list_keys[0], u->allow_read);
        put_list(w, list_keys[1], u->allow_write);
        put_list(w, list_keys[2], u->deny_read);
        put_list(w, list_keys[3], u->deny_write);
        mp_json_object_end(w);
    } else {
        mp_json_put_null(w, "permissions");
    }
    mp_json_object_end(w);
}

/* In the order in which they were made. */
void mp_admin_user_list(struct mp_admin_call *c)
{
    struct mp_buf out = { 0 };
    struct mp_json_writer w = { .out = &out };
    const struct mp_user_row *u;
    const char *after = NULL, *last = NULL;
    uint32_t at = 0, limit;
    memphis_error err;
    memphis_status st = mp_admin_limit(c, &limit, &err);

    if (st == MEMPHIS_OK)
        st = mp_json_get_text(c->args, "after", &after, &err);
    if (st != MEMPHIS_OK) {
        mp_admin_fail(c, st, err.message);
        return;
    }
    if (after != NULL &&
        !mp_meta_user_behind(c->broker->meta, mp_slice_text(after), &at)) {
        mp_admin_no_after(c);
        return;
    }
    mp_json_object(&w, NULL);
    mp_json_array(&w, "users");
    while ((u = mp_meta_user_next(c->broker->meta, &at)) != NULL && limit-- > 0) {
        put_user(&w, u);
        last = u->name;
    }
    mp_json_array_end(&w);
    mp_admin_put_next(&w, u != NULL ? last : NULL);
    mp_json_object_end(&w);
    mp_admin_finish(c, mp_buf_slice(&out));
    mp_buf_fini(&out);
}

/* The user that a verb is about, lower case. False: it was refused. */
static bool take_user(struct mp_admin_call *c)
{
    const char *name;
    memphis_error err;
    memphis_status st = mp_admin_text(c, "username", &name, &err);

    if (st == MEMPHIS_OK && strlen(name) > MP_NAME_MAX)
        st = mp_fail(&err, MEMPHIS_NOT_FOUND, "there is no user of that name");
    if (st != MEMPHIS_OK) {
        mp_admin_fail(c, st, err.message);
        return false;
    }
    memcpy(c->name, name, strlen(name) + 1);
    mp_fold_lower(c->name, strlen(name));
    return true;
}

/* Who could remove another manager could make him anew, with a password of his own. */
void mp_admin_user_remove(struct mp_admin_call *c)
{
    const struct mp_user_row *row;

    if (!take_user(c))
        return;
    row = mp_meta_user(c->broker->meta, mp_slice_text(c->name));
    if (strcmp(c->name, c->actor) == 0 && c->type != MP_USER_ROOT)
        mp_admin_fail(c, MEMPHIS_DENIED, "nobody removes himself");
    else if (row != NULL && row->type != MP_USER_APPLICATION && c->type != MP_USER_ROOT)
        mp_admin_fail(c, MEMPHIS_DENIED, "only root removes management users");
    else
        mp_user_drop(c->broker, c->name, mp_admin_then_done(c));
}

/* Only the user itself, or root. */
void mp_admin_user_set_password(struct mp_admin_call *c)
{
    const char *password;
    memphis_error err;

    if (!take_user(c))
        return;
    if (strcmp(c->name, c->actor) != 0 && c->type != MP_USER_ROOT)
        mp_admin_fail(c, MEMPHIS_DENIED, "only root changes the password of others");
    else if (mp_admin_text(c, "password", &password, &err) != MEMPHIS_OK)
        mp_admin_fail(c, MEMPHIS_INVALID, err.message);
    else
        mp_user_set_password(c->broker, c->name, password, mp_admin_then_done(c));
}

/* No list at all: he may do everything. */
void mp_admin_user_set_permissions(struct mp_admin_call *c)
{
    struct lists lists;
    memphis_error err;

    if (!take_user(c))
        return;
    memphis_status st = read_lists(c, &lists, &err);
    if (st == MEMPHIS_OK)
        mp_user_set_permissions(c->broker, c->name, lists.is_restricted,
                                lines_of(&lists, 0), lines_of(&lists, 1),
                                lines_of(&lists, 2), lines_of(&lists, 3),
                                mp_admin_then_done(c));
    else
        mp_admin_fail(c, st, err.message);
    lists_fini(&lists);
}
