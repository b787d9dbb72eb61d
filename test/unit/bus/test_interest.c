#include "support/test.h"

#include "base/str.h"
#include "bus/interest.h"
#include "bus/subject.h"

#include <stdio.h>
#include <stdlib.h>

enum { PATTERNS_MAX = 64, STEPS = 4000, SEEDS = 20 };

struct entry {
    char pattern[32];
    struct mp_interest_node *node;
    bool is_in;
    uint32_t found;
};

static uint32_t next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33);
}

/* Few letters and few tokens, so that subjects meet often. */
static void random_subject(uint64_t *seed, bool wildcards, char out[32])
{
    static const char *const tokens[] = { "a", "b", "cc", "a>", "*" };
    uint32_t count = 1 + next_random(seed) % 4;
    size_t size = 0;

    for (uint32_t i = 0; i < count; i++) {
        const char *token = tokens[next_random(seed) % (wildcards ? 5 : 4)];
        if (wildcards && i + 1 == count && next_random(seed) % 4 == 0)
            token = ">";
        size += mp_format(out + size, 32 - size, "%s%s", i > 0 ? "." : "", token);
    }
}

/* The definition, written with loops over characters only: it shares no code with the
 * tree nor with bus/subject.c. */
static bool naive_match(const char *pattern, const char *subject)
{
    for (;;) {
        size_t p = strcspn(pattern, "."), s = strcspn(subject, ".");
        if (p == 1 && pattern[0] == '>' && pattern[1] == 0)
            return true;
        if (!(p == 1 && pattern[0] == '*') &&
            (p != s || memcmp(pattern, subject, p) != 0))
            return false;
        if (pattern[p] == 0 || subject[s] == 0)
            return pattern[p] == subject[s];
        pattern += p + 1;
        subject += s + 1;
    }
}

static void check_subject(const struct mp_interest *t, struct entry *entries,
                          struct mp_matches *found, const char *subject)
{
    found->count = 0;
    mp_interest_match(t, mp_slice_text(subject), found);
    for (size_t i = 0; i < found->count; i++)
        ((struct entry *)found->items[i])->found++;
    for (size_t i = 0; i < PATTERNS_MAX; i++) {
        uint32_t expected =
            entries[i].is_in && naive_match(entries[i].pattern, subject) ? 1 : 0;
        if (entries[i].found != expected)
            print_error("pattern '%s' subject '%s'\n", entries[i].pattern, subject);
        assert_int_equal(entries[i].found, expected);
        assert_int_equal(mp_subject_matches(mp_slice_text(entries[i].pattern),
                                            mp_slice_text(subject)),
                         naive_match(entries[i].pattern, subject));
        entries[i].found = 0;
    }
}

static void toggle(struct mp_interest *t, struct entry *e)
{
    if (e->is_in)
        mp_interest_remove(t, e->node, e);
    else
        e->node = mp_interest_add(t, mp_slice_text(e->pattern), e);
    e->is_in = !e->is_in;
}

static void run_property(uint64_t seed)
{
    static struct entry entries[PATTERNS_MAX];
    struct mp_interest t;
    struct mp_matches found = { 0 };
    uint64_t live;

    mp_interest_init(&t, seed, 1);
    live = mp_heap_current()->live_blocks;
    memset(entries, 0, sizeof entries);
    for (size_t i = 0; i < PATTERNS_MAX; i++)
        random_subject(&seed, true, entries[i].pattern);
    for (int i = 0; i < STEPS; i++) {
        char subject[32];
        if (next_random(&seed) % 3 == 0)
            toggle(&t, &entries[next_random(&seed) % PATTERNS_MAX]);
        random_subject(&seed, false, subject);
        check_subject(&t, entries, &found, subject);
    }
    for (size_t i = 0; i < PATTERNS_MAX; i++)
        if (entries[i].is_in)
            toggle(&t, &entries[i]);
    mp_matches_fini(&found);
    /* Branches that nobody needs any more are gone, not only unreachable. */
    assert_int_equal(mp_heap_current()->live_blocks, live);
    mp_interest_fini(&t);
}

static void the_tree_agrees_with_a_naive_matcher(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++)
        run_property(seed);
}

static void entries_of_one_pattern_keep_their_order(void **state)
{
    struct mp_interest t;
    struct mp_matches found = { 0 };
    int marks[5];
    struct mp_interest_node *node = NULL;

    (void)state;
    mp_interest_init(&t, 1, 2);
    for (int i = 0; i < 5; i++)
        node = mp_interest_add(&t, MP_STR("a.*"), &marks[i]);
    mp_interest_remove(&t, node, &marks[2]);

    mp_interest_match(&t, MP_STR("a.b"), &found);

    assert_int_equal(found.count, 4);
    assert_ptr_equal(found.items[0], &marks[0]);
    assert_ptr_equal(found.items[1], &marks[1]);
    assert_ptr_equal(found.items[2], &marks[3]);
    assert_ptr_equal(found.items[3], &marks[4]);
    for (int i = 0; i < 5; i++)
        if (i != 2)
            mp_interest_remove(&t, node, &marks[i]);
    mp_matches_fini(&found);
    mp_interest_fini(&t);
}

/* Clients publish anything; text with an empty token is no subject and nobody's, not
 * even that of ">" (raw-wire: "non pedantic wildcard publish"). */
static void text_with_an_empty_token_matches_nothing(void **state)
{
    static const char *const texts[] = { "", ".", "a.", ".a", "a..b", "a.b..c", ".." };
    static const char *const patterns[] = { ">", "*", "a.>", "*.>", "*.*", "a.*.>" };
    struct mp_interest t;
    struct mp_matches found = { 0 };
    struct mp_interest_node *nodes[6];

    (void)state;
    mp_interest_init(&t, 1, 2);
    for (int i = 0; i < 6; i++)
        nodes[i] = mp_interest_add(&t, mp_slice_text(patterns[i]), &nodes[i]);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        mp_interest_match(&t, mp_slice_text(texts[i]), &found);
        assert_int_equal(found.count, 0);
    }
    for (int i = 0; i < 6; i++)
        mp_interest_remove(&t, nodes[i], &nodes[i]);
    mp_matches_fini(&found);
    mp_interest_fini(&t);
}

static void an_empty_token_is_found_anywhere(void **state)
{
    struct mp_interest t;
    struct mp_matches found = { 0 };
    struct mp_interest_node *node;

    (void)state;
    mp_interest_init(&t, 1, 2);
    node = mp_interest_add(&t, MP_STR(">"), &t);
    for (size_t size = 1; size <= 40; size++)
        for (size_t at = 0; at < size; at++) {
            char *text = mp_realloc(NULL, size); /* exact, for the sanitizer */
            memset(text, '/', size);             /* differs from a dot in one bit */
            text[at] = '.';
            found.count = 0;
            mp_interest_match(&t, mp_slice(text, size), &found);
            assert_int_equal(found.count, at > 0 && at + 1 < size);
            memset(text, at % 2 ? '\xae' : '-', size);
            text[at] = text[at > 0 ? at - 1 : 0] = '.';
            found.count = 0;
            mp_interest_match(&t, mp_slice(text, size), &found);
            assert_int_equal(found.count, 0);
            mp_free(text);
        }
    mp_interest_remove(&t, node, &t);
    mp_matches_fini(&found);
    mp_interest_fini(&t);
}

static void the_deepest_pattern_matches_the_deepest_subject(void **state)
{
    char text[2 * MP_SUBJECT_TOKENS_MAX];
    memphis_slice deep = { text, sizeof text - 1 };
    struct mp_interest t;
    struct mp_matches found = { 0 };
    struct mp_interest_node *node;

    (void)state;
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = i % 2 ? '.' : '*';
    mp_interest_init(&t, 1, 2);
    node = mp_interest_add(&t, deep, &t);
    for (size_t i = 0; i < sizeof text; i += 2)
        text[i] = 'x';

    mp_interest_match(&t, deep, &found);

    assert_int_equal(found.count, 1);
    mp_interest_remove(&t, node, &t);
    mp_matches_fini(&found);
    mp_interest_fini(&t);
}

static void removing_a_stranger_is_a_bug(void **state)
{
    struct mp_interest t;
    int mine, strange;
    struct mp_interest_node *node;

    (void)state;
    mp_interest_init(&t, 1, 2);
    node = mp_interest_add(&t, MP_STR("a"), &mine);
    expect_assert_failure(mp_interest_remove(&t, node, &strange));
    mp_interest_remove(&t, node, &mine);
    mp_interest_fini(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(the_tree_agrees_with_a_naive_matcher),
        leak_checked(entries_of_one_pattern_keep_their_order),
        leak_checked(text_with_an_empty_token_matches_nothing),
        leak_checked(an_empty_token_is_found_anywhere),
        leak_checked(the_deepest_pattern_matches_the_deepest_subject),
        leak_checked(removing_a_stranger_is_a_bug),
    };

    return run_tests("bus/interest", tests);
}
