/* The whole product on one page: a durable queue inside your program. No server, no
 * port, no configuration. Run it twice: the group keeps its place.
 *
 *     cc hello.c $(pkg-config --cflags --libs libmemphis) && ./a.out */
#include <memphis/memphis.h>

#include <stdio.h>

/* The verdict is the acknowledgement: nothing to forget, nothing to free. */
static int32_t on_order(void *ctx, memphis_message *m)
{
    unsigned *orders = ctx;
    memphis_slice body = memphis_message_data(m);

    printf("#%llu, delivery %u: %.*s\n",
           (unsigned long long)memphis_message_sequence(m),
           memphis_message_deliveries(m), (int)body.size, (const char *)body.data);
    if (body.size == 0)
        return MEMPHIS_DEAD; /* straight to the dead letters */
    if (++*orders == 2 && memphis_message_deliveries(m) == 1)
        return MEMPHIS_NACK; /* again, please */
    return MEMPHIS_ACK;
}

static bool print_dead(void *ctx, const memphis_dead *d)
{
    (void)ctx;
    printf("dead letter %llu of group %s: %s\n", (unsigned long long)d->id, d->group,
           d->detail);
    return true;
}

int main(int argc, char **argv)
{
    memphis_error err = { 0 };
    memphis_broker *broker = NULL;
    memphis_station *orders = NULL;
    memphis_producer *shop = NULL;
    memphis_consumer *packer = NULL;
    unsigned seen = 0;
    uint32_t handled = 0;

    if (memphis_open(&(memphis_options){ .data_dir = argc > 1 ? argv[1] : "./data" },
                     &broker, &err) ||
        memphis_station_create(broker, "orders",
                               &(memphis_station_options){ .partitions = 3 }, &orders,
                               &err) ||
        memphis_producer_open(orders, "shop", &shop, &err) ||
        memphis_consumer_open(
            orders, "packer-1",
            &(memphis_consumer_options){ .group = "packers", .ack_wait_ms = 5000 },
            &packer, &err))
        goto out;

    if (memphis_produce(shop, "two books", 9, NULL, NULL, &err) ||
        memphis_produce(shop, "one lamp", 8,
                        &(memphis_produce_options){ .message_id = "order-17" }, NULL,
                        &err) ||
        memphis_produce(shop, "", 0, NULL, NULL, &err))
        goto out;

    while (memphis_consume(packer, 10, 1000, on_order, &seen, &handled, &err) ==
               MEMPHIS_OK &&
           handled > 0)
        ; /* until a quiet second */
    memphis_dls_each(orders, print_dead, NULL, &err);
out:
    if (err.status)
        fprintf(stderr, "%s: %s\n", memphis_status_name(err.status), err.message);
    memphis_consumer_close(packer);
    memphis_producer_close(shop);
    memphis_station_close(orders);
    memphis_close(broker); /* any order is fine */
    return err.status != MEMPHIS_OK;
}
