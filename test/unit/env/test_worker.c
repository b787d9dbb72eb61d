#include "support/test.h"

#include "base/assert.h"
#include "base/list.h"
#include "env/worker.h"

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>

enum { JOBS = 200 };

enum deed { NOTHING, FAIL_ASSERT, FAIL_MEMORY, WAIT };

struct work {
    struct mp_job job;
    int number;
    enum deed deed;
    int ran_as;             /* its place in the order of running */
    pthread_t thread;
    char thread_name[16];
    sigset_t blocked;
    uint64_t heap_blocks;   /* of the environment's heap, while it ran */
    int delivered_as;
};

struct world {
    struct mp_heap heap;
    struct mp_env *env;
    struct mp_mailbox box;
    struct mp_worker *worker;
    _Atomic int ran, woken;
    int delivered;
    sem_t gate, entered;
};

static struct world w;

static void on_wake(void *ctx)
{
    (void)ctx;
    atomic_fetch_add(&w.woken, 1);
}

static void begin(bool threaded, uint32_t spin_us)
{
    memset(&w, 0, sizeof w);
    mp_heap_init(&w.heap, NULL);
    mp_mailbox_init(&w.box, on_wake, NULL);
    sem_init(&w.gate, 0, 0);
    sem_init(&w.entered, 0, 0);
    assert_int_equal(mp_env_posix_diskless(threaded, &w.heap, &w.env, NULL),
                     MEMPHIS_OK);
    w.env->mailbox = &w.box;
    assert_int_equal(mp_worker_new(w.env, "mp-test", threaded, spin_us, &w.worker,
                                   NULL), MEMPHIS_OK);
}

static void end(void)
{
    mp_worker_free(w.env, w.worker);
    while (mp_mailbox_has_mail(&w.box))
        mp_mailbox_drain(&w.box);
    w.env->close(w.env);
    mp_mailbox_fini(&w.box);
    sem_destroy(&w.gate);
    sem_destroy(&w.entered);
}

/* On the worker: what it finds is looked at by the test, later. */
static void run(struct mp_job *j)
{
    struct work *k = mp_container_of(j, struct work, job);
    void *block = mp_alloc(16);

    k->heap_blocks = w.heap.live_blocks;
    mp_free(block);
    k->thread = pthread_self();
    pthread_getname_np(k->thread, k->thread_name, sizeof k->thread_name);
    pthread_sigmask(SIG_BLOCK, NULL, &k->blocked);
    k->ran_as = atomic_fetch_add(&w.ran, 1);
    if (k->deed == WAIT) {
        sem_post(&w.entered);
        sem_wait(&w.gate);
    }
    mp_assert(k->deed != FAIL_ASSERT);
    if (k->deed == FAIL_MEMORY)
        (void)mp_alloc(SIZE_MAX / 2);
}

static void deliver(struct mp_mail *m)
{
    struct work *k =
        mp_container_of(mp_container_of(m, struct mp_job, mail), struct work, job);

    k->delivered_as = w.delivered++;
}

static void post(struct work *k, int number, enum deed deed)
{
    *k = (struct work){ .number = number, .deed = deed, .delivered_as = -1 };
    k->job.run = run;
    k->job.mail.deliver = deliver;
    mp_worker_post(w.env, w.worker, &k->job);
}

static void wait_for_mail(int n)
{
    while (w.delivered < n) {
        mp_mailbox_drain(&w.box);
        sched_yield();
    }
}

static void jobs_run_and_are_delivered_in_the_order_of_posting(void **state)
{
    static struct work jobs[JOBS];

    (void)state;
    for (uint32_t spin_us = 0; spin_us <= 50; spin_us += 50) {
        begin(true, spin_us);
        for (int i = 0; i < JOBS; i++) {
            post(&jobs[i], i, NOTHING);
            if (i % 50 == 0)
                wait_for_mail(i + 1); /* and the thread looks for work again */
        }
        wait_for_mail(JOBS);
        for (int i = 0; i < JOBS; i++) {
            assert_int_equal(jobs[i].ran_as, i);
            assert_int_equal(jobs[i].delivered_as, i);
            assert_int_equal(jobs[i].job.guard, MEMPHIS_OK);
        }
        assert_true(w.woken > 0);
        end();
    }
}

static void a_job_runs_on_a_thread_of_its_own_with_the_heap_of_the_broker(void **state)
{
    struct work k;

    (void)state;
    begin(true, 0);
    post(&k, 0, NOTHING);
    wait_for_mail(1);
    assert_false(pthread_equal(k.thread, pthread_self()));
    assert_string_equal(k.thread_name, "mp-test");
    assert_int_equal(k.heap_blocks, 1);
    /* The signals of the host are none of its business. */
    assert_true(sigismember(&k.blocked, SIGINT));
    assert_true(sigismember(&k.blocked, SIGCHLD));
    end();
    sigset_t mine;
    pthread_sigmask(SIG_BLOCK, NULL, &mine);
    assert_false(sigismember(&mine, SIGINT));
}

static void nothing_is_delivered_before_the_job_is_done(void **state)
{
    struct work k;

    (void)state;
    begin(true, 0);
    post(&k, 0, WAIT);
    sem_wait(&w.entered);
    assert_false(mp_mailbox_has_mail(&w.box));
    sem_post(&w.gate);
    wait_for_mail(1);
    assert_int_equal(k.delivered_as, 0);
    end();
}

static void a_failure_in_a_job_is_delivered_and_the_next_one_runs(void **state)
{
    struct work k[4];

    (void)state;
    begin(true, 0);
    post(&k[0], 0, FAIL_ASSERT);
    post(&k[1], 1, FAIL_MEMORY);
    post(&k[2], 2, NOTHING);
    wait_for_mail(3);
    assert_int_equal(k[0].job.guard, MEMPHIS_INTERNAL);
    assert_non_null(strstr(k[0].job.why.message, "FAIL_ASSERT"));
    assert_int_equal(k[1].job.guard, MEMPHIS_NOMEM);
    assert_true(k[1].job.why.message[0] != 0);
    assert_int_equal(k[2].job.guard, MEMPHIS_OK);
    k[0].deed = NOTHING; /* posted again it has a clean record */
    k[0].delivered_as = -1;
    mp_worker_post(w.env, w.worker, &k[0].job);
    wait_for_mail(4);
    assert_int_equal(k[0].job.guard, MEMPHIS_OK);
    end();
}

static void free_finishes_what_was_queued(void **state)
{
    static struct work jobs[JOBS];

    (void)state;
    begin(true, 0);
    post(&jobs[0], 0, WAIT);
    sem_wait(&w.entered);
    for (int i = 1; i < JOBS; i++)
        post(&jobs[i], i, NOTHING);
    assert_int_equal(w.ran, 1);
    sem_post(&w.gate);
    mp_worker_free(w.env, w.worker);
    w.worker = NULL;
    assert_int_equal(w.ran, JOBS);
    wait_for_mail(JOBS);
    assert_int_equal(jobs[JOBS - 1].delivered_as, JOBS - 1);
    end(); /* which frees NULL */
}

static void without_a_thread_a_job_runs_at_once_and_its_mail_waits(void **state)
{
    struct work k[2];

    (void)state;
    begin(false, 100);
    post(&k[0], 0, FAIL_MEMORY);
    assert_int_equal(w.ran, 1);
    assert_true(pthread_equal(k[0].thread, pthread_self()));
    assert_int_equal(k[0].heap_blocks, 1);
    assert_int_equal(k[0].delivered_as, -1);
    post(&k[1], 1, NOTHING);
    wait_for_mail(2);
    assert_int_equal(k[0].job.guard, MEMPHIS_NOMEM);
    assert_int_equal(k[1].delivered_as, 1);
    end();
}

static void an_environment_ends_the_workers_that_nobody_freed(void **state)
{
    static struct work jobs[10];
    struct mp_worker *second;

    (void)state;
    begin(true, 50);
    assert_int_equal(mp_worker_new(w.env, "mp-second", true, 0, &second, NULL),
                     MEMPHIS_OK);
    for (int i = 0; i < 10; i++)
        post(&jobs[i], i, NOTHING);
    w.env->close(w.env); /* a broken broker is left like that */
    assert_int_equal(w.ran, 10);
    while (mp_mailbox_has_mail(&w.box))
        mp_mailbox_drain(&w.box);
    mp_mailbox_fini(&w.box);
}

static void a_thread_without_a_name_that_fits_is_a_bug(void **state)
{
    struct mp_worker *other = NULL;

    (void)state;
    begin(false, 0);
    expect_assert_failure(
        mp_worker_new(w.env, "sixteen-letters!", true, 0, &other, NULL));
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(jobs_run_and_are_delivered_in_the_order_of_posting),
        leak_checked(a_job_runs_on_a_thread_of_its_own_with_the_heap_of_the_broker),
        leak_checked(nothing_is_delivered_before_the_job_is_done),
        leak_checked(a_failure_in_a_job_is_delivered_and_the_next_one_runs),
        leak_checked(free_finishes_what_was_queued),
        leak_checked(without_a_thread_a_job_runs_at_once_and_its_mail_waits),
        leak_checked(an_environment_ends_the_workers_that_nobody_freed),
        leak_checked(a_thread_without_a_name_that_fits_is_a_bug),
    };

    return run_tests("env/worker", tests);
}
