#!/bin/sh
# test/script/tidy.sh: tools/tidy finds what it promises to find, and nothing in a good tree.
set -u
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0
check() {
    if [ "$2" = 0 ]; then passed=$((passed + 1)); echo "ok - $1"
    else failed=$((failed + 1)); echo "FAILED - $1"; fi
}
fresh() { # a tree in which all is well
    rm -rf "$work/t"
    mkdir -p "$work/t/lib/base" "$work/t/lib/store" "$work/t/test/unit/base" "$work/t/tools" \
        "$work/t/server" "$work/t/include"
    cd "$work/t" || exit 1
    : >tools/tidy-tested-elsewhere
    printf '#include "base/a.h"\nint mp_a(void)\n{\n    return 1;\n}\n' >lib/base/a.c
    printf 'int mp_a(void);\n' >lib/base/a.h
    : >test/unit/base/test_a.c
    cd "$here" || exit 1
}
here=$PWD
finds() { # TEXT: the tree of now has a finding that says it
    tools/tidy "$work/t" >"$work/out" 2>&1
    [ $? = 1 ] && grep -q -- "$1" "$work/out"
}
fresh
tools/tidy "$work/t" >"$work/out"; check "a good tree has no findings" $?
fresh; echo '#include "store/log.h"' >>"$work/t/lib/base/a.c"
finds 'base/ may not include store/log.h'; check "an include of a higher layer" $?
fresh; echo '#include "lib/base/a.h"' >"$work/t/server/s.c"
finds 'server/ includes <memphis'; check "the daemon including the inside of the library" $?
fresh; echo '#include <sqlite3.h>' >>"$work/t/lib/base/a.c"
finds 'sqlite3.h> is included only in'; check "a dependency outside its wrapper" $?
fresh; printf 'void *f(void)\n{\n    return malloc(1);\n}\n' >>"$work/t/lib/base/a.c"
finds 'banned call: malloc'; check "malloc outside base/mem.c" $?
fresh; printf 'void f(void)\n{\n    abort();\n}\n' >>"$work/t/lib/base/a.c"
finds 'banned call: abort'; check "abort in the library" $?
fresh; printf '/* malloc(1) and strcpy(a, b) in words */\n' >>"$work/t/lib/base/a.c"
tools/tidy "$work/t" >/dev/null; check "but not in a comment" $?
fresh; { printf 'void f(void)\n{\n'; yes '    mp_a();' | head -69; printf '}\n'; } >>"$work/t/lib/base/a.c"
finds 'a function of 71 lines'; check "a function of 71 lines" $?
fresh; { printf 'void f(void)\n{\n'; yes '    mp_a();' | head -68; printf '}\n'; } >>"$work/t/lib/base/a.c"
tools/tidy "$work/t" >/dev/null; check "but not one of 70" $?
fresh; yes '/* */' | head -1001 >>"$work/t/lib/base/a.c"
finds 'lines; 1,000 at most'; check "a file of more than 1,000 lines" $?
fresh; printf '/* %081d */\n' 0 >>"$work/t/lib/base/a.c"
tools/tidy "$work/t" >/dev/null; check "87 columns are fine" $?
fresh; printf '/* %083d */\n' 0 >>"$work/t/lib/base/a.c"
finds '89 columns'; check "89 columns are not" $?
fresh; rm "$work/t/test/unit/base/test_a.c"
finds 'no test/unit/base/test_a.c'; check "a library file without its test" $?
fresh; echo 'struct x y;' >>"$work/t/lib/base/a.h"
finds 'does not compile alone'; check "a header that does not compile alone" $?
fresh; echo '/* TODO later */' >>"$work/t/lib/base/a.c"
finds 'TODO'; check "a TODO" $?
feature() { # STATE SHOWN-BY: a table of features with one row
    fresh; mkdir -p "$work/t/docs"
    printf '| id | feature | state | shown by |\n|---|---|---|---|\n| ABC-01 | x | %s | %s |\n' \
        "$1" "$2" >"$work/t/docs/features.md"
}
feature done '`test_a.c`, `test/unit/base/test_a.c`, `by hand`'
tools/tidy "$work/t" >/dev/null; check "features may name the tests that there are" $?
feature done '`test_b.c`'; finds 'there is no test/unit/\*/test_b.c'; check "but no others" $?
feature 'part: half' ''; finds 'ABC-01 names no test'; check "and what works names one" $?
feature planned ''; tools/tidy "$work/t" >/dev/null; check "what is planned need not" $?
echo "$passed passed, $failed failed"
[ $failed = 0 ]
