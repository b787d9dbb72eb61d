"""What many of one kind cost: `make soak-scale`, the figures against their budgets.

Usage: scale.py MEMPHISD WORKDIR [PART ...], parts: connections stations partitions groups
pending. Each part has a memphisd of its own and prints what it measured; a figure above its
budget fails. Budgets: storage-design 13, design 4. Ends with "N passed, N failed".
"""
import json
import os
import resource
import selectors
import shutil
import socket
import subprocess
import sys
import time

BIN, WORK = sys.argv[1], sys.argv[2]
PARTS = sys.argv[3:] or ["connections", "stations", "partitions", "groups", "pending"]
PORT = 30000 + os.getpid() % 20000
KIB, MIB = 1024, 1024 * 1024
results = []


def budget(what, got, most, unit):
    results.append(got <= most)
    print(f"{'ok' if got <= most else 'FAILED'} - {what}: {got:,.1f} {unit} (at most {most:,.1f})", flush=True)


def check(what, good, detail=""):
    results.append(bool(good))
    print(("ok" if good else "FAILED") + " - " + what + ("" if good else f" ({detail})"), flush=True)


class Daemon:
    def __init__(self, name, clear=True):
        self.dir = os.path.join(WORK, name)
        if clear:
            shutil.rmtree(self.dir, ignore_errors=True)
        os.makedirs(self.dir, exist_ok=True)
        log = os.path.join(self.dir, "log")
        began = time.time()
        with open(log, "w") as out:
            self.process = subprocess.Popen([BIN, "-p", str(PORT), "-w", "0", "-m", "0", "-sd",
                                             os.path.join(self.dir, "store")], stdout=out, stderr=out)
        while "Stop with Ctrl-C" not in open(log).read():
            assert self.process.poll() is None, open(log).read()
            time.sleep(0.005)
        self.start_seconds = time.time() - began

    def rss(self):
        with open(f"/proc/{self.process.pid}/status") as f:
            return next(int(line.split()[1]) * KIB for line in f if line.startswith("VmRSS"))

    def cpu(self):
        with open(f"/proc/{self.process.pid}/stat") as f:
            words = f.read().rsplit(")", 1)[1].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        self.process.terminate()
        rc = self.process.wait(30)
        check("it stops as it should", rc == 0, rc)


LOGIN = json.dumps({"verbose": False, "pedantic": False, "user": "root", "pass": "memphis",
                    "headers": True, "no_responders": True, "protocol": 1}).encode()


class Client:
    """One connection; requests go out many at a time."""

    def __init__(self):
        self.s = socket.create_connection(("127.0.0.1", PORT), 10)
        self.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.s.settimeout(60)
        self.f = self.s.makefile("rb", 1 << 20)
        assert self.f.readline().startswith(b"INFO")
        self.s.sendall(b"CONNECT " + LOGIN + b"\r\nSUB _INBOX.s.> 1\r\nPING\r\n")
        while self.f.readline() != b"PONG\r\n":
            pass

    def message(self):
        while True:
            words = self.f.readline().split()
            assert words, "closed"
            if words[0] == b"PING":
                self.s.sendall(b"PONG\r\n")
            elif words[0] in (b"MSG", b"HMSG"):
                body = self.f.read(int(words[-1]) + 2)[:-2]
                reply = words[3] if len(words) == (5 if words[0] == b"MSG" else 6) else b""
                return reply, body
            else:
                assert words[0] in (b"PONG", b"INFO"), words

    def ask_many(self, requests, window=256, good=lambda body: True):
        """Sends all (subject, payload), `window` at a time; each answer must be `good`."""
        flying = 0
        for subject, payload in requests:
            if flying == window:
                self.answer(good)
                flying -= 1
            self.s.sendall(b"PUB %s _INBOX.s.1 %d\r\n%s\r\n" % (subject, len(payload), payload))
            flying += 1
        for _ in range(flying):
            self.answer(good)

    def answer(self, good):
        body = self.message()[1]
        assert good(body), body

    def round_trip(self):
        began = time.perf_counter()
        self.s.sendall(b"PING\r\n")
        while self.f.readline() != b"PONG\r\n":
            pass
        return time.perf_counter() - began


def creation(name, partitions=1, storage="file"):
    return b"$memphis_station_creations", json.dumps(
        {"name": name, "retention_type": "messages", "retention_value": 10_000_000, "storage_type": storage,
         "replicas": 1, "idempotency_window_in_ms": 1000, "partitions_number": partitions}).encode()


def group(station, name):
    return b"$memphis_consumer_creations", json.dumps(
        {"name": name, "station_name": station, "connection_id": "scale", "consumer_type": "application",
         "consumers_group": name, "max_ack_time_ms": 3_600_000, "max_msg_deliveries": 2,
         "start_consume_from_sequence": 1, "last_messages": -1, "req_version": 4, "app_id": "a",
         "sdk_lang": "go"}).encode()


def empty(body):
    return body == b""


def created(body):
    return b'"error":""' in body


# === 10,000 connections ===

def connections():
    count = 10_000
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    d = Daemon("connections")
    first = Client()
    before, began = d.rss(), time.time()
    choose = selectors.DefaultSelector()
    open_ones, state = [], {}
    hello = b"CONNECT " + LOGIN + b"\r\nSUB _INBOX.x.* 1\r\nPING\r\n"
    up = 0
    while up < count:
        while len(open_ones) < count and len(state) < 500:
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex(("127.0.0.1", PORT))
            open_ones.append(s)
            state[s] = b""
            choose.register(s, selectors.EVENT_READ)
        for key, _ in choose.select(30):
            s = key.fileobj
            part = s.recv(4096)
            assert part, (up, state[s])
            was = state[s]
            state[s] = was + part
            if b"\r\n" not in was and b"\r\n" in state[s]:
                s.sendall(hello)
            if state[s].endswith(b"PONG\r\n"):
                choose.unregister(s)
                del state[s]
                up += 1
    took = time.time() - began
    print(f"   {count:,} clients logged in within {took:.1f} s, {count / took:,.0f}/s")
    budget(f"{count:,} clients log in", took, 60, "s")
    time.sleep(4)  # the pings that measure the round trip
    budget("an idle connection", (d.rss() - before) / count / KIB, 4, "KiB")
    used = d.cpu()
    time.sleep(5)
    budget("5 s of all of them idle", (d.cpu() - used) * 1000, 500, "ms of CPU")
    trips = sorted(first.round_trip() for _ in range(2000))
    budget("a round trip beside them, p99", trips[1980] * 1e3, 5, "ms")
    began = time.time()
    for s in open_ones:
        s.close()
    while first.round_trip() > 0.05:
        pass
    print(f"   gone within {time.time() - began:.1f} s")
    first.s.close()
    d.stop()


# === 10,000 stations with two groups ===

def stations():
    count = 10_000
    d = Daemon("stations")
    c = Client()
    began = time.time()
    c.ask_many((creation(f"st-{i}") for i in range(count)), good=empty)
    print(f"   {count:,} stations made in {time.time() - began:.1f} s")
    began = time.time()
    c.ask_many((group(f"st-{i}", g) for i in range(count) for g in ("a", "b")), good=created)
    print(f"   {2 * count:,} groups made in {time.time() - began:.1f} s")
    time.sleep(3)
    budget("10,000 stations with two groups", d.rss() / MIB, 60, "MiB")
    used = d.cpu()
    time.sleep(5)
    budget("5 s of all of them idle", (d.cpu() - used) * 1000, 100, "ms of CPU")
    began = time.time()
    c.ask_many(((f"st-{i}$1.final".encode(), b"x" * 100) for i in range(count)),
               good=lambda body: b'"seq":1}' in body)
    took = time.time() - began
    budget("a message to each", took, 20, "s")
    c.s.close()
    d.stop()
    d = Daemon("stations", clear=False)
    budget("a start with them", d.start_seconds, 5, "s")
    time.sleep(1)
    budget("memory after it", d.rss() / MIB, 60, "MiB")
    c = Client()
    c.ask_many(((f"st-{i}$1.final".encode(), b"y") for i in range(0, count, 97)),
               good=lambda body: b'"seq":2}' in body)
    c.s.close()
    d.stop()


# === a station with many partitions ===

def partitions():
    d = Daemon("partitions")
    c = Client()
    for count, most in ((1000, 1), (10_000, 10)):
        began, before = time.time(), d.rss()
        c.ask_many([creation(f"wide-{count}", count)], good=empty)
        budget(f"a station with {count:,} partitions", time.time() - began, most, "s")
        budget("a partition of it", (d.rss() - before) / count / KIB, 2.5, "KiB")
    used = d.cpu()
    time.sleep(5)
    budget("5 s of all of them idle", (d.cpu() - used) * 1000, 100, "ms of CPU")
    began = time.time()
    c.ask_many([(b"$memphis_station_destructions", b'{"station_name":"wide-10000"}')], good=empty)
    budget("and it goes", time.time() - began, 5, "s")
    c.s.close()
    d.stop()


# === 1,000 groups on one station ===

def groups():
    count, messages = 1000, 1000
    d = Daemon("groups")
    c = Client()
    c.ask_many([creation("many")], good=empty)
    before, began = d.rss(), time.time()
    c.ask_many((group("many", f"g{i}") for i in range(count)), good=created)
    print(f"   {count:,} groups made in {time.time() - began:.1f} s")
    time.sleep(1)
    budget("an idle group", (d.rss() - before) / count / KIB, 2, "KiB")
    c.ask_many((b"many$1.final", b"m%03d" % i) for i in range(messages))
    began, worst = time.time(), 0.0
    for i in range(count):
        one = time.time()
        c.s.sendall(b"PUB $JS.API.CONSUMER.MSG.NEXT.many$1.g%d _INBOX.s.2 4\r\n%d\r\n" % (i, messages))
        got = [c.message() for _ in range(messages)]
        assert [body for _, body in got] == [b"m%03d" % k for k in range(messages)]
        c.s.sendall(b"".join(b"PUB %s 0\r\n\r\n" % reply for reply, _ in got))
        worst = max(worst, time.time() - one)
    took = time.time() - began
    print(f"   {count * messages:,} messages delivered and acked in {took:.1f} s, "
          f"{count * messages / took:,.0f}/s, the slowest group in {worst * 1000:.0f} ms")
    budget("each of 1,000 groups sees 1,000 messages and acks them", took, 120, "s")
    trips = sorted(c.round_trip() for _ in range(500))
    budget("a round trip beside them, p99", trips[495] * 1e3, 50, "ms")
    time.sleep(2)
    c.s.close()
    d.stop()
    d = Daemon("groups", clear=False)
    budget("a start with them", d.start_seconds, 5, "s")
    c = Client()
    c.s.sendall(b"".join(b'PUB $JS.API.CONSUMER.INFO.many$1.g%d _INBOX.s.3 0\r\n\r\n' % i for i in range(count)))
    infos = [json.loads(c.message()[1]) for _ in range(count)]
    check("and every group is at its end", all(i["ack_floor"]["stream_seq"] == messages and
                                               i["num_ack_pending"] == 0 for i in infos))
    c.s.close()
    d.stop()


# === 1 million pending messages ===

def pending():
    count, batch = 1_000_000, 5000
    d = Daemon("pending")
    c = Client()
    c.ask_many([creation("deep")], good=empty)
    c.ask_many([group("deep", "g")], good=created)
    began = time.time()
    # No reply: an acknowledgement each would measure this client.
    block = b"".join(b"PUB deep$1.final 16\r\n0123456789abcdef\r\n" for _ in range(1000))
    for _ in range(count // 1000):
        c.s.sendall(block)
        if _ % 50 == 0:
            c.round_trip()
    c.ask_many([(b"deep$1.final", b"end")])
    print(f"   {count:,} messages stored in {time.time() - began:.1f} s")
    before, began = d.rss(), time.time()
    acks = []
    while len(acks) < count:
        c.s.sendall(b"PUB $JS.API.CONSUMER.MSG.NEXT.deep$1.g _INBOX.s.2 4\r\n%d\r\n" % batch)
        acks.extend(c.message()[0] for _ in range(batch))
    took = time.time() - began
    print(f"   all of them delivered in {took:.1f} s, {count / took:,.0f}/s")
    budget("1 M pending messages", (d.rss() - before) / MIB, 64, "MiB")
    budget("and the whole process", d.rss() / MIB, 256, "MiB")
    trips = sorted(c.round_trip() for _ in range(500))
    budget("a round trip beside them, p99", trips[495] * 1e3, 20, "ms")
    c.s.close()
    d.stop()
    d = Daemon("pending", clear=False)
    budget("a start with them", d.start_seconds, 10, "s")
    c = Client()
    info = lambda: json.loads((c.s.sendall(b"PUB $JS.API.CONSUMER.INFO.deep$1.g _INBOX.s.3 0\r\n\r\n"),
                               c.message()[1])[1])
    check("and they are pending still", info()["num_ack_pending"] == count, info())
    began = time.time()
    for i in range(0, count, 1000):
        c.s.sendall(b"".join(b"PUB %s 0\r\n\r\n" % a for a in acks[i:i + 1000]))
    while info()["num_ack_pending"] > 0:
        assert time.time() - began < 120, info()
        time.sleep(0.05)
    took = time.time() - began
    print(f"   all of them acked in {took:.1f} s, {count / took:,.0f}/s")
    budget("1 M acks", took, 60, "s")
    check("the ack floor is at the end", info()["ack_floor"]["stream_seq"] == count, info())
    c.s.close()
    d.stop()


for part in PARTS:
    print(f"{part}:", flush=True)
    {"connections": connections, "stations": stations, "partitions": partitions, "groups": groups,
     "pending": pending}[part]()
print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
sys.exit(0 if all(results) else 1)
