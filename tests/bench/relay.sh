#!/bin/bash
# What forwarding costs: wavry-relay beside coturn's ChannelData and a bare recvmmsg/sendmmsg loop, the same traffic in
# one run, the forwarder alone on one core. Memory of 10,000 leases; delay at half of what the relay can do.
#   relay.sh [--seconds N] [--rounds N] [--json FILE]
exec env PYTHONDONTWRITEBYTECODE=1 python3 "$(dirname "$(readlink -f "$0")")/relay.py" "$@"
