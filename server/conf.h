/* server/conf.h -- options of memphisd: flags over environment over defaults.
 *
 * One table holds names, environment variables, defaults and help; --help and the
 * manual are printed from it. Flags take one or two dashes, "-flag value" or
 * "-flag=value".
 */
#ifndef MEMPHISD_CONF_H
#define MEMPHISD_CONF_H

#include <stdbool.h>
#include <stdint.h>

struct conf {
    const char *addr;
    uint16_t port, ws_port, http_port; /* 0: off, but port */
    const char *store_dir;
    const char *root_password;
    bool has_passwords; /* else all users share the token */
    const char *token;
    const char *users; /* of the first start: YAML; "": none */
    uint64_t memory_max, disk_reserve, max_payload;
    uint32_t dls_hours, idle_hours;
    uint64_t dls_max_bytes;
    uint64_t lame_duck_ms, grace_ms;
    bool tls; /* with a certificate and a key, at least; "": no such file */
    const char *tls_cert, *tls_key, *tls_ca;
    bool tls_verify;
    bool accept_loss, debug, version, help;
    bool addr_given;
};

/* 0: go on. Else the exit status, after a sentence on stderr: 2 for usage, 1 for
 * values. */
int conf_read(struct conf *c, int argc, char **argv);
void conf_help(void);

#endif
