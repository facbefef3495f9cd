#!/bin/bash
# rootfs.sh OUT.tar PACKAGE...: a Debian 12 tree with systemd and the named packages, as a tar, from the mirror that
# apt uses here. Made once: when OUT.tar is there for the same packages, nothing is done. Root only.
set -euo pipefail
out=$(realpath -m "$1")
shift
wanted="bookworm $*"
[ ! -f "$out" ] || [ "$(cat "$out.packages" 2>/dev/null)" != "$wanted" ] || exit 0
rm -f "$out" "$out.packages"
mkdir -p "$(dirname "$out")"
# shellcheck disable=SC2016 # apt expands them
mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' | awk '$2 == "bookworm" { print $1; exit }')
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
debootstrap --variant=minbase --include=systemd-sysv,dbus,udev,kmod,procps bookworm "$work" "$mirror" >"$out.log" 2>&1
# shellcheck disable=SC2016
apt-get indextargets --format '$(REPO_URI) $(CODENAME)' | sort -u |
    awk '$2 ~ /^bookworm/ { print "deb " $1 " " $2 " main" }' >"$work/etc/apt/sources.list"
{
    chroot "$work" apt-get -qq update
    [ $# = 0 ] || chroot "$work" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"
    chroot "$work" apt-get clean
} >>"$out.log" 2>&1
rm -rf "$work"/var/lib/apt/lists/*
: >"$work/etc/machine-id"
tar -C "$work" -cf "$out.new" .
mv "$out.new" "$out"
printf '%s' "$wanted" >"$out.packages"
