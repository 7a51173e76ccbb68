#!/usr/bin/env bash
# How often `sendpath ab` is wrong on this machine, and what Criterion's --baseline says of the same unchanged
# code. About 35 minutes on a quiet machine; takes git, cargo and jq. METHODOLOGY.md has the results.
#   benches/ab-campaign.sh [RUNS]
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-20}
work=$(mktemp -d)
cleanup() {
    git worktree remove --force "$work/source" 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT

# The present commit, and the same with a spin of so many ns in two_copy's send.
build() {
    git worktree add --detach --quiet "$work/source" HEAD 2>/dev/null || git -C "$work/source" checkout --quiet -- src
    if [ "$1" != 0 ]; then
        sed -i "0,/self.message.pack(&mut self.packed);/s//&\n        let begun = std::time::Instant::now();\n        while begun.elapsed().as_nanos() < $1 {}/" \
            "$work/source/src/path/two_copy.rs"
    fi
    (cd "$work/source" && cargo build --quiet --release --locked --target-dir "$work/target")
    cp "$work/target/release/sendpath" "$work/$2"
}
build 0 base
build 130 one # with the clock that it reads, 1 % of a round trip of 64 KiB here
build 285 two # 2 %

verdicts() { # of all runs in a folder: how many comparisons, how many called
    jq -s '[.[].outcome.comparisons[].verdict] | {comparisons: length, called: map(select(. == "faster" or . == "slower")) | length}' "$1"/*.json
}

echo "== the same executable twice: $runs runs of 12 cases, 60 s each"
mkdir "$work/aa"
for run in $(seq "$runs"); do
    "$work/base" ab --base-bin "$work/base" --change-bin "$work/base" --time 60s --json >"$work/aa/$run.json" 2>/dev/null || true
done
verdicts "$work/aa"

for planted in one two; do
    echo "== a planted cost ($planted %), 64 KiB rr, $runs runs of 10 s"
    mkdir "$work/$planted-runs"
    found=0
    for run in $(seq "$runs"); do
        "$work/base" ab --base-bin "$work/base" --change-bin "$work/$planted" --size 64K --path two_copy --layout heap --time 10s \
            --json >"$work/$planted-runs/$run.json" 2>/dev/null || true
        jq -r '.outcome.comparisons[] | select(.metric == "throughput") | "\(.gain.value) [\(.gain.low) \(.gain.high)] \(.verdict)"' \
            "$work/$planted-runs/$run.json"
        jq -e 'any(.outcome.comparisons[]; .metric == "throughput" and .verdict == "slower")' "$work/$planted-runs/$run.json" >/dev/null &&
            found=$((found + 1))
    done
    echo "found in $found of $runs"
done

echo "== Criterion's --baseline on unchanged code, 3 times the 16 cases of 4 sizes"
export SENDPATH_SIZES=64,8K,64K,256K SENDPATH_THREADS=1
cargo bench --quiet --locked --bench throughput -- --save-baseline ab-campaign >/dev/null 2>&1
for _ in 1 2 3; do
    cargo bench --quiet --locked --bench throughput -- --baseline ab-campaign 2>/dev/null
done | grep -oE 'Performance has (improved|regressed)|No change in performance|Change within noise' | sort | uniq -c
