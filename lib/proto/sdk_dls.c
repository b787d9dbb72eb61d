/* What SDKs say of dead letters (broker-semantics 5): notices, which nobody answers.
 * What makes no sense is left out without a word. */
#include "base/json.h"
#include "base/mem.h"
#include "broker/dls.h"
#include "proto/sdk_internal.h"

/* SDKs give it as they have it: external or internal form, any case. NULL: there is no
 * such one, or the client may not do that with it. */
static struct mp_station *station_of(const struct mp_sdk_call *c, uint32_t needs)
{
    char name[MP_NAME_MAX + 1];

    if (mp_sdk_take_name(c->body.station_name, "Station", true, name, NULL) !=
        MEMPHIS_OK)
        return NULL;
    struct mp_station *s = mp_station_find(c->broker, mp_slice_text(name));
    bool may = mp_sdk_may(c, needs, "access", name, NULL) == MEMPHIS_OK;
    return may && s != NULL && mp_station_is_ready(s) ? s : NULL;
}

/* A consumer gave up on a message: why. */
void mp_sdk_take_nacked(const struct mp_sdk_call *c, struct mp_sdk_request *r)
{
    const struct mp_sdk_body *b = &c->body;
    struct mp_station *s = station_of(c, MP_MAY_READ);

    if (s != NULL && b->seq > 0 && b->partition > 0 &&
        b->partition <= s->settings.partitions)
        mp_dls_nacked(s, (uint32_t)b->partition, (uint64_t)b->seq,
                      mp_slice_text(b->group), mp_slice_text(b->text));
    mp_free(r);
}

/* A consumer has settled what was resent to its group. */
void mp_sdk_take_settled(const struct mp_sdk_call *c, struct mp_sdk_request *r)
{
    uint32_t id = c->body.id > 0 && c->body.id <= INT32_MAX ? (uint32_t)c->body.id : 0;
    const struct mp_dead_row *row = mp_dls_find(c->broker, id);

    if (row != NULL && row->station != NULL && /* it is going: so is the row */
        mp_sdk_may(c, MP_MAY_READ, "access", row->station->name, NULL) == MEMPHIS_OK)
        mp_dls_settle(c->broker, id, mp_slice_text(c->body.group));
    mp_free(r);
}

static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool put_hex(struct mp_buf *out, const char *hex)
{
    for (; hex[0] != 0 && hex[1] != 0; hex += 2) {
        int high = digit(hex[0]), low = digit(hex[1]);
        if (high < 0 || low < 0)
            return false;
        mp_buf_put_u8(out, (uint8_t)(high << 4 | low));
    }
    return hex[0] == 0;
}

static void put_line(void *ctx, const char *key, const char *value)
{
    struct mp_buf *b = ctx;

    if (strpbrk(key, ":\r\n") != NULL || strpbrk(value, "\r\n") != NULL)
        return;
    mp_buf_put_text(b, key);
    mp_buf_put_text(b, ": ");
    mp_buf_put_text(b, value);
    mp_buf_put_text(b, "\r\n");
}

/* A producer has not sent it: it breaks the schema. */
void mp_sdk_take_refused(const struct mp_sdk_call *c, struct mp_sdk_request *r)
{
    struct mp_station *s = station_of(c, MP_MAY_WRITE);
    const struct mp_json_value *message = mp_json_get(mp_json_root(c->doc), "message");
    struct mp_buf headers = { 0 }, payload = { 0 };

    mp_buf_put_text(&headers, "NATS/1.0\r\n");
    if (message != NULL)
        mp_json_each_text(mp_json_get(message, "headers"), put_line, &headers);
    mp_buf_put_text(&headers, "\r\n");
    if (s != NULL && s->settings.dls_schema && headers.size <= MP_HEADERS_MAX &&
        put_hex(&payload, c->body.data))
        mp_dls_refused(s, mp_buf_slice(&headers), mp_buf_slice(&payload),
                       mp_slice_text(c->body.text));
    mp_buf_fini(&headers);
    mp_buf_fini(&payload);
    mp_free(r);
}
