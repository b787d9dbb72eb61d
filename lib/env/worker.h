/* env/worker.h -- a thread and a queue of jobs, in order; or no thread at all.
 *
 * Shared by the environments. Without a thread a job runs inside mp_worker_post; its
 * mail goes to the mailbox all the same, so the core sees the result at the same place
 * of a turn in both modes.
 *
 * Thread: new, post and free from the core.
 */
#ifndef MP_ENV_WORKER_H
#define MP_ENV_WORKER_H

#include "env/env.h"

/* IO when the thread cannot be started. `threaded` false: jobs run inline. */
memphis_status mp_worker_new(struct mp_env *e, const char *name, bool threaded,
                             uint32_t spin_us, struct mp_worker **out,
                             memphis_error *err);
void mp_worker_post(struct mp_env *e, struct mp_worker *w, struct mp_job *j);
void mp_worker_free(struct mp_env *e, struct mp_worker *w); /* finishes queued jobs */
void mp_workers_free(struct mp_env *e); /* all that are left: for the close of an env */

#endif
