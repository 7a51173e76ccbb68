#!/usr/bin/env bash
# What a peer's command costs beside the built-in client, and whether strangers at the data port change a result.
# As root: it makes the lasting namespaces of netns-setup.sh, and takes them down. Prints tables for METHODOLOGY.md.
set -euo pipefail
cd "$(dirname "$0")/.."

usage="usage: experiments/peer-campaign.sh [MINUTES]
MINUTES of each of the two comparisons; default: 4"
if [ $# -gt 1 ] || ! [[ ${1:-4} =~ ^[1-9][0-9]?$ ]]; then
    echo "$usage" >&2
    exit 2
fi
minutes=${1:-4}
[ "$(id -u)" = 0 ] || { echo "experiments/peer-campaign.sh: only root makes lasting namespaces" >&2; exit 1; }

cargo build --quiet --release --locked --bin sendpath
target=$(realpath "${CARGO_TARGET_DIR:-target}")
sendpath=$target/release/sendpath
work=$(mktemp -d)
storm_pid=
clean_up() {
    [ -z "$storm_pid" ] || kill "$storm_pid" 2>/dev/null || true
    ./netns-setup.sh down >/dev/null || true
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
./netns-setup.sh up >/dev/null
address=$(ip -n ns_s -4 -o address show veth_s | grep -oE '([0-9]+\.){3}[0-9]+' | head -1)
peer="ip netns exec ns_c $sendpath client"
port=7001

echo "== the built-in client against a peer, the same build"
code=0
ip netns exec ns_s "$sendpath" ab --base-bin "$sendpath" --change-bin "$sendpath" \
    --base-env SENDPATH_NETNS=ns_s,ns_c --change-env "SENDPATH_PEER=$peer" \
    --path two_copy,one_copy --size 64,64K --time "${minutes}m" --margin 1% || code=$?
echo "exit code $code"

# Connects about 1,000 times a second, from a CPU of its own. What it is told would be in its output.
storm() {
    exec 9<>"$work/never"
    local tried=0 taken=0
    while [ -e "$work/storm" ]; do
        tried=$((tried + 1))
        if { exec 3<>"/dev/tcp/$address/$port"; } 2>/dev/null; then
            taken=$((taken + 1))
            printf 'a stranger' >&3 2>/dev/null || true
            if read -r -t 0.001 -n 1 -u 3 told; then echo "told $told"; fi
            exec 3>&-
        fi
        read -r -t 0.0005 -u 9 || true
    done
    echo "tried $tried connections, $taken of them were made"
}
mkfifo "$work/never"
export -f storm
export work address port

echo "== a sweep with strangers at the data port against one without, alternately"
sweeps=$((minutes / 2 > 0 ? minutes / 2 : 1))
for run in $(seq "$sweeps"); do
    for kind in quiet storm; do
        if [ $kind = storm ]; then
            touch "$work/storm"
            ip netns exec ns_c taskset -c 1 bash -c storm >"$work/storm-$run.text" &
            storm_pid=$!
        fi
        ip netns exec ns_s "$sendpath" sweep --peer "$peer" --server-address "$address:$port" --size 64,64K --threads 1 \
            --receiver buffer --counters none --time 30s --out "$work/$kind-$run" >"$work/$kind-$run.out" 2>"$work/$kind-$run.err"
        grep -h strangers "$work/$kind-$run.err" || true
        if [ $kind = storm ]; then
            rm "$work/storm"
            wait "$storm_pid" || true
            storm_pid=
            cat "$work/storm-$run.text"
        fi
    done
    "$sendpath" compare "$work/quiet-$run" "$work/storm-$run" || true
done
