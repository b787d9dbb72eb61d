"""WebSocket clients against memphisd: good ones are served, hostile ones closed by the right code.

Usage: websocket.py PORT WS_PORT PID [FACTOR]. Prints "ok - ..." lines, ends with "N passed, N failed".
The last check stops the daemon.
"""
import base64
import hashlib
import os
import signal
import socket
import struct
import sys
import time

PORT, WS_PORT, PID = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
GROWTH_KIB = 40 * 1024 * int(sys.argv[4] if len(sys.argv) > 4 else 1)  # more than all of them may cost
CONNECT = b'CONNECT {"verbose":false,"user":"root","pass":"memphis","headers":true}\r\nPING\r\n'
KEY = base64.b64encode(b"sixteen bytes..!")
ACCEPT = base64.b64encode(hashlib.sha1(KEY + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
HELLO = (b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
         b"Sec-WebSocket-Key: " + KEY + b"\r\nSec-WebSocket-Version: 13\r\n\r\n")
results = []


def check(what, good, detail=""):
    results.append(bool(good))
    print(("ok" if good else "FAILED") + " - " + what + (f" ({detail})" if detail != "" else ""), flush=True)


def masked(payload, first=0x82):
    mask = os.urandom(4)
    n = len(payload)
    head = bytes([first, 0x80 | n]) if n < 126 else bytes([first, 0xFE]) + struct.pack(">H", n) \
        if n < 65536 else bytes([first, 0xFF]) + struct.pack(">Q", n)
    long = (mask * (n // 4 + 1))[:n]
    return head + mask + (int.from_bytes(payload, "big") ^ int.from_bytes(long, "big")).to_bytes(n, "big")


class Client:
    def __init__(self, login=True, hello=True):
        self.s = socket.create_connection(("127.0.0.1", WS_PORT), 10)
        self.s.settimeout(10)
        self.raw = self.data = b""  # not read yet; payload of data frames
        self.frames = 0
        self.code = None
        if hello:
            self.s.sendall(HELLO)
            while b"\r\n\r\n" not in self.raw:
                self.more()
            head, self.raw = self.raw.split(b"\r\n\r\n", 1)
            assert head.startswith(b"HTTP/1.1 101 ") and ACCEPT in head, head
            self.until(b"INFO {")
        if login:
            self.say(CONNECT)
            self.until(b"PONG\r\n")
            self.data, self.frames = b"", 0

    def more(self):
        part = self.s.recv(1 << 20)
        if not part:
            raise EOFError(f"closed behind {self.data[-80:]!r}")
        self.raw += part

    def need(self, n):
        while len(self.raw) < n:
            self.more()

    def frame(self):
        """(opcode, payload); each of the server's is whole and not masked."""
        self.need(2)
        assert self.raw[0] & 0xF0 == 0x80 and self.raw[1] < 0x80, self.raw[:2]
        size, at = self.raw[1], 2
        if size == 126:
            self.need(4)
            size, at = struct.unpack(">H", self.raw[2:4])[0], 4
        elif size == 127:
            self.need(10)
            size, at = struct.unpack(">Q", self.raw[2:10])[0], 10
        self.need(at + size)
        opcode, payload = self.raw[0] & 15, self.raw[at:at + size]
        self.raw = self.raw[at + size:]
        if opcode == 2:
            self.data += payload
            self.frames += 1
        if opcode == 8:
            self.code = struct.unpack(">H", payload[:2])[0] if payload else 1005
        return opcode, payload

    def say(self, text, first=0x82):
        self.s.sendall(masked(text, first))

    def until(self, text):
        while text not in self.data:
            self.frame()
        return self.data

    def ending(self):
        """The close code, and that the connection ends behind it."""
        try:
            while self.frame()[0] != 8:
                pass
        except (OSError, EOFError) as e:
            return repr(e)
        code, self.code = self.code, None
        try:
            while self.s.recv(65536):
                return "data behind the close frame"
        except ConnectionResetError:
            pass
        self.s.close()
        return code


def after(send, code, what):
    c = Client()
    try:
        c.s.sendall(send)
    except OSError:
        pass
    got = c.ending()
    check(what, got == code, got)


def http(send, status, what):
    c = Client(login=False, hello=False)
    c.s.sendall(send)
    try:
        while True:
            c.more()
    except (OSError, EOFError):
        pass
    check(what, c.raw.startswith(b"HTTP/1.1 %d " % status) and b"Sec-WebSocket-Version: 13" in c.raw,
          c.raw[:40])


def rss_kib():
    with open(f"/proc/{PID}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))


def good():
    c = Client()
    c.say(b"SUB a 1\r\n" + b"PUB a 1\r\nx\r\n" * 100 + b"PING\r\n")
    c.until(b"PONG\r\n")
    check("a hundred messages of one turn come in few frames", c.data.count(b"MSG a 1 1") == 100 and c.frames < 5,
          c.frames)
    c.data = b""
    for b in masked(b"PUB a 2\r\nhi\r\n"):
        c.s.sendall(bytes([b]))
    c.until(b"MSG a 1 2\r\nhi\r\n")
    check("a frame may come byte by byte", True)
    c.say(b"PUB a", first=0x01)
    c.say(b"now", first=0x89)
    c.say(b" 3\r\nyo", first=0x00)
    c.say(b"u\r\n", first=0x80)
    pong = [c.frame() for _ in range(1)][0]
    c.until(b"MSG a 1 3\r\nyou\r\n")
    check("a ping between fragments is answered", pong == (10, b"now"), pong)
    big = os.urandom(1 << 20)
    c.data = b""
    c.say(b"PUB a %d\r\n" % len(big) + big + b"\r\n")
    c.until(b"MSG a 1 1048576\r\n" + big + b"\r\n")
    check("1 MiB comes back", True)
    c.s.sendall(masked(b"PING\r\n") + masked(b"\x03\xe8", first=0x88))
    got = c.ending()
    check("what came before a close is answered, and the close, too", got == 1000 and b"PONG" in c.data, got)


def requests():
    http(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 426, "a plain request is told to upgrade")
    http(HELLO.replace(b"13", b"12"), 426, "another version is told ours")
    http(HELLO.replace(b"GET", b"POST"), 405, "only GET")
    http(HELLO.replace(KEY, b"short"), 400, "a wrong key")
    http(b"\x16\x03\x01\x02\x00\x01", 400, "TLS")
    http(HELLO[:-4] + b"\r\nA: " + b"a" * 9000, 431, "a head without end")
    http(HELLO[:-2], 408, "half a handshake")


def hostile():
    after(b"\x82\x05hello", 1002, "a frame without a mask")
    after(b"\x82\xff\x7f" + b"\xff" * 7, 1009, "a length of 2^63 - 1")
    after(b"\x82\xff" + b"\xff" * 8, 1002, "a length of 2^64 - 1")
    after(b"\xf2\x80\0\0\0\0", 1002, "reserved bits")
    after(b"\x83\x80\0\0\0\0", 1002, "an unknown opcode")
    after(b"\x09\x80\0\0\0\0", 1002, "a ping in fragments")
    after(masked(b"\x03\xe8\xff", first=0x88), 1007, "a close whose reason is no text")
    after(b"\x02\x80\0\0\0\0" + b"\x00\x80\0\0\0\0" * (12 << 20), 1009, "empty fragments without end")
    after(masked(b"FETCH\r\n") + b"x" * 1000000, 1002, "an unknown verb, and the peer goes on sending")
    after(masked(b"PUB a 99999999\r\n"), 1009, "a payload over the limit")
    c = Client(login=False)
    c.say(CONNECT.replace(b"memphis", b"wrong"))
    got = c.ending()
    check("a wrong password", got == 1008 and b"-ERR 'Authorization Violation'" in c.data, got)
    c = Client(login=False)
    got = c.ending()
    check("no CONNECT", got == 1008 and b"-ERR 'Authentication Timeout'" in c.data, got)


def late_bytes():
    """What is on its way when the server closes must not reset the connection: the code would be lost."""
    c = Client()
    c.s.sendall(b"\x83\x80")
    got = c.frame()[0]
    try:
        for _ in range(5):
            c.s.sendall(b"late")
            time.sleep(0.02)
        end = c.s.recv(1)
    except OSError as e:
        end = repr(e)
    check("bytes behind the end do not reset the connection", got == 8 and end == b"", end)
    began = time.time()
    try:
        while time.time() - began < 10:
            c.s.sendall(b"still")
            time.sleep(0.05)
    except OSError:
        pass
    check("but are listened to for a moment only", time.time() - began < 5, f"{time.time() - began:.1f} s")


def flood():
    """Pings, and nobody reads the pongs."""
    c = Client()
    c.s.settimeout(0.5)
    pings = masked(b"p" * 125, first=0x89) * 1000
    sent = 0
    try:
        while sent < 60_000_000:
            c.s.sendall(pings)
            sent += len(pings)
    except OSError:
        pass
    check("pings whose answers nobody reads are taken", sent >= 60_000_000, sent)
    return c


def main():
    before = rss_kib()
    watcher = Client()
    watcher.say(b"SUB good 1\r\nPING\r\n")
    watcher.until(b"PONG")
    halves = [Client(login=False, hello=False) for _ in range(200)]
    for h in halves:
        h.s.sendall(HELLO[:50])
    good()
    requests()
    hostile()
    late_bytes()
    held = flood()
    idle = socket.create_connection(("127.0.0.1", PORT), 10)
    idle.sendall(CONNECT + b"PUB good 4\r\ntext\r\n")
    watcher.until(b"MSG good 1 4\r\ntext\r\n")
    check("meanwhile a good client keeps its connection, and hears what came by TCP", True)
    check("memory stays bounded", rss_kib() - before < GROWTH_KIB, f"{before} KiB before, {rss_kib()} KiB after")
    held.s.close()
    asking = Client(login=False, hello=False)
    asking.s.sendall(HELLO[:50])
    time.sleep(0.1)
    os.kill(PID, signal.SIGTERM)
    got = watcher.ending()
    check("a server that stops says 1001", got == 1001, got)
    try:
        asking.more()
    except (OSError, EOFError):
        pass
    check("and 503 to half a handshake", asking.raw.startswith(b"HTTP/1.1 503 "), asking.raw[:40])


try:
    main()
except Exception as e:
    check("the test runs to its end", False, repr(e))
print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
sys.exit(0 if all(results) else 1)
