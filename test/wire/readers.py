"""Readers that are slow or leave, against a memphisd with 4 MB of memory.

Usage: readers.py PORT PID. Prints "ok - ..." lines and ends with "N passed, N failed".
"""
import json
import os
import signal
import socket
import sys
import time

PORT, PID = int(sys.argv[1]), int(sys.argv[2])
CONNECT = b'CONNECT {"verbose":false,"user":"root","pass":"memphis","headers":true}\r\nSUB _INBOX.%d.> 1\r\nPING\r\n'
results = []


def check(what, good, detail=""):
    results.append(bool(good))
    print(("ok" if good else "FAILED") + " - " + what + (f" ({detail})" if detail else ""), flush=True)


class Client:
    count = 0

    def __init__(self, receive_buffer=0):
        Client.count += 1
        self.inbox = b"_INBOX.%d." % Client.count
        self.s = socket.socket()
        if receive_buffer:
            self.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.s.connect(("127.0.0.1", PORT))
        self.s.settimeout(10)
        self.data = b""
        self.s.sendall(CONNECT % Client.count)
        while self.line() != b"PONG":
            pass

    def fill(self):
        part = self.s.recv(65536)
        if not part:
            raise EOFError("memphisd has closed the connection")
        self.data += part

    def line(self):
        while b"\r\n" not in self.data:
            self.fill()
        line, _, self.data = self.data.partition(b"\r\n")
        return line

    def message(self, each=None):
        """Reply subject and body of the next one; `each` runs before each piece is read."""
        while True:
            words = self.line().split()
            if words and words[0] == b"PING":
                self.s.sendall(b"PONG\r\n")
            elif words and words[0] in (b"MSG", b"HMSG"):
                break
        size = int(words[-1])
        reply = words[3] if len(words) == (5 if words[0] == b"MSG" else 6) else b""
        while len(self.data) < size + 2:
            if each:
                each()
            self.fill()
        body, self.data = self.data[:size], self.data[size + 2 :]
        return reply, body

    def publish(self, subject, body, reply=b""):
        self.s.sendall(b"PUB %s %s %d\r\n%s\r\n" % (subject, reply, len(body), body))

    def ask(self, subject, body):
        self.publish(subject, body if isinstance(body, bytes) else json.dumps(body).encode(), self.inbox + b"ask")
        return self.message()[1]


def make_station(c, name):
    c.ask(
        b"$memphis_station_creations",
        {
            "name": name,
            "retention_type": "message_age_sec",
            "retention_value": 3600,
            "storage_type": "file",
            "replicas": 1,
            "idempotency_window_in_ms": 0,
            "partitions_number": 1,
            "dls_station": "",
        },
    )
    stream = name + "$1"
    c.ask(
        f"$JS.API.CONSUMER.DURABLE.CREATE.{stream}.g".encode(),
        {
            "stream_name": stream,
            "config": {
                "durable_name": "g",
                "deliver_policy": "all",
                "ack_policy": "explicit",
                "ack_wait": 60 * 10**9,
                "max_deliver": 2,
                "max_ack_pending": -1,
            },
        },
    )
    return stream.encode()


def pull(c, stream, batch):
    body = json.dumps({"batch": batch, "expires": 20 * 10**9}).encode()
    c.publish(b"$JS.API.CONSUMER.MSG.NEXT.%s.g" % stream, body, c.inbox + b"pull")


def store(c, stream, count, size):
    for n in range(count):
        answer = c.ask(stream + b".final", b"%06d" % n + b"x" * (size - 6))
        assert b'"seq":%d}' % (n + 1) in answer.replace(b" ", b""), answer


def a_large_batch(name, count, size, pause):
    c, slow = Client(), Client(receive_buffer=4096)
    stream = make_station(c, name)
    store(c, stream, count, size)
    pull(slow, stream, count)
    bodies, deliveries = [], set()
    for _ in range(count):
        reply, body = slow.message(lambda: time.sleep(pause))
        bodies.append(int(body[:6]))
        deliveries.add(reply.split(b".")[4])
    return bodies == list(range(count)) and deliveries == {b"1"}


def the_last_acks(count):
    c, leaver = Client(), Client()
    stream = make_station(c, "leaver")
    c.s.sendall((b"PUB %s.final 1\r\nx\r\n" % stream) * count)
    pull(leaver, stream, count)
    replies = [leaver.message()[0] for _ in range(count)]
    os.kill(PID, signal.SIGSTOP)  # all of it and the end are there when it looks
    leaver.s.sendall(b"".join(b"PUB %s 4\r\n+ACK\r\n" % r for r in replies))
    leaver.s.close()
    os.kill(PID, signal.SIGCONT)
    info = {}
    for _ in range(100):
        info = json.loads(c.ask(b"$JS.API.CONSUMER.INFO.%s.g" % stream, b""))
        if info["ack_floor"]["stream_seq"] == count:
            break
        time.sleep(0.05)
    return info["ack_floor"]["stream_seq"]


def main():
    check("a batch of 3 MB comes whole, each message delivered once", a_large_batch("batch", 20, 150_000, 0))
    check("so it does to a reader that is slow", a_large_batch("slow", 20, 150_000, 0.001))
    floor = the_last_acks(2000)
    check("acks that a client sends right before it leaves are heard", floor == 2000, f"{floor} of 2,000")
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    return 0 if all(results) else 1


sys.exit(main())
