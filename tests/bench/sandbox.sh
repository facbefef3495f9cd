#!/bin/bash
# sandbox.sh [--starts N]: what each line of confinement in units/parts/hardening.inc costs at the start of a
# unit: alone, and all together. Needs root (a container).
set -eu
here=$(dirname "$(readlink -f "$0")")
exec env PYTHONDONTWRITEBYTECODE=1 python3 "$here/../system/systemd/bench_sandbox.py" "$@"
