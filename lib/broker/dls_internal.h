/* broker/dls_internal.h -- what the parts of the dead-letter station share:
 *
 *   dls.c         rows, making letters, what is committed
 *   dls_head.c    how a letter begins
 *   dls_resend.c  once more to the groups that failed
 *   dls_drop.c    removal
 *   dls_keep.c    how long and how many are kept
 *
 * Thread: core.
 */
#ifndef MP_BROKER_DLS_INTERNAL_H
#define MP_BROKER_DLS_INTERNAL_H

#include "broker/dls.h"
#include "broker/dls_head.h"

/* The letters of one log. */
struct mp_letters {
    struct mp_log *log;
    uint64_t proposed_last;  /* sequences of partition 0 up to here are given out */
    struct mp_list rows;     /* by `at` */
    uint64_t count, bytes;   /* of them */
    uint64_t retry_ns;       /* no floor is proposed before then */
    bool is_trimming;        /* one is on its way */
};

struct mp_dls {
    struct mp_broker *broker;
    struct mp_letters data, memory;
    struct mp_map by_id, by_message, by_place;
    struct mp_list readings;     /* struct reading: who wants to read a letter */
    struct mp_dead_row **making; /* whose letters are not appended yet */
    size_t making_count, making_capacity;
    size_t changing; /* rows whose letter is on its way */
    bool is_reading; /* the list is being walked */
    bool is_closing; /* whose letter is read now does not get it */
    struct mp_timer keeping; /* when the oldest one has to go */
    uint64_t keep_ns, bytes_max;
    uint64_t forced; /* letters that went before their time */
    struct mp_timer resending;
    struct mp_list resends;  /* struct mp_resend */
    uint32_t resends_count;  /* so far: numbers them */
};

/* -- dls.c -- */
struct mp_station *mp_dls_station(const struct mp_dls *d, uint32_t id);

struct mp_letters *mp_letters_of(struct mp_dls *d, const struct mp_log *log);
/* A header block without its last, empty line: more lines follow. */
void mp_dls_put_lines(struct mp_buf *out, memphis_slice headers);

/* Its removal is proposed: whoever wants the row waits until it is gone. */
void mp_dls_leaves(struct mp_dls *d, const struct mp_log *log, uint64_t at);

/* -- dls_drop.c -- */
enum { MP_REMOVAL_MAX = 32 }; /* bytes that one sequence takes */
/* The deletion of one letter; `space` is where its payload lies. */
struct mp_entry mp_dls_removal(uint64_t at, uint64_t now_ns,
                               uint8_t space[MP_REMOVAL_MAX]);
/* What nobody needs: proposed again by the next start when it does not come to be. */
void mp_dls_remove(struct mp_dls *d, struct mp_dead_row *row);

/* -- dls_resend.c -- */
void mp_resend_init(struct mp_dls *d);
void mp_resend_free(struct mp_dls *d);
void mp_resend_started(struct mp_dls *d);
void mp_resend_row_leaves(struct mp_dead_row *row); /* its place in the list */
void mp_resend_noted(struct mp_dls *d, struct mp_log *log, const struct mp_entry *e,
                     const struct mp_resend_note *n, bool is_own);
void mp_resend_note_gone(struct mp_dls *d, const struct mp_log *log, uint64_t at);
/* The oldest note that is needed; UINT64_MAX: none. */
uint64_t mp_resend_first_note(const struct mp_dls *d, const struct mp_log *log);
void mp_resend_failed(struct mp_dls *d, const struct mp_log *log);
void mp_resend_station_gone(struct mp_station *s);

/* -- dls_keep.c -- */
void mp_dls_keep_init(struct mp_dls *d);
/* A floor came to be, or did not. */
void mp_dls_keep_trimmed(struct mp_letters *l, bool is_done);
/* Something came or went. */
void mp_dls_keep_look(struct mp_dls *d);

#endif
