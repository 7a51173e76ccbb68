#!/usr/bin/env bash
# Runs what the manifests run, without a cluster: the receiver's command and the sender's script, in two network
# namespaces joined by veth, each with the image's files, user and capabilities. Prints what the sender prints.
set -euo pipefail
folder=$(realpath -- "$(dirname "$0")")

usage() {
    cat <<END
usage: deploy/kubernetes/rehearse.sh SENDPATH [TIME]

SENDPATH is a static executable, as lab/static.sh makes it; TIME is the sweep's, 1s by default. Takes
root, ip, setpriv, and a static busybox (Debian: busybox-static). Leaves nothing behind.

Exit codes: 0 a whole sweep came out of the sender's output, 1 it did not, 2 bad arguments.
END
}

fail() {
    echo "rehearse.sh: $*" >&2
    exit 1
}

case ${1:---help} in --help | -h) usage && exit ;; esac
[ $# -le 2 ] || { usage >&2 && exit 2; }
sendpath=$(realpath -- "$1") time=${2:-1s}
[ "$(id -u)" = 0 ] || fail 'takes root: it makes network namespaces and drops capabilities'
busybox=$(command -v busybox) || fail 'no busybox: apt-get install busybox-static'

# As in deploy/Containerfile.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
image=$work/image
mkdir -p "$image"/{bin,proc,results,tmp}
chmod 755 "$work" "$image"
cp "$sendpath" "$image/bin/sendpath"
cp "$busybox" "$image/bin/busybox"
for name in base64 cat gzip ls nc sh tar; do ln -s busybox "$image/bin/$name"; done

# The two commands, as the manifests have them.
receiver=$(sed -n 's/^ *command: \[\(nc.*\)\]$/\1/p' "$folder/receiver.yaml" | tr -d ',"')
sender=$(sed -n '/^            - |$/,/^              exit /s/^              //p' "$folder/sender.yaml")
if [ -z "$receiver" ] || [ -z "$sender" ]; then
    fail 'the manifests have no such commands'
fi

code=0
# Both namespaces, the mounts and all processes end with this one: it is process 1 of a PID namespace.
# shellcheck disable=SC2016 # the inner shell expands these
timeout 120 unshare --mount --net --pid --fork --kill-child bash -euo pipefail -c '
    image=$1 receiver=$2 sender=$3 time=$4
    mount -t proc proc "$image/proc"
    unshare --net sleep 120 &
    other=$!
    # Until it is in a namespace of its own.
    while [ "$(readlink "$image/proc/$other/ns/net")" = "$(readlink "$image/proc/self/ns/net")" ]; do sleep 0.1; done
    ip link set lo up
    ip link add pod_s type veth peer name pod_r netns "$other"
    ip address add 10.201.0.1/24 dev pod_s
    ip link set pod_s up
    nsenter --net="$image/proc/$other/ns/net" bash -euc "ip address add 10.201.0.2/24 dev pod_r; ip link set pod_r up; ip link set lo up"

    # shellcheck disable=SC2086 # words
    env -i PATH=/bin SENDPATH_HOST=node-b "$(command -v nsenter)" --net="$image/proc/$other/ns/net" \
        "$(command -v setpriv)" --bounding-set=-all,+sys_chroot,+setuid,+setgid --inh-caps=-all --no-new-privs \
        "$(command -v chroot)" --userspec 65534:65534 "$image" $receiver &
    sleep 1
    env -i PATH=/bin SENDPATH_HOST=node-a RECEIVER_SERVICE_HOST=10.201.0.2 POD_IP=10.201.0.1 SWEEP_TIME="$time" \
        "$(command -v setpriv)" --bounding-set=-all,+sys_chroot,+ipc_lock --inh-caps=-all --no-new-privs \
        "$(command -v chroot)" "$image" /bin/sh -c "$sender"
' bash "$image" "$receiver" "$sender" "$time" >"$work/log" 2>&1 || code=$?
cat "$work/log"
[ $code = 0 ] || fail "the sender ended with $code"
mkdir "$work/results"
sed '1,/^-----BEGIN SENDPATH SWEEP-----$/d; /^-----END SENDPATH SWEEP-----$/,$d' "$work/log" |
    base64 -d | tar xz -C "$work/results"
env -i "$sendpath" report "$work/results/node-a"
