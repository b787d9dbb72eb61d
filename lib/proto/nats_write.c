#include "proto/nats_write.h"

#include "base/json.h"
#include "base/str.h"

/* What clients compare: nats.js refuses to pull from a server older than 2.9.4. */
static const char server_version[] = "2.10.7";

enum {
    LINE_OVERHEAD = 64,        /* verb, two numbers, blanks and line ends */
    CLIENT_ID_MASK = 0x7fffffff /* jnats reads client_id into an int */
};

static void put_field(struct mp_buf *out, memphis_slice s)
{
    mp_buf_put_slice(out, s);
    mp_buf_put_u8(out, ' ');
}

static void put_end(struct mp_buf *out)
{
    mp_buf_put(out, "\r\n", 2);
}

void mp_nats_write_info(struct mp_buf *out, const struct mp_server_info *i,
                        uint64_t client_id, const char *client_ip)
{
    struct mp_json_writer w = { .out = out };

    mp_buf_put_text(out, "INFO ");
    mp_json_object(&w, NULL);
    mp_json_put_str(&w, "server_id", i->server_id);
    mp_json_put_str(&w, "server_name", i->server_name);
    mp_json_put_str(&w, "version", server_version);
    mp_json_put_int(&w, "proto", 1);
    mp_json_put_str(&w, "go", "none"); /* jnats wants the field */
    mp_json_put_str(&w, "host", i->host);
    mp_json_put_uint(&w, "port", i->port);
    mp_json_put_bool(&w, "headers", true);
    mp_json_put_bool(&w, "auth_required", i->auth_required);
    if (i->tls_required)
        mp_json_put_bool(&w, "tls_required", true);
    mp_json_put_uint(&w, "max_payload", i->payload_max);
    mp_json_put_bool(&w, "jetstream", true);
    mp_json_put_uint(&w, "client_id", client_id & CLIENT_ID_MASK);
    mp_json_put_str(&w, "client_ip", client_ip);
    mp_json_put_str(&w, "connection_id", "");
    if (i->lame_duck)
        mp_json_put_bool(&w, "ldm", true);
    mp_json_object_end(&w);
    put_end(out);
}

void mp_nats_write_message(struct mp_buf *out, const char *sid,
                           const struct mp_message *m, bool headers)
{
    memphis_slice id = mp_slice_text(sid);
    memphis_slice head = headers ? m->headers : (memphis_slice){ 0 };

    mp_buf_reserve(out, m->subject.size + id.size + m->reply.size + head.size +
                            m->payload.size + LINE_OVERHEAD);
    mp_buf_put_slice(out, head.size > 0 ? MP_STR("HMSG ") : MP_STR("MSG "));
    put_field(out, m->subject);
    put_field(out, id);
    if (m->reply.size > 0)
        put_field(out, m->reply);
    if (head.size > 0) {
        mp_buf_put_decimal(out, head.size);
        mp_buf_put_u8(out, ' ');
    }
    mp_buf_put_decimal(out, head.size + m->payload.size);
    put_end(out);
    mp_buf_put_slice(out, head);
    mp_buf_put_slice(out, m->payload);
    put_end(out);
}

void mp_nats_write_error(struct mp_buf *out, const char *text)
{
    mp_buf_put_text(out, "-ERR '");
    mp_buf_put_text(out, text);
    mp_buf_put_text(out, "'\r\n");
}
