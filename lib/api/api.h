/* api/api.h -- what the public functions share: the handle of a broker, and calls that
 * cross to the core.
 *
 *   THREADED   caller: api_run ── mail ──▶ core thread: call->run ... api_finish
 *              waits ◀──────────── one broadcast at the end of the turn ────┘
 *   MANUAL     caller: api_run: mail, then call->run at once, then turns until it is
 *              finished
 *
 * A call lives on the heap and belongs to both sides: a caller whose deadline passes
 * walks away, the core lets go when it is done. Arguments that are borrowed are used up
 * in `run`, and the caller never leaves before that.
 *
 * Everything on the core runs under a guard; what it catches makes the broker BROKEN.
 * Thread: any (posts to core).
 */
#ifndef MP_API_API_H
#define MP_API_API_H

#include "base/limits.h"
#include "broker/broker.h"
#include "proto/session.h"

#include <memphis/memphis.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

enum { API_OPEN, API_BROKEN, API_CLOSED };

struct memphis_broker {
    struct mp_heap heap;
    struct mp_logger logger;
    struct mp_broker *core; /* NULL when closed */
    _Atomic int state;      /* API_* */
    _Atomic uint32_t refs;  /* the owner's and one per handle */
    memphis_error why;      /* BROKEN: set before the state */
    uint32_t mode, call_wait_ms, spin_us;
    /* a forked child may not use it: */
    volatile uint8_t *alive; /* a page that it finds wiped; NULL: this kernel cannot */
    pid_t pid;
    pthread_t thread; /* THREADED: the core; MANUAL: whose loop it is */
    bool thread_known;
    bool in_turn;    /* core: and what calls then is a callback of a pipe */
    bool is_stirred; /* core: such a call brought work */
    _Atomic bool stop;
    /* waking the core */
    int wake_fd;
    _Atomic bool sleeping;
    uint64_t told_ns; /* MANUAL: until when the loop sleeps, as memphis_step said */
    _Atomic uint32_t interrupts; /* asked for, by memphis_interrupt */
    /* waiting callers */
    pthread_mutex_t lock;
    pthread_cond_t finished;
    uint64_t finish_number; /* of broadcasts */
    uint32_t interrupts_seen;
    bool has_finished;        /* core: broadcast at the end of the turn */
    struct mp_list consumers; /* in-process ones that joined the bus */
    /* sessions */
    struct mp_list sessions;
    uint32_t sessions_count, sessions_up; /* all; those that are logged in */
    uint64_t sessions_held;               /* bytes that came from the others */
    /* By websocket and tls of a session's options: they differ in what INFO says. */
    struct mp_session_host hosts[2][2];
    struct mp_server_info infos[2][2];
    struct mp_session_counters counters;
    char *session_host_name;
    _Atomic uint64_t inbox_number;
    struct mp_source produces; /* core: those that wait for room in the log */
    struct api_held *held, **held_last;
    uint64_t held_bytes; /* copied from callers of memphis_produce */
    _Atomic uint64_t async_bytes; /* of asynchronous messages not called back yet */
    uint64_t async_bytes_max;
    memphis_stats stats; /* under lock: as of the last turn */
    void (*on_fatal)(void *ctx, const memphis_fatal *why);
    void *fatal_ctx;
    char recovery_text[160];
};

struct api_call {
    struct mp_mail mail; /* first */
    memphis_broker *b;
    void (*run)(
        struct api_call *c); /* on the core; ends, now or later, in api_finish */
    void (*fini)(struct api_call *c); /* NULL-able: before the memory goes */
    _Atomic uint32_t refs;
    bool is_accepted;  /* posted: its caller heard OK, so a close runs it too */
    _Atomic bool ran;  /* borrowed arguments are used up: the caller may leave */
    _Atomic bool done; /* status and error stand */
    memphis_status status;
    memphis_error error;
};

/* Before it: api_usable, as a forked child touches no allocator.
 * A call of `size` zeroed bytes whose first member is a struct api_call, and `more`
 * that are not, behind them. NULL: no memory. */
void *api_call_new_with(memphis_broker *b, size_t size, size_t more,
                        void (*run)(struct api_call *c));
void *api_call_new(memphis_broker *b, size_t size, void (*run)(struct api_call *c));
void api_call_unref(struct api_call *c);
/* Runs it and waits; OK or the call's failure, TIMEOUT, CANCELED, BROKEN, CLOSED,
 * MISUSE. The caller's reference stays his. `wait_ms` UINT32_MAX: for ever. */
memphis_status api_run(struct api_call *c, uint32_t wait_ms, memphis_error *err);
void api_finish(struct api_call *c, memphis_status st, const char *text);
/* Same without waiting: post and forget. OK: it will run, by a close at the latest. */
memphis_status api_post(struct api_call *c, memphis_error *err);

/* THREADED: turns that finished calls are numbered; waits for the one behind `number`,
 * at most wait_ms. Take the number before you look at what you wait for. */
uint64_t api_finish_number(memphis_broker *b);
void api_wait_finish(memphis_broker *b, uint64_t number, uint64_t wait_ms);

memphis_status api_usable(memphis_broker *b, memphis_error *err);
/* Likewise, and MISUSE inside a callback of the core, where nothing can be waited for.
 */
memphis_status api_may_wait(memphis_broker *b, memphis_error *err);
/* Whether the caller is such a callback. */
bool api_is_inside(const memphis_broker *b);
/* Whether this process is a child of the one that opened it: it touches nothing. */
bool api_is_forked(const memphis_broker *b);
memphis_broker *api_ref(memphis_broker *b);
void api_unref(memphis_broker *b);
uint32_t api_default_wait(const memphis_broker *b);
bool api_reserved_is_zero(const uint64_t *words, size_t n);
uint64_t api_boot_ms(void);

/* One turn under the guard. False: broken. */
bool api_turn(memphis_broker *b, uint64_t *next_ns);
/* MANUAL, or inside: a call that is no mail brought work for the next turn. */
void api_stir(memphis_broker *b);
/* MANUAL: a call that waits took turns of its own, and of the last one the loop does
 * not know *next_ns: it is woken when something is due earlier than it was told. */
void api_tell_loop(memphis_broker *b, uint64_t next_ns);
/* MANUAL: sleeps until something is due, at most `wait_ms`. */
void api_idle(memphis_broker *b, uint64_t next_ns, uint64_t wait_ms);

void api_produces_init(memphis_broker *b);
void api_produces_let_in(memphis_broker *b); /* full or not: what comes
                                              * now was called later */
void api_sessions_init(memphis_broker *b, const memphis_options *o);
void api_sessions_close(memphis_broker *b);
/* Of struct mp_broker: who may less, or is gone. */
void api_session_user_changed(void *ctx, const char *name,
                              const struct mp_user_row *row);
void api_consumers_close(memphis_broker *b);

#endif
