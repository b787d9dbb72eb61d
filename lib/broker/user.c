#include "broker/user.h"

#include "base/crypto.h"
#include "base/limits.h"
#include "base/status.h"
#include "base/str.h"
#include "broker/auth.h"
#include "broker/permission.h"

#include <string.h>

enum { USER_NAME_MAX = 60, PASSWORD_MIN = 8, LIST_MAX = 64 << 10 };

/* === Rules === */

static const char *or_empty(const char *text)
{
    return text != NULL ? text : "";
}

static memphis_status check_name(const char *name, memphis_error *err)
{
    size_t size = strlen(name);

    if (size == 0)
        return mp_fail(err, MEMPHIS_INVALID, "a user needs a name");
    if (size > USER_NAME_MAX)
        return mp_fail(err, MEMPHIS_INVALID, "a user name has at most %d characters",
                       USER_NAME_MAX);
    for (; *name != 0; name++)
        if (!((*name >= 'a' && *name <= 'z') || (*name >= '0' && *name <= '9') ||
              strchr("_.-", *name) != NULL))
            return mp_fail(err, MEMPHIS_INVALID,
                           "a user name consists of a-z, 0-9 and the characters _ . -");
    return MEMPHIS_OK;
}

static memphis_status check_password(const char *password, memphis_error *err)
{
    static const char special[] = "!?-@#$%";
    size_t size = strlen(password);
    bool upper = false, lower = false, digit = false, sign = false;

    for (const char *p = password; *p != 0; p++) {
        bool is_sign = strchr(special, *p) != NULL;
        bool is_upper = *p >= 'A' && *p <= 'Z', is_lower = *p >= 'a' && *p <= 'z';
        bool is_digit = *p >= '0' && *p <= '9';
        if (!is_sign && !is_upper && !is_lower && !is_digit)
            return mp_fail(err, MEMPHIS_INVALID,
                           "a password consists of letters, digits and the characters "
                           "%s",
                           special);
        upper |= is_upper;
        lower |= is_lower;
        digit |= is_digit;
        sign |= is_sign;
    }
    if (size < PASSWORD_MIN || size > MP_PASSWORD_MAX)
        return mp_fail(err, MEMPHIS_INVALID, "a password has %d to %d characters",
                       PASSWORD_MIN, MP_PASSWORD_MAX);
    if (!upper || !lower || !digit || !sign)
        return mp_fail(err, MEMPHIS_INVALID,
                       "a password needs an upper case letter, a lower case letter, a "
                       "digit and one of the characters %s",
                       special);
    return MEMPHIS_OK;
}

static memphis_status check_text(const char *text, const char *what, size_t max,
                                 memphis_error *err)
{
    if (strlen(or_empty(text)) > max)
        return mp_fail(err, MEMPHIS_INVALID, "%s has at most %zu bytes", what, max);
    return MEMPHIS_OK;
}

static memphis_status check_list(const char *list, memphis_error *err)
{
    memphis_slice rest = mp_slice_text(or_empty(list));

    if (rest.size > LIST_MAX)
        return mp_fail(err, MEMPHIS_INVALID, "there are too many permission patterns");
    while (rest.size > 0) {
        memphis_slice pattern = mp_slice_split(&rest, '\n');
        const char *fault = mp_pattern_fault(pattern);
        if (fault != NULL)
            return mp_fail(err, MEMPHIS_INVALID, "%s", fault);
    }
    return MEMPHIS_OK;
}

static memphis_status check_lists(const struct mp_user_row *u, memphis_error *err)
{
    const char *const lists[] = { u->allow_read, u->allow_write, u->deny_read,
                                  u->deny_write };
    memphis_status st = MEMPHIS_OK;

    for (size_t i = 0; i < 4 && st == MEMPHIS_OK; i++)
        st = check_list(lists[i], err);
    return st;
}

static memphis_status check_request(const struct mp_user_request *r, memphis_error *err)
{
    memphis_status st = MEMPHIS_OK;

    if (r->type != MP_USER_APPLICATION && r->type != MP_USER_MANAGEMENT)
        st = mp_fail(err, MEMPHIS_INVALID,
                     "the type of a user is 'management' or 'application'");
    if (st == MEMPHIS_OK)
        st = check_password(or_empty(r->password), err);
    if (st == MEMPHIS_OK)
        st = check_text(r->full_name, "a full name", 30, err);
    if (st == MEMPHIS_OK)
        st = check_text(r->team, "a team", 20, err);
    if (st == MEMPHIS_OK)
        st = check_text(r->position, "a position", 30, err);
    if (st == MEMPHIS_OK)
        st = check_text(r->description, "a description", 100, err);
    return st;
}

/* === A change on its way === */

/* The row that is to be, with its own texts. One at a time for each user, up to its
 * commit: a row is replaced as a whole. */
struct change {
    struct mp_list node;
    struct mp_broker *broker;
    struct mp_operation *operation;
    struct mp_then then;
    struct mp_user_row row;
    struct mp_arena arena;
};

static char *keep(struct change *c, const char *text)
{
    const char *given = or_empty(text);

    return mp_arena_strndup(&c->arena, given, strlen(given));
}

static void change_done(void *ctx, memphis_status st, const char *text)
{
    struct change *c = ctx;

    mp_list_remove(&c->node);
    if (c->then.fn != NULL)
        c->then.fn(c->then.ctx, st, text);
    mp_arena_fini(&c->arena);
    mp_free(c);
}

static bool is_changing(struct mp_broker *b, const char *name)
{
    for (struct mp_list *l = b->user_changes.next; l != &b->user_changes; l = l->next)
        if (strcmp(mp_container_of(l, struct change, node)->row.name, name) == 0)
            return true;
    return false;
}

static struct change *change_new(struct mp_broker *b, const struct mp_user_row *from,
                                 struct mp_then then)
{
    struct change *c = mp_alloc(sizeof *c);

    c->broker = b;
    c->operation = mp_operation_new(b, (struct mp_then){ change_done, c });
    c->then = then;
    c->row = *from;
    c->row.name = keep(c, from->name);
    c->row.hash = keep(c, from->hash);
    c->row.owner = keep(c, from->owner);
    c->row.description = keep(c, from->description);
    c->row.full_name = keep(c, from->full_name);
    c->row.team = keep(c, from->team);
    c->row.position = keep(c, from->position);
    c->row.allow_read = keep(c, from->allow_read);
    c->row.allow_write = keep(c, from->allow_write);
    c->row.deny_read = keep(c, from->deny_read);
    c->row.deny_write = keep(c, from->deny_write);
    mp_list_push_back(&b->user_changes, &c->node);
    return c;
}

static void propose(struct change *c, uint16_t kind)
{
    struct mp_operation *op = c->operation; /* `c` may go with it */
    struct mp_command command = { .kind = kind,
                                  .time_ns = c->row.created_ns,
                                  .u.user = c->row };
    memphis_status st =
        mp_meta_propose(c->broker->meta, &command, mp_operation_tag(op));

    if (st != MEMPHIS_OK) {
        mp_operation_fail(op, st, "");
        mp_operation_done(op);
    }
    mp_operation_done(op);
}

static void hashed(void *ctx, const char *hash)
{
    struct change *c = ctx;

    if (hash == NULL) {
        mp_operation_fail(c->operation, MEMPHIS_BUSY,
                          "the password could not be hashed now: try again");
        mp_operation_done(c->operation);
        return;
    }
    c->row.hash = keep(c, hash);
    propose(c, MP_COMMAND_USER_PUT);
}

/* === Commands === */

static void refuse(struct mp_then then, const memphis_error *err)
{
    then.fn(then.ctx, err->status, err->message);
}

/* The row of a user who may be changed; NULL: refused. */
static const struct mp_user_row *changeable(struct mp_broker *b, const char *name,
                                            struct mp_then then)
{
    const struct mp_user_row *row = mp_meta_user(b->meta, mp_slice_text(name));
    memphis_error err;

    if (strcmp(name, "root") == 0)
        (void)mp_fail(&err, MEMPHIS_DENIED,
                      "root cannot be changed here: its password is configured");
    else if (is_changing(b, name))
        (void)mp_fail(&err, MEMPHIS_BUSY, "that user is being changed: try again");
    else if (row == NULL)
        (void)mp_fail(&err, MEMPHIS_NOT_FOUND, "there is no user of that name");
    else
        return row;
    refuse(then, &err);
    return NULL;
}

void mp_user_add(struct mp_broker *b, const struct mp_user_request *r,
                 struct mp_then then)
{
    char name[USER_NAME_MAX + 1] = "";
    struct mp_user_row row = { .name = name,
                               .type = r->type,
                               .created_ns = mp_broker_wall_ns(b),
                               .owner = r->owner,
                               .description = r->description,
                               .full_name = r->full_name,
                               .team = r->team,
                               .position = r->position,
                               .avatar = r->avatar > 0 ? r->avatar : 1,
                               .is_restricted = r->is_restricted,
                               .allow_read = r->allow_read,
                               .allow_write = r->allow_write,
                               .deny_read = r->deny_read,
                               .deny_write = r->deny_write };
    size_t size = strlen(or_empty(r->name));
    memphis_error err;

    if (size <= USER_NAME_MAX)
        memcpy(name, or_empty(r->name), size);
    mp_fold_lower(name, size <= USER_NAME_MAX ? size : 0);
    memphis_status st = check_name(size > USER_NAME_MAX ? r->name : name, &err);
    if (st == MEMPHIS_OK)
        st = check_request(r, &err);
    if (st == MEMPHIS_OK)
        st = check_lists(&row, &err);
    if (st == MEMPHIS_OK && mp_meta_user(b->meta, mp_slice_text(name)) != NULL)
        st = mp_fail(&err, MEMPHIS_EXISTS, "there is a user of that name already");
    if (st == MEMPHIS_OK && strcmp(name, "root") == 0)
        st = mp_fail(&err, MEMPHIS_EXISTS, "root is there already");
    if (st == MEMPHIS_OK && is_changing(b, name))
        st = mp_fail(&err, MEMPHIS_BUSY, "that user is being made: try again");
    if (st != MEMPHIS_OK) {
        refuse(then, &err);
        return;
    }
    if (r->type == MP_USER_APPLICATION)
        row.full_name = NULL;
    mp_auth_hash(b->auth, mp_slice_text(r->password), hashed,
                 change_new(b, &row, then));
}

void mp_user_set_password(struct mp_broker *b, const char *name, const char *password,
                          struct mp_then then)
{
    const struct mp_user_row *row = changeable(b, name, then);
    memphis_error err;

    if (row == NULL)
        return;
    if (check_password(or_empty(password), &err) != MEMPHIS_OK) {
        refuse(then, &err);
        return;
    }
    mp_auth_hash(b->auth, mp_slice_text(password), hashed, change_new(b, row, then));
}

void mp_user_set_permissions(struct mp_broker *b, const char *name, bool is_restricted,
                             const char *allow_read, const char *allow_write,
                             const char *deny_read, const char *deny_write,
                             struct mp_then then)
{
    const struct mp_user_row *row = changeable(b, name, then);
    struct mp_user_row changed;
    memphis_error err;

    if (row == NULL)
        return;
    changed = *row;
    changed.is_restricted = is_restricted;
    changed.allow_read = allow_read;
    changed.allow_write = allow_write;
    changed.deny_read = deny_read;
    changed.deny_write = deny_write;
    if (check_lists(&changed, &err) != MEMPHIS_OK)
        refuse(then, &err);
    else
        propose(change_new(b, &changed, then), MP_COMMAND_USER_PUT);
}

void mp_user_drop(struct mp_broker *b, const char *name, struct mp_then then)
{
    const struct mp_user_row *row = changeable(b, name, then);

    if (row != NULL)
        propose(change_new(b, row, then), MP_COMMAND_USER_DROP);
}

void mp_user_applied(struct mp_broker *b, const struct mp_command *c,
                     memphis_status result)
{
    bool is_drop = c->kind == MP_COMMAND_USER_DROP;
    const char *name = c->u.user.name;

    if ((!is_drop && c->kind != MP_COMMAND_USER_PUT) || result != MEMPHIS_OK ||
        b->starting || b->user_changed == NULL)
        return;
    b->user_changed(b->ctx, name,
                    is_drop ? NULL : mp_meta_user(b->meta, mp_slice_text(name)));
}
