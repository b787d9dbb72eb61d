#include "bus/interest.h"

#include "base/assert.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/str.h"

struct mp_interest_node {
    struct mp_interest_node *parent;
    struct mp_interest_node *star, *tail; /* "*" and ">" */
    struct mp_map literals;               /* token -> node */
    void **entries;
    uint32_t entries_count, entries_capacity;
    uint32_t token_size;
    char token[];
};

static struct mp_interest_node *
node_new(struct mp_interest *t, struct mp_interest_node *parent, memphis_slice token)
{
    struct mp_interest_node *n = mp_alloc(sizeof(*n) + token.size);

    n->parent = parent;
    n->token_size = (uint32_t)token.size;
    if (token.size > 0)
        memcpy(n->token, token.data, token.size);
    mp_map_seed(&n->literals, t->key[0], t->key[1]);
    return n;
}

static bool is_wildcard(memphis_slice token, char c)
{
    return token.size == 1 && *(const char *)token.data == c;
}

/* The branch of `n` for a token of a pattern: where its pointer lives, or NULL for a
 * literal, which lives in the map. */
static struct mp_interest_node **wildcard_of(struct mp_interest_node *n,
                                             memphis_slice token)
{
    if (is_wildcard(token, '*'))
        return &n->star;
    return is_wildcard(token, '>') ? &n->tail : NULL;
}

static struct mp_interest_node *branch(struct mp_interest *t,
                                       struct mp_interest_node *n, memphis_slice token)
{
    struct mp_interest_node **wild = wildcard_of(n, token);
    struct mp_interest_node *child =
        wild != NULL ? *wild : mp_map_find(&n->literals, token);

    if (child != NULL)
        return child;
    child = node_new(t, n, token);
    if (wild != NULL)
        *wild = child;
    else
        mp_map_put(&n->literals, mp_slice(child->token, child->token_size), child);
    return child;
}

static bool is_bare(const struct mp_interest_node *n)
{
    return n->entries_count == 0 && n->star == NULL && n->tail == NULL &&
           n->literals.count == 0;
}

static void node_free(struct mp_interest_node *n)
{
    mp_map_fini(&n->literals);
    mp_free(n->entries);
    mp_free(n);
}

/* A bare node leaves its parent, which may be bare then. */
static void prune(struct mp_interest_node *n)
{
    while (n->parent != NULL && is_bare(n)) {
        struct mp_interest_node *parent = n->parent;
        memphis_slice token = mp_slice(n->token, n->token_size);
        struct mp_interest_node **wild = wildcard_of(parent, token);

        if (wild != NULL)
            *wild = NULL;
        else
            mp_map_remove(&parent->literals, token);
        node_free(n);
        n = parent;
    }
}

void mp_interest_init(struct mp_interest *t, uint64_t k0, uint64_t k1)
{
    t->key[0] = k0;
    t->key[1] = k1;
    t->root = node_new(t, NULL, mp_slice(NULL, 0));
}

/* Every subscription was removed before: only the root is left. */
void mp_interest_fini(struct mp_interest *t)
{
    mp_assert(is_bare(t->root));
    node_free(t->root);
    t->root = NULL;
}

struct mp_interest_node *mp_interest_add(struct mp_interest *t, memphis_slice pattern,
                                         void *entry)
{
    struct mp_interest_node *n = t->root;

    mp_assert(pattern.size > 0);
    while (pattern.size > 0)
        n = branch(t, n, mp_slice_split(&pattern, '.'));
    if (n->entries_count == n->entries_capacity) {
        n->entries_capacity = n->entries_capacity ? n->entries_capacity * 2 : 1;
        n->entries = mp_realloc(n->entries, n->entries_capacity * sizeof(void *));
    }
    n->entries[n->entries_count++] = entry;
    return n;
}

void mp_interest_remove(struct mp_interest *t, struct mp_interest_node *n, void *entry)
{
    uint32_t i = 0;

    (void)t;
    while (i < n->entries_count && n->entries[i] != entry)
        i++;
    mp_assert(i < n->entries_count);
    n->entries_count--;
    memmove(&n->entries[i], &n->entries[i + 1],
            (n->entries_count - i) * sizeof(void *));
    prune(n);
}

static void take_entries(const struct mp_interest_node *n, struct mp_matches *out)
{
    for (uint32_t i = 0; n != NULL && i < n->entries_count; i++)
        mp_matches_add(out, n->entries[i]);
}

/* Depth is that of the tree: at most MP_SUBJECT_TOKENS_MAX levels, as patterns have. */
static void match(const struct mp_interest_node *n, memphis_slice rest, bool ended,
                  struct mp_matches *out)
{
    memphis_slice token;
    const char *dot;

    if (n == NULL)
        return;
    if (ended) {
        take_entries(n, out);
        return;
    }
    dot = rest.size > 0 ? memchr(rest.data, '.', rest.size) : NULL;
    token = mp_slice(rest.data,
                     dot != NULL ? (size_t)(dot - (const char *)rest.data) : rest.size);
    rest = mp_slice(dot != NULL ? dot + 1 : NULL,
                    dot != NULL ? rest.size - token.size - 1 : 0);
    take_entries(n->tail, out);
    match(n->star, rest, dot == NULL, out);
    if (n->literals.count > 0)
        match(mp_map_find(&n->literals, token), rest, dot == NULL, out);
}

/* Eight bytes at a time, because each ack and each answer comes through here. Words
 * overlap by one byte, so that no pair is cut. */
static bool has_two_dots(const char *p, size_t size)
{
    const uint64_t dots = 0x2e2e2e2e2e2e2e2e, low = 0x7f7f7f7f7f7f7f7f;
    size_t i = 0;

    for (; i + 8 <= size; i += 7) {
        uint64_t zero_at_dots = mp_get_u64(p + i) ^ dots;
        uint64_t found = ~(((zero_at_dots & low) + low) | zero_at_dots | low);
        if ((found & found >> 8) != 0)
            return true;
    }
    for (; i + 1 < size; i++)
        if (p[i] == '.' && p[i + 1] == '.')
            return true;
    return false;
}

/* Clients publish any text. One with an empty token is nobody's subject, also not that
 * of ">", which the walk cannot know when it takes a tail. */
static bool has_empty_token(memphis_slice s)
{
    const char *p = s.data;

    return s.size == 0 || p[0] == '.' || p[s.size - 1] == '.' ||
           has_two_dots(p, s.size);
}

void mp_interest_match(const struct mp_interest *t, memphis_slice subject,
                       struct mp_matches *out)
{
    size_t before = out->count;

    match(t->root, subject, false, out);
    if (out->count > before && has_empty_token(subject))
        out->count = before;
}

void mp_matches_add(struct mp_matches *m, void *item)
{
    if (m->count == m->capacity) {
        m->capacity = m->capacity ? m->capacity * 2 : 4;
        m->items = mp_realloc(m->items, m->capacity * sizeof(void *));
    }
    m->items[m->count++] = item;
}

void mp_matches_fini(struct mp_matches *m)
{
    mp_free(m->items);
    *m = (struct mp_matches){ 0 };
}
