"""TLS clients against memphisd: good ones are served, others closed, nobody waits for them.

Usage: tls.py PORT WS_PORT HTTP_PORT CERTIFICATES PID LOG FACTOR. The daemon has server.pem and
server.key of a folder that this test may write into, as live.pem and live.key. FACTOR: how much
longer things may take. Prints "ok - ..." lines, ends with "N passed, N failed".
"""
import base64
import os
import re
import select
import shutil
import signal
import socket
import ssl
import statistics
import struct
import subprocess
import sys
import threading
import time
import warnings

PORT, WS_PORT, HTTP_PORT = (int(a) for a in sys.argv[1:4])
FILES, PID, LOG, FACTOR = sys.argv[4], int(sys.argv[5]), sys.argv[6], int(sys.argv[7])
CONNECT = b'CONNECT {"verbose":false,"user":"root","pass":"memphis","headers":true}\r\nPING\r\n'
REFUSAL = b"-ERR 'Secure Connection - TLS Required'\r\n"
results = []


def check(what, good, detail=""):
    results.append(bool(good))
    print(("ok" if good else "FAILED") + " - " + what + (f" ({detail})" if detail != "" else ""), flush=True)


def context():
    return ssl.create_default_context(cafile=f"{FILES}/ca.pem")


def dial(port=PORT):
    s = socket.create_connection(("127.0.0.1", port), 20 * FACTOR)
    info = b""
    while port == PORT and not info.endswith(b"\n"):
        info += s.recv(1)
    return s


class Client:
    def __init__(self, ctx=None, session=None, login=True):
        self.s = (ctx or context()).wrap_socket(dial(), server_hostname="localhost", session=session)
        self.data = b""
        if login:
            self.say(CONNECT)
            self.until(b"PONG\r\n")

    def say(self, text):
        self.s.sendall(text)

    def until(self, text):
        """All up to that text, which is taken away."""
        while text not in self.data:
            part = self.s.recv(1 << 20)
            if not part:
                raise EOFError(f"closed behind {self.data[-80:]!r}")
            self.data += part
        before, self.data = self.data.split(text, 1)
        return before

    def exchange(self, text, end):
        """Sends and reads at the same time, in one thread: ssl's sockets are for one."""
        text, got = memoryview(text), bytearray()
        self.s.setblocking(False)
        while not got.endswith(end):
            wants_write = len(text) > 0
            try:
                if text:
                    text = text[self.s.send(text[:65536]):]
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                pass
            try:
                got += self.s.recv(65536)
                continue
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                pass
            if not select.select([self.s], [self.s] if wants_write else [], [], 60)[0] and not wants_write:
                raise EOFError("nothing comes")
        self.s.setblocking(True)
        return bytes(got)

    def ping(self):
        began = time.perf_counter()
        self.say(b"PING\r\n")
        self.until(b"PONG\r\n")
        return (time.perf_counter() - began) * 1000


def ending(s):
    """All that comes until the end."""
    data = b""
    try:
        while part := s.recv(65536):
            data += part
    except (ConnectionResetError, ssl.SSLError) as e:
        data += repr(e).encode()
    return data


def counters():
    s = socket.create_connection(("127.0.0.1", HTTP_PORT), 10)
    s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    found = re.search(rb"TLS: opened (\d+), failed (\d+), too late (\d+), refused for want of it (\d+)", ending(s))
    return [int(n) for n in found.groups()]


def versions():
    for version, name in ((ssl.TLSVersion.TLSv1_2, "1.2"), (ssl.TLSVersion.TLSv1_3, "1.3")):
        ctx = context()
        ctx.maximum_version = version
        c = Client(ctx)
        check(f"a client that speaks TLS up to {name} is served", c.s.version() in ("TLSv1.2", "TLSv1.3"), c.s.version())
    ctx = context()
    ctx.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ctx.minimum_version = ssl.TLSVersion.TLSv1
        ctx.maximum_version = ssl.TLSVersion.TLSv1_1
    try:
        Client(ctx)
        check("TLS 1.1 is refused", False)
    except ssl.SSLError as e:
        check("TLS 1.1 is refused", "PROTOCOL_VERSION" in str(e), e.reason)
    ctx = context()
    ctx.set_ciphers("AES128-GCM-SHA256:AES128-SHA")
    ctx.maximum_version = ssl.TLSVersion.TLSv1_2
    try:
        Client(ctx)
        check("no key exchange without forward secrecy", False)
    except ssl.SSLError as e:
        check("no key exchange without forward secrecy", "HANDSHAKE_FAILURE" in str(e), e.reason)


def messages():
    c = Client()
    big = os.urandom(1 << 20)
    c.say(b"SUB big 1\r\nPUB big %d\r\n" % len(big) + big + b"\r\n")
    c.say(b"PING\r\n")
    check("1 MiB comes back as it was", c.until(b"PONG\r\n") == b"MSG big 1 1048576\r\n" + big + b"\r\n")
    many = b"".join(b"PUB n 6\r\n%06d\r\n" % i for i in range(50000))
    got = c.exchange(b"SUB n 2\r\n" + many + b"PING\r\n", b"PONG\r\n")
    got = re.findall(rb"MSG n 2 6\r\n(\d{6})\r\n", got)
    check("50,000 messages come in order", [int(g) for g in got] == list(range(50000)), len(got))


def tickets():
    ctx = context()
    ctx.maximum_version = ssl.TLSVersion.TLSv1_2
    first = Client(ctx)
    again = Client(ctx, first.s.session)
    check("a client comes back by its ticket", again.s.session_reused)


def renegotiation():
    p = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{WS_PORT}", "-tls1_2", "-CAfile",
                        f"{FILES}/ca.pem"], input=b"R\n", capture_output=True, timeout=30)
    out = p.stdout + p.stderr
    check("nobody renegotiates", b"RENEGOTIATING" in out and b"no renegotiation" in out.lower())


def pieces():
    """A handshake and the rest byte by byte, and a ClientHello before INFO was read."""
    for step in (1, 7):
        s = socket.create_connection(("127.0.0.1", PORT), 20)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        inside, outside = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context().wrap_bio(inside, outside, server_hostname="localhost")
        info, said, heard = b"", False, b""
        while b"PONG" not in heard:
            try:
                if not said:
                    tls.do_handshake()
                    tls.write(CONNECT)
                    said = True
                heard += tls.read(1000)
            except ssl.SSLWantReadError:
                pass
            out = outside.read()
            for i in range(0, len(out), step):
                s.sendall(out[i:i + step])
            while not info.endswith(b"\n"):
                info += s.recv(1)
            if b"PONG" not in heard:
                inside.write(s.recv(step))
        check(f"the handshake may come before INFO is read, {step} bytes at a time", b'"tls_required":true' in info)


def masked(payload):
    mask = os.urandom(4)
    head = bytes([0x82, 0x80 | len(payload)]) if len(payload) < 126 else \
        bytes([0x82, 0xFF]) + struct.pack(">Q", len(payload))
    long = (mask * (len(payload) // 4 + 1))[:len(payload)]
    return head + mask + (int.from_bytes(payload, "big") ^ int.from_bytes(long, "big")).to_bytes(len(payload), "big")


def wss():
    s = context().wrap_socket(dial(WS_PORT), server_hostname="localhost")
    c = Client.__new__(Client)
    c.s, c.data = s, b""
    c.say(b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: " +
          base64.b64encode(b"sixteen bytes..!") + b"\r\nSec-WebSocket-Version: 13\r\n\r\n")
    head = c.until(b"\r\n\r\n")
    info = c.until(b"}\r\n")
    check("a WebSocket opens inside TLS, and INFO says so",
          head.startswith(b"HTTP/1.1 101") and b'"tls_required":true' in info and b'"port":%d' % WS_PORT in info)
    big = os.urandom(1 << 20)
    c.say(masked(CONNECT))
    c.until(b"PONG\r\n")
    c.say(masked(b"SUB w 1\r\n") + masked(b"PUB w %d\r\n" % len(big) + big + b"\r\n") + masked(b"PING\r\n"))
    check("and 1 MiB goes through it and back", b"MSG w 1 1048576\r\n" + big + b"\r\n" in c.until(b"PONG\r\n"))
    return c


def strangers():
    """Whoever speaks no TLS, or wrong, is told so and closed."""
    before = counters()
    for port, text, want in ((PORT, CONNECT, REFUSAL), (WS_PORT, b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 400 "),
                             (PORT, b"\x00" * 1000, REFUSAL)):
        s = dial(port)
        s.sendall(text)
        got = ending(s)
        check(f"{text[:4]!r} without TLS is refused", got.startswith(want), got[:60])
    for garbage in (b"\x16" + b"\xa4" * 2000, b"\x16\x03\x01\x40\x00" + b"g" * 0x4000, b"\x16\x03\x03\x00\x00" * 100,
                    b"\x16\x03\x01\x00\x05\x01\xff\xff\xff\xff"):
        s = dial()
        s.sendall(garbage)
        got = ending(s)
        check(f"garbage {garbage[:6].hex()} is closed", got == b"" or got[0] == 0x15, got[:40])
    c = Client()
    plain = socket.socket(fileno=os.dup(c.s.fileno()))
    plain.sendall(b"\x17\x03\x03\x00\x20" + b"f" * 32)
    got = ending(c.s)
    check("a forged record ends its connection", b"BAD_RECORD_MAC" in got, got)
    time.sleep(0.2)  # an alert is out before it is counted
    after = counters()
    check("and all of them are counted", after[3] - before[3] == 3 and after[1] - before[1] == 5,
          f"{before} {after}")
    s = dial()
    s.sendall(b"\x16\x03\x01")
    s.shutdown(socket.SHUT_WR)
    check("one that leaves half way is forgotten", ending(s) in (b"", repr(ConnectionResetError(104, "Connection reset by peer")).encode()))
    with open(LOG, encoding="utf-8") as f:
        check("the log names them", "a client without TLS is refused (127.0.0.1, port" in f.read())


def last_bytes():
    """What the server says last is read before its end is there: nats.go drops bytes that come with an end."""
    c = Client(login=False)
    c.say(CONNECT.replace(b"memphis", b"wrong"))
    got = c.s.recv(1000)
    began = time.time()
    end = select.select([c.s], [], [], 0.05)[0] == []
    rest = ending(c.s)
    check("an -ERR comes before the end", got.startswith(b"-ERR 'Authorization") and end and rest == b"" and
          time.time() - began < 1, f"{time.time() - began:.2f} s")


def half_closed():
    watcher = Client()
    watcher.say(b"SUB h 1\r\n")
    watcher.ping()
    c = Client()
    c.say(b"PUB h 4\r\nlast\r\nPING\r\n")
    c.s.settimeout(20)
    raw = socket.socket(fileno=os.dup(c.s.fileno()))
    raw.shutdown(socket.SHUT_WR)  # no close_notify, as many clients end
    c.until(b"PONG\r\n")
    watcher.until(b"MSG h 1 4\r\nlast\r\n")
    check("a client that stops sending is heard and answered", ending(c.s) == b"")
    c = Client()
    c.say(b"PUB h 4\r\nword\r\n")
    try:
        c.s.unwrap().close()
        good = True
    except OSError as e:
        good = repr(e)
    watcher.until(b"MSG h 1 4\r\nword\r\n")
    check("and one that says goodbye is told so", good is True, "" if good is True else good)
    c = Client()
    c.say(b"PUB h 4\r\ngone\r\n")
    c.s.close()
    watcher.until(b"MSG h 1 4\r\ngone\r\n")
    check("and one that vanishes was heard", True)


def crowd_comes(sockets):
    """Their handshakes, all at once."""
    machines = {}
    for s in sockets:
        inside, outside = ssl.MemoryBIO(), ssl.MemoryBIO()
        machines[s] = (context().wrap_bio(inside, outside, server_hostname="localhost"), inside, outside)
    ready = list(machines)
    while machines:
        for s in ready:
            tls, inside, outside = machines[s]
            try:
                tls.do_handshake()
                del machines[s]
            except ssl.SSLWantReadError:
                pass
            s.sendall(outside.read())
        ready = select.select(list(machines), [], [], 20 * FACTOR)[0] if machines else []
        for s in ready:
            machines[s][1].write(s.recv(65536))


def crowd():
    """Two hundred handshakes at once: who is connected does not wait for them."""
    c = Client()
    before = counters()
    quiet = [c.ping() for _ in range(200)]
    sockets = [dial() for _ in range(200)]
    began = time.perf_counter()
    child = os.fork()
    if child == 0:
        try:
            crowd_comes(sockets)
            os._exit(0)
        finally:
            os._exit(1)
    busy, core, status = [], [], (0, 0)
    while status[0] == 0:
        busy.append(c.ping())
        asked = time.perf_counter()
        counters()
        core.append((time.perf_counter() - asked) * 1000)
        status = os.waitpid(child, os.WNOHANG)
    took = (time.perf_counter() - began) * 1000
    while counters()[0] - before[0] < 200 and time.perf_counter() - began < 20 * FACTOR:
        time.sleep(0.01)  # in TLS 1.3 the client is done first
    for s in sockets:
        s.close()
    check("200 handshakes at once are done", status[1] == 0 and counters()[0] - before[0] == 200, f"{took:.0f} ms")
    check("a connected client is served between them", len(busy) >= 10 and max(busy) < took / 4,
          f"ping {statistics.median(quiet):.2f} ms in quiet, {statistics.median(busy):.2f} meanwhile, "
          f"{max(busy):.2f} at worst, of {len(busy)}")
    check("and the core does none of them", statistics.median(core) < 10 * FACTOR,
          f"monitoring page {statistics.median(core):.2f} ms, {max(core):.2f} at worst")


def make_station(c):
    body = (b'{"name":"st","retention_type":"messages","retention_value":100000,"storage_type":"file",'
            b'"replicas":1,"idempotency_window_in_ms":0,"partitions_number":1,"dls_station":""}')
    c.say(b"SUB i.* 1\r\nPUB $memphis_station_creations i.0 %d\r\n%s\r\n" % (len(body), body))
    c.until(b"MSG i.0 1 0\r\n\r\n")


def serve(name):
    """What the daemon finds at its next SIGHUP."""
    shutil.copy(f"{FILES}/{name}.pem", f"{FILES}/live.pem")
    shutil.copy(f"{FILES}/{name}.key", f"{FILES}/live.key")


def reloaded(word):
    with open(LOG, encoding="utf-8") as f:
        before = f.read().count(word)
    os.kill(PID, signal.SIGHUP)
    end = time.time() + 10
    while time.time() < end:
        with open(LOG, encoding="utf-8") as f:
            if f.read().count(word) > before:
                return True
        time.sleep(0.02)
    return False


def name_of_server():
    return dict(pair[0] for pair in Client(login=False).s.getpeercert()["subject"])["commonName"]


def reload():
    c = Client()
    make_station(c)
    acks, ended, sent = [], threading.Event(), [0]

    def produce():
        while not ended.is_set():
            for _ in range(100):
                sent[0] += 1
                c.say(b"PUB st$1.final i.1 6\r\n%06d\r\n" % sent[0])
            acks.extend(int(a) for a in re.findall(rb'"seq":(\d+)', c.until(b'"seq":%d}' % sent[0])))
            acks.append(sent[0])

    t = threading.Thread(target=produce)
    t.start()
    names = []
    for name in ("server2", "server", "server2"):
        serve(name)
        reloaded("certificates are read anew")
        names.append(name_of_server())
    time.sleep(0.2)
    check("SIGHUP reads certificates anew", names == ["server2", "server", "server2"], names)
    shutil.copy(f"{FILES}/server.key", f"{FILES}/live.key")
    good = reloaded("the old certificates stay in use: the key")
    check("a key that does not fit changes nothing, and one sentence says so", good and name_of_server() == "server2")
    with open(f"{FILES}/live.pem", "w", encoding="utf-8") as f:
        f.write("-----BEGIN CERTIFICATE-----\nnonsense\n")
    good = reloaded("the old certificates stay in use: '")
    check("nor does a broken certificate", good and name_of_server() == "server2")
    ended.set()
    t.join()
    check("meanwhile no message of an open connection is lost", acks == list(range(1, sent[0] + 1)), sent[0])
    serve("server")
    reloaded("certificates are read anew")


def stalled():
    """Handshakes that never end; and a client that reads nothing of what it is sent."""
    silent, half = dial(), dial()
    half.sendall(b"\x16\x03\x01\x02\x00\x01")
    mute = context().wrap_socket(dial(), server_hostname="localhost")
    began = time.time()
    deaf = Client()
    deaf.say(b"SUB d 1\r\n")
    deaf.ping()
    feeder = Client()
    for _ in range(40):
        feeder.say(b"PUB d 1000000\r\n" + b"d" * 1000000 + b"\r\n")
    feeder.ping()
    return began, (silent, half, mute), deaf


def stalled_end(began, late, deaf, before):
    for s in late:
        s.settimeout(20)
        ending(s)
    took = time.time() - began
    check("handshakes that do not end, or say nothing inside, end after five seconds", 3.5 < took < 8 + 4 * FACTOR,
          f"{took:.1f} s")
    check("and are counted", counters()[2] - before[2] == 3, f"{before} {counters()}")
    time.sleep(max(0, began + 14 - time.time()))
    deaf.s.settimeout(10)
    got = 0
    try:
        while part := deaf.s.recv(1 << 20):
            got += len(part)
        end = True
    except OSError as e:
        end = isinstance(e, ConnectionResetError) or "EOF" in str(e)
    check("a client that reads nothing is closed", end and got < 40_000_000, f"{got} bytes")


def full():
    """More stalled handshakes than may be at a time: a good client gets its turn."""
    held = [dial() for _ in range(200)]
    for s in held:
        s.sendall(b"\x16\x03\x01")
    time.sleep(0.3)
    began = time.time()
    Client().ping()
    took = time.time() - began
    check("200 stalled handshakes, and another waits for its turn, no longer than their limit",
          2 < took < 7 * FACTOR, f"{took:.1f} s")
    for s in held:
        s.close()


def rss_kib():
    with open(f"/proc/{PID}/status", encoding="utf-8") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))


def descriptors():
    return len(os.listdir(f"/proc/{PID}/fd"))


def main():
    before, open_before = counters(), descriptors()
    waiting = stalled()
    versions()
    messages()
    tickets()
    renegotiation()
    pieces()
    half_closed()
    last_bytes()
    reload()
    crowd()
    stalled_end(*waiting, before)
    strangers()
    full()
    end = time.time() + 20
    while descriptors() > open_before and time.time() < end:
        time.sleep(0.1)
    check("no descriptor stays behind", descriptors() <= open_before, f"{open_before}, then {descriptors()}")
    check("memory stays bounded", rss_kib() < 150 * 1024 * FACTOR, f"{rss_kib()} KiB")
    c, w = Client(), wss()
    os.kill(PID, signal.SIGTERM)
    check("a server that stops ends its connections in order", ending(c.s) == b"")
    check("and says 1001 to WebSockets", b"\x03\xe9the server stops" in ending(w.s))


try:
    main()
except Exception as e:
    check("the test runs to its end", False, repr(e))
    raise
finally:
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
sys.exit(0 if all(results) else 1)
