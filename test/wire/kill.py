"""SIGKILL under load: every acknowledged message is there, once, in order.

Usage: kill.py BUILD ROUNDS [SEED]. Each round: memphisd on the same store, a producer with 256 messages
in flight over 3 partitions, a consumer that acks (half of the acks ask for a confirmation), kill -9 at a
random moment after 1,000 acknowledgements, restart, verify. A confirmed ack must not come back; an
unconfirmed one may, and how old those were is printed. Ends with "N passed, N failed".
"""
import os
import random
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

BUILD, ROUNDS = sys.argv[1], int(sys.argv[2])
SEED = int(sys.argv[3]) if len(sys.argv) > 3 else random.randrange(1 << 30)
PORT = 34000 + os.getpid() % 8000
PARTITIONS, WINDOW, ENOUGH = 3, 256, 1000
CONNECT = b'CONNECT {"verbose":false,"user":"root","pass":"memphis","headers":true}\r\nPING\r\n'
FRAME = re.compile(rb"(H?MSG) (\S+) (\S+)(?: (\S+))?(?: (\d+))? (\d+)\r\n")


class Wire:
    """One connection; messages come out as (subject, sid, reply, headers, payload)."""

    def __init__(self):
        self.s = socket.create_connection(("127.0.0.1", PORT), 10)
        self.s.sendall(CONNECT)
        self.data = b""
        while b"PONG\r\n" not in self.data:
            self.data += self.s.recv(65536)
        self.data = b""

    def send(self, data):
        self.s.sendall(data)

    def poll(self, wait):
        """What is there now, after waiting at most `wait`; OSError when the peer is gone."""
        ready = select.select([self.s], [], [], wait)[0]
        if ready:
            part = self.s.recv(1 << 20)
            if not part:
                raise OSError("closed")
            self.data += part
        return list(self.frames())

    def frames(self):
        at = 0
        while True:
            end = self.data.find(b"\r\n", at)
            if end < 0:
                break
            line = self.data[at:end].split(b" ")
            if line[0] not in (b"MSG", b"HMSG"):
                if line[0] == b"PING":
                    self.s.sendall(b"PONG\r\n")
                at = end + 2
                continue
            total = int(line[-1])
            headers = int(line[-2]) if line[0] == b"HMSG" else 0
            fields = len(line) - (2 if headers else 1)
            if len(self.data) < end + 2 + total + 2:
                break
            body = self.data[end + 2:end + 2 + total]
            yield line[1], line[2], line[3] if fields == 4 else b"", body[:headers], body[headers:]
            at = end + 2 + total + 2
        self.data = self.data[at:]

    def request(self, subject, body, wait=10):
        self.send(b"SUB _R.1 r\r\nPUB %s _R.1 %d\r\n%s\r\nUNSUB r 1\r\n" % (subject, len(body), body))
        end = time.time() + wait
        while time.time() < end:
            for frame in self.poll(0.5):
                if frame[1] == b"r":
                    return frame[4]
        raise TimeoutError(subject)


def start(store):
    log = open(store + ".log", "wb")
    p = subprocess.Popen([BUILD + "/memphisd", "-p", str(PORT), "-w", "0", "-m", "0", "-sd", store], stdout=log, stderr=log)
    for _ in range(1000):
        if b"Stop with Ctrl-C" in open(store + ".log", "rb").read():
            return p
        if p.poll() is not None:
            break
        time.sleep(0.01)
    raise RuntimeError(open(store + ".log").read())


def setup(w, station):
    body = (b'{"name":"%s","retention_type":"message_age_sec","retention_value":3600,"storage_type":"file","replicas":1,'
            b'"idempotency_window_in_ms":0,"partitions_number":%d,"dls_station":""}' % (station, PARTITIONS))
    assert w.request(b"$memphis_station_creations", body) == b""
    group(w, station, b"g")


def group(w, station, name):
    body = (b'{"name":"c","station_name":"%s","connection_id":"k","consumer_type":"application","consumers_group":"%s",'
            b'"max_ack_time_ms":1000,"max_msg_deliveries":10,"start_consume_from_sequence":1,"last_messages":-1,'
            b'"req_version":4}' % (station, name))
    assert b'"error":""' in w.request(b"$memphis_consumer_creations", body)


def pull(w, station, name, p, inbox, batch=500, expires=400_000_000):
    body = b'{"batch":%d,"expires":%d}' % (batch, expires)
    w.send(b"PUB $JS.API.CONSUMER.MSG.NEXT.%s$%d.%s %s %d\r\n%s\r\n" % (station, p, name, inbox, len(body), body))


class Load:
    """Producer and consumer of one round, until the daemon is killed."""

    def __init__(self, station, rnd):
        self.station, self.rnd = station, rnd
        self.sent, self.acked = 0, {}          # number -> (partition, sequence)
        self.confirmed, self.unconfirmed = set(), {}  # payload -> time of the ack
        self.asked = {}                        # confirmation number -> payload
        self.producer, self.consumer = Wire(), Wire()
        setup(self.producer, station)
        self.producer.send(b"SUB _P.* p\r\n")
        self.consumer.send(b"SUB _C.* c\r\nSUB _A.* a\r\n")
        for p in range(1, PARTITIONS + 1):
            pull(self.consumer, station, b"g", p, b"_C.%d" % p)

    def produce(self):
        out = []
        while self.sent - len(self.acked) < WINDOW:
            self.sent += 1
            body = b"%d" % self.sent + b"." * self.rnd.randrange(200)
            out.append(b"PUB %s$%d.final _P.%d %d\r\n%s\r\n"
                       % (self.station, self.sent % PARTITIONS + 1, self.sent, len(body), body))
        self.producer.send(b"".join(out))
        for subject, _, _, _, body in self.producer.poll(0.01):
            number = int(subject.split(b".")[1])
            seq = re.search(rb'"seq":(\d+)}', body)
            assert seq and b"error" not in body, body
            assert number not in self.acked
            self.acked[number] = (number % PARTITIONS + 1, int(seq.group(1)))

    def consume(self):
        out = []
        for subject, sid, reply, headers, body in self.consumer.poll(0):
            if sid == b"a":
                self.confirmed.add(self.asked[int(subject.split(b".")[1])])
            elif headers and not reply:  # 408: ask again
                p = int(subject.split(b".")[1])
                pull(self.consumer, self.station, b"g", p, b"_C.%d" % p)
            elif reply:
                if self.rnd.random() < 0.5:
                    self.asked[len(self.asked)] = body
                    out.append(b"PUB %s _A.%d 4\r\n+ACK\r\n" % (reply, len(self.asked) - 1))
                else:
                    self.unconfirmed[body] = time.time()
                    out.append(b"PUB %s 4\r\n+ACK\r\n" % reply)
        self.consumer.send(b"".join(out))

    def run(self, daemon):
        target = ENOUGH + self.rnd.randrange(2000)
        while len(self.acked) < target:
            self.produce()
            self.consume()
        end = time.time() + self.rnd.random() * 0.05
        try:
            while time.time() < end:
                self.produce()
                self.consume()
            daemon.send_signal(signal.SIGKILL)
            killed = time.time()
            while True:  # what had left before the kill still counts as acknowledged
                self.produce()
                self.consume()
        except OSError:
            pass
        daemon.wait()
        for wire, take in ((self.producer, self.produce), (self.consumer, self.consume)):
            try:
                take()
            except OSError:
                pass
        return killed


def drain(w, station, name, tries):
    """Everything the group gets until it is quiet `tries` times: partition -> [(sequence, payload)]."""
    got = {p: [] for p in range(1, PARTITIONS + 1)}
    quiet = 0
    w.send(b"SUB _D.* d\r\n")
    while quiet < tries:
        before = sum(map(len, got.values()))
        waiting = set(got)
        left = {p: 5000 for p in got}
        for p in got:
            pull(w, station, name, p, b"_D.%d" % p, 5000, 300_000_000)
        while waiting:
            out = []
            for subject, sid, reply, headers, body in w.poll(1):
                if sid == b"d" and reply:
                    part = int(reply.split(b".")[2].split(b"$")[-1])
                    got[part].append((int(reply.split(b".")[5]), body))
                    out.append(b"PUB %s 4\r\n+ACK\r\n" % reply)
                    left[part] -= 1
                    if left[part] == 0:
                        waiting.discard(part)
                elif sid == b"d":
                    waiting.discard(int(subject.split(b".")[1]))
            w.send(b"".join(out))
        quiet = quiet + 1 if sum(map(len, got.values())) == before else 0
    w.send(b"UNSUB d\r\n")
    return got


def verify(w, load, killed):
    """Errors of this round, and how old the unconfirmed acks were that came back."""
    errors = []
    group(w, load.station, b"check")
    there = drain(w, load.station, b"check", 1)
    for p, messages in there.items():
        numbers = [int(re.match(rb"\d+", body).group(0)) for _, body in messages]
        if numbers != sorted(set(numbers)):
            errors.append(f"partition {p}: not once each in order")
        if [s for s, _ in messages] != list(range(1, len(messages) + 1)):
            errors.append(f"partition {p}: sequences have gaps")
        where = dict(zip(numbers, (s for s, _ in messages)))
        for number, (part, seq) in load.acked.items():
            if part == p and where.get(number) != seq:
                errors.append(f"message {number}, acknowledged as {seq} of partition {p}, is at {where.get(number)}")
    again = {body for messages in drain(w, load.station, b"g", 4).values() for _, body in messages}
    errors += [f"a confirmed ack came back: {b[:12]!r}" for b in again & load.confirmed]
    ages = sorted(killed - load.unconfirmed[b] for b in again & set(load.unconfirmed))
    return errors, ages


def main():
    rnd = random.Random(SEED)
    work = tempfile.mkdtemp(prefix="memphis-kill-")
    store = work + "/store"
    totals = {"acknowledged": 0, "confirmed": 0, "returned": 0}
    oldest, passed, failed = 0.0, 0, 0
    print(f"seed {SEED}", flush=True)
    for n in range(ROUNDS):
        daemon = start(store)
        load = Load(b"k%d" % n, rnd)
        killed = load.run(daemon)
        daemon = start(store)
        w = Wire()
        errors, ages = verify(w, load, killed)
        w.request(b"$memphis_station_destructions", b'{"station_name":"%s"}' % load.station)
        daemon.send_signal(signal.SIGTERM if n % 2 else signal.SIGKILL)
        daemon.wait()
        totals["acknowledged"] += len(load.acked)
        totals["confirmed"] += len(load.confirmed)
        totals["returned"] += len(ages)
        oldest = max([oldest] + ages)
        passed, failed = passed + (not errors), failed + bool(errors)
        for e in errors[:5]:
            print(f"FAILED - round {n}: {e}", flush=True)
        if errors:
            shutil.copytree(store, f"{work}/round-{n}")
    print(f"{ROUNDS} rounds: {totals['acknowledged']} messages acknowledged and verified, {totals['confirmed']} acks "
          f"confirmed and verified, {totals['returned']} unconfirmed acks came back, the oldest sent "
          f"{oldest * 1000:.1f} ms before the kill")
    print(f"{passed} passed, {failed} failed")
    if failed:
        print(f"the stores of the failed rounds are in {work}")
    else:
        shutil.rmtree(work)
    return 1 if failed else 0


sys.exit(main())
