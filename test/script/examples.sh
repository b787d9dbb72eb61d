#!/bin/sh
# test/script/examples.sh BUILD: every example runs and ends well, and the gateway keeps
# a client that is quiet for longer than a slow reader is waited for (ten seconds).
set -u
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0
timeout 60 "$1/examples/gateway" "$work/socket" >"$work/gateway" 2>&1 &
timeout 60 python3 - "$work/socket" >"$work/client" 2>&1 <<'EOF' &
import socket, sys, time
s = socket.socket(socket.AF_UNIX)
for _ in range(100):
    try:
        s.connect(sys.argv[1])
        break
    except OSError:
        time.sleep(0.1)
f = s.makefile("rw", newline="\r\n")
f.write("CONNECT {\"verbose\":false}\r\n")
for pause in 0, 11:
    time.sleep(pause)
    f.write("PING\r\n")
    f.flush()
    while (line := f.readline()) != "PONG\r\n":
        assert line, "closed"
EOF
client=$!
for e in "$1"/examples/*; do
    [ -x "$e" ] && [ -f "$e" ] || continue
    name=$(basename "$e")
    (cd "$work" && timeout 60 "$OLDPWD/$e") >"$work/out" 2>&1
    if [ $? = 0 ]; then passed=$((passed + 1)); echo "ok - $name"
    else failed=$((failed + 1)); echo "FAILED - $name"; cat "$work/out"; fi
done
if wait $client; then passed=$((passed + 1)); echo "ok - gateway, a quiet client"
else failed=$((failed + 1)); echo "FAILED - gateway, a quiet client"; cat "$work/gateway" "$work/client"; fi
echo "$passed passed, $failed failed"
[ $failed = 0 ] && [ $passed -ge 5 ]
