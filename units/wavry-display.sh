#!/bin/sh
# wavry-display: a virtual display for machines without a screen, and what runs on it; started by
# wavry-display.service. The display's name and cookie are written for wavry-capture and wavry-input, and stay the same
# when this is started again, so that both find back by themselves.
set -eu
runtime=${RUNTIME_DIRECTORY:?start this with: systemctl start wavry-display}
display=${WAVRY_DISPLAY:-:50}
screen=${WAVRY_SCREEN:-1920x1080}
number=${display#:}

# An Xauthority file of one entry: any host, this display, 16 random bytes.
field() { printf '\000\'"$(printf '%03o' "${#1}")%s" "$1"; }
if [ ! -s "$runtime/Xauthority" ]; then
    { printf '\377\377\000\000'; field "$number"; field MIT-MAGIC-COOKIE-1; printf '\000\020'
      head -c 16 /dev/urandom; } >"$runtime/Xauthority.new"
    chmod 0640 "$runtime/Xauthority.new"
    mv "$runtime/Xauthority.new" "$runtime/Xauthority"
fi

rm -f "$runtime/ready"
mkfifo "$runtime/ready"
# Without the socket: an X server says "ready" by itself, which is before anybody can know the display's name.
env -u NOTIFY_SOCKET Xvfb "$display" -screen 0 "${screen}x24" -auth "$runtime/Xauthority" -nolisten tcp -noreset -displayfd 3 \
    3>"$runtime/ready" &
server=$!
read -r got <"$runtime/ready" || { echo "Xvfb did not start on $display" >&2; exit 1; }

export DISPLAY=":$got" XAUTHORITY="$runtime/Xauthority"
printf 'DISPLAY=%s\nXAUTHORITY=%s\n' "$DISPLAY" "$XAUTHORITY" >"$runtime/environment.new"
mv "$runtime/environment.new" "$runtime/environment"
systemd-notify --ready --status="display $DISPLAY, $screen"

first() {
    for program in "$@"; do
        if command -v "$program" >/dev/null; then echo "$program"; return; fi
    done
    echo "sleep infinity"
}
session=${WAVRY_SESSION:-$(first x-session-manager x-window-manager x-terminal-emulator)}
(
    unset NOTIFY_SOCKET
    cd "${HOME:-/}"
    while :; do
        sh -c "$session" || true
        sleep 1
    done
) &
wait "$server"
echo "Xvfb ended" >&2
exit 1
