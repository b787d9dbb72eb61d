/* A main for fuzz targets where the compiler has none (gcc): seeds and mutations.
 *
 *   fuzz_x [rounds|seconds"s" [seed [file...]]]
 *   fuzz_x --seeds folder                       writes the target's seeds there
 *
 * Files add to the seeds. What a round does depends on the seed and its number alone;
 * the last input is kept in ./fuzz-last, so that a crash can be played again:
 * fuzz_x 0 0 fuzz-last. */
#include "fuzz/fuzz.h"

#include "base/guard.h"

#include <signal.h>
#include <time.h>
#include <unistd.h>

enum { INPUT_MAX = FUZZ_SEED_MAX, CORPUS_MAX = 4096, MUTATIONS_MAX = 8,
       ROUND_SECONDS_MAX = 20 /* for 64 of them: SIGALRM ends what hangs */ };

/* The seeds' function may write FUZZ_SEED_MAX bytes. */
static struct input {
    uint8_t bytes[INPUT_MAX];
    size_t size;
} now, corpus_item;

static uint8_t *corpus[CORPUS_MAX];
static size_t corpus_sizes[CORPUS_MAX];
static size_t corpus_count;
static uint64_t random_state;

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static size_t below(size_t n)
{
    return n > 0 ? (size_t)(next_random() % n) : 0;
}

/* The first places belong to the seeds for ever, the others are taken in turn. */
static void remember(const uint8_t *bytes, size_t size, size_t at)
{
    if (size > INPUT_MAX)
        size = INPUT_MAX;
    uint8_t *copy = realloc(corpus[at], size + 1);
    if (copy == NULL)
        exit(2);
    memcpy(copy, bytes, size);
    corpus[at] = copy;
    corpus_sizes[at] = size;
    if (at == corpus_count)
        corpus_count++;
}

static void remember_file(const char *name)
{
    FILE *f = fopen(name, "rb");

    if (f == NULL) {
        perror(name);
        exit(2);
    }
    corpus_item.size = fread(corpus_item.bytes, 1, INPUT_MAX, f);
    fclose(f);
    if (corpus_count < CORPUS_MAX)
        remember(corpus_item.bytes, corpus_item.size, corpus_count);
}

static void insert(const uint8_t *bytes, size_t size)
{
    size_t at = below(now.size + 1);

    if (now.size + size > INPUT_MAX)
        return;
    memmove(now.bytes + at + size, now.bytes + at, now.size - at);
    memcpy(now.bytes + at, bytes, size);
    now.size += size;
}

static void erase(void)
{
    size_t at = below(now.size);
    size_t n = below(now.size - at + 1);

    memmove(now.bytes + at, now.bytes + at + n, now.size - at - n);
    now.size -= n;
}

static void splice(void)
{
    size_t other = below(corpus_count);
    size_t from = below(corpus_sizes[other] + 1);

    insert(corpus[other] + from, below(corpus_sizes[other] - from + 1));
}

static void flip(void)
{
    if (now.size > 0)
        now.bytes[below(now.size)] ^= (uint8_t)(1u << below(8));
}

static void overwrite(void)
{
    static const char odd[] = "\r\n\t 019-:$.*>\0\x7f\xff\xc3{}\"+";

    if (now.size > 0)
        now.bytes[below(now.size)] = (uint8_t)odd[below(sizeof odd - 1)];
}

static void randomize(void)
{
    if (now.size > 0)
        now.bytes[below(now.size)] = (uint8_t)next_random();
}

/* A number that lengths and counters do not expect, of 1, 2, 4 or 8 bytes. */
static void overwrite_number(void)
{
    static const uint64_t numbers[] = { 0, 1, 7, 8, 40, 72, 0x7fffffff, 0xfffffff8,
                                        UINT64_MAX, UINT64_MAX - 4095, 1ull << 63 };
    uint64_t v = numbers[below(sizeof numbers / sizeof numbers[0])];
    size_t width = (size_t)1 << below(4);

    if (now.size < width)
        return;
    size_t at = below(now.size - width + 1);
    for (size_t i = 0; i < width; i++)
        now.bytes[at + i] = (uint8_t)(v >> (8 * i));
}

static void repeat(void)
{
    uint8_t part[64];
    size_t at = below(now.size);
    size_t n = below(now.size - at + 1);

    if (n > sizeof part)
        n = sizeof part;
    memcpy(part, now.bytes + at, n);
    for (size_t times = below(100); times > 0; times--)
        insert(part, n);
}

static void (*const mutations[])(void) = {
    erase, splice, splice, flip, flip, overwrite, randomize, overwrite_number, repeat,
};

static void keep_last(void)
{
    FILE *f = fopen("fuzz-last", "wb");

    if (f == NULL)
        return;
    fwrite(now.bytes, 1, now.size, f);
    fclose(f);
}

/* A crash must leave its input behind without a file write for each round. */
void __asan_on_error(void);
void __asan_on_error(void)
{
    keep_last();
}

static void on_signal(int sig)
{
    keep_last();
    signal(sig, SIG_DFL);
    raise(sig);
}

static void run_round(size_t seeds)
{
    size_t from = below(corpus_count);

    now.size = corpus_sizes[from];
    memcpy(now.bytes, corpus[from], now.size);
    for (size_t n = 1 + below(MUTATIONS_MAX); n > 0; n--)
        mutations[below(sizeof mutations / sizeof mutations[0])]();
    LLVMFuzzerTestOneInput(now.bytes, now.size);
    if (next_random() % 64 == 0) {
        size_t at = corpus_count < CORPUS_MAX ? corpus_count
                                              : seeds + below(CORPUS_MAX - seeds);
        remember(now.bytes, now.size, at);
    }
}

static noreturn void on_assert(const char *expression, const char *file, int line)
{
    fprintf(stderr, "%s:%d: '%s' does not hold\n", file, line, expression);
    abort();
}

static int write_seeds(const char *folder)
{
    char name[1024];
    size_t size;

    for (size_t i = 0; (size = fuzz_seed(i, now.bytes)) > 0; i++) {
        snprintf(name, sizeof name, "%s/seed-%zu", folder, i);
        FILE *f = fopen(name, "wb");
        if (f == NULL || fwrite(now.bytes, 1, size, f) != size || fclose(f) != 0) {
            perror(name);
            return 1;
        }
    }
    return 0;
}

static void play(size_t i)
{
    now.size = corpus_sizes[i];
    memcpy(now.bytes, corpus[i], now.size);
    LLVMFuzzerTestOneInput(now.bytes, now.size);
}

int main(int argc, char **argv)
{
    char *unit = "";
    uint64_t rounds = argc > 1 ? strtoull(argv[1], &unit, 10) : 100000, done = 0;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    time_t end = *unit == 's' ? time(NULL) + (time_t)rounds : 0;
    size_t size;

    if (argc > 2 && strcmp(argv[1], "--seeds") == 0)
        return write_seeds(argv[2]);
    signal(SIGABRT, on_signal);
    mp_guard_set_hook(on_assert);
    signal(SIGALRM, on_signal);
    random_state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    for (size_t i = 0; (size = fuzz_seed(i, now.bytes)) > 0; i++)
        remember(now.bytes, size, corpus_count);
    for (int i = 3; i < argc; i++)
        remember_file(argv[i]);
    size_t seeds = corpus_count;
    for (size_t i = 0; i < seeds; i++) {
        alarm(ROUND_SECONDS_MAX);
        play(i);
    }
    for (; end != 0 ? time(NULL) < end : done < rounds; done++) {
        if (done % 64 == 0)
            alarm(ROUND_SECONDS_MAX);
        run_round(seeds);
    }
    printf("%zu inputs played, %llu rounds, seed %llu: nothing found\n", seeds,
           (unsigned long long)done, (unsigned long long)seed);
    for (size_t i = 0; i < corpus_count; i++)
        free(corpus[i]);
    return 0;
}
