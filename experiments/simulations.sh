#!/usr/bin/env bash
# How often `sweep`, `tune` and a comparison of many machines are wrong, simulated in full: a thousand of each kind, of
# which `cargo test` runs the first fifth, by the same seeds. Prints the rates, and fails where one is beyond its bar.
# Nothing is timed: other work on the machine changes no number.
set -euo pipefail
cd "$(dirname "$0")/.."

SENDPATH_TEST_CAMPAIGN=1 cargo test --release --locked -p sendpath -p sendpath-report --lib -- \
    --nocapture simulation results::fleet contradict
