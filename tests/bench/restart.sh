#!/bin/bash
# restart.sh [--kills N] [--restarts N] [--stops N] [--stages A,B] [--json FILE]: how long a client sees nothing new when a
# stage of a host that systemd runs is killed, restarted or stopped; and what is lost. Needs root (a container). The full
# count takes about half an hour.
set -eu
here=$(dirname "$(readlink -f "$0")")
exec env PYTHONDONTWRITEBYTECODE=1 python3 "$here/../system/systemd/bench_restart.py" "$@"
