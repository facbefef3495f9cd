#!/bin/bash
# A live session while strangers flood the host's socket with junk of every kind: what the session loses, and what a
# junk datagram costs transport. In a network namespace of its own (root); the junk is made on a core of its own.
#   flood.sh [SECONDS] [PACKETS-PER-SECOND]      20 s calm, then 20 s of 100,000 a second
set -euo pipefail
bin=${WAVRY_BIN:?set WAVRY_BIN to the folder of the built programs}
if [ "$(id -u)" != 0 ]; then
    echo "flood: a network namespace and a packet socket need root" >&2
    exit 77
fi
# shellcheck disable=SC2016
exec unshare --net bash -c 'ip link set lo up && exec "$@" 2>/dev/null' flood "$bin/bench-flood" "$@"
