#!/bin/bash
# What a gateway carries on one core, over SQLite: memory of 10,000 hosts that are connected and idle, the time of 1,000
# signaling exchanges a second among them, and the same while people sign in as fast as they are let.
#   gateway.sh [--hosts N] [--rate N] [--seconds N] [--json FILE]
exec env PYTHONDONTWRITEBYTECODE=1 python3 "$(dirname "$(readlink -f "$0")")/gateway.py" "$@"
