#include "world.h"

#include "base/crypto.h"
#include "base/status.h"
#include "broker/user.h"

struct verdict {
    int count;
    bool accepted;
    char user[MP_NAME_MAX + 1];
};

static void on_verdict(void *ctx, bool accepted, const char *user)
{
    struct verdict *v = ctx;

    v->count++;
    v->accepted = accepted;
    snprintf(v->user, sizeof(v->user), "%s", user);
}

static struct mp_auth_check *ask_from(struct world *w, const char *peer,
                                      const char *user, const char *password,
                                      struct verdict *v)
{
    struct mp_credentials c = { .user = mp_slice_text(user),
                                .password = mp_slice_text(password),
                                .peer = peer };

    *v = (struct verdict){ 0 };
    return mp_auth_check(w->broker->auth, &c, on_verdict, v);
}

static struct mp_auth_check *ask(struct world *w, const char *user,
                                 const char *password, struct verdict *v)
{
    return ask_from(w, "local", user, password, v);
}

static bool accepts(struct world *w, const char *user, const char *password)
{
    struct verdict v;

    ask(w, user, password, &v);
    settle_down(w);
    assert_int_equal(v.count, 1);
    return v.accepted;
}

/* Answered without a look at bcrypt. */
static bool accepts_at_once(struct world *w, const char *user, const char *password)
{
    struct verdict v;
    struct mp_auth_check *c = ask(w, user, password, &v);
    bool at_once = v.count == 1 && v.accepted;

    assert_int_equal(c == NULL, v.count == 1);
    settle_down(w);
    return at_once;
}

static void put_user(struct world *w, const char *name, uint32_t type,
                     const char *password)
{
    struct mp_command c = { .kind = MP_COMMAND_USER_PUT, .time_ns = 1 };
    static const uint8_t salt[16] = "0123456789abcde";
    char hash[MP_BCRYPT_SIZE + 1] = "no hash";

    if (password != NULL)
        assert_int_equal(mp_bcrypt_hash(mp_slice_text(password), salt, hash),
                         MEMPHIS_OK);
    c.u.user = (struct mp_user_row){ .name = (char *)(uintptr_t)name, .type = type,
                                     .hash = hash, .created_ns = 1 };
    assert_int_equal(mp_meta_propose(w->broker->meta, &c, 0), MEMPHIS_OK);
    settle_down(w);
}

static void root_enters_with_the_configured_password_from_the_first_moment_on(
    void **state)
{
    struct world *w = world_new();

    (void)state;
    assert_true(accepts_at_once(w, "root", "memphis"));
    assert_true(accepts_at_once(w, "root$1", "memphis"));
    assert_false(accepts(w, "root", "memphiS"));
    mp_auth_start(w->broker->auth);
    mp_auth_start(w->broker->auth);
    assert_true(accepts_at_once(w, "root", "memphis")); /* its hash is not made yet */
    settle_down(w);
    assert_non_null(mp_meta_user(w->broker->meta, MP_STR("root")));
    assert_true(accepts_at_once(w, "root", "memphis"));
    assert_false(accepts(w, "root", "memphiS"));
    put_user(w, "root", MP_USER_ROOT, "changed");
    assert_false(accepts(w, "root", "memphis"));
    world_free(w);
}

static void a_new_root_password_holds_from_the_next_start_on(void **state)
{
    struct world *w = world_new();

    (void)state;
    mp_auth_start(w->broker->auth);
    settle_down(w);
    w->root_password = "something else";
    restart(w);
    assert_false(accepts(w, "root", "memphis")); /* the row is still old */
    mp_auth_start(w->broker->auth);
    settle_down(w);
    assert_false(accepts(w, "root", "memphis"));
    assert_true(accepts(w, "root", "something else"));
    restart(w); /* the hash was stored */
    mp_auth_start(w->broker->auth);
    settle_down(w);
    assert_true(accepts(w, "root", "something else"));
    world_free(w);
}

static void a_verified_password_is_remembered_until_it_changes(void **state)
{
    struct world *w = world_new();
    struct verdict v;

    (void)state;
    put_user(w, "ann", MP_USER_APPLICATION, "first");
    assert_false(accepts_at_once(w, "ann", "first"));
    assert_true(accepts_at_once(w, "ann", "first"));
    assert_true(accepts_at_once(w, "ann$1", "first"));
    assert_false(accepts(w, "ann", "second"));
    put_user(w, "ann", MP_USER_APPLICATION, "second");
    assert_false(accepts(w, "ann", "first"));
    ask(w, "ann", "second", &v);
    settle_down(w);
    assert_true(v.accepted);
    assert_string_equal(v.user, "ann");
    world_free(w);
}

static void unknown_and_unfit_users_are_refused_as_late_as_others(void **state)
{
    struct world *w = world_new();
    struct verdict v;

    (void)state;
    put_user(w, "boss", MP_USER_MANAGEMENT, "secret");
    put_user(w, "odd", MP_USER_APPLICATION, NULL);
    static const char *const users[] = { "nobody", "boss", "odd", "$1" };
    for (size_t i = 0; i < 4; i++) {
        assert_non_null(ask(w, users[i], "secret", &v));
        assert_int_equal(v.count, 0);
        settle_down(w);
        assert_int_equal(v.count, 1);
        assert_false(v.accepted);
    }
    world_free(w);
}

static void names_and_passwords_have_an_end(void **state)
{
    struct world *w = world_new();
    struct verdict v;
    char text[200];

    (void)state;
    memset(text, 'a', sizeof(text));
    text[72] = 0;
    put_user(w, "ann", MP_USER_APPLICATION, text);
    assert_true(accepts(w, "ann", text));
    text[72] = 'a';
    text[73] = 0;
    assert_null(ask(w, "ann", text, &v));
    assert_false(v.accepted);
    assert_null(ask(w, "ann", "", &v));
    assert_false(v.accepted);
    assert_null(ask(w, "", "x", &v));
    assert_false(v.accepted);
    memset(text, 'a', sizeof(text));
    text[129] = 0;
    assert_null(ask(w, text, "x", &v));
    assert_false(v.accepted);
    text[128] = 0;
    assert_non_null(ask(w, text, "x", &v));
    settle_down(w);
    assert_false(v.accepted);
    world_free(w);
}

static void a_canceled_check_answers_nobody(void **state)
{
    struct world *w = world_new();
    struct verdict v, left;

    (void)state;
    mp_auth_cancel(NULL);
    mp_auth_cancel(ask(w, "nobody", "x", &v));
    settle_down(w);
    assert_int_equal(v.count, 0);
    ask(w, "nobody", "x", &left); /* the broker closes meanwhile */
    stop(w);
    assert_true(left.count <= 1 && !left.accepted);
    world_free(w);
}

/* -- many at once ------------------------------------------------------------------ */

enum { MANY = 300 };

static struct mp_job *held[MANY];
static int held_count;

static void hold_job(struct mp_env *e, struct mp_worker *worker, struct mp_job *job)
{
    (void)e, (void)worker;
    held[held_count++] = job;
}

/* Runs what was held back, and not what comes of it. */
static void run_held(void)
{
    int count = held_count;
    struct mp_job *now[MANY];

    memcpy(now, held, sizeof now);
    held_count = 0;
    for (int i = 0; i < count; i++) {
        now[i]->run(now[i]);
        now[i]->mail.deliver(&now[i]->mail);
    }
}

/* One after the other, as each comes when the one before is told. */
static int run_all(void)
{
    int count = 0;

    for (; held_count > 0; count++)
        run_held();
    return count;
}

static void the_same_password_of_many_is_checked_once(void **state)
{
    struct world *w = world_new();
    static struct verdict v[MANY];
    struct verdict other;
    char peer[32];

    (void)state;
    put_user(w, "ann", MP_USER_APPLICATION, "secret");
    w->broker->env->worker_post = hold_job;
    for (int i = 0; i < MANY; i++) { /* of one address, and of many */
        mp_format(peer, sizeof peer, "10.0.%d.1", i / 2);
        assert_non_null(ask_from(w, peer, "ann", "secret", &v[i]));
    }
    ask(w, "ann", "Secret", &other);
    assert_int_equal(run_all(), 2);
    for (int i = 0; i < MANY; i++)
        assert_true(v[i].count == 1 && v[i].accepted);
    assert_true(other.count == 1 && !other.accepted);
    world_free(w);
}

static void who_tries_many_passwords_and_leaves_costs_no_time(void **state)
{
    struct world *w = world_new();
    struct mp_auth_check *c[MANY];
    static struct verdict v[MANY];
    struct verdict late;

    (void)state;
    w->broker->env->worker_post = hold_job;
    for (int i = 0; i < MANY; i++) {
        char password[16];

        mp_format(password, sizeof(password), "%d", i);
        c[i] = ask(w, "root", password, &v[i]);
    }
    ask(w, "root", "late", &late);
    for (int i = 0; i < MANY; i++)
        mp_auth_cancel(c[i]);
    assert_int_equal(run_all(), 2);
    assert_int_equal(late.count, 1);
    assert_int_equal(v[0].count, 0); /* it was on the worker */
    world_free(w);
}

static int count_told(const struct verdict *v, int count)
{
    int told = 0;

    for (int i = 0; i < count; i++)
        told += v[i].count;
    return told;
}

/* Thousands of guesses of one address: a login from elsewhere waits for two of them,
 * a new hash for one. */
static void guesses_of_one_address_keep_nobody_else_out(void **state)
{
    struct world *w = world_new();
    void (*post)(struct mp_env *, struct mp_worker *, struct mp_job *) =
        w->broker->env->worker_post;
    static struct verdict v[5000];
    struct verdict late;
    struct said said;

    (void)state;
    put_user(w, "ann", MP_USER_APPLICATION, "secret");
    w->broker->env->worker_post = hold_job;
    for (int i = 0; i < 5000; i++) {
        char password[16];

        mp_format(password, sizeof(password), "%d", i);
        ask_from(w, "10.0.0.1", "root", password, &v[i]);
        assert_int_equal(v[i].count, i >= 4096); /* those are refused unheard */
    }
    ask_from(w, "10.9.9.9", "ann", "secret", &late);
    struct mp_user_request r = { .name = "bob", .password = "Secret1!",
                                 .type = MP_USER_APPLICATION };
    mp_user_add(w->broker, &r, then_say(&said));
    assert_int_equal(held_count, 2); /* one password, and the new hash */
    w->broker->env->worker_post = post;
    run_held();
    settle_down(w);
    assert_true(said.count == 1 && said.status == MEMPHIS_OK);
    assert_true(late.count == 1 && late.accepted);
    pass(w, 20);
    assert_int_equal(count_told(v, 4096), 10); /* up to the first pause */
    pass(w, 10000); /* three more: after 1, 2 and 3 s; the rest loses patience */
    assert_int_equal(count_told(v, 4096), 4096);
    world_free(w);
}

static memphis_status no_thread(struct mp_env *e, const char *name, uint32_t spin_us,
                                struct mp_worker **out, memphis_error *err)
{
    (void)e, (void)name, (void)spin_us, (void)out;
    return mp_fail(err, MEMPHIS_NOMEM, "no thread");
}

static void without_a_thread_a_password_is_refused_and_the_next_one_is_not(
    void **state)
{
    struct world *w = world_new();
    struct mp_env *e = w->broker->env;
    struct verdict v;

    (void)state;
    put_user(w, "ann", MP_USER_APPLICATION, "secret");
    struct mp_env before = *e;
    e->worker_new = no_thread;
    mp_auth_start(w->broker->auth);
    assert_null(ask(w, "ann", "secret", &v));
    assert_true(v.count == 1 && !v.accepted);
    assert_true(accepts_at_once(w, "root", "memphis"));
    e->worker_new = before.worker_new;
    mp_auth_start(w->broker->auth); /* the next session */
    settle_down(w);
    assert_non_null(mp_meta_user(w->broker->meta, MP_STR("root")));
    assert_true(accepts(w, "ann", "secret"));
    world_free(w);
}

/* -- whoever guesses --------------------------------------------------------------- */

/* Milliseconds until the verdict, in whole seconds. */
static uint64_t verdict_takes(struct world *w, const char *peer, const char *password)
{
    struct verdict v;
    uint64_t ms = 0;

    ask_from(w, peer, "root", password, &v);
    for (turn(w); v.count == 0 && ms < 20000; ms += 10)
        pass(w, 10);
    assert_int_equal(v.count, 1);
    assert_int_equal(v.accepted, strcmp(password, "memphis") == 0);
    return ms / 1000 * 1000;
}

static void ten_refusals_in_a_minute_make_the_next_verdicts_wait(void **state)
{
    struct world *w = world_new();
    (void)state;

    for (int i = 0; i < 10; i++)
        assert_int_equal(verdict_takes(w, "10.0.0.1", "no"),
                         0);
    assert_int_equal(verdict_takes(w, "10.0.0.1", "no"), 1000);
    assert_int_equal(verdict_takes(w, "10.0.0.1", "no"), 2000);
    assert_int_equal(verdict_takes(w, "10.0.0.1", "memphis"), 3000);
    assert_int_equal(verdict_takes(w, "10.0.0.2", "memphis"), 0);
    assert_int_equal(verdict_takes(w, "::1", "no"), 0);
    assert_int_equal(verdict_takes(w, "10.0.0.1", "no"), 0);
    assert_int_equal(verdict_takes(w, "10.0.0.1", "no"), 4000);
    pass(w, 60000); /* the minute is over */
    assert_int_equal(verdict_takes(w, "10.0.0.1", "no"), 0);
    world_free(w);
}

/* However many come at once, and whoever waits: it is a guess after the other. */
static void guesses_at_once_gain_nothing(void **state)
{
    struct world *w = world_new();
    static struct verdict v[100];
    (void)state;

    for (int i = 0; i < 100; i++) {
        char password[16];

        mp_format(password, sizeof password, "%d", i);
        ask_from(w, "10.0.0.1", "root", password, &v[i]);
    }
    pass(w, 100);
    assert_int_equal(count_told(v, 100), 10);
    pass(w, 9800); /* after 1, 2 and 3 s */
    assert_int_equal(count_told(v, 100), 13);
    assert_int_equal(v[99].count, 0);
    pass(w, 200); /* nobody waits longer there */
    assert_int_equal(count_told(v, 100), 100);
    static struct verdict more[40]; /* few may wait, the others hear it at once */
    int waiting = 0;
    for (int i = 0; i < 40; i++)
        waiting += ask_from(w, "10.0.0.1", "root", "no", &more[i]) != NULL;
    assert_int_equal(waiting, 16);
    /* Who is not on a network is nobody's guesser. */
    for (int i = 0; i < 40; i++)
        assert_int_equal(verdict_takes(w, "local", "no"), 0);
    world_free(w);
}

static void what_is_remembered_is_told_at_once_at_a_suspect_address(void **state)
{
    struct world *w = world_new();
    struct verdict v, others[20];
    (void)state;

    put_user(w, "ann", MP_USER_APPLICATION, "secret");
    put_user(w, "bob", MP_USER_APPLICATION, "hidden");
    ask_from(w, "10.0.0.1", "ann", "secret", &v);
    ask_from(w, "10.0.0.2", "bob", "hidden", &v); /* never from the first address */
    settle_down(w);
    for (int i = 0; i < 12; i++)
        verdict_takes(w, "10.0.0.1", "no");
    for (int i = 0; i < 20; i++)
        ask_from(w, "10.0.0.1", "root", "no", &others[i]);
    assert_null(ask_from(w, "10.0.0.1", "ann", "secret", &v));
    assert_true(v.count == 1 && v.accepted);
    /* What only others know looks like a wrong one. */
    assert_null(ask_from(w, "10.0.0.1", "bob", "hidden", &v));
    assert_true(v.count == 1 && !v.accepted);
    assert_null(ask_from(w, "10.0.0.2", "bob", "hidden", &v));
    assert_true(v.count == 1 && v.accepted);
    world_free(w);
}

static void a_verdict_that_waits_may_be_canceled_or_overtaken_by_the_end(void **state)
{
    struct world *w = world_new();
    struct verdict v[14];
    struct mp_auth_check *c[14];
    (void)state;

    for (int i = 0; i < 14; i++) {
        c[i] = ask_from(w, "10.0.0.1", "root", "no", &v[i]);
        pass(w, 2);
    }
    assert_int_equal(v[9].count, 1);
    assert_int_equal(v[12].count + v[13].count, 0);
    mp_auth_cancel(c[12]);
    world_free(w); /* leaks nothing */
    assert_int_equal(v[12].count + v[13].count, 0);
}

/* On the worker, or in a pause: the old password is of no use any more. */
static void a_password_that_changes_meanwhile_is_not_accepted(void **state)
{
    struct world *w = world_new();
    void (*post)(struct mp_env *, struct mp_worker *, struct mp_job *) =
        w->broker->env->worker_post;
    struct verdict running, waiting, fresh;
    (void)state;

    put_user(w, "ann", MP_USER_APPLICATION, "first");
    for (int i = 0; i < 12; i++)
        verdict_takes(w, "10.0.0.1", "no");
    ask_from(w, "10.0.0.1", "ann", "first", &waiting);
    w->broker->env->worker_post = hold_job;
    ask(w, "ann", "first", &running);
    w->broker->env->worker_post = post;
    put_user(w, "ann", MP_USER_APPLICATION, "second");
    run_held();
    ask(w, "ann", "second", &fresh);
    pass(w, 10000);
    assert_true(running.count == 1 && !running.accepted);
    assert_true(waiting.count == 1 && !waiting.accepted);
    assert_true(fresh.count == 1 && fresh.accepted);
    world_free(w);
}

/* Ever new addresses: the first ones are forgotten, and memory is bounded. */
static void many_addresses_are_not_remembered_for_ever(void **state)
{
    struct world *w = world_new();
    struct verdict v;
    char peer[32];
    (void)state;

    for (int i = 0; i < 12; i++)
        ask_from(w, "10.0.0.1", "", "", &v);
    pass(w, 3000);
    assert_true(verdict_takes(w, "10.0.0.1", "memphis") > 0);
    for (int i = 0; i < 1100; i++) {
        snprintf(peer, sizeof peer, "10.1.%d.%d", i / 250, i % 250);
        ask_from(w, peer, "", "", &v);
    }
    assert_int_equal(verdict_takes(w, "10.0.0.1", "memphis"), 0);
    world_free(w);
}

/* -- a token that all share -------------------------------------------------------- */

static bool takes_token(struct world *w, const char *token, const char *named,
                        const char *as)
{
    struct mp_credentials c = { .token = mp_slice_text(token),
                                .named = mp_slice_text(named),
                                .user = MP_STR("root"),
                                .password = MP_STR("memphis") };
    struct verdict v = { 0 };

    assert_null(mp_auth_check(w->broker->auth, &c, on_verdict, &v));
    assert_int_equal(v.count, 1);
    if (v.accepted)
        assert_string_equal(v.user, as);
    return v.accepted;
}

static void CON_a_token_is_shared_by_all_users(void **state)
{
    struct world *w = world_new();
    (void)state;

    w->token = "t0k::en";
    restart(w);
    put_user(w, "ann", MP_USER_APPLICATION, NULL);
    put_user(w, "boss", MP_USER_MANAGEMENT, NULL);
    assert_true(takes_token(w, "t0k::en", "ann", "ann"));
    assert_true(takes_token(w, "t0k::en", "ROOT", "root"));
    assert_true(takes_token(w, "ann::t0k::en", NULL, "ann"));
    assert_true(takes_token(w, "ann$1::t0k::en", "x", "ann"));
    assert_false(takes_token(w, "t0k::en", "boss", ""));
    assert_false(takes_token(w, "t0k::en", "nobody", ""));
    assert_false(takes_token(w, "t0k::en", NULL, ""));
    assert_false(takes_token(w, "::t0k::en", "ann", ""));
    assert_false(takes_token(w, ":t0k::en", "ann", ""));
    assert_false(takes_token(w, "annt0k::en", NULL, ""));
    assert_false(takes_token(w, "t0k::em", "ann", ""));
    assert_false(takes_token(w, "", "ann", ""));
    assert_false(takes_token(w, NULL, "root", ""));
    w->token = NULL; /* and no token counts with passwords */
    restart(w);
    struct mp_credentials c = { .token = MP_STR("t0k::en"), .named = MP_STR("ann") };
    struct verdict v = { 0 };
    mp_auth_check(w->broker->auth, &c, on_verdict, &v);
    settle_down(w);
    assert_true(v.count == 1 && !v.accepted);
    world_free(w);
}

static void a_token_is_guessed_as_slowly(void **state)
{
    struct world *w = world_new();
    struct mp_credentials c = { .user = MP_STR("x"), .peer = "10.0.0.1" };
    struct verdict v[30] = { { 0 } };
    (void)state;

    w->token = "t0ken";
    restart(w);
    c.token = MP_STR("root::t0ken");
    c.peer = "10.0.0.7";
    assert_null(mp_auth_check(w->broker->auth, &c, on_verdict, &v[0]));
    for (int i = 0; i < 28; i++) {
        c.token = MP_STR("root::guess");
        c.peer = i < 14 ? "10.0.0.1" : "10.0.0.7";
        mp_auth_check(w->broker->auth, &c, on_verdict, &v[i + 1]);
    }
    assert_int_equal(v[10].count, 1);
    assert_int_equal(v[11].count, 0);
    c.token = MP_STR("root::t0ken");
    c.peer = "10.0.0.1";
    assert_non_null(mp_auth_check(w->broker->auth, &c, on_verdict, &v[29]));
    v[0].count = 0;
    c.peer = "10.0.0.7"; /* who had it before is known */
    assert_null(mp_auth_check(w->broker->auth, &c, on_verdict, &v[0]));
    assert_true(v[0].count == 1 && v[0].accepted);
    pass(w, 10100);
    assert_int_equal(v[29].count, 1);
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(root_enters_with_the_configured_password_from_the_first_moment_on),
        leak_checked(a_new_root_password_holds_from_the_next_start_on),
        leak_checked(a_verified_password_is_remembered_until_it_changes),
        leak_checked(unknown_and_unfit_users_are_refused_as_late_as_others),
        leak_checked(names_and_passwords_have_an_end),
        leak_checked(a_canceled_check_answers_nobody),
        leak_checked(the_same_password_of_many_is_checked_once),
        leak_checked(who_tries_many_passwords_and_leaves_costs_no_time),
        leak_checked(without_a_thread_a_password_is_refused_and_the_next_one_is_not),
        leak_checked(ten_refusals_in_a_minute_make_the_next_verdicts_wait),
        leak_checked(guesses_of_one_address_keep_nobody_else_out),
        leak_checked(guesses_at_once_gain_nothing),
        leak_checked(what_is_remembered_is_told_at_once_at_a_suspect_address),
        leak_checked(a_password_that_changes_meanwhile_is_not_accepted),
        leak_checked(a_token_is_guessed_as_slowly),
        leak_checked(a_verdict_that_waits_may_be_canceled_or_overtaken_by_the_end),
        leak_checked(many_addresses_are_not_remembered_for_ever),
        leak_checked(CON_a_token_is_shared_by_all_users),
    };

    return run_tests("broker/auth", tests);
}
