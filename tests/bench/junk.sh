#!/bin/bash
# What a datagram costs that comes from somebody who has proven nothing: see tests/bench/bench_junk.c.
set -euo pipefail
exec "${WAVRY_BIN:?folder of the programs}/bench-junk" "$@"
