#include "base/mailbox.h"

#include "base/assert.h"

#include <stddef.h>

void mp_mailbox_init(struct mp_mailbox *b, void (*wake)(void *ctx), void *ctx)
{
    mp_assert(pthread_mutex_init(&b->lock, NULL) == 0);
    b->first = NULL;
    b->last = &b->first;
    atomic_init(&b->has_mail, false);
    b->wake = wake;
    b->ctx = ctx;
}

void mp_mailbox_fini(struct mp_mailbox *b)
{
    mp_assert(pthread_mutex_destroy(&b->lock) == 0);
}

void mp_mailbox_post(struct mp_mailbox *b, struct mp_mail *m)
{
    m->next = NULL;
    pthread_mutex_lock(&b->lock);
    bool was_empty = b->first == NULL;
    *b->last = m;
    b->last = &m->next;
    if (was_empty)
        atomic_store_explicit(&b->has_mail, true, memory_order_release);
    pthread_mutex_unlock(&b->lock);
    if (was_empty && b->wake != NULL)
        b->wake(b->ctx); /* after the lock: the core may look at once */
}

bool mp_mailbox_has_mail(struct mp_mailbox *b)
{
    return atomic_load_explicit(&b->has_mail, memory_order_acquire);
}

uint32_t mp_mailbox_drain(struct mp_mailbox *b)
{
    uint32_t delivered = 0;

    if (!mp_mailbox_has_mail(b))
        return 0;
    pthread_mutex_lock(&b->lock);
    struct mp_mail *m = b->first;
    b->first = NULL;
    b->last = &b->first;
    atomic_store_explicit(&b->has_mail, false, memory_order_relaxed);
    pthread_mutex_unlock(&b->lock);
    while (m != NULL) {
        struct mp_mail *next = m->next; /* m may be gone, or posted again, after this */
        m->deliver(m);
        m = next;
        delivered++;
    }
    return delivered;
}
