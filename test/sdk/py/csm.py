"""Consuming (CSM)."""
import asyncio
import datetime
import json
import time

from memphis.types import Retention

from harness import check, drain, fill, nothing, numbers, refused, same, take, test, text_of, until


@test("CSM-01", "each group gets every message, one member of it each")
async def groups(t):
    m, station, p = await t.start()
    await fill(p, numbers(1, 300))
    a = await m.consumer(station_name=station, consumer_name="a", consumer_group="group-a")
    same(await drain(a, 300), numbers(1, 300))
    other = await t.connect()
    members = [await x.consumer(station_name=station, consumer_name="b", consumer_group="b")
               for x in (m, other)]
    parts = [[], []]
    for _ in range(15):
        for c, out in zip(members, parts):
            out += await drain(c, 10)
    same([len(x) for x in parts], [150, 150])
    same(sorted(parts[0] + parts[1]), sorted(numbers(1, 300)))
    lone = await m.consumer(station_name=station, consumer_name="Lone")
    same([lone.consumer_group, len(await drain(lone, 300))], ["lone", 300])


@test("CSM-02", "the pull loop calls its handler with batches")
async def loop(t):
    m, station, p = await t.start()
    c = await m.consumer(station_name=station, consumer_name="c", pull_interval_ms=100,
                         batch_size=10)
    got, sizes = [], []

    async def handler(messages, error, context):
        sizes.append(len(messages))
        for message in messages:
            got.append(text_of(message))
            await message.ack()
    await fill(p, numbers(1, 25))
    c.consume(handler)
    check(await until(lambda: len(got) >= 25), got)
    same(got, numbers(1, 25))
    same(max(sizes), 10)


@test("CSM-03", "fetch takes a batch of the size that was asked for, or what is there")
async def fetch(t):
    m, station, p = await t.start()
    await fill(p, numbers(1, 7))
    c = await m.consumer(station_name=station, consumer_name="c")
    same([len(await c.fetch(batch_size=n)) for n in (3, 1, 10)], [3, 1, 3])
    await refused(c.fetch(batch_size=5001), "Batch size can not be greater than 5000")
    await fill(p, ["8"])
    got = await m.fetch_messages(station_name=station, consumer_name="d", batch_size=8)
    same([text_of(x) for x in got], numbers(1, 8))


@test("CSM-04", "with prefetch the next batch waits in the client")
async def prefetch(t):
    m, station, p = await t.start()
    await fill(p, numbers(1, 30))
    c = await m.consumer(station_name=station, consumer_name="c")
    got = [text_of(x) for x in await c.fetch(batch_size=10, prefetch=True)]
    check(await until(lambda: len(c.cached_messages) == 20, 5), len(c.cached_messages))
    got += [text_of(x) for x in await c.fetch(batch_size=10, prefetch=True)]
    same(got, numbers(1, 20))


@test("CSM-05", "an acked message does not come again")
async def ack(t):
    m, station, p = await t.start()
    await fill(p, ["1", "2"])
    c = await m.consumer(station_name=station, consumer_name="c", max_ack_time_ms=1000,
                         max_msg_deliveries=5)
    first = await take(c, 2, ack=False)
    await first[0].ack()
    again = await take(c, 1)
    same([text_of(x) for x in again], ["2"])
    await nothing(c)


@test("CSM-06", "a nacked message comes again at once, others stay")
async def nack(t):
    m, station, p = await t.start()
    await fill(p, ["1", "2"])
    c = await m.consumer(station_name=station, consumer_name="c", max_ack_time_ms=30000)
    first = await take(c, 2, ack=False)
    began = time.time()
    await first[0].nack()
    same(await drain(c, 1), ["1"])
    check(time.time() - began < 3, time.time() - began)


async def dead_letter(t, m, message, reason):
    """The SDK's dead_letter() ends the delivery, then fails on its own metadata() and does
    not tell the reason: the test does, as the SDK would."""
    await refused(message.dead_letter(reason), "not callable")
    await m.broker_manager.publish("$memphis_nacked_dls", json.dumps(
        {"station_name": message.internal_station_name, "error": reason,
         "partition": message.partition, "cg_name": message.cg_name,
         "seq": message.get_sequence_number()}).encode())


@test("CSM-07", "a message is given up with a reason; dead_letter() of the SDK is broken after "
      "its first half, the test sends the second")
async def give_up(t):
    m, station, p = await t.start()
    await fill(p, ["bad", "good"])
    c = await m.consumer(station_name=station, consumer_name="c", max_ack_time_ms=1000,
                         max_msg_deliveries=5)
    got = await take(c, 2, ack=False)
    await dead_letter(t, m, got[0], "no such customer")
    await got[1].ack()
    rows = await t.letters(m, station)
    check(await until(lambda: row_says(t, m, station, "no such customer"), 5), rows)
    same([len(rows), rows[0]["message_seq"]], [1, 1])
    await nothing(c)


async def row_says(t, m, station, text):
    return [r["error"] for r in await t.letters(m, station)] == [text]


@test("CSM-08", "a delayed message comes after its delay, not before")
async def delay(t):
    m, station, p = await t.start()
    await fill(p, ["later"])
    c = await m.consumer(station_name=station, consumer_name="c", max_ack_time_ms=30000,
                         max_msg_deliveries=5)
    message = (await take(c, 1, ack=False))[0]
    began = time.time()
    await message.delay(2)
    same(await drain(c, 1), ["later"])
    check(1.8 < time.time() - began < 6, time.time() - began)


@test("CSM-09", "an unacked message comes again after its ack time")
async def ack_time(t):
    m, station, p = await t.start()
    await fill(p, ["once more"])
    c = await m.consumer(station_name=station, consumer_name="c", max_ack_time_ms=2000,
                         max_msg_deliveries=3)
    same(await drain(c, 1, ack=False), ["once more"])
    began = time.time()
    same(await drain(c, 1), ["once more"])
    check(1.5 < time.time() - began < 6, time.time() - began)


@test("CSM-10", "after its deliveries a message is a dead letter and does not come again")
async def deliveries(t):
    m, station, p = await t.start()
    await fill(p, ["hopeless"])
    c = await m.consumer(station_name=station, consumer_name="c", max_ack_time_ms=1500,
                         max_msg_deliveries=3)
    for _ in range(3):
        got = await take(c, 1, ack=False)
        same([text_of(x) for x in got], ["hopeless"])
        await got[0].nack()
    await nothing(c)
    rows = await t.letters(m, station)
    same([(r["reason"], r["deliveries"]) for r in rows], [("unacked", 3)])


@test("CSM-11", "a group can begin with a sequence")
async def sequence(t):
    m, station, p = await t.start()
    await fill(p, numbers(1, 20))
    c = await m.consumer(station_name=station, consumer_name="c",
                         start_consume_from_sequence=15)
    same(await drain(c, 6), numbers(15, 20))


@test("CSM-12", "a group can begin with the last messages, of one and of many partitions")
async def last(t):
    m, station, p = await t.start()
    await fill(p, numbers(1, 20))
    c = await m.consumer(station_name=station, consumer_name="c", last_messages=3)
    same(await drain(c, 3), numbers(18, 20))
    none = await m.consumer(station_name=station, consumer_name="none", last_messages=0)
    await fill(p, ["21"])
    same(await drain(none, 1), ["21"])
    many = t.name("many")
    await m.station(name=many, partitions_number=3)
    q = await m.producer(station_name=many, producer_name="q")
    await fill(q, numbers(1, 30))
    d = await m.consumer(station_name=many, consumer_name="d", last_messages=2)
    got = await drain(d, 6)  # of each partition
    same(sorted(got, key=int), numbers(25, 30))
    for _ in range(3):
        await nothing(d)


@test("CSM-13", "a sequence and last messages together are refused, by the broker, too")
async def conflict(t):
    m, station, p = await t.start()
    await refused(m.consumer(station_name=station, consumer_name="c", last_messages=3,
                             start_consume_from_sequence=2),
                  "Consumer creation options can't contain both start_consume_from_sequence "
                  "and last_messages")
    await refused(m.consumer(station_name=station, consumer_name="c",
                             start_consume_from_sequence=0), "has to be a positive number")
    answer = await m._request("$memphis_consumer_creations", json.dumps(
        {"name": "c", "station_name": station, "consumer_type": "application",
         "start_consume_from_sequence": 2, "last_messages": 3, "req_version": 4,
         "connection_id": m.connection_id}).encode(), 10)
    check(b"can't contain both startConsumeFromSequence and lastMessages" in answer.data,
          answer.data)


@test("CSM-14", "messages have sequence numbers, from 1 in each partition")
async def sequences(t):
    m, station, p = await t.start(partitions_number=2)
    await fill(p, numbers(1, 10))
    c = await m.consumer(station_name=station, consumer_name="c")
    for i in (1, 2):
        got = await take(c, 5, consumer_partition_number=i)
        same([x.get_sequence_number() for x in got], [1, 2, 3, 4, 5])


@test("CSM-15", "messages have the time they were stored at; get_timesent() of the SDK is "
      "broken, the test reads the metadata")
async def times(t):
    m, station, p = await t.start()
    before = datetime.datetime.now(datetime.timezone.utc)
    await fill(p, ["x"])
    after = datetime.datetime.now(datetime.timezone.utc)
    await asyncio.sleep(1)
    c = await m.consumer(station_name=station, consumer_name="c")
    message = (await take(c, 1))[0]
    same(message.get_timesent(), None)
    slack = datetime.timedelta(milliseconds=50)
    check(before - slack <= message.message.metadata.timestamp <= after + slack,
          message.message.metadata.timestamp)


@test("CSM-16", "the handler gets the context")
async def context(t):
    m, station, p = await t.start()
    c = await m.consumer(station_name=station, consumer_name="c", pull_interval_ms=100)
    c.set_context({"who": "me"})
    seen = []

    async def handler(messages, error, context):
        if messages:
            seen.append(context)
    await fill(p, ["x"])
    c.consume(handler)
    check(await until(lambda: seen), "no message")
    same(seen[0], {"who": "me"})


@test("CSM-20", "a group knows how many messages wait and are being worked on")
async def lag(t):
    m, station, p = await t.start()
    c = await m.consumer(station_name=station, consumer_name="c", consumer_group="g.h")
    await fill(p, numbers(1, 10))
    await take(c, 2)
    await take(c, 3, ack=False)

    async def known():
        i = await m.broker_connection.consumer_info(station + "$1", "g#h")
        seen.append((i.num_pending, i.num_ack_pending, i.ack_floor.stream_seq))
        return seen[-1] == (5, 3, 2)
    seen = []
    check(await until(known, 5), seen[-1])


@test("CSM-22", "a consumer takes from one partition, by number or key")
async def chosen(t):
    m, station, p = await t.start(partitions_number=3)
    await fill(p, numbers(1, 9))
    c = await m.consumer(station_name=station, consumer_name="c")
    same(await drain(c, 3, consumer_partition_number=3), ["3", "6", "9"])
    await p.produce(bytearray(b"by key"), producer_partition_key="k")
    d = await m.consumer(station_name=station, consumer_name="d", last_messages=1)
    same(await drain(d, 1, consumer_partition_key="k"), ["by key"])
    await refused(c.fetch(consumer_partition_number=4), "out of range")


@test("CSM-23", "the group goes with the last of its consumers")
async def destroy(t):
    m, station, p = await t.start()
    await fill(p, numbers(1, 4))
    other = await t.connect()
    a = await m.consumer(station_name=station, consumer_name="a", consumer_group="g")
    b = await other.consumer(station_name=station, consumer_name="b", consumer_group="g")
    same(await drain(a, 2), ["1", "2"])
    await m.broker_manager.flush()
    await a.destroy()
    same(await drain(b, 2), ["3", "4"])
    await b.destroy()
    await refused(m.broker_connection.consumer_info(station + "$1", "g"), "consumer not found")
    c = await m.consumer(station_name=station, consumer_name="c", consumer_group="g")
    same(await drain(c, 4), numbers(1, 4))


@test("CSM-24", "the ping of a consumer hears that its station has gone")
async def ping(t):
    m, station, p = await t.start()
    c = await m.consumer(station_name=station, consumer_name="c")
    c.ping_consumer_interval_ms = 300  # of 30 s
    errors = []
    pinging = asyncio.create_task(c._Consumer__ping_consumer(lambda e: errors.append(str(e))))
    await asyncio.sleep(1)
    same(errors, [])
    await (await t.clients[0].station(name=station)).destroy()
    check(await until(lambda: errors, 5), "nothing was said")
    pinging.cancel()
    check("not found" in errors[0], errors)


@test("CSM-27", "with ids, retention until acked and one delivery each comes once; what was "
      "not acked comes again after a restart")
async def guarantee(t):
    m, station, p = await t.start(retention_type=Retention.ACK_BASED)
    c = await m.consumer(station_name=station, consumer_name="c", max_msg_deliveries=1)
    for i in numbers(1, 20):
        for _ in range(2):  # a producer that is not sure
            await fill(p, [i], msg_id=i)
    same(await drain(c, 20), numbers(1, 20))
    await nothing(c)
    least = t.name("least")
    q = await m.producer(station_name=least, producer_name="q")
    await fill(q, numbers(1, 10))
    d = await m.consumer(station_name=least, consumer_name="d", max_ack_time_ms=3000,
                         max_msg_deliveries=10)
    same(await drain(d, 4), numbers(1, 4))
    same(await drain(d, 3, ack=False), numbers(5, 7))
    await m.broker_manager.flush()
    yield
    m = await t.connect()
    d = await m.consumer(station_name=least, consumer_name="d", max_ack_time_ms=3000,
                         max_msg_deliveries=10)
    same(sorted(await drain(d, 6), key=int), numbers(5, 10))
