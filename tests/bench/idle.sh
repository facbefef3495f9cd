#!/bin/bash
# What a host costs: CPU of all host processes with a still screen and one viewer, and resident memory at 1280x720.
#   idle.sh [SECONDS]      SECONDS of stillness measured (20); 600 shows whether memory stays flat
exec python3 "$(dirname "$(readlink -f "$0")")/idle.py" "${1:-20}"
