#include "broker/auth.h"

#include "base/assert.h"
#include "base/crypto.h"
#include "base/limits.h"
#include "base/str.h"
#include "broker/peer.h"

#include <stdatomic.h>
#include <string.h>

enum {
    HELD_MAX = 4096,        /* logins that wait, per address */
    SUSPECT_HELD_MAX = 16,  /* ... from where others failed */
    PATIENCE_MS = 10000,    /* of those: longer nobody waits there */
    REMEMBERED_MAX = 4096,  /* verdicts that bcrypt has confirmed in this process */
    REMEMBERED_SIZE = 16
};

/* One password of one user on its way through bcrypt. */
struct trial {
    struct mp_job job;
    struct mp_auth *auth;
    struct mp_auth_check *check; /* whose turn it was; NULL: he is gone */
    _Atomic bool canceled;
    bool has_run, accepted;
    size_t password_size;
    char user[MP_NAME_MAX + 1];
    char password[MP_PASSWORD_MAX + 1];
    char hash[MP_BCRYPT_SIZE + 1]; /* "": there is no such user */
};

struct mp_auth {
    struct mp_broker *broker;
    struct mp_worker *worker;
    char root_password[MP_PASSWORD_MAX + 1];
    char root_hash[MP_BCRYPT_SIZE + 1]; /* which is known to be that password's */
    char *token;           /* NULL: users have passwords */
    struct mp_peers peers;
    struct mp_list turns;  /* peers one of whose checks may be judged, round robin */
    struct mp_list checks; /* all */
    struct trial *running; /* one at a time: a new hash never waits behind two */
    uint8_t key[32];
    uint8_t remembered[REMEMBERED_MAX][REMEMBERED_SIZE];
    uint32_t remembered_count;
    bool root_pending;     /* until root's row has the configured password's hash */
    bool started;
    _Atomic bool closing;  /* the worker looks, too */
};

enum kind {
    PASSWORD,
    TOKEN, /* fits, if the user exists */
    UNFIT  /* fits nobody */
};

struct mp_auth_check {
    struct mp_list all;
    struct mp_list node; /* of its peer's; not linked: on the worker */
    struct mp_auth *auth;
    struct mp_peer *peer;
    mp_auth_fn fn;
    void *ctx;
    struct mp_timer patience;
    bool *told; /* set when it is answered inside mp_auth_check */
    enum kind kind;
    size_t password_size;
    char user[MP_NAME_MAX + 1];
    char password[MP_PASSWORD_MAX + 1];
    char address[MP_PEER_KEY_MAX];
};

static uint64_t now_ms(const struct mp_auth *a)
{
    return mp_broker_now_ms(a->broker);
}

/* Users of this door; management users have the dashboard. */
static const struct mp_user_row *find_user(const struct mp_auth *a, const char *user)
{
    const struct mp_user_row *row = mp_meta_user(a->broker->meta, mp_slice_text(user));

    return row != NULL && row->type == MP_USER_MANAGEMENT ? NULL : row;
}

/* "": no such user, or one whom no password can match. */
static const char *hash_of(const struct mp_auth *a, const char *user)
{
    const struct mp_user_row *row = find_user(a, user);

    return row != NULL && strlen(row->hash) == MP_BCRYPT_SIZE ? row->hash : "";
}

/* === Remembered verdicts === */

/* A hash of nothing: unknown users take as long as known ones. */
static const char NOBODY[] =
    "$2b$10$abcdefghijklmnopqrstuuO3yxyzeYRvhWUwVnKC/4HRbZRxcvsUO";

/* A changed hash changes the key. The address is in it, too: what is remembered is told
 * at once, however often others guess, so whoever guesses must not find it. */
static void fingerprint(const struct mp_auth_check *c, const char *hash,
                        uint8_t out[MP_SHA256_SIZE])
{
    const struct mp_auth *a = c->auth;
    uint8_t bytes[MP_BCRYPT_SIZE + MP_PEER_KEY_MAX + MP_PASSWORD_MAX];
    size_t size = MP_BCRYPT_SIZE + MP_PEER_KEY_MAX;

    memcpy(bytes, hash, MP_BCRYPT_SIZE); /* names user and password at once */
    memcpy(bytes + MP_BCRYPT_SIZE, c->peer->key, MP_PEER_KEY_MAX);
    memcpy(bytes + size, c->password, c->password_size);
    mp_hmac_sha256(a->key, sizeof(a->key), bytes, size + c->password_size, out);
}

static bool has_fingerprint(const struct mp_auth *a, const uint8_t f[MP_SHA256_SIZE])
{
    uint32_t n =
        a->remembered_count < REMEMBERED_MAX ? a->remembered_count : REMEMBERED_MAX;

    for (uint32_t i = 0; i < n; i++)
        if (memcmp(a->remembered[i], f, REMEMBERED_SIZE) == 0)
            return true;
    return false;
}

/* "": there is nothing to remember. Of a token it is that it fits. */
static const char *hash_to_remember(const struct mp_auth_check *c)
{
    return c->kind == TOKEN      ? NOBODY
           : c->kind == PASSWORD ? hash_of(c->auth, c->user)
                                 : "";
}

static bool is_remembered(const struct mp_auth_check *c)
{
    const char *hash = hash_to_remember(c);
    uint8_t f[MP_SHA256_SIZE];

    if (hash[0] == 0)
        return false;
    fingerprint(c, hash, f);
    return has_fingerprint(c->auth, f);
}

static void remember(const struct mp_auth_check *c)
{
    struct mp_auth *a = c->auth;
    const char *hash = hash_to_remember(c);
    uint8_t f[MP_SHA256_SIZE];

    if (hash[0] == 0 || (c->kind == PASSWORD && a->root_pending &&
                         strcmp(c->user, "root") == 0)) /* it may be another's */
        return;
    fingerprint(c, hash, f);
    if (!has_fingerprint(a, f))
        memcpy(a->remembered[a->remembered_count++ % REMEMBERED_MAX], f,
               REMEMBERED_SIZE);
}

/* === Checks === */

static void pause_is_over(struct mp_timer *t, uint64_t now);

/* Its turn comes if it has something to judge and no pause. */
static void arrange(struct mp_auth *a, struct mp_peer *p)
{
    struct mp_timers *timers = &a->broker->timers;

    if (mp_list_is_empty(&p->checks) || now_ms(a) < p->pause_ends_ms)
        mp_list_remove(&p->turn);
    else if (!mp_list_is_linked(&p->turn))
        mp_list_push_back(&a->turns, &p->turn);
    if (mp_list_is_empty(&p->checks) || mp_list_is_linked(&p->turn)) {
        mp_timer_cancel(timers, &p->pause);
        return;
    }
    p->pause.fire = pause_is_over;
    mp_timer_set(timers, &p->pause, p->pause_ends_ms);
}

static void check_free(struct mp_auth_check *c)
{
    struct mp_auth *a = c->auth;

    if (a->running != NULL && a->running->check == c) {
        a->running->check = NULL;
        atomic_store(&a->running->canceled, true);
    }
    mp_list_remove(&c->node);
    mp_list_remove(&c->all);
    mp_timer_cancel(&a->broker->timers, &c->patience);
    arrange(a, c->peer);
    mp_peers_release(&a->peers, c->peer);
    memset(c->password, 0, sizeof(c->password));
    mp_free(c);
}

static void tell(struct mp_auth_check *c, bool accepted)
{
    struct mp_auth_check said = *c;

    if (c->told != NULL)
        *c->told = true;
    check_free(c);
    said.fn(said.ctx, accepted, said.user);
    memset(said.password, 0, sizeof(said.password));
}

static void settle(struct mp_auth_check *c, bool accepted)
{
    struct mp_auth *a = c->auth;

    if (accepted) {
        remember(c);
    } else {
        mp_peer_failed(c->peer, now_ms(a));
        mp_logf(a->broker->logger, MEMPHIS_LOG_WARN, "auth",
                "a login was refused user=%s address=%s", c->user, c->address);
    }
    tell(c, accepted);
}

/* Without a look at the password: it is no guess. */
static void refuse_unheard(struct mp_auth_check *c)
{
    if (!c->peer->is_full_logged)
        mp_logf(c->auth->broker->logger, MEMPHIS_LOG_WARN, "auth",
                "a login was refused unheard, as too many wait, and so may further "
                "ones of there: user=%s address=%s",
                c->user, c->address);
    c->peer->is_full_logged = true;
    tell(c, false);
}

static void patience_ends(struct mp_timer *t, uint64_t now)
{
    struct mp_auth_check *c = mp_container_of(t, struct mp_auth_check, patience);

    if (mp_list_is_linked(&c->node) && mp_peer_is_suspect(c->peer, now))
        refuse_unheard(c);
    else
        mp_timer_set(&c->auth->broker->timers, t, now + PATIENCE_MS);
}

/* While root's new hash is being made and stored its password is the configured one. */
static bool is_configured_root(const struct mp_auth_check *c)
{
    const struct mp_auth *a = c->auth;
    size_t size = strlen(a->root_password);

    return strcmp(c->user, "root") == 0 &&
           (a->root_pending || (a->root_hash[0] != 0 &&
                                strcmp(hash_of(a, "root"), a->root_hash) == 0)) &&
           c->password_size == size &&
           mp_equal_constant_time(c->password, a->root_password, size);
}

enum verdict { REFUSED, ACCEPTED, UNKNOWN };

/* UNKNOWN: bcrypt has to tell. */
static enum verdict judge(const struct mp_auth_check *c)
{
    if (c->kind == TOKEN && (strcmp(c->user, "root") == 0 ||
                             find_user(c->auth, c->user) != NULL))
        return ACCEPTED;
    if (c->kind != PASSWORD)
        return REFUSED;
    return is_remembered(c) || is_configured_root(c) ? ACCEPTED : UNKNOWN;
}

/* === The worker === */

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

static void post(struct mp_auth *a, struct mp_job *job, void (*run)(struct mp_job *),
                 void (*deliver)(struct mp_mail *))
{
    job->run = run;
    job->mail.deliver = deliver;
    a->broker->env->worker_post(a->broker->env, a->worker, job);
}

static void run_trial(struct mp_job *j)
{
    struct trial *t = mp_container_of(j, struct trial, job);
    bool is_known = t->hash[0] != 0;

    if (atomic_load(&t->canceled) || atomic_load(&t->auth->closing))
        return;
    t->accepted = mp_bcrypt_verify(mp_slice(t->password, t->password_size),
                                   is_known ? t->hash : NOBODY) &&
                  is_known;
    t->has_run = true;
}

static void schedule(struct mp_auth *a);

static bool is_same(const struct mp_auth_check *c, const struct trial *t)
{
    return c->kind == PASSWORD && mp_list_is_linked(&c->node) &&
           c->password_size == t->password_size && strcmp(c->user, t->user) == 0 &&
           mp_equal_constant_time(c->password, t->password, t->password_size);
}

/* For whose turn it was, and for whoever brings the same pair meanwhile: a thousand
 * clients that come back at once cost one trial. */
static void tell_all(struct mp_auth *a, const struct trial *t)
{
    struct mp_list heard;

    mp_list_init(&heard);
    if (t->check != NULL)
        mp_list_push_back(&heard, &t->check->node);
    for (struct mp_list *l = a->checks.next; l != &a->checks; l = l->next) {
        struct mp_auth_check *c = mp_container_of(l, struct mp_auth_check, all);
        if (c == t->check || !is_same(c, t))
            continue;
        mp_list_remove(&c->node);
        mp_list_push_back(&heard, &c->node);
    }
    while (!mp_list_is_empty(&heard)) /* whoever is told may cancel others */
        settle(mp_container_of(heard.next, struct mp_auth_check, node), t->accepted);
}

static void deliver_trial(struct mp_mail *m)
{
    struct trial *t =
        mp_container_of(mp_container_of(m, struct mp_job, mail), struct trial, job);
    struct mp_auth *a = t->auth;
    struct mp_auth_check *c = t->check;

    a->running = NULL;
    if (a->root_pending && strcmp(t->user, "root") == 0)
        t->accepted = false; /* his row is of before; the configured needs no trial */
    if (!a->closing) {
        if (!t->has_run || t->job.guard != MEMPHIS_OK) {
            if (c != NULL)
                refuse_unheard(c);
        } else if (strcmp(hash_of(a, t->user), t->hash) == 0) {
            tell_all(a, t);
        } else if (c != NULL) { /* another password since: once more */
            mp_list_push_front(&c->peer->checks, &c->node);
            arrange(a, c->peer);
        }
        schedule(a);
    }
    memset(t->password, 0, sizeof(t->password));
    mp_free(t);
}

static void try_password(struct mp_auth_check *c)
{
    struct mp_auth *a = c->auth;

    if (!has_worker(a)) {
        refuse_unheard(c);
        return;
    }
    struct trial *t = mp_alloc(sizeof(*t));
    t->auth = a;
    t->check = c;
    t->password_size = c->password_size;
    memcpy(t->user, c->user, sizeof(t->user));
    memcpy(t->password, c->password, sizeof(t->password));
    mp_format(t->hash, sizeof(t->hash), "%s", hash_of(a, c->user));
    a->running = t;
    post(a, &t->job, run_trial, deliver_trial);
}

/* The next in turn, one of each address after the other. */
static void schedule(struct mp_auth *a)
{
    struct mp_list *l;

    while (a->running == NULL && (l = mp_list_pop_front(&a->turns)) != NULL) {
        struct mp_peer *p = mp_container_of(l, struct mp_peer, turn);
        struct mp_auth_check *c =
            mp_container_of(p->checks.next, struct mp_auth_check, node);
        mp_list_remove(&c->node);
        arrange(a, p);
        enum verdict verdict = judge(c);
        if (verdict == UNKNOWN)
            try_password(c);
        else
            settle(c, verdict == ACCEPTED);
    }
}

static void pause_is_over(struct mp_timer *t, uint64_t now)
{
    struct mp_peer *p = mp_container_of(t, struct mp_peer, pause);
    struct mp_auth *a =
        mp_container_of(p->checks.next, struct mp_auth_check, node)->auth;

    (void)now;
    arrange(a, p);
    schedule(a);
}

/* === The password of root === */

struct root_job {
    struct mp_job job;
    struct mp_auth *auth;
    uint8_t salt[16];
    bool accepted;
    char password[MP_PASSWORD_MAX + 1];
    char hash[MP_BCRYPT_SIZE + 1]; /* "": root is not made yet */
    char new_hash[MP_BCRYPT_SIZE + 1];
};

static void run_root(struct mp_job *j)
{
    struct root_job *r = mp_container_of(j, struct root_job, job);
    memphis_slice password = mp_slice_text(r->password);

    if (atomic_load(&r->auth->closing))
        return;
    r->accepted = r->hash[0] != 0 && mp_bcrypt_verify(password, r->hash);
    if (!r->accepted)
        mp_bcrypt_hash(password, r->salt, r->new_hash);
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

static void put_root(struct mp_auth *a, char *hash)
{
    char name[] = "root";
    struct mp_command command = { .kind = MP_COMMAND_USER_PUT,
                                  .time_ns = mp_broker_wall_ns(a->broker) };
    struct mp_operation *op =
        mp_operation_new(a->broker, (struct mp_then){ root_stored, a->broker });

    command.u.user = (struct mp_user_row){ .name = name,
                                           .type = MP_USER_ROOT,
                                           .hash = hash,
                                           .created_ns = command.time_ns };
    memphis_status st =
        mp_meta_propose(a->broker->meta, &command, mp_operation_tag(op));
    if (st != MEMPHIS_OK) {
        mp_operation_fail(op, st, "");
        mp_operation_done(op);
    }
    mp_operation_done(op);
}

static void deliver_root(struct mp_mail *m)
{
    struct root_job *r =
        mp_container_of(mp_container_of(m, struct mp_job, mail), struct root_job, job);
    struct mp_auth *a = r->auth;

    if (a->closing) {
        ;
    } else if (r->job.guard != MEMPHIS_OK) {
        a->root_pending = false; /* the stored one stands */
        mp_logf(a->broker->logger, MEMPHIS_LOG_ERROR, "auth",
                "the hash of root's password could not be made: %s",
                r->job.why.message);
    } else {
        memcpy(a->root_hash, r->accepted ? r->hash : r->new_hash, sizeof(r->hash));
        if (r->accepted)
            a->root_pending = false;
        else
            put_root(a, r->new_hash);
    }
    memset(r->password, 0, sizeof(r->password));
    mp_free(r);
}

void mp_auth_start(struct mp_auth *a)
{
    struct root_job *r;

    if (a->started || !has_worker(a)) /* else with the next session */
        return;
    r = mp_alloc(sizeof(*r));
    r->auth = a;
    mp_format(r->password, sizeof(r->password), "%s", a->root_password);
    mp_format(r->hash, sizeof(r->hash), "%s", hash_of(a, "root"));
    a->broker->env->random(a->broker->env, r->salt, sizeof(r->salt));
    a->root_pending = true;
    a->started = true;
    post(a, &r->job, run_root, deliver_root);
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
    post(a, &h->job, run_hash, deliver_hash);
}

/* === Public === */

struct mp_auth *mp_auth_new(struct mp_broker *b, const char *root_password,
                            const char *token)
{
    struct mp_auth *a = mp_realloc(NULL, sizeof(*a));

    memset(a, 0, sizeof(*a));
    a->broker = b;
    mp_peers_init(&a->peers);
    mp_list_init(&a->turns);
    mp_list_init(&a->checks);
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
    atomic_store(&a->closing, true);
    if (a->worker != NULL)
        a->broker->env->worker_free(a->broker->env, a->worker);
    mp_mailbox_drain(&a->broker->mailbox); /* what the worker had finished */
    while (!mp_list_is_empty(&a->checks))
        check_free(mp_container_of(a->checks.next, struct mp_auth_check, all));
    mp_peers_fini(&a->peers);
    memset(a->root_password, 0, sizeof(a->root_password));
    if (a->token != NULL)
        memset(a->token, 0, strlen(a->token));
    mp_free(a->token);
    mp_free(a);
}

/* === Who asks === */

/* "root$1" and "root" are the same user (sdk-protocol 1.4). */
static memphis_slice bare_user(memphis_slice user)
{
    if (user.size > 2 && memcmp((const char *)user.data + user.size - 2, "$1", 2) == 0)
        user.size -= 2;
    return user;
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

static struct mp_auth_check *check_new(struct mp_auth *a,
                                       const struct mp_credentials *given,
                                       mp_auth_fn fn, void *ctx)
{
    struct mp_auth_check *c = mp_alloc(sizeof(*c));
    memphis_slice user =
        a->token != NULL ? user_of_token(a, given) : bare_user(given->user);
    memphis_slice password = given->password;
    bool is_fit = user.size > 0 && user.size <= MP_NAME_MAX;

    c->auth = a;
    c->fn = fn;
    c->ctx = ctx;
    c->peer = mp_peers_hold(&a->peers, given->peer);
    mp_list_push_back(&a->checks, &c->all);
    mp_format(c->address, sizeof(c->address), "%s",
              given->peer != NULL ? given->peer : "local");
    if (is_fit)
        memcpy(c->user, user.data, user.size);
    if (a->token != NULL) {
        c->kind = is_fit ? TOKEN : UNFIT;
        mp_fold_lower(c->user, strlen(c->user));
    } else if (!is_fit || password.size == 0 || password.size > MP_PASSWORD_MAX) {
        c->kind = UNFIT;
    } else {
        c->kind = PASSWORD;
        c->password_size = password.size;
        memcpy(c->password, password.data, password.size);
    }
    return c;
}

static bool is_full(const struct mp_auth_check *c)
{
    bool is_suspect = mp_peer_is_suspect(c->peer, now_ms(c->auth));

    return c->peer->held > (is_suspect ? SUSPECT_HELD_MAX : HELD_MAX);
}

struct mp_auth_check *mp_auth_check(struct mp_auth *a,
                                    const struct mp_credentials *given, mp_auth_fn fn,
                                    void *ctx)
{
    struct mp_auth_check *c = check_new(a, given, fn, ctx);
    enum verdict verdict = UNKNOWN;
    bool told = false;

    if (is_remembered(c) || now_ms(a) >= c->peer->pause_ends_ms)
        verdict = judge(c);
    if (verdict != UNKNOWN) {
        settle(c, verdict == ACCEPTED);
        return NULL;
    }
    if (is_full(c)) {
        refuse_unheard(c);
        return NULL;
    }
    c->told = &told;
    c->patience.fire = patience_ends;
    mp_timer_set(&a->broker->timers, &c->patience, now_ms(a) + PATIENCE_MS);
    mp_list_push_back(&c->peer->checks, &c->node);
    arrange(a, c->peer);
    schedule(a);
    if (told)
        return NULL;
    c->told = NULL;
    return c;
}

void mp_auth_cancel(struct mp_auth_check *c)
{
    if (c != NULL)
        check_free(c);
}
