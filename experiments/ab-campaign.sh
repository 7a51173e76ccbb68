#!/usr/bin/env bash
# How often `sendpath ab` is wrong on this machine, and what Criterion's --baseline says of the same unchanged
# code. About 35 minutes on a quiet machine; takes cargo and jq. METHODOLOGY.md has the results.
#   experiments/ab-campaign.sh [RUNS]
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-${RUNS:-20}}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# One build: a cost is planted by a variable that only ab's worker reads (src/cli/worker.rs).
cargo build --quiet --release --locked
program=$work/sendpath # a copy, which no build replaces while it runs
cp "${CARGO_TARGET_DIR:-target}/release/sendpath" "$program"

compare() { # FILE OPTION...: one comparison of the program with itself; what ab finds decides its exit code
    local file=$1 code=0
    shift
    "$program" ab --base-bin "$program" --change-bin "$program" "$@" --json >"$file" 2>"$work/stderr" || code=$?
    if ! jq -e .outcome "$file" >/dev/null 2>&1; then
        echo "ab ended with exit code $code: $(tail -1 "$work/stderr")" >&2
        exit 1
    fi
}

verdicts() { # of all runs in a folder: how many comparisons, how many called
    jq -s '[.[].outcome.comparisons[].verdict] | {comparisons: length, called: map(select(. == "faster" or . == "slower")) | length}' "$1"/*.json
}

echo "== the same executable twice: $runs runs of 12 cases, 60 s each"
mkdir "$work/aa"
for run in $(seq "$runs"); do
    compare "$work/aa/$run.json" --time 60s
done
verdicts "$work/aa"

planted() { # PERCENT SPIN_NS: with the clock that the spin reads, so much of a round trip of 64 KiB here
    local folder=$work/$2 found=0 run
    echo "== a planted cost ($1 %, a spin of $2 ns), 64 KiB rr, $runs runs of 10 s"
    mkdir "$folder"
    for run in $(seq "$runs"); do
        compare "$folder/$run.json" --change-env "SENDPATH_PLANT_SPIN_NS=$2" \
            --size 64K --path two_copy --layout heap --time 10s
        jq -r '.outcome.comparisons[] | select(.metric == "throughput") | "\(.gain.value) [\(.gain.low) \(.gain.high)] \(.verdict)"' \
            "$folder/$run.json"
        if jq -e 'any(.outcome.comparisons[]; .metric == "throughput" and .verdict == "slower")' "$folder/$run.json" >/dev/null; then
            found=$((found + 1))
        fi
    done
    echo "found in $found of $runs"
}
planted 1 130
planted 2 285

echo "== Criterion's --baseline on unchanged code, 3 times the 16 cases of 4 sizes"
export SENDPATH_SIZES=64,8K,64K,256K SENDPATH_THREADS=1
cargo bench --quiet --locked --bench throughput -- --save-baseline ab-campaign >/dev/null 2>&1
for _ in 1 2 3; do
    cargo bench --quiet --locked --bench throughput -- --baseline ab-campaign 2>/dev/null
done | grep -oE 'Performance has (improved|regressed)|No change in performance|Change within noise' | sort | uniq -c
