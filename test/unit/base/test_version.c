#include "support/test.h"

#include <memphis/base.h>
#include <stdio.h>

static void the_library_and_its_header_have_one_version(void **state)
{
    (void)state;
    assert_int_equal(memphis_version_number(), MEMPHIS_VERSION_NUMBER);
}

static void the_text_says_the_number_and_the_compiler(void **state)
{
    uint32_t n = memphis_version_number();
    char expected[40];
    const char *text = memphis_version_text();

    (void)state;
    snprintf(expected, sizeof expected, "%u.%u.%u (", n / 1000000, n / 1000 % 1000,
             n % 1000);
    assert_memory_equal(text, expected, strlen(expected));
    assert_memory_equal(text, "0.1.0 (", 7);
    assert_true(strstr(text, "(gcc ") != NULL || strstr(text, "(clang ") != NULL);
    assert_true(text[strlen(text) - 1] == ')');
}

static void a_part_that_nobody_knows_is_not_there(void **state)
{
    (void)state;
    assert_false(memphis_has("teleport"));
    assert_false(memphis_has(""));
    assert_false(memphis_has(NULL));
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(the_library_and_its_header_have_one_version),
    cmocka_unit_test(the_text_says_the_number_and_the_compiler),
    cmocka_unit_test(a_part_that_nobody_knows_is_not_there),
};

int main(void)
{
    return run_tests("base/version", tests);
}
