"""What the tests of memphis-py share: the table of tests, connections, and how they run.

A test names the ids that it shows and gets a T. It has stations of its own, so all of them
run at the same time. One that is an async generator yields once, where memphisd is started
anew. With `alone` it runs before all others.
"""
import asyncio
import inspect
import json
import os
import sys
import time
import traceback

from memphis import Memphis, MemphisError

PORT = int(sys.argv[1])
ONLY = set(sys.argv[2:])
RUN = str(int(time.time() * 1000) % 10**9)
AT_ONCE = 40              # tests
PASSWORD = "App123456!@"  # of the users that tests make
tests = []


def test(ids, text, alone=False):
    def add(function):
        tests.append((ids, text, alone, function))
        return function
    return add


def check(good, detail=""):
    if not good:
        raise AssertionError(str(detail))


def same(got, want):
    check(got == want, f"got {str(got)[:300]}, not {str(want)[:300]}")


def numbers(first, last):
    return [str(i) for i in range(first, last + 1)]


async def refused(coroutine, text):
    """The call fails, and the error says `text`."""
    try:
        await coroutine
    except Exception as e:
        check(text.lower() in str(e).lower(), f"refused with: {e}")
        return
    raise AssertionError(f"not refused ({text})")


async def until(condition, seconds=15):
    end = time.time() + seconds
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value or time.time() > end:
            return value
        await asyncio.sleep(0.05)


async def fill(producer, bodies, **how):
    for body in bodies:
        await producer.produce(bytearray(body, "utf-8"), **how)


def text_of(message):
    return bytes(message.get_data()).decode()


async def fetch(consumer, size, **how):
    """At the end of its wait the SDK sometimes has an error without a text: nothing came."""
    try:
        return await consumer.fetch(batch_size=size, **how) or []
    except MemphisError as e:
        check(str(e).strip() == "memphis:", e)
        return []


async def nothing(consumer):
    same([text_of(m) for m in await fetch(consumer, 10)], [])


async def take(consumer, want, seconds=20, ack=True, **how):
    """Messages in the order of their arrival, until `want` are there."""
    got, end = [], time.time() + seconds
    while len(got) < want and time.time() < end:
        for m in await fetch(consumer, min(500, want - len(got)), **how):
            got.append(m)
            if ack:
                await m.ack()
    return got


async def drain(consumer, want, **how):
    return [text_of(m) for m in await take(consumer, want, **how)]


class T:
    def __init__(self, ids):
        self.base = "py-" + ids.split()[0].lower()
        self.clients = []

    def name(self, what="s"):
        return f"{self.base}-{what}-{RUN}"

    async def connect(self, user="root", password="memphis", port=PORT, **how):
        m = Memphis()
        options = dict(reconnect=True, max_reconnect=9, reconnect_interval_ms=300,
                       timeout_ms=15000)
        options.update(how)
        if "connection_token" not in options:
            options["password"] = password
        await m.connect(host="127.0.0.1", port=port, username=user, **options)
        self.clients.append(m)
        return m

    async def start(self, **station):
        """A connection, a station and a producer of it."""
        m = await self.connect()
        station = {"name": self.name(), **station}
        await m.station(**station)
        return m, station["name"], await m.producer(station_name=station["name"],
                                                    producer_name="p")

    async def admin(self, m, verb, **args):
        answer = await m.broker_manager.request("$memphis_admin." + verb,
                                                json.dumps(args).encode(), timeout=15)
        return json.loads(answer.data)

    async def letters(self, m, station, want=1, seconds=15):
        """The dead letters of a station, when there are `want`."""
        async def there():
            answer = await self.admin(m, "dls_list", name=station, limit=1000)
            rows.append(answer["letters"])
            return len(rows[-1]) >= want
        rows = []
        await until(there, seconds)
        return rows[-1]

    async def settings(self, m, station):
        for s in (await self.admin(m, "station_list"))["stations"]:
            if s["name"] == station:
                return s
        return None

    async def add_user(self, m, name, kind="application", **more):
        answer = await self.admin(m, "user_add", username=name, password=PASSWORD,
                                  user_type=kind, **more)
        same(answer, {})

    async def end(self):
        for m in self.clients:
            for c in list(m.consumers_map.values()):  # the SDK's close() leaves their tasks
                for task in (c.t_ping, c.t_dls, c.t_consume):
                    if task is not None:
                        task.cancel()
            try:
                await m.broker_manager.close()
            except Exception:
                pass


class Run:
    """One test: to its restart, if it has one, then to its end."""

    def __init__(self, ids, text, function):
        self.ids, self.text, self.t = ids, text, T(ids)
        self.body = function(self.t)
        self.error = None
        self.waits = inspect.isasyncgen(self.body)
        self.seconds = 0

    async def go_on(self, gate):
        async with gate:
            began = time.time()
            try:
                await asyncio.wait_for(self.step(), 50)
            except Exception as e:
                place = traceback.extract_tb(e.__traceback__)
                line = next((f.lineno for f in reversed(place) if "/py/" in f.filename
                             and "site-packages" not in f.filename
                             and "harness" not in f.filename), 0)
                self.error = f"{type(e).__name__} at line {line}: {e}"
            self.seconds += time.time() - began
        if self.error is not None or not self.waits:
            await self.finish()

    async def step(self):
        if not inspect.isasyncgen(self.body):
            await self.body
            return
        try:
            await self.body.__anext__()
        except StopAsyncIteration:
            self.waits = False

    async def finish(self):
        self.waits = False
        await self.t.end()
        word = "ok" if self.error is None else "FAILED"
        said = "" if self.error is None else f" ({self.error})"
        if os.environ.get("SHOW_TIME"):
            said += f" [{self.seconds:.1f} s]"
        print(f"{word} - py {self.ids} {self.text}{said}", flush=True)


async def restart():
    command = os.environ["DAEMON_RESTART"].split()
    process = await asyncio.create_subprocess_exec(*command)
    if await process.wait() != 0:
        raise RuntimeError("memphisd did not start again")


async def run_all():
    gate = asyncio.Semaphore(AT_ONCE)
    chosen = [t for t in tests if not ONLY or ONLY & set(t[0].split())]
    runs = []
    for ids, text, alone, function in sorted(chosen, key=lambda t: not t[2]):
        runs.append(Run(ids, text, function))
        if alone:
            await runs[-1].go_on(gate)
    alive = [r for r, t in zip(runs, sorted(chosen, key=lambda t: not t[2])) if not t[2]]
    await asyncio.gather(*[r.go_on(gate) for r in alive])
    if any(r.waits for r in runs):
        await restart()
        await asyncio.gather(*[r.go_on(gate) for r in runs if r.waits])
    failed = sum(r.error is not None for r in runs)
    print(f"{len(runs) - failed} passed, {failed} failed", flush=True)
    return failed
