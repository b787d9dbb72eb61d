/* base/list.h -- intrusive doubly linked list. Thread: any (pure).
 *
 * A head is a node that points to itself. A node that is in no list is zero or points
 * to itself; mp_list_remove leaves it so. */
#ifndef MP_BASE_LIST_H
#define MP_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct mp_list {
    struct mp_list *next, *prev;
};

#define mp_container_of(p, type, member) \
    ((type *)(void *)((char *)(p) - offsetof(type, member)))

static inline void mp_list_init(struct mp_list *l)
{
    l->next = l->prev = l;
}

static inline bool mp_list_is_empty(const struct mp_list *l)
{
    return l->next == l || l->next == NULL;
}

static inline bool mp_list_is_linked(const struct mp_list *n)
{
    return n->next != NULL && n->next != n;
}

static inline void mp_list_push_back(struct mp_list *head, struct mp_list *n)
{
    n->prev = head->prev;
    n->next = head;
    head->prev->next = n;
    head->prev = n;
}

static inline void mp_list_push_front(struct mp_list *head, struct mp_list *n)
{
    mp_list_push_back(head->next, n);
}

static inline void mp_list_remove(struct mp_list *n)
{
    if (!mp_list_is_linked(n))
        return;
    n->prev->next = n->next;
    n->next->prev = n->prev;
    mp_list_init(n);
}

/* First node, removed; NULL when empty. */
static inline struct mp_list *mp_list_pop_front(struct mp_list *head)
{
    struct mp_list *n = head->next;

    if (mp_list_is_empty(head))
        return NULL;
    mp_list_remove(n);
    return n;
}

#endif
