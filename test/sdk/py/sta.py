"""Stations (STA)."""
import asyncio
import json
import time

import mmh3
from memphis.types import Retention, Storage

from harness import (check, drain, fill, nothing, numbers, refused, same, take, test, text_of,
                     until)

# The SDK's own sentence wants an error of nats-py 2.3, which newer ones do not raise.
GONE = "no response from stream"


@test("STA-01", "a station has the settings that it was made with; again is no error")
async def creation(t):
    m = await t.connect()
    for _ in range(2):
        await m.station(name=t.name(), retention_type=Retention.MESSAGES, retention_value=7,
                        storage_type=Storage.MEMORY, partitions_number=3,
                        idempotency_window_ms=5000)
    s = await t.settings(m, t.name())
    same([s[k] for k in ("retention_type", "retention_value", "storage_type",
                         "partitions_number", "idempotency_window_in_ms")],
         ["messages", 7, "memory", 3, 5000])


@test("STA-02", "a producer or a consumer makes the missing station, with the defaults")
async def automatic(t):
    m = await t.connect()
    await m.producer(station_name=t.name("p"), producer_name="p")
    await m.consumer(station_name=t.name("c"), consumer_name="c")
    for what in ("p", "c"):
        s = await t.settings(m, t.name(what))
        same([s[k] for k in ("retention_type", "retention_value", "storage_type",
                             "partitions_number", "idempotency_window_in_ms")],
             ["message_age_sec", 3600, "file", 1, 120000])


@test("STA-03", "names: capitals are folded, others refused with the product's texts")
async def names(t):
    m = await t.connect()
    await m.station(name=t.name("Loud").upper())
    check(await t.settings(m, t.name("loud")), "not folded")
    p = await m.producer(station_name=t.name("LOUD"), producer_name="P")
    await fill(p, ["x"])
    c = await m.consumer(station_name=t.name("Loud"), consumer_name="C")
    same(await drain(c, 1), ["x"])
    await refused(m.station(name="a b"), "Only alphanumeric and the '_', '-', '.' characters "
                  "are allowed in Station")
    for name in ("-a", "a."):
        await refused(m.station(name=name), "Station name can not start or end with non "
                      "alphanumeric character")
    await refused(m.station(name=""), "Station name can not be empty")
    await refused(m.station(name="a" * 129), "Station should be under 128 characters")


@test("STA-04", "names with dots work everywhere")
async def dots(t):
    m, station, p = await t.start(name=t.name("a.b.c"), partitions_number=2)
    await fill(p, numbers(1, 4))
    c = await m.consumer(station_name=station, consumer_name="c.d", consumer_group="g.h")
    same(sorted(await drain(c, 4)), numbers(1, 4))
    await c.destroy()
    await p.destroy()
    await (await m.station(name=station)).destroy()
    same(await t.settings(m, station), None)


@test("STA-05", "a destroyed station is gone for all, and comes back empty")
async def destroy(t):
    m, station, p = await t.start()
    await fill(p, numbers(1, 5))
    other = await t.connect()
    q = await other.producer(station_name=station, producer_name="q")
    c = await other.consumer(station_name=station, consumer_name="c")
    await (await m.station(name=station)).destroy()
    same(await t.settings(m, station), None)
    await refused(fill(q, ["late"]), GONE)
    await refused(take(c, 1, seconds=5), "")
    await until(lambda: not other.producers_map, 5)  # all clients are told
    same(other.producers_map, {})
    await m.station(name=station)
    d = await m.consumer(station_name=station, consumer_name="d")
    await nothing(d)


@test("STA-07", "retention by age: what is older goes")
async def age(t):
    m, station, p = await t.start(retention_type=Retention.MAX_MESSAGE_AGE_SECONDS,
                                  retention_value=2)
    await fill(p, numbers(1, 3))
    a = await m.consumer(station_name=station, consumer_name="a")
    same(await drain(a, 3), numbers(1, 3))
    await asyncio.sleep(3.5)
    await fill(p, ["new"])
    b = await m.consumer(station_name=station, consumer_name="b")
    same(await drain(b, 1), ["new"])
    same((await t.settings(m, station))["total_messages"], 1)


@test("STA-08", "retention by count: the newest are kept")
async def count(t):
    m, station, p = await t.start(retention_type=Retention.MESSAGES, retention_value=5)
    await fill(p, numbers(1, 20))
    c = await m.consumer(station_name=station, consumer_name="c")
    same(await drain(c, 5), numbers(16, 20))


@test("STA-09", "retention by bytes: the oldest go")
async def size(t):
    m, station, p = await t.start(retention_type=Retention.BYTES, retention_value=20000)
    await fill(p, [f"{i:04}" + "x" * 996 for i in range(60)])

    async def small():
        return (await t.settings(m, station))["total_bytes"] <= 20000
    check(await until(small, 5), await t.settings(m, station))
    s = await t.settings(m, station)
    check(s["total_bytes"] >= 15000, s)
    c = await m.consumer(station_name=station, consumer_name="c")
    got = [b[:4] for b in await drain(c, s["total_messages"])]
    same(got, [f"{i:04}" for i in range(60 - len(got), 60)])


@test("STA-10", "retention until acked: kept for each group that has not acked, then gone")
async def acked(t):
    m, station, p = await t.start(retention_type=Retention.ACK_BASED)
    await fill(p, ["nobody wants it"])
    a = await m.consumer(station_name=station, consumer_name="a")
    b = await m.consumer(station_name=station, consumer_name="b")
    await fill(p, numbers(1, 20))
    same(await drain(a, 20), numbers(1, 20))
    late = await m.consumer(station_name=station, consumer_name="c")
    same(await drain(late, 20), numbers(1, 20))
    same(await drain(b, 20), numbers(1, 20))

    async def empty():
        return (await t.settings(m, station))["total_messages"] == 0
    check(await until(empty, 5), "not gone")


@test("STA-11 CSM-18", "a restart keeps messages in files, and the place of their group")
async def files(t):
    m, station, p = await t.start(partitions_number=2)
    await fill(p, numbers(1, 40))
    c = await m.consumer(station_name=station, consumer_name="c", max_ack_time_ms=20000)
    before = await drain(c, 20)
    await m.broker_manager.flush()
    yield
    m = await t.connect()
    c = await m.consumer(station_name=station, consumer_name="c", max_ack_time_ms=20000)
    same(sorted(before + await drain(c, 20)), sorted(numbers(1, 40)))
    d = await m.consumer(station_name=station, consumer_name="d")
    same(sorted(await drain(d, 40)), sorted(numbers(1, 40)))


@test("STA-12", "a station in memory is there after a restart, its messages are not")
async def memory(t):
    m, station, p = await t.start(storage_type=Storage.MEMORY)
    await fill(p, numbers(1, 5))
    c = await m.consumer(station_name=station, consumer_name="c")
    same(await drain(c, 5), numbers(1, 5))
    yield
    m = await t.connect()
    s = await t.settings(m, station)
    same([s["storage_type"], s["total_messages"]], ["memory", 0])
    p = await m.producer(station_name=station, producer_name="p")
    await fill(p, ["new"])
    d = await m.consumer(station_name=station, consumer_name="d")
    same(await drain(d, 1), ["new"])


async def on_partition(t, m, station, partitions):
    """Payloads by partition."""
    c = await m.consumer(station_name=station, consumer_name=f"look{time.time_ns()}")
    out = {}
    for i in range(1, partitions + 1):
        state = (await m.broker_manager.jsm().stream_info(f"{station}${i}")).state
        out[i] = await drain(c, state.messages, consumer_partition_number=i)
    return out


@test("STA-15", "three partitions together hold every message once")
async def partitions(t):
    m, station, p = await t.start(partitions_number=3)
    await fill(p, numbers(1, 60))
    c = await m.consumer(station_name=station, consumer_name="c")
    same(sorted(await drain(c, 60)), sorted(numbers(1, 60)))
    for i in range(1, 4):
        check((await m.broker_manager.jsm().stream_info(f"{station}${i}")).state.messages > 0)
    same((await t.settings(m, station))["partitions_number"], 3)


@test("STA-16", "partitions take turns")
async def round_robin(t):
    m, station, p = await t.start(partitions_number=3)
    await fill(p, numbers(1, 9))
    same(await on_partition(t, m, station, 3),
         {1: ["1", "4", "7"], 2: ["2", "5", "8"], 3: ["3", "6", "9"]})


@test("STA-17", "a key goes to the partition of its hash, always the same")
async def keys(t):
    m, station, p = await t.start(partitions_number=4)
    want = {1: [], 2: [], 3: [], 4: []}
    for i in range(24):
        key = f"key{i % 12}"
        await p.produce(bytearray(f"{key} {i}", "utf-8"), producer_partition_key=key)
        want[mmh3.hash(key, 31, signed=False) % 4 + 1].append(f"{key} {i}")
    check(sum(len(x) > 0 for x in want.values()) > 1)
    same(await on_partition(t, m, station, 4), want)


@test("STA-18", "a partition can be chosen; one that is not there is refused")
async def number(t):
    m, station, p = await t.start(partitions_number=3)
    await fill(p, numbers(1, 3), producer_partition_number=2)
    await refused(p.produce(bytearray(b"x"), producer_partition_number=4), "out of range")
    await refused(p.produce(bytearray(b"x"), producer_partition_number=1,
                            producer_partition_key="k"),
                  "Can not use both partition number and partition key")
    same(await on_partition(t, m, station, 3), {1: [], 2: numbers(1, 3), 3: []})


@test("STA-19", "messages stay in order, and within each partition")
async def order(t):
    m, station, p = await t.start()
    await fill(p, numbers(1, 500))
    c = await m.consumer(station_name=station, consumer_name="c")
    same(await drain(c, 500), numbers(1, 500))
    many = t.name("many")
    await m.station(name=many, partitions_number=2)
    q = await m.producer(station_name=many, producer_name="q")
    await fill(q, numbers(1, 60))
    for got in (await on_partition(t, m, many, 2)).values():
        same(got, sorted(got, key=int))
        same(len(got), 30)


@test("STA-20", "a message of 8 MiB passes where that is the limit, a larger one does not")
async def large(t):
    m, station, p = await t.start()
    limit = m.broker_manager.max_payload  # with headers
    same(limit, 8 << 20)
    body = bytearray(bytes(range(256)) * (limit // 256 - 2))
    await p.produce(body)
    await refused(p.produce(body + bytearray(1024)), "maximum payload exceeded")
    await fill(p, ["small"])
    c = await m.consumer(station_name=station, consumer_name="c")
    got = await take(c, 2)
    check(got[0].get_data() == body, "other bytes came")
    same(text_of(got[1]), "small")


@test("STA-21", "a message id is stored once in its window, over a restart, and again after it")
async def idempotence(t):
    m, station, p = await t.start()
    await fill(p, ["x"] * 3, msg_id="same")
    short = t.name("short")
    await m.station(name=short, idempotency_window_ms=1000)
    q = await m.producer(station_name=short, producer_name="q")
    await fill(q, ["y"] * 2, msg_id="same")
    await asyncio.sleep(1.5)
    await fill(q, ["z"] * 2, msg_id="same")
    yield
    m = await t.connect()
    p = await m.producer(station_name=station, producer_name="p")
    await fill(p, ["x"], msg_id="same")
    await fill(p, ["other"], msg_id="other")
    c = await m.consumer(station_name=station, consumer_name="c")
    same(await drain(c, 2), ["x", "other"])
    d = await m.consumer(station_name=short, consumer_name="d")
    same(await drain(d, 2), ["y", "z"])
    for x in (c, d):
        await nothing(x)


@test("STA-23", "a purged station is empty, and its sequence goes on")
async def purge(t):
    m, station, p = await t.start(partitions_number=2)
    await fill(p, numbers(1, 20))
    same(await t.admin(m, "station_purge", name=station), {})
    same((await t.settings(m, station))["total_messages"], 0)
    await fill(p, ["new"])
    c = await m.consumer(station_name=station, consumer_name="c")
    got = await take(c, 1)
    same([text_of(x) for x in got], ["new"])
    same(got[0].get_sequence_number(), 11)


@test("STA-28", "a station can be without dead letters, of either kind")
async def no_letters(t):
    m, station, p = await t.start(send_poison_msg_to_dls=False,
                                  send_schema_failed_msg_to_dls=False)
    other = t.name("with")
    await m.station(name=other)
    q = await m.producer(station_name=other, producer_name="q")
    for s, producer in ((station, p), (other, q)):
        await fill(producer, ["hopeless"])
        c = await m.consumer(station_name=s, consumer_name="c", max_ack_time_ms=1000,
                             max_msg_deliveries=1)
        same(await drain(c, 1, ack=False), ["hopeless"])
        await m.broker_manager.publish("$memphis_schemaverse_dls", json.dumps(
            {"station_name": s, "producer": {"name": "p", "connection_id": "x"},
             "message": {"data": "00", "headers": {}}, "validation_error": "no"}).encode())
    same(sorted(r["reason"] for r in await t.letters(m, other, 2)), ["schema", "unacked"])
    await asyncio.sleep(1)
    same(await t.letters(m, station, 0), [])
    same(m.station_schemaverse_to_dls[station], False)


@test("STA-31", "a station knows how many messages and bytes it has")
async def totals(t):
    m, station, p = await t.start(partitions_number=2)
    await fill(p, ["x" * 100] * 10)
    s = await t.settings(m, station)
    same(s["total_messages"], 10)
    check(1000 <= s["total_bytes"] <= 4000, s)
