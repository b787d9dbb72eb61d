#!/bin/sh
# test/script/tls.sh BUILD [BACKEND]: TLS as an operator and as clients meet it: files that are no good,
# clients with certificates and without, and all of test/wire/tls.py.
set -u
bin=$1/memphisd${2:+-$2}
work=$(mktemp -d)
f=$work/files
port=$((22000 + $$ % 4000))
passed=0 failed=0
export MEMPHISD=$bin
trap 'test/sdk/daemon stop "$work/d" $port; rm -rf "$work"' EXIT
case $1 in */san-*) factor=8 ;; *) factor=1 ;; esac
check() {
    if [ "$2" = 0 ]; then passed=$((passed + 1)); echo "ok - $1"
    else failed=$((failed + 1)); echo "FAILED - $1"; fi
}
# says STATUS TEXT ARGS...: exit status and one sentence on stderr
says() {
    want=$1 text=$2
    shift 2
    timeout 10 "$bin" -sd "$work/x" -p $port -w 0 -m 0 "$@" >"$work/out" 2>"$work/err"
    rc=$?
    [ $rc = "$want" ] && grep -q -- "$text" "$work/err" && [ "$(wc -l <"$work/err")" = 1 ] ||
        { echo "status $rc"; cat "$work/err"; false; }
}
start() { # FLAGS: a daemon with the server's certificate
    DAEMON_ARGS="--tlscert $f/server.pem --tlskey $f/server.key $*" test/sdk/daemon start "$work/d" $port
}
stop() { test/sdk/daemon stop "$work/d" $port; }
# may NAME: whether a client with that certificate ("": none) comes in; twice on one context, so
# that a ticket would be tried
may() {
    python3 - $port "$f" "$1" <<'PY'
import socket, ssl, sys
port, files, name = sys.argv[1:]
ctx = ssl.create_default_context(cafile=f"{files}/ca.pem")
if name:
    ctx.load_cert_chain(f"{files}/{name}.pem", f"{files}/{name}.key")
session, comes = None, []
for _ in range(2):
    s = socket.create_connection(("127.0.0.1", int(port)), 10)
    while s.recv(1) != b"\n":
        pass
    try:
        t = ctx.wrap_socket(s, server_hostname="localhost", session=session)
        session = t.session
        t.sendall(b'CONNECT {"verbose":false,"user":"root","pass":"memphis"}\r\nPING\r\n')
        comes.append(t.recv(100) == b"PONG\r\n")
    except OSError as e:
        comes.append(False)
assert comes[0] == comes[1], comes
sys.exit(0 if comes[0] else 7)
PY
}
is_calm() { ! grep -E 'Sanitizer|runtime error' "$work/d/log"; }
refused() { may "$1"; [ $? = 7 ]; }

test/support/certificates "$f" || exit 1
says 2 "needs both" --tls; check "--tls alone is a usage error" $?
says 2 "needs both" --tlscert "$f/server.pem"; check "so is a certificate without a key" $?
says 2 "needs --tlscacert" --tlsverify --tlscert "$f/server.pem" --tlskey "$f/server.key"
check "and --tlsverify without an authority" $?
says 1 "nowhere.pem' cannot be read: No such file" --tlscert "$f/nowhere.pem" --tlskey "$f/server.key"
check "a certificate that is not there" $?
says 1 "cannot be read: Is a directory" --tlscert "$f" --tlskey "$f/server.key"
check "a certificate that is a directory" $?
says 1 "holds no certificate" --tlscert "$f/server.key" --tlskey "$f/server.key"
check "a certificate that is none" $?
says 1 "holds no key" --tlscert "$f/server.pem" --tlskey "$f/server.pem"; check "a key that is none" $?
says 1 "is encrypted.*openssl pkey" --tlscert "$f/server.pem" --tlskey "$f/encrypted.key"
check "an encrypted key" $?
says 1 "does not belong to" --tlscert "$f/server.pem" --tlskey "$f/client.key"
check "a key of another certificate" $?
says 1 "holds no certificate" --tlscert "$f/server.pem" --tlskey "$f/server.key" --tlscacert "$f/names"
check "an authority that is none" $?
[ ! -e "$work/x" ]; check "all of that comes before the store is touched" $?

chmod 644 "$f/server.key"
start
grep -q "warning: the key '$f/server.key' is readable by others" "$work/d/log"
check "a key that others can read is warned of" $?
chmod 600 "$f/server.key"
grep -q "SDKs  *127.0.0.1:$port (TLS)" "$work/d/log"; check "the greeting says TLS" $?
may "" && may stranger; check "without an authority certificates of clients are not asked for" $?
stop
start --tlscacert "$f/ca.pem"
may "" && may client; check "with one they may come without, or with one of it" $?
refused stranger; check "but not with one of another, nor by its ticket" $?
grep -q 'TLS with a client failed (127.0.0.1, port [0-9]*): .*certificate' "$work/d/log"
check "and the log says why" $?
stop
start --tlsverify --tlscacert "$f/ca.pem"
may client; check "--tlsverify: a client with a certificate comes in" $?
refused ""; check "--tlsverify: one without does not" $?
refused stranger; check "--tlsverify: nor one with a strange one" $?
stop
(ulimit -n 160 && start)
python3 - $port "$f" <<'PY'
import socket, ssl, sys
port, files = int(sys.argv[1]), sys.argv[2]
ctx = ssl.create_default_context(cafile=f"{files}/ca.pem")
inside, outside = [], 0
while outside < 5:
    s = socket.create_connection(("127.0.0.1", port), 10)
    try:
        while (byte := s.recv(1)) != b"\n":
            assert byte
        inside.append(ctx.wrap_socket(s, server_hostname="localhost"))
    except (OSError, AssertionError):
        outside += 1
assert 20 < len(inside) < 100, len(inside)
for t in inside:
    t.sendall(b'CONNECT {"verbose":false,"user":"root","pass":"memphis"}\r\nPING\r\n')
assert all(t.recv(100) == b"PONG\r\n" for t in inside)
PY
check "with few descriptors some are refused, and the others are served" $?
grep -q 'connections are refused' "$work/d/log"; check "and one line says why" $?
stop
is_calm; check "no sanitizer complains" $?

cp "$f/server.pem" "$f/live.pem"
cp "$f/server.key" "$f/live.key"
export WS_PORT=$((port + 4000)) HTTP_PORT=$((port + 8000))
: >"$work/d/log"
DAEMON_ARGS="--tlscert $f/live.pem --tlskey $f/live.key" test/sdk/daemon start "$work/d" $port || exit 1
python3 test/wire/tls.py $port $WS_PORT $HTTP_PORT "$f" "$(cat "$work/d/pid")" "$work/d/log" $factor | tee "$work/wire"
stop
is_calm; check "no sanitizer complains of that" $?
set -- $(tail -1 "$work/wire")
echo "$((passed + $1)) passed, $((failed + $3)) failed"
[ $((failed + $3)) = 0 ]
