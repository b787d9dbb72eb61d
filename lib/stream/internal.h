/* stream/internal.h -- what the files of stream/ share. Thread: core. */
#ifndef MP_STREAM_INTERNAL_H
#define MP_STREAM_INTERNAL_H

#include "stream/stream.h"

/* publish.c: everything up to the committed last sequence is answered. */
void mp_stream_answer_waiting(struct mp_stream *s);
/* All others will never be: refused. */
void mp_stream_refuse_waiting(struct mp_stream *s, memphis_status status);
/* Who waits inside hears that status: NOT_FOUND (dropped) or CLOSED. */
void mp_stream_publish_fini(struct mp_stream *s, memphis_status why);

/* deliver.c */
void mp_stream_group_free(struct mp_stream_group *g, bool tell);
void mp_stream_group_wake(struct mp_stream_group *g); /* onto the serving list */
void mp_stream_group_arm(struct mp_stream_group *g);  /* its timer */
void mp_stream_group_dirty(struct mp_stream_group *g);
void mp_stream_group_committed(struct mp_stream_group *g);
void mp_stream_group_failed(struct mp_stream_group *g);
void mp_stream_group_fire(struct mp_timer *t, uint64_t now_ms);

/* acked.c: what all groups have settled goes, in this turn or soon. */
void mp_stream_limit_acked(struct mp_stream *s);
void mp_stream_acked_failed(struct mp_stream *s); /* the log took nothing */
void mp_stream_acked_free(struct mp_stream *s);

/* stream.c */
void mp_stream_limit_age(struct mp_stream *s);
void mp_stream_limit_messages(struct mp_stream *s, uint64_t max);
void mp_stream_limit_bytes(struct mp_stream *s, uint64_t max);
/* False: the log refused it. */
bool mp_stream_propose_floor(struct mp_stream *s, uint64_t first, uint8_t reason);
void mp_stream_check_limits(struct mp_stream *s);
bool mp_stream_is_expired(const struct mp_stream *s, const struct mp_entry *e);

#endif
