/* A gateway: the SDKs' protocol over a transport of your own, here a Unix socket. The
 * peer is trusted by the socket's permissions, so it needs no password.
 *
 *     build/examples/gateway /tmp/memphis.sock     one client, until it closes
 *     build/examples/gateway                       talks to itself */
#include <memphis/memphis.h>

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static bool closed;

struct peer {
    int fd;
    memphis_session *session;
};

static void to_peer(void *ctx, const memphis_slice *v, size_t n)
{
    struct peer *p = ctx;

    for (size_t i = 0; i < n; i++) {
        if (write(p->fd, v[i].data, v[i].size) != (ssize_t)v[i].size)
            closed = true; /* one that does not read is not waited for */
        memphis_session_drained(p->session, v[i].size); /* else it counts as slow */
    }
}

static void on_close(void *ctx, const char *why)
{
    (void)ctx;
    printf("closed: %s\n", why);
    closed = true;
}

/* Bytes between the peer and the session until one of them ends. */
static memphis_status serve(memphis_broker *broker, int fd, memphis_error *err)
{
    struct peer peer = { .fd = fd };
    memphis_pipe pipe = { .write = to_peer, .close = on_close, .ctx = &peer };
    memphis_session_options who = { .peer = "unix", .user = "root" };
    uint64_t next_ms = 0;
    char bytes[4096];

    if (memphis_session_new(broker, &pipe, &who, &peer.session, err))
        return err->status;
    while (!closed && memphis_step(broker, &next_ms) == MEMPHIS_OK) {
        struct pollfd p[] = { { .fd = fd, .events = POLLIN },
                              { .fd = memphis_wakeup_fd(broker), .events = POLLIN } };
        ssize_t n;

        poll(p, 2, next_ms > 1000 ? 1000 : (int)next_ms);
        if (p[0].revents == 0)
            continue;
        n = read(fd, bytes, sizeof bytes);
        closed = n <= 0 ||
                 memphis_session_feed(peer.session, bytes, (size_t)n) != MEMPHIS_OK;
    }
    memphis_session_free(peer.session);
    return MEMPHIS_OK;
}

static int accept_one(const char *path)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    int listener = socket(AF_UNIX, SOCK_STREAM, 0), fd;

    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    unlink(path);
    if (bind(listener, (struct sockaddr *)&a, sizeof a) || listen(listener, 1))
        return -1;
    printf("listening on %s\n", path);
    fd = accept(listener, NULL, NULL);
    close(listener);
    return fd;
}

/* The other end of the pair: what a client would send, and the end of its writing. */
static int talk_to_itself(int *other)
{
    static const char words[] = "CONNECT {\"verbose\":false}\r\nSUB hello 1\r\n"
                                "PUB hello 5\r\nworld\r\nPING\r\n";
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
        return -1;
    if (write(pair[1], words, sizeof words - 1) != (ssize_t)(sizeof words - 1))
        return -1;
    shutdown(pair[1], SHUT_WR);
    *other = pair[1];
    return pair[0];
}

int main(int argc, char **argv)
{
    memphis_error err = { 0 };
    memphis_broker *broker = NULL;
    memphis_options o = { .mode = MEMPHIS_MANUAL };
    int other = -1, fd = argc > 1 ? accept_one(argv[1]) : talk_to_itself(&other);
    char heard[2048] = "";

    if (fd < 0) {
        perror("gateway");
        return 1;
    }
    if (memphis_open(&o, &broker, &err) == MEMPHIS_OK)
        serve(broker, fd, &err);
    if (err.status)
        fprintf(stderr, "%s: %s\n", memphis_status_name(err.status), err.message);
    close(fd);
    memphis_close(broker);
    if (other >= 0 && read(other, heard, sizeof heard - 1) > 0)
        printf("%s", heard);
    return err.status != MEMPHIS_OK ||
           (other >= 0 && strstr(heard, "MSG hello 1 5\r\nworld") == NULL);
}
