#include "broker/broker.h"

#include "base/assert.h"
#include "base/status.h"

struct mp_operation *mp_operation_new(struct mp_broker *b, struct mp_then then)
{
    struct mp_operation *op = mp_alloc(sizeof(*op));

    op->broker = b;
    op->outstanding = 1; /* while it is being built */
    op->then = then;
    mp_list_push_back(&b->operations, &op->node);
    return op;
}

uint64_t mp_operation_tag(struct mp_operation *op)
{
    op->outstanding++;
    return (uint64_t)(uintptr_t)op;
}

void mp_operation_fail(struct mp_operation *op, memphis_status st, const char *text)
{
    if (op->status != MEMPHIS_OK)
        return; /* the first failure is the one to tell */
    op->status = st;
    mp_fail(&op->error, st, "%s", text);
}

void mp_operation_done(struct mp_operation *op)
{
    mp_assert(op->outstanding > 0);
    if (--op->outstanding > 0)
        return;
    if (op->broker->is_broken)
        return; /* its fate is unknown: whoever waits is not answered */
    mp_list_remove(&op->node);
    if (op->then.fn != NULL)
        op->then.fn(op->then.ctx, op->status, op->error.message);
    mp_free(op);
}

struct mp_operation *mp_operation_of(uint64_t tag)
{
    return tag <= MP_STREAM_TAG ? NULL : (struct mp_operation *)(uintptr_t)tag;
}
