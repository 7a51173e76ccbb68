#!/usr/bin/env bash
# How often `sendpath ab` is wrong on this machine, and what Criterion's --baseline says of the same unchanged
# code. About 35 minutes on a quiet machine; takes cargo and jq. docs/book/src/evidence/campaigns.md has the results.
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

codes() { # of all runs in a folder: how many ended with which exit code
    sort "$1"/*.code | uniq -c | awk '{printf "  exit %s: %s runs\n", $2, $1}'
}

compare() { # NAME OPTION...: one comparison of the program with itself; what ab finds decides its exit code
    local name=$1 code=0
    shift
    "$program" ab --base-bin "$program" --change-bin "$program" "$@" --json >"$name.json" 2>"$work/stderr" || code=$?
    if ! jq -e .outcome "$name.json" >/dev/null 2>&1; then
        echo "ab ended with exit code $code: $(tail -1 "$work/stderr")" >&2
        exit 1
    fi
    echo "$code" >"$name.code"
}

echo "== the same executable twice: $runs runs of 12 cases, 60 s each (exit 0: no regression, 1: a regression, 3: undecided)"
mkdir "$work/aa"
for run in $(seq "$runs"); do
    compare "$work/aa/$run" --time 60s
done
codes "$work/aa"
jq -s '[.[].outcome.comparisons[].verdict] | group_by(.) | map({(.[0]): length}) | add' "$work"/aa/*.json

planted() { # PERCENT SPIN_NS: with the clock that the spin reads, so much of a round trip of 64 KiB here
    local folder=$work/$2 run
    echo "== a planted cost ($1 %, a spin of $2 ns), 64 KiB rr, $runs runs of 10 s"
    mkdir "$folder"
    for run in $(seq "$runs"); do
        compare "$folder/$run" --change-env "SENDPATH_PLANT_SPIN_NS=$2" \
            --size 64K --path two_copy --layout heap --time 10s
        jq -r '.outcome.comparisons[] | select(.metric == "throughput") | "\(.gain.value) [\(.gain.low) \(.gain.high)] \(.verdict)"' \
            "$folder/$run.json"
    done
    codes "$folder"
}
planted 1 130

echo "== Criterion's --baseline on unchanged code, 3 times the 16 cases of 4 sizes"
export SENDPATH_SIZES=64,8K,64K,256K SENDPATH_THREADS=1
cargo bench --quiet --locked --bench throughput -- --save-baseline ab-campaign >/dev/null 2>&1
for _ in 1 2 3; do
    cargo bench --quiet --locked --bench throughput -- --baseline ab-campaign 2>/dev/null
done | grep -oE 'Performance has (improved|regressed)|No change in performance|Change within noise' | sort | uniq -c
