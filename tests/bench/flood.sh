#!/bin/bash
# A live session while strangers flood the host's socket with junk: what the session loses, and what a junk datagram
# costs transport.
#   flood.sh [SECONDS] [PACKETS-PER-SECOND]      20 s calm, then 20 s of 100,000 a second
set -euo pipefail
bin=${WAVRY_BIN:?set WAVRY_BIN to the folder of the built programs}
exec "$bin/bench-flood" "$@" 2>/dev/null
