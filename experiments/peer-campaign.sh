#!/usr/bin/env bash
# What a peer's command costs beside the built-in client, and whether strangers at the data port change a result.
# As root: it makes the lasting namespaces of netns-setup.sh, and takes them down. Takes jq. Prints what
# docs/book/src/evidence/campaigns.md has.
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

# Connects to a port about 1,000 times a second, from a CPU of its own. What it is told would be in its output.
storm() {
    local port=$1
    exec 9<>"$work/never"
    local tried=0 taken=0 told
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
export work address

# Runs of a second, in turns: two whole sweeps one after the other differ by what the machine does meanwhile. Strangers
# at a port that nobody has cost the machine the same, and cannot reach the run.
echo "== runs with strangers at the data port, at another port, and with none, in turns"
pairs=$((minutes * 8))
for size in 64 64K; do
    for pair in $(seq "$pairs"); do
        kinds=(none other data none other data)
        for kind in "${kinds[@]:pair % 3:3}"; do
            if [ "$kind" != none ]; then
                aim=$port
                [ "$kind" = data ] || aim=$((port + 1))
                touch "$work/storm"
                ip netns exec ns_c taskset -c 1 bash -c "storm $aim" >>"$work/storm-$kind.text" 2>/dev/null &
                storm_pid=$!
            fi
            ip netns exec ns_s "$sendpath" run --peer "$peer" --server-address "$address:$port" --path two_copy \
                --size "$size" --duration 1s --json 2>/dev/null |
                jq --raw-output --arg of "$size $kind $pair" '"\($of) \(.messages / .elapsed_ns) \(.strangers)"'
            if [ "$kind" != none ]; then
                rm "$work/storm"
                wait "$storm_pid" || true
                storm_pid=
            fi
        done
    done
done >"$work/runs"
awk '
    { rate[$1, $2, $3] = $4; closed += $5; sizes[$1] = 1; if ($3 > pairs) pairs = $3 }
    function compare(size, kind, other,    pair, change, sum, squares, mean, half) {
        for (pair = 1; pair <= pairs; pair++) {
            change = log(rate[size, kind, pair] / rate[size, other, pair])
            sum += change
            squares += change * change
        }
        mean = sum / pairs
        # Student, 95 % of both sides, for 30 pairs and about as many.
        half = 2.04 * sqrt((squares / pairs - mean * mean) / (pairs - 1))
        printf "%-4s throughput, strangers at: %-5s by %-5s  %+.2f %% [%+.2f %%, %+.2f %%], %d pairs of runs\n", \
            size, kind, other, 100 * (exp(mean) - 1), 100 * (exp(mean - half) - 1), 100 * (exp(mean + half) - 1), pairs
    }
    END {
        for (size in sizes) {
            compare(size, "data", "other")
            compare(size, "other", "none")
        }
        printf "%d connections were closed for want of the token\n", closed
    }' "$work/runs"
# Anything that a stranger was told stands here, too.
for kind in data other; do
    awk -v kind="$kind" '
        /^tried/ { tried += $2; made += $4; next }
        { print }
        END { print kind ": tried " tried " connections, " made " of them were made" }' "$work/storm-$kind.text"
done
