#include "env/worker.h"

#include "base/assert.h"
#include "base/guard.h"
#include "base/status.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>

enum { STACK_SIZE = 256 << 10 };

struct mp_worker {
    struct mp_env *env;
    struct mp_worker *next;    /* of the environment's */
    bool threaded;
    uint32_t spin_us;
    pthread_t thread;
    pthread_mutex_t lock;      /* guards first, last, stop */
    pthread_cond_t posted;
    struct mp_job *first, *last;
    bool stop;
    _Atomic bool has_work;     /* looked at without the lock while spinning */
};

static void call_run(void *ctx)
{
    struct mp_job *j = ctx;

    j->run(j);
}

/* The job is not ours any more once its mail is posted. */
static void run_job(struct mp_env *e, struct mp_job *j)
{
    mp_assert(j->run != NULL);
    mp_assert(j->mail.deliver != NULL);
    mp_assert(e->mailbox != NULL);
    j->guard = mp_guard_run(e->heap, call_run, j, &j->why);
    mp_mailbox_post(e->mailbox, &j->mail);
}

static inline void relax_cpu(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Looks for work for a while before the thread sleeps: a single producer would
 * otherwise pay two wake-ups per message. */
static void spin(struct mp_worker *w)
{
    if (w->spin_us == 0)
        return;
    uint64_t end = w->env->boot_ns(w->env) + (uint64_t)w->spin_us * 1000;
    while (!atomic_load_explicit(&w->has_work, memory_order_acquire)) {
        for (int i = 0; i < 64; i++)
            relax_cpu();
        if (w->env->boot_ns(w->env) >= end)
            return;
    }
}

/* The next job, or NULL when the worker is to end. */
static struct mp_job *take_job(struct mp_worker *w)
{
    spin(w);
    pthread_mutex_lock(&w->lock);
    while (w->first == NULL && !w->stop)
        pthread_cond_wait(&w->posted, &w->lock);
    struct mp_job *j = w->first;
    if (j != NULL) {
        w->first = j->next;
        if (w->first == NULL) {
            w->last = NULL;
            atomic_store_explicit(&w->has_work, false, memory_order_relaxed);
        }
        j->next = NULL;
    }
    pthread_mutex_unlock(&w->lock);
    return j;
}

static void *thread_main(void *ctx)
{
    struct mp_worker *w = ctx;
    struct mp_job *j;

    while ((j = take_job(w)) != NULL)
        run_job(w->env, j);
    return NULL;
}

/* A library's thread takes no signals of its host: blocked before it exists. */
static int start_thread(struct mp_worker *w, const char *name)
{
    pthread_attr_t attr;
    sigset_t all, before;

    int rc = pthread_attr_init(&attr);
    if (rc != 0)
        return rc;
    rc = pthread_attr_setstacksize(&attr, STACK_SIZE);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (rc == 0)
        rc = pthread_create(&w->thread, &attr, thread_main, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    if (rc == 0)
        (void)pthread_setname_np(w->thread, name); /* only a help for debuggers */
    return rc;
}

memphis_status mp_worker_new(struct mp_env *e, const char *name, bool threaded,
                             uint32_t spin_us, struct mp_worker **out,
                             memphis_error *err)
{
    mp_assert(strlen(name) < 16);
    struct mp_worker *w = mp_alloc(sizeof *w);
    w->env = e;
    w->threaded = threaded;
    w->spin_us = spin_us;
    if (threaded) {
        pthread_mutex_init(&w->lock, NULL);
        pthread_cond_init(&w->posted, NULL);
        int rc = start_thread(w, name);
        if (rc != 0) {
            pthread_cond_destroy(&w->posted);
            pthread_mutex_destroy(&w->lock);
            mp_free(w);
            return mp_fail(err, MEMPHIS_IO, "the thread '%s' cannot be started: %s",
                           name, strerrordesc_np(rc));
        }
    }
    w->next = e->workers;
    e->workers = w;
    *out = w;
    return MEMPHIS_OK;
}

void mp_worker_post(struct mp_env *e, struct mp_worker *w, struct mp_job *j)
{
    j->next = NULL;
    j->guard = MEMPHIS_OK;
    if (!w->threaded) {
        run_job(e, j);
        return;
    }
    pthread_mutex_lock(&w->lock);
    mp_assert(!w->stop);
    if (w->last != NULL)
        w->last->next = j;
    else
        w->first = j;
    w->last = j;
    atomic_store_explicit(&w->has_work, true, memory_order_release);
    pthread_cond_signal(&w->posted);
    pthread_mutex_unlock(&w->lock);
}

void mp_worker_free(struct mp_env *e, struct mp_worker *w)
{
    struct mp_worker **at = &e->workers;

    if (w == NULL)
        return;
    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    if (w->threaded) {
        pthread_mutex_lock(&w->lock);
        w->stop = true;
        atomic_store(&w->has_work, true); /* ends a spin */
        pthread_cond_signal(&w->posted);
        pthread_mutex_unlock(&w->lock);
        pthread_join(w->thread, NULL);
        pthread_cond_destroy(&w->posted);
        pthread_mutex_destroy(&w->lock);
    }
    mp_free(w);
}

void mp_workers_free(struct mp_env *e)
{
    while (e->workers != NULL)
        mp_worker_free(e, e->workers);
}
