#!/usr/bin/env bash
# Runs sendpath on another kernel: Debian's cloud kernel, booted under QEMU. See lab/README.md.
set -euo pipefail

# shellcheck source=lab/common.sh
. "$(dirname "$0")/common.sh"

readonly SIZES=(4K 64K 1M) LAYOUTS=(heap page)

usage() {
    cat <<END
usage: lab/kernel.sh [--kernel VERSION|PACKAGE|oldest|newest] [--binary FILE] [--duration TIME] [--messages N]
                     [--deadline SECONDS] [--kvm] [--install] [-- SENDPATH ARGUMENT...]

Boots a Debian cloud kernel under QEMU, and runs sendpath in it as root and as an ordinary user.
Without arguments for sendpath: doctor, zero_copy over veth, and zero_copy into the sink with
messages of ${SIZES[*]} in the layouts ${LAYOUTS[*]}. Each send must have its completion, and in the
sink none may be copied and no segment sent again.

  --duration  of each run; default: 1s
  --messages  repeat each run into the sink until so many messages were sent; default: 1
END
    usage_of_common_options
}

duration=1s messages=1
read_options 'duration messages' "$@"
take_number messages
take_duration duration

need jq=jq
begin
fetch_kernel
if [ -z "$binary" ]; then
    cargo build --quiet --release --locked --bin sendpath
    binary=$target/release/sendpath
fi
put_basics

# What the guest runs, first as root and then as the user.
cat >"$root/main" <<END
su root -c '. /run.sh; . /commands'
su user -c '. /run.sh; . /commands'
END
if [ ${#arguments[@]} -gt 0 ]; then
    printf 'run command sendpath'
    printf ' %s' "${arguments[@]@Q}"
    echo
else
    echo "run doctor sendpath doctor"
    echo "run veth sendpath run --path zero_copy --size 64K --duration $duration --json"
    for size in "${SIZES[@]}"; do
        for layout in "${LAYOUTS[@]}"; do
            echo "run_until $messages $size-$layout sendpath run --receiver sink --path zero_copy" \
                "--size $size --layout $layout --duration $duration --json"
        done
    done
fi >"$root/commands"
boot -nic none

if [ ${#arguments[@]} -gt 0 ]; then
    grep -v '^== [ke]' "$work/results"
else
    outputs root doctor
    printf '\n%-5s %-10s %9s %9s %11s %9s %13s\n' user case messages sends completions copied retransmitted
    for name in veth "${SIZES[@]/%/-heap}" "${SIZES[@]/%/-page}"; do
        for user in root user; do
            row=$(outputs "$user" "$name" | jq -rs '
                def sum(field): map(field) | add // 0;
                [sum(.messages), sum(.zero_copy.sends), sum(.zero_copy.completions), sum(.zero_copy.copied), sum(.retransmitted_segments)]
                | @tsv')
            read -r sent sends completions copied retransmitted <<<"$row"
            printf '%-5s %-10s %9d %9d %11d %9d %13d\n' "$user" "$name" "$sent" "$sends" "$completions" "$copied" "$retransmitted"
            [[ $sends -gt 0 && $completions = "$sends" ]] || problem "$name as $user has $completions completions of $sends sends"
            [ "$name" != veth ] || continue
            [ "$sent" -ge "$messages" ] || problem "$name as $user sent $sent messages of $messages"
            [ "$copied" = 0 ] || problem "$name as $user was copied $copied times"
            [ "$retransmitted" = 0 ] || problem "$name as $user sent $retransmitted segments again"
        done
    done
fi
finish
