#!/usr/bin/env bash
# Builds sendpath as one static file, and runs it where there is nothing but that file and /proc. See lab/README.md.
set -euo pipefail

readonly MOST_BYTES=$((10 * 1000 * 1000))

usage() {
    cat <<END
usage: lab/static.sh [--binary FILE] [TARGET]

Builds the profile dist for TARGET (default: this machine's), linked statically, and prints the file.
It must have no interpreter and no library, and be smaller than 10 MB. As root it then runs in an
empty root with /proc: doctor, a run over veth and one into the sink, a sweep of a second, its
report, compare and history; as uid 65534 a run over loopback; and without /proc, which must fail
with a clear error.

  --binary  a file that was built before

Exit codes: 0 all of it held, 1 something failed, 2 bad arguments.
END
}

fail() {
    echo "lab/static.sh: $*" >&2
    exit 1
}

binary='' target=''
while [ $# -gt 0 ]; do
    case $1 in
        --binary)
            [ $# -ge 2 ] || { echo 'lab/static.sh: --binary takes a file' >&2 && exit 2; }
            binary=$(realpath -- "$2") && shift 2
            ;;
        --help | -h) usage && exit ;;
        -*) echo "lab/static.sh: unknown argument $1 (see lab/static.sh --help)" >&2 && exit 2 ;;
        *) target=$1 && shift ;;
    esac
done
cd "$(dirname "$0")/.."

if [ -z "$binary" ]; then
    target=${target:-$(rustc -vV | sed -n 's/^host: //p')}
    # With --target the flags are those of the program alone: build scripts and macros are linked as ever.
    RUSTFLAGS='-C target-feature=+crt-static' \
        cargo build --profile dist --locked --bin sendpath --target "$target"
    binary=$PWD/target/$target/dist/sendpath
fi
echo "$binary"

headers=$(readelf --program-headers --dynamic --wide "$binary")
! grep -E 'INTERP|\(NEEDED\)' <<<"$headers" || fail "$binary is not static"
bytes=$(stat --format %s "$binary")
[ "$bytes" -lt $MOST_BYTES ] || fail "$binary has $bytes bytes, and may have fewer than $MOST_BYTES"
echo "static, $bytes bytes"

if [ "$(id -u)" != 0 ]; then
    echo 'skipped: the empty root, which takes chroot(2) and so root'
    exit
fi
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
cp "$binary" "$root/sendpath"
mkdir "$root/proc"
chmod 755 "$root"

# Everything runs in a mount namespace of its own, so that /proc is gone with it, whatever happens.
# shellcheck disable=SC2016 # the inner shell expands these
unshare --mount --propagation private bash -euo pipefail -c '
    root=$1
    fail() { echo "lab/static.sh: $*" >&2 && exit 1; }
    # Each command has a minute, and an environment that is as empty as the root.
    inside() { env -i PATH="$PATH" timeout 60 chroot "$root" /sendpath "$@"; }
    must() {
        local wanted=$1 text
        shift
        text=$(inside "$@" 2>&1) || fail "sendpath $*: exit code $?: $text"
        grep -q -- "$wanted" <<<"$text" || fail "sendpath $* does not say \"$wanted\": $text"
        echo "held: sendpath $*"
    }

    code=0
    text=$(inside run --duration 10ms 2>&1) || code=$?
    [ $code != 0 ] && grep -q "/proc" <<<"$text" || fail "without /proc: exit code $code: $text"
    echo "held: without /proc: $(tail -1 <<<"$text")"

    mount -t proc proc "$root/proc"
    must "kernel" doctor
    for path in two_copy one_copy zero_copy; do
        must "throughput" run --path "$path" --size 64K --duration 50ms
    done
    must "copied about 0 %" run --path zero_copy --layout page --size 64K --duration 50ms --receiver sink
    must "page: /sweep/report.html" sweep --size 64,64K --threads 1 --time 1s --out /sweep
    must "report.html" report /sweep
    [ -s "$root/sweep/report.html" ] && grep -q "<svg" "$root/sweep/report.html" || fail "the page has no figure"
    must "Not interleaved" compare /sweep /sweep
    must "history.html" history /sweep --out /history.html
    text=$(env -i PATH="$PATH" timeout 60 chroot --userspec 65534:65534 "$root" /sendpath run --netns loopback --duration 50ms 2>&1) ||
        fail "as uid 65534: $text"
    echo "held: as uid 65534, over loopback"
' bash "$root"
