"""Producing (PRO)."""
import asyncio
import gzip
import json
import time
import zlib

from memphis import Headers

from harness import check, drain, fill, numbers, refused, same, take, test


def raw_headers(message):
    return message.message.headers


@test("PRO-01", "a producer has a name of the rules, which its messages carry")
async def entity(t):
    m, station, _ = await t.start()
    p = await m.producer(station_name=station, producer_name="Shop.1")
    await fill(p, ["x"])
    c = await m.consumer(station_name=station, consumer_name="c")
    same(raw_headers((await take(c, 1))[0])["$memphis_producedBy"], "shop.1")
    await refused(m.producer(station_name=station, producer_name="a b"),
                  "Only alphanumeric and the '_', '-', '.' characters are allowed in Producer")
    await refused(m.producer(station_name=station, producer_name="p" * 129),
                  "Producer should be under 128 characters")


@test("PRO-02", "when produce returns the message is stored")
async def synchronous(t):
    m, station, p = await t.start()
    for i in range(1, 6):
        await fill(p, ["x"])
        same((await m.broker_manager.jsm().stream_info(station + "$1")).state.messages, i)
    await (await (await t.connect()).station(name=station)).destroy()
    await refused(fill(p, ["x"]), "no response from stream")


@test("PRO-03", "produce does not wait when asked so; all messages arrive, in order")
async def asynchronous(t):
    m, station, p = await t.start()
    await fill(p, numbers(1, 500), nonblocking=True)
    c = await m.consumer(station_name=station, consumer_name="c")
    same(await drain(c, 500), numbers(1, 500))


@test("PRO-04", "a connection produces without a producer object")
async def no_object(t):
    m = await t.connect()
    for body in numbers(1, 3):
        await m.produce(station_name=t.name(), producer_name="p",
                        message=bytearray(body, "utf-8"))
    same(len(m.producers_map), 1)
    c = await m.consumer(station_name=t.name(), consumer_name="c")
    same(await drain(c, 3), numbers(1, 3))


@test("PRO-05", "one producer for a list of stations: each gets the message")
async def several(t):
    m = await t.connect()
    stations = [t.name(x) for x in ("a", "b.c", "d")]
    p = await m.producer(station_name=stations, producer_name="p")
    await p.produce(bytearray(b"to all"))
    await m.produce(station_name=stations, producer_name="p", message=bytearray(b"again"))
    for s in stations:
        c = await m.consumer(station_name=s, consumer_name="c")
        same(await drain(c, 2), ["to all", "again"])
    await p.destroy()


@test("PRO-06", "headers come as they were sent; names of the broker are refused")
async def headers(t):
    m, station, p = await t.start()
    h = Headers()
    h.add("kind", "test")
    h.add("Street", "x: y; ü")
    await p.produce(bytearray(b""), headers=h)
    try:
        h.add("$memphis_x", "y")
        check(False, "not refused")
    except Exception as e:
        check("Keys in headers should not start with $memphis" in str(e), e)
    c = await m.consumer(station_name=station, consumer_name="c")
    message = (await take(c, 1))[0]
    same([message.get_headers().get(k) for k in ("kind", "Street")], ["test", "x: y; ü"])
    same(bytes(message.get_data()), b"")  # an empty payload is a message, too


@test("PRO-07", "a dict is sent as JSON, a string as its bytes")
async def objects(t):
    m, station, p = await t.start()
    await p.produce({"name": "Ünal", "list": [1, None]})
    await p.produce("text ü")
    await refused(p.produce(7), "Unsupported message type")
    c = await m.consumer(station_name=station, consumer_name="c")
    got = await drain(c, 2)
    same([json.loads(got[0]), got[1]], [{"name": "Ünal", "list": [1, None]}, "text ü"])


@test("PRO-08", "a suffix makes names unique")
async def suffix(t):
    m, station, _ = await t.start()
    made = [await m.producer(station_name=station, producer_name="u",
                             generate_random_suffix=True) for _ in range(2)]
    names = [p.producer_name for p in made]
    check(names[0] != names[1] and all(len(n) == 10 and n.startswith("u_") for n in names))
    for p in made:
        await fill(p, ["x"])
    c = await m.consumer(station_name=station, consumer_name="c", generate_random_suffix=True)
    check(c.consumer_name.startswith("c_"))
    same([raw_headers(x)["$memphis_producedBy"] for x in await take(c, 2)], names)


@test("PRO-09", "one producer name on many connections")
async def same_name(t):
    station = t.name()
    clients = [await t.connect() for _ in range(3)]
    made = [await m.producer(station_name=station, producer_name="p") for m in clients]
    for i, p in enumerate(made):
        await fill(p, [str(i)])
    await made[0].destroy()
    await fill(made[1], ["3"])
    c = await clients[2].consumer(station_name=station, consumer_name="c")
    same(await drain(c, 4), numbers(0, 3))


@test("PRO-10", "a producer is removed, also twice, and made again")
async def destroy(t):
    m, station, p = await t.start()
    await fill(p, ["1"])
    await p.destroy()
    same(m.producers_map, {})
    answer = await m._request("$memphis_producer_destructions", json.dumps(
        {"name": "p", "station_name": station, "connection_id": m.connection_id,
         "username": "root", "req_version": 1}).encode(), 10)
    same(answer.data, b"")
    p = await m.producer(station_name=station, producer_name="p")
    await fill(p, ["2"])
    c = await m.consumer(station_name=station, consumer_name="c")
    same(await drain(c, 2), ["1", "2"])


@test("PRO-11", "a limit of concurrent tasks holds the producer back")
async def limit(t):
    m, station, p = await t.start()
    most = 0
    for i in numbers(1, 200):
        await p.produce(bytearray(i, "utf-8"), nonblocking=True, concurrent_task_limit=20)
        most = max(most, len(p.background_tasks))
    check(1 < most <= 20, most)
    c = await m.consumer(station_name=station, consumer_name="c")
    same(await drain(c, 200), numbers(1, 200))


@test("PRO-13", "compressed bytes pass unchanged")
async def compression(t):
    m, station, p = await t.start()
    text = b"all the same " * 5000
    bodies = [zlib.compress(text), gzip.compress(text), bytes(range(256)) * 16]
    for body in bodies:
        await p.produce(bytearray(body))
    c = await m.consumer(station_name=station, consumer_name="c")
    got = [bytes(x.get_data()) for x in await take(c, 3)]
    same(got, bodies)
    same([zlib.decompress(got[0]), gzip.decompress(got[1])], [text, text])


@test("PRO-14", "each message says its producer and connection")
async def origin(t):
    m, station, p = await t.start()
    other = await t.connect()
    q = await other.producer(station_name=station, producer_name="q")
    await fill(p, ["1"])
    await fill(q, ["2"])
    c = await m.consumer(station_name=station, consumer_name="c")
    got = [raw_headers(x) for x in await take(c, 2)]
    same([(h["$memphis_producedBy"], h["$memphis_connectionId"]) for h in got],
         [("p", m.connection_id), ("q", other.connection_id)])
