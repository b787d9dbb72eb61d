#include "support/test.h"

#include "base/assert.h"
#include "base/list.h"
#include "base/str.h"
#include "env/env.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct fixture {
    char dir[64];
    struct mp_env *env;
    struct mp_mailbox box;
};

static struct fixture f;

static void no_wake(void *ctx)
{
    (void)ctx;
}

static void open_env(bool threads)
{
    memphis_error err = { 0 };

    snprintf(f.dir, sizeof f.dir, "/tmp/test-env-XXXXXX");
    assert_non_null(mkdtemp(f.dir));
    mp_mailbox_init(&f.box, no_wake, NULL);
    assert_int_equal(mp_env_posix_open(f.dir, threads, mp_heap_current(), &f.env, &err),
                     MEMPHIS_OK);
    f.env->mailbox = &f.box;
}

static void close_env(void)
{
    char command[128];

    f.env->close(f.env);
    mp_mailbox_fini(&f.box);
    snprintf(command, sizeof command, "rm -r '%s'", f.dir);
    assert_int_equal(system(command), 0);
}

static struct mp_file *make(const char *name, const char *text)
{
    struct mp_file *file;
    memphis_slice v[2] = { { text, 1 }, { text + 1, strlen(text) - 1 } };

    assert_int_equal(
        f.env->file_open(f.env, name, MP_FILE_WRITE | MP_FILE_CREATE, &file, NULL),
        MEMPHIS_OK);
    assert_int_equal(f.env->file_write(f.env, file, 0, v, 2, NULL), MEMPHIS_OK);
    return file;
}

static void what_was_written_is_read_and_a_read_ends_at_the_end(void **state)
{
    char got[32] = "";
    size_t n = 0;
    uint64_t size = 0;
    struct mp_file *file;

    (void)state;
    open_env(false);
    file = make("a", "hello world");
    assert_int_equal(f.env->file_sync(f.env, file, NULL), MEMPHIS_OK);
    assert_int_equal(f.env->file_read(f.env, file, 6, got, sizeof got, &n, NULL),
                     MEMPHIS_OK);
    assert_int_equal(n, 5);
    assert_memory_equal(got, "world", 5);
    assert_int_equal(f.env->file_size(f.env, file, &size, NULL), MEMPHIS_OK);
    assert_int_equal(size, 11);
    f.env->file_close(f.env, file);
    close_env();
}

static void a_missing_file_is_not_found_and_a_new_one_may_not_exist(void **state)
{
    struct mp_file *file = NULL;
    memphis_error err = { 0 };

    (void)state;
    open_env(false);
    assert_int_equal(f.env->file_open(f.env, "none", MP_FILE_READ, &file, &err),
                     MEMPHIS_NOT_FOUND);
    assert_non_null(strstr(err.message, "none"));
    f.env->file_close(f.env, make("a", "xy"));
    assert_int_equal(f.env->file_open(f.env, "a",
                                      MP_FILE_WRITE | MP_FILE_CREATE | MP_FILE_NEW,
                                      &file, &err),
                     MEMPHIS_EXISTS);
    f.env->file_close(f.env, NULL);
    close_env();
}

static bool count_name(void *ctx, const char *name)
{
    *(int *)ctx += strcmp(name, "b") == 0 ? 100 : 1;
    return true;
}

static void names_are_moved_listed_and_removed(void **state)
{
    int names = 0;

    (void)state;
    open_env(false);
    f.env->file_close(f.env, make("a", "xy"));
    assert_int_equal(f.env->mkdir(f.env, "sub", NULL), MEMPHIS_OK);
    assert_int_equal(f.env->mkdir(f.env, "sub", NULL), MEMPHIS_OK);
    assert_int_equal(f.env->rename(f.env, "a", "sub/b", NULL), MEMPHIS_OK);
    assert_int_equal(f.env->dir_sync(f.env, "sub", NULL), MEMPHIS_OK);
    assert_int_equal(f.env->dir_sync(f.env, "", NULL), MEMPHIS_OK);
    assert_int_equal(f.env->dir_list(f.env, "sub", count_name, &names, NULL),
                     MEMPHIS_OK);
    assert_int_equal(names, 100);
    assert_int_equal(f.env->unlink(f.env, "sub/b", NULL), MEMPHIS_OK);
    assert_int_equal(f.env->unlink(f.env, "sub/b", NULL), MEMPHIS_NOT_FOUND);
    assert_int_equal(f.env->rmdir(f.env, "sub", NULL), MEMPHIS_OK);
    close_env();
}

static void a_directory_is_locked_against_this_process_and_others(void **state)
{
    struct mp_env *second = NULL;
    memphis_error err = { 0 };
    int status = 0;
    pid_t child;

    (void)state;
    open_env(false);
    assert_int_equal(f.env->lock(f.env, &err), MEMPHIS_OK);
    /* The same process. */
    if (mp_env_posix_open(f.dir, false, mp_heap_current(), &second, &err) ==
        MEMPHIS_OK) {
        assert_int_equal(second->lock(second, &err), MEMPHIS_BUSY);
        second->close(second);
    }
    assert_true(err.message[0] != 0);
    /* Closing that one must not have dropped the lock: another process. */
    child = fork();
    if (child == 0) {
        execl("/proc/self/exe", "test_env_posix", "lock", f.dir, (char *)NULL);
        _exit(99);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(WEXITSTATUS(status), MEMPHIS_BUSY);
    close_env();
}

/* === Workers === */

struct counted {
    struct mp_job job;
    int number;
    bool fail;
};

static _Atomic int ran;
static int delivered;

static void run(struct mp_job *j)
{
    struct counted *c = mp_container_of(j, struct counted, job);

    assert_int_equal(c->number,
                     atomic_fetch_add(&ran, 1)); /* in the order of posting */
    if (c->fail)
        mp_alloc(SIZE_MAX / 2);
}

static void deliver(struct mp_mail *m)
{
    struct counted *c =
        mp_container_of(mp_container_of(m, struct mp_job, mail), struct counted, job);

    assert_int_equal(c->number, delivered++);
    assert_int_equal(c->job.guard, c->fail ? MEMPHIS_NOMEM : MEMPHIS_OK);
}

static void post_jobs(bool threads)
{
    static struct counted jobs[100];
    struct mp_worker *w;

    open_env(threads);
    ran = 0;
    delivered = 0;
    memset(jobs, 0, sizeof jobs);
    assert_int_equal(f.env->worker_new(f.env, "w", 0, &w, NULL), MEMPHIS_OK);
    for (int i = 0; i < 100; i++) {
        jobs[i].number = i;
        jobs[i].fail = i == 50;
        jobs[i].job.run = run;
        jobs[i].job.mail.deliver = deliver;
        f.env->worker_post(f.env, w, &jobs[i].job);
        if (!threads)
            assert_int_equal(ran, i + 1); /* at once, but its mail comes later */
    }
    f.env->worker_free(f.env, w); /* finishes what was posted */
    while (mp_mailbox_has_mail(&f.box))
        mp_mailbox_drain(&f.box);
    assert_int_equal(ran, 100);
    assert_int_equal(delivered, 100);
    close_env();
}

static void jobs_run_in_order_and_a_failed_one_is_delivered_as_such(void **state)
{
    (void)state;
    post_jobs(true);
    post_jobs(false);
}

static void the_clock_of_a_new_store_is_the_wall_and_never_falls(void **state)
{
    struct mp_clock c;
    uint64_t wall, before;

    (void)state;
    open_env(false);
    wall = f.env->wall_ns(f.env);
    mp_clock_init(&c, f.env, 0, 0);
    assert_true(c.broker_ns >= wall);
    before = c.broker_ns;
    mp_clock_tick(&c);
    assert_true(c.broker_ns >= before);
    /* Off for an hour by the wall: an hour later. Wall stepped back: not earlier. */
    mp_clock_init(&c, f.env, wall - 3600000000000u, 5000);
    assert_true(c.broker_ns >= 5000 + 3600000000000u);
    mp_clock_init(&c, f.env, wall + 3600000000000u, 5000);
    assert_true(c.broker_ns >= 5000 && c.broker_ns < 5000 + 1000000000u);
    close_env();
}

static ino_t watched; /* a directory ... */
static int syncs;     /* ... and how often it was synced */

/* In place of the C library's. */
int fsync(int fd)
{
    struct stat st;

    syncs += fstat(fd, &st) == 0 && st.st_ino == watched;
    return (int)syscall(SYS_fsync, fd);
}

/* Else its name could be lost with all that was acknowledged in it. */
static void the_name_of_the_data_directory_is_synced(void **state)
{
    char dir[96];
    struct mp_env *env;
    struct stat st;

    (void)state;
    open_env(false);
    snprintf(dir, sizeof dir, "%s/data", f.dir);
    assert_int_equal(stat(f.dir, &st), 0);
    watched = st.st_ino;
    for (int i = 1; i <= 2; i++) { /* a start may be killed before it */
        assert_int_equal(mp_env_posix_open(dir, false, NULL, &env, NULL), MEMPHIS_OK);
        assert_int_equal(syncs, i);
        env->close(env);
    }
    watched = 0;
    close_env();
}

/* An operator may raise the limit, a connection may go: it is no damage. */
static void a_lack_of_descriptors_passes_and_stops_no_sync(void **state)
{
    struct mp_file *file = NULL;
    struct rlimit before, none;
    memphis_error err = { 0 };

    (void)state;
    open_env(false);
    f.env->file_close(f.env, make("a", "hello world"));
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = (struct rlimit){ 0, before.rlim_max };
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    memphis_status s = f.env->file_open(f.env, "a", MP_FILE_READ, &file, &err);
    memphis_status synced = f.env->dir_sync(f.env, "", NULL);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(s, MEMPHIS_NOMEM);
    assert_true(memphis_status_is_retryable(s));
    assert_non_null(strstr(err.message, "'a'"));
    assert_int_equal(synced, MEMPHIS_OK);
    close_env();
}

static void a_directory_that_cannot_be_used_is_no_broken_disk(void **state)
{
    struct mp_env *e = NULL;
    memphis_error err = { 0 };

    (void)state;
    assert_int_equal(mp_env_posix_open("/dev/null", false, NULL, &e, &err),
                     MEMPHIS_INVALID);
    assert_int_equal(err.status, MEMPHIS_INVALID);
    assert_non_null(strstr(err.message, "/dev/null"));
    assert_int_equal(mp_env_posix_open("/dev/null/x", false, NULL, &e, &err),
                     MEMPHIS_INVALID);
    assert_true(mp_env_posix_open("/proc/self/x", false, NULL, &e, &err) != MEMPHIS_IO);
    assert_null(e);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        leak_checked(what_was_written_is_read_and_a_read_ends_at_the_end),
        leak_checked(a_missing_file_is_not_found_and_a_new_one_may_not_exist),
        leak_checked(names_are_moved_listed_and_removed),
        leak_checked(a_lack_of_descriptors_passes_and_stops_no_sync),
        leak_checked(the_name_of_the_data_directory_is_synced),
        leak_checked(a_directory_that_cannot_be_used_is_no_broken_disk),
        leak_checked(a_directory_is_locked_against_this_process_and_others),
        leak_checked(jobs_run_in_order_and_a_failed_one_is_delivered_as_such),
        leak_checked(the_clock_of_a_new_store_is_the_wall_and_never_falls),
    };

    if (argc == 3) { /* the other process of the lock test */
        struct mp_env *env;
        memphis_error err = { 0 };

        if (mp_env_posix_open(argv[2], false, mp_heap_current(), &env, &err) !=
            MEMPHIS_OK)
            return err.status;
        memphis_status status = env->lock(env, &err);
        env->close(env);
        return status;
    }
    return run_tests("env/env_posix", tests);
}
