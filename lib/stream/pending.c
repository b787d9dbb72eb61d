#include "stream/pending.h"

#include "base/assert.h"
#include "base/mem.h"

#include <string.h>

enum { PAGE_ITEMS = 128 };

struct mp_pending_page {
    uint32_t used;
    struct mp_pending_item items[PAGE_ITEMS];
};

/* === The page directory: a ring over page numbers === */

static struct mp_pending_page **slot_of(const struct mp_pending *p, uint64_t page)
{
    return &p->pages[page & (p->pages_capacity - 1)];
}

static bool covers(const struct mp_pending *p, uint64_t page)
{
    return page >= p->first_page && page < p->first_page + p->pages_count;
}

static void grow_directory(struct mp_pending *p, uint64_t span)
{
    uint32_t capacity = p->pages_capacity ? p->pages_capacity : 8;
    struct mp_pending_page **pages;

    if (span <= p->pages_capacity)
        return;
    while (capacity < span)
        capacity *= 2;
    pages = mp_alloc(capacity * sizeof(*pages));
    for (uint32_t i = 0; i < p->pages_count; i++) {
        uint64_t page = p->first_page + i;

        pages[page & (capacity - 1)] = *slot_of(p, page);
    }
    mp_free(p->pages);
    p->pages = pages;
    p->pages_capacity = capacity;
}

/* Widens the directory so that it covers `page`. */
static void cover(struct mp_pending *p, uint64_t page)
{
    if (p->pages_count == 0)
        p->first_page = page;
    if (page < p->first_page) {
        uint64_t end = p->first_page + p->pages_count;

        grow_directory(p, end - page);
        while (p->first_page > page) {
            p->first_page--;
            p->pages_count++;
            *slot_of(p, p->first_page) = NULL;
        }
    } else if (!covers(p, page)) {
        grow_directory(p, page - p->first_page + 1);
        while (!covers(p, page)) {
            *slot_of(p, p->first_page + p->pages_count) = NULL;
            p->pages_count++;
        }
    }
}

static struct mp_pending_page *page_take(struct mp_pending *p, uint64_t number)
{
    struct mp_pending_page **slot;

    cover(p, number);
    mp_assert((uint64_t)p->pages_count * PAGE_ITEMS <= MP_PENDING_WINDOW_MAX);
    slot = slot_of(p, number);
    if (*slot == NULL) {
        *slot = p->spare ? p->spare : mp_alloc(sizeof(**slot));
        p->spare = NULL;
    }
    return *slot;
}

/* A page without items leaves; empty slots at both ends leave the directory. */
static void page_give_back(struct mp_pending *p, uint64_t number)
{
    struct mp_pending_page **slot = slot_of(p, number);

    mp_assert((*slot)->used == 0);
    if (p->spare == NULL)
        p->spare = *slot;
    else
        mp_free(*slot);
    *slot = NULL;
    while (p->pages_count > 0 && *slot_of(p, p->first_page) == NULL) {
        p->first_page++;
        p->pages_count--;
    }
    while (p->pages_count > 0 &&
           *slot_of(p, p->first_page + p->pages_count - 1) == NULL)
        p->pages_count--;
}

/* === Lists === */

/* The full sequence from its low bits: no item is below the first page. */
static uint64_t widen(const struct mp_pending *p, uint32_t bits)
{
    uint64_t low = p->first_page * PAGE_ITEMS;

    return low + (uint32_t)(bits - (uint32_t)low);
}

static struct mp_pending_item *item_of(const struct mp_pending *p, uint32_t bits)
{
    struct mp_pending_item *i = mp_pending_find(p, widen(p, bits));

    mp_assert(i != NULL);
    return i;
}

static void link_last(struct mp_pending *p, struct mp_pending_list *l, uint64_t seq,
                      struct mp_pending_item *i)
{
    i->prev = i->next = (uint32_t)seq;
    if (l->count > 0) {
        item_of(p, l->last)->next = (uint32_t)seq;
        i->prev = l->last;
    } else {
        l->first = (uint32_t)seq;
    }
    l->last = (uint32_t)seq;
    l->count++;
}

static void unlink_item(struct mp_pending *p, struct mp_pending_list *l, uint64_t seq,
                        struct mp_pending_item *i)
{
    mp_assert(l->count > 0);
    l->count--;
    if (l->count == 0)
        return;
    if (l->first == (uint32_t)seq)
        l->first = i->next;
    else
        item_of(p, i->prev)->next = i->next;
    if (l->last == (uint32_t)seq) {
        l->last = i->prev;
        item_of(p, i->prev)->next = i->prev; /* the last one points to itself */
    } else {
        item_of(p, i->next)->prev = i->prev;
    }
}

/* === The heap of due times === */

static bool due_before(const struct mp_pending_due *a, const struct mp_pending_due *b)
{
    return a->time_ns != b->time_ns ? a->time_ns < b->time_ns : a->seq < b->seq;
}

static void sift_up(struct mp_pending *p, size_t at, struct mp_pending_due due)
{
    while (at > 0 && due_before(&due, &p->heap[(at - 1) / 2])) {
        p->heap[at] = p->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    p->heap[at] = due;
}

static void heap_pop(struct mp_pending *p)
{
    struct mp_pending_due last = p->heap[--p->heap_count];
    size_t at = 0;

    for (;;) {
        size_t child = 2 * at + 1;

        if (child >= p->heap_count)
            break;
        if (child + 1 < p->heap_count &&
            due_before(&p->heap[child + 1], &p->heap[child]))
            child++;
        if (!due_before(&p->heap[child], &last))
            break;
        p->heap[at] = p->heap[child];
        at = child;
    }
    if (p->heap_count > 0)
        p->heap[at] = last;
}

static bool due_is_live(const struct mp_pending *p, const struct mp_pending_due *d)
{
    const struct mp_pending_item *i = mp_pending_find(p, d->seq);

    return i != NULL && i->state == MP_PENDING_DELAYED && i->time_ns == d->time_ns;
}

/* Stale ones leave before the heap grows: a message may change its delay for ever. */
static void heap_make_room(struct mp_pending *p)
{
    size_t live = 0;

    for (size_t i = 0; i < p->heap_count; i++)
        if (due_is_live(p, &p->heap[i]))
            sift_up(p, live++, p->heap[i]);
    p->heap_count = live;
    if (live <= p->heap_capacity / 2 && p->heap_capacity > 0)
        return;
    p->heap_capacity = p->heap_capacity ? p->heap_capacity * 2 : 16;
    p->heap = mp_realloc(p->heap, p->heap_capacity * sizeof(*p->heap));
}

static void heap_push(struct mp_pending *p, struct mp_pending_due due)
{
    if (p->heap_count == p->heap_capacity)
        heap_make_room(p);
    sift_up(p, p->heap_count++, due);
}

static void enter(struct mp_pending *p, uint64_t seq, struct mp_pending_item *i,
                  enum mp_pending_state state, uint64_t time_ns)
{
    mp_assert(state != MP_PENDING_NONE);
    i->state = (uint8_t)state;
    i->time_ns = time_ns;
    link_last(p, &p->lists[state], seq, i);
    if (state == MP_PENDING_DELAYED)
        heap_push(p, (struct mp_pending_due){ time_ns, seq });
}

/* === Public === */

void mp_pending_init(struct mp_pending *p)
{
    memset(p, 0, sizeof(*p));
}

void mp_pending_fini(struct mp_pending *p)
{
    for (uint32_t i = 0; i < p->pages_count; i++)
        mp_free(*slot_of(p, p->first_page + i));
    mp_free(p->pages);
    mp_free(p->spare);
    mp_free(p->heap);
    memset(p, 0, sizeof(*p));
}

struct mp_pending_item *mp_pending_find(const struct mp_pending *p, uint64_t seq)
{
    uint64_t number = seq / PAGE_ITEMS;
    struct mp_pending_page *page;

    if (!covers(p, number))
        return NULL;
    page = *slot_of(p, number);
    if (page == NULL || page->items[seq % PAGE_ITEMS].state == MP_PENDING_NONE)
        return NULL;
    return &page->items[seq % PAGE_ITEMS];
}

struct mp_pending_item *mp_pending_add(struct mp_pending *p, uint64_t seq,
                                       enum mp_pending_state state, uint64_t time_ns)
{
    struct mp_pending_page *page;
    struct mp_pending_item *i;

    mp_assert(mp_pending_find(p, seq) == NULL);
    page = page_take(p, seq / PAGE_ITEMS);
    i = &page->items[seq % PAGE_ITEMS];
    memset(i, 0, sizeof(*i));
    page->used++;
    p->count++;
    enter(p, seq, i, state, time_ns);
    return i;
}

void mp_pending_move(struct mp_pending *p, uint64_t seq, struct mp_pending_item *i,
                     enum mp_pending_state to, uint64_t time_ns)
{
    mp_assert(i->state != MP_PENDING_NONE);
    if (to == MP_PENDING_DELAYED && i->state == to && i->time_ns == time_ns)
        return; /* its place in the heap is still right */
    unlink_item(p, &p->lists[i->state], seq, i);
    enter(p, seq, i, to, time_ns);
}

void mp_pending_remove(struct mp_pending *p, uint64_t seq)
{
    struct mp_pending_page *page;
    struct mp_pending_item *i = mp_pending_find(p, seq);

    mp_assert(i != NULL);
    page = *slot_of(p, seq / PAGE_ITEMS);
    unlink_item(p, &p->lists[i->state], seq, i);
    i->state = MP_PENDING_NONE;
    mp_assert(page->used > 0);
    page->used--;
    p->count--;
    if (page->used == 0)
        page_give_back(p, seq / PAGE_ITEMS);
    if (p->count == 0)
        p->heap_count = 0;
}

bool mp_pending_first(const struct mp_pending *p, enum mp_pending_state s,
                      uint64_t *seq)
{
    if (p->lists[s].count == 0)
        return false;
    *seq = widen(p, p->lists[s].first);
    return true;
}

bool mp_pending_after(const struct mp_pending *p, const struct mp_pending_item *i,
                      uint64_t *seq)
{
    uint64_t next = widen(p, i->next);

    if (mp_pending_find(p, next) == i)
        return false; /* the last one points to itself */
    *seq = next;
    return true;
}

bool mp_pending_due(struct mp_pending *p, uint64_t *seq, uint64_t *time_ns)
{
    while (p->heap_count > 0 && !due_is_live(p, &p->heap[0]))
        heap_pop(p);
    if (p->heap_count == 0)
        return false;
    *seq = p->heap[0].seq;
    *time_ns = p->heap[0].time_ns;
    return true;
}

bool mp_pending_lowest(const struct mp_pending *p, uint64_t from, uint64_t *seq)
{
    uint64_t end = p->first_page + p->pages_count;
    uint64_t number = from / PAGE_ITEMS;

    if (p->count == 0)
        return false;
    if (number < p->first_page) {
        number = p->first_page;
        from = number * PAGE_ITEMS;
    }
    for (; number < end; number++, from = number * PAGE_ITEMS) {
        const struct mp_pending_page *page = *slot_of(p, number);

        for (uint64_t s = from; page && s / PAGE_ITEMS == number; s++)
            if (page->items[s % PAGE_ITEMS].state != MP_PENDING_NONE) {
                *seq = s;
                return true;
            }
    }
    return false;
}

void mp_pending_check(const struct mp_pending *p)
{
    uint64_t listed = 0, used = 0;

    for (int s = MP_PENDING_WAITING; s < MP_PENDING_STATES; s++) {
        uint64_t seq = 0, steps = 0, before = 0;
        bool more = mp_pending_first(p, (enum mp_pending_state)s, &seq);

        while (more) {
            const struct mp_pending_item *i = mp_pending_find(p, seq);

            mp_assert(i != NULL && i->state == s);
            mp_assert(s != MP_PENDING_WAITING || i->time_ns >= before);
            before = i->time_ns;
            steps++;
            more = mp_pending_after(p, i, &seq);
        }
        mp_assert(steps == p->lists[s].count);
        listed += steps;
    }
    for (uint32_t i = 0; i < p->pages_count; i++) {
        const struct mp_pending_page *page = *slot_of(p, p->first_page + i);

        used += page ? page->used : 0;
    }
    mp_assert(listed == p->count && used == p->count);
}
