#!/bin/bash
# Click to photon and freezes over bad links, in network namespaces with a link of our own between them (root).
#   wan.sh [wan] [--links 40ms,80ms,step] [--seconds N] [--rounds N] [--peers wavry,tigervnc,x11vnc] [--json FILE]
#   wan.sh freeze [SECONDS]        300 seconds at 1 % loss: freezes above 250 ms must be none
here=$(dirname "$(readlink -f "$0")")
PYTHONDONTWRITEBYTECODE=1 exec python3 "$here/wan.py" "${WAVRY_BIN:?set WAVRY_BIN to the folder of the built programs}" "$@"
