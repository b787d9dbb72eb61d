#include "broker/auth.h"

#include "base/assert.h"
#include "base/crypto.h"
#include "base/limits.h"
#include "base/str.h"

#include <stdatomic.h>
#include <string.h>

enum {
    FAILURES_FREE = 10, /* per address and minute */
    DELAY_MAX_S = 10,
    WINDOW_MS = 60000,
    SUSPECTS_MAX = 1024, /* addresses; of more the oldest are forgotten */
    ADDRESS_MAX = 64,
    REMEMBERED_MAX = 1024, /* verdicts that bcrypt has confirmed in this process */
    TRIALS_MAX = 256       /* passwords that wait for bcrypt: 13 s of work */
};

struct mp_auth {
    struct mp_broker *broker;
    struct mp_worker *worker;
    char root_password[MP_PASSWORD_MAX + 1];
    char *token;           /* NULL: users have passwords */
    struct mp_map suspects; /* address -> struct suspect */
    struct mp_list suspects_by_age;
    struct mp_list delayed; /* checks whose verdict is known and waits */
    uint8_t key[32];
    uint8_t remembered[REMEMBERED_MAX][MP_SHA256_SIZE];
    uint32_t remembered_count;
    struct mp_list trials; /* under way */
    uint32_t trials_count;
    bool root_pending;     /* until root's row has the configured password's hash */
    bool started, closing;
};

/* One password of one user on its way through bcrypt. Whoever brings the same pair
 * meanwhile joins: a thousand clients that come back at once cost one of them. */
struct trial {
    struct mp_job job;
    struct mp_auth *auth;
    struct mp_list node;
    struct mp_list checks; /* who waits for the verdict */
    _Atomic bool canceled; /* nobody does any more */
    uint8_t salt[16];
    bool known, accepted, is_root_job;
    size_t password_size;
    char user[MP_NAME_MAX + 1];
    char password[MP_PASSWORD_MAX + 1];
    char hash[MP_BCRYPT_SIZE + 1];
    char new_hash[MP_BCRYPT_SIZE + 1];
};

struct mp_auth_check {
    struct mp_list node;
    struct mp_auth *auth;
    struct trial *trial; /* NULL: the verdict is known */
    mp_auth_fn fn;
    void *ctx;
    struct mp_timer timer;
    bool accepted;
    char user[MP_NAME_MAX + 1];
    char address[ADDRESS_MAX];
};

/* An address from which logins were refused. */
struct suspect {
    struct mp_list by_age;
    uint64_t since_ms;
    uint32_t failures;
    char address[ADDRESS_MAX];
};

/* === Whoever guesses === */

/* "": not from a network, and never delayed. */
static void take_address(const char *peer, char out[ADDRESS_MAX])
{
    size_t size = peer != NULL && strcmp(peer, "local") != 0 ? strlen(peer) : 0;

    if (size >= ADDRESS_MAX)
        size = ADDRESS_MAX - 1;
    if (size > 0)
        memcpy(out, peer, size);
    out[size] = 0;
}

static void forget(struct mp_auth *a, struct suspect *s)
{
    mp_map_remove(&a->suspects, mp_slice_text(s->address));
    mp_list_remove(&s->by_age);
    mp_free(s);
}

static struct suspect *suspect_of(struct mp_auth *a, const char *address)
{
    struct suspect *s = mp_map_find(&a->suspects, mp_slice_text(address));

    if (s != NULL && mp_broker_now_ms(a->broker) - s->since_ms >= WINDOW_MS) {
        forget(a, s);
        s = NULL;
    }
    return s;
}

static void note_failure(struct mp_auth *a, const char *address)
{
    struct suspect *s = suspect_of(a, address);

    if (address[0] == 0)
        return;
    if (s == NULL) {
        if (a->suspects.count >= SUSPECTS_MAX)
            forget(a, mp_container_of(a->suspects_by_age.next, struct suspect, by_age));
        s = mp_alloc(sizeof(*s));
        s->since_ms = mp_broker_now_ms(a->broker);
        mp_format(s->address, sizeof(s->address), "%s", address);
        mp_map_put(&a->suspects, mp_slice_text(s->address), s);
        mp_list_push_back(&a->suspects_by_age, &s->by_age);
    }
    s->failures++;
}

static uint64_t delay_ms(struct mp_auth *a, const char *address)
{
    const struct suspect *s = suspect_of(a, address);
    uint32_t more = s != NULL && s->failures > FAILURES_FREE
                        ? s->failures - FAILURES_FREE
                        : 0;

    return (more < DELAY_MAX_S ? more : DELAY_MAX_S) * (uint64_t)1000;
}

static void check_free(struct mp_auth_check *c)
{
    mp_list_remove(&c->node);
    mp_timer_cancel(&c->auth->broker->timers, &c->timer);
    mp_free(c);
}

static void tell(struct mp_auth_check *c)
{
    struct mp_auth_check said = *c;

    check_free(c);
    said.fn(said.ctx, said.accepted, said.user);
}

static void delay_is_over(struct mp_timer *t, uint64_t now)
{
    (void)now;
    tell(mp_container_of(t, struct mp_auth_check, timer));
}

/* The verdict is known. False: it was told at once, and the check is gone. */
static bool settle(struct mp_auth_check *c, bool accepted)
{
    struct mp_auth *a = c->auth;

    c->trial = NULL;
    c->accepted = accepted;
    if (!accepted) {
        note_failure(a, c->address);
        mp_logf(a->broker->logger, MEMPHIS_LOG_WARN, "auth",
                "a login was refused user=%s address=%s", c->user, c->address);
    }
    uint64_t delay = delay_ms(a, c->address);
    if (delay == 0) {
        tell(c);
        return false;
    }
    mp_list_remove(&c->node);
    mp_list_push_back(&a->delayed, &c->node);
    c->timer.fire = delay_is_over;
    mp_timer_set(&a->broker->timers, &c->timer, mp_broker_now_ms(a->broker) + delay);
    return true;
}

/* === Remembered verdicts === */

/* A changed hash changes the key. */
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
    struct trial *c = mp_container_of(j, struct trial, job);
    memphis_slice password = mp_slice(c->password, c->password_size);

    if (atomic_load(&c->canceled))
        return;
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

static void root_done(struct mp_auth *a, struct trial *c)
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

static void deliver_trial(struct mp_mail *m)
{
    struct trial *t =
        mp_container_of(mp_container_of(m, struct mp_job, mail), struct trial, job);
    struct mp_auth *a = t->auth;
    bool accepted = t->accepted && t->job.guard == MEMPHIS_OK;

    mp_list_remove(&t->node); /* from now on nobody joins */
    a->trials_count--;
    if (t->is_root_job && !a->closing)
        root_done(a, t);
    else if (accepted)
        remember(a, t->hash, mp_slice(t->password, t->password_size));
    while (!mp_list_is_empty(&t->checks)) {
        struct mp_auth_check *c =
            mp_container_of(t->checks.next, struct mp_auth_check, node);

        if (a->closing)
            check_free(c);
        else
            (void)settle(c, accepted);
    }
    memset(t->password, 0, sizeof(t->password));
    mp_free(t);
}

static struct trial *trial_new(struct mp_auth *a, const struct mp_user_row *row,
                               memphis_slice user, memphis_slice password)
{
    struct trial *t = mp_alloc(sizeof(*t));

    mp_list_init(&t->checks);
    t->auth = a;
    t->known = row != NULL;
    memcpy(t->user, user.data, user.size);
    memcpy(t->password, password.data, password.size);
    t->password_size = password.size;
    if (row != NULL && strlen(row->hash) == MP_BCRYPT_SIZE)
        memcpy(t->hash, row->hash, MP_BCRYPT_SIZE);
    return t;
}

/* The thread comes with the first session: an embedder without doors has none. */
static bool has_worker(struct mp_auth *a)
{
    struct mp_env *env = a->broker->env;
    memphis_error why = { 0 };

    if (a->worker != NULL ||
        env->worker_new(env, "auth", 0, &a->worker, &why) == MEMPHIS_OK)
        return true;
    mp_logf(a->broker->logger, MEMPHIS_LOG_ERROR, "auth",
            "no password can be checked now: %s", why.message);
    a->worker = NULL;
    return false;
}

/* False, and the trial is gone: there is no thread for it now. */
static bool post(struct mp_auth *a, struct trial *t)
{
    struct mp_env *env = a->broker->env;

    if (!has_worker(a)) {
        mp_free(t);
        return false;
    }
    t->job.run = run_check;
    t->job.mail.deliver = deliver_trial;
    mp_list_push_back(&a->trials, &t->node);
    a->trials_count++;
    env->worker_post(env, a->worker, &t->job);
    return true;
}

/* === New passwords === */

struct hashing {
    struct mp_job job;
    struct mp_auth *auth;
    mp_auth_hash_fn fn;
    void *ctx;
    uint8_t salt[16];
    size_t size;
    char password[MP_PASSWORD_MAX + 1];
    char hash[MP_BCRYPT_SIZE + 1];
    memphis_status status;
};

static void run_hash(struct mp_job *j)
{
    struct hashing *h = mp_container_of(j, struct hashing, job);

    h->status = mp_bcrypt_hash(mp_slice(h->password, h->size), h->salt, h->hash);
}

static void deliver_hash(struct mp_mail *m)
{
    struct hashing *h =
        mp_container_of(mp_container_of(m, struct mp_job, mail), struct hashing, job);
    bool is_good = h->status == MEMPHIS_OK && h->job.guard == MEMPHIS_OK;

    if (is_good)
        remember(h->auth, h->hash, mp_slice(h->password, h->size));
    if (!h->auth->closing)
        h->fn(h->ctx, is_good ? h->hash : NULL);
    memset(h->password, 0, sizeof(h->password));
    mp_free(h);
}

void mp_auth_hash(struct mp_auth *a, memphis_slice password, mp_auth_hash_fn fn,
                  void *ctx)
{
    struct mp_env *env = a->broker->env;
    struct hashing *h;

    mp_assert(password.size <= MP_PASSWORD_MAX);
    if (!has_worker(a)) {
        fn(ctx, NULL);
        return;
    }
    h = mp_alloc(sizeof(*h));
    h->auth = a;
    h->fn = fn;
    h->ctx = ctx;
    h->size = password.size;
    memcpy(h->password, password.data, password.size);
    env->random(env, h->salt, sizeof(h->salt));
    h->job.run = run_hash;
    h->job.mail.deliver = deliver_hash;
    env->worker_post(env, a->worker, &h->job);
}

/* === Public === */

struct mp_auth *mp_auth_new(struct mp_broker *b, const char *root_password,
                            const char *token)
{
    struct mp_auth *a = mp_realloc(NULL, sizeof(*a));

    memset(a, 0, sizeof(*a));
    a->broker = b;
    mp_list_init(&a->trials);
    mp_list_init(&a->delayed);
    mp_list_init(&a->suspects_by_age);
    a->token = token != NULL ? mp_strdup(token) : NULL;
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
    for (struct mp_list *l = a->trials.next; l != &a->trials; l = l->next)
        atomic_store(&mp_container_of(l, struct trial, node)->canceled, true);
    if (a->worker != NULL)
        a->broker->env->worker_free(a->broker->env, a->worker);
    mp_mailbox_drain(&a->broker->mailbox); /* what the worker had finished */
    while (!mp_list_is_empty(&a->delayed))
        check_free(mp_container_of(a->delayed.next, struct mp_auth_check, node));
    while (!mp_list_is_empty(&a->suspects_by_age))
        forget(a, mp_container_of(a->suspects_by_age.next, struct suspect, by_age));
    mp_map_fini(&a->suspects);
    memset(a->root_password, 0, sizeof(a->root_password));
    if (a->token != NULL)
        memset(a->token, 0, strlen(a->token));
    mp_free(a->token);
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

static struct trial *trial_of(const struct mp_auth *a, memphis_slice user,
                              memphis_slice password, const struct mp_user_row *row)
{
    for (struct mp_list *l = a->trials.next; l != &a->trials; l = l->next) {
        struct trial *t = mp_container_of(l, struct trial, node);

        if (!t->is_root_job && !atomic_load(&t->canceled) &&
            mp_slice_equal(user, mp_slice_text(t->user)) &&
            password.size == t->password_size &&
            mp_equal_constant_time(password.data, t->password, password.size) &&
            strcmp(t->hash, row != NULL ? row->hash : "") == 0)
            return t;
    }
    return NULL;
}

/* Users of this door; management users have the dashboard. */
static const struct mp_user_row *find_user(const struct mp_auth *a, memphis_slice user)
{
    const struct mp_user_row *row = mp_meta_user(a->broker->meta, user);

    return row != NULL && row->type == MP_USER_MANAGEMENT ? NULL : row;
}

/* Somebody who tries many passwords at once is refused without a look: who comes now
 * may come again. */
static struct trial *try_password(struct mp_auth *a, memphis_slice user,
                                  memphis_slice password, const struct mp_user_row *row)
{
    struct trial *t = trial_of(a, user, password, row);

    if (t != NULL || a->trials_count >= TRIALS_MAX)
        return t;
    t = trial_new(a, row, user, password);
    return post(a, t) ? t : NULL;
}

enum verdict { REFUSED, ACCEPTED, UNKNOWN };

/* UNKNOWN: bcrypt has to tell. */
static enum verdict judge_password(const struct mp_auth *a, memphis_slice user,
                                   memphis_slice password,
                                   const struct mp_user_row *row)
{
    uint8_t f[MP_SHA256_SIZE];

    if (user.size == 0 || user.size > MP_NAME_MAX || password.size == 0 ||
        password.size > MP_PASSWORD_MAX)
        return REFUSED;
    if (row != NULL)
        fingerprint(a, row->hash, password, f);
    if ((row != NULL && is_remembered(a, f)) || is_configured_root(a, user, password))
        return ACCEPTED;
    return UNKNOWN;
}

/* "<user>::<token>", or the token alone when the name says the user. */
static memphis_slice user_of_token(const struct mp_auth *a,
                                   const struct mp_credentials *c)
{
    size_t size = strlen(a->token);
    const char *given = c->token.data;
    size_t before = c->token.size > size ? c->token.size - size : 0;

    if (c->token.size < size ||
        !mp_equal_constant_time(given + before, a->token, size))
        return (memphis_slice){ 0 };
    if (before == 0)
        return bare_user(c->named);
    if (before < 2 || memcmp(given + before - 2, "::", 2) != 0)
        return (memphis_slice){ 0 };
    return bare_user(mp_slice(given, before - 2));
}

static bool exists(const struct mp_auth *a, const char *user)
{
    return strcmp(user, "root") == 0 || find_user(a, mp_slice_text(user)) != NULL;
}

static struct mp_auth_check *check_new(struct mp_auth *a, memphis_slice user,
                                       const char *peer, mp_auth_fn fn, void *ctx)
{
    struct mp_auth_check *c = mp_alloc(sizeof(*c));

    c->auth = a;
    c->fn = fn;
    c->ctx = ctx;
    mp_list_init(&c->node);
    take_address(peer, c->address);
    if (user.size > 0 && user.size <= MP_NAME_MAX)
        memcpy(c->user, user.data, user.size);
    return c;
}

static struct mp_auth_check *check_token(struct mp_auth *a,
                                         const struct mp_credentials *given,
                                         mp_auth_fn fn, void *ctx)
{
    memphis_slice user = user_of_token(a, given);
    struct mp_auth_check *c = check_new(a, user, given->peer, fn, ctx);

    mp_fold_lower(c->user, strlen(c->user));
    return settle(c, exists(a, c->user)) ? c : NULL;
}

struct mp_auth_check *mp_auth_check(struct mp_auth *a,
                                    const struct mp_credentials *given, mp_auth_fn fn,
                                    void *ctx)
{
    memphis_slice user = bare_user(given->user);
    const struct mp_user_row *row = find_user(a, user);

    if (a->token != NULL)
        return check_token(a, given, fn, ctx);
    if (row != NULL && strlen(row->hash) != MP_BCRYPT_SIZE)
        row = NULL; /* a hash that no password can match */
    struct mp_auth_check *c = check_new(a, user, given->peer, fn, ctx);
    enum verdict verdict = judge_password(a, user, given->password, row);
    if (verdict != UNKNOWN)
        return settle(c, verdict == ACCEPTED) ? c : NULL;
    c->trial = try_password(a, user, given->password, row);
    if (c->trial == NULL) {
        tell(c); /* too many at once: it is no guess, and no delay */
        return NULL;
    }
    mp_list_push_back(&c->trial->checks, &c->node);
    return c;
}

void mp_auth_cancel(struct mp_auth_check *c)
{
    struct trial *t;

    if (c == NULL)
        return;
    t = c->trial;
    check_free(c);
    if (t == NULL)
        return;
    if (mp_list_is_empty(&t->checks) && !t->is_root_job)
        atomic_store(&t->canceled, true);
}

void mp_auth_start(struct mp_auth *a)
{
    struct mp_user_row *row = mp_meta_user(a->broker->meta, MP_STR("root"));
    struct trial *t;

    if (a->started)
        return;
    t = trial_new(a, row, MP_STR("root"), mp_slice_text(a->root_password));
    t->is_root_job = true;
    a->broker->env->random(a->broker->env, t->salt, sizeof(t->salt));
    a->root_pending = true;
    a->started = post(a, t); /* else with the next session */
}
