#!/bin/bash
# Forward error correction: frames lost under the losses of a table (beside published figures and what is
# possible at all), then encoder and decoder against bare ISA-L in one run.
#   fec.sh [--frames N] [--seed S]      N frames per case (20000: half a minute)
set -e
bin=${WAVRY_BIN:?set WAVRY_BIN to the folder of the built programs}
"$bin/rift-fec-table" "$@"
exec "$bin/bench-fec"
