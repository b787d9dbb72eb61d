/* base/mailbox.h -- the only way between threads: mail for the core.
 *
 * Mail is a node inside the sender's own object (a job, a call), so posting never
 * allocates and never fails; what bounds it is the number of such objects. `wake` is
 * called when the box turns from empty to not empty, by the posting thread.
 *
 *   worker:  mp_mailbox_post(&box, &job->mail)        core: mp_mailbox_drain(&box)
 *
 * Thread: post from any, drain on the core.
 */
#ifndef MP_BASE_MAILBOX_H
#define MP_BASE_MAILBOX_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct mp_mail {
    struct mp_mail *next;
    void (*deliver)(struct mp_mail *m); /* on the core; may free its object */
};

struct mp_mailbox {
    pthread_mutex_t lock;
    struct mp_mail *first, **last;
    _Atomic bool has_mail;              /* a spinning core looks without the lock */
    void (*wake)(void *ctx);            /* any thread; must not block */
    void *ctx;
};

void mp_mailbox_init(struct mp_mailbox *b, void (*wake)(void *ctx), void *ctx);
void mp_mailbox_fini(struct mp_mailbox *b);
void mp_mailbox_post(struct mp_mailbox *b, struct mp_mail *m);
bool mp_mailbox_has_mail(struct mp_mailbox *b);
/* Delivers, in order, what was there at the call; returns how many. */
uint32_t mp_mailbox_drain(struct mp_mailbox *b);

#endif
