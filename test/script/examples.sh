#!/bin/sh
# test/script/examples.sh BUILD: every example runs and ends well.
set -u
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0
for e in "$1"/examples/*; do
    [ -x "$e" ] && [ -f "$e" ] || continue
    name=$(basename "$e")
    (cd "$work" && timeout 60 "$OLDPWD/$e") >"$work/out" 2>&1
    if [ $? = 0 ]; then passed=$((passed + 1)); echo "ok - $name"
    else failed=$((failed + 1)); echo "FAILED - $name"; cat "$work/out"; fi
done
echo "$passed passed, $failed failed"
[ $failed = 0 ] && [ $passed -ge 4 ]
