"""nats.py, unmodified, against memphisd: streams, consumers and key-value buckets.

Usage: nats_py.py PORT, with DAEMON_RESTART naming a command that restarts memphisd.
Prints one line "ok - ..." or "FAILED - ..." per check and ends with "N passed, N failed".
"""
import asyncio
import datetime
import os
import subprocess
import sys

import nats
from nats.js import api
from nats.js.errors import (APIError, KeyNotFoundError, KeyWrongLastSequenceError,
                            NotFoundError)

PORT = int(sys.argv[1])
results = []
ids = "CON-13"  # that the checks are about


def check(what, good, detail=""):
    results.append(bool(good))
    print(("ok" if good else "FAILED") + f" - nats {ids} " + what + (f" ({detail})" if detail else ""),
          flush=True)


async def refused(call, code):
    try:
        await call
    except APIError as e:
        return e.err_code == code
    return False


async def streams(js):
    i = await js.add_stream(name="ORDERS", subjects=["orders.*", "returns.>"], max_msgs=100,
                            max_msgs_per_subject=3, description="all of them",
                            metadata={"team": "shop"})
    check("a stream is made as asked", i.did_create and i.config.subjects == ["orders.*", "returns.>"]
          and i.config.max_msgs == 100 and i.config.metadata == {"team": "shop"})
    acks = [await js.publish(f"orders.{n % 2}", b"%d" % n) for n in range(10)]
    check("publishes are numbered", [a.seq for a in acks] == list(range(1, 11)))
    i = await js.stream_info("ORDERS")
    check("three of each subject stay", i.state.messages == 6, i.state.messages)
    check("overlapping subjects are refused",
          await refused(js.add_stream(name="OTHER", subjects=["returns.a.b"]), 10065))
    i = await js.update_stream(name="ORDERS", subjects=["orders.*"], max_msgs_per_subject=2)
    check("an update takes effect", i.config.subjects == ["orders.*"])
    await js.purge_stream("ORDERS", subject="orders.0")
    check("a purge of one subject leaves the other",
          (await js.stream_info("ORDERS")).state.messages == 2)
    await js.delete_msg("ORDERS", 8)
    check("a message is deleted", (await js.stream_info("ORDERS")).state.messages == 1)
    check("a stream is found by subject", await js.find_stream_name_by_subject("orders.x") == "ORDERS")
    await js.add_stream(name="MEM", subjects=["mem"], storage="memory", discard="new", max_msgs=2)
    await js.publish("mem", b"1")
    await js.publish("mem", b"2")
    try:
        await js.publish("mem", b"3")
        full = False
    except Exception:
        full = True
    check("a full stream that discards the new refuses", full)


async def consumers(js):
    await js.add_stream(name="C", subjects=["c.*"])
    for n in range(9):
        if n == 6:
            await asyncio.sleep(0.05)
            before_the_last = datetime.datetime.now(datetime.timezone.utc)
            await asyncio.sleep(0.05)
        await js.publish(f"c.{n % 3}", b"%d" % n)
    pull = await js.pull_subscribe("c.1", "dur")
    got = await pull.fetch(9, timeout=0.5)
    check("a durable pull consumer gets what matches", [m.data for m in got] == [b"1", b"4", b"7"])
    for m in got[:2]:
        await m.ack_sync()
    pull = await js.pull_subscribe("c.*", config=api.ConsumerConfig(ack_policy="all"))
    got = await pull.fetch(9, timeout=0.5)
    await got[8].ack_sync()
    i = await pull.consumer_info()
    check("an ephemeral one acks all at once", i.num_ack_pending == 0 and i.ack_floor.stream_seq == 9)
    pull = await js.pull_subscribe("c.*", config=api.ConsumerConfig(
        deliver_policy="last_per_subject", headers_only=True))
    got = await pull.fetch(9, timeout=0.5)
    check("the last of each subject, headers only",
          [(m.metadata.sequence.stream, m.metadata.num_pending, m.headers["Nats-Msg-Size"]) for m in got]
          == [(7, 2, "1"), (8, 1, "1"), (9, 0, "1")])
    pull = await js.pull_subscribe("c.*", config=api.ConsumerConfig(
        deliver_policy="by_start_time", opt_start_time=before_the_last.isoformat()
        .replace("+00:00", "Z")))
    got = await pull.fetch(9, timeout=0.5)
    check("from a time on", got and got[0].metadata.sequence.stream == 7)
    ordered = await js.subscribe("c.2", ordered_consumer=True)
    got = [(await ordered.next_msg(timeout=2)).data for _ in range(3)]
    check("an ordered consumer gets what matches in order", got == [b"2", b"5", b"8"])
    await ordered.unsubscribe()
    members = [await js.subscribe("c.*", "workers") for _ in range(2)]
    counts = [0, 0]
    for n in range(20):
        await js.publish("c.0", b"job")
    for n, member in enumerate(members):
        try:
            while True:
                await (await member.next_msg(timeout=0.5)).ack()
                counts[n] += 1
        except nats.errors.TimeoutError:
            pass
    check("two members share a push consumer", sum(counts) == 29 and min(counts) > 0, counts)
    big = b"x" * 100_000
    flow = await js.subscribe("c.flow", ordered_consumer=True)
    for n in range(50):
        await js.publish("c.flow", big)
    n = 0
    while n < 50:
        await flow.next_msg(timeout=5)
        n += 1
    check("flow control lets 5 MB through", n == 50)


async def buckets(js):
    for direct in (False, True):
        kv = await js.create_key_value(bucket=f"kv{direct}", history=3, direct=direct)
        seqs = [await kv.put("a", b"1"), await kv.create("b", b"2"), await kv.put("a", b"3")]
        check("put and create number the revisions", seqs == [1, 2, 3])
        try:
            await kv.create("b", b"x")
            created = True
        except KeyWrongLastSequenceError:
            created = False
        e = await kv.get("a")
        check("a key is created once, and got", not created and (e.value, e.revision) == (b"3", 3))
        old = await kv.get("a", revision=1)
        check("an older revision is got", old.value == b"1")
        await kv.update("a", b"4", last=3)
        try:
            await kv.update("a", b"5", last=3)
            updated = True
        except KeyWrongLastSequenceError:
            updated = False
        check("an update wants the last revision", not updated and (await kv.get("a")).value == b"4")
        await kv.put("a", b"5")
        history = [h.value for h in await kv.history("a")]
        check("the history has three", history == [b"3", b"4", b"5"], history)
        await kv.delete("b")
        try:
            await kv.get("b")
            there = True
        except KeyNotFoundError:
            there = False
        check("a deleted key is not found", not there and await kv.keys() == ["a"])
        check("and created again", await kv.create("b", b"6") > 0)
        watcher = await kv.watchall()
        seen = [await watcher.updates(), await watcher.updates(), await watcher.updates()]
        check("a watcher sees what there is, then that it has seen it",
              [(u.key, u.value) if u else None for u in seen] == [("a", b"5"), ("b", b"6"), None])
        await kv.put("z", b"new")
        check("and what is new", (await watcher.updates()).key == "z")
        await watcher.stop()
        await kv.purge("a")
        check("a purge leaves its mark only", len(await kv.history("a")) == 1)
        await kv.purge_deletes(olderthan=-1)
        check("and goes with the marks", await kv.keys() == ["b", "z"])
    check("a bucket is removed", await js.delete_key_value("kvFalse"))


async def streams_after_a_restart(js):
    i = await js.stream_info("ORDERS")
    check("after a restart the stream is as it was",
          i.state.messages == 1 and i.state.last_seq == 10 and i.config.max_msgs_per_subject == 2)
    for n in range(3):
        await js.publish("orders.1", b"again")
    check("and keeps two of a subject", (await js.stream_info("ORDERS")).state.messages == 2)
    i = await js.stream_info("MEM")
    check("a memory stream is there, and empty", i.state.messages == 0 and i.config.max_msgs == 2)
    check("streams are removed", await js.delete_stream("ORDERS") and await js.delete_stream("MEM"))
    try:
        await js.stream_info("ORDERS")
        gone = False
    except NotFoundError:
        gone = True
    check("and gone", gone)


async def main():
    nc = await nats.connect(f"nats://root:memphis@127.0.0.1:{PORT}", max_reconnect_attempts=100,
                            reconnect_time_wait=0.1)
    js = nc.jetstream()
    await streams(js)
    await consumers(js)
    await buckets(js)
    subprocess.run(os.environ["DAEMON_RESTART"], shell=True, check=True)
    await asyncio.sleep(0.2)  # the end of the connection has been seen
    while not nc.is_connected:
        await asyncio.sleep(0.05)
    await streams_after_a_restart(js)
    pull = await js.pull_subscribe_bind("dur", stream="C")
    got = await pull.fetch(9, timeout=0.5)
    kv = await js.key_value("kvTrue")
    e = await kv.get("b")
    check("a bucket is as it was", e.value == b"6" and await kv.update("b", b"7", last=e.revision) > 0)
    check("the durable goes on behind its acks", [m.data for m in got] == [b"7"])
    await nc.close()


try:
    asyncio.run(asyncio.wait_for(main(), 120))
except BaseException as e:
    check("the program ends", False, repr(e))
print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
sys.exit(0 if all(results) else 1)
