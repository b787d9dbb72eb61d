#!/bin/sh
# test/script/kill.sh BUILD: kill -9 under load: 50 rounds in CI, 10 elsewhere. ROUNDS and
# SEED say otherwise.
set -u
build=$1
passed=0 failed=0 rc=1
make --no-print-directory B="$build" wire-programs >/dev/null || {
    echo "FAILED - the programs of test/wire do not build"
    echo "0 passed, 1 failed"
    exit 1
}
dir=$(mktemp -d "$build/kill.XXXXXX")
trap '[ $rc = 0 ] && rm -rf "$dir" || echo "its stores and logs: $dir"' EXIT
export ASAN_OPTIONS="verify_asan_link_order=0:detect_leaks=0:${ASAN_OPTIONS:-}"
check() {
    if [ "$2" = 0 ]; then passed=$((passed + 1)); echo "ok - $1"
    else failed=$((failed + 1)); echo "FAILED - $1"; fi
}
rounds=${ROUNDS:-10}
[ -z "${CI:-}" ] || rounds=${ROUNDS:-50}
"$build/test/wire/kill_load" "$build" "$dir/load" "$rounds" ${SEED:-} >"$dir/out" 2>&1
status=$?
grep -v '^ok\|^FAILED\|passed' "$dir/out"
check "nothing promised is lost in $rounds rounds of kill -9 under load" $status
# The test itself: a store that goes back by one round must be noticed.
KILL_SABOTAGE=2 "$build/test/wire/kill_load" "$build" "$dir/sabotage" 6 7 >"$dir/out" 2>&1
[ $? = 1 ] && grep -q '^round [0-9]*: .*\(lost\|gone\|back\|promised\|cannot\)' "$dir/out"
check "a store that lost a round is noticed" $?
grep '^round' "$dir/out" | tail -1
echo "$passed passed, $failed failed"
rc=$failed
[ $failed = 0 ]
