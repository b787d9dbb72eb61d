/* wire/report.h -- what the programs of test/wire print: "ok - ..." or "FAILED - ...",
 * and at the end "N passed, N failed"; and their random numbers. */
#ifndef WIRE_REPORT_H
#define WIRE_REPORT_H

#include <stdbool.h>
#include <stdint.h>

/* Prints the line; returns `is_ok`. */
bool report(bool is_ok, const char *format, ...) __attribute__((format(printf, 2, 3)));
void report_more(unsigned passed, unsigned failed); /* those of a child */
unsigned report_failed(void);
int report_end(void); /* the last line; exit status */

struct dice {
    uint64_t state;
};
struct dice dice_of(uint64_t seed);
uint32_t dice_roll(struct dice *d, uint32_t sides); /* 0 .. sides - 1 */

#endif
