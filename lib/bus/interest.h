/* bus/interest.h -- who wants this subject: a tree of tokens.
 *
 *   root --"orders$1"--> node --"final"--> node [subscription]
 *                          \--">"--------> node [service]
 *      \----"*"--> ...
 *
 * Each level is a token: a map of literals and two wildcard branches. Nodes without
 * entries and branches go away. Entries are opaque pointers; a node keeps them in the
 * order of their coming. Thread: core (pure).
 */
#ifndef MP_BUS_INTEREST_H
#define MP_BUS_INTEREST_H

#include "base/map.h"

struct mp_interest_node;

struct mp_interest {
    struct mp_interest_node *root;
    uint64_t key[2];
};

/* What matched; grows, keeps its memory. Zero-initialise. */
struct mp_matches {
    void **items;
    size_t count, capacity;
};

void mp_interest_init(struct mp_interest *t, uint64_t k0, uint64_t k1);
void mp_interest_fini(struct mp_interest *t);
/* `pattern` is valid (bus/subject.h). The node is for remove. */
struct mp_interest_node *mp_interest_add(struct mp_interest *t, memphis_slice pattern,
                                         void *entry);
void mp_interest_remove(struct mp_interest *t, struct mp_interest_node *n, void *entry);
/* Adds the entries that match to *out. `subject` is taken literally. */
void mp_interest_match(const struct mp_interest *t, memphis_slice subject,
                       struct mp_matches *out);
void mp_matches_add(struct mp_matches *m, void *item);
void mp_matches_fini(struct mp_matches *m);

#endif
