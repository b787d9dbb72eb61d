#!/bin/sh
# test/script/promise.sh BUILD: acknowledged = on disk, with syncs delayed and failed.
# PROMISE_DIR: where the stores are made (a disk, not a memory file system).
set -u
build=$1
make --no-print-directory B="$build" wire-programs >/dev/null || {
    echo "FAILED - the programs of test/wire do not build"
    echo "0 passed, 1 failed"
    exit 1
}
dir=${PROMISE_DIR:-$(mktemp -d "$build/promise.XXXXXX")}
trap '[ $rc = 0 ] && rm -rf "$dir" || echo "its stores and logs: $dir"' EXIT
# A sanitizer's runtime does not mind that a preloaded library comes first.
export ASAN_OPTIONS="verify_asan_link_order=0:detect_leaks=0:${ASAN_OPTIONS:-}"
"$build/test/wire/promise" "$build" "$dir" ${SEED:-}
rc=$?
exit $rc
