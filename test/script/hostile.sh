#!/bin/sh
# test/script/hostile.sh BUILD: what bad input gets, on the real daemon.
set -u
work=$(mktemp -d)
port=$((33000 + $$ % 8000))
trap 'test/sdk/daemon stop "$work/d" $port; rm -rf "$work"' EXIT
MEMPHISD=$1/memphisd test/sdk/daemon start "$work/d" $port || exit 1
# Sanitizers keep freed memory: there the bound says nothing.
case $1 in */san-*) factor=20 ;; *) factor=1 ;; esac
python3 test/wire/hostile.py $port "$(cat "$work/d/pid")" $factor
