/* test/support/broker.h -- brokers for the tests of the public functions: the three
 * ways to run one, directories, and an allocator that counts, fails on demand and, in
 * the end, frees what a broken broker leaked. */
#ifndef TEST_SUPPORT_BROKER_H
#define TEST_SUPPORT_BROKER_H

#include "support/test.h"

#include <memphis/memphis.h>

struct test_mode {
    uint32_t mode, workers;
};
enum { TEST_MODES = 3 };
extern const struct test_mode test_modes[TEST_MODES];

struct test_world {
    char dir[64];            /* "": in memory */
    memphis_options options;
    memphis_broker *b;
    memphis_error err;
    int fatal;               /* calls of on_fatal */
    memphis_status fatal_status;
};

/* A world that is not open yet. */
void test_world_init(struct test_world *w, int mode, bool on_disk);
memphis_status test_world_open(struct test_world *w);
/* Closes the broker if it is open, removes the directory, and asserts that every block
 * came back. */
void test_world_end(struct test_world *w);
/* Likewise, when a broken broker may have leaked. */
void test_world_end_broken(struct test_world *w);

/* Over a fork: whoever calls the allocator in the child waits for ever. */
void test_hold_allocator(bool hold);
/* The n-th allocation from now fails; 0: none. */
void test_fail_allocation(uint64_t n);
bool test_allocation_failed(void);
/* The n-th allocation from now interrupts this broker. */
void test_interrupt_at_allocation(memphis_broker *b, uint64_t n);

/* The WAL files that are open become such whose writes (or only whose syncs) fail. */
void test_break_wal(const struct test_world *w, bool only_syncs);

#endif
