#include "world.h"

#include "base/status.h"
#include "broker/user.h"

/* What sessions would hear. */
static struct {
    int count;
    bool is_gone, is_restricted;
    char name[MP_NAME_MAX + 1];
} changed;

static void hear_change(void *ctx, const char *name, const struct mp_user_row *row)
{
    (void)ctx;
    changed.count++;
    changed.is_gone = row == NULL;
    changed.is_restricted = row != NULL && row->is_restricted;
    snprintf(changed.name, sizeof changed.name, "%s", name);
}

static struct world *new_world(void)
{
    struct world *w = world_new();

    memset(&changed, 0, sizeof changed);
    w->broker->user_changed = hear_change;
    return w;
}

static memphis_status add(struct world *w, const struct mp_user_request *r,
                          struct said *said)
{
    mp_user_add(w->broker, r, then_say(said));
    settle_down(w);
    assert_int_equal(said->count, 1);
    return said->status;
}

static struct mp_user_request request(const char *name)
{
    return (struct mp_user_request){ .name = name, .password = "Secret1!",
                                     .type = MP_USER_APPLICATION, .owner = "root" };
}

static const struct mp_user_row *row_of(struct world *w, const char *name)
{
    return mp_meta_user(w->broker->meta, mp_slice_text(name));
}

static void on_verdict(void *ctx, bool accepted, const char *user)
{
    (void)user;
    *(int *)ctx = accepted;
}

static bool accepts(struct world *w, const char *user, const char *password)
{
    struct mp_credentials c = { .user = mp_slice_text(user),
                                .password = mp_slice_text(password) };
    int verdict = -1;

    mp_auth_check(w->broker->auth, &c, on_verdict, &verdict);
    settle_down(w);
    assert_int_not_equal(verdict, -1);
    return verdict;
}

static void USR_04_an_application_user_may_connect_and_outlives_a_restart(void **state)
{
    struct world *w = new_world();
    struct mp_user_request r = request("Billing.App");
    struct said said;
    (void)state;

    r.description = "pays";
    r.full_name = "not kept";
    r.is_restricted = true;
    r.allow_read = "prod.*\norders";
    r.deny_write = "log";
    assert_int_equal(add(w, &r, &said), MEMPHIS_OK);
    assert_string_equal(changed.name, "billing.app");
    assert_true(changed.is_restricted);
    assert_true(accepts(w, "billing.app", "Secret1!"));
    assert_true(accepts(w, "billing.app$1", "Secret1!"));
    assert_false(accepts(w, "billing.app", "Secret1?"));
    restart(w);
    const struct mp_user_row *row = row_of(w, "billing.app");
    assert_string_equal(row->description, "pays");
    assert_string_equal(row->full_name, "");
    assert_string_equal(row->owner, "root");
    assert_string_equal(row->allow_read, "prod.*\norders");
    assert_string_equal(row->deny_write, "log");
    assert_int_equal(row->avatar, 1);
    assert_true(row->created_ns > 0);
    assert_true(accepts(w, "billing.app", "Secret1!"));
    world_free(w);
}

static void USR_03_a_management_user_does_not_connect(void **state)
{
    struct world *w = new_world();
    struct mp_user_request r = request("boss");
    struct said said;
    (void)state;

    r.type = MP_USER_MANAGEMENT;
    r.full_name = "The Boss";
    assert_int_equal(add(w, &r, &said), MEMPHIS_OK);
    assert_string_equal(row_of(w, "boss")->full_name, "The Boss");
    assert_false(accepts(w, "boss", "Secret1!"));
    world_free(w);
}

static void USR_05_rules_of_names_passwords_and_texts(void **state)
{
    static const char long_name[] =
        "a234567890123456789012345678901234567890123456789012345678901";
    static const struct {
        struct mp_user_request r;
        const char *says;
    } cases[] = {
        { { .name = "", .password = "Secret1!" }, "needs a name" },
        { { .password = "Secret1!" }, "needs a name" },
        { { .name = long_name, .password = "Secret1!" }, "at most 60" },
        { { .name = "a b", .password = "Secret1!" }, "consists of" },
        { { .name = "a$1", .password = "Secret1!" }, "consists of" },
        { { .name = "a", .password = NULL }, "8 to 72" },
        { { .name = "a", .password = "Secr1!" }, "8 to 72" },
        { { .name = "a", .password = "secret1!" }, "upper case" },
        { { .name = "a", .password = "SECRET1!" }, "lower case" },
        { { .name = "a", .password = "Secrets!" }, "digit" },
        { { .name = "a", .password = "Secrets1" }, "characters !?" },
        { { .name = "a", .password = "Secret 1!" }, "consists of" },
        { { .name = "a", .password = "Secret1!", .type = MP_USER_ROOT }, "type" },
        { { .name = "a", .password = "Secret1!", .type = MP_USER_APPLICATION,
            .team = "a team of more than 20 bytes" },
          "a team" },
        { { .name = "a", .password = "Secret1!", .type = MP_USER_APPLICATION,
            .allow_write = "ok\nNot ok" },
          "pattern" },
        { { .name = "a", .password = "Secret1!", .type = MP_USER_APPLICATION,
            .deny_read = "a\n\nb" },
          "pattern" },
    };
    struct world *w = new_world();
    struct said said;
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct mp_user_request r = cases[i].r;
        if (r.type == MP_USER_ROOT && strcmp(cases[i].says, "type") != 0)
            r.type = MP_USER_APPLICATION;
        if (add(w, &r, &said) != MEMPHIS_INVALID ||
            strstr(said.text, cases[i].says) == NULL)
            fail_msg("case %zu: %d '%s'", i, (int)said.status, said.text);
    }
    assert_null(row_of(w, "a"));
    world_free(w);
}

static void a_name_is_taken_once(void **state)
{
    struct world *w = new_world();
    struct mp_user_request r = request("ann"), root = request("root");
    struct said first, second;
    (void)state;

    mp_user_add(w->broker, &r, then_say(&first));
    mp_user_add(w->broker, &r, then_say(&second)); /* while the hash is made */
    settle_down(w);
    assert_int_equal(first.status, MEMPHIS_OK);
    assert_true(second.status == MEMPHIS_BUSY || second.status == MEMPHIS_EXISTS);
    assert_int_equal(add(w, &r, &second), MEMPHIS_EXISTS);
    assert_int_equal(add(w, &root, &second), MEMPHIS_EXISTS);
    world_free(w);
}

static void USR_07_USR_08_a_user_goes_and_may_come_again(void **state)
{
    struct world *w = new_world();
    struct mp_user_request r = request("ann");
    struct said said;
    (void)state;

    assert_int_equal(add(w, &r, &said), MEMPHIS_OK);
    assert_true(accepts(w, "ann", "Secret1!"));
    mp_user_drop(w->broker, "ann", then_say(&said));
    settle_down(w);
    assert_int_equal(said.status, MEMPHIS_OK);
    assert_true(changed.is_gone);
    assert_string_equal(changed.name, "ann");
    assert_false(accepts(w, "ann", "Secret1!"));
    mp_user_drop(w->broker, "ann", then_say(&said));
    settle_down(w);
    assert_int_equal(said.status, MEMPHIS_NOT_FOUND);
    mp_user_drop(w->broker, "root", then_say(&said));
    assert_int_equal(said.status, MEMPHIS_DENIED);
    r.password = "Another2?";
    assert_int_equal(add(w, &r, &said), MEMPHIS_OK);
    assert_false(accepts(w, "ann", "Secret1!"));
    assert_true(accepts(w, "ann", "Another2?"));
    world_free(w);
}

static void USR_07_a_password_changes(void **state)
{
    struct world *w = new_world();
    struct mp_user_request r = request("ann");
    struct said said;
    (void)state;

    r.is_restricted = true;
    r.allow_read = "orders";
    assert_int_equal(add(w, &r, &said), MEMPHIS_OK);
    mp_user_set_password(w->broker, "ann", "short", then_say(&said));
    assert_int_equal(said.status, MEMPHIS_INVALID);
    mp_user_set_password(w->broker, "ann", "Another2?", then_say(&said));
    settle_down(w);
    assert_int_equal(said.status, MEMPHIS_OK);
    assert_true(accepts(w, "ann", "Another2?"));
    assert_false(accepts(w, "ann", "Secret1!"));
    assert_string_equal(row_of(w, "ann")->allow_read, "orders");
    mp_user_set_password(w->broker, "bob", "Another2?", then_say(&said));
    assert_int_equal(said.status, MEMPHIS_NOT_FOUND);
    mp_user_set_password(w->broker, "root", "Another2?", then_say(&said));
    assert_int_equal(said.status, MEMPHIS_DENIED);
    world_free(w);
}

static void USR_10_permissions_change(void **state)
{
    struct world *w = new_world();
    struct mp_user_request r = request("ann");
    struct said said, other;
    (void)state;

    assert_int_equal(add(w, &r, &said), MEMPHIS_OK);
    mp_user_set_permissions(w->broker, "ann", true, "a*", "b", "", NULL,
                            then_say(&said));
    /* A row is replaced as a whole: nobody else changes it meanwhile. */
    mp_user_set_password(w->broker, "ann", "Another2?", then_say(&other));
    assert_int_equal(other.status, MEMPHIS_BUSY);
    settle_down(w);
    assert_int_equal(said.status, MEMPHIS_OK);
    assert_true(changed.is_restricted);
    assert_string_equal(row_of(w, "ann")->allow_read, "a*");
    assert_string_equal(row_of(w, "ann")->allow_write, "b");
    assert_true(accepts(w, "ann", "Secret1!"));
    mp_user_set_permissions(w->broker, "ann", true, "A", NULL, NULL, NULL,
                            then_say(&said));
    assert_int_equal(said.status, MEMPHIS_INVALID);
    mp_user_set_permissions(w->broker, "ann", false, NULL, NULL, NULL, NULL,
                            then_say(&said));
    settle_down(w);
    assert_int_equal(said.status, MEMPHIS_OK);
    assert_false(changed.is_restricted);
    assert_string_equal(row_of(w, "ann")->allow_read, "");
    world_free(w);
}

/* Nobody hears of a replay, and who waits hears of the end. */
static void a_change_is_told_once_or_canceled(void **state)
{
    struct world *w = new_world();
    struct mp_user_request r = request("ann");
    struct said said;
    (void)state;

    assert_int_equal(add(w, &r, &said), MEMPHIS_OK);
    restart(w);
    w->broker->user_changed = hear_change;
    changed.count = 0;
    settle_down(w);
    assert_int_equal(changed.count, 0);
    mp_user_set_password(w->broker, "ann", "Another2?", then_say(&said));
    stop(w);
    assert_int_equal(said.count, 1);
    start(w);
    assert_true(accepts(w, "ann", said.status == MEMPHIS_OK ? "Another2?"
                                                            : "Secret1!"));
    world_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(USR_04_an_application_user_may_connect_and_outlives_a_restart),
        leak_checked(USR_03_a_management_user_does_not_connect),
        leak_checked(USR_05_rules_of_names_passwords_and_texts),
        leak_checked(a_name_is_taken_once),
        leak_checked(USR_07_USR_08_a_user_goes_and_may_come_again),
        leak_checked(USR_07_a_password_changes),
        leak_checked(USR_10_permissions_change),
        leak_checked(a_change_is_told_once_or_canceled),
    };

    return run_tests("broker/user", tests);
}
