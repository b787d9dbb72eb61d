#!/bin/sh
# test/script/daemon.sh BUILD: memphisd as an operator meets it: flags, refusals, statuses.
set -u
bin=$1/memphisd
work=$(mktemp -d)
port=$((42000 + $$ % 8000))
passed=0 failed=0
pids=
trap 'for p in $pids; do kill -9 $p 2>/dev/null; done; rm -rf "$work"' EXIT
check() {
    if [ "$2" = 0 ]; then passed=$((passed + 1)); echo "ok - $1"
    else failed=$((failed + 1)); echo "FAILED - $1"; fi
}
# says STATUS TEXT ARGS...: exit status and a sentence on stderr
says() {
    want=$1 text=$2
    shift 2
    timeout 10 "$bin" "$@" >"$work/out" 2>"$work/err"
    rc=$?
    [ $rc = "$want" ] && grep -q -- "$text" "$work/err" ||
        { echo "status $rc"; cat "$work/err"; false; }
}
start() { # LOG ARGS...
    log=$1
    shift
    "$bin" "$@" >"$log" 2>&1 &
    pid=$!
    pids="$pids $pid"
    for _ in $(seq 200); do
        grep -q 'Stop with Ctrl-C' "$log" && return 0
        kill -0 $pid 2>/dev/null || return 1
        sleep 0.02
    done
    return 1
}
"$bin" -h | grep -q -- '--store_dir'; check "-h lists the flags" $?
"$bin" --version | grep -q '^memphisd 0'; check "--version prints the version" $?
says 2 "unknown argument '--nonsense'" --nonsense; check "an unknown flag is a usage error" $?
says 2 "needs a value" -p; check "a flag without its value is a usage error" $?
says 2 "is not a value" -p=66x; check "a port that is no number is a usage error" $?
says 2 "is not a value" --memory_max=64X; check "a size that is none is a usage error" $?
says 2 "at least 4M" -sd "$work/x" -w 0 -m 0 --memory_max=1M
check "too little memory is a usage error" $?
for size in 9M 512; do
    says 2 "1K to 8M" -sd "$work/x" -w 0 -m 0 --max_payload=$size
    check "$size is no size of a message" $?
done
says 2 "takes no value" --accept-loss=0; check "a switch with a value is a usage error" $?
says 2 "is not a value" -p 0; check "port 0 is a usage error" $?
ROOT_PASSWORD= says 1 "1 to 72 bytes" -sd "$work/x" -w 0 -m 0
check "an empty ROOT_PASSWORD is refused, not the default" $?
says 1 "not an IP address" -a nowhere.example -sd "$work/x" -w 0 -m 0
check "an address that is none is refused" $?
mkdir "$work/foreign" && echo hi >"$work/foreign/notes.txt"
says 1 "notes.txt" -sd "$work/foreign" -p $port -w 0 -m 0
check "a foreign directory is refused by the name found in it" $?
[ "$(ls -A "$work/foreign")" = notes.txt ]; check "and nothing is left in it" $?
says 1 "cannot be opened" -sd "$work/foreign/notes.txt" -p $port -w 0 -m 0
check "a directory that is none is refused" $?
says 1 "cannot be opened" -sd /proc/nowhere -p $port -w 0 -m 0
check "an unwritable directory is refused" $?

start "$work/a.log" -p $port -m $((port + 1)) --ws_port=$((port + 3)) --store_dir="$work/store"
check "it starts and greets" $?
first=$pid
grep -q "SDKs  *127.0.0.1:$port" "$work/a.log" &&
    grep -q "ws://127.0.0.1:$((port + 3))" "$work/a.log"; check "the greeting names the listeners" $?
says 1 "open" -sd "$work/store" -p $((port + 2)) -w 0 -m 0
check "a second process on the same store is refused" $?
says 1 "cannot listen" -sd "$work/other" -p $port -w 0 -m 0; check "a port in use is refused" $?
says 1 "cannot listen.*with -w 0" -sd "$work/other" -p $((port + 2)) -w $port -m 0
check "and so for the WebSocket" $?
python3 - $port $((port + 1)) <<'END'
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5)
assert s.recv(4096).startswith(b"INFO {")
h = socket.create_connection(("127.0.0.1", int(sys.argv[2])), 5)
h.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
data = b""
while True:
    part = h.recv(4096)
    if not part:
        break
    data += part
assert b"200" in data.split(b"\r\n")[0] and b'{"status":"ok"}' in data, data
END
check "port 6666 says INFO and /healthz says ok" $?
sleep 4
python3 - $port <<'END'
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5)
s.sendall(b'CONNECT {"user":"root","pass":"memphis","name":"x::root"}\r\nPING\r\n')
data = b""
while b"PONG" not in data and b"-ERR" not in data:
    part = s.recv(4096)
    assert part, data
    data += part
assert b"-ERR" not in data, data
END
check "a client that comes to an idle broker is let in" $?
kill -TERM $first
wait $first
check "SIGTERM exits 0" $?
tail -1 "$work/a.log" | grep -q 'on disk'; check "and says that it is done" $?
start "$work/b.log" -p $port -w 0 -m 0 -sd "$work/store" --max_payload=8M &&
    grep -q 'recovered 0 messages' "$work/b.log"
check "a second start recovers" $?
python3 - $port <<'END'
import socket, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5)
assert b'"max_payload":8388608,' in s.recv(4096)
END
check "and clients are told of --max_payload" $?
kill -INT $pid
wait $pid
check "SIGINT exits 0" $?

died=0
for _ in 1 2 3 4 5 6; do
    start "$work/c.log" -p $port -w 0 -m 0 -sd "$work/store" || died=1
    kill -INT $pid; kill -INT $pid; kill -TERM $pid; kill -INT $pid
    wait $pid || died=1
    tail -1 "$work/c.log" | grep -q 'on disk' || died=1
done
check "signals while it stops change nothing" $died

start "$work/hup.log" -p $port -w 0 -m 0 -sd "$work/store"
kill -HUP $pid
for _ in $(seq 100); do grep -q 'SIGHUP reads' "$work/hup.log" && break; sleep 0.02; done
grep -q 'SIGHUP reads' "$work/hup.log" && kill -INT $pid && wait $pid
check "SIGHUP ends nothing" $?

# Lame duck: told, served for a grace, closed one by one, stopped.
start "$work/lame.log" -p $port -w 0 -m $((port + 1)) -sd "$work/store" \
    --lame_duck_duration=3 --lame_duck_grace_period 1.5
python3 - $port $((port + 1)) $pid <<'END'
import os, select, signal, socket, sys, time
def health():
    h = socket.create_connection(("127.0.0.1", int(sys.argv[2])), 5)
    h.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    return h.makefile("rb").readline()
def connect(protocol):
    s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5)
    f = s.makefile("rb")
    assert b'"ldm"' not in f.readline()
    s.sendall(b'CONNECT {"user":"root","pass":"memphis","verbose":false,"protocol":%d}\r\n'
              b'PING\r\n' % protocol)
    assert f.readline() == b"PONG\r\n"
    return s, f
new = [connect(1) for _ in range(4)]
old = connect(0)
assert b"200" in health()
began = time.time()
os.kill(int(sys.argv[3]), signal.SIGUSR2)
for s, f in new:
    line = f.readline()
    assert line.startswith(b"INFO {") and b'"ldm":true' in line, line
assert b"500" in health()
os.kill(int(sys.argv[3]), signal.SIGTERM)  # it is leaving already
try:
    socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5)
    sys.exit("a new client was let in")
except ConnectionRefusedError:
    pass
for s, f in new + [old]:
    s.sendall(b"PING\r\n")
    line = f.readline()
    assert line == b"PONG\r\n", line
assert time.time() - began < 1.5
ends, left = [], [s for s, f in new + [old]]
while left:
    ready = select.select(left, [], [], 5)[0]
    assert ready, ends
    for s in ready:
        if s.recv(4096) == b"":
            ends.append(time.time() - began)
            left.remove(s)
assert 1.4 < min(ends) and max(ends) - min(ends) > 0.5 and max(ends) < 4, ends
END
check "SIGUSR2: clients hear it, are served, and go one by one" $?
wait $pid
check "and then it stops with 0" $?
grep -q 'lame duck' "$work/lame.log" && tail -1 "$work/lame.log" | grep -q 'on disk'
check "and has said so" $?
start "$work/dls.log" -p $port -w 0 -m 0 -sd "$work/dls" --dls_max_bytes=25K
python3 - $port <<'END'
import json, socket, sys, time
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5)
f = s.makefile("rb")
s.sendall(b'CONNECT {"user":"root","pass":"memphis","verbose":false,"headers":true}\r\nSUB i.* 1\r\n')
def message():
    while True:
        words = f.readline().split()
        if words[0] == b"MSG":
            return words[3] if len(words) == 5 else b"", f.read(int(words[-1]) + 2)[:-2]
def ask(subject, body):
    s.sendall(b"PUB %s i.1 %d\r\n%s\r\n" % (subject, len(body), body))
    return message()
assert ask(b"$memphis_station_creations", b'{"name":"st","partitions_number":1,"dls_configuration":{"poison":true}}')[1] == b""
assert b'"error":""' in ask(b"$memphis_consumer_creations", b'{"name":"c","station_name":"st",'
    b'"connection_id":"x","consumer_type":"application","consumers_group":"c","max_msg_deliveries":1,'
    b'"start_consume_from_sequence":1,"last_messages":-1,"req_version":4}')[1]
for i in range(4):
    assert b'"seq"' in ask(b"st$1.final", b"x" * 10000)[1]
    reply, body = ask(b"$JS.API.CONSUMER.MSG.NEXT.st$1.c", b"1")
    assert ask(reply, b"+TERM")[1] == b""
end = time.time() + 5
while True:
    rows = json.loads(ask(b"$memphis_admin.dls_list", b'{"name":"st"}')[1])
    count = len(next(v for v in rows.values() if isinstance(v, list)))
    if count == 2:
        break
    assert time.time() < end, rows
    time.sleep(0.1)
END
check "--dls_max_bytes holds: the oldest dead letters go" $?
kill -TERM $pid
wait $pid
start "$work/dr.log" -p $port -w 0 -m 0 -sd "$work/dr" --disk_reserve=900000G &&
    grep -q 'none is stored (disk_reserve)' "$work/dr.log"
check "a reserve above the whole disk is warned about" $?
kill -TERM $pid
wait $pid
bad=0
for h in 0 31 x -1; do says 2 "is not a value" --dls_retention_hours=$h || bad=1; done
check "dead letters are kept for 1 to 30 hours" $bad
bad=0
for h in 0 169 x -1; do
    says 2 "is not a value" --gc_producer_consumer_retention_hours=$h || bad=1
done
check "producers and consumers without a client are kept for 1 to 168 hours" $bad
says 2 "is not a value" -ldd 1e9; check "a duration out of range is a usage error" $?

# More connections than descriptors, while the log needs new files.
(ulimit -n 256 && exec "$bin" -p $port -w 0 -m 0 -sd "$work/few") >"$work/few.log" 2>&1 &
pid=$!
pids="$pids $pid"
for _ in $(seq 200); do grep -q 'Stop with Ctrl-C' "$work/few.log" && break; sleep 0.02; done
python3 - $port "$work/few.log" <<'END'
import resource, socket, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (2048, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
def connect():
    return socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5)
def until(s, text):
    data = b""
    while text not in data:
        part = s.recv(65536)
        assert part, data
        data += part
s = connect()
s.sendall(b'CONNECT {"user":"root","pass":"memphis","headers":true}\r\nSUB i.* 1\r\n')
body = (b'{"name":"st","retention_type":"messages","retention_value":100,"storage_type":"file",'
        b'"replicas":1,"idempotency_window_in_ms":0,"partitions_number":1,"dls_station":""}')
s.sendall(b"PUB $memphis_station_creations i.0 %d\r\n%s\r\n" % (len(body), body))
until(s, b"MSG i.0 1 0\r\n\r\n")
idle = [connect() for _ in range(1000)]
end = time.time() + 10
while "connections are refused" not in open(sys.argv[2]).read():
    assert time.time() < end, "it has room for 1,000"
    time.sleep(0.02)
for i in range(200):
    s.sendall(b"PUB st$1.final i.1 100000\r\n%s\r\n" % (b"x" * 100000))
    until(s, b'"seq":%d}' % (i + 1))
del idle
while True:  # until it has heard that they are gone
    try:
        until(connect(), b"INFO {")
        break
    except (AssertionError, ConnectionResetError):
        assert time.time() < end, "nobody is let in again"
        time.sleep(0.02)
END
check "1,000 connections on 256 descriptors stop nobody who is in" $?

# The limit falls below what is open: accept itself fails, until it rises again.
prlimit -p $pid --nofile=10:256
before=$(awk '{print $14 + $15}' /proc/$pid/stat)
python3 - $port $pid <<'END'
import os, socket, sys, time
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5)
time.sleep(1)  # what it does in this time is measured
os.system(f"prlimit -p {sys.argv[2]} --nofile=256:256")
assert s.recv(10).startswith(b"INFO")
END
check "a connection that cannot be accepted is accepted later" $?
[ $(($(awk '{print $14 + $15}' /proc/$pid/stat) - before)) -lt 25 ]
check "and until then costs little time" $?
[ "$(wc -l <"$work/few.log")" -lt 100 ]; check "and are told in a few lines" $?
kill -TERM $pid
wait $pid
check "and it ends as it should" $?
echo "$passed passed, $failed failed"
[ $failed = 0 ]
