/* bench/load.c -- the load generator of `make bench`. One mode per run, arguments as
 * key=value, the result as one line of key=value on stdout:
 *
 *   setup    kind port name stations          makes stations and leaves
 *   produce  port name window size seconds    publishes and counts PubAcks; min_bytes,
 *            [stations] [min_bytes] [pid]     stations: in turn
 *   consume  port name batch size count       pulls, acks each message, until the ack
 *            [stations] [pid]                 floor of every group is at the end
 *   latency  port name rate seconds           from publish to delivery (a waiting pull)
 *   start    port -- command ...              to the first PONG; resident memory, empty
 *   raw      file seconds                     4 KiB write + fdatasync in turn
 *   echo     size seconds                     round trips through a bare epoll loop
 *   port     from                             a free port
 *
 * kind is memphisd or nats. With pid the CPU time of that process is counted too.
 *
 * Counted are acknowledgements whose sequence is right: the n-th message published to a
 * station must be acknowledged once, with sequence n. Consumers check that each message
 * comes once, in order, with the bytes that were published. */
#include "client.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

static struct {
    const char *kind, *name, *file;
    unsigned port, stations, window, size, batch, rate, from;
    uint64_t min_bytes, count;
    double seconds;
    int pid;
    char **command;
} arg = { .kind = "memphisd", .name = "bench", .stations = 1, .window = 256,
          .size = 128, .batch = 256, .rate = 1000, .seconds = 5, .from = 40000 };

static double since(uint64_t start_ns)
{
    return (double)(now_ns() - start_ns) / 1e9;
}

/* === CPU time === */

static double cpu_of(int pid)
{
    char path[64], text[1024], *p;
    unsigned long user, sys;
    size_t n;
    FILE *f;

    if (pid == 0)
        return 0;
    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    f = fopen(path, "r");
    if (f == NULL)
        die("process %d is gone", pid);
    n = fread(text, 1, sizeof(text) - 1, f);
    fclose(f);
    text[n] = 0;
    p = strrchr(text, ')');
    if (p == NULL ||
        sscanf(p + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
               &sys) != 2)
        die("%s is not as expected", path);
    return (double)(user + sys) / (double)sysconf(_SC_CLK_TCK);
}

static double cpu_own(void)
{
    struct rusage r;

    getrusage(RUSAGE_SELF, &r);
    return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
           (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

/* === Stations === */

/* Stream of station number i: "<name><i>$1". */
static const char *stream_of(unsigned i, char text[128])
{
    snprintf(text, 128, "%.100s%u$1", arg.name, i);
    return text;
}

static void make_memphis(struct client *c, unsigned i)
{
    char body[512];
    const char *answer;

    snprintf(body, sizeof(body),
             "{\"name\":\"%s%u\",\"retention_type\":\"message_age_sec\","
             "\"retention_value\":604800,\"storage_type\":\"file\",\"replicas\":1,"
             "\"idempotency_window_in_ms\":120000,\"schema_name\":\"\","
             "\"dls_configuration\":{\"poison\":true,\"schemaverse\":true},"
             "\"username\":\"root\",\"tiered_storage_enabled\":false,"
             "\"partitions_number\":1,\"dls_station\":\"\"}",
             arg.name, i);
    answer = client_request(c, "$memphis_station_creations", body);
    if (answer[0] != 0)
        die("station: %s", answer);
}

static void make_nats(struct client *c, unsigned i)
{
    char subject[256], stream[128], body[512];
    const char *answer;

    stream_of(i, stream);
    snprintf(subject, sizeof(subject), "$JS.API.STREAM.CREATE.%s", stream);
    snprintf(body, sizeof(body),
             "{\"name\":\"%s\",\"subjects\":[\"%s.>\"],\"retention\":\"limits\","
             "\"max_consumers\":-1,\"max_msgs\":-1,\"max_bytes\":-1,"
             "\"max_age\":604800000000000,\"max_msgs_per_subject\":-1,"
             "\"max_msg_size\":-1,\"discard\":\"old\",\"storage\":\"file\","
             "\"num_replicas\":1,\"duplicate_window\":120000000000}",
             stream, stream);
    answer = client_request(c, subject, body);
    if (strstr(answer, "\"error\"") != NULL)
        die("stream: %s", answer);
}

static void setup(void)
{
    struct client *c = client_open(arg.port);
    bool nats = strcmp(arg.kind, "nats") == 0;
    uint64_t start = now_ns();

    for (unsigned i = 0; i < arg.stations; i++)
        (nats ? make_nats : make_memphis)(c, i);
    printf("n=%u seconds=%.4f\n", arg.stations, since(start));
    client_free(c);
}

/* === Produce === */

struct produce {
    struct client *c;
    uint8_t *acked;      /* a bit for each message */
    uint64_t acked_size; /* in bytes */
    uint64_t sent, done;
    char (*lines)[160]; /* per station: HPUB, subject, reply up to the number */
    size_t *line_sizes;
    char *rest; /* sizes, headers, payload, line end */
    size_t rest_size, payload_at;
};

enum { DIGITS = 10 };

static void put_number(char *p, uint64_t n)
{
    for (int i = DIGITS - 1; i >= 0; i--, n /= 10)
        p[i] = (char)('0' + n % 10);
}

static uint64_t get_number(const char *p, const char *end)
{
    uint64_t n = 0;

    while (p < end && *p >= '0' && *p <= '9')
        n = n * 10 + (uint64_t)(*p++ - '0');
    return n;
}

static void on_puback(void *ctx, const struct message *m)
{
    static const char key[] = "seq\":";
    struct produce *p = ctx;
    const char *subject_end = m->subject.data + m->subject.size;
    uint64_t n = get_number(subject_end - DIGITS, subject_end), sequence;
    const char *seq = memmem(m->body.data, m->body.size, key, sizeof(key) - 1);

    if (m->sid != 1 || m->headers.size > 0 || seq == NULL ||
        memmem(m->body.data, m->body.size, "error", 5) != NULL)
        die("publish %llu was answered %.*s %.*s", (unsigned long long)n,
            (int)m->headers.size, m->headers.data, (int)m->body.size, m->body.data);
    sequence = get_number(seq + sizeof(key) - 1, m->body.data + m->body.size);
    if (n >= p->sent || sequence != n / arg.stations + 1)
        die("publish %llu was acknowledged with sequence %llu", (unsigned long long)n,
            (unsigned long long)sequence);
    if (p->acked[n / 8] & (1u << n % 8))
        die("publish %llu was acknowledged twice", (unsigned long long)n);
    p->acked[n / 8] |= (uint8_t)(1u << n % 8);
    p->done++;
}

static void prepare(struct produce *p)
{
    static const char headers[] = "NATS/1.0\r\n$memphis_connectionId: "
                                  "6a0c6f9e-2f4b-4d0f-9a2e-7c1d5e8b3a60\r\n"
                                  "$memphis_producedBy: bench\r\n\r\n";
    size_t head = sizeof(headers) - 1;
    char stream[128];
    int n;

    p->lines = calloc(arg.stations, sizeof(*p->lines));
    p->line_sizes = calloc(arg.stations, sizeof(*p->line_sizes));
    p->rest = malloc(arg.size + 512);
    if (p->lines == NULL || p->line_sizes == NULL || p->rest == NULL)
        die("no memory");
    for (unsigned i = 0; i < arg.stations; i++)
        p->line_sizes[i] =
            (size_t)snprintf(p->lines[i], sizeof(p->lines[i]),
                             "HPUB %s.final _INBOX.bencha%u.", stream_of(i, stream),
                             p->c->id);
    n = snprintf(p->rest, 400, " %zu %zu\r\n%s", head, head + arg.size, headers);
    p->payload_at = (size_t)n;
    for (unsigned i = 0; i < arg.size; i++)
        p->rest[n + (int)i] = (char)('a' + i * 7 % 26);
    memcpy(p->rest + n + arg.size, "\r\n", 2);
    p->rest_size = (size_t)n + arg.size + 2;
}

static void publish_next(struct produce *p)
{
    uint64_t n = p->sent++;
    unsigned i = (unsigned)(n % arg.stations);
    size_t line = p->line_sizes[i];
    char *o = client_reserve(p->c, line + DIGITS + p->rest_size);

    if (n / 8 >= p->acked_size) {
        p->acked = realloc(p->acked, p->acked_size + (1 << 20));
        if (p->acked == NULL)
            die("no memory");
        memset(p->acked + p->acked_size, 0, 1 << 20);
        p->acked_size += 1 << 20;
    }
    memcpy(o, p->lines[i], line);
    put_number(o + line, n);
    memcpy(o + line + DIGITS, p->rest, p->rest_size);
    put_number(o + line + DIGITS + p->payload_at, n); /* no two payloads are equal */
    client_commit(p->c, line + DIGITS + p->rest_size);
}

static void produce(void)
{
    struct produce p = { .c = client_open(arg.port) };
    double server = cpu_of(arg.pid), own = cpu_own(), took;
    uint64_t start, bytes = 0;
    bool more = true;

    prepare(&p);
    p.c->on_message = on_puback;
    p.c->ctx = &p;
    start = now_ns();
    while (more || p.done < p.sent) {
        /* a round of 64 at least, so that no side pays for single messages */
        unsigned free_slots = arg.window - (unsigned)(p.sent - p.done);

        if (more && (free_slots >= 64 || free_slots == arg.window ||
                     arg.window <= 64)) {
            for (; free_slots > 0; free_slots--)
                publish_next(&p);
            bytes = p.sent * (p.rest_size + p.line_sizes[0] + DIGITS);
            more = since(start) < arg.seconds || bytes < arg.min_bytes;
        }
        client_pump(p.c, 10000);
    }
    took = since(start);
    printf("n=%llu seconds=%.4f rate=%.0f bytes=%llu server_us=%.3f client_us=%.3f\n",
           (unsigned long long)p.done, took, (double)p.done / took,
           (unsigned long long)bytes, (cpu_of(arg.pid) - server) * 1e6 / (double)p.done,
           (cpu_own() - own) * 1e6 / (double)p.done);
}

/* === Consume === */

struct consume {
    struct client *c;
    char next[200]; /* subject of pulls */
    unsigned station;
    uint64_t count, got, asked;
    char *expected;
};

static void make_group(struct consume *u)
{
    char subject[256], stream[128], body[512];
    const char *answer;

    stream_of(u->station, stream);
    snprintf(subject, sizeof(subject), "$JS.API.CONSUMER.DURABLE.CREATE.%s.readers",
             stream);
    snprintf(body, sizeof(body),
             "{\"stream_name\":\"%s\",\"config\":{\"durable_name\":\"readers\","
             "\"deliver_policy\":\"all\",\"ack_policy\":\"explicit\","
             "\"ack_wait\":300000000000,\"max_deliver\":10,"
             "\"filter_subject\":\"%s.final\",\"replay_policy\":\"instant\","
             "\"max_ack_pending\":-1,\"max_waiting\":512}}",
             stream, stream);
    answer = client_request(u->c, subject, body);
    if (strstr(answer, "\"error\"") != NULL)
        die("group: %s", answer);
    snprintf(u->next, sizeof(u->next), "$JS.API.CONSUMER.MSG.NEXT.%s.readers", stream);
}

static void send_ack(struct client *c, const struct piece *reply)
{
    char *p = client_reserve(c, reply->size + 16);

    memcpy(p, "PUB ", 4);
    memcpy(p + 4, reply->data, reply->size);
    memcpy(p + 4 + reply->size, " 4\r\n+ACK\r\n", 10);
    client_commit(c, reply->size + 14);
}

/* The sequence in the station: 6th token of the ack subject. */
static uint64_t sequence_of(const struct piece *reply)
{
    const char *p = reply->data, *end = p + reply->size;

    for (int i = 0; i < 5 && p != NULL; i++) {
        p = memchr(p, '.', (size_t)(end - p));
        p = p != NULL ? p + 1 : NULL;
    }
    return p != NULL ? get_number(p, end) : 0;
}

static void on_delivery(void *ctx, const struct message *m)
{
    struct consume *u = ctx;

    if (m->sid != 3)
        die("a message for subscription %u", m->sid);
    if (m->reply.size == 0)
        die("%.*s after %llu of %llu messages", (int)m->headers.size - 4,
            m->headers.data, (unsigned long long)u->got, (unsigned long long)u->count);
    if (sequence_of(&m->reply) != u->got + 1)
        die("message %llu came when %llu was due",
            (unsigned long long)sequence_of(&m->reply), (unsigned long long)u->got + 1);
    put_number(u->expected, u->got * arg.stations + u->station);
    if (m->body.size != arg.size || memcmp(m->body.data, u->expected, arg.size) != 0)
        die("message %llu has other bytes than were sent",
            (unsigned long long)u->got + 1);
    u->got++;
    send_ack(u->c, &m->reply);
}

static void pull(struct consume *u, unsigned batch)
{
    char body[64], inbox[32];
    int n = snprintf(body, sizeof(body), "{\"expires\":30000000000,\"batch\":%u}",
                     batch);

    snprintf(inbox, sizeof(inbox), "_INBOX.benchp%u.1", u->c->id);
    client_publish(u->c, u->next, inbox, body, (size_t)n);
    u->asked += batch;
}

static uint64_t ack_floor(struct consume *u)
{
    char subject[256], stream[128];
    const char *p;

    snprintf(subject, sizeof(subject), "$JS.API.CONSUMER.INFO.%s.readers",
             stream_of(u->station, stream));
    p = client_request(u->c, subject, "");
    p = strstr(p, "\"ack_floor\"");
    p = p != NULL ? strstr(p, "\"stream_seq\":") : NULL;
    if (p == NULL)
        die("no ack floor: %s", u->c->answer);
    return get_number(p + 13, p + 40);
}

/* Reads one station to its end; two pulls are out at any time. */
static void drain(struct consume *u)
{
    make_group(u);
    u->got = u->asked = 0;
    while (u->got < u->count) {
        while (u->asked < u->count && u->asked - u->got <= arg.batch) {
            uint64_t rest = u->count - u->asked;

            pull(u, rest < arg.batch ? (unsigned)rest : arg.batch);
        }
        client_pump(u->c, 10000);
    }
    while (ack_floor(u) < u->count)
        usleep(200);
}

static void consume(void)
{
    struct consume u = { .c = client_open(arg.port) };
    double server = cpu_of(arg.pid), own = cpu_own(), took;
    uint64_t start = now_ns();

    u.expected = malloc(arg.size);
    if (u.expected == NULL)
        die("no memory");
    for (unsigned i = 0; i < arg.size; i++)
        u.expected[i] = (char)('a' + i * 7 % 26);
    u.c->on_message = on_delivery;
    u.c->ctx = &u;
    for (unsigned i = 0; i < arg.stations; i++) {
        u.station = i;
        u.count = arg.count / arg.stations + (i < arg.count % arg.stations);
        if (u.count > 0)
            drain(&u);
    }
    took = since(start);
    printf("n=%llu seconds=%.4f rate=%.0f server_us=%.3f client_us=%.3f\n",
           (unsigned long long)arg.count, took, (double)arg.count / took,
           (cpu_of(arg.pid) - server) * 1e6 / (double)arg.count,
           (cpu_own() - own) * 1e6 / (double)arg.count);
}

/* === Latency === */

struct latency {
    struct consume u;
    uint64_t *sent_at;
    double *took_us;
};

static void on_timely(void *ctx, const struct message *m)
{
    struct latency *l = ctx;
    uint64_t n = m->reply.size > 0 ? sequence_of(&m->reply) : 0;

    if (n != l->u.got + 1)
        die("message %llu came when %llu was due", (unsigned long long)n,
            (unsigned long long)l->u.got + 1);
    l->took_us[l->u.got++] = (double)(now_ns() - l->sent_at[n - 1]) / 1e3;
    send_ack(l->u.c, &m->reply);
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void wait_both(struct client *a, struct client *b, uint64_t until_ns)
{
    struct pollfd p[2] = { { .fd = a->fd, .events = POLLIN },
                           { .fd = b->fd, .events = POLLIN } };
    uint64_t now = now_ns();
    struct timespec t = { 0, 0 };

    if (now < until_ns)
        t.tv_nsec = (long)(until_ns - now < 900000000 ? until_ns - now : 900000000);
    client_flush(a);
    client_flush(b);
    if (ppoll(p, 2, &t, NULL) < 0 && errno != EINTR)
        die("poll: %s", strerror(errno));
    if (p[0].revents)
        client_read(a);
    if (p[1].revents)
        client_read(b);
}

/* One connection publishes, another holds a pull that waits. */
static void latency(void)
{
    uint64_t total = (uint64_t)(arg.seconds * arg.rate), due, end;
    struct produce p = { .c = client_open(arg.port) };
    struct latency l = { .u = { .c = client_open(arg.port), .count = total } };

    l.sent_at = calloc(total, sizeof(*l.sent_at));
    l.took_us = calloc(total, sizeof(*l.took_us));
    if (l.sent_at == NULL || l.took_us == NULL)
        die("no memory");
    prepare(&p);
    p.c->on_message = on_puback;
    p.c->ctx = &p;
    make_group(&l.u);
    l.u.c->on_message = on_timely;
    l.u.c->ctx = &l;
    due = now_ns();
    end = due + (uint64_t)(arg.seconds * 1e9) + 20000000000u;
    while (l.u.got < total) {
        if (l.u.asked - l.u.got < 500)
            pull(&l.u, 1000);
        if (p.sent < total && now_ns() >= due) {
            l.sent_at[p.sent] = now_ns();
            publish_next(&p);
            due += 1000000000u / arg.rate;
        }
        wait_both(p.c, l.u.c, p.sent < total ? due : end);
        if (now_ns() > end)
            die("%llu of %llu messages came", (unsigned long long)l.u.got,
                (unsigned long long)total);
    }
    qsort(l.took_us, total, sizeof(*l.took_us), by_size);
    printf("n=%llu p50_us=%.1f p99_us=%.1f max_us=%.1f\n", (unsigned long long)total,
           l.took_us[total / 2], l.took_us[total * 99 / 100], l.took_us[total - 1]);
}

/* === Start === */

static long resident_kib(int pid)
{
    char path[64], line[256];
    long kib = 0;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/status", pid);
    f = fopen(path, "r");
    while (f != NULL && fgets(line, sizeof(line), f) != NULL)
        sscanf(line, "VmRSS: %ld", &kib);
    if (f != NULL)
        fclose(f);
    return kib;
}

static void start(void)
{
    uint64_t begin = now_ns();
    int fd, pid = fork(), status;
    struct client *c;
    double took;

    if (pid < 0)
        die("fork: %s", strerror(errno));
    if (pid == 0) {
        int quiet = open("/dev/null", O_WRONLY);

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(quiet, 1);
        dup2(quiet, 2);
        execv(arg.command[0], arg.command);
        _exit(127);
    }
    while ((fd = socket_to(arg.port)) < 0) {
        if (waitpid(pid, &status, WNOHANG) == pid)
            die("%s has ended with status %d", arg.command[0], status);
        if (since(begin) > 30)
            die("%s does not listen", arg.command[0]);
        usleep(100);
    }
    c = client_new(fd);
    client_hello(c);
    took = since(begin);
    sleep(1);
    printf("ms=%.2f kib=%ld\n", took * 1e3, resident_kib(pid));
    client_free(c);
    kill(pid, SIGTERM);
    waitpid(pid, &status, 0);
}

/* === Ceilings === */

static void raw(void)
{
    enum { FILE_MAX = 64 << 20, BLOCK = 4096 };
    int fd = open(arg.file, O_CREAT | O_RDWR | O_TRUNC | O_CLOEXEC, 0600);
    char *block = calloc(1, 1 << 20);
    uint64_t begin, n = 0;
    double took;

    if (fd < 0 || block == NULL)
        die("%s: %s", arg.file, strerror(errno));
    for (off_t at = 0; at < FILE_MAX; at += 1 << 20)
        if (pwrite(fd, block, 1 << 20, at) != 1 << 20)
            die("%s: %s", arg.file, strerror(errno));
    if (fsync(fd) != 0)
        die("fsync: %s", strerror(errno));
    memset(block, 'x', BLOCK);
    begin = now_ns();
    for (; since(begin) < arg.seconds; n++)
        if (pwrite(fd, block, BLOCK, (off_t)(n * BLOCK % FILE_MAX)) != BLOCK ||
            fdatasync(fd) != 0)
            die("%s: %s", arg.file, strerror(errno));
    took = since(begin);
    printf("n=%llu rate=%.0f us=%.2f\n", (unsigned long long)n, (double)n / took,
           took * 1e6 / (double)n);
    close(fd);
    unlink(arg.file);
    free(block);
}

static void echo_loop(int fd)
{
    struct epoll_event e = { .events = EPOLLIN };
    int ep = epoll_create1(EPOLL_CLOEXEC), one = 1;
    static char bytes[1 << 16];
    ssize_t n;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    fd = accept(fd, NULL, NULL);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
    while (epoll_wait(ep, &e, 1, -1) >= 0)
        if ((n = read(fd, bytes, sizeof(bytes))) == 0 ||
            (n > 0 && write(fd, bytes, (size_t)n) != n))
            break;
    _exit(0);
}

static int listen_on(unsigned port)
{
    struct sockaddr_in a = { .sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, (struct sockaddr *)&a, sizeof(a)) != 0 || listen(fd, 1) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static void port(void)
{
    int fd = -1;

    while (arg.from < 60000 && (fd = listen_on(arg.from)) < 0)
        arg.from++;
    if (fd < 0)
        die("no free port");
    printf("port=%u\n", arg.from);
}

/* Bytes of a publish go there and, in one MSG, come back. */
static void echo(void)
{
    unsigned at = arg.from;
    int listener, pid;
    struct client *c;
    uint64_t begin, n = 0;
    size_t got;
    double took;

    while ((listener = listen_on(at)) < 0)
        at++;
    pid = fork();
    if (pid == 0)
        echo_loop(listener);
    c = client_new(socket_to(at));
    begin = now_ns();
    for (; since(begin) < arg.seconds; n++) {
        struct pollfd p = { .fd = c->fd, .events = POLLIN };

        memset(client_reserve(c, arg.size + 150), 'x', arg.size + 150);
        client_commit(c, arg.size + 150);
        client_flush(c);
        for (got = 0; got < arg.size + 150;) {
            ssize_t r;

            poll(&p, 1, 1000);
            r = recv(c->fd, c->in, READ_MAX, 0);
            got += r > 0 ? (size_t)r : 0;
        }
    }
    took = since(begin);
    printf("n=%llu rate=%.0f us=%.2f\n", (unsigned long long)n, (double)n / took,
           took * 1e6 / (double)n);
    client_free(c);
    waitpid(pid, NULL, 0);
}

/* === Arguments === */

static void read_argument(const char *text)
{
    const char *value = strchr(text, '=');
    size_t key = value != NULL ? (size_t)(value - text) : 0;
    const struct {
        const char *name;
        unsigned *number;
    } numbers[] = {
        { "port", &arg.port },   { "stations", &arg.stations }, { "rate", &arg.rate },
        { "size", &arg.size },   { "window", &arg.window },     { "from", &arg.from },
        { "batch", &arg.batch },
    };

    if (value == NULL)
        die("an argument is key=value, not '%s'", text);
    value++;
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        if (strncmp(text, numbers[i].name, key) == 0 && numbers[i].name[key] == 0) {
            *numbers[i].number = (unsigned)strtoul(value, NULL, 10);
            return;
        }
    if (strncmp(text, "kind=", 5) == 0)
        arg.kind = value;
    else if (strncmp(text, "name=", 5) == 0)
        arg.name = value;
    else if (strncmp(text, "file=", 5) == 0)
        arg.file = value;
    else if (strncmp(text, "pid=", 4) == 0)
        arg.pid = (int)strtol(value, NULL, 10);
    else if (strncmp(text, "count=", 6) == 0)
        arg.count = strtoull(value, NULL, 10);
    else if (strncmp(text, "min_bytes=", 10) == 0)
        arg.min_bytes = strtoull(value, NULL, 10);
    else if (strncmp(text, "seconds=", 8) == 0)
        arg.seconds = strtod(value, NULL);
    else
        die("unknown argument '%s'", text);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } modes[] = { { "setup", setup },     { "produce", produce }, { "start", start },
                  { "consume", consume }, { "latency", latency }, { "raw", raw },
                  { "echo", echo },       { "port", port } };

    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "--") == 0) {
            arg.command = argv + i + 1;
            break;
        }
        read_argument(argv[i]);
    }
    if (arg.size < DIGITS || arg.stations == 0 || arg.window == 0)
        die("size is at least %d, stations and window 1", DIGITS);
    for (size_t i = 0; argc > 1 && i < sizeof(modes) / sizeof(modes[0]); i++)
        if (strcmp(argv[1], modes[i].name) == 0) {
            modes[i].run();
            return 0;
        }
    fprintf(stderr, "usage: load MODE [key=value ...]; see bench/load.c\n");
    return 2;
}
