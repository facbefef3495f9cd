#!/bin/bash
# rift-handshake against itself, and each of its roles against the second implementation (rift_peer.py): both ends must
# print the same handshake hash and keys, and open each other's first data datagram.
set -euo pipefail
tool=$1 peer=$2
work=$(mktemp -d)
pids=()
trap '((${#pids[@]})) && kill "${pids[@]}" 2>/dev/null; rm -rf "$work"' EXIT

fail() {
    echo "$1" >&2
    head -n 50 "$work"/* >&2
    exit 1
}

# value FILE NAME: what NAME is in FILE.
value() {
    sed -n "s/^$2 = //p" "$work/$1" | head -n 1
}

# wait_for FILE NAME
wait_for() {
    for _ in $(seq 100); do
        [ -n "$(value "$1" "$2")" ] && return
        sleep 0.1
    done
    fail "$1 never said \"$2\""
}

# agree FILE FILE: what both ends must have in common.
agree() {
    local name
    for name in 'handshake hash' 'key client to host' 'key host to client' 'base of the inner keys'; do
        [ -n "$(value "$1" "$name")" ] || fail "$1: no $name"
        [ "$(value "$1" "$name")" = "$(value "$2" "$name")" ] || fail "$1 and $2: $name differs"
    done
}

run() {
    "$tool" respond 127.0.0.1 0 --seconds 20 >"$work/respond-$1" &
    pids+=($!)
    wait_for "respond-$1" key
    port=$(value "respond-$1" listening) key=$(value "respond-$1" key)
}

run tool
"$tool" initiate 127.0.0.1 "$port" --host-key "$key" --payload hello >"$work/initiate-tool" || fail "tool against tool"
wait "${pids[-1]}" || fail "the responder failed"
agree respond-tool initiate-tool
[ "$(value respond-tool 'payload of message 3')" = 68656c6c6f ] || fail "the payload differs"

# Who does not know the key gets not a byte.
run deaf
"$tool" initiate 127.0.0.1 "$port" --seconds 1 >"$work/initiate-deaf" 2>&1 && fail "answered without the key"
grep -q '^send' "$work/respond-deaf" && fail "the responder said something"
kill "${pids[-1]}"

run python
python3 "$peer" initiate --port "$port" --host-key "$key" --payload hello >"$work/initiate-python" ||
    fail "the second implementation as initiator"
agree respond-python initiate-python
[ "$(value initiate-python data)" = opened ] || fail "data did not open"

python3 "$peer" respond >"$work/respond-second" &
pids+=($!)
wait_for respond-second key
"$tool" initiate 127.0.0.1 "$(value respond-second listening)" --host-key "$(value respond-second key)" \
    --payload hello >"$work/initiate-second" || fail "the second implementation as responder"
wait "${pids[-1]}" || fail "the second implementation failed"
agree respond-second initiate-second
[ "$(value respond-second payload)" = 68656c6c6f ] || fail "the payload differs"
[ "$(value initiate-second data)" = opened ] || fail "data did not open"
