#!/bin/bash
# vm.sh: a virtual machine with Debian's own kernel, which has what a container can't be given: /dev/uinput. Needs root.
#   vm.sh kernel OUT                  fetch kernel and busybox (apt-get download) and make OUT/{vmlinuz,initrd.gz,tree}
#   vm.sh run OUT TREE ADDED SHARE    boot TREE with ADDED and the modules laid over it, nothing of which is written to;
#                                     SHARE is /mnt/share inside. SHARE/run.sh is run there as root: out.txt, rc.
set -eu

# What the tree needs at run time, with all that it depends on, and before there is a root folder.
MODULES="uinput evdev overlay"
EARLY="virtio_pci 9pnet_virtio 9p overlay"

kernel() {
    local out=$1 package version work
    package=$(apt-cache depends linux-image-amd64 | awk '$1 == "Depends:" {print $2; exit}')
    [ -n "$package" ] || { echo "apt does not know Debian's kernel (linux-image-amd64)"; return 1; }
    if [ "$(cat "$out/made" 2>/dev/null)" = "$package" ]; then return; fi
    rm -rf "$out"
    mkdir -p "$out/tree/usr/lib"
    work=$(mktemp -d)
    chmod 755 "$work"
    (cd "$work" && apt-get -qq download "$package" busybox-static) >"$out/log" 2>&1 ||
        { tail -n 3 "$out/log"; rm -rf "$work"; return 1; }
    for deb in "$work"/*.deb; do dpkg-deb --fsys-tarfile "$deb" | tar -C "$work" -x; done
    version=$(basename "$work"/lib/modules/*)
    depmod -b "$work" "$version"
    initrd "$work" "$version" "$out"
    cp "$work/boot/vmlinuz-$version" "$out/vmlinuz"
    copy_modules "$work" "$version" "$out/tree/usr"
    rm -rf "$work"
    echo "$package" >"$out/made"
}

# files ROOT VERSION MODULE...: the files of these and of what they need, in the order of loading.
files() {
    local root=$1 version=$2 module
    shift 2
    for module in "$@"; do
        modprobe -d "$root" -S "$version" --show-depends "$module" | awk '$1 == "insmod" {print $2}'
    done | awk '!seen[$0]++'
}

copy_modules() {
    local root=$1 version=$2 to=$3/lib/modules/$2
    mkdir -p "$to"
    # shellcheck disable=SC2086
    files "$root" "$version" $MODULES | while read -r file; do
        install -D -m 0644 "$file" "$to/${file#*/lib/modules/"$version"/}"
    done
    cp "$root/lib/modules/$version"/modules.{builtin,builtin.modinfo,order} "$to/"
    depmod -b "$3" "$version"
}

initrd() {
    local root=$1 version=$2 out=$3 stage
    stage=$root/initrd
    mkdir -p "$stage"/{bin,m,proc,sys,dev,tree,added,kernel,over,new}
    cp "$root/bin/busybox" "$stage/bin/busybox"
    # shellcheck disable=SC2086
    files "$root" "$version" $EARLY | while read -r file; do
        cp "$file" "$stage/m/"
        echo "/bin/busybox insmod /m/$(basename "$file")"
    done >"$stage/load"
    cat >"$stage/init" <<'INIT'
#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc p /proc; $b mount -t sysfs s /sys; $b mount -t devtmpfs d /dev
. /load
o=trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro
$b mount -t 9p -o $o tree /tree && $b mount -t 9p -o $o added /added && $b mount -t 9p -o $o kernel /kernel || exec $b sh
$b mount -t tmpfs o /over; $b mkdir /over/up /over/work
$b mount -t overlay -o lowerdir=/added:/kernel:/tree,upperdir=/over/up,workdir=/over/work o /new || exec $b sh
$b mount --move /dev /new/dev; $b umount /proc /sys
exec $b switch_root /new /sbin/init
INIT
    chmod +x "$stage/init"
    (cd "$stage" && find . | bin/busybox cpio -o -H newc 2>/dev/null | gzip -1) >"$out/initrd.gz"
}

folder() { printf '%s\n' -virtfs "local,path=$1,mount_tag=$2,security_model=none,multidevs=remap${3:-}"; }

run() {
    local out=$1 tree=$2 added=$3 share=$4 arguments
    install -D -m 0644 "$(dirname "$(readlink -f "$0")")/run.service" "$added/etc/systemd/system/vm-run.service"
    mkdir -p "$added/etc/systemd/system/multi-user.target.wants"
    ln -sf ../vm-run.service "$added/etc/systemd/system/multi-user.target.wants/vm-run.service"
    rm -f "$share/rc" "$share/out.txt"
    mapfile -t arguments < <(folder "$tree" tree ,readonly=on; folder "$added" added ,readonly=on
        folder "$out/tree" kernel ,readonly=on; folder "$share" share)
    # Not by KVM: where this runs inside a machine that is virtual itself, guests may hang in it without a word.
    timeout "${VM_SECONDS:-240}" qemu-system-x86_64 -M q35 -accel tcg,thread=multi -cpu max -smp 2 -m 1024 \
        -nographic -no-reboot -nodefaults -serial "file:$share/console.txt" -kernel "$out/vmlinuz" -initrd "$out/initrd.gz" \
        -append "console=ttyS0 panic=-1 quiet mitigations=off systemd.show_status=false" "${arguments[@]}" \
        </dev/null >"$share/qemu.txt" 2>&1 || true
    [ -f "$share/rc" ] || { echo "the machine gave no answer"; cat "$share/qemu.txt"; tail -n 5 "$share/console.txt"; return 1; }
}

case $1 in
kernel | run) "$@" ;;
*) exit 64 ;;
esac
