#include "env/env.h"

#include "base/assert.h"

void mp_clock_init(struct mp_clock *c, struct mp_env *env, uint64_t w1, uint64_t b1)
{
    uint64_t wall = env->wall_ns(env);

    c->env = env;
    c->start_boot_ns = env->boot_ns(env);
    if (b1 == 0)
        c->start_broker_ns = wall; /* a new store begins with the wall clock */
    else
        c->start_broker_ns = b1 + (wall > w1 ? wall - w1 : 0);
    c->broker_ns = c->start_broker_ns;
    c->wall_ns = wall;
}

void mp_clock_tick(struct mp_clock *c)
{
    uint64_t boot = c->env->boot_ns(c->env);

    mp_assert(boot >= c->start_boot_ns);
    c->broker_ns = c->start_broker_ns + (boot - c->start_boot_ns);
    c->wall_ns = c->env->wall_ns(c->env);
}
