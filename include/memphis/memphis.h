/* memphis/memphis.h -- everything: a message broker that any C program can link.
 *
 * Rules that hold for every function of these headers:
 *   - strings and options are copied; a NULL options pointer means defaults, and zero
 *     is the default value of every option;
 *   - outputs are written only on success, `err` only on failure, and `err` may be
 *     NULL;
 *   - closing and freeing NULL is fine, in any order: handles pin their broker. A
 *     session or consumer that is given back where calls return MISUSE (the wrong
 *     thread of a MANUAL broker, a callback of a pipe, a forked child) stays as it was;
 *   - reserved words of inputs must be zero (else MEMPHIS_INVALID), those of outputs
 *     are written as zero;
 *   - after fork() the child may not use a broker of its parent: MEMPHIS_MISUSE;
 *   - callbacks run only inside a call that you make, on your thread (exceptions: the
 *     log function and on_fatal, any thread; memphis_pipe, the core thread; inside
 *     those of a pipe, calls that wait return MISUSE).
 */
#ifndef MEMPHIS_MEMPHIS_H
#define MEMPHIS_MEMPHIS_H

#include <memphis/admin.h>
#include <memphis/base.h>
#include <memphis/broker.h>
#include <memphis/consumer.h>
#include <memphis/dls.h>
#include <memphis/message.h>
#include <memphis/producer.h>
#include <memphis/session.h>
#include <memphis/station.h>
#include <memphis/stats.h>
#include <memphis/status.h>

#endif
