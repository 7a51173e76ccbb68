# shellcheck shell=bash
# What the scripts of this folder share: a Debian cloud kernel, what it boots from, and QEMU around it.
# To be sourced with `set -euo pipefail`.

readonly META=linux-image-cloud-amd64
# Each module after those that it needs. One that is not in the package is built in, or not of this version.
readonly MODULES=(
    llc stp bridge veth tun
    virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci failover net_failover virtio_net
)
# The releases that Debian's servers offer, from the oldest one to what is being made. To be changed as they come and go.
readonly SUITES=(bullseye bookworm trixie trixie-backports sid)
readonly KEYS=/usr/share/keyrings/debian-archive-keyring.gpg

script=lab/$(basename "$0")
lab=$(realpath "$(dirname "${BASH_SOURCE[0]}")")

fail() {
    echo "$script: $*" >&2
    exit 1
}

bad_arguments() {
    echo "$script: $* (see $script --help)" >&2
    exit 2
}

problems=0
problem() {
    echo "$script: $*" >&2
    problems=$((problems + 1))
}

# The options that all scripts have, in words and as variables.
usage_of_common_options() {
    cat <<END
  --kernel    a version (6.12: the newest of it that apt or Debian's servers have), a package, or the
              oldest or newest that Debian's servers have; default: $META
  --binary    the sendpath to run; default: the release build, which is made
  --deadline  for the whole guest, in seconds; default: 900
  --kvm       use /dev/kvm; default: emulate, which works everywhere and takes longer
  --install   install what is missing, by apt-get update and install (takes root)

Exit codes: 0 all of it held, 1 something failed, 2 bad arguments.
END
}

kernel=$META binary='' deadline=900 accelerator=tcg install=false

# Reads the options: those above, those named, which take a value each, and what stands after -- to `arguments`.
read_options() { # "NAME..." ARGUMENT...
    # shellcheck disable=SC2034 # the script that sources this reads it
    arguments=()
    local valued=" kernel binary deadline $1 "
    shift
    while [ $# -gt 0 ]; do
        case $1 in
            --kvm) accelerator=kvm && shift ;;
            --install) install=true && shift ;;
            --help | -h) usage && exit ;;
            --)
                shift
                [ $# -gt 0 ] || bad_arguments 'nothing stands after --'
                # shellcheck disable=SC2034
                arguments=("$@")
                break
                ;;
            --*)
                [[ $valued = *" ${1#--} "* ]] || bad_arguments "unknown argument $1"
                [ $# -ge 2 ] || bad_arguments "$1 takes a value"
                printf -v "${1#--}" %s "$2"
                shift 2
                ;;
            *) bad_arguments "unknown argument $1" ;;
        esac
    done
    take_number deadline
    if [ -n "$binary" ]; then
        [ -x "$binary" ] || bad_arguments "--binary $binary is no program"
        binary=$(realpath "$binary")
    fi
}

take_number() { # NAME
    [[ ${!1} =~ ^[1-9][0-9]*$ ]] || bad_arguments "--$1 ${!1} is not a number above 0"
}

take_duration() { # NAME
    [[ ${!1} =~ ^[0-9a-z]+$ ]] || bad_arguments "--$1 ${!1} is not a time with its unit"
}

# Installs the packages whose programs are missing, or says which they are.
need() { # PROGRAM=PACKAGE...
    local missing=() pair
    for pair in qemu-system-x86_64=qemu-system-x86 xz=xz-utils "$@"; do
        command -v "${pair%=*}" >/dev/null || missing+=("${pair#*=}")
    done
    command -v busybox >/dev/null && [[ $(ldd "$(command -v busybox)" 2>&1) = *'not a dynamic executable'* ]] ||
        missing+=(busybox-static)
    [ ${#missing[@]} -gt 0 ] || return 0
    $install || fail "missing: ${missing[*]}: install them, or run $script --install as root"
    timeout 300 apt-get update -qq
    timeout 300 apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# Makes the folder of this run; it and the guest go when the script ends.
begin() {
    [ "$(uname -m)" = x86_64 ] || fail 'the guest is an x86-64 machine, and so must this one be'
    work=$(mktemp -d)
    guest_pid=
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    cd "$lab/.." || fail "there is no folder above $lab"
    target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
    root=$work/root
    mkdir -p "$root"/{bin,dev,etc,modules,proc,sys,tmp}
    chmod 1777 "$root/tmp"
}

clean_up() {
    if [ -n "$guest_pid" ]; then
        kill "$guest_pid" 2>/dev/null || true
        wait "$guest_pid" || true
    fi
    rm -rf "$work"
}

# From here on, apt knows what Debian's servers offer and nothing else. What is installed here stays as it is.
look_in_all_of_debian() {
    local state=$target/lab/apt suite
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
    for suite in "${SUITES[@]}"; do
        echo "deb [signed-by=$KEYS] http://deb.debian.org/debian $suite main"
    done >"$state/sources.list"
    cat >"$state/apt.conf" <<END
Dir::State::lists "$state/lists";
Dir::Cache "$state/cache";
Dir::Etc::sourcelist "$state/sources.list";
Dir::Etc::sourceparts "-";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
APT::Sandbox::User "root";
END
    export APT_CONFIG=$state/apt.conf
    timeout 300 apt-get update -qq || fail "apt cannot read what $state/sources.list names"
}

# The cloud kernels of this version that apt knows, the oldest first.
cloud_kernels() { # VERSION AS A PATTERN
    apt-cache search --names-only "^linux-image-$1[.+-].*cloud-amd64\$" | awk '{ print $1 }' | sort -V
}

# Sets `package` to the name of the kernel's package, and `packages` to all that its files come in.
choose_kernel() {
    local found
    case $kernel in
        linux-image-*) found=$kernel ;;
        oldest | newest)
            look_in_all_of_debian
            found=$(cloud_kernels '[0-9]+')
            if [ "$kernel" = oldest ]; then found=$(head -1 <<<"$found"); else found=$(tail -1 <<<"$found"); fi
            ;;
        *)
            found=$(cloud_kernels "${kernel//./\\.}" | tail -1)
            if [ -z "$found" ]; then
                look_in_all_of_debian
                found=$(cloud_kernels "${kernel//./\\.}" | tail -1)
            fi
            ;;
    esac
    [ -n "$found" ] || fail "neither apt nor Debian's servers have a cloud kernel $kernel"
    # A meta package depends on the kernel's; and newer kernels come in several packages.
    mapfile -t packages < <(apt-cache depends --recurse --important "$found" |
        grep -E '^linux-(image|binary|modules)-[0-9]' | sort -uV)
    package=$(printf '%s\n' "${packages[@]}" | grep '^linux-image-' | tail -1) ||
        fail "apt knows no package $found: run apt-get update, or name another"
}

# Unpacks the kernel to $work/package; it is downloaded once.
fetch_kernel() {
    choose_kernel
    local cache=$target/lab/$package file
    if [ ! -d "$cache" ]; then
        mkdir "$work/download"
        (cd "$work/download" && timeout 300 apt-get download -qq -o APT::Sandbox::User=root "${packages[@]}")
        mkdir -p "$target/lab"
        mv "$work/download" "$cache"
    fi
    mkdir "$work/package"
    for file in "$cache"/*.deb; do
        dpkg-deb --fsys-tarfile "$file" | tar -x -C "$work/package"
    done
}

# Puts a program into the guest, with the libraries that it is linked to.
put_program() { # FILE NAME
    local library
    cp --dereference "$1" "$root/bin/$2"
    while read -r library; do
        cp --parents --dereference "$library" "$root"
    done < <(ldd "$1" 2>/dev/null | grep -oE '/[^ ]+')
}

# Puts in what every guest has.
put_basics() {
    local module file
    put_program "$(command -v busybox)" busybox
    put_program "$binary" sendpath
    for module in "${MODULES[@]}"; do
        file=$(find "$work/package" -name "$module.ko*" -print -quit)
        [ -n "$file" ] || continue
        cp "$file" "$root/modules/"
        echo "$module" >>"$root/modules/order"
    done
    find "$root/modules" -name '*.xz' -exec xz --decompress {} +
    printf '%s\n' root:x:0:0::/tmp:/bin/sh user:x:65534:65534::/tmp:/bin/sh >"$root/etc/passwd"
    printf '%s\n' root:x:0: user:x:65534: >"$root/etc/group"
    cp "$lab/guest-init.sh" "$root/init"
    cp "$lab/guest-run.sh" "$root/run.sh"
    chmod +x "$root/init"
}

# Boots the guest, which runs its /main, and waits for its end. Its results are in $work/results.
boot() { # QEMU ARGUMENT...
    local code=0 began=$SECONDS
    (cd "$root" && find . | busybox cpio -o -H newc 2>/dev/null | gzip -1) >"$work/initramfs"
    # Should this script be killed outright, so is the guest.
    setpriv --pdeathsig TERM timeout --kill-after=5 "$deadline" "${around[@]}" qemu-system-x86_64 \
        -accel "$accelerator" -cpu max -smp 2 -m 2G -nodefaults -no-user-config -display none -no-reboot \
        -kernel "$(find "$work/package" -name 'vmlinuz*' -print -quit)" -initrd "$work/initramfs" \
        -append 'console=ttyS0 quiet panic=-1' \
        -serial "file:$work/console" -serial "file:$work/results" "$@" >"$work/qemu" 2>&1 </dev/null &
    guest_pid=$!
    wait "$guest_pid" || code=$?
    guest_pid=
    tr -d '\r' <"$work/console" >"$work/console.text" || true
    if [ "$code" != 0 ] || ! grep -qx '== end' "$work/results"; then
        cat "$work/qemu" "$work/console.text" "$work/results" >&2 || true
        [ "$code" != 124 ] || fail "the guest was not done after $deadline s"
        fail "the guest ended before its commands did (QEMU's exit code: $code)"
    fi
    while read -r _ _ user name exit_code; do
        [ "$exit_code" = 0 ] || problem "$name as $user ended with exit code $exit_code"
    done < <(grep '^== done ' "$work/results")
    echo "Linux $(sed -n 's/^== kernel //p' "$work/results"), QEMU's $accelerator, $((SECONDS - began)) s"
}
around=() # what QEMU runs within

# What all runs of this name by this user printed.
outputs() { # USER NAME
    sed -n "/^== begin $1 $2\$/,/^== done $1 $2 /{/^==/!p}" "$work/results"
}

# Ends the script by what was found.
finish() {
    [ "$problems" -gt 0 ] || exit 0
    cat "$work/console.text" >&2
    exit 1
}
