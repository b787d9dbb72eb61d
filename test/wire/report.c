#include "wire/report.h"

#include <stdarg.h>
#include <stdio.h>

static unsigned passed, failed;

bool report(bool is_ok, const char *format, ...)
{
    va_list args;

    *(is_ok ? &passed : &failed) += 1;
    printf("%s - ", is_ok ? "ok" : "FAILED");
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n");
    fflush(stdout);
    return is_ok;
}

void report_more(unsigned more_passed, unsigned more_failed)
{
    passed += more_passed;
    failed += more_failed;
}

unsigned report_failed(void)
{
    return failed;
}

int report_end(void)
{
    printf("%u passed, %u failed\n", passed, failed);
    fflush(stdout);
    return failed > 0;
}

struct dice dice_of(uint64_t seed)
{
    return (struct dice){ seed * 0x9e3779b97f4a7c15u + 0x2545f4914f6cdd1du };
}

uint32_t dice_roll(struct dice *d, uint32_t sides)
{
    d->state ^= d->state << 13;
    d->state ^= d->state >> 7;
    d->state ^= d->state << 17;
    return (uint32_t)(d->state >> 33) % sides;
}
