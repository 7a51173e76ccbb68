#!/usr/bin/env bash
# Lasting network namespaces for sendpath: ns_s (10.200.1.1) and ns_c (10.200.1.2).
# `cargo bench` needs none of this: it makes namespaces of its own, without a name.
set -Eeuo pipefail

readonly NS_S=ns_s NS_C=ns_c
readonly IP_S=10.200.1.1/24 IP_C=10.200.1.2/24
readonly VETH_S=veth_s VETH_C=veth_c

usage() {
    cat <<EOF
usage: netns-setup.sh up [--mtu BYTES] [--nic IF_S IF_C]
       netns-setup.sh down
       netns-setup.sh status

  up      make the namespaces $NS_S and $NS_C, joined by a veth pair; with --nic, move two real
          network ports in instead (joined by a cable or a switch). Done twice, it changes nothing.
  down    take the namespaces away; ports that were moved in return to where they came from
  status  show what there is

Then:  SENDPATH_NETNS=$NS_S,$NS_C cargo bench

Takes root and the ip program (package iproute2).
Exit codes: 0 done, 1 failed (what had been made is taken away again), 2 bad arguments.
EOF
}

fail() {
    echo "netns-setup.sh: $*" >&2
    exit 1
}

bad_arguments() {
    echo "netns-setup.sh: $* (see netns-setup.sh --help)" >&2
    exit 2
}

need_root() {
    command -v ip >/dev/null || fail "the ip program is missing: install iproute2"
    [ "$(id -u)" = 0 ] || fail "this takes root: sudo ./netns-setup.sh $1"
}

exists() { ip netns list | grep -qE "^$1( |$)"; }

# The ports in a namespace that are not of its own making: neither lo nor our veth.
ports() { ip -n "$1" -o link | awk -F': ' '{ sub(/@.*/, "", $2); print $2 }' | grep -vxE "lo|$VETH_S|$VETH_C" || true; }

in_namespace() { ip -n "$1" link show "$2" >/dev/null 2>&1; }

# Gives ports back by name: when a namespace ends, the kernel may rename what it returns, or drop it.
remove() {
    local ns port
    for ns in "$NS_S" "$NS_C"; do
        exists "$ns" || continue
        for port in $(ports "$ns"); do
            ip -n "$ns" link set "$port" down
            ip -n "$ns" link set "$port" netns $$ # where this shell is
        done
        ip netns delete "$ns"
    done
    # The veth pair ends with either namespace; this is for one that never got into any.
    ip link delete "$VETH_S" 2>/dev/null || true
}

bring_up() { # namespace, port, address
    ip -n "$1" address replace "$3" dev "$2"
    if [ -n "$MTU" ]; then ip -n "$1" link set "$2" mtu "$MTU"; fi
    ip -n "$1" link set lo up
    ip -n "$1" link set "$2" up
}

up() {
    local port_s=$VETH_S port_c=$VETH_C
    if [ -n "$NIC_S" ]; then
        port_s=$NIC_S port_c=$NIC_C
        for port in "$port_s" "$port_c"; do
            in_namespace "$NS_S" "$port" || in_namespace "$NS_C" "$port" ||
                ip link show "$port" >/dev/null 2>&1 || fail "no network port $port: ip link shows what there is"
        done
    fi
    for ns in "$NS_S" "$NS_C"; do
        exists "$ns" || continue
        for port in $(ports "$ns"); do
            [ "$port" = "$NIC_S" ] || [ "$port" = "$NIC_C" ] ||
                fail "$ns has the network port $port: netns-setup.sh down gives it back first"
        done
    done
    # From here on things are made. What existed before is not ours to clean up.
    if ! exists "$NS_S" && ! exists "$NS_C"; then
        trap 'remove' ERR
        trap 'remove; exit 1' INT TERM
    fi
    exists "$NS_S" || ip netns add "$NS_S"
    exists "$NS_C" || ip netns add "$NS_C"
    if [ -n "$NIC_S" ]; then
        # Instead of veth, not beside it: two links with one address, and the wrong one is measured.
        ip -n "$NS_S" link delete "$VETH_S" 2>/dev/null || true
        in_namespace "$NS_S" "$port_s" || ip link set "$port_s" netns "$NS_S"
        in_namespace "$NS_C" "$port_c" || ip link set "$port_c" netns "$NS_C"
    elif ! in_namespace "$NS_S" "$port_s" || ! in_namespace "$NS_C" "$port_c"; then
        # Half a pair is left by an up that was killed.
        ip -n "$NS_S" link delete "$port_s" 2>/dev/null || true
        ip -n "$NS_C" link delete "$port_c" 2>/dev/null || true
        ip link add "$port_s" netns "$NS_S" type veth peer name "$port_c" netns "$NS_C"
    fi
    bring_up "$NS_S" "$port_s" "$IP_S"
    bring_up "$NS_C" "$port_c" "$IP_C"
    trap - ERR INT TERM
    status
}

status() {
    local ns
    for ns in "$NS_S" "$NS_C"; do
        if exists "$ns"; then
            echo "$ns:"
            ip -n "$ns" -brief address | sed 's/^/  /'
        else
            echo "$ns: does not exist"
        fi
    done
}

MTU='' NIC_S='' NIC_C=''
[ $# -gt 0 ] || { usage >&2; exit 2; }
command=$1
shift
case $command in
-h | --help)
    usage
    exit 0
    ;;
up)
    while [ $# -gt 0 ]; do
        case $1 in
        --mtu)
            [[ ${2-} =~ ^[0-9]+$ ]] || bad_arguments "--mtu takes a number of bytes"
            MTU=$2
            shift 2
            ;;
        --nic)
            [ $# -ge 3 ] || bad_arguments "--nic takes two network ports"
            NIC_S=$2 NIC_C=$3
            [ "$NIC_S" != "$NIC_C" ] || bad_arguments "--nic takes two different ports"
            shift 3
            ;;
        *) bad_arguments "unknown argument $1" ;;
        esac
    done
    ;;
down | status) [ $# = 0 ] || bad_arguments "unknown argument $1" ;;
*) bad_arguments "unknown command $command" ;;
esac
need_root "$command"
case $command in
up) up ;;
down) remove ;;
status) status ;;
esac
