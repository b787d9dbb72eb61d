/* wire/client.h -- a small client of the NATS protocol, for tests of a running
 * memphisd.
 *
 * One connection, one thread. Whatever is published gathers in a buffer and leaves with
 * client_flush or while client_next waits, so pipelining is the normal case:
 *
 *      client_publish x 300        client_next -> CLIENT_MESSAGE: m.subject, m.payload
 *      client_flush                client_next -> CLIENT_QUIET:   nothing in time
 *                                  client_next -> CLIENT_CLOSED:  the daemon is gone
 *
 * PINGs are answered inside. What the daemon has sent before it died is still handed
 * out: CLOSED comes behind the last complete message.
 */
#ifndef WIRE_CLIENT_H
#define WIRE_CLIENT_H

#include <memphis/base.h>

struct client;

enum client_event { CLIENT_QUIET, CLIENT_MESSAGE, CLIENT_ERROR, CLIENT_CLOSED };

/* Slices are valid until the next call with this client. */
struct client_message {
    memphis_slice subject, reply, headers, payload;
    uint32_t sid;
    int status;      /* of an inline status ("NATS/1.0 408 ..."); 0: none */
    uint64_t at_ns;  /* when its bytes were read, CLOCK_MONOTONIC */
    char error[160]; /* CLIENT_ERROR: the text of -ERR */
};

uint64_t client_now_ns(void); /* CLOCK_MONOTONIC */

/* To 127.0.0.1 as root; tries again until the port answers or wait_ms passed (NULL). */
struct client *client_connect(uint16_t port, uint32_t wait_ms);
void client_close(struct client *c); /* NULL-safe */

uint32_t client_subscribe(struct client *c, const char *subject); /* its sid */

/* `reply` and `headers` may be NULL; headers: "a: b\r\nc: d\r\n", without status
   line. */
void client_publish(struct client *c, const char *subject, const char *reply,
                    const char *headers, const void *data, size_t size);

/* A request for messages; they come on `inbox`. expires_ms 0: what is there, then a
 * status 404 (nothing) or 408. */
void client_pull(struct client *c, const char *stream, const char *group,
                 const char *inbox, uint32_t batch, uint32_t expires_ms);

void client_flush(struct client *c);         /* as far as the socket takes it */
size_t client_unsent(const struct client *c);
int client_fd(const struct client *c);

/* The next message, waiting for it at most wait_ms; sends what is there to send. */
enum client_event client_next(struct client *c, uint32_t wait_ms,
                              struct client_message *m);

/* Waits until one of them has something to read (or unsent bytes found room). */
void client_wait(struct client *const *all, size_t n, uint32_t wait_ms);

/* One question and its answer; other messages that come meanwhile are dropped. `answer`
 * becomes text, cut when it is longer. False: none in time. */
bool client_request(struct client *c, const char *subject, const char *body,
                    uint32_t wait_ms, char *answer, size_t answer_size);

/* === Requests of the SDKs === */

enum { CLIENT_BODY_SIZE = 512 };

void client_station_body(char body[CLIENT_BODY_SIZE], const char *name,
                         uint32_t partitions);
void client_producer_body(char body[CLIENT_BODY_SIZE], const char *station,
                          const char *name);
void client_consumer_body(char body[CLIENT_BODY_SIZE], const char *station,
                          const char *group, uint32_t ack_wait_ms);

/* The same as calls; false after a sentence on stderr. */
bool client_create_station(struct client *c, const char *name, uint32_t partitions);
bool client_drop_station(struct client *c, const char *name);
bool client_create_producer(struct client *c, const char *station, const char *name);
bool client_create_consumer(struct client *c, const char *station, const char *group,
                            uint32_t ack_wait_ms);
bool client_drop_consumer(struct client *c, const char *station, const char *group);
bool client_has_station(struct client *c, const char *name); /* its first stream */

/* All that a group can have now of one partition, in the order of arrival: fn gets the
 * sequence and the delivery count of each. False: the daemon did not end it
 * properly. */
typedef void (*client_message_fn)(void *ctx, uint32_t partition, uint64_t seq,
                                  uint32_t deliveries, const struct client_message *m);
bool client_drain(struct client *c, const char *station, uint32_t partition,
                  const char *group, client_message_fn fn, void *ctx);

/* Sequence and delivery count out of "$JS.ACK.<stream>.<group>.<count>.<seq>...". */
bool client_ack_subject(memphis_slice subject, uint64_t *seq, uint32_t *deliveries);

/* "prefix<number>" */
bool client_number_behind(memphis_slice text, const char *prefix, uint64_t *number);

/* Sequence out of a PubAck; 0: it is a refusal. */
uint64_t client_puback_seq(memphis_slice payload);

#endif
