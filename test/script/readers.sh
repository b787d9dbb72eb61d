#!/bin/sh
# test/script/readers.sh BUILD: readers that are slow or leave, with 4 MB of memory.
set -u
work=$(mktemp -d)
port=$((41500 + $$ % 8000))
trap 'test/sdk/daemon stop "$work/d" $port; rm -rf "$work"' EXIT
export MEMPHISD=$1/memphisd MEMPHIS_MEMORY_MAX=4M
test/sdk/daemon start "$work/d" $port || exit 1
python3 test/wire/readers.py $port "$(cat "$work/d/pid")"
