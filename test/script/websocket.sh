#!/bin/sh
# test/script/websocket.sh BUILD: the WebSocket port of the real daemon, and hostile clients.
set -u
work=$(mktemp -d)
port=$((24000 + $$ % 4000))
export WS_PORT=$((port + 4000))
trap 'test/sdk/daemon stop "$work/d" $port; rm -rf "$work"' EXIT
MEMPHISD=$1/memphisd test/sdk/daemon start "$work/d" $port || exit 1
# Sanitizers keep freed memory: there the bound says nothing.
case $1 in */san-*) factor=20 ;; *) factor=1 ;; esac
python3 test/wire/websocket.py $port $WS_PORT "$(cat "$work/d/pid")" $factor
