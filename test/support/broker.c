#include "support/broker.h"

#include "base/list.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

const struct test_mode test_modes[TEST_MODES] = { { MEMPHIS_THREADED, 0 },
                                                  { MEMPHIS_MANUAL, 0 },
                                                  { MEMPHIS_MANUAL, 1 } };

/* Memory of a broken broker is leaked by design; SQLite's does not come from the
 * allocator below. */
MEMPHIS_API const char *__lsan_default_suppressions(void);

const char *__lsan_default_suppressions(void)
{
    return "leak:libsqlite3\n";
}

/* -- the allocator ----------------------------------------------------------------- */

struct block {
    struct mp_list node;
    size_t size;
    uint64_t padding; /* the bytes behind it are aligned to 16 */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct mp_list blocks;
static uint64_t fail_in, interrupt_in;
static bool has_failed;
static memphis_broker *to_interrupt;

static void *take(void *ctx, size_t size)
{
    struct block *k = NULL;
    memphis_broker *b = NULL;

    (void)ctx;
    pthread_mutex_lock(&lock);
    if (interrupt_in > 0 && --interrupt_in == 0)
        b = to_interrupt;
    if (fail_in > 0 && --fail_in == 0)
        has_failed = true;
    else if (size < SIZE_MAX / 2)
        k = malloc(sizeof *k + size);
    if (k != NULL) {
        k->size = size;
        mp_list_push_back(&blocks, &k->node);
    }
    pthread_mutex_unlock(&lock);
    memphis_interrupt(b);
    return k != NULL ? k + 1 : NULL;
}

static void give(void *ctx, void *p)
{
    (void)ctx;
    if (p == NULL)
        return;
    struct block *k = (struct block *)p - 1;
    pthread_mutex_lock(&lock);
    mp_list_remove(&k->node);
    pthread_mutex_unlock(&lock);
    free(k);
}

static void *change(void *ctx, void *p, size_t size)
{
    void *fresh = take(ctx, size);

    if (fresh == NULL || p == NULL)
        return fresh;
    size_t before = ((struct block *)p - 1)->size;
    memcpy(fresh, p, before < size ? before : size);
    give(ctx, p);
    return fresh;
}

static const memphis_allocator allocator = { take, change, give, NULL, { 0 } };

void test_fail_allocation(uint64_t n)
{
    pthread_mutex_lock(&lock);
    fail_in = n;
    has_failed = false;
    pthread_mutex_unlock(&lock);
}

bool test_allocation_failed(void)
{
    bool failed;

    pthread_mutex_lock(&lock);
    failed = has_failed;
    pthread_mutex_unlock(&lock);
    return failed;
}

void test_interrupt_at_allocation(memphis_broker *b, uint64_t n)
{
    pthread_mutex_lock(&lock);
    to_interrupt = b;
    interrupt_in = n;
    pthread_mutex_unlock(&lock);
}

/* -- worlds ------------------------------------------------------------------------ */

static void on_fatal(void *ctx, const memphis_fatal *why)
{
    struct test_world *w = ctx;

    w->fatal++;
    w->fatal_status = why->status;
}

void test_world_init(struct test_world *w, int mode, bool on_disk)
{
    *w = (struct test_world){ .b = NULL };
    if (blocks.next == NULL)
        mp_list_init(&blocks);
    test_fail_allocation(0);
    test_interrupt_at_allocation(NULL, 0);
    if (on_disk) {
        snprintf(w->dir, sizeof w->dir, "/tmp/test-broker-XXXXXX");
        assert_non_null(mkdtemp(w->dir));
    }
    w->options = (memphis_options){ .data_dir = on_disk ? w->dir : NULL,
                                    .mode = test_modes[mode].mode,
                                    .workers = test_modes[mode].workers,
                                    .allocator = &allocator,
                                    .disk_reserve = 1,
                                    .on_fatal = on_fatal,
                                    .fatal_ctx = w };
}

memphis_status test_world_open(struct test_world *w)
{
    w->err = (memphis_error){ 0 };
    w->b = NULL;
    return memphis_open(&w->options, &w->b, &w->err);
}

static void close_and_remove(struct test_world *w)
{
    char command[128];

    test_fail_allocation(0);
    test_interrupt_at_allocation(NULL, 0);
    memphis_close(w->b);
    w->b = NULL;
    if (w->dir[0] == 0)
        return;
    snprintf(command, sizeof command, "rm -r '%s'", w->dir);
    assert_int_equal(system(command), 0);
}

void test_world_end(struct test_world *w)
{
    close_and_remove(w);
    if (!mp_list_is_empty(&blocks))
        fail_msg("a block of %zu bytes was not freed",
                 mp_container_of(blocks.next, struct block, node)->size);
}

void test_hold_allocator(bool hold)
{
    if (hold)
        pthread_mutex_lock(&lock);
    else
        pthread_mutex_unlock(&lock);
}

void test_world_end_broken(struct test_world *w)
{
    struct mp_list *l;

    close_and_remove(w);
    while ((l = mp_list_pop_front(&blocks)) != NULL)
        free(mp_container_of(l, struct block, node));
}

void test_break_wal(const struct test_world *w, bool only_syncs)
{
    int bad = open("/dev/null", only_syncs ? O_RDWR : O_RDONLY);
    char path[64], target[256];
    int replaced = 0;

    /* A write to it succeeds and a sync does not; when opened for reading, neither. */
    for (int fd = 3; fd < 256; fd++) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        ssize_t n = readlink(path, target, sizeof target - 1);
        target[n > 0 ? n : 0] = 0;
        if (strncmp(target, w->dir, strlen(w->dir)) == 0 &&
            strstr(target, "/wal/") != NULL)
            replaced += dup2(bad, fd) == fd;
    }
    close(bad);
    assert_true(replaced > 0);
}
