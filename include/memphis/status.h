/* memphis/status.h -- how every call of the library says what happened.
 *
 * A status is a number that never changes its meaning; the text for a human is in
 * the caller's memphis_error. 0 is success. Thread: any.
 */
#ifndef MEMPHIS_STATUS_H
#define MEMPHIS_STATUS_H

#include <memphis/base.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef int32_t memphis_status;

enum {
    MEMPHIS_OK = 0,
    MEMPHIS_INVALID = 1,     /* invalid argument */
    MEMPHIS_MISUSE = 2,      /* call not allowed in this state, thread or after fork */
    MEMPHIS_NOMEM = 3,       /* out of memory (retry) */
    MEMPHIS_INTERNAL = 4,    /* internal error */
    MEMPHIS_UNSUPPORTED = 5, /* not supported */
    MEMPHIS_BROKEN = 6,      /* the broker stopped after a fatal error; close it */
    MEMPHIS_NOT_FOUND = 10,  /* no such thing */
    MEMPHIS_EXISTS = 11,     /* already exists */
    MEMPHIS_CLOSED = 12,     /* closed */
    MEMPHIS_UNAUTHENTICATED = 20, /* credentials missing or wrong */
    MEMPHIS_DENIED = 21,          /* not permitted */
    MEMPHIS_TIMEOUT = 30,         /* not in time (retry) */
    MEMPHIS_BUSY = 31,            /* in use by somebody else (retry) */
    MEMPHIS_CANCELED = 32,        /* interrupted */
    MEMPHIS_TOO_BIG = 40,         /* larger than the limit */
    MEMPHIS_FULL = 41,            /* limit reached (retry) */
    MEMPHIS_SCHEMA_INVALID = 50,  /* schema does not compile */
    MEMPHIS_SCHEMA_MISMATCH = 51, /* message does not match the schema */
    MEMPHIS_NOT_LEADER = 60,      /* another node leads this partition (retry) */
    MEMPHIS_NO_QUORUM = 61,       /* no majority reachable (retry) */
    MEMPHIS_IO = 70,              /* disk or network error */
    MEMPHIS_CORRUPT = 71,         /* stored data is damaged */
    MEMPHIS_NO_SPACE = 72,        /* no space on disk (retry) */
    MEMPHIS_VERSION = 73,         /* data written by a newer version */
    MEMPHIS_PROTOCOL = 80         /* protocol violation */
};

/* Filled by a call that fails, untouched by one that succeeds. */
typedef struct memphis_error {
    memphis_status status;
    uint32_t reserved;
    char message[248]; /* one sentence: what happened and what to do */
} memphis_error;

/* "NOT_FOUND"; "UNKNOWN" for a number that is not in the list. Static storage. */
MEMPHIS_API const char *memphis_status_name(memphis_status s);

/* A short English text. Static storage. */
MEMPHIS_API const char *memphis_status_text(memphis_status s);

/* Whether the same call may succeed later without any change by the caller. */
MEMPHIS_API bool memphis_status_is_retryable(memphis_status s);

#ifdef __cplusplus
}
#endif
#endif
