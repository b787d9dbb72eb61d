#!/bin/bash
# test/script/users.sh BUILD: users of memphisd over its sockets: the first ones, who may
# connect, token mode, and that guessing is slow for whoever guesses only.
set -u
build=$1
work=$(mktemp -d "${TMPDIR:-/tmp}/memphis-users.XXXXXX")
port=$((20000 + $$ % 20000))
passed=0 failed=0 pid=

check()
{
    if [ "$2" = 0 ]; then
        passed=$((passed + 1)); echo "ok - $1"
    else
        failed=$((failed + 1)); echo "FAILED - $1"; tail -n 5 "$work/out" "$work/err"
    fi
}

start()
{
    env "$@" "$build/memphisd" -p $port -m 0 -w 0 -sd "$work/store" > "$work/out" 2> "$work/err" &
    pid=$!
    for _ in $(seq 100); do
        grep -q 'Stop with' "$work/out" && return
        sleep 0.1
    done
}

stop()
{
    [ -n "$pid" ] && kill "$pid" 2> /dev/null && wait "$pid"
    pid=
}
trap 'stop; rm -rf "$work"' EXIT

# login JSON-FIELDS -> what the server says instead of PONG, or PONG
login()
{
    exec 3<> /dev/tcp/127.0.0.1/$port || return 1
    printf 'CONNECT {"verbose":false,%s}\r\nPING\r\n' "$1" >&3
    read -r _ <&3 # INFO
    read -r -t 15 line <&3
    exec 3>&- 3<&-
    printf '%s\n' "${line%$'\r'}"
}

ask()
{
    exec 3<> /dev/tcp/127.0.0.1/$port || return 1
    printf 'CONNECT {"verbose":false,%s}\r\nSUB _INBOX.a 1\r\nPUB %s _INBOX.a %d\r\n%s\r\n' \
        "$1" "$2" "${#3}" "$3" >&3
    read -r _ <&3
    read -r -t 15 head <&3
    read -r -t 15 line <&3
    exec 3>&- 3<&-
    printf '%s\n' "${line%$'\r'}"
}

root='"user":"root","pass":"memphis"'
users='users:
  mgmt:
  - {user: admin, password: Admin123456!}
  client:
  - {user: app, password: "App123456!@"} # quoted
  - user: other
    password: Other12345!
'
start INITIAL_CONFIG_FILE="$users"
grep -q 'loaded 3 users' "$work/out"; check "USR-09 the first start makes its users" $?
[ "$(login '"user":"app","pass":"App123456!@"')" = PONG ]; check "USR-04 an application user connects" $?
[ "$(login '"user":"other$1","pass":"Other12345!"')" = PONG ]; check "USR-04 with the account id, too" $?
[ "$(login '"user":"admin","pass":"Admin123456!"')" = "-ERR 'Authorization Violation'" ]
check "USR-03 a management user does not" $?
[ "$(login "$root")" = PONG ]; check "USR-01 root does" $?
[ "$(login '"user":"app","pass":"App123456!@","name":"x::root"')" = "-ERR 'Authorization Violation'" ]
check "nobody is who he says he is" $?

[ "$(ask "$root" '$memphis_admin.user_remove' '{"username":"other"}')" = '{}' ]
check "USR-07 root removes a user by a request" $?
[ "$(login '"user":"other","pass":"Other12345!"')" = "-ERR 'Authorization Violation'" ]
check "USR-07 who is then refused" $?
ask '"user":"app","pass":"App123456!@"' '$memphis_admin.user_list' '{}' | grep -q 'only root and management'
check "an application user has no such verbs" $?

# Guessing: ten refusals, then each verdict comes a second later, for that address only.
for _ in $(seq 10); do login '"user":"root","pass":"guess"' > "$work/guess"; done
began=$(date +%s%N)
login '"user":"root","pass":"guess"' > "$work/guess"
login "$root" > "$work/right"
took=$((($(date +%s%N) - began) / 1000000))
[ "$(cat "$work/right")" = PONG ] && [ $took -ge 1900 ]; check "guesses make verdicts wait ($took ms for two)" $?
grep -q 'a login was refused user=root' "$work/err"; check "refused logins are in the log" $?
! grep -q 'guess\|Admin123\|App123\|memphis"' "$work/err"; check "no password is" $?
stop

start INITIAL_CONFIG_FILE='{"users":{"client":[{"user":"late","password":"Late123456!"}]}}'
! grep -q 'loaded' "$work/out"; check "USR-09 a later start makes none" $?
[ "$(login '"user":"app","pass":"App123456!@"')" = PONG ]; check "users outlive a restart" $?
stop
rm -rf "$work/store"

start USER_PASS_BASED_AUTH='"false"' CONNECTION_TOKEN=t0ken \
    INITIAL_CONFIG_FILE='{"users":{"client":[{"user":"app","password":"App123456!@"}]}}'
grep -q 'loaded 1 users' "$work/out"; check "JSON is YAML" $?
[ "$(login '"auth_token":"t0ken","name":"id::app"')" = PONG ]; check "a token is enough in token mode" $?
[ "$(login '"auth_token":"app::t0ken"')" = PONG ]; check "a plain client names its user in the token" $?
[ "$(login '"auth_token":"t0ken","name":"id::nobody"')" = "-ERR 'Authorization Violation'" ]
check "the user must be there all the same" $?
[ "$(login '"user":"app","pass":"App123456!@"')" = "-ERR 'Authorization Violation'" ]
check "a password is not, then" $?
stop

start INITIAL_CONFIG_FILE='{"users":{"client":[{"user":"a","password":"weak"}]}}'
rm -rf "$work/store"; stop
start INITIAL_CONFIG_FILE='{"users":{"client":[{"user":"a","password":"weak"}]}}'
grep -q "user 'a' of INITIAL_CONFIG_FILE is not made" "$work/err"
check "USR-05 a bad password is a warning, and no secret in it" $?
[ "$(login "$root")" = PONG ]; check "and the server runs" $?
stop
rm -rf "$work/store"

start INITIAL_CONFIG_FILE='users:
  client:
  - {user: a, password: Good123456!}
  - {user: b, pasword: Good123456!}
'
grep -q 'no user of INITIAL_CONFIG_FILE is made: line 4, column .*: a user has the keys' "$work/err"
check "USR-09 a text with a fault makes nobody" $?
! grep -q 'Good123' "$work/err"; check "and its warning names no password" $?
[ "$(login '"user":"a","pass":"Good123456!"')" = "-ERR 'Authorization Violation'" ]
check "nor the users before the fault" $?
stop
echo "$passed passed, $failed failed"
[ $failed = 0 ]
