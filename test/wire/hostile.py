"""Ten hostile clients against memphisd; a good one works on, memory stays bounded.

Usage: hostile.py PORT PID. Prints "ok - ..." lines and ends with "N passed, N failed".
"""
import socket
import sys
import threading
import time

PORT, PID = int(sys.argv[1]), int(sys.argv[2])
LIMIT_KIB = int(256 * 1024 * 1.2) * int(sys.argv[3] if len(sys.argv) > 3 else 1)  # memory_max and 20 %
CONNECT = b'CONNECT {"verbose":false,"user":"root","pass":"memphis","headers":true}\r\nPING\r\n'
results = []


def check(what, good, detail=""):
    results.append(bool(good))
    print(("ok" if good else "FAILED") + " - " + what + (f" ({detail})" if detail else ""), flush=True)


def connect(login=True):
    s = socket.create_connection(("127.0.0.1", PORT), 10)
    s.settimeout(10)
    if login:
        s.sendall(CONNECT)
        data = read_until(s, b"PONG\r\n")
        if b"PONG\r\n" not in data:
            raise RuntimeError(f"no PONG but {data[-80:]!r}")
    return s


def read_until(s, text, limit=10):
    data, end = b"", time.time() + limit
    while text not in data and time.time() < end:
        part = s.recv(65536)
        if not part:
            break
        data += part
    return data


def says(send, expect, login=True, limit=10):
    """What the server answers before it closes; sending may be cut short by the close."""
    s = connect(login)
    try:
        s.sendall(send)
    except OSError:
        pass
    try:
        data = read_until(s, expect, limit)
    except OSError as e:
        data = str(e).encode()
    s.close()
    return expect in data, data[-80:]


def rss_kib():
    with open(f"/proc/{PID}/status") as f:
        for line in f:
            if line.startswith("VmRSS"):
                return int(line.split()[1])
    return 0


class Good(threading.Thread):
    """Publishes and waits for each PubAck, until it is stopped."""

    def __init__(self):
        super().__init__(daemon=True)
        self.s = connect()
        self.stop, self.data = False, b""
        self.acked, self.worst, self.error = 0, 0.0, ""
        body = (b'{"name":"hostile","retention_type":"messages","retention_value":1000,"storage_type":"file",'
                b'"replicas":1,"idempotency_window_in_ms":0,"partitions_number":1,"dls_station":""}')
        self.s.sendall(b"SUB _INBOX.good.* 1\r\nPUB $memphis_station_creations _INBOX.good.0 %d\r\n%s\r\n"
                       % (len(body), body))
        read_until(self.s, b"MSG _INBOX.good.0 1 0\r\n\r\n")

    def line(self):
        """The next one; the server's pings are answered."""
        while True:
            end = self.data.find(b"\r\n")
            if end < 0:
                part = self.s.recv(65536)
                if not part:
                    raise RuntimeError(f"closed behind {self.data!r}")
                self.data += part
                continue
            line, self.data = self.data[:end], self.data[end + 2:]
            if line != b"PING":
                return line
            self.s.sendall(b"PONG\r\n")

    def run(self):
        try:
            while not self.stop:
                began = time.time()
                self.s.sendall(b"PUB hostile$1.final _INBOX.good.1 5\r\nhello\r\n")
                head, body = self.line(), self.line()
                if not head.startswith(b"MSG _INBOX.good.1 1 ") or b'"seq":%d}' % (self.acked + 1) not in body:
                    raise RuntimeError(repr((head, body)))
                self.acked += 1
                self.worst = max(self.worst, time.time() - began)
        except Exception as e:
            self.error = repr(e)


def slow_readers():
    """Ten subscribe and never read, while somebody publishes 120 MB to all of them."""
    slow = []
    for _ in range(10):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.connect(("127.0.0.1", PORT))
        s.settimeout(10)
        s.sendall(CONNECT + b"SUB noise 1\r\n")
        slow.append(s)
    time.sleep(0.5)
    p = connect()
    line = b"PUB noise 524288\r\n" + b"x" * 524288 + b"\r\n"
    peak = 0
    for _ in range(240):
        p.sendall(line)
        peak = max(peak, rss_kib())
    p.sendall(b"PING\r\n")
    alive = b"PONG" in read_until(p, b"PONG\r\n", 20)
    peak = max(peak, rss_kib())
    p.close()
    for s in slow:
        s.close()
    return alive, peak


def is_closed(s):
    """Whether the server ends the connection within its timeout."""
    try:
        while s.recv(65536):
            pass
    except ConnectionResetError:
        pass
    except OSError:
        return False
    return True


def main():
    good = Good()
    good.start()
    before = rss_kib()
    unknown = b"-ERR 'Unknown Protocol Operation'"
    check("garbage", *says(bytes(range(256)) * 40 + b"\r\n", unknown))
    check("an unknown verb", *says(b"FETCH a b\r\n", unknown))
    check("a control line of 100 KB", *says(b"PUB " + b"a" * 100000, b"-ERR 'maximum control line exceeded'"))
    check("50 MB without a line break", *says(b"z" * 50_000_000, b"-ERR"))
    check("a payload over the limit", *says(b"PUB a 99999999\r\n", b"-ERR 'Maximum Payload Violation'"))
    check("a header longer than its message", *says(b"HPUB a 90 10\r\n", unknown))
    check("a payload longer than announced", *says(b"PUB a 3\r\nabcdef\r\n", unknown))
    check("wrong JSON in CONNECT", *says(b"CONNECT {{{\r\n", b"-ERR", login=False))
    subs = b"".join(b"SUB s.%d %d\r\n" % (i, i) for i in range(20000)) + b"PING\r\n"
    check("20,000 subscriptions", *says(subs, b"-ERR 'maximum subscriptions exceeded'"))
    half = connect()
    half.sendall(b"PUB a 10\r\nhal")
    half.shutdown(socket.SHUT_WR)
    check("a half-closed socket in the middle of a payload is closed", is_closed(half))
    check("no CONNECT at all", *says(b"", b"-ERR 'Authentication Timeout'", login=False))
    idle = [connect(login=False) for _ in range(200)]
    alive, peak = slow_readers()
    check("ten readers that never read do not stop their publisher", alive)
    check("memory stays within memory_max and 20 %", peak <= LIMIT_KIB, f"{before} KiB before, {peak} KiB at most")
    for s in idle:
        s.close()
    good.stop = True
    good.join(20)
    check("a good client got every acknowledgement meanwhile", good.acked > 100 and not good.error,
          f"{good.acked} acknowledged, slowest {good.worst * 1000:.0f} ms {good.error}")
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    return 0 if all(results) else 1


sys.exit(main())
