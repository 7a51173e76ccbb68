#!/usr/bin/env bash
# Whether a run into the sink that fails says why, on a machine that is busy with other things: short runs, four at a time,
# beside eight processes that never rest. docs/book/src/evidence/faults.md has the result. Ends by
# itself, after a quarter of an hour.
#   experiments/lost-cause.sh [RUNS] [SENDPATH]
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-2000} sendpath=${2:-}
if [ -z "$sendpath" ]; then
    cargo build --quiet --release --locked
    sendpath=${CARGO_TARGET_DIR:-target}/release/sendpath
fi
readonly LONGEST_SECONDS=900 BUSY=8 AT_A_TIME=4
# What an error says that only echoes another one: the connection is gone, and nobody says who has closed it.
readonly ECHOES='reset by peer|Broken pipe|not connected|closed the connection|connection is down|another pair failed'
readonly PATHS=(two_copy one_copy zero_copy) SIZES=(4K 64K 256K) WORKLOADS=(rr stream) PAIRS=(1 4)

# Every AT_A_TIME-th run, from the FIRST on; a line for each.
some() { # FIRST
    local n said cause
    for ((n = $1; n < runs && SECONDS < LONGEST_SECONDS; n += AT_A_TIME)); do
        local case=(
            --path "${PATHS[n % 3]}" --size "${SIZES[n / 3 % 3]}" --workload "${WORKLOADS[n / 9 % 2]}"
            --threads "${PAIRS[n / 18 % 2]}"
        )
        if said=$(timeout 60 "$sendpath" run --receiver sink --duration 1ms "${case[@]}" 2>&1 >/dev/null); then
            echo fine
            continue
        fi
        cause=${said##*$'\n'}
        if [[ $cause != sendpath:* || $cause =~ $ECHOES ]]; then
            echo "without a cause: ${case[*]}: $cause"
        else
            echo "failed: ${case[*]}: $cause"
        fi
    done
}

work=$(mktemp -d)
busy=()
trap 'kill "${busy[@]}"; rm -rf "$work"' EXIT
for ((i = 0; i < BUSY; i++)); do
    while :; do :; done &
    busy+=($!)
done
workers=()
for ((i = 0; i < AT_A_TIME; i++)); do
    some "$i" >"$work/$i" &
    workers+=($!)
done
wait "${workers[@]}"

cat "$work"/* >"$work/all"
grep -v '^fine' "$work/all" || true
made=$(wc -l <"$work/all") failed=$(grep -cv '^fine' "$work/all" || true)
lost=$(grep -c '^without' "$work/all" || true)
echo "$made runs beside $BUSY busy processes in $SECONDS s: $failed failed, $lost of them without a cause"
[ "$made" = "$runs" ] && [ "$lost" = 0 ]
