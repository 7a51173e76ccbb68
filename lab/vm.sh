#!/usr/bin/env bash
# The sender in a virtual machine, behind a real driver; the receiver on this machine. See lab/README.md.
set -euo pipefail

# shellcheck source=lab/common.sh
. "$(dirname "$0")/common.sh"

readonly BUILD_TARGET=x86_64-unknown-linux-gnu
readonly HOST=10.200.3.1 GUEST=10.200.3.2 PORT=7000
readonly PATHS=(two_copy one_copy zero_copy hybrid hybrid_zero splice file)
# Zero-copy in other ways than request and response by a system call, with what each asks for. io_uring's have to be
# looked for first: it says whether it copied since Linux 6.2.
readonly STREAMS=('stream_4K --workload stream --size 4K' 'stream_64K --workload stream --size 64K')
readonly RINGS=(
    'uring_64K --engine uring --size 64K' 'uring_stream_4K --engine uring --workload stream --size 4K'
    'uring_stream_64K --engine uring --workload stream --size 64K'
)
# Of the comparison, in which one_copy and zero_copy take turns.
readonly TURNS=5

usage() {
    cat <<END
usage: lab/vm.sh [--kernel VERSION|PACKAGE|oldest|newest] [--binary FILE] [--messages N] [--tests NAME,NAME...]
                 [--deadline SECONDS] [--kvm] [--install] [-- SENDPATH ARGUMENT...]

Boots a Debian cloud kernel under QEMU with a virtio network card. Its other end is a tap in a network
namespace of this machine. The guest sends, and a client in that namespace receives (--peer). As root.
Without arguments for sendpath: every path, verified; zero_copy, of which none may be copied, by request and
response and as a stream; the same by io_uring, whose word is an upper bound; one_copy and zero_copy in turns, of
which zero_copy has to be the faster one; and zero_copy without the card's offloads, which has to be copied, with
the cause named.

  --messages  so many messages of zero_copy may not be copied; default: 20000
  --tests     also run these tests of sendpath in the guest, as paths,sink,overwrite
END
    usage_of_common_options
}

messages=20000 tests=''
read_options 'messages tests' "$@"
take_number messages
[[ $tests =~ ^([a-z_]+(,[a-z_]+)*)?$ ]] || bad_arguments "--tests $tests is no list of names"

[ "$(id -u)" = 0 ] || fail 'a tap in a namespace is made by root: run this as root'
[ -c /dev/net/tun ] || fail '/dev/net/tun is missing: modprobe tun, or give it to this container'
need jq=jq ip=iproute2 ethtool=ethtool
begin
fetch_kernel

# Builds for a machine without any library.
build() { # CARGO ARGUMENT...
    RUSTFLAGS='-C target-feature=+crt-static' cargo "$@" --quiet --release --locked --target "$BUILD_TARGET"
}

if [ -z "$binary" ]; then
    build build --bin sendpath
    binary=$target/$BUILD_TARGET/release/sendpath
fi
put_basics
put_program "$(command -v ethtool)" ethtool
IFS=, read -ra names <<<"$tests"
if [ ${#names[@]} -gt 0 ]; then
    build test --no-run --message-format json "${names[@]/#/--test=}" |
        jq -r 'select(.reason == "compiler-artifact" and .target.kind == ["test"]) | .target.name + " " + .executable' >"$work/tests"
    while read -r name executable; do
        put_program "$executable" "test_$name"
    done <"$work/tests"
    # The tests know the command by the path at which it was built.
    mkdir -p "$root$target/$BUILD_TARGET/release"
    ln -s /bin/sendpath "$root$target/$BUILD_TARGET/release/sendpath"
fi

# What the guest runs.
{
    cat <<END
. /run.sh
ip link set eth0 up
ip address add $GUEST/24 dev eth0
export SENDPATH_PEER='nc $HOST $PORT'
END
    if [ ${#arguments[@]} -gt 0 ]; then
        printf 'run command sendpath'
        printf ' %s' "${arguments[@]@Q}"
        echo
    else
        for path in "${PATHS[@]}"; do
            echo "run $path sendpath run --path $path --size 64K --duration 100ms --json"
        done
        echo "run_until $messages offloads sendpath run --path zero_copy --size 64K --duration 2s --json"
        for case in "${STREAMS[@]}"; do
            echo "run ${case%% *} sendpath run --path zero_copy ${case#* } --duration 500ms --json"
        done
        echo 'if sendpath run --path zero_copy --engine uring --size 64 --duration 1ms >/dev/null 2>/tmp/refused; then'
        for case in "${RINGS[@]}"; do
            for ((turn = 0; turn < TURNS; turn++)); do
                echo "run ${case%% *} sendpath run --path zero_copy ${case#* } --duration 500ms --json"
            done
        done
        echo 'else run refused tail -n 1 /tmp/refused; fi'
        for ((turn = 0; turn < TURNS; turn++)); do
            for path in one_copy zero_copy; do
                echo "run turns_$path sendpath run --path $path --size 256K --duration 500ms --json"
            done
        done
        echo "run ethtool_off ethtool -K eth0 sg off tx off"
        for layout in page heap; do
            echo "run no_offloads_$layout sendpath run --path zero_copy --layout $layout --size 64K --duration 500ms --json"
        done
        echo "run ethtool_sg_on ethtool -K eth0 sg on tx off"
        echo "run no_tx_checksum sendpath run --path zero_copy --size 64K --duration 500ms --json"
        echo "run ethtool_on ethtool -K eth0 sg on tx on"
        echo "run offloads_again sendpath run --path zero_copy --size 64K --duration 500ms --json"
    fi
    for name in "${names[@]}"; do
        echo "run test_$name test_$name"
    done
} >"$root/main"

# The network namespace of the tap and of the receiver. QEMU is the first process of a process namespace: when
# it ends, the kernel ends the others and takes the tap and the namespace away.
# shellcheck disable=SC2016 # the inner shell expands these
around=(unshare --net --pid --mount-proc --fork --kill-child sh -euc '
    mount -t sysfs sys /sys
    ip link set lo up
    ip tuntap add dev tap0 mode tap vnet_hdr
    ip address add "$1/24" dev tap0
    ip link set tap0 up
    busybox nc -ll -p "$2" -e "$3" client 2>"$4" &
    shift 4
    exec "$@"' sh "$HOST" "$PORT" "$binary" "$work/receiver")
boot -netdev tap,id=tap0,ifname=tap0,script=no,downscript=no,vnet_hdr=on \
    -device virtio-net-pci,netdev=tap0,romfile=

if [ ${#arguments[@]} -gt 0 ]; then
    outputs root command
else
    printf '%-16s %8s %8s %8s %8s %8s %11s %8s %7s  %s\n' \
        case messages verified old new sends completions copied bound 'copied because'
    upper=
    refused=$(outputs root refused)
    rings=()
    [ -n "$refused" ] || rings=("${RINGS[@]%% *}")
    for name in "${PATHS[@]}" offloads "${STREAMS[@]%% *}" "${rings[@]}" \
        no_offloads_page no_offloads_heap no_tx_checksum offloads_again; do
        IFS=$'\t' read -r sent verified contradicted old new sends completions copied bound causes < <(outputs root "$name" | jq -rs '
            def sum(field): map(field) | add // 0;
            [sum(.messages), (map(.verified_messages) | min), (map(.contradiction // empty) | length),
                sum(.seen.old_bytes), sum(.seen.new_bytes), sum(.zero_copy.sends), sum(.zero_copy.completions), sum(.zero_copy.copied),
                (map(.zero_copy.copied_is_bound // empty) | unique | join(" ") | if . == "" then "-" else . end),
                (map(.zero_copy.copied_because // [] | .[].cause) | unique | join(" "))]
            | @tsv')
        printf '%-16s %8d %8d %8d %8d %8d %11d %8d %7s  %s\n' \
            "$name" "$sent" "$verified" "$old" "$new" "$sends" "$completions" "$copied" "$bound" "$causes"
        [ "$verified" -gt 0 ] || problem "$name: no message was verified"
        [ $((old + new)) -gt 0 ] || problem "$name: no message was overwritten"
        [ "$contradicted" = 0 ] || problem "$name: the kernel's word and what the receiver saw contradict each other"
        [ "$completions" = "$sends" ] || problem "$name: $completions completions of $sends sends"
        case $name in
            no_*)
                # The heap layout is copied too, but its completions deny it: see docs/book/src/evidence/lab.md.
                [ "$name" = no_offloads_heap ] || [ "$copied" -gt 0 ] || problem "$name: nothing was copied"
                cause=no_scatter_gather
                [ "$name" != no_tx_checksum ] || cause=no_tx_checksum
                [[ " $causes " = *" $cause "* ]] || problem "$name: $cause is not named, but ${causes:-no cause}"
                ;;
            # What io_uring calls copied need not have been. What came as it was overwritten was not, whatever it says.
            uring_*)
                [ "$bound" != either ] || problem "$name: each send of io_uring has a notification of its own"
                [ "$copied" = 0 ] || [ "$bound" = upper ] || problem "$name: $copied were copied: ${causes:-no cause is named}"
                [ "$bound" != upper ] || upper+="$name: at most $copied of $completions sends were copied; of $((old + new)) \
overwritten bytes $new came as they were overwritten, and so were not"$'\n'
                ;;
            *) [ "$copied" = 0 ] || problem "$name: $copied were copied: ${causes:-no cause is named}" ;;
        esac
        [ "$name" != offloads ] || [ "$sent" -ge "$messages" ] || problem "$name: sent $sent messages of $messages"
    done
    [ -z "$upper" ] || printf '\n%s' "$upper"
    [ -z "$refused" ] || printf '\nleft out: io_uring: %s\n' "$refused"
    one_copy=$(outputs root turns_one_copy) zero_copy=$(outputs root turns_zero_copy)
    ratios=$(jq -nr --slurpfile one <(echo "$one_copy") --slurpfile zero <(echo "$zero_copy") '
        [range($one | length) | $zero[.].throughput_gbps / $one[.].throughput_gbps] | sort
        | "\(.[length / 2 | floor]) \(.[0]) \(.[-1])"')
    read -r median least most <<<"$ratios"
    printf '\n256 KiB, throughput of zero_copy by that of one_copy, %d times in turns: median %.2f (%.2f to %.2f)\n' \
        "$TURNS" "$median" "$least" "$most"
    jq -en "$median > 1" >/dev/null || problem "zero_copy was not faster than one_copy at 256 KiB: $median"
fi
for name in "${names[@]}"; do
    printf '\ntest %s: %s\n' "$name" "$(outputs root "test_$name" | grep '^test result: ' || echo 'no result')"
    # What did not pass, and what each failure says.
    outputs root "test_$name" | sed -nE '/ \.\.\. (FAILED|ignored.*)$/p; /^failures:$/,/^failures:$/p' | cut -c1-600
done
finish
