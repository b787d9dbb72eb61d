"""Dead letters (DLS)."""
import json

from memphis import Headers

from csm import dead_letter
from harness import check, drain, fill, nothing, numbers, same, take, test, text_of, until


async def failed(t, bodies, **more):
    """A station with one dead letter per body, of the group g."""
    m, station, p = await t.start(**more)
    await fill(p, bodies)
    c = await m.consumer(station_name=station, consumer_name="c", consumer_group="g",
                         max_ack_time_ms=1000, max_msg_deliveries=1)
    same(await drain(c, len(bodies), ack=False), bodies)
    rows = await t.letters(m, station, len(bodies))
    same(len(rows), len(bodies))
    return m, station, c, rows


@test("DLS-01", "a new station has its dead-letter station, empty")
async def automatic(t):
    m, station, p = await t.start()
    same((await t.admin(m, "dls_list", name=station))["total"], 0)
    await fill(p, ["1"])
    c = await m.consumer(station_name=station, consumer_name="c", max_ack_time_ms=1000,
                         max_msg_deliveries=1)
    await take(c, 1, ack=False)
    same(len(await t.letters(m, station)), 1)


@test("DLS-02", "an unacked message becomes a letter with its group, place and deliveries")
async def unacked(t):
    m, station, c, rows = await failed(t, ["x"])
    same([rows[0][k] for k in ("reason", "partition", "message_seq", "deliveries",
                               "poisoned_cgs")], ["unacked", 1, 1, 1, ["g"]])


@test("DLS-03", "what a schema refused is a letter with the reason (the SDK's notice)")
async def schema(t):
    m, station, p = await t.start()
    await m.broker_manager.publish("$memphis_schemaverse_dls", json.dumps(
        {"station_name": station, "creation_unix": 1,
         "producer": {"name": "p", "connection_id": m.connection_id},
         "message": {"data": b"bad".hex(), "headers": {"kind": "test"}},
         "validation_error": "Schema validation has failed: no"}).encode())
    rows = await t.letters(m, station)
    same([(r["reason"], r["error"]) for r in rows],
         [("schema", "Schema validation has failed: no")])


@test("DLS-04", "a message that was given up keeps the consumer's reason")
async def nacked(t):
    m, station, p = await t.start()
    await fill(p, ["x", "y"])
    c = await m.consumer(station_name=station, consumer_name="c")
    for message, why in zip(await take(c, 2, ack=False), ("first", "second")):
        await dead_letter(t, m, message, why)

    async def both():
        rows.append(await t.letters(m, station, 2))
        return [r["error"] for r in rows[-1]] == ["first", "second"]
    rows = []
    check(await until(both, 5), rows[-1])
    same([r["reason"] for r in rows[-1]], ["nacked", "nacked"])


@test("DLS-06 DLS-09", "a letter goes again to the group that failed, only; acked it is gone")
async def resend(t):
    m, station, c, rows = await failed(t, ["x", "y"])
    other = await m.consumer(station_name=station, consumer_name="other")
    same(await drain(other, 2), ["x", "y"])
    same(await t.admin(m, "dls_resend", name=station, ids=[rows[1]["id"]]), {})
    got = await take(c, 1, ack=False)
    same([text_of(x) for x in got], ["y"])
    same(got[0].get_headers()["$memphis_pm_cg_name"], "g")
    same(len(await t.letters(m, station)), 2)
    await got[0].ack()

    async def gone():
        return [r["id"] for r in await t.letters(m, station)] == [rows[0]["id"]]
    check(await until(gone, 5), "the row is still there")
    await nothing(other)


@test("DLS-07", "all letters are sent again")
async def resend_all(t):
    m, station, c, rows = await failed(t, numbers(1, 20))
    same(await t.admin(m, "dls_resend", name=station, all=True), {})
    same(sorted(await drain(c, 20), key=int), numbers(1, 20))

    async def gone():
        return not await t.letters(m, station, 0)
    check(await until(gone, 5), "rows are still there")


@test("DLS-08", "letters are dropped, some or all")
async def drop(t):
    m, station, c, rows = await failed(t, numbers(1, 4))
    ids = [r["id"] for r in rows]
    same(await t.admin(m, "dls_drop", name=station, ids=ids[:2]), {})
    same([r["id"] for r in await t.letters(m, station, 0)], ids[2:])
    same(await t.admin(m, "dls_drop", name=station, all=True), {})
    same(await t.letters(m, station, 0), [])


@test("DLS-10", "letters are copied to a station: headers, where they were, and why")
async def copies(t):
    graves = t.name("graves")
    m, station, p = await t.start(dls_station=graves, partitions_number=2)
    h = Headers()
    h.add("color", "red")
    await p.produce(bytearray(b"hopeless"), headers=h)
    c = await m.consumer(station_name=station, consumer_name="c", max_ack_time_ms=1000,
                         max_msg_deliveries=1)
    await take(c, 1, ack=False)
    g = await m.consumer(station_name=graves, consumer_name="g")
    got = (await take(g, 1))[0]
    told = got.get_headers()
    same([text_of(got), told["color"], told["station"], told["type"]],
         ["hopeless", "red", station, "unacked"])


@test("DLS-12", "the letters go with their station")
async def with_station(t):
    m, station, c, rows = await failed(t, ["x"])
    await (await m.station(name=station)).destroy()
    check("error" in await t.admin(m, "dls_list", name=station))
    await m.station(name=station)
    same(await t.letters(m, station, 0), [])


@test("DLS-13", "two groups that fail on a message make one letter")
async def one_row(t):
    m, station, p = await t.start()
    await fill(p, ["x"])
    for g in ("a", "b"):
        c = await m.consumer(station_name=station, consumer_name=g, max_ack_time_ms=1000,
                             max_msg_deliveries=1)
        await take(c, 1, ack=False)

    async def both():
        rows.append(await t.letters(m, station))
        return [sorted(r["poisoned_cgs"]) for r in rows[-1]] == [["a", "b"]]
    rows = []
    check(await until(both, 10), rows[-1])


@test("DLS-14", "no unacked message is lost on its way, over a restart")
async def atomic(t):
    m, station, p = await t.start()
    await fill(p, numbers(1, 60))
    c = await m.consumer(station_name=station, consumer_name="c", max_ack_time_ms=1500,
                         max_msg_deliveries=1)
    same(await drain(c, 30, ack=False), numbers(1, 30))
    same(len(await t.letters(m, station, 30)), 30)
    d = await m.consumer(station_name=station, consumer_name="d", max_ack_time_ms=1500,
                         max_msg_deliveries=1)
    await take(d, 60, ack=False)  # their time ends in the restart, or near it
    yield
    m = await t.connect()
    rows = await t.letters(m, station, 60)
    same(sorted(r["message_seq"] for r in rows), list(range(1, 61)))


@test("DLS-15", "letters are counted per station")
async def counters(t):
    m, station, c, rows = await failed(t, numbers(1, 5))
    answer = await t.admin(m, "dls_list", name=station, limit=2)
    same([answer["total"], len(answer["letters"])], [5, 2])
