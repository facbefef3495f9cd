#!/bin/bash
# What a host costs: CPU of all host processes with a still screen and one viewer, and resident memory at 1280x720.
#   idle.sh [SECONDS]      SECONDS of stillness measured (20)
#   idle.sh SECONDS soak   the picture keeps moving and keys are pressed all the time: with 600, does memory grow?
exec python3 "$(dirname "$(readlink -f "$0")")/idle.py" "${1:-20}" "${2:-still}"
