#!/bin/bash
# What RIFT costs: transport and a client at 50 Mbit/s and 60 frames a second, what one core can send and receive beside
# bare libsodium and segmented sendmmsg(), and how long input takes behind a thin link that is full of video (root).
#   transport.sh [cpu | ceiling | input] [SECONDS]      all of them without a word; 20 s each
set -euo pipefail
bin=${WAVRY_BIN:?set WAVRY_BIN to the folder of the built programs}
what=all seconds=20
case ${1:-} in
cpu | ceiling | input) what=$1; shift ;;
esac
[ $# = 0 ] || seconds=$1
failed=0

# input_over TITLE OVER-MS SETTING...: key events against video at the link's limit, 20 ms there and 20 ms back.
input_over() {
    local title=$1 over=$2 host=wavry-bench-h$$ client=wavry-bench-c$$ status=0
    shift 2
    echo "input, $title:"
    ip netns add "$host"
    ip netns add "$client"
    # shellcheck disable=SC2064
    trap "ip netns del $host; ip netns del $client" RETURN
    coproc LINK { exec "$bin/bench-linkem" "$host" "$client" wan0 delay_ms=20 kbit=10000 "$@"; }
    # shellcheck disable=SC2153
    local link=$LINK_PID ready
    read -r ready <&"${LINK[0]}"
    if [ "$ready" != ready ]; then
        echo "the link did not come up" >&2
        return 1
    fi
    local side space
    for side in 1:$host 2:$client; do
        space=/run/netns/${side#*:}
        nsenter --net="$space" ip link set lo up
        nsenter --net="$space" ip addr add "10.78.45.${side%%:*}/24" dev wan0
        nsenter --net="$space" ip link set wan0 up
    done
    nsenter --net="/run/netns/$host" "$bin/bench-transport" input 10.78.45.1 "/run/netns/$client" 20 "$over" "$seconds" ||
        status=1
    kill "$link"
    wait "$link" || true
    return $status
}

if [ "$what" = all ] || [ "$what" = ceiling ]; then
    "$bin/bench-ceiling" || failed=1
fi
if [ "$what" = all ] || [ "$what" = cpu ]; then
    "$bin/bench-transport" cpu "$seconds" 2>/dev/null || failed=1
fi
if [ "$what" = all ] || [ "$what" = input ]; then
    if [ "$(id -u)" = 0 ]; then
        input_over "10 Mbit/s, 40 ms, no loss" 10 2>/dev/null || failed=1
        # The way of the events loses one datagram in fifty: each costs the pause until the next one, and no more.
        input_over "the same, 2 % of the client's datagrams lost" 20 b.loss_percent=2 2>/dev/null || failed=1
    else
        echo "input: skipped, network namespaces need root" >&2
    fi
fi
exit $failed
