/* test/support/test.h -- what every unit test includes: cmocka with its prerequisites,
 * and a way to see our own assertions fire. */
#ifndef TEST_SUPPORT_TEST_H
#define TEST_SUPPORT_TEST_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/guard.h"
#include "base/mem.h"

#include <string.h>

/* Group set-up: our assertions become cmocka's, so expect_assert_failure sees them and
 * an unexpected one fails the test with file and line. */
int test_setup(void **state);

/* Test teardown: every block of our allocator was given back. */
int test_no_leaks(void **state);

/* A test whose blocks are counted. */
#define leak_checked(f) cmocka_unit_test_setup_teardown(f, NULL, test_no_leaks)

#undef run_tests /* an old name of cmocka that nobody uses */
/* int main(void) { return run_tests("base/buf", tests); } */
#define run_tests(name, tests) \
    cmocka_run_group_tests_name(name, tests, test_setup, NULL)

#endif
