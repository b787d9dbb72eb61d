#!/bin/sh
# test/script/errors.sh BUILD: each error text of the protocol, over the wire.
set -u
work=$(mktemp -d)
port=$((23000 + $$ % 8000))
trap 'test/sdk/daemon stop "$work/d" $port; rm -rf "$work"' EXIT
MEMPHISD=$1/memphisd test/sdk/daemon start "$work/d" $port || exit 1
python3 test/wire/errors.py $port
