#!/bin/bash
# Click to photon, side by side with other remote desktops, in turns, on one machine.
#   photon.sh [--rounds N] [--samples N] [--peers "tigervnc x11vnc-fast lean wavry"] [--scenes "card:30 scroll:30 scroll:60"]
#             [--wan "-delay 20 -loss 1 -mbit 10"]    a bad link between them instead of a good one (delay: one way, ms)
# Needs the photon judge, built, in the folder PHOTON names, and root. Prints p50 and p99 of each cell and ratios.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
rounds=3 samples=200 peers="tigervnc x11vnc-fast lean wavry" scenes="card:30 scroll:30 scroll:60" wan=
while [ $# -gt 0 ]; do
    case $1 in
    --rounds) rounds=$2 ;;
    --samples) samples=$2 ;;
    --peers) peers=$2 ;;
    --scenes) scenes=$2 ;;
    --wan) wan=$2 ;;
    *) echo "photon.sh: unknown option $1" >&2; exit 64 ;;
    esac
    shift 2
done
[ -x "${PHOTON:-}/photon-probe" ] || { echo "photon.sh: set PHOTON to the folder of the built judge" >&2; exit 64; }
export OUT=${OUT:-$(mktemp -d /tmp/wavry-photon-out-XXXXXX)}
mkdir -p "$OUT"
export WAVRY_BIN
net=lan
if [ -n "$wan" ]; then
    net=wan
    # shellcheck disable=SC2086
    "$PHOTON/netns-up.sh" wan $wan
else
    "$PHOTON/netns-up.sh" lan
fi
for round in $(seq "$rounds"); do
    for scene in $scenes; do
        for peer in $peers; do
            file=$PHOTON/peers/$peer.peer
            [ "$peer" != wavry ] || file=$here/wavry.peer
            echo "round $round: $peer ${scene%:*} ${scene#*:}" >&2
            timeout 180 "$PHOTON/bench.sh" "$file" $net "${scene%:*}" "${scene#*:}" "$samples" 10 >"$OUT/last.log" 2>&1 ||
                tail -n 5 "$OUT/last.log" >&2
        done
    done
done
[ -z "$wan" ] || "$PHOTON/netns-up.sh" wan-down || true
"$PHOTON/netns-up.sh" down || true
python3 "$here/photon_table.py" "$OUT/cells.csv"
