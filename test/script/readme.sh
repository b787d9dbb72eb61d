#!/bin/sh
# test/script/readme.sh BUILD: the code blocks of README.md do what it says.
set -u
b=$1
work=$(mktemp -d)
passed=0 failed=0
trap 'test/sdk/daemon stop "$work/d" 6666 2>/dev/null; rm -rf "$work"' EXIT
check() {
    if [ "$2" = 0 ]; then passed=$((passed + 1)); echo "ok - $1"
    else failed=$((failed + 1)); echo "FAILED - $1"; fi
}
block() { # the N-th fenced block of a language
    awk -v lang="$1" -v want="$2" '
        $0 == "```" lang { n++; on = n == want; next }
        /^```/ { on = 0 } on' README.md
}
c_example() {
# Compiled by README's own lines, run twice.
block sh 2 | sed "s/^make lib$/:/; s|\bbuild\b|$b|g" >"$work/c.sh"
rm -rf "$b/hello-data"
sh -eu "$work/c.sh" >"$work/out" 2>&1
rc=$?
[ $rc = 0 ] && grep -q 'two books' "$work/out" && grep -q 'delivery 2: one lamp' "$work/out" &&
    grep -q 'dead letter [0-9]* of group packers: given up by its consumer' "$work/out"
rc=$?
check "the C example compiles by README's lines and consumes its messages" $rc
[ $rc = 0 ] || cat "$work/out"
LD_LIBRARY_PATH=$b "$b/hello" "$b/hello-data" >"$work/out" 2>&1 && ! grep -q lamp "$work/out"
check "run again, the group kept its place and the message id was known" $?
rm -rf "$b/hello-data"
}
case $b in
*/san-*) echo "NOT RUN - README's C example: the library of this build is sanitized" ;;
*) c_example ;;
esac
# The Python example, against a memphisd on its default port.
if [ -x .sdk/py/bin/python ]; then
    block python 1 >"$work/first.py"
    MEMPHISD=$b/memphisd test/sdk/daemon start "$work/d" 6666
    timeout 60 .sdk/py/bin/python "$work/first.py" >"$work/out" 2>&1
    [ "$(cat "$work/out")" = "two books" ]
    rc=$?
    check "the Python example prints its message" $rc
    timeout 60 .sdk/py/bin/python examples/first.py 127.0.0.1 6666 >"$work/out" 2>&1
    rc=$?
    check "examples/first.py, as the greeting says, runs too" $rc
    [ $rc = 0 ] || cat "$work/out"
else
    echo "NOT RUN - README's Python example: the SDK is not installed (make sdk-deps)"
fi
echo "$passed passed, $failed failed"
[ $failed = 0 ]
