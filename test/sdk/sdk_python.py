"""The official Python SDK (memphis-py), unmodified, against memphisd.

Usage: sdk_python.py PORT, with DAEMON_RESTART naming a command that restarts memphisd. With
TLS_FILES naming a folder of certificates: by TLS, and only what a transport can harm.
Prints one line "ok - ..." or "FAILED - ..." per check and ends with "N passed, N failed".
"""
import asyncio
import os
import subprocess
import sys
import time

from memphis import Headers, Memphis, MemphisError
from memphis.types import Retention

PORT = int(sys.argv[1])
FILES = os.environ.get("TLS_FILES")
TLS = {} if not FILES else {"ca_file": f"{FILES}/ca.pem", "cert_file": f"{FILES}/client.pem",
                            "key_file": f"{FILES}/client.key"}
# By TLS in token mode: with a password this SDK copies its SSLContext, which can not be copied.
SECRET = "connection_token" if TLS else "password"
RUN = str(int(time.time() * 1000) % 10**9)
results = []


def check(what, good, detail=""):
    results.append(bool(good))
    print(("ok" if good else "FAILED") + " - python: " + what + (f" ({detail})" if detail else ""),
          flush=True)


async def connected():
    m = Memphis()
    await m.connect(host="127.0.0.1", port=PORT, username="root", **{SECRET: "memphis"},
                    reconnect=True, max_reconnect=20, reconnect_interval_ms=200, **TLS)
    return m


async def drain(consumer, want, seconds=20, ack=True):
    """Payloads in the order of their arrival, until `want` are there."""
    got, end = [], time.time() + seconds
    while len(got) < want and time.time() < end:
        batch = await consumer.fetch(batch_size=min(500, want - len(got)))
        for msg in batch or []:
            got.append(bytes(msg.get_data()).decode())
            if ack:
                await msg.ack()
    return got


async def groups_see_everything_and_members_share(m):
    station = "py-orders." + RUN
    await m.station(name=station, partitions_number=1)
    await m.station(name=station, partitions_number=1)  # again: no error
    producer = await m.producer(station_name=station, producer_name="shop")
    sent = [f"order {i}" for i in range(1000)]
    headers = Headers()
    headers.add("kind", "test")
    for body in sent:
        await producer.produce(bytearray(body, "utf-8"), headers=headers)
    a = await m.consumer(station_name=station, consumer_name="a", consumer_group="group-a")
    b = await m.consumer(station_name=station, consumer_name="b", consumer_group="group-b")
    got = await drain(a, 1000)
    check("group a sees 1,000 messages once, in order", got == sent, f"{len(got)}")
    got = await drain(b, 1000)
    check("group b sees 1,000 messages once, in order", got == sent, f"{len(got)}")
    left = await a.fetch(batch_size=10)
    check("nothing is left for group a", not left)
    c1 = await m.consumer(station_name=station, consumer_name="c1", consumer_group="group-c")
    other = await connected()
    c2 = await other.consumer(station_name=station, consumer_name="c2", consumer_group="group-c")
    parts = [[], []]

    async def member(c, out):
        while len(parts[0]) + len(parts[1]) < 1000:
            batch = await c.fetch(batch_size=50)
            for msg in batch or []:
                out.append(bytes(msg.get_data()).decode())
                await msg.ack()
            if not batch:
                break

    await asyncio.gather(member(c1, parts[0]), member(c2, parts[1]))
    check("two members share one group, each message to one of them",
          sorted(parts[0] + parts[1]) == sorted(sent) and parts[0] and parts[1],
          f"{len(parts[0])} + {len(parts[1])}")
    await other.close()
    await producer.destroy()
    await a.destroy()
    return station


async def many_partitions(m):
    station = "py-parts-" + RUN
    await m.station(name=station, partitions_number=3)
    producer = await m.producer(station_name=station, producer_name="p")
    sent = [str(i) for i in range(300)]
    for body in sent:
        await producer.produce(bytearray(body, "utf-8"))
    c = await m.consumer(station_name=station, consumer_name="c")
    got = await drain(c, 300)
    check("three partitions together hold every message once", sorted(got) == sorted(sent),
          f"{len(got)}")


async def redelivery(m):
    station = "py-again-" + RUN
    await m.station(name=station)
    producer = await m.producer(station_name=station, producer_name="p")
    await producer.produce(bytearray(b"once more"))
    c = await m.consumer(station_name=station, consumer_name="c", max_ack_time_ms=1000,
                         max_msg_deliveries=2)
    first = await c.fetch(batch_size=1)
    began = time.time()
    second = []
    while not second and time.time() - began < 8:
        second = await c.fetch(batch_size=1) or []
    waited = time.time() - began
    check("an unacknowledged message comes again after its ack time",
          len(first) == 1 and len(second) == 1 and 0.8 < waited < 7, f"{waited:.2f} s")
    if second:
        await second[0].ack()


async def dead_letters(m):
    station, graves = "py-dead-" + RUN, "py-graves-" + RUN
    await m.station(name=station, dls_station=graves)
    producer = await m.producer(station_name=station, producer_name="p")
    headers = Headers()
    headers.add("color", "red")
    await producer.produce(bytearray(b"hopeless"), headers=headers)
    c = await m.consumer(station_name=station, consumer_name="c", max_ack_time_ms=1000,
                         max_msg_deliveries=1)
    first = await c.fetch(batch_size=1)
    g = await m.consumer(station_name=graves, consumer_name="g")
    copy, end = [], time.time() + 10
    while not copy and time.time() < end:
        copy = await g.fetch(batch_size=1) or []
    check("an unacknowledged message goes to the station for dead letters",
          len(first) == 1 and len(copy) == 1 and bytes(copy[0].get_data()) == b"hopeless")
    told = copy[0].get_headers() if copy else {}
    check("with its headers, where it was and why",
          told.get("color") == "red" and told.get("station") == station
          and told.get("type") == "unacked", str(told))
    check("and does not come again", not await c.fetch(batch_size=1))


async def start_positions(m):
    station = "py-start-" + RUN
    await m.station(name=station)
    producer = await m.producer(station_name=station, producer_name="p")
    for i in range(1, 21):
        await producer.produce(bytearray(str(i), "utf-8"))
    c = await m.consumer(station_name=station, consumer_name="from15",
                         start_consume_from_sequence=15)
    got = await drain(c, 6)
    check("a group can start from a sequence", got == [str(i) for i in range(15, 21)], str(got))
    c = await m.consumer(station_name=station, consumer_name="last3", last_messages=3)
    got = await drain(c, 3)
    check("a group can start with the last messages", got == ["18", "19", "20"], str(got))


async def idempotence(m):
    station = "py-ids-" + RUN
    await m.station(name=station)
    producer = await m.producer(station_name=station, producer_name="p")
    for _ in range(3):
        await producer.produce(bytearray(b"x"), msg_id="same")
    c = await m.consumer(station_name=station, consumer_name="c")
    got = await drain(c, 1)
    more = await c.fetch(batch_size=5)
    check("a message id is stored once", got == ["x"] and not more)


async def retention_until_acked(m):
    station = "py-acked-" + RUN
    await m.station(name=station, retention_type=Retention.ACK_BASED)
    producer = await m.producer(station_name=station, producer_name="p")
    await producer.produce(bytearray(b"nobody wants it"))
    a = await m.consumer(station_name=station, consumer_name="a", consumer_group="a")
    b = await m.consumer(station_name=station, consumer_name="b", consumer_group="b")
    sent = [f"job {i}" for i in range(20)]
    for body in sent:
        await producer.produce(bytearray(body, "utf-8"))
    check("STA-10 without groups a message is not kept", await drain(a, 20) == sent)
    late = await m.consumer(station_name=station, consumer_name="c", consumer_group="c")
    check("STA-10 what one group has not acked is kept", await drain(late, 20) == sent)
    check("STA-10 and the other group sees it", await drain(b, 20) == sent)
    await asyncio.sleep(0.3)
    empty = await m.consumer(station_name=station, consumer_name="d", consumer_group="d")
    check("STA-10 what all groups have acked is gone", not await empty.fetch(batch_size=5))


async def restart(m):
    station = "py-restart-" + RUN
    await m.station(name=station)
    producer = await m.producer(station_name=station, producer_name="p")
    sent = [str(i) for i in range(50)]
    for body in sent:
        await producer.produce(bytearray(body, "utf-8"))
    c = await m.consumer(station_name=station, consumer_name="c", max_ack_time_ms=2000)
    before = await drain(c, 20)
    await asyncio.sleep(0.1)
    subprocess.run(os.environ["DAEMON_RESTART"].split(), check=True)
    end = time.time() + 15
    while not m.is_connected() and time.time() < end:
        await asyncio.sleep(0.1)
    after, end = [], time.time() + 20
    while len(after) < 30 and time.time() < end:
        try:
            after += await drain(c, 30 - len(after), seconds=5)
        except MemphisError:
            await asyncio.sleep(0.3)
    check("after a restart the group goes on where it was, nothing lost or repeated",
          before + after == sent, f"{len(before)} + {len(after)}")
    await producer.produce(bytearray(b"after"))
    got = await drain(c, 1)
    check("the same producer and consumer work after the reconnect", got == ["after"], str(got))


async def wrong_password():
    m = Memphis()
    try:
        await m.connect(host="127.0.0.1", port=PORT, username="root", **{SECRET: "wrong"},
                        reconnect=False, **TLS)
        check("a wrong password is refused", False)
        await m.close()
    except MemphisError as e:
        check("a wrong password is refused", "authorization" in str(e).lower(), str(e))


async def destruction(m, station):
    s = await m.station(name=station)
    await s.destroy()
    check("a station can be removed", True)


async def main():
    await wrong_password()
    m = await connected()
    station = await groups_see_everything_and_members_share(m)
    for step in (restart,) if TLS else (many_partitions, redelivery, dead_letters, start_positions, idempotence,
                                        retention_until_acked, restart):
        try:
            await step(m)
        except Exception as e:  # a failed step is a failed check, the others still run
            check(step.__name__, False, repr(e))
    await destruction(m, station)
    await m.close()


try:
    asyncio.run(asyncio.wait_for(main(), 150))
except Exception as e:
    check("the test runs to its end", False, repr(e))
print(f"{sum(results)} passed, {len(results) - sum(results)} failed", flush=True)
sys.exit(0 if all(results) else 1)
