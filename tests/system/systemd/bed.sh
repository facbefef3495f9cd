#!/bin/bash
# shellcheck disable=SC2016 # apt expands these
# bed.sh: a Debian tree with systemd in it, booted in a container, for tests of the units. Needs root.
#   bed.sh tree OUT.tar PACKAGE...    make the tree (from the mirror that apt uses here), unless OUT.tar has these packages
#   bed.sh up TREE-FOLDER             boot it on a throw-away overlay; STATE holds what belongs to it
#   bed.sh in COMMAND...              run a command inside, as root
#   bed.sh down                       power off and clean up
# The container gets its own control groups and a veth pair (host 10.77.N.1, inside 10.77.N.2; N in $STATE/net).
set -eu
STATE=${STATE:?a folder for this container}
GUEST_CALLS="bpf landlock_create_ruleset landlock_add_rule landlock_restrict_self"

tree() {
    local out=$1 mirror work
    shift
    if [ -f "$out" ] && [ "$(cat "$out.packages" 2>/dev/null)" = "$*" ]; then return; fi
    mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' | awk '$2 == "bookworm" {print $1; exit}')
    [ -n "$mirror" ] || { echo "apt has no source for Debian 12 here"; return 1; }
    work=$(mktemp -d)
    chmod 755 "$work"
    mkdir -p "$out.debs"
    if ! debootstrap --variant=minbase --cache-dir="$(realpath "$out.debs")" --include=systemd-sysv,dbus,udev bookworm "$work" \
        "$mirror" >"$out.log" 2>&1; then
        tail -n 3 "$out.log"
        rm -rf "$work"
        return 1
    fi
    apt-get indextargets --format '$(REPO_URI) $(CODENAME)' | sort -u |
        awk '$2 ~ /^bookworm/ {print "deb " $1 " " $2 " main"}' >"$work/etc/apt/sources.list"
    if ! { chroot "$work" apt-get -qq update && chroot "$work" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "$@"; } >>"$out.log" 2>&1; then
        tail -n 3 "$out.log"
        rm -rf "$work"
        return 1
    fi
    chroot "$work" apt-get clean
    : >"$work/etc/machine-id"
    tar -C "$work" -cf "$out.new" .
    rm -rf "$work"
    mv "$out.new" "$out"
    echo "$*" >"$out.packages"
}

# The guest sees only cgroup2: then device and address rules, which are BPF, are enforced. A plain nspawn accepts them
# and enforces nothing.
enter_cgroup() {
    local base group=wavry-bed.$1 c key
    if [ -d /sys/fs/cgroup/unified ]; then
        for c in unified systemd; do
            key=
            [ $c = systemd ] && key=name=systemd
            base=/sys/fs/cgroup/$c$(awk -F: -v c="$key" '$2 == c {print $3}' /proc/self/cgroup)
            mkdir -p "${base%/}/$group"
            echo "$BASHPID" >"${base%/}/$group/cgroup.procs"
            echo "${base%/}/$group" >>"$STATE/cgroups"
        done
    elif [ ! -d /run/systemd/system ]; then
        base=/sys/fs/cgroup$(awk -F: '$1 == 0 {print $3}' /proc/self/cgroup)
        mkdir -p "${base%/}/$group"
        echo "$BASHPID" >"${base%/}/$group/cgroup.procs"
        echo "${base%/}/$group" >>"$STATE/cgroups"
    fi
}

up() {
    local root=$1 scope=() wrapper leader="" nspawn state=""
    mkdir -p "$STATE/over"
    mount -t tmpfs -o size=2G wavry-bed "$STATE/over"
    mkdir "$STATE/over/up" "$STATE/over/work" "$STATE/over/root"
    mount -t overlay -o "lowerdir=$root,upperdir=$STATE/over/up,workdir=$STATE/over/work" wavry-bed "$STATE/over/root"
    [ -d /run/systemd/system ] && scope=(systemd-run --quiet --scope -p Delegate=yes)
    (
        enter_cgroup $$
        export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
        exec setsid -f -w "${scope[@]}" systemd-nspawn --register=no --keep-unit -q -D "$STATE/over/root" \
            --machine="wavry-bed-$$" --private-network --capability=all --system-call-filter="$GUEST_CALLS" -b
    ) >"$STATE/console" 2>&1 </dev/null &
    wrapper=$!
    echo "$wrapper" >"$STATE/nspawn"
    for _ in $(seq 600); do
        nspawn=$(pgrep -P "$wrapper" | head -1) || true
        leader=$(pgrep -P "${nspawn:-0}" | head -1) || true
        if [ -n "$leader" ]; then state=$(nsenter -t "$leader" -a -- systemctl is-system-running 2>/dev/null) || true; fi
        case $state in running | degraded) break ;; esac
        kill -0 "$wrapper" 2>/dev/null || { cat "$STATE/console"; return 1; }
        sleep 0.05
    done
    echo "$leader" >"$STATE/leader"
    case $state in running | degraded) ;; *) echo "the container did not come up: $state"; return 1 ;; esac
    wire "$leader" $(($$ % 250))
}

wire() {
    local leader=$1 n=$2
    ip link add "wvb$n" type veth peer name host0 netns "$leader"
    ip addr add "10.77.$n.1/24" dev "wvb$n"
    ip link set "wvb$n" up
    nsenter -t "$leader" -n -- ip addr add "10.77.$n.2/24" dev host0
    nsenter -t "$leader" -n -- ip link set host0 up
    nsenter -t "$leader" -n -- ip link set lo up
    echo "$n" >"$STATE/net"
}

enter() {
    exec nsenter -t "$(cat "$STATE/leader")" -a -- "$@"
}

down() {
    local n leader folder
    n=$(cat "$STATE/nspawn" 2>/dev/null || true)
    leader=$(cat "$STATE/leader" 2>/dev/null || true)
    if [ -n "$leader" ]; then nsenter -t "$leader" -a -- systemctl poweroff 2>/dev/null || true; fi
    for _ in $(seq 60); do
        kill -0 "$n" 2>/dev/null || break
        sleep 0.1
    done
    if kill -0 "$n" 2>/dev/null; then
        [ -z "$leader" ] || kill -KILL "$leader" 2>/dev/null || true
        sleep 0.5
        kill -TERM "$n" 2>/dev/null || true
    fi
    umount -l "$STATE/over/root" 2>/dev/null || true
    umount -l "$STATE/over" 2>/dev/null || true
    while read -r folder; do
        find "$folder" -depth -type d -exec rmdir {} \; 2>/dev/null || true
    done <"$STATE/cgroups" 2>/dev/null || true
}

case $1 in
tree | up | down) "$@" ;;
in) shift && enter "$@" ;;
*) exit 64 ;;
esac
