#include "proto/nats_connect.h"

#include "base/str.h"

#include <stddef.h>

enum field_kind { TEXT, FLAG, NUMBER };

#define AT(member) offsetof(struct mp_nats_connect, member)

static const struct field {
    const char *key;
    enum field_kind kind;
    size_t offset;
} fields[] = {
    { "user", TEXT, AT(user) },
    { "pass", TEXT, AT(pass) },
    { "auth_token", TEXT, AT(token) },
    { "name", TEXT, AT(name) },
    { "lang", TEXT, AT(lang) },
    { "version", TEXT, AT(version) },
    { "jwt", TEXT, AT(unused) },
    { "nkey", TEXT, AT(unused) },
    { "sig", TEXT, AT(unused) },
    { "verbose", FLAG, AT(verbose) },
    { "pedantic", FLAG, AT(pedantic) },
    { "echo", FLAG, AT(echo) },
    { "headers", FLAG, AT(headers) },
    { "no_responders", FLAG, AT(no_responders) },
    { "tls_required", FLAG, AT(tls_required) },
    { "protocol", NUMBER, AT(protocol) },
};

static memphis_status read_field(const struct mp_json_value *root,
                                 const struct field *f, struct mp_nats_connect *c)
{
    void *out = (char *)c + f->offset;

    if (f->kind == TEXT)
        return mp_json_get_text(root, f->key, out, NULL);
    if (f->kind == FLAG)
        return mp_json_get_bool(root, f->key, out, NULL);
    return mp_json_get_int(root, f->key, out, NULL);
}

bool mp_nats_connect_read(const struct mp_json *doc, struct mp_nats_connect *out)
{
    const struct mp_json_value *root = mp_json_root(doc);

    /* A missing key is true for these three. */
    *out = (struct mp_nats_connect){ .verbose = true, .pedantic = true, .echo = true };
    if (!mp_json_is_object(root))
        return false;
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
        if (read_field(root, &fields[i], out) != MEMPHIS_OK)
            return false;
    return true;
}

/* Offset of the next "::" at or behind `at`; name.size: none. */
static size_t find_separator(memphis_slice name, size_t at)
{
    const char *p = name.data;

    for (; at + 1 < name.size; at++)
        if (p[at] == ':' && p[at + 1] == ':')
            return at;
    return name.size;
}

bool mp_nats_connect_name(memphis_slice name, memphis_slice *connection_id,
                          memphis_slice *user)
{
    size_t separator = find_separator(name, 0);
    bool is_plain =
        separator == name.size || mp_slice_contains(name, MP_STR("NATS CLI"));

    *connection_id = *user = (memphis_slice){ 0 };
    if (is_plain)
        return true;
    if (find_separator(name, separator + 2) != name.size)
        return false;
    *connection_id = mp_slice(name.data, separator);
    *user =
        mp_slice((const char *)name.data + separator + 2, name.size - separator - 2);
    return true;
}
