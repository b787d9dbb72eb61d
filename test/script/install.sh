#!/bin/sh
# test/script/install.sh BUILD: the library as others link it: its symbols, what it calls,
# where `make install` puts it.
set -u
b=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0
check() {
    if [ "$2" = 0 ]; then passed=$((passed + 1)); echo "ok - $1"
    else failed=$((failed + 1)); echo "FAILED - $1"; fi
}
case $b in
*/san-*)
    echo "NOT RUN - the installed library: this build is sanitized"
    echo "0 passed, 0 failed"
    exit 0 ;;
esac

nm -D --defined-only "$b/libmemphis.so" | awk '{print $3}' | sed 's/@.*//' |
    grep -v '^memphis_' | grep -v '^MEMPHIS_[0-9]*$' >"$work/foreign"
[ ! -s "$work/foreign" ]; check "the shared library exports memphis_* only" $?
# Every function of the public headers is there.
cat include/memphis/*.h | tr '\n' ' ' | sed 's|/\*[^*]*\*\+\([^/*][^*]*\*\+\)*/||g' |
    grep -o 'memphis_[a-z_]* *([^*]' | sed 's/ *(.*//' | sort -u >"$work/declared"
nm -D --defined-only "$b/libmemphis.so" | awk '{print $3}' | sed 's/@.*//' | sort -u >"$work/defined"
comm -23 "$work/declared" "$work/defined" >"$work/missing"
[ -s "$work/declared" ] && [ ! -s "$work/missing" ]
check "every declared function is exported" $?
[ -s "$work/missing" ] && cat "$work/missing"
readelf -d "$b/libmemphis.so" | grep -q 'SONAME.*libmemphis.so.0'; check "its soname is libmemphis.so.0" $?
# The broker dies, the host lives (design D13).
nm -u "$b/libmemphis.a" 2>/dev/null | awk '{print $2}' |
    grep -xE 'abort|exit|_exit|quick_exit|_Exit|signal|sigaction|raise|kill|__assert_fail' >"$work/calls"
[ ! -s "$work/calls" ]; check "the library neither ends the process nor takes its signals" $?
[ -s "$work/calls" ] && cat "$work/calls"
readelf -d "$b/libmemphis.so" | grep -q 'NEEDED.*event'; [ $? = 1 ]
check "the library does not link libevent" $?

make --no-print-directory B="$b" install DESTDIR="$work/root" PREFIX=/opt/memphis >"$work/out" 2>&1
check "make install DESTDIR= PREFIX= succeeds" $?
r=$work/root/opt/memphis
[ -x "$r/bin/memphisd" ] && [ -f "$r/include/memphis/memphis.h" ] && [ -f "$r/lib/libmemphis.a" ] &&
    [ -L "$r/lib/libmemphis.so" ] && [ -f "$r/lib/pkgconfig/libmemphis.pc" ]
check "programs, headers, libraries and .pc are where they belong" $?
export PKG_CONFIG_PATH=$r/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$work/root
flags=$(pkg-config --cflags --libs libmemphis) && cc examples/hello.c -o "$work/hello" $flags &&
    (cd "$work" && LD_LIBRARY_PATH=$r/lib ./hello "$work/hello-data" >"$work/out" 2>&1) &&
    grep -q 'two books' "$work/out"
check "a program built against the installed library runs" $?
printf '#include <memphis/memphis.h>\nint main() { return memphis_version_number() == 0; }\n' >"$work/v.cpp"
if command -v c++ >/dev/null; then
    c++ -std=c++17 -Wall -Wextra -Werror "$work/v.cpp" -o "$work/v" $flags && LD_LIBRARY_PATH=$r/lib "$work/v"
    check "and one in C++" $?
fi
echo "$passed passed, $failed failed"
[ $failed = 0 ]
