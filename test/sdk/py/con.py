"""Connections (CON)."""
import asyncio
import base64
import hashlib
import importlib.metadata
import json
import os

import nats
from harness import PASSWORD, PORT, check, drain, fill, numbers, refused, same, test, until


@test("CON-01", "a client gets a session at host and port")
async def session(t):
    m = await t.connect()
    check(m.is_connected() and m.broker_manager.client_id > 0)
    same(m.broker_manager.connected_url.port, PORT)
    await m.station(name=t.name())


@test("CON-02 USR-04", "an application user comes in with his password, produces and consumes")
async def password(t):
    root = await t.connect()
    await t.add_user(root, t.name("user"))
    m = await t.connect(t.name("user"), PASSWORD)
    p = await m.producer(station_name=t.name(), producer_name="p")
    await fill(p, ["mine"])
    c = await m.consumer(station_name=t.name(), consumer_name="c")
    same(await drain(c, 1), ["mine"])


@test("CON-03", "in token mode the token is enough, and needed")
async def token(t):
    port = int(os.environ["TOKEN_PORT"])
    await refused(t.connect(port=port, connection_token="wrong", reconnect=False),
                  "authorization violation")
    m = await t.connect(port=port, connection_token="memphis")
    p = await m.producer(station_name=t.name(), producer_name="p")
    await fill(p, ["token"])
    c = await m.consumer(station_name=t.name(), consumer_name="c")
    same(await drain(c, 1), ["token"])


@test("CON-10", "by TLS, with CA, certificate and key; one without them is refused")
async def tls(t):
    # With a password this SDK copies its SSLContext, which cannot be copied: a token.
    port, files = int(os.environ["TLS_PORT"]), os.environ["TLS_FILES"]
    m = await t.connect(port=port, connection_token="memphis", ca_file=f"{files}/ca.pem",
                        cert_file=f"{files}/client.pem", key_file=f"{files}/client.key")
    p = await m.producer(station_name=t.name(), producer_name="p")
    sent = [str(i) * 1000 for i in range(300)]
    await fill(p, sent)
    c = await m.consumer(station_name=t.name(), consumer_name="c")
    same(await drain(c, 300), sent)
    try:
        await t.connect(port=port, connection_token="memphis", reconnect=False)
    except Exception:  # what it says depends on the library
        return
    check(False, "let in without a certificate")


@test("CON-04", "root works like a client")
async def root_client(t):
    m, station, p = await t.start()
    await fill(p, ["by root"])
    c = await m.consumer(station_name=station, consumer_name="c")
    same(await drain(c, 1), ["by root"])


@test("CON-05 USR-03", "a management user is there, and no client")
async def management(t):
    root = await t.connect()
    await t.add_user(root, t.name("boss"), "management")
    users = (await t.admin(root, "user_list"))["users"]
    same([u["user_type"] for u in users if u["username"] == t.name("boss")], ["management"])
    await refused(t.connect(t.name("boss"), PASSWORD, reconnect=False),
                  "authorization violation")


@test("CON-06", "a wrong password is an authorization violation")
async def wrong_password(t):
    await refused(t.connect(password="wrong", reconnect=False), "authorization violation")


@test("CON-07", "the account id 1 is understood: the SDK does not fall back to the bare name")
async def account(t):
    m = await t.connect(account_id=1)
    same(m.broker_manager.options["user"], "root$1")


@test("CON-08", "after a restart the same producers and consumers go on")
async def reconnect(t):
    m, station, p = await t.start()
    c = await m.consumer(station_name=station, consumer_name="c")
    await fill(p, ["before"])
    same(await drain(c, 1), ["before"])
    yield
    check(await until(m.is_connected), "not connected")
    await fill(p, ["after"])
    same(await drain(c, 1), ["after"])


@test("CON-09", "is_connected tells of a lost connection, and of the new one")
async def status(t):
    m = await t.connect(reconnect_interval_ms=1000)
    seen = []

    async def look():
        while True:
            seen.append(m.is_connected())
            await asyncio.sleep(0.005)
    looking = asyncio.create_task(look())
    await asyncio.sleep(0.1)
    same(set(seen), {True})
    yield
    check(await until(m.is_connected), "not connected")
    looking.cancel()
    check(False in seen, "the loss was not seen")
    await m.close()
    check(not m.is_connected())


@test("CON-13", "a plain NATS client publishes, subscribes, asks, and pulls from a station")
async def plain_nats(t):
    m, station, p = await t.start()
    nc = await nats.connect(f"nats://root:memphis@127.0.0.1:{PORT}")
    try:
        sub = await nc.subscribe(t.name("talk"))
        await nc.publish(t.name("talk"), b"hello")
        same((await sub.next_msg(5)).data, b"hello")

        async def answer(msg):
            await msg.respond(msg.data + b"!")
        await nc.subscribe(t.name("ask"), cb=answer)
        same((await nc.request(t.name("ask"), b"you", timeout=5)).data, b"you!")
        js = nc.jetstream()
        same((await js.publish(station + "$1.final", b"stored")).seq, 1)
        pull = await js.pull_subscribe(station + "$1.final", durable="group")
        message = (await pull.fetch(1, timeout=5))[0]
        same(message.data, b"stored")
        await message.ack()
        c = await m.consumer(station_name=station, consumer_name="c")
        same(await drain(c, 1), ["stored"])
    finally:
        await nc.close()


@test("CON-18", "the files of memphis-py 1.3.1 are those of its package, and it works")
async def unmodified(t):
    package = importlib.metadata.distribution("memphis-py")
    same(package.version, "1.3.1")
    files = [f for f in package.files if str(f).startswith("memphis/") and f.hash]
    check(len(files) > 8, files)
    for f in files:
        digest = hashlib.sha256(f.locate().read_bytes()).digest()
        same(base64.urlsafe_b64encode(digest).rstrip(b"=").decode(), f.hash.value)
    m, station, p = await t.start()
    await fill(p, numbers(1, 3))
    c = await m.consumer(station_name=station, consumer_name="c")
    same(await drain(c, 3), numbers(1, 3))


def connections():
    """TCP connections of this machine to memphisd: remote port, state ESTABLISHED."""
    with open("/proc/net/tcp", encoding="ascii") as f:
        lines = [line.split() for line in f][1:]
    return sum(x[2].endswith(f":{PORT:04X}") and x[3] == "01" for x in lines)


@test("CON-22", "ten producers and five consumers share the connection of their client",
      alone=True)
async def sharing(t):
    m = await t.connect()
    await until(lambda: connections() == 1, 5)
    same(connections(), 1)
    for i in range(5):
        station = t.name(str(i))
        for name in ("a", "b"):
            p = await m.producer(station_name=station, producer_name=name)
            await fill(p, ["x"])
        c = await m.consumer(station_name=station, consumer_name="c")
        same(await drain(c, 2), ["x", "x"])
    same(connections(), 1)


@test("CON-23", "requests of SDKs from before partitions are refused with a clear text")
async def old_sdk(t):
    m = await t.connect()
    answer = await m._request("$memphis_station_creations", json.dumps(
        {"name": t.name(), "retention_type": "messages", "retention_value": 10,
         "storage_type": "file", "replicas": 1, "partitions_number": 0}).encode(), 10)
    same(answer.data.decode(), "you are using an old SDK, make sure to update your SDK")
    await m.station(name=t.name())
    answer = await m._request("$memphis_producer_creations", json.dumps(
        {"name": "p", "station_name": t.name(), "connection_id": m.connection_id,
         "producer_type": "application", "req_version": 1}).encode(), 10)
    same(json.loads(answer.data)["error"],
         "to produce to this station please upgrade your SDK version")


@test("CSM-28", "a plain subscription with a wildcard hears what fits")
async def wildcard(t):
    m = await t.connect()
    sub = await m.broker_manager.subscribe(t.name() + ".*.eu")
    for city in ("paris.eu", "paris.us", "rome.eu", "a.b.eu"):
        await m.broker_manager.publish(f"{t.name()}.{city}", city.encode())
    same([(await sub.next_msg(5)).data for _ in range(2)], [b"paris.eu", b"rome.eu"])
    await refused(sub.next_msg(0.3), "timeout")
