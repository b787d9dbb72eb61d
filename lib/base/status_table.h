/* base/status_table.h -- every status of the product in one table.
 *
 * X(name, number, retryable, HTTP code, text). The names, the texts, the answers of the
 * REST interface and the wire protocol derive from it; a test compares it with the enum
 * of memphis/status.h. A number never changes its meaning. Thread: any (pure).
 */
#ifndef MP_BASE_STATUS_TABLE_H
#define MP_BASE_STATUS_TABLE_H

#define MP_STATUS_TABLE(X)                                                             \
    X(OK, 0, false, 200, "success")                                                    \
    X(INVALID, 1, false, 400, "invalid argument")                                      \
    X(MISUSE, 2, false, 409, "not allowed in this state")                              \
    X(NOMEM, 3, true, 503, "out of memory")                                            \
    X(INTERNAL, 4, false, 500, "internal error")                                       \
    X(UNSUPPORTED, 5, false, 501, "not supported")                                     \
    X(BROKEN, 6, false, 503, "the broker stopped after a fatal error")                 \
    X(NOT_FOUND, 10, false, 404, "not found")                                          \
    X(EXISTS, 11, false, 409, "already exists")                                        \
    X(CLOSED, 12, false, 410, "closed")                                                \
    X(UNAUTHENTICATED, 20, false, 401, "credentials are missing or wrong")             \
    X(DENIED, 21, false, 403, "not permitted")                                         \
    X(TIMEOUT, 30, true, 504, "not in time")                                           \
    X(BUSY, 31, true, 409, "in use by somebody else")                                  \
    X(CANCELED, 32, false, 503, "interrupted")                                         \
    X(TOO_BIG, 40, false, 413, "larger than the limit")                                \
    X(FULL, 41, true, 429, "limit reached")                                            \
    X(SCHEMA_INVALID, 50, false, 400, "the schema does not compile")                   \
    X(SCHEMA_MISMATCH, 51, false, 422, "the message does not match the schema")        \
    X(NOT_LEADER, 60, true, 503, "another node leads this partition")                  \
    X(NO_QUORUM, 61, true, 503, "no majority is reachable")                            \
    X(IO, 70, false, 500, "disk or network error")                                     \
    X(CORRUPT, 71, false, 500, "stored data is damaged")                               \
    X(NO_SPACE, 72, true, 507, "no space on disk")                                     \
    X(VERSION, 73, false, 500, "the data was written by a newer version")              \
    X(PROTOCOL, 80, false, 400, "protocol violation")

#endif
