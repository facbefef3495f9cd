#!/bin/bash
# What a gateway carries on one core, over SQLite, without TLS and with it: memory of 10,000 hosts that are connected and
# idle; the time of 1,000 signaling exchanges a second among them, when the gateway knows who may reach whom and when it
# must ask its database each time; the same while people, and then machines, sign in as fast as they are let.
#   gateway.sh [--hosts N] [--devices N] [--rate N] [--seconds N] [--only plain|tls] [--json FILE]
exec env PYTHONDONTWRITEBYTECODE=1 python3 "$(dirname "$(readlink -f "$0")")/gateway.py" "$@"
