#!/bin/bash
# What an encoder setting costs and gives: time, bytes and likeness, a JSON line per preset and thread count.
#   encoder.sh [preset,threads[,vbv_percent[,qp_min[,options]]]]      one setting instead of all
exec "${WAVRY_BIN:?set WAVRY_BIN to the folder of the built programs}/bench-encoder" "$@"
