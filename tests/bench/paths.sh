#!/bin/bash
# How a client and a host that know no address of each other meet: the way they take behind each kind of NAT, the time from
# the client's start to its first picture, and the pauses in the picture when the way changes. 40 ms of round trip.
# Beside it what coturn's STUN says of each NAT, and what ICE with coturn can reach there. Needs root.
#   paths.sh [--rounds N] [--switches N] [--json FILE]
exec env PYTHONDONTWRITEBYTECODE=1 python3 -W ignore "$(dirname "$(readlink -f "$0")")/paths.py" "$@"
