#!/bin/bash
# inside.sh: what test_vm.py runs in the virtual machine, as root. Says what it does; ends with 0 and "all is well".
set -euo pipefail
KEY_A=30 KEY_B=48 BTN_LEFT=272 EV_KEY=1 EV_REL=2 EV_ABS=3 REL_X=0 REL_WHEEL=8 ABS_X=0

fail() {
    echo "FAILED: $*"
    echo "-- events"; cat /tmp/events || true
    echo "-- client"; cat /tmp/client || true
    journalctl -b --no-pager -o short-monotonic -n 60 || true
    exit 1
}
step() { echo "-- $(cut -d' ' -f1 /proc/uptime) s: $*"; }
eventually() { # SECONDS COMMAND...
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.05
    done
}
send() { echo "$*" >&7; }
# seen DEVICE TYPE CODE VALUE: since the last mark
seen() { tail -n +"$mark" /tmp/events | grep -qx "$*"; }
mark() { mark=$(($(wc -l </tmp/events) + 1)); }
device() { # NAME: its /dev/input/event node
    awk -v name="N: Name=\"$1\"" '$0 == name {found = 1} found && /^H: / {for (i = 1; i <= NF; i++) if ($i ~ /^(Handlers=)?event[0-9]+$/)
        {sub(/^Handlers=/, "", $i); print "/dev/input/" $i; exit}}' /proc/bus/input/devices
}
ready() { [ "$(wavryctl stages --json | grep -c '"state" *: *"ready"')" = 7 ]; }
pid_of() { systemctl show -p MainPID --value "$1"; }
uinput_is_ours() { [ "$(stat -c %G:%a /dev/uinput)" = wavry-uinput:660 ]; }
all_gone() { [ "$(grep -c gone /tmp/events)" = 3 ]; }
inode() { stat -c %i:%Y "$1"; }

export HOME=/root
ip link set lo up
step "kernel $(uname -r), users and folders as a package makes them"
systemd-sysusers
systemd-tmpfiles --create wavry.conf

step "the udev rule gives /dev/uinput to its group, though the module is not loaded"
[ -c /dev/uinput ] || fail "there is no /dev/uinput"
! grep -q '^uinput ' /proc/modules || fail "the module is loaded already: this shows nothing"
systemctl restart systemd-udevd
eventually 5 uinput_is_ours || fail "/dev/uinput is $(stat -c %U:%G:%a /dev/uinput)"

step "the host starts, its devices appear"
systemctl daemon-reload
systemctl start wavry-host.target
eventually 30 ready || { wavryctl stages || true; fail "the host is not ready"; }
[ "$(systemctl is-active wavry-uinput.socket)" = active ] || { systemctl status wavry-uinput.socket || true; fail "wavry-uinput.socket"; }
for name in "Wavry keyboard" "Wavry absolute pointer" "Wavry mouse"; do
    eventually 10 sh -c "grep -q 'Name=\"$name\"' /proc/bus/input/devices" || { wavryctl stages || true; fail "no device \"$name\""; }
done
keyboard=$(device "Wavry keyboard") tablet=$(device "Wavry absolute pointer") mouse=$(device "Wavry mouse")
echo "$keyboard $tablet $mouse"
uinput_is_ours || fail "loading the module took the group away"
eventually 5 test -c "$keyboard" || fail "udev made no node"
: >/tmp/events
wavry-evdev "$keyboard" "$tablet" "$mouse" >/tmp/events 2>&1 &
reader=$!
eventually 5 grep -q reading /tmp/events || fail "the devices can't be read"
before=$(inode "$keyboard")

step "a client connects"
wavry-client --identity /root/identity --print-key >/tmp/key
wavryctl authorize "$(cat /tmp/key)" --name test
host_key=$(wavryctl status --json | grep -o 'wavry1[A-Za-z0-9_-]*' | head -n 1)
mkfifo /tmp/commands
wavry-keys 127.0.0.1 "$host_key" /root/identity </tmp/commands >/tmp/client 2>&1 &
client=$!
exec 7>/tmp/commands
eventually 20 grep -q '^connected' /tmp/client || fail "the client is not connected"

step "key, pointer, button, wheel reach applications"
mark
send down $KEY_B; send up $KEY_B; send move 32768 16384; send button $BTN_LEFT 1; send button $BTN_LEFT 0
send rel 5 0; send scroll 0 120
for event in "$keyboard $EV_KEY $KEY_B 1" "$keyboard $EV_KEY $KEY_B 0" "$mouse $EV_KEY $BTN_LEFT 1" \
    "$mouse $EV_KEY $BTN_LEFT 0" "$mouse $EV_REL $REL_X 5" "$mouse $EV_REL $REL_WHEEL 1"; do
    # shellcheck disable=SC2086
    eventually 5 seen $event || fail "not seen: $event"
done
eventually 5 sh -c "grep -q '^$tablet $EV_ABS $ABS_X ' /tmp/events" || fail "the pointer did not move"

step "the stage is killed while a key is held"
mark
send down $KEY_A
eventually 5 seen "$keyboard" $EV_KEY $KEY_A 1 || fail "the key is not down"
old=$(pid_of wavry-input)
mark
kill -KILL "$old"
eventually 10 seen "$keyboard" $EV_KEY $KEY_A 0 || fail "the key stays down"
eventually 10 ready || fail "the host is not ready again"
[ "$(pid_of wavry-input)" != "$old" ] || fail "it was not killed"

step "the device is the same, and works on"
[ "$(inode "$keyboard")" = "$before" ] || fail "the node is another one"
[ "$(device "Wavry keyboard")" = "$keyboard" ] || fail "the keyboard has another number"
! grep -q gone /tmp/events || fail "an application saw an unplug"
[ "$(grep -c 'Name="Wavry' /proc/bus/input/devices)" = 3 ] || fail "there are more devices than three"
mark
send down $KEY_B; send up $KEY_B
eventually 5 seen "$keyboard" $EV_KEY $KEY_B 0 || fail "no key after the restart"

step "the supervisor is killed while a key is held: nobody notices; then both are"
mark
send down $KEY_A
eventually 5 seen "$keyboard" $EV_KEY $KEY_A 1 || fail "the key is not down"
kill -KILL "$(pid_of wavry-supervisor)"
eventually 10 ready || fail "the host is not ready after the supervisor's end"
! seen "$keyboard" $EV_KEY $KEY_A 0 || fail "the key came up"
kill -KILL "$(pid_of wavry-supervisor)" "$(pid_of wavry-input)"
eventually 10 seen "$keyboard" $EV_KEY $KEY_A 0 || fail "the key stays down"
eventually 15 ready || fail "the host is not ready after both ended"
! grep -q gone /tmp/events || fail "an application saw an unplug"
[ "$(device "Wavry keyboard")" = "$keyboard" ] || fail "the keyboard has another number"

step "the client goes away while a key is held"
mark
send down $KEY_A
eventually 5 seen "$keyboard" $EV_KEY $KEY_A 1 || fail "the key is not down"
kill -KILL "$client"
eventually 15 seen "$keyboard" $EV_KEY $KEY_A 0 || fail "the key stays down without its client"

step "a stop takes the devices away"
exec 7>&-
systemctl stop wavry-host.target
eventually 10 all_gone || fail "devices are left"
! grep -q 'Name="Wavry' /proc/bus/input/devices || fail "devices are left"
wait "$reader" || fail "the reader"
echo "all is well"
