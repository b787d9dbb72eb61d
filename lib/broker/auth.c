#include "broker/auth.h"

#include "base/assert.h"
#include "base/crypto.h"
#include "base/limits.h"
#include "base/str.h"

#include <string.h>

/* Verdicts that bcrypt has confirmed in this process. A changed hash changes the key.
 */
enum { REMEMBERED_MAX = 1024 };

struct mp_auth {
    struct mp_broker *broker;
    struct mp_worker *worker;
    char root_password[MP_PASSWORD_MAX + 1];
    uint8_t key[32];
    uint8_t remembered[REMEMBERED_MAX][MP_SHA256_SIZE];
    uint32_t remembered_count;
    struct mp_list checks; /* under way */
    bool root_pending;     /* until root's row has the configured password's hash */
    bool started, closing;
};

struct mp_auth_check {
    struct mp_job job;
    struct mp_auth *auth;
    struct mp_list node;
    mp_auth_fn fn; /* NULL: canceled */
    void *ctx;
    uint8_t salt[16];
    bool known, accepted, is_root_job;
    size_t password_size;
    char user[MP_NAME_MAX + 1];
    char password[MP_PASSWORD_MAX + 1];
    char hash[MP_BCRYPT_SIZE + 1];
    char new_hash[MP_BCRYPT_SIZE + 1];
};

/* === Remembered verdicts === */

static void fingerprint(const struct mp_auth *a, const char *hash,
                        memphis_slice password, uint8_t out[MP_SHA256_SIZE])
{
    uint8_t bytes[MP_BCRYPT_SIZE + MP_PASSWORD_MAX];

    mp_assert(password.size <= MP_PASSWORD_MAX);
    memcpy(bytes, hash, MP_BCRYPT_SIZE); /* names user and password at once */
    memcpy(bytes + MP_BCRYPT_SIZE, password.data, password.size);
    mp_hmac_sha256(a->key, sizeof(a->key), bytes, MP_BCRYPT_SIZE + password.size, out);
}

static bool is_remembered(const struct mp_auth *a, const uint8_t f[MP_SHA256_SIZE])
{
    uint32_t n =
        a->remembered_count < REMEMBERED_MAX ? a->remembered_count : REMEMBERED_MAX;

    for (uint32_t i = 0; i < n; i++)
        if (mp_equal_constant_time(a->remembered[i], f, MP_SHA256_SIZE))
            return true;
    return false;
}

static void remember(struct mp_auth *a, const char *hash, memphis_slice password)
{
    uint8_t f[MP_SHA256_SIZE];

    fingerprint(a, hash, password, f);
    if (!is_remembered(a, f))
        memcpy(a->remembered[a->remembered_count++ % REMEMBERED_MAX], f, sizeof(f));
}

/* === The worker === */

/* A hash of nothing: unknown users take as long as known ones. */
static const char NOBODY[] =
    "$2b$10$abcdefghijklmnopqrstuuO3yxyzeYRvhWUwVnKC/4HRbZRxcvsUO";

static void run_check(struct mp_job *j)
{
    struct mp_auth_check *c = mp_container_of(j, struct mp_auth_check, job);
    memphis_slice password = mp_slice(c->password, c->password_size);

    if (!c->is_root_job || c->known)
        c->accepted =
            mp_bcrypt_verify(password, c->known ? c->hash : NOBODY) && c->known;
    if (c->is_root_job && !c->accepted)
        mp_bcrypt_hash(password, c->salt, c->new_hash);
}

/* Committed: from now on the row speaks. */
static void root_stored(void *ctx, memphis_status status, const char *text)
{
    struct mp_broker *b = ctx;

    (void)text;
    if (b->auth == NULL)
        return; /* closing */
    if (status == MEMPHIS_OK)
        b->auth->root_pending = false;
    else
        mp_logf(b->logger, MEMPHIS_LOG_ERROR, "auth",
                "the hash of root's password could not be stored");
}

static void root_done(struct mp_auth *a, struct mp_auth_check *c)
{
    struct mp_command command = { .kind = MP_COMMAND_USER_PUT,
                                  .time_ns = mp_broker_wall_ns(a->broker) };
    struct mp_operation *op;
    memphis_status st;

    if (c->job.guard != MEMPHIS_OK) {
        a->root_pending = false; /* the stored one stands */
        mp_logf(a->broker->logger, MEMPHIS_LOG_ERROR, "auth",
                "the hash of root's password could not be made: %s",
                c->job.why.message);
        return;
    }
    if (c->accepted) {
        a->root_pending = false;
        remember(a, c->hash, mp_slice(c->password, c->password_size));
        return;
    }
    remember(a, c->new_hash, mp_slice(c->password, c->password_size));
    command.u.user = (struct mp_user_row){ .name = c->user,
                                           .type = MP_USER_ROOT,
                                           .hash = c->new_hash,
                                           .created_ns = command.time_ns };
    op = mp_operation_new(a->broker, (struct mp_then){ root_stored, a->broker });
    st = mp_meta_propose(a->broker->meta, &command, mp_operation_tag(op));
    if (st != MEMPHIS_OK) {
        mp_operation_fail(op, st, "");
        mp_operation_done(op);
    }
    mp_operation_done(op);
}

static void deliver_check(struct mp_mail *m)
{
    struct mp_auth_check *c = mp_container_of(mp_container_of(m, struct mp_job, mail),
                                              struct mp_auth_check, job);
    struct mp_auth *a = c->auth;
    bool accepted = c->accepted && c->job.guard == MEMPHIS_OK;

    mp_list_remove(&c->node);
    if (c->is_root_job && !a->closing)
        root_done(a, c);
    else if (accepted)
        remember(a, c->hash, mp_slice(c->password, c->password_size));
    if (c->fn != NULL && !a->closing)
        c->fn(c->ctx, accepted, c->user);
    memset(c->password, 0, sizeof(c->password));
    mp_free(c);
}

static void post(struct mp_auth *a, struct mp_auth_check *c)
{
    struct mp_env *env = a->broker->env;

    /* The thread comes with the first session: an embedder without doors has none. */
    if (a->worker == NULL)
        mp_assert(env->worker_new(env, "auth", 0, &a->worker, NULL) == MEMPHIS_OK);
    c->auth = a;
    c->job.run = run_check;
    c->job.mail.deliver = deliver_check;
    mp_list_push_back(&a->checks, &c->node);
    env->worker_post(env, a->worker, &c->job);
}

/* === Public === */

struct mp_auth *mp_auth_new(struct mp_broker *b, const char *root_password)
{
    struct mp_auth *a = mp_realloc(NULL, sizeof(*a));

    memset(a, 0, sizeof(*a));
    a->broker = b;
    mp_list_init(&a->checks);
    b->env->random(b->env, a->key, sizeof(a->key));
    mp_format(a->root_password, sizeof(a->root_password), "%s",
              root_password != NULL ? root_password : MP_ROOT_PASSWORD_DEFAULT);
    a->root_pending = true; /* until mp_auth_start has looked at the hash */
    return a;
}

void mp_auth_free(struct mp_auth *a)
{
    if (a == NULL)
        return;
    a->closing = true;
    if (a->worker != NULL)
        a->broker->env->worker_free(a->broker->env, a->worker);
    mp_mailbox_drain(&a->broker->mailbox); /* what the worker had finished */
    memset(a->root_password, 0, sizeof(a->root_password));
    mp_free(a);
}

/* "root$1" and "root" are the same user (sdk-protocol 1.4). */
static memphis_slice bare_user(memphis_slice user)
{
    if (user.size > 2 && memcmp((const char *)user.data + user.size - 2, "$1", 2) == 0)
        user.size -= 2;
    return user;
}

/* While root's new hash is being made and stored its password is the configured one. */
static bool is_configured_root(const struct mp_auth *a, memphis_slice user,
                               memphis_slice password)
{
    size_t size = strlen(a->root_password);

    return a->root_pending && mp_slice_equal(user, MP_STR("root")) &&
           password.size == size &&
           mp_equal_constant_time(password.data, a->root_password, size);
}

struct mp_auth_check *mp_auth_check(struct mp_auth *a, memphis_slice user,
                                    memphis_slice password, mp_auth_fn fn, void *ctx)
{
    struct mp_user_row *row;
    struct mp_auth_check *c;
    uint8_t f[MP_SHA256_SIZE];

    user = bare_user(user);
    if (user.size == 0 || user.size > MP_NAME_MAX || password.size > MP_PASSWORD_MAX ||
        password.size == 0) {
        fn(ctx, false, "");
        return NULL;
    }
    row = mp_meta_user(a->broker->meta, user);
    if (row != NULL && row->type == MP_USER_MANAGEMENT)
        row = NULL; /* they use the dashboard, not this door */
    if (row != NULL && strlen(row->hash) != MP_BCRYPT_SIZE)
        row = NULL; /* a hash that no password can match */
    if (row != NULL)
        fingerprint(a, row->hash, password, f);
    if ((row != NULL && is_remembered(a, f)) || is_configured_root(a, user, password)) {
        fn(ctx, true, row != NULL ? row->name : "root");
        return NULL;
    }
    c = mp_alloc(sizeof(*c));
    c->fn = fn;
    c->ctx = ctx;
    c->known = row != NULL;
    memcpy(c->user, user.data, user.size);
    memcpy(c->password, password.data, password.size);
    c->password_size = password.size;
    if (row != NULL)
        memcpy(c->hash, row->hash, MP_BCRYPT_SIZE);
    post(a, c);
    return c;
}

void mp_auth_cancel(struct mp_auth_check *c)
{
    if (c != NULL)
        c->fn = NULL;
}

void mp_auth_start(struct mp_auth *a)
{
    struct mp_user_row *row = mp_meta_user(a->broker->meta, MP_STR("root"));
    struct mp_auth_check *c;

    if (a->started)
        return;
    a->started = true;
    c = mp_alloc(sizeof(*c));
    c->is_root_job = true;
    c->known = row != NULL;
    memcpy(c->user, "root", 5);
    c->password_size = strlen(a->root_password);
    memcpy(c->password, a->root_password, c->password_size);
    if (row != NULL && strlen(row->hash) == MP_BCRYPT_SIZE)
        memcpy(c->hash, row->hash, MP_BCRYPT_SIZE);
    a->broker->env->random(a->broker->env, c->salt, sizeof(c->salt));
    a->root_pending = true;
    post(a, c);
}
