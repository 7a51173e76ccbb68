#!/usr/bin/env bash
# Runs sendpath on another kernel: Debian's cloud kernel, booted under QEMU. See lab/README.md.
set -euo pipefail

readonly META=linux-image-cloud-amd64
# The sink's modules, each after those that it needs. One that is not in the package is built in.
readonly MODULES=(llc stp bridge veth)
readonly SIZES=(4K 64K 1M) LAYOUTS=(heap page)

usage() {
    cat <<END
usage: lab/kernel.sh [--kernel VERSION|PACKAGE] [--binary FILE] [--duration TIME] [--messages N]
                     [--deadline SECONDS] [--kvm] [--install] [-- SENDPATH ARGUMENT...]

Boots a Debian cloud kernel under QEMU, and runs sendpath in it as root and as an ordinary user.
Without arguments for sendpath: doctor, zero_copy over veth, and zero_copy into the sink with
messages of ${SIZES[*]} in the layouts ${LAYOUTS[*]}. Each send must have its completion, and in the
sink none may be copied and no segment sent again.

  --kernel    a version (6.12: the newest of it that apt knows) or a package; default: $META
  --binary    the sendpath to run; default: the release build, which is made
  --duration  of each run; default: 1s
  --messages  repeat each run into the sink until so many messages were sent; default: 1
  --deadline  for the whole guest, in seconds; default: 900
  --kvm       use /dev/kvm; default: emulate, which works everywhere and takes longer
  --install   install what is missing, by apt-get (takes root)

Exit codes: 0 all of it held, 1 something failed, 2 bad arguments.
END
}

fail() {
    echo "lab/kernel.sh: $*" >&2
    exit 1
}

bad_arguments() {
    echo "lab/kernel.sh: $* (see lab/kernel.sh --help)" >&2
    exit 2
}

kernel=$META binary='' duration=1s messages=1 deadline=900 accelerator=tcg install=false arguments=()
while [ $# -gt 0 ]; do
    case $1 in
        --kernel | --binary | --duration | --messages | --deadline)
            [ $# -ge 2 ] || bad_arguments "$1 takes a value"
            printf -v "${1#--}" %s "$2"
            shift 2
            ;;
        --kvm) accelerator=kvm && shift ;;
        --install) install=true && shift ;;
        --help | -h) usage && exit ;;
        --)
            shift
            [ $# -gt 0 ] || bad_arguments 'nothing stands after --'
            arguments=("$@")
            break
            ;;
        *) bad_arguments "unknown argument $1" ;;
    esac
done
[[ $messages =~ ^[1-9][0-9]*$ ]] || bad_arguments "--messages $messages is not a number above 0"
[[ $deadline =~ ^[1-9][0-9]*$ ]] || bad_arguments "--deadline $deadline is not a number above 0"
[[ $duration =~ ^[0-9a-z]+$ ]] || bad_arguments "--duration $duration is not a time with its unit"
if [ -n "$binary" ]; then
    [ -x "$binary" ] || bad_arguments "--binary $binary is no program"
    binary=$(realpath "$binary")
fi
cd "$(dirname "$0")/.."
[ "$(uname -m)" = x86_64 ] || fail 'the guest is an x86-64 machine, and so must this one be'

missing=()
command -v qemu-system-x86_64 >/dev/null || missing+=(qemu-system-x86)
command -v busybox >/dev/null && [[ $(ldd "$(command -v busybox)" 2>&1) = *'not a dynamic executable'* ]] ||
    missing+=(busybox-static)
command -v jq >/dev/null || missing+=(jq)
command -v xz >/dev/null || missing+=(xz-utils)
if [ ${#missing[@]} -gt 0 ]; then
    $install || fail "missing: ${missing[*]}: install them, or run lab/kernel.sh --install as root"
    timeout 300 apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

work=$(mktemp -d)
guest_pid=
clean_up() {
    [ -z "$guest_pid" ] || kill "$guest_pid" 2>/dev/null || true
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# The name of the package that has the kernel itself: a meta package depends on it.
kernel_package() { # VERSION|PACKAGE
    local package=$1 image
    if [[ $package != linux-image-* ]]; then
        package=$(apt-cache search --names-only "^linux-image-${package//./\\.}[.+-].*cloud-amd64\$" |
            awk '{ print $1 }' | sort -V | tail -1)
        [ -n "$package" ] || fail "apt knows no cloud kernel $1: add Debian's sources that have it, or run apt-get update"
    fi
    image=$(apt-cache depends --important "$package" | awk '$1 == "Depends:" && $2 ~ /^linux-image-/ && !found++ { print $2 }') ||
        fail "apt knows no package $package: run apt-get update, or name another"
    echo "${image:-$package}"
}

package=$(kernel_package "$kernel")
target=$(realpath "${CARGO_TARGET_DIR:-target}")
cache=$target/lab/$package
mkdir -p "$cache"
if ! compgen -G "$cache/*.deb" >/dev/null; then
    (cd "$work" && timeout 300 apt-get download -qq -o APT::Sandbox::User=root "$package")
    mv "$work"/*.deb "$cache/"
fi
if [ -z "$binary" ]; then
    cargo build --quiet --release --locked --bin sendpath
    binary=$target/release/sendpath
fi

# What the guest boots from: busybox, sendpath with its libraries, and the modules.
mkdir "$work/package" "$work/root"
dpkg-deb --fsys-tarfile "$cache"/*.deb | tar -x -C "$work/package"
mkdir -p "$work/root"/{bin,dev,etc,modules,proc,sys,tmp}
chmod 1777 "$work/root/tmp"
cp "$(command -v busybox)" "$work/root/bin/busybox"
cp "$binary" "$work/root/bin/sendpath"
while read -r library; do
    cp --parents --dereference "$library" "$work/root"
done < <(ldd "$binary" | grep -oE '/[^ ]+')
for module in "${MODULES[@]}"; do
    file=$(find "$work/package" -name "$module.ko*" -print -quit)
    [ -z "$file" ] || cp "$file" "$work/root/modules/"
done
find "$work/root/modules" -name '*.xz' -exec xz --decompress {} +
printf '%s\n' root:x:0:0::/tmp:/bin/sh user:x:65534:65534::/tmp:/bin/sh >"$work/root/etc/passwd"
printf '%s\n' root:x:0: user:x:65534: >"$work/root/etc/group"

# What the guest runs, first as root and then as the user: lines `run NAME ARGUMENT...`, or `sink ...`, which repeats.
if [ ${#arguments[@]} -gt 0 ]; then
    printf 'run command'
    printf ' %s' "${arguments[@]@Q}"
    echo
else
    echo "run doctor doctor"
    echo "run veth run --path zero_copy --size 64K --duration $duration --json"
    for size in "${SIZES[@]}"; do
        for layout in "${LAYOUTS[@]}"; do
            echo "sink $size-$layout run --receiver sink --path zero_copy --size $size --layout $layout --duration $duration --json"
        done
    done
fi >"$work/root/commands"

# The guest's results go to its second serial port, where the kernel prints nothing.
cat >"$work/root/init" <<END
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/tmp
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in ${MODULES[*]}; do
    [ ! -e /modules/\$module.ko ] || insmod /modules/\$module.ko
done
ip link set lo up
[ ! -e /proc/sys/kernel/unprivileged_userns_clone ] || echo 1 >/proc/sys/kernel/unprivileged_userns_clone
stty -F /dev/ttyS1 raw
exec >/dev/ttyS1
echo "== kernel \$(uname -r)"
su root -c '/bin/sh /guest root'
su user -c '/bin/sh /guest user'
echo "== end"
sleep 1
poweroff -f
END
cat >"$work/root/guest" <<END
run() { # NAME ARGUMENT...
    local name=\$1 code=0
    shift
    sendpath "\$@" >/tmp/\$who || code=\$?
    echo "== begin \$who \$name"
    cat /tmp/\$who
    echo "== done \$who \$name \$code"
    return \$code
}
sink() {
    local sum=0
    while [ \$sum -lt $messages ]; do
        run "\$@" || return
        sum=\$((sum + \$(sed -n 's/^ *"messages": \([0-9]*\),\$/\1/p' /tmp/\$who | head -n 1)))
    done
}
who=\$1
. /commands
END
chmod +x "$work/root/init"
(cd "$work/root" && find . | busybox cpio -o -H newc 2>/dev/null | gzip -1) >"$work/initramfs"

began=$SECONDS
# Should this script be killed outright, so is the guest.
setpriv --pdeathsig TERM timeout --kill-after=5 "$deadline" qemu-system-x86_64 \
    -accel "$accelerator" -cpu max -smp 2 -m 1G -nodefaults -no-user-config -display none -no-reboot \
    -kernel "$(find "$work/package" -name 'vmlinuz-*' -print -quit)" -initrd "$work/initramfs" \
    -append 'console=ttyS0 quiet panic=-1' \
    -serial "file:$work/console" -serial "file:$work/results" >"$work/qemu" 2>&1 </dev/null &
guest_pid=$!
code=0
wait "$guest_pid" || code=$?
guest_pid=
tr -d '\r' <"$work/console" >"$work/console.text"
if [ "$code" != 0 ] || ! grep -qx '== end' "$work/results"; then
    cat "$work/qemu" "$work/console.text" "$work/results" >&2
    [ "$code" != 124 ] || fail "the guest was not done after $deadline s"
    fail "the guest ended before its commands did (QEMU's exit code: $code)"
fi

problems=0
problem() {
    echo "lab/kernel.sh: $*" >&2
    problems=$((problems + 1))
}
while read -r _ _ user name exit_code; do
    [ "$exit_code" = 0 ] || problem "$name as $user ended with exit code $exit_code"
done < <(grep '^== done ' "$work/results")

echo "Linux $(sed -n 's/^== kernel //p' "$work/results"), QEMU's $accelerator, $((SECONDS - began)) s"
if [ ${#arguments[@]} -gt 0 ]; then
    grep -v '^== [ke]' "$work/results"
else
    # The output of all runs of this name by this user.
    outputs() { sed -n "/^== begin $1 $2\$/,/^== done $1 $2 /{/^==/!p}" "$work/results"; } # USER NAME

    outputs root doctor
    printf '\n%-5s %-10s %9s %9s %11s %9s %13s\n' user case messages sends completions copied retransmitted
    for name in veth "${SIZES[@]/%/-heap}" "${SIZES[@]/%/-page}"; do
        for user in root user; do
            row=$(outputs "$user" "$name" | jq -rs '
                def sum(field): map(field) | add // 0;
                [sum(.messages), sum(.zero_copy.sends), sum(.zero_copy.completions), sum(.zero_copy.copied), sum(.retransmitted_segments)]
                | @tsv')
            read -r sent sends completions copied retransmitted <<<"$row"
            printf '%-5s %-10s %9d %9d %11d %9d %13d\n' "$user" "$name" "$sent" "$sends" "$completions" "$copied" "$retransmitted"
            [[ $sends -gt 0 && $completions = "$sends" ]] || problem "$name as $user has $completions completions of $sends sends"
            [ "$name" != veth ] || continue
            [ "$sent" -ge "$messages" ] || problem "$name as $user sent $sent messages of $messages"
            [ "$copied" = 0 ] || problem "$name as $user was copied $copied times"
            [ "$retransmitted" = 0 ] || problem "$name as $user sent $retransmitted segments again"
        done
    done
fi
if [ "$problems" -gt 0 ]; then
    cat "$work/console.text" >&2
    exit 1
fi
