#include "support/test.h"

#include "base/assert.h"

static void to_cmocka(const char *expression, const char *file, int line)
{
    mock_assert(0, expression, file, line);
}

int test_setup(void **state)
{
    (void)state;
    mp_guard_set_hook(to_cmocka);
    return 0;
}

int test_no_leaks(void **state)
{
    uint64_t live = mp_heap_current()->live_blocks;

    (void)state;
    if (live != 0)
        print_error("%llu blocks were not freed\n", (unsigned long long)live);
    return live != 0;
}
