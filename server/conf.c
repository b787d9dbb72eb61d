#include "conf.h"

#include <errno.h>
#include <memphis/memphis.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum kind {
    TEXT, ANY, SWITCH, PASSWORD, TRUTH, SECONDS,
    PORT, PORT_OR_OFF, HOURS_30, HOURS_168, /* numbers */
    SIZE, MEMORY, PAYLOAD                   /* numbers that may have a unit */
};

static const struct {
    uint64_t least, most;
} ranges[] = {
    [PORT] = { 1, 65535 },
    [PORT_OR_OFF] = { 0, 65535 },
    [HOURS_30] = { 1, 30 },
    [HOURS_168] = { 1, 168 },
    [SIZE] = { 0, UINT64_MAX },
    [MEMORY] = { 4 << 20, UINT64_MAX },
    [PAYLOAD] = { 1 << 10, 8 << 20 /* of the library */ },
};

static const struct option {
    const char *name, *alias; /* without dashes */
    const char *env;          /* NULL: none */
    enum kind kind;
    size_t offset;
    const char *fallback; /* NULL: none */
    const char *help;
} options[] = {
    { "a", "addr", NULL, TEXT, offsetof(struct conf, addr), "127.0.0.1",
      "IP address to listen on" },
    { "p", "port", NULL, PORT, offsetof(struct conf, port), "6666",
      "port of the SDKs" },
    { "w", "ws_port", NULL, PORT_OR_OFF, offsetof(struct conf, ws_port), "7770",
      "WebSocket port (NATS clients of browsers); 0: off" },
    { "sd", "store_dir", NULL, TEXT, offsetof(struct conf, store_dir), "./data",
      "directory of all data" },
    { "m", "http_port", NULL, PORT_OR_OFF, offsetof(struct conf, http_port), "8222",
      "monitoring port on 127.0.0.1; 0: off" },
    { "mm", "memory_max", "MEMPHIS_MEMORY_MAX", MEMORY,
      offsetof(struct conf, memory_max), "256M",
      "bytes of memory in all, at least 4M; K, M, G are understood" },
    { "dr", "disk_reserve", "MEMPHIS_DISK_RESERVE", SIZE,
      offsetof(struct conf, disk_reserve), "0",
      "bytes of the disk that messages leave free, with K, M, G; 0: 5 %, at most 1G" },
    { "mp", "max_payload", "MEMPHIS_MAX_PAYLOAD", PAYLOAD,
      offsetof(struct conf, max_payload), "1M",
      "bytes of one message, headers included: 1K to 8M" },
    { "tls", "tls", NULL, SWITCH, offsetof(struct conf, tls), NULL,
      "TLS on the ports of SDKs and WebSockets: docs/tls.md" },
    { "tlscert", "tls_cert", NULL, ANY, offsetof(struct conf, tls_cert), "",
      "file with the server's certificate and its chain" },
    { "tlskey", "tls_key", NULL, ANY, offsetof(struct conf, tls_key), "",
      "file with its private key; SIGHUP reads both anew" },
    { "tlscacert", "tls_ca_cert", NULL, ANY, offsetof(struct conf, tls_ca), "",
      "file with the authority of clients' certificates; they may come without" },
    { "tlsverify", "tls_verify", NULL, SWITCH, offsetof(struct conf, tls_verify), NULL,
      "a client must have a certificate of --tlscacert" },
    { "accept-loss", "accept_loss", NULL, SWITCH, offsetof(struct conf, accept_loss),
      NULL, "start although stored data is damaged; keep all that verifies" },
    { "dlh", "dls_retention_hours", NULL, HOURS_30, offsetof(struct conf, dls_hours),
      "3", "hours for which a dead letter is kept after its last change, 1 to 30" },
    { "dlb", "dls_max_bytes", NULL, SIZE, offsetof(struct conf, dls_max_bytes), "1G",
      "bytes of all dead letters, with K, M, G; the oldest go first" },
    { "gch", "gc_producer_consumer_retention_hours", NULL, HOURS_168,
      offsetof(struct conf, idle_hours), "3",
      "hours for which a client's producers and consumers are kept without it, 1 to "
      "168; groups stay" },
    { "ldd", "lame_duck_duration", NULL, SECONDS, offsetof(struct conf, lame_duck_ms),
      "120", "seconds in which SIGUSR2 closes all clients before it stops" },
    { "ldg", "lame_duck_grace_period", NULL, SECONDS, offsetof(struct conf, grace_ms),
      "10", "seconds of them in which all clients are still served" },
    { "D", "debug", NULL, SWITCH, offsetof(struct conf, debug), NULL, "log more" },
    { "v", "version", NULL, SWITCH, offsetof(struct conf, version), NULL,
      "print the version and stop" },
    { "h", "help", NULL, SWITCH, offsetof(struct conf, help), NULL,
      "print this and stop" },
    { NULL, NULL, "ROOT_PASSWORD", PASSWORD, offsetof(struct conf, root_password),
      "memphis", "password of user root" },
    { NULL, NULL, "INITIAL_CONFIG_FILE", ANY, offsetof(struct conf, users), "",
      "users of the first start, as YAML text: see docs/users.md" },
    { NULL, NULL, "USER_PASS_BASED_AUTH", TRUTH, offsetof(struct conf, has_passwords),
      "true", "each user has a password; false: all share CONNECTION_TOKEN" },
    { NULL, NULL, "CONNECTION_TOKEN", PASSWORD, offsetof(struct conf, token), "memphis",
      "what SDKs send in place of passwords, without them" },
};
enum { OPTIONS = sizeof(options) / sizeof(options[0]), SECONDS_MAX = 86400 };

void conf_help(void)
{
    printf("usage: memphisd [flags]\n\n");
    for (int i = 0; i < OPTIONS; i++) {
        const struct option *o = &options[i];
        char left[64];

        if (o->name != NULL)
            snprintf(left, sizeof(left), "-%s, --%s", o->name, o->alias);
        else
            snprintf(left, sizeof(left), "environment %s", o->env);
        bool has_default = o->fallback != NULL && o->fallback[0] != 0;

        printf("  %-28s %s%s%s%s\n", left, o->help, has_default ? " (default " : "",
               has_default ? o->fallback : "", has_default ? ")" : "");
    }
}

/* Deployments wrap values in a second pair of quotes: "true" arrives with them. */
static char *unquoted(char *value)
{
    size_t n = strlen(value);

    if (n >= 2 && value[0] == '"' && value[n - 1] == '"') {
        value[n - 1] = 0;
        return value + 1;
    }
    return value;
}

/* "65536" and, where units are understood, "64K", "256M", "1G"; false: it is none of
 * these, or out of the kind's range. */
static bool read_number(enum kind kind, const char *value, uint64_t *out)
{
    const char *units = kind >= SIZE ? "KMG" : "", *unit;
    char *end;

    errno = 0;
    *out = strtoull(value, &end, 10);
    if (errno != 0 || value[0] < '0' || value[0] > '9' || *out > UINT64_MAX >> 30)
        return false;
    if (*end != 0) {
        unit = strchr(units, *end);
        if (unit == NULL || end[1] != 0)
            return false;
        *out <<= 10 * (unit - units + 1);
    }
    return *out >= ranges[kind].least && *out <= ranges[kind].most;
}

static int set(struct conf *c, const struct option *o, char *value, const char *shown)
{
    void *field = (char *)c + o->offset;
    char *end;
    uint64_t n;
    double seconds;

    switch (o->kind) {
    case SWITCH:
        if (value != NULL) {
            fprintf(stderr, "memphisd: %s takes no value.\n", shown);
            return 2;
        }
        *(bool *)field = true;
        return 0;
    case TEXT:
        *(const char **)field = value;
        if (value[0] != 0)
            return 0;
        break;
    case ANY:
        *(const char **)field = value;
        return 0;
    case TRUTH:
        *(bool *)field = strcasecmp(value, "true") == 0;
        if (*(bool *)field || strcasecmp(value, "false") == 0)
            return 0;
        break;
    case PASSWORD:
        *(const char **)field = value;
        if (strlen(value) > 0 && strlen(value) <= 72)
            return 0;
        fprintf(stderr, "memphisd: %s must have 1 to 72 bytes.\n", shown);
        return 1;
    case SECONDS: /* "0.5", too */
        seconds = strtod(value, &end);
        if (value[0] < '0' || value[0] > '9' || *end != 0 || seconds > SECONDS_MAX)
            break;
        *(uint64_t *)field = (uint64_t)(seconds * 1000);
        return 0;
    case PORT:
    case PORT_OR_OFF:
        if (!read_number(o->kind, value, &n))
            break;
        *(uint16_t *)field = (uint16_t)n;
        return 0;
    case HOURS_30:
    case HOURS_168:
        if (!read_number(o->kind, value, &n))
            break;
        *(uint32_t *)field = (uint32_t)n;
        return 0;
    case SIZE:
    case MEMORY:
    case PAYLOAD:
        if (!read_number(o->kind, value, &n))
            break;
        *(uint64_t *)field = n;
        return 0;
    }
    fprintf(stderr, "memphisd: '%s' is not a value for %s (%s).\n", value, shown,
            o->help);
    return 2;
}

static const struct option *find(const char *name, size_t size)
{
    for (int i = 0; i < OPTIONS; i++) {
        const struct option *o = &options[i];

        if (o->name != NULL &&
            ((strlen(o->name) == size && memcmp(o->name, name, size) == 0) ||
             (strlen(o->alias) == size && memcmp(o->alias, name, size) == 0)))
            return o;
    }
    return NULL;
}

static int read_flags(struct conf *c, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        char *arg = argv[i], *name = arg + 1 + (arg[0] == '-' && arg[1] == '-');
        char *value = strchr(arg, '=');
        size_t size = value != NULL ? (size_t)(value - name) : strlen(name);
        const struct option *o = arg[0] == '-' ? find(name, size) : NULL;
        int rc;

        if (o == NULL) {
            fprintf(stderr,
                    "memphisd: unknown argument '%s'. `memphisd -h` lists them.\n",
                    arg);
            return 2;
        }
        if (value != NULL)
            value++;
        if (o->kind != SWITCH && value == NULL) {
            if (i + 1 == argc) {
                fprintf(stderr, "memphisd: %s needs a value (%s).\n", arg, o->help);
                return 2;
            }
            value = argv[++i];
        }
        rc = set(c, o, value, arg);
        if (rc != 0)
            return rc;
        c->addr_given |= strcmp(o->alias, "addr") == 0;
    }
    return 0;
}

/* Each of the flags switches TLS on: half a configuration must not mean none. */
static int check_tls(struct conf *c)
{
    c->tls |= c->tls_cert[0] != 0 || c->tls_key[0] != 0 || c->tls_ca[0] != 0 ||
              c->tls_verify;
    if (c->tls && (c->tls_cert[0] == 0 || c->tls_key[0] == 0)) {
        fprintf(stderr, "memphisd: TLS needs both --tlscert FILE and --tlskey FILE.\n");
        return 2;
    }
    if (c->tls_verify && c->tls_ca[0] == 0) {
        fprintf(stderr, "memphisd: --tlsverify needs --tlscacert FILE: whose "
                        "certificates are good?\n");
        return 2;
    }
    return 0;
}

int conf_read(struct conf *c, int argc, char **argv)
{
    int rc;

    memset(c, 0, sizeof(*c));
    for (int i = 0; i < OPTIONS; i++) {
        const struct option *o = &options[i];
        char *env = o->env != NULL ? getenv(o->env) : NULL;

        if (o->fallback == NULL)
            continue;
        rc = env != NULL && (env[0] != 0 || o->kind == PASSWORD)
                 ? set(c, o, unquoted(env), o->env)
                 : set(c, o, (char *)(uintptr_t)o->fallback, "a default");
        if (rc != 0)
            return rc;
    }
    rc = read_flags(c, argc, argv);
    return rc != 0 ? rc : check_tls(c);
}
