#!/bin/bash
# A frame lost for good: how long and how badly the picture is wrong, with a keyframe that is asked for and with intra
# refresh; and what either costs while nothing is lost.
exec "${WAVRY_BIN:?set WAVRY_BIN to the folder of the built programs}/bench-recovery"
