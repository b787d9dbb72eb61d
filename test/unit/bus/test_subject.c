#include "support/test.h"

#include "base/limits.h"
#include "bus/subject.h"

/* Runs of one token, to reach the limits. */
static memphis_slice repeated(char *out, size_t size, const char *token)
{
    size_t step = strlen(token);

    for (size_t i = 0; i < size; i++)
        out[i] = token[i % step];
    return mp_slice(out, size);
}

/* -- validity ---------------------------------------------------------------------- */

static void ordinary_subjects_are_valid_and_literal(void **state)
{
    static const char *const subjects[] = {
        "a",
        "a.b",
        "orders#eu$1.final",
        "$JS.API.INFO",
        "_INBOX.x.y",
        "a>b",
        "x_*",
        "*x",
        ">>",
        "**",
        "a.b>.c",
        "$memphis_schema_updates_*",
        "caf\xc3\xa9.\xe2\x82\xac",
        "a.*b.c",
        "-",
        "#",
    };

    (void)state;
    for (size_t i = 0; i < sizeof subjects / sizeof subjects[0]; i++) {
        assert_true(mp_subject_is_valid(mp_slice_text(subjects[i])));
        assert_true(mp_subject_is_literal(mp_slice_text(subjects[i])));
    }
}

static void wildcard_tokens_are_valid_but_not_literal(void **state)
{
    static const char *const subjects[] = { "*",     ">",   "a.*", "*.a",  "a.>",
                                            "a.*.b", "*.*", "*.>", "a.*.>" };

    (void)state;
    for (size_t i = 0; i < sizeof subjects / sizeof subjects[0]; i++) {
        assert_true(mp_subject_is_valid(mp_slice_text(subjects[i])));
        assert_false(mp_subject_is_literal(mp_slice_text(subjects[i])));
    }
}

static void empty_tokens_blanks_and_an_early_tail_are_invalid(void **state)
{
    static const char *const subjects[] = { "",     ".",     "a.",   ".a",   "a..b",
                                            ">.a",  "a.>.b", "a b",  "a\tb", "a\rb",
                                            "a\nb", " a",    "a.> ", "..",   ">." };

    (void)state;
    for (size_t i = 0; i < sizeof subjects / sizeof subjects[0]; i++) {
        assert_false(mp_subject_is_valid(mp_slice_text(subjects[i])));
        assert_false(mp_subject_is_literal(mp_slice_text(subjects[i])));
    }
}

static void the_size_limit_is_exact(void **state)
{
    char text[MP_SUBJECT_MAX + 1];

    (void)state;
    assert_true(mp_subject_is_valid(repeated(text, MP_SUBJECT_MAX, "a")));
    assert_false(mp_subject_is_valid(repeated(text, MP_SUBJECT_MAX + 1, "a")));
}

/* -- tokens ------------------------------------------------------------------------ */

static void tokens_are_counted_and_found(void **state)
{
    memphis_slice s = MP_STR("a.bc.def");

    (void)state;
    assert_int_equal(mp_subject_tokens(s), 3);
    assert_true(mp_slice_equal(mp_subject_token(s, 0), MP_STR("a")));
    assert_true(mp_slice_equal(mp_subject_token(s, 1), MP_STR("bc")));
    assert_true(mp_slice_equal(mp_subject_token(s, 2), MP_STR("def")));
    assert_int_equal(mp_subject_token(s, 3).size, 0);
    assert_int_equal(mp_subject_token(s, UINT32_MAX - 1).size, 0);
    assert_int_equal(mp_subject_tokens(MP_STR("")), 0);
    assert_int_equal(mp_subject_tokens(MP_STR("a.")), 2);
}

static void the_longest_subject_has_as_many_tokens_as_the_limit(void **state)
{
    char text[MP_SUBJECT_MAX - 1];

    (void)state;
    assert_int_equal(mp_subject_tokens(repeated(text, sizeof text, "a.")),
                     MP_SUBJECT_TOKENS_MAX);
}

/* -- matching ---------------------------------------------------------------------- */

static void matches_follows_the_grammar(void **state)
{
    static const struct {
        const char *pattern, *literal;
        bool matches;
    } cases[] = {
        { "a", "a", true },
        { "a", "b", false },
        { "a", "a.b", false },
        { "a.b", "a", false },
        { "*", "a", true },
        { "*", "a.b", false },
        { "a.*", "a.b", true },
        { "a.*", "a", false },
        { "a.*", "a.b.c", false },
        { "*.b", "a.b", true },
        { "*.b", "a.c", false },
        { ">", "a", true },
        { ">", "a.b.c", true },
        { "a.>", "a.b", true },
        { "a.>", "a.b.c", true },
        { "a.>", "a", false },
        { "a.>", "b.c", false },
        { "*.>", "a.b", true },
        { "*.>", "a", false },
        { "a.*.c", "a.b.c", true },
        { "a.*.c", "a.b.d", false },
        { "a>b", "a>b", true },
        { "a>b", "axb", false },
        { "x_*", "x_*", true },
        { "x_*", "x_y", false },
        { "a.*", "a.*", true },
        { "a.b", "a.*", false },
        { "a.>", "a.>", true },
        { "*", ">", true },
        { "orders$1.>", "orders$1.final", true },
        { "orders$1.>", "orders$10.final", false },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(mp_subject_matches(mp_slice_text(cases[i].pattern),
                                            mp_slice_text(cases[i].literal)),
                         cases[i].matches);
}

static void overlaps_is_symmetric_and_finds_a_common_literal(void **state)
{
    static const struct {
        const char *a, *b;
        bool overlaps;
    } cases[] = {
        { "a", "a", true },       { "a", "b", false },        { "a.*", "*.b", true },
        { "a.*", "b.*", false },  { ">", "a.b", true },       { "a.>", "a", false },
        { "a.>", "*.b.c", true }, { "a.>", "b.>", false },    { "*", "*.*", false },
        { "*.c", "a.>", true },   { "a.*.c", "a.b.*", true }, { ">", ">", true },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        memphis_slice a = mp_slice_text(cases[i].a), b = mp_slice_text(cases[i].b);
        assert_int_equal(mp_subject_overlaps(a, b), cases[i].overlaps);
        assert_int_equal(mp_subject_overlaps(b, a), cases[i].overlaps);
    }
}

/* All subjects of up to three tokens over a tiny alphabet. */
static uint32_t all_subjects(char out[][8], const char *alphabet)
{
    uint32_t n = 0, letters = (uint32_t)strlen(alphabet);

    for (uint32_t i = 0; i < letters; i++)
        mp_format(out[n++], 8, "%c", alphabet[i]);
    for (uint32_t i = 0; i < letters * letters; i++)
        mp_format(out[n++], 8, "%c.%c", alphabet[i / letters], alphabet[i % letters]);
    for (uint32_t i = 0; i < letters * letters * letters; i++)
        mp_format(out[n++], 8, "%c.%c.%c", alphabet[i / letters / letters],
                  alphabet[i / letters % letters], alphabet[i % letters]);
    return n;
}

/* The definition: two patterns overlap when a literal matches both. Three letters are
 * enough, because each token is compared with two others at most. */
static void overlaps_agrees_with_its_definition(void **state)
{
    static char patterns[128][8], literals[64][8];
    uint32_t patterns_count = all_subjects(patterns, "ab*>");
    uint32_t literals_count = all_subjects(literals, "abc");

    (void)state;
    for (uint32_t i = 0; i < patterns_count; i++)
        for (uint32_t k = 0; k < patterns_count; k++) {
            memphis_slice a = mp_slice_text(patterns[i]),
                          b = mp_slice_text(patterns[k]);
            bool common = false;
            if (!mp_subject_is_valid(a) || !mp_subject_is_valid(b))
                continue;
            for (uint32_t n = 0; n < literals_count && !common; n++)
                common = mp_subject_matches(a, mp_slice_text(literals[n])) &&
                         mp_subject_matches(b, mp_slice_text(literals[n]));
            assert_int_equal(mp_subject_overlaps(a, b), common);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        leak_checked(ordinary_subjects_are_valid_and_literal),
        leak_checked(wildcard_tokens_are_valid_but_not_literal),
        leak_checked(empty_tokens_blanks_and_an_early_tail_are_invalid),
        leak_checked(the_size_limit_is_exact),
        leak_checked(tokens_are_counted_and_found),
        leak_checked(the_longest_subject_has_as_many_tokens_as_the_limit),
        leak_checked(matches_follows_the_grammar),
        leak_checked(overlaps_is_symmetric_and_finds_a_common_literal),
        leak_checked(overlaps_agrees_with_its_definition),
    };

    return run_tests("bus/subject", tests);
}
