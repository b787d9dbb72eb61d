"""nats.py, unmodified, against memphisd: streams, consumers and key-value buckets.

Usage: nats_py.py PORT, with DAEMON_RESTART naming a command that restarts memphisd.
Prints one line "ok - ..." or "FAILED - ..." per check and ends with "N passed, N failed".
"""
import asyncio
import os
import subprocess
import sys

import nats
from nats.js import api
from nats.js.errors import APIError, NotFoundError

PORT = int(sys.argv[1])
results = []


def check(what, good, detail=""):
    results.append(bool(good))
    print(("ok" if good else "FAILED") + " - nats.py: " + what + (f" ({detail})" if detail else ""),
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
    subprocess.run(os.environ["DAEMON_RESTART"], shell=True, check=True)
    await asyncio.sleep(0.2)  # the end of the connection has been seen
    while not nc.is_connected:
        await asyncio.sleep(0.05)
    await streams_after_a_restart(js)
    await nc.close()


try:
    asyncio.run(asyncio.wait_for(main(), 120))
except BaseException as e:
    check("the program ends", False, repr(e))
print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
sys.exit(0 if all(results) else 1)
