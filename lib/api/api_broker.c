/* Open, turn, close. */
#include "api/api.h"

#include "admin/admin.h"

#include "base/assert.h"
#include "base/guard.h"
#include "base/status.h"
#include "broker/auth.h"
#include "broker/dls.h"
#include "proto/jsapi.h"
#include "proto/sdk.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum {
    CORE_STACK = 512 << 10,
    ALIVE_SIZE = 4096,
    SPIN_US = 100,
    FINISH_TRIES_MAX = 100
};

/* === Waking the core === */

static void signal_fd(memphis_broker *b)
{
    uint64_t one = 1;

    /* A full counter is readable all the same; nothing else can fail here. */
    (void)!write(b->wake_fd, &one, sizeof(one));
}

static void wake(void *ctx)
{
    memphis_broker *b = ctx;

    if (atomic_exchange(&b->sleeping, false))
        signal_fd(b);
}

void api_stir(memphis_broker *b)
{
    if (b->in_turn)
        b->is_stirred = true;
    else
        wake(b);
}

/* A flag that saves this call when nobody has signalled would lag behind the write, and
 * the core would turn around an fd that stays readable. */
static void drain_fd(memphis_broker *b)
{
    uint64_t count;

    (void)!read(b->wake_fd, &count, sizeof(count)); /* empty already: fine */
}

void memphis_interrupt(memphis_broker *b)
{
    int before = errno; /* may run in a signal handler */

    if (b == NULL || api_is_forked(b))
        return;
    atomic_fetch_add(&b->interrupts, 1);
    signal_fd(b);
    errno = before;
}

/* === Breaking === */

/* Called on the core, or on the thread whose guard caught something. */
static void on_broken(void *ctx, const memphis_error *why)
{
    memphis_broker *b = ctx;
    memphis_fatal fatal = { .status = why->status, .text = why->message };

    pthread_mutex_lock(&b->lock);
    b->why = *why;
    atomic_store(&b->state, API_BROKEN);
    pthread_cond_broadcast(&b->finished);
    pthread_mutex_unlock(&b->lock);
    if (b->on_fatal != NULL)
        b->on_fatal(b->fatal_ctx, &fatal);
}

/* === A turn === */

struct turn {
    memphis_broker *b;
    uint64_t next_ns;
};

static void run_turn(void *ctx)
{
    struct turn *t = ctx;

    mp_broker_turn(t->b->core, &t->next_ns);
}

static void publish_stats(memphis_broker *b)
{
    const struct mp_broker *c = b->core;
    const struct mp_stream_counters *s = &c->streams.counters;
    memphis_stats *o = &b->stats;
    struct mp_dls_stats dls;

    o->stations = c->counters.stations;
    o->partitions = c->counters.partitions;
    o->sessions = b->sessions_up;
    o->messages_in = b->counters.messages_in;
    o->bytes_in = b->counters.bytes_in;
    o->messages_out = b->counters.messages_out;
    o->bytes_out = b->counters.bytes_out;
    o->stored = s->published;
    o->duplicates = s->duplicates;
    o->refused = s->refused;
    o->delivered = s->delivered;
    o->redelivered = s->redelivered;
    o->acked = s->acked;
    o->dead = s->dead + s->terminated;
    o->protocol_errors = b->counters.protocol_errors;
    o->auth_failures = b->counters.auth_failures;
    o->slow_consumers = b->counters.slow_consumers;
    o->turns = c->counters.turns;
    mp_dls_stats(c, &dls);
    o->dead_letters = dls.letters;
    o->dead_letters_bytes = dls.bytes;
    o->dead_letters_dropped = dls.forced;
    o->idle_removed = c->counters.idle_removed;
    o->message_ids_dropped = b->core->streams.ids.dropped;
    o->subject_index_bytes = b->core->streams.subjects_bytes;
    o->subject_indexes_dropped = b->core->streams.subjects_given_up;
}

/* What callers wait for is told once a turn, whatever many calls it finished. */
static void tell_callers(memphis_broker *b)
{
    uint32_t interrupts = atomic_load(&b->interrupts);

    pthread_mutex_lock(&b->lock);
    publish_stats(b);
    if (b->has_finished || interrupts != b->interrupts_seen) {
        pthread_cond_broadcast(&b->finished);
        b->finish_number++;
    }
    b->has_finished = false;
    b->interrupts_seen = interrupts;
    pthread_mutex_unlock(&b->lock);
}

bool api_turn(memphis_broker *b, uint64_t *next_ns)
{
    struct turn t = { b, UINT64_MAX };
    memphis_error why = { 0 };

    atomic_store(&b->sleeping, false);
    if (b->mode == MEMPHIS_MANUAL)
        drain_fd(b);
    b->is_stirred = false;
    b->in_turn = true;
    if (mp_guard_run(&b->heap, run_turn, &t, &why) != MEMPHIS_OK)
        mp_broker_break(b->core, &why);
    b->in_turn = false;
    tell_callers(b);
    if (b->mode == MEMPHIS_MANUAL) /* a core thread says so itself, after it has spun */
        atomic_store(&b->sleeping, true);
    if (b->is_stirred || mp_mailbox_has_mail(&b->core->mailbox))
        t.next_ns = 0;
    *next_ns = t.next_ns;
    return atomic_load(&b->state) == API_OPEN;
}

static uint64_t due_ns(const memphis_broker *b, uint64_t next_ns)
{
    return next_ns == UINT64_MAX ? UINT64_MAX : b->core->now_ns + next_ns;
}

void api_tell_loop(memphis_broker *b, uint64_t next_ns)
{
    if (due_ns(b, next_ns) < b->told_ns)
        api_stir(b);
}

memphis_status memphis_step(memphis_broker *b, uint64_t *next_ms)
{
    uint64_t next_ns;
    memphis_status st;

    if (b == NULL || b->mode != MEMPHIS_MANUAL)
        return MEMPHIS_MISUSE;
    st = api_may_wait(b, NULL);
    if (st != MEMPHIS_OK)
        return st;
    if (!api_turn(b, &next_ns))
        return MEMPHIS_BROKEN;
    b->told_ns = due_ns(b, next_ns);
    if (next_ms != NULL)
        *next_ms = next_ns == UINT64_MAX ? UINT64_MAX
                                         : next_ns / 1000000 + (next_ns % 1000000 != 0);
    return MEMPHIS_OK;
}

int memphis_wakeup_fd(const memphis_broker *b)
{
    return b != NULL && b->mode == MEMPHIS_MANUAL ? b->wake_fd : -1;
}

/* === The core thread === */

/* Looks for mail for a moment before it sleeps: two sleeps less for a lone producer. */
static bool spin(memphis_broker *b)
{
    struct timespec t;
    uint64_t end, now;

    if (b->spin_us == 0)
        return false;
    clock_gettime(CLOCK_MONOTONIC, &t);
    now = (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
    for (end = now + b->spin_us * 1000ull; now < end;) {
        for (int i = 0; i < 64; i++)
            if (mp_mailbox_has_mail(&b->core->mailbox))
                return true;
        clock_gettime(CLOCK_MONOTONIC, &t);
        now = (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
    }
    return false;
}

static void sleep_core(memphis_broker *b, uint64_t next_ns)
{
    struct pollfd p = { .fd = b->wake_fd, .events = POLLIN };
    struct timespec t = { .tv_sec = (time_t)(next_ns / 1000000000),
                          .tv_nsec = (long)(next_ns % 1000000000) };

    atomic_store(&b->sleeping, true);
    if (!mp_mailbox_has_mail(&b->core->mailbox) && !atomic_load(&b->stop))
        ppoll(&p, 1, next_ns == UINT64_MAX ? NULL : &t, NULL);
    drain_fd(b);
}

static void *core_main(void *ctx)
{
    memphis_broker *b = ctx;
    uint64_t next_ns;

    while (!atomic_load(&b->stop) && api_turn(b, &next_ns))
        if (next_ns > 0 && !spin(b))
            sleep_core(b, next_ns);
    while (!atomic_load(&b->stop)) /* BROKEN: parked until memphis_close */
        sleep_core(b, UINT64_MAX);
    return NULL;
}

static bool start_core(memphis_broker *b)
{
    pthread_attr_t attr;
    sigset_t all, before;
    bool ok;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, CORE_STACK);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* the host's signals are the host's */
    ok = pthread_create(&b->thread, &attr, core_main, b) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    return ok;
}

/* === Open === */

static const char *option_error(const memphis_options *o)
{
    if (!api_reserved_is_zero(o->reserved, 2) || o->reserved0 != 0)
        return "the reserved words of memphis_options must be zero";
    if (o->mode > MEMPHIS_MANUAL || o->sync > MEMPHIS_SYNC_NONE ||
        o->profile > MEMPHIS_PROFILE_BATTERY ||
        o->recovery > MEMPHIS_RECOVERY_ACCEPT_LOSS)
        return "mode, sync, profile or recovery has a value that does not exist";
    if (o->memory_max > 0 && o->memory_max < MP_MEMORY_MAX_FLOOR)
        return "memory_max must be at least 4 MiB";
    if (o->root_password != NULL &&
        (strlen(o->root_password) > MP_PASSWORD_MAX || o->root_password[0] == 0))
        return "the root password must have 1 to 72 bytes";
    if (o->connection_token != NULL && (strlen(o->connection_token) > MP_PASSWORD_MAX ||
                                        o->connection_token[0] == 0))
        return "the connection token must have 1 to 72 bytes";
    if (o->max_payload > MP_PAYLOAD_MAX_CEILING)
        return "max_payload can be at most 8 MiB";
    if (o->dls_retention_hours > MP_DLS_RETENTION_MAX_H)
        return "dls_retention_hours can be at most 30";
    if (o->gc_producer_consumer_retention_hours > MP_IDLE_RETENTION_MAX_H)
        return "gc_producer_consumer_retention_hours can be at most 168";
    if (o->data_dir != NULL && o->data_dir[0] == 0)
        return "data_dir is empty; use NULL for a broker in memory";
    return NULL;
}

bool api_reserved_is_zero(const uint64_t *words, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (words[i] != 0)
            return false;
    return true;
}

/* So that asking costs no system call. */
static volatile uint8_t *new_alive_page(void)
{
    uint8_t *p = mmap(NULL, ALIVE_SIZE, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        return NULL;
    if (madvise(p, ALIVE_SIZE, MADV_WIPEONFORK) != 0) {
        munmap(p, ALIVE_SIZE);
        return NULL;
    }
    *p = 1;
    return p;
}

static memphis_broker *handle_new(const memphis_options *o)
{
    struct mp_heap heap;
    struct mp_heap *before;
    memphis_broker *b;
    pthread_condattr_t attr;

    mp_heap_init(&heap, o->allocator);
    before = mp_heap_enter(&heap);
    b = heap.hooks.alloc(heap.hooks.ctx, sizeof(*b));
    mp_heap_enter(before);
    if (b == NULL)
        return NULL;
    memset(b, 0, sizeof(*b));
    mp_heap_init(&b->heap, o->allocator);
    mp_logger_init(&b->logger, o->log_level, o->log, o->log_ctx);
    b->mode = o->mode;
    b->call_wait_ms = o->call_wait_ms ? o->call_wait_ms : 30000;
    /* Who spins beside the core and its caller needs a CPU of its own: on two, a
     * spinning writer made a round trip longer (docs/performance.md). */
    b->spin_us =
        o->profile == MEMPHIS_PROFILE_BATTERY || sysconf(_SC_NPROCESSORS_ONLN) < 3
            ? 0
            : SPIN_US;
    b->on_fatal = o->on_fatal;
    b->fatal_ctx = o->fatal_ctx;
    b->alive = new_alive_page();
    b->pid = getpid();
    b->refs = 1;
    b->told_ns = UINT64_MAX;
    b->async_bytes_max = (o->memory_max ? o->memory_max : MP_MEMORY_MAX_DEFAULT) / 8;
    b->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    pthread_mutex_init(&b->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&b->finished, &attr);
    pthread_condattr_destroy(&attr);
    return b;
}

struct opening {
    memphis_broker *b;
    const memphis_options *o;
    struct mp_env *env; /* ours to close if this does not return */
    memphis_status status;
    memphis_error *err;
};

static void open_core(void *ctx)
{
    struct opening *g = ctx;
    memphis_broker *b = g->b;
    const memphis_options *o = g->o;
    bool threads = o->mode == MEMPHIS_THREADED || o->workers > 0;
    struct mp_broker_options c = {
        .heap = &b->heap,
        .logger = &b->logger,
        .data_dir = o->data_dir,
        .accept_loss = o->recovery == MEMPHIS_RECOVERY_ACCEPT_LOSS,
        .root_password = o->root_password,
        .connection_token = o->connection_token,
        .dls_retention_hours = o->dls_retention_hours,
        .dls_max_bytes = o->dls_max_bytes,
        .idle_retention_hours = o->gc_producer_consumer_retention_hours,
        .memory_max = o->memory_max,
        .disk_reserve = o->disk_reserve,
        .sync = o->sync,
        .sync_interval_ms = o->sync_interval_ms,
        .spin_us = b->spin_us,
        .wake = wake,
        .broken = on_broken,
        .user_changed = api_session_user_changed,
        .ctx = b,
    };

    g->status = o->data_dir != NULL
                    ? mp_env_posix_open(o->data_dir, threads, &b->heap, &c.env, g->err)
                    : mp_env_posix_diskless(threads, &b->heap, &c.env, g->err);
    if (g->status != MEMPHIS_OK)
        return;
    g->env = c.env;
    g->status = mp_broker_open(&c, &b->core, g->err);
    if (g->status != MEMPHIS_OK) {
        g->env = NULL; /* closed with the rest of it */
        return;
    }
    if (o->name != NULL)
        mp_format(b->core->name, sizeof(b->core->name), "%.63s", o->name);
    mp_list_init(&b->consumers);
    api_produces_init(b);
    api_sessions_init(b, o);
    mp_sdk_start(b->core);
    mp_jsapi_start(b->core);
    mp_admin_start(b->core);
}

static void describe_recovery(memphis_broker *b)
{
    const struct mp_recovery_report *r = &b->core->recovery;

    if (r->fresh)
        mp_format(b->recovery_text, sizeof(b->recovery_text), "new store");
    else
        mp_format(b->recovery_text, sizeof(b->recovery_text),
                  "recovered %" PRIu64 " message%s in %" PRIu64 " ms%s", r->messages,
                  r->messages == 1 ? "" : "s", r->milliseconds,
                  r->lost_ranges > 0  ? "; damage was accepted, see the log"
                  : r->torn_bytes > 0 ? "; an unfinished write was dropped"
                                      : "");
}

memphis_status memphis_open(const memphis_options *options, memphis_broker **out,
                            memphis_error *err)
{
    static const memphis_options defaults;
    const memphis_options *o = options != NULL ? options : &defaults;
    const char *wrong = option_error(o);
    memphis_broker *b;
    memphis_error why = { 0 }; /* steps that fail and are mended write here too */
    struct opening g = { .o = o, .err = &why };
    memphis_status st;

    if (out == NULL)
        return mp_fail(err, MEMPHIS_INVALID, "a broker needs an output");
    if (wrong != NULL)
        return mp_fail(err, MEMPHIS_INVALID, "%s", wrong);
    if (o->disk_max != 0)
        return mp_fail(err, MEMPHIS_UNSUPPORTED,
                       "a bound of the bytes on disk (disk_max) does not exist yet; "
                       "disk_reserve keeps some of the disk free");
    b = handle_new(o);
    if (b == NULL)
        return mp_fail(err, MEMPHIS_NOMEM, "no memory for a broker");
    g.b = b;
    st = b->wake_fd < 0 ? mp_fail(&why, MEMPHIS_IO, "no descriptor left for a broker")
                        : mp_guard_run(&b->heap, open_core, &g, &why);
    if (st == MEMPHIS_OK)
        st = g.status;
    else if (g.env != NULL) { /* half open: leaked, but for threads and directory */
        b->core = NULL;
        g.env->close(g.env);
    }
    if (st == MEMPHIS_OK)
        describe_recovery(b);
    /* Before the core thread exists: from then on the flag is its own. */
    atomic_store(&b->sleeping, o->mode == MEMPHIS_MANUAL);
    if (st == MEMPHIS_OK && o->mode == MEMPHIS_THREADED && !start_core(b))
        st = mp_fail(&why, MEMPHIS_NOMEM, "the core thread could not be started");
    if (st != MEMPHIS_OK) {
        if (err != NULL)
            *err = why;
        memphis_close(b);
        return st;
    }
    *out = b;
    return MEMPHIS_OK;
}

const char *memphis_recovery_text(const memphis_broker *b)
{
    return b->recovery_text;
}

/* === Close === */

memphis_broker *api_ref(memphis_broker *b)
{
    atomic_fetch_add(&b->refs, 1);
    return b;
}

void api_unref(memphis_broker *b)
{
    memphis_allocator hooks = b->heap.hooks;

    if (atomic_fetch_sub(&b->refs, 1) != 1)
        return;
    if (b->wake_fd >= 0)
        close(b->wake_fd);
    if (b->alive != NULL)
        munmap((void *)(uintptr_t)b->alive, ALIVE_SIZE);
    mp_logger_fini(&b->logger);
    pthread_mutex_destroy(&b->lock);
    pthread_cond_destroy(&b->finished);
    mp_free(b->session_host_name);
    hooks.free(hooks.ctx, b);
}

uint32_t api_default_wait(const memphis_broker *b)
{
    return b->call_wait_ms;
}

/* What was accepted comes to its end, however long the disk takes: nothing may be in
 * flight when the parts are taken down. Only what a full disk refuses again and again
 * is left undone. */
static void finish_work(memphis_broker *b)
{
    struct mp_broker *c = b->core;
    uint32_t tries = 0;

    while (!c->is_broken && !mp_broker_is_idle(c) &&
           (!mp_replica_is_idle(c->replica) || tries++ < FINISH_TRIES_MAX)) {
        uint64_t next_ns;

        c->streams.urgent = true; /* acknowledgements gather no longer */
        mp_broker_turn(c, &next_ns);
        if (next_ns > 0 && !mp_replica_is_idle(c->replica))
            sleep_core(b, next_ns);
        atomic_store(&b->sleeping, false);
    }
}

static void close_core(void *ctx)
{
    memphis_broker *b = ctx;

    mp_broker_enter(b->core);
    mp_mailbox_drain(&b->core->mailbox); /* posted before: acknowledgements count */
    if (b->core->is_broken)
        return;
    api_consumers_close(b);
    api_sessions_close(b);
    api_produces_let_in(b);
    finish_work(b);
    mp_admin_stop(b->core);
    mp_sdk_stop(b->core);
    mp_jsapi_stop(b->core);
    mp_broker_close(b->core);
    b->core = NULL;
}

static void abandon_core(void *ctx)
{
    memphis_broker *b = ctx;

    mp_broker_abandon(b->core);
}

void memphis_close(memphis_broker *b)
{
    memphis_error ignored = { 0 };
    bool threaded, broken;

    if (b == NULL)
        return;
    if (api_is_forked(b))
        return;
    threaded = b->mode == MEMPHIS_THREADED && b->thread != 0;
    if (threaded) {
        atomic_store(&b->stop, true);
        signal_fd(b);
        pthread_join(b->thread, NULL);
        atomic_store(&b->stop, false); /* this thread is the core now, and may sleep */
    }
    pthread_mutex_lock(&b->lock); /* from here on nobody posts mail */
    broken = atomic_exchange(&b->state, API_CLOSED) == API_BROKEN;
    pthread_mutex_unlock(&b->lock);
    /* What a broken core leaves behind is leaked, not touched (design D13): only the
     * workers end and the directory is unlocked. */
    if (b->core != NULL && !broken)
        (void)mp_guard_run(&b->heap, close_core, b, &ignored);
    if (b->core != NULL)
        (void)mp_guard_run(&b->heap, abandon_core, b, &ignored);
    b->core = NULL;
    pthread_mutex_lock(&b->lock);
    pthread_cond_broadcast(&b->finished);
    pthread_mutex_unlock(&b->lock);
    api_unref(b);
}

void memphis_stats_read(const memphis_broker *b, memphis_stats *out)
{
    memphis_broker *w = (memphis_broker *)(uintptr_t)b;

    if (api_is_forked(b)) { /* the lock may be held by a thread of the parent */
        memset(out, 0, sizeof(*out));
        return;
    }
    pthread_mutex_lock(&w->lock);
    *out = w->stats;
    pthread_mutex_unlock(&w->lock);
    out->memory_bytes = atomic_load(&w->heap.used_bytes);
    out->memory_blocks = atomic_load(&w->heap.live_blocks);
}
