/* Who may connect, and when. */
#include "store_world.h"

#include "broker/auth.h"

struct verdict {
    int count, accepted;
};

static void on_verdict(void *ctx, bool accepted, const char *user)
{
    struct verdict *v = ctx;

    (void)user;
    v->count++;
    v->accepted += accepted;
}

static struct mp_auth_check *ask(struct store *s, const char *password,
                                 struct verdict *v)
{
    struct mp_credentials c = { .user = MP_STR("root"),
                                .password = mp_slice_text(password) };

    return mp_auth_check(s->broker->auth, &c, on_verdict, v);
}

static bool may_enter(struct store *s, const char *password)
{
    struct verdict v = { 0 };

    ask(s, password, &v);
    for (int i = 0; i < 10 && v.count == 0; i++)
        turn(s);
    assert_int_equal(v.count, 1);
    return v.accepted == 1;
}

/* The verdict of this moment; nothing turns meanwhile. */
static bool may_enter_now(struct store *s, const char *password)
{
    struct verdict v = { 0 };

    mp_auth_cancel(ask(s, password, &v));
    return v.accepted == 1;
}

static bool has_root(struct store *s)
{
    return mp_meta_user(s->broker->meta, MP_STR("root")) != NULL;
}

static void roots_password_is_good_in_every_moment_of_the_first_start(void **state)
{
    struct store s;
    int moments = 0;

    (void)state;
    store_open(&s, NULL, NULL);
    assert_true(may_enter_now(&s, "memphis"));
    mp_auth_start(s.broker->auth);
    assert_false(has_root(&s));
    for (; moments < 20 && !has_root(&s); moments++) {
        assert_true(may_enter_now(&s, "memphis"));
        turn(&s);
    }
    assert_true(has_root(&s));
    assert_in_range(moments, 2, 19); /* one of them: hashed and not committed */
    assert_true(may_enter_now(&s, "memphis"));
    assert_true(may_enter(&s, "memphis"));
    assert_false(may_enter(&s, "Memphis"));
    store_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(roots_password_is_good_in_every_moment_of_the_first_start),
    };

    return run_tests("broker/auth", tests);
}
