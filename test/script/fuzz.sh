#!/bin/sh
# test/script/fuzz.sh BUILD: what fuzzing has found stays mended, a short search finds
# nothing new (FUZZ_SECONDS per target; 60 where CI is set, else 5), and the seeds and the
# corpus reach 90 % of the lines of each decoder of what is on disk.
set -u
seconds=${FUZZ_SECONDS:-$([ -n "${CI:-}" ] && echo 60 || echo 5)}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
test/fuzz/run "$seconds" >"$log" 2>&1
grep -vE '^[0-9]+ passed' "$log"
last=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$log" | tail -1)
set -- ${last:-0 passed, 1 failed}
passed=$1 failed=$3
test/fuzz/cov --corpus >"$log" 2>&1
for file in lib/store/record.c lib/store/layout.c; do
    percent=$(sed -n "s|^$file \([0-9]*\)[.0-9]* .*|\1|p" "$log")
    if [ "${percent:-0}" -ge 90 ]; then
        passed=$((passed + 1)); echo "ok - the corpus reaches $percent % of $file"
    else
        failed=$((failed + 1)); echo "FAILED - the corpus reaches ${percent:-0} % of $file, 90 at least"
        tail -5 "$log"
    fi
done
echo "$passed passed, $failed failed"
[ $failed = 0 ]
