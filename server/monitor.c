/* Port 8222 on loopback: is it alive, and a page that says what this is. */
#include "server.h"

#include "tunnel.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/http.h>
#include <stdio.h>
#include <string.h>

static void reply(struct evhttp_request *req, int code, const char *type,
                  const char *body)
{
    struct evbuffer *b = evbuffer_new();

    if (b == NULL) {
        evhttp_send_error(req, 503, NULL);
        return;
    }
    evhttp_add_header(evhttp_request_get_output_headers(req), "Content-Type", type);
    evbuffer_add(b, body, strlen(body));
    evhttp_send_reply(req, code, NULL, b);
    evbuffer_free(b);
}

static void on_healthz(struct evhttp_request *req, void *ctx)
{
    const struct server *s = ctx;

    if (s->is_lame_duck)
        reply(req, 500, "application/json",
              "{\"status\":\"error\",\"error\":\"lame duck: no new connections\"}");
    else
        reply(req, 200, "application/json", "{\"status\":\"ok\"}");
}

static void put_tls(const struct server *s, char *body, size_t size)
{
    size_t n = strlen(body);

    if (s->tunnels == NULL)
        return;
    const struct tunnel_counters *c = tunnels_counters(s);
    snprintf(body + n, size - n,
             "TLS: opened %llu, failed %llu, too late %llu, refused for want of it "
             "%llu\n",
             (unsigned long long)c->opened, (unsigned long long)c->failed,
             (unsigned long long)c->late, (unsigned long long)c->plain);
}

static void on_root(struct evhttp_request *req, void *ctx)
{
    struct server *s = ctx;
    memphis_stats st;
    char body[512];

    if (strcmp(evhttp_request_get_uri(req), "/") != 0) {
        reply(req, 404, "text/plain", "not found\n");
        return;
    }
    memphis_stats_read(s->broker, &st);
    snprintf(body, sizeof(body),
             "memphisd %s\nstations %llu, partitions %llu, sessions %llu\n"
             "since the start: stored %llu, delivered %llu, acked %llu\n",
             memphis_version_text(), (unsigned long long)st.stations,
             (unsigned long long)st.partitions, (unsigned long long)st.sessions,
             (unsigned long long)st.stored, (unsigned long long)st.delivered,
             (unsigned long long)st.acked);
    put_tls(s, body, sizeof(body));
    reply(req, 200, "text/plain", body);
}

int monitor_start(struct server *s)
{
    if (s->conf.http_port == 0)
        return 0;
    s->http = evhttp_new(s->base);
    if (s->http == NULL ||
        evhttp_bind_socket(s->http, "127.0.0.1", s->conf.http_port) != 0) {
        fprintf(stderr,
                "memphisd: cannot listen on 127.0.0.1:%u: %s. Choose another port with "
                "-m, or switch it off with -m 0.\n",
                s->conf.http_port, strerror(errno));
        return 1;
    }
    evhttp_set_allowed_methods(s->http, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD);
    evhttp_set_max_headers_size(s->http, 8192);
    evhttp_set_max_body_size(s->http, 4096);
    evhttp_set_timeout(s->http, 5);
    evhttp_set_cb(s->http, "/healthz", on_healthz, s);
    evhttp_set_gencb(s->http, on_root, s);
    return 0;
}

void monitor_stop(struct server *s)
{
    if (s->http != NULL)
        evhttp_free(s->http);
    s->http = NULL;
}
