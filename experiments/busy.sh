#!/usr/bin/env bash
# Whether a busy machine makes a test fail: runs `cargo test` three times, or as often as the first argument says, beside
# four processes that never rest. Nothing in the suite may assert on a time that somebody else's load stretches. Takes
# about half an hour on two CPUs. Exit codes: 0 no run failed, 1 one did, 2 bad argument.
set -euo pipefail
cd "$(dirname "$0")/.."

runs=${1:-3}
[[ $runs =~ ^[1-9][0-9]?$ ]] || { echo 'usage: experiments/busy.sh [RUNS, 1 to 99]' >&2 && exit 2; }

# What is built is built in peace.
cargo test --locked --no-run

busy=()
trap '[ ${#busy[@]} = 0 ] || kill "${busy[@]}"' EXIT
for _ in 1 2 3 4; do
    # Ends by itself, whatever becomes of this script.
    timeout 3600 sh -c 'while :; do :; done' &
    busy+=($!)
done

failed=0
for run in $(seq "$runs"); do
    began=$SECONDS
    if text=$(cargo test --locked --no-fail-fast 2>&1); then
        echo "run $run: passed in $((SECONDS - began)) s"
    else
        echo "run $run: failed in $((SECONDS - began)) s"
        grep -E '(\.\.\. |^)FAILED|panicked at' <<<"$text" || true
        failed=1
    fi
done
exit $failed
