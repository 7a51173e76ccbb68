#!/usr/bin/env bash
# How precise a sweep is beside that of another revision: minutes of both, interleaved, on the same cells. About a
# quarter of an hour for five of each, builds included. docs/book/src/evidence/campaigns.md has the results.
#   experiments/half-widths.sh REVISION [RUNS] [OPTION...]   options of sweep, as --receiver sink --threads 1
set -euo pipefail
cd "$(dirname "$0")/.."
revision=$1 runs=${2:-5}
shift $(($# < 2 ? $# : 2))
work=$(mktemp -d)
clean() {
    git worktree remove --force "$work/tree" 2>/dev/null || true
    rm -rf "$work"
}
trap clean EXIT

git worktree add --quiet --detach "$work/tree" "$revision"
(cd "$work/tree" && CARGO_TARGET_DIR="$work/target" cargo build --quiet --release --locked)
cp "$work/target/release/sendpath" "$work/then"
rm -rf "$work/target"
cargo build --quiet --release --locked
cp "${CARGO_TARGET_DIR:-target}/release/sendpath" "$work/now"

# Half of the width of each interval that is printed against the baseline, in percent.
halves() { # SUMMARY
    awk -F, '
        NR == 1 { for (i = 1; i <= NF; i++) column[$i] = i; next }
        $column["arm"] == "case" && $column["throughput_gain_low"] > 0 {
            print (sqrt($column["throughput_gain_high"] / $column["throughput_gain_low"]) - 1) * 100
        }' "$1"
}

undecided() { # SUMMARY: comparisons by throughput; an older revision calls them too noisy
    awk -F, '
        NR == 1 { for (i = 1; i <= NF; i++) column[$i] = i; next }
        $column["throughput_verdict"] ~ /undecided|too_noisy/ { count++ }
        END { print count + 0 }' "$1"
}

median() { sort -g | awk '{ value[NR] = $1 } END { print (value[int((NR + 1) / 2)] + value[int(NR / 2) + 1]) / 2 }'; }

for run in $(seq "$runs"); do
    for name in $(shuf -e "then" "now"); do
        "$work/$name" sweep --time 60s --out "$work/$name-$run" "$@" >/dev/null 2>"$work/stderr" ||
            { tail -1 "$work/stderr" >&2; exit 1; }
        halves "$work/$name-$run/summary.csv" | tee -a "$work/$name.halves" >"$work/halves"
        printf '%s, minute %s: median half width %.2f %% of %s, %s undecided by throughput\n' "$name" "$run" \
            "$(median <"$work/halves")" "$(wc -l <"$work/halves")" "$(undecided "$work/$name-$run/summary.csv")"
    done
done
before=$(median <"$work/then.halves") now=$(median <"$work/now.halves")
awk -v before="$before" -v now="$now" 'BEGIN { printf "then %.3f %%, now %.3f %%: ratio %.3f\n", before, now, now / before }'
