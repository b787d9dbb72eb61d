/* Calls that cross to the core, and how callers wait for them. */
#include "api/api.h"

#include "base/assert.h"
#include "base/guard.h"
#include "base/status.h"

#include <errno.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

uint64_t api_boot_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_BOOTTIME, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void *api_call_new_with(memphis_broker *b, size_t size, size_t more,
                        void (*run)(struct api_call *c))
{
    struct mp_heap *before = mp_heap_enter(&b->heap);
    struct api_call *c = more <= SIZE_MAX - size ? mp_alloc_try(size + more) : NULL;

    mp_heap_enter(before);
    if (c == NULL)
        return NULL;
    memset(c, 0, size);
    c->b = b;
    c->run = run;
    c->refs = 2; /* the caller's and the core's */
    return c;
}

void *api_call_new(memphis_broker *b, size_t size, void (*run)(struct api_call *c))
{
    return api_call_new_with(b, size, 0, run);
}

void api_call_unref(struct api_call *c)
{
    if (api_is_forked(c->b)) /* by a handler in the midst of memphis_consume */
        return;
    if (atomic_fetch_sub(&c->refs, 1) != 1)
        return;
    if (c->fini != NULL)
        c->fini(c);
    mp_free(c);
}

void api_finish(struct api_call *c, memphis_status st, const char *text)
{
    mp_assert(!c->done);
    c->status = st;
    if (st != MEMPHIS_OK)
        mp_fail(&c->error, st, "%s",
                text != NULL && text[0] ? text : memphis_status_text(st));
    /* Whoever waits has looked at `done` under the lock, which the broadcast takes. */
    atomic_store_explicit(&c->done, true, memory_order_release);
    c->b->has_finished = true;
    api_call_unref(c);
}

static void deliver(struct mp_mail *m)
{
    struct api_call *c = mp_container_of(m, struct api_call, mail);
    int state = atomic_load(&c->b->state);

    if (state == API_BROKEN)
        return; /* nothing is touched any more; who waits hears it from the state */
    atomic_fetch_add(&c->refs, 1); /* run may finish it */
    if (state == API_OPEN || c->is_accepted)
        c->run(c);
    else
        api_finish(c, MEMPHIS_CLOSED, "the broker is closed");
    atomic_store_explicit(&c->ran, true, memory_order_release);
    api_call_unref(c);
}

bool api_is_forked(const memphis_broker *b)
{
    return b->alive != NULL ? *b->alive == 0 : b->pid != getpid();
}

memphis_status api_usable(memphis_broker *b, memphis_error *err)
{
    int state = atomic_load(&b->state);

    if (api_is_forked(b))
        return mp_fail(err, MEMPHIS_MISUSE,
                       "this broker belongs to the parent process; open another one");
    if (state == API_BROKEN)
        return mp_fail(err, MEMPHIS_BROKEN, "the broker has stopped: %.200s",
                       b->why.message);
    if (state == API_CLOSED)
        return mp_fail(err, MEMPHIS_CLOSED, "the broker is closed");
    if (b->mode == MEMPHIS_THREADED)
        return MEMPHIS_OK;
    if (!b->thread_known) {
        b->thread = pthread_self();
        b->thread_known = true;
    }
    if (!pthread_equal(b->thread, pthread_self()))
        return mp_fail(err, MEMPHIS_MISUSE,
                       "a MANUAL broker is used from one thread only");
    return MEMPHIS_OK;
}

bool api_is_inside(const memphis_broker *b)
{
    return (b->mode == MEMPHIS_MANUAL || pthread_equal(b->thread, pthread_self())) &&
           b->in_turn;
}

memphis_status api_may_wait(memphis_broker *b, memphis_error *err)
{
    memphis_status st = api_usable(b, err);

    if (st == MEMPHIS_OK && api_is_inside(b))
        st = mp_fail(err, MEMPHIS_MISUSE,
                     "inside a callback of a pipe nothing can be waited for");
    return st;
}

/* === THREADED === */

enum { LOOK_AGAIN_MS = 5 };

static memphis_status outcome(struct api_call *c, memphis_error *err)
{
    if (c->status != MEMPHIS_OK && err != NULL)
        *err = c->error;
    return c->status;
}

static struct timespec deadline_of(uint32_t wait_ms)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += wait_ms / 1000;
    t.tv_nsec += (long)(wait_ms % 1000) * 1000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000;
    }
    return t;
}

/* `interrupts`: how many had been asked for when it was posted; those are not its. */
static memphis_status wait_threaded(struct api_call *c, uint32_t wait_ms,
                                    uint32_t interrupts, memphis_error *err)
{
    memphis_broker *b = c->b;
    struct timespec until = deadline_of(wait_ms);
    memphis_status st = MEMPHIS_OK;
    bool is_late = false;

    pthread_mutex_lock(&b->lock);
    while (!c->done && st == MEMPHIS_OK) {
        bool leaves = is_late || (int32_t)(b->interrupts_seen - interrupts) > 0;

        if (atomic_load(&b->state) != API_OPEN)
            st = MEMPHIS_BROKEN;
        else if (leaves && c->ran)
            st = is_late ? MEMPHIS_TIMEOUT : MEMPHIS_CANCELED;
        else if (leaves) { /* its arguments are lent; that it ran is not broadcast */
            struct timespec soon = deadline_of(LOOK_AGAIN_MS);
            (void)pthread_cond_timedwait(&b->finished, &b->lock, &soon);
        } else if (wait_ms == UINT32_MAX)
            pthread_cond_wait(&b->finished, &b->lock);
        else
            is_late = pthread_cond_timedwait(&b->finished, &b->lock, &until) != 0;
    }
    if (c->done)
        st = outcome(c, err);
    else if (st == MEMPHIS_BROKEN && atomic_load(&b->state) == API_CLOSED)
        st = mp_fail(err, MEMPHIS_CLOSED, "the broker was closed meanwhile");
    else if (st == MEMPHIS_BROKEN)
        st = mp_fail(err, st, "the broker has stopped: %.200s", b->why.message);
    else
        mp_fail(err, st, "%s; the outcome is unknown", memphis_status_text(st));
    pthread_mutex_unlock(&b->lock);
    return st;
}

uint64_t api_finish_number(memphis_broker *b)
{
    uint64_t n;

    pthread_mutex_lock(&b->lock);
    n = b->finish_number;
    pthread_mutex_unlock(&b->lock);
    return n;
}

void api_wait_finish(memphis_broker *b, uint64_t number, uint64_t wait_ms)
{
    struct timespec until = deadline_of(wait_ms > 60000 ? 60000 : (uint32_t)wait_ms);

    pthread_mutex_lock(&b->lock);
    while (b->finish_number == number && atomic_load(&b->state) == API_OPEN)
        if (pthread_cond_timedwait(&b->finished, &b->lock, &until) == ETIMEDOUT)
            break;
    pthread_mutex_unlock(&b->lock);
}

/* === MANUAL === */

void api_idle(memphis_broker *b, uint64_t next_ns, uint64_t wait_ms)
{
    struct pollfd p = { .fd = b->wake_fd, .events = POLLIN };
    uint64_t ms = next_ns / 1000000 + (next_ns % 1000000 != 0);

    ms = ms > wait_ms ? wait_ms : ms;
    ms = ms > 60000 ? 60000 : ms;
    if (ms > 0)
        poll(&p, 1, (int)ms);
}

/* Behind the mail that was posted before it, as with a core thread. */
static void run_guarded(void *ctx)
{
    struct api_call *c = ctx;

    mp_broker_enter(c->b->core);
    mp_mailbox_drain(&c->b->core->mailbox);
    deliver(&c->mail);
}

/* *next_ns: as of the last turn; 0: there was none. */
static memphis_status turn_until_done(struct api_call *c, uint32_t wait_ms,
                                      uint64_t *next_ns, memphis_error *err)
{
    memphis_broker *b = c->b;
    memphis_error why = { 0 };
    uint64_t began = api_boot_ms();
    uint32_t interrupts = atomic_load(&b->interrupts);

    if (mp_guard_run(&b->heap, run_guarded, c, &why) != MEMPHIS_OK)
        mp_broker_break(b->core, &why);
    *next_ns = 0;
    while (!c->done) {
        uint64_t spent = api_boot_ms() - began;

        if (!api_turn(b, next_ns))
            return mp_fail(err, MEMPHIS_BROKEN, "the broker has stopped: %.200s",
                           b->why.message);
        if (c->done)
            break;
        if (atomic_load(&b->interrupts) != interrupts)
            return mp_fail(err, MEMPHIS_CANCELED,
                           "interrupted; the outcome is unknown");
        if (wait_ms != UINT32_MAX && spent >= wait_ms)
            return mp_fail(err, MEMPHIS_TIMEOUT, "not in time; the outcome is unknown");
        api_idle(b, *next_ns, wait_ms == UINT32_MAX ? UINT32_MAX : wait_ms - spent);
    }
    return outcome(c, err);
}

static memphis_status wait_manual(struct api_call *c, uint32_t wait_ms,
                                  memphis_error *err)
{
    uint64_t next_ns;
    memphis_status st = turn_until_done(c, wait_ms, &next_ns, err);

    api_tell_loop(c->b, next_ns);
    return st;
}

/* Mail for the core. A close on another thread comes before it or behind it: the state
 * changes under the lock. */
static memphis_status post(struct api_call *c, memphis_error *err)
{
    memphis_broker *b = c->b;

    c->mail.deliver = deliver;
    pthread_mutex_lock(&b->lock);
    bool is_open = atomic_load(&b->state) == API_OPEN;
    if (is_open)
        mp_mailbox_post(&b->core->mailbox, &c->mail);
    pthread_mutex_unlock(&b->lock);
    return is_open ? MEMPHIS_OK : api_usable(b, err);
}

memphis_status api_run(struct api_call *c, uint32_t wait_ms, memphis_error *err)
{
    bool is_manual = c->b->mode == MEMPHIS_MANUAL;
    uint32_t interrupts = atomic_load(&c->b->interrupts);
    memphis_status st = api_may_wait(c->b, err);

    if (st == MEMPHIS_OK && !is_manual)
        st = post(c, err);
    if (st != MEMPHIS_OK) {
        api_call_unref(c); /* the core never sees it */
        return st;
    }
    return is_manual ? wait_manual(c, wait_ms, err)
                     : wait_threaded(c, wait_ms, interrupts, err);
}

memphis_status api_post(struct api_call *c, memphis_error *err)
{
    memphis_status st = api_usable(c->b, err);

    c->is_accepted = true;
    if (st == MEMPHIS_OK)
        st = post(c, err);
    if (st != MEMPHIS_OK)
        api_call_unref(c);
    return st;
}
