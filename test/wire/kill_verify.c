/* After a start: is everything there that was promised? */
#include "wire/kill_load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLES = 10 };

/* Fails unless message and place are what we know. */
static void on_read(void *ctx, uint32_t partition, uint64_t seq, uint32_t deliveries,
                    const struct client_message *m)
{
    struct kill_test *t = ctx;
    char expected[CONTENT_SIZE], prefix[64], copy[64];
    uint32_t number;

    (void)deliveries;
    snprintf(prefix, sizeof(prefix), "%s message ", t->station);
    snprintf(copy, sizeof(copy), "%.*s", (int)m->payload.size,
             (const char *)m->payload.data);
    if (strncmp(copy, prefix, strlen(prefix)) != 0 ||
        (number = (uint32_t)strtoul(copy + strlen(prefix), NULL, 10)) >=
            t->items_count ||
        m->payload.size != kill_content(t, number, expected) ||
        memcmp(m->payload.data, expected, m->payload.size) != 0) {
        kill_fail(t, "partition %u holds at %llu what nobody sent: %.40s", partition,
                  (unsigned long long)seq, copy);
        return;
    }
    struct item *i = &t->items[number];
    if (seq != t->read[partition].seq + 1)
        kill_fail(t, "partition %u goes from sequence %llu to %llu", partition,
                  (unsigned long long)t->read[partition].seq, (unsigned long long)seq);
    if (i->partition != partition || (i->seq != 0 && i->seq != seq))
        kill_fail(t,
                  "message %u is in partition %u at %llu, was promised in %u at %llu",
                  number, partition, (unsigned long long)seq, i->partition,
                  (unsigned long long)i->seq);
    if (i->verified_round == t->round)
        kill_fail(t, "message %u is there twice", number);
    if (!i->was_resent && number + 1 <= t->read[partition].number)
        kill_fail(t, "partition %u: message %u comes behind message %llu", partition,
                  number, (unsigned long long)t->read[partition].number - 1);
    i->verified_round = t->round;
    i->seq = seq;
    t->read[partition].seq = seq;
    if (!i->was_resent)
        t->read[partition].number = number + 1;
    t->verified++;
}

static void base64(const char *in, size_t size, char *out)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (size_t i = 0; i + 2 < size; i += 3) { /* whole groups only: a prefix */
        uint32_t v = (uint32_t)(uint8_t)in[i] << 16 |
                     (uint32_t)(uint8_t)in[i + 1] << 8 | (uint8_t)in[i + 2];

        for (int k = 18; k >= 0; k -= 6)
            *out++ = digits[v >> k & 63];
    }
    *out = 0;
}

/* By another way than a group: STREAM.MSG.GET. */
static bool sample(struct kill_test *t)
{
    for (int k = 0; k < SAMPLES && t->items_count > 0; k++) {
        uint32_t number = dice_roll(&t->dice, t->items_count);
        const struct item *i = &t->items[number];
        char content[CONTENT_SIZE], text[2 * CONTENT_SIZE], subject[100], body[40];
        char answer[4 * CONTENT_SIZE];

        if (i->seq == 0)
            continue;
        snprintf(subject, sizeof(subject), "$JS.API.STREAM.MSG.GET.%s$%u", t->station,
                 i->partition);
        snprintf(body, sizeof(body), "{\"seq\":%llu}", (unsigned long long)i->seq);
        base64(content, kill_content(t, number, content), text);
        if (!client_request(t->clients[PRODUCER], subject, body, 10000, answer,
                            sizeof(answer)) ||
            strstr(answer, text) == NULL)
            return kill_fail(t, "STREAM.MSG.GET does not find message %u: %.150s",
                             number, answer);
    }
    return true;
}

bool kill_verify(struct kill_test *t)
{
    struct client *c = t->clients[PRODUCER];
    char group[32];

    snprintf(group, sizeof(group), "reader%u", t->round);
    memset(t->read, 0, sizeof(t->read));
    if (!client_create_consumer(c, t->station, group, 60000))
        return kill_fail(t, "a group to read with cannot be made");
    for (uint32_t p = 1; p <= PARTITIONS; p++)
        if (!client_drain(c, t->station, p, group, on_read, t))
            return kill_fail(t, "partition %u cannot be read to its end", p);
    if (!client_drop_consumer(c, t->station, group))
        return kill_fail(t, "the group to read with cannot be removed");
    for (uint32_t n = 0; n < t->items_count; n++)
        if (t->items[n].seq > 0 && t->items[n].verified_round != t->round)
            return kill_fail(
                t,
                "message %u is lost: it was %s at sequence %llu of "
                "partition %u",
                n, t->items[n].was_published ? "acknowledged" : "delivered",
                (unsigned long long)t->items[n].seq, t->items[n].partition);
    return t->failure[0] == 0 && sample(t);
}

bool kill_group_is_done(struct kill_test *t)
{
    char subject[100], answer[4096];

    for (uint32_t p = 1; p <= PARTITIONS; p++) {
        snprintf(subject, sizeof(subject), "$JS.API.CONSUMER.INFO.%s$%u." GROUP,
                 t->station, p);
        if (!client_request(t->clients[PRODUCER], subject, "", 5000, answer,
                            sizeof(answer)) ||
            strstr(answer, "\"num_ack_pending\":0,") == NULL ||
            strstr(answer, "\"num_pending\":0,") == NULL)
            return false;
    }
    return true;
}
