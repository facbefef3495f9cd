#!/bin/bash
# How a client and a host that know no address of each other meet: the way they take behind each kind of NAT, the time from
# the client's start to its first picture, and the pauses in the picture when the way changes. 40 ms of round trip.
# Beside it what ICE (libnice, coturn) reaches in the same networks, and what coturn's STUN says of each NAT. Needs root.
#   paths.sh [--rounds N] [--switches N] [--pair HOST-CLIENT]... [--json FILE]
# The same with nothing stood in for, behind two of the pairs of NATs:
#   paths.sh real [--rounds N] [--json FILE]
folder=$(dirname "$(readlink -f "$0")")
script=paths.py
if [ "${1:-}" = real ]; then
    script=paths_real.py
    shift
fi
exec env PYTHONDONTWRITEBYTECODE=1 python3 -W ignore "$folder/$script" "$@"
