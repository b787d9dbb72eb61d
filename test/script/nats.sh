#!/bin/sh
# test/script/nats.sh BUILD: memphisd under the `nats` command line tool: streams, consumers,
# buckets and its benchmarks. The tool is .bench/nats (make bench-deps) or one in PATH.
set -u
bin=$1/memphisd
nats=.bench/nats
[ -x "$nats" ] || nats=$(command -v nats) || {
    echo "NOT RUN - the nats command line tool is not there (make bench-deps)"
    echo "0 passed, 0 failed"
    exit 0
}
work=$(mktemp -d)
port=$((20000 + $$ % 20000))
passed=0 failed=0 pid=
export HOME="$work" # the tool keeps contexts there
stop() { [ -n "$pid" ] && kill $pid 2>/dev/null && wait $pid; pid=; }
trap 'stop; rm -rf "$work"' EXIT
start() {
    "$bin" -p $port -m 0 -w 0 -sd "$work/store" >"$work/log" 2>&1 &
    pid=$!
    for _ in $(seq 200); do
        grep -qs 'Stop with Ctrl-C' "$work/log" && return
        sleep 0.05
    done
}
n() { timeout 60 "$nats" -s "nats://root:memphis@127.0.0.1:$port" "$@" >"$work/out" 2>&1; }
check() {
    if [ "$2" = 0 ]; then passed=$((passed + 1)); echo "ok - $1"
    else failed=$((failed + 1)); echo "FAILED - $1"; tail -n 8 "$work/out"; fi
}
says() { grep -q -- "$1" "$work/out"; }

start
n stream add ORDERS --subjects 'orders.>' --max-msgs-per-subject 2 --defaults && says 'orders.>'
check "nats stream add" $?
for i in 1 2 3; do n pub orders.a "a$i"; n pub orders.b "b$i"; done
n stream info ORDERS && says 'Messages: 4' && says 'Number of Subjects: 2\|Subjects: 2'
check "nats pub and stream info" $?
n stream subjects ORDERS && says 'orders.a'
check "nats stream subjects" $?
n stream get ORDERS 3 && says 'a2'
check "nats stream get" $?
n stream edit ORDERS --subjects 'orders.>' --max-msgs 100 -f && says '100'
check "nats stream edit" $?
n stream rmm ORDERS 3 -f && n stream info ORDERS && says 'Messages: 3'
check "nats stream rmm" $?
n consumer add ORDERS pull --pull --defaults && says 'Pull Mode: true'
check "nats consumer add" $?
n consumer next ORDERS pull --count 2 --ack && says 'b2'
check "nats consumer next" $?
n consumer info ORDERS pull && says 'Unprocessed Messages: 1'
check "nats consumer info" $?
n consumer edit ORDERS pull --max-deliver 7 -f && says '7'
check "nats consumer edit" $?
n consumer ls ORDERS && says pull
check "nats consumer ls" $?
n sub --stream ORDERS --all --count 3 && says 'b3'
check "nats sub of a stream" $?
n consumer rm ORDERS pull -f
check "nats consumer rm" $?
n stream purge ORDERS --subject orders.a -f && n stream info ORDERS && says 'Messages: 2'
check "nats stream purge" $?
n stream add QUEUE --subjects 'work.*' --retention work --defaults && n pub work.a job &&
    n consumer add QUEUE w --pull --ack explicit --defaults && n consumer next QUEUE w --ack &&
    sleep 0.2 && n stream info QUEUE && says 'Messages: 0'
check "a work queue is empty when its work is done" $?
n stream ls -n && says ORDERS && says QUEUE
check "nats stream ls" $?

n kv add B --history 3 --description d && n kv put B color red && n kv put B color blue &&
    n kv get B color --raw && says blue
check "nats kv add, put, get" $?
n kv create B color x
[ $? -ne 0 ] && n kv update B color green 2 && n kv get B color --raw && says green
check "nats kv create refuses, update goes by revision" $?
n kv history B color && says red && says blue && says green
check "nats kv history" $?
n kv ls B && says color
check "nats kv ls" $?
n kv del B color -f && { n kv get B color; [ $? -ne 0 ]; }
check "nats kv del" $?
n kv purge B color -f && n kv history B color && ! says red
check "nats kv purge" $?
(timeout 10 "$nats" -s "nats://root:memphis@127.0.0.1:$port" kv watch B >"$work/watch" 2>&1 &)
sleep 1
n kv put B size large
for _ in $(seq 50); do grep -q large "$work/watch" && break; sleep 0.1; done
grep -q large "$work/watch"
check "nats kv watch" $?

stop
start
n kv get B size --raw && says large && n stream info ORDERS && says 'Messages: 2'
check "after a restart all of it is there" $?
n kv rm B -f && n kv ls && ! says large
check "nats kv rm" $?

n stream add BENCH --subjects 'bench.>' --defaults
n bench js pub async bench.x --stream BENCH --msgs 10000 --size 128 --no-progress &&
    says 'msgs/sec' && n stream info BENCH && says '10,000'
check "nats bench js pub async" $?
n bench js pub sync bench.x --stream BENCH --msgs 500 --size 128 --no-progress
check "nats bench js pub sync" $?
n bench js fetch --stream BENCH --msgs 10000 --no-progress && says 'msgs/sec'
check "nats bench js fetch" $?
n consumer rm BENCH nats-bench -f # it begins anew
n bench js consume --stream BENCH --msgs 10000 --no-progress && says 'msgs/sec'
check "nats bench js consume" $?
n bench js ordered --stream BENCH --msgs 10000 --no-progress && says 'msgs/sec'
check "nats bench js ordered" $?
n stream rm BENCH -f && n stream rm ORDERS -f && n stream ls -n && ! says BENCH
check "nats stream rm" $?
! grep -E '\[ERR\]' "$work/log"
check "nothing was logged as an error" $?

echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
