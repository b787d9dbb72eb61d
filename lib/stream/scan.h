/* stream/scan.h -- a walk over the messages of a stream, a slice per turn.
 *
 * What no index answers (which messages match a filter, what was the last one of that
 * subject) is found by reading. A scan reads so many messages at once, goes on in the
 * next turn, waits while a block comes from the disk, and ends when its stream does.
 *
 * Owner: who makes it, until `done` is called; embedded in his struct. Thread: core.
 */
#ifndef MP_STREAM_SCAN_H
#define MP_STREAM_SCAN_H

#include "stream/stream.h"

struct mp_scan {
    struct mp_stream *stream;
    uint64_t at, end; /* forwards [at, end); backwards from at down to end */
    bool backwards;
    memphis_slice filter; /* which subjects; empty: all */
    /* False: it has seen enough. */
    bool (*each)(struct mp_scan *s, const struct mp_stored *m);
    /* Once, perhaps before mp_scan_start returns. OK: it came to its end, or had
     * enough. NOT_FOUND: the stream is gone; CLOSED: the broker stops. */
    void (*done)(struct mp_scan *s, memphis_status st);
    struct mp_list node; /* its own from here */
    struct mp_stream_waiter waiter;
};

void mp_scan_start(struct mp_scan *s);
void mp_scan_cancel(struct mp_scan *s); /* without a word */
/* A slice of each that has something to do. */
void mp_scans_run(struct mp_stream_host *h);
void mp_scans_end(struct mp_stream *s, memphis_status why);

memphis_slice mp_stream_subject_of(const struct mp_stream *s, const struct mp_entry *e);

#endif
