/* Once more to the groups that failed (broker-semantics 5). */
#include "broker/dls_internal.h"

static void resend_to(struct mp_dead_row *row, const struct mp_stream_group *g,
                      const struct mp_dead_letter *letter)
{
    static const char between[] = { '.', '_' }; /* SDKs of now; old ones */
    struct mp_broker *b = row->station->broker;
    struct mp_buf headers = { 0 }, subject = { 0 };

    mp_dls_put_lines(&headers, letter->headers);
    mp_buf_format(&headers, "$memphis_pm_id: %u\r\n$memphis_pm_cg_name: %s\r\n\r\n",
                  row->id, g->name);
    for (size_t i = 0; i < sizeof(between); i++) {
        mp_buf_clear(&subject);
        mp_buf_format(&subject, "$memphis_dls_%s%c%s", row->station->internal,
                      between[i], g->name);
        struct mp_message m = { .subject = mp_buf_slice(&subject),
                                .headers = mp_buf_slice(&headers),
                                .payload = letter->payload };
        mp_bus_publish(b->bus, NULL, &m);
    }
    mp_buf_fini(&subject);
    mp_buf_fini(&headers);
}

static void resend(void *ctx, struct mp_dead_row *row,
                   const struct mp_dead_letter *letter)
{
    (void)ctx;
    for (uint32_t i = 0; row != NULL && i < row->gids_count; i++) {
        const struct mp_stream_group *g = mp_dls_group(row, i);

        if (g != NULL)
            resend_to(row, g, letter);
    }
}

void mp_dls_resend(struct mp_broker *b, uint32_t id)
{
    mp_dls_read(b, id, resend, b);
}
