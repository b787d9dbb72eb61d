/* memphisd: the library behind sockets. Order of start: options, store, listeners,
 * loop; of stop: no new connections, last turn, sync, exit. */
#include "server.h"

#include "tunnel.h"
#include "users.h"

#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

/* sysexits.h: what an init system or an operator can tell apart. */
enum { EXIT_USAGE = 2, EXIT_DATA = 65, EXIT_STORE_IO = 74 };

enum { DESCRIPTORS_KEPT = 64 }; /* for the store and the monitor; half at most */

static void log_line(void *ctx, int32_t level, const char *module, const char *line)
{
    static const char *const names[] = { "", "ERR", "WRN", "INF", "DBG", "TRC" };
    struct timespec t;
    struct tm tm;
    char when[32];

    (void)ctx;
    clock_gettime(CLOCK_REALTIME, &t);
    gmtime_r(&t.tv_sec, &tm);
    strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
    fprintf(stderr, "%s.%03ldZ [%s] %s: %s\n", when, t.tv_nsec / 1000000, names[level],
            module, line);
}

static void on_fatal(void *ctx, const memphis_fatal *why)
{
    struct server *s = ctx;

    fprintf(stderr, "memphisd: stopped: %s\n", why->text);
    s->exit_status = why->status == MEMPHIS_IO || why->status == MEMPHIS_NO_SPACE
                         ? EXIT_STORE_IO
                         : 70;
    event_base_loopbreak(s->base);
}

static void on_signal(evutil_socket_t sig, short what, void *ctx)
{
    struct server *s = ctx;

    (void)what;
    if (sig == SIGHUP && !s->conf.tls) {
        fprintf(stderr,
                "memphisd: SIGHUP reads certificates anew, and there are none.\n");
    } else if (sig == SIGHUP) {
        tunnels_reload(s);
    } else if (sig == SIGUSR2) {
        lame_duck_begin(s);
    } else if (sig == SIGTERM && s->is_lame_duck) {
        fprintf(stderr, "memphisd: already leaving; SIGINT stops at once.\n");
    } else {
        listener_stop(s);
        event_base_loopexit(s->base, NULL);
    }
}

static int open_store(struct server *s)
{
    memphis_options o = {
        .data_dir = s->conf.store_dir,
        .mode = MEMPHIS_MANUAL,
        .workers = 2,
        .recovery =
            s->conf.accept_loss ? MEMPHIS_RECOVERY_ACCEPT_LOSS : MEMPHIS_RECOVERY_AUTO,
        .log_level = s->conf.debug ? MEMPHIS_LOG_DEBUG : MEMPHIS_LOG_INFO,
        .log = log_line,
        .on_fatal = on_fatal,
        .fatal_ctx = s,
        .root_password = s->conf.root_password,
        .connection_token = s->conf.has_passwords ? NULL : s->conf.token,
        .memory_max = s->conf.memory_max,
        .disk_reserve = s->conf.disk_reserve,
        .dls_retention_hours = s->conf.dls_hours,
        .dls_max_bytes = s->conf.dls_max_bytes,
        .max_payload = (uint32_t)s->conf.max_payload,
        .gc_producer_consumer_retention_hours = s->conf.idle_hours,
        .session_port = s->conf.port,
        .websocket_port = s->conf.ws_port,
        .session_host = s->conf.addr,
    };
    memphis_error err = { 0 };

    if (memphis_open(&o, &s->broker, &err) == MEMPHIS_OK)
        return 0;
    fprintf(stderr,
            "memphisd: the store in '%s' cannot be opened: %s (another directory: "
            "-sd)\n",
            s->conf.store_dir, err.message);
    if (err.status == MEMPHIS_CORRUPT)
        return EXIT_DATA;
    return err.status == MEMPHIS_IO ? EXIT_STORE_IO : 1;
}

static void greet(const struct server *s, unsigned users)
{
    const struct conf *c = &s->conf;
    bool everywhere = strcmp(c->addr, "0.0.0.0") == 0 || strcmp(c->addr, "::") == 0;
    const char *host = everywhere ? "127.0.0.1" : c->addr;

    printf("memphisd %s\n", memphis_version_text());
    printf("  store    %s (%s)\n", c->store_dir, memphis_recovery_text(s->broker));
    printf("  SDKs     %s:%u%s\n", c->addr, c->port, c->tls ? " (TLS)" : "");
    if (c->ws_port != 0)
        printf("  browser  ws%s://%s:%u\n", c->tls ? "s" : "", c->addr, c->ws_port);
    if (c->http_port != 0)
        printf("  monitor  http://127.0.0.1:%u/healthz\n", c->http_port);
    if (c->addr_given && strncmp(c->addr, "127.", 4) != 0 &&
        strcmp(c->root_password, "memphis") == 0)
        printf("  WARNING  root has the default password; set ROOT_PASSWORD.\n");
    if (users > 0)
        printf("  users    loaded %u users from INITIAL_CONFIG_FILE\n", users);
    if (!c->has_passwords)
        printf("  users    share CONNECTION_TOKEN%s\n",
               strcmp(c->token, "memphis") == 0 ? ", which has its default" : "");
    if (c->tls)
        printf("SDKs need the files of docs/tls.md to connect.\n");
    else
        printf("Send a first message, from the source folder:\n"
               "  python3 -m venv v && v/bin/pip install memphis-py 'protobuf<5'\n"
               "  v/bin/python examples/first.py %s %u\n"
               "  make && build/examples/hello build/hello-data   # in C, no server\n",
               host, c->port);
    printf("Stop with Ctrl-C; everything acknowledged is on disk.\n");
    fflush(stdout);
}

/* Each connection takes a descriptor: as many as the system lets this process have. */
static void raise_limit(struct server *s)
{
    struct rlimit l;

    s->fd_max = INT_MAX;
    if (getrlimit(RLIMIT_NOFILE, &l) != 0)
        return;
    l.rlim_cur = l.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &l) != 0 && getrlimit(RLIMIT_NOFILE, &l) != 0)
        return;
    if (l.rlim_cur < INT_MAX)
        s->fd_max =
            (int)l.rlim_cur - (l.rlim_cur < 2 * DESCRIPTORS_KEPT ? (int)l.rlim_cur / 2
                                                                 : DESCRIPTORS_KEPT);
}

static int start(struct server *s)
{
    static const int numbers[SIGNALS] = { SIGINT, SIGTERM, SIGUSR2, SIGHUP };
    int rc = tunnels_start(s);

    if (rc == 0)
        rc = open_store(s);
    if (rc == 0)
        rc = listener_start(s);
    if (rc == 0)
        rc = monitor_start(s);
    if (rc == 0)
        rc = loop_start(s);
    for (int i = 0; rc == 0 && i < SIGNALS; i++) {
        signal(numbers[i], SIG_IGN); /* what holds once the loop is over: see stop */
        s->signals[i] = evsignal_new(s->base, numbers[i], on_signal, s);
        if (s->signals[i] == NULL || event_add(s->signals[i], NULL) != 0)
            rc = 1;
    }
    return rc;
}

/* Another signal must not end what the first one began. */
static void stop(struct server *s)
{
    listener_stop(s);
    lame_duck_stop(s);
    monitor_stop(s);
    conn_close_all(s);
    tunnels_stop(s);
    loop_stop(s);
    for (int i = 0; i < SIGNALS; i++)
        if (s->signals[i] != NULL)
            event_free(s->signals[i]);
    memphis_close(s->broker);
    event_base_free(s->base);
}

int main(int argc, char **argv)
{
    struct server s = { 0 };
    int rc = conf_read(&s.conf, argc, argv);

    if (rc != 0)
        return rc;
    if (s.conf.help) {
        conf_help();
        return 0;
    }
    if (s.conf.version) {
        printf("memphisd %s\n", memphis_version_text());
        return 0;
    }
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN); /* until the loop hears them: a start may take long */
    signal(SIGUSR2, SIG_IGN);
    raise_limit(&s);
    s.base = event_base_new();
    if (s.base == NULL || event_base_priority_init(s.base, 2) != 0) {
        fprintf(stderr, "memphisd: no event loop: %s.\n", "libevent could not start");
        return 1;
    }
    rc = start(&s);
    if (rc == 0) {
        greet(&s, users_load(&s));
        event_base_dispatch(s.base);
    }
    stop(&s); /* its last sync may fail */
    if (rc == 0 && s.exit_status == 0)
        printf("Stopped; everything acknowledged is on disk.\n");
    return rc != 0 ? rc : s.exit_status;
}
