#!/usr/bin/env bash
# Lasting network namespaces for sendpath: ns_s (10.200.1.1) and ns_c (10.200.1.2).
# `cargo bench` needs none of this: it makes namespaces of its own, without a name.
set -euo pipefail

readonly NS_S=ns_s NS_C=ns_c
readonly IP_S=10.200.1.1/24 IP_C=10.200.1.2/24
readonly VETH_S=veth_s VETH_C=veth_c
# What `up --nic` moved in, and how it was set up before: $STATE/<namespace>/{port,link,addresses,routes}.
readonly STATE=/run/sendpath-netns
# Held while anything is changed: two of these at once would take a port from each other.
readonly LOCK=/run/sendpath-netns.lock

usage() {
    cat <<EOF
usage: netns-setup.sh up [--mtu BYTES] [--nic IF_S IF_C]
       netns-setup.sh down
       netns-setup.sh status

  up      make the namespaces $NS_S and $NS_C, joined by a veth pair; with --nic, move two real
          network ports in instead (joined by a cable or a switch). Done twice, it changes nothing.
  down    take the namespaces away; ports that were moved in return to where they came from, with
          the MTU, the up state, the addresses, the routes and the bridge or bond that they had
  status  show what there is

Then:  SENDPATH_NETNS=$NS_S,$NS_C cargo bench

Takes root and the ip program (package iproute2).
Exit codes: 0 done, 1 failed (up: what it made is taken away again; down: the rest is taken away), 2 bad arguments.
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

# For cleaning up: reports a failure and goes on with the rest.
FAILED=0
report_failure() {
    echo "netns-setup.sh: $*" >&2
    FAILED=1
}

need_root() {
    command -v ip >/dev/null || fail "the ip program is missing: install iproute2"
    [ "$(id -u)" = 0 ] || fail "this takes root: sudo ./netns-setup.sh $1"
}

# The descriptor is closed, and the lock with it, when this shell ends, however it does.
take_lock() {
    command -v flock >/dev/null || fail "the flock program is missing: install util-linux"
    exec {LOCKED}>"$LOCK" || fail "cannot open $LOCK"
    flock --nonblock "$LOCKED" || fail "another netns-setup.sh is at work: wait until it has ended"
}

# A record gets its name when it is complete; one that lacks a part was changed by somebody else.
refuse_torn_state() {
    local ns part
    for ns in "$NS_S" "$NS_C"; do
        [ -e "$STATE/$ns" ] || continue
        for part in port link addresses routes; do
            [ -f "$STATE/$ns/$part" ] || fail "$STATE/$ns lacks the file $part, and nothing was changed:" \
                "move the port out of $ns by hand, then remove $STATE/$ns"
        done
        [ -s "$STATE/$ns/port" ] || fail "$STATE/$ns/port names no network port, and nothing was changed:" \
            "move the port out of $ns by hand, then remove $STATE/$ns"
    done
}

exists() { ip netns list | grep -E "^$1( |$)" >/dev/null; }

in_namespace() { ip -n "$1" link show dev "$2" >/dev/null 2>&1; }

# The port that was moved into a namespace; nothing if there is none.
moved_port() { cat "$STATE/$1/port" 2>/dev/null || true; }

# A port's own name, wherever it is: routes never show it by an alternative name.
port_name() {
    { ip -o link show dev "$1" || ip -n "$NS_S" -o link show dev "$1" || ip -n "$NS_C" -o link show dev "$1"; } 2>/dev/null |
        awk -F': ' '{ sub(/@.*/, "", $2); print $2 }'
}

# The next three print the arguments of `ip` that set a port up again as it is now, one command per line.
link_commands() { # port
    ip -o link show dev "$1" | awk -v port="$1" '
        { for (i = 1; i < NF; i++) if ($i == "mtu" || $i == "master") print "link set dev", port, $i, $(i + 1) }
        /[<,]UP[,>]/ { print "link set dev", port, "up" }'
}

# Without duplicate address detection (nodad): until that is over, the kernel refuses a route from the address.
# The kernel makes temporary addresses again by itself.
address_commands() { # port
    ip -o address show dev "$1" | awk -v port="$1" '
        / temporary / { next }
        {
            gsub(/\\/, " ")
            command = "address replace " $4 " dev " port ($3 == "inet6" ? " nodad" : "")
            for (i = 5; i <= NF; i++) {
                if ($3 == "inet" && $(i + 1) == "valid_lft") {
                    command = command " label " $i
                } else if ($i ~ /^(peer|brd|scope|metric|valid_lft|preferred_lft)$/) {
                    sub(/sec$/, "", $(i + 1))
                    command = command " " $i " " $(i + 1)
                    i++
                } else if ($i ~ /^(noprefixroute|mngtmpaddr|home)$/) {
                    command = command " " $i
                }
            }
            print command
        }'
}

# Appended, since `ip route replace` could replace another port's route to the same network. Only an IPv6 route over
# several ports is replaced: when one port goes, the kernel keeps the rest (of IPv4, it keeps nothing). Routes with a
# gateway come last, since the gateway's own route has to be there. Left out is what the kernel always makes again: the
# table local, and fe80::/64.
route_commands() { # port
    local family
    for family in -4 -6; do
        [ "$family" = -4 ] || [ -e /proc/net/if_inet6 ] || continue
        ip "$family" -o route show table all | awk -v port="$1" -v family="$family" '
            !index($0 " ", " dev " port " ") || / table local / || /^fe80::\/64 .* proto kernel / { next }
            {
                gsub(/\\/, " ")
                command = family " route " (family == "-6" && /nexthop/ ? "replace" : "append")
                for (i = 1; i <= NF; i++) {
                    if ($i ~ /^(linkdown|dead|offload|rt_offload|trap|rt_trap)$/) continue
                    if ($i == "nhid") { i++; continue }
                    if ($i == "expires") sub(/sec$/, "", $(i + 1))
                    command = command " " $i
                }
                if (/ via /) gateways[++count] = command
                else print command
            }
            END { for (i = 1; i <= count; i++) print gateways[i] }'
    done
}

# The record is complete before it gets its name. One that is there already is older, and the right one.
record() { # namespace, port
    [ ! -e "$STATE/$1" ] || return 0
    [ -d "$STATE" ] || mkdir -m 0700 "$STATE"
    rm -rf "$STATE/$1.new"
    mkdir "$STATE/$1.new"
    echo "$2" >"$STATE/$1.new/port"
    link_commands "$2" >"$STATE/$1.new/link"
    address_commands "$2" >"$STATE/$1.new/addresses"
    route_commands "$2" >"$STATE/$1.new/routes"
    mv "$STATE/$1.new" "$STATE/$1"
}

replay() { # file of ip's arguments
    local -a arguments
    local message
    while read -ra arguments; do
        message=$(ip "${arguments[@]}" 2>&1) && continue
        # An address brings routes of its own.
        [[ $message == *"File exists"* ]] && continue
        report_failure "not restored: $message: remove the cause, then run: ip ${arguments[*]}"
    done <"$1"
}

# By name, before its namespace ends: the kernel would rename a real port, and delete a virtual one.
move_back() { # namespace
    local port
    port=$(moved_port "$1")
    if exists "$1" && in_namespace "$1" "$port"; then
        ip -n "$1" link set dev "$port" netns $$ # where this shell is
    fi
}

# Both ports are moved before either is restored, and both have addresses before either gets a route: a route may use both.
give_back() { # namespaces
    local ns part
    local -a returned=()
    for ns in "$@"; do
        [ -e "$STATE/$ns" ] || continue
        if move_back "$ns"; then
            returned+=("$ns")
        else
            report_failure "$ns keeps the network port $(moved_port "$ns"), since it cannot be moved back:" \
                "remove the cause, then netns-setup.sh down again"
        fi
    done
    for part in link addresses routes; do
        for ns in "${returned[@]}"; do replay "$STATE/$ns/$part"; done
    done
    # It loses its name first: what a kill leaves of it is no record.
    for ns in "${returned[@]}"; do
        rm -rf "${STATE:?}/$ns.new"
        { mv "$STATE/$ns" "$STATE/$ns.new" && rm -r "$STATE/$ns.new"; } || report_failure "$STATE/$ns is left"
    done
    if [ -d "$STATE" ]; then
        rm -rf "$STATE"/*.new
        rmdir --ignore-fail-on-non-empty "$STATE"
    fi
}

# The veth pair ends with either namespace. A namespace with a moved port in it stays, or the port could be lost.
delete_namespaces() { # namespaces
    local ns
    for ns in "$@"; do
        if exists "$ns" && [ ! -e "$STATE/$ns" ]; then
            ip netns delete "$ns" || report_failure "$ns is left: ip netns delete $ns"
        fi
    done
}

down() {
    set +e # what fails is reported, and the rest is done
    give_back "$NS_S" "$NS_C"
    delete_namespaces "$NS_S" "$NS_C"
    exit $FAILED
}

# What this `up` made and moved. What was there before stays.
MADE=() MOVED=()
undo() {
    set +e
    trap '' INT TERM HUP
    give_back "${MOVED[@]}"
    delete_namespaces "${MADE[@]}"
    exit 1
}

make_namespace() {
    if exists "$1"; then return; fi
    MADE+=("$1")
    ip netns add "$1"
}

move_in() { # namespace, port
    if in_namespace "$1" "$2"; then return; fi
    MOVED+=("$1")
    record "$1" "$2"
    ip link set dev "$2" netns "$1"
}

make_veth_pair() {
    if in_namespace "$NS_S" "$VETH_S" && in_namespace "$NS_C" "$VETH_C"; then return; fi
    # Half a pair is left by an up that was killed.
    ip -n "$NS_S" link delete "$VETH_S" 2>/dev/null || true
    ip -n "$NS_C" link delete "$VETH_C" 2>/dev/null || true
    # Made inside the namespaces, so that the names are free: the host may have links of the same name.
    ip link add "$VETH_S" netns "$NS_S" type veth peer name "$VETH_C" netns "$NS_C"
}

bring_up() { # namespace, port, address
    ip -n "$1" address replace "$3" dev "$2"
    if [ -n "$MTU" ]; then ip -n "$1" link set "$2" mtu "$MTU"; fi
    ip -n "$1" link set lo up
    ip -n "$1" link set "$2" up
}

refuse_other_port() { # namespace, the port that it may have
    local port
    port=$(moved_port "$1")
    [ -z "$port" ] || [ "$port" = "$2" ] ||
        fail "$1 has the network port $port: netns-setup.sh down gives it back first"
}

up() {
    local port_s=$VETH_S port_c=$VETH_C
    if [ -n "$NIC_S" ]; then
        port_s=$(port_name "$NIC_S") || fail "no network port $NIC_S: ip link shows what there is"
        port_c=$(port_name "$NIC_C") || fail "no network port $NIC_C: ip link shows what there is"
        [ "$port_s" != "$port_c" ] || fail "$NIC_S and $NIC_C are one network port"
    fi
    refuse_other_port "$NS_S" "$port_s"
    refuse_other_port "$NS_C" "$port_c"
    # From here on things are made.
    trap undo EXIT
    trap 'exit 1' INT TERM HUP
    make_namespace "$NS_S"
    make_namespace "$NS_C"
    if [ -n "$NIC_S" ]; then
        # Instead of veth, not beside it: two links with one address, and the wrong one is measured.
        ip -n "$NS_S" link delete "$VETH_S" 2>/dev/null || true
        move_in "$NS_S" "$port_s"
        move_in "$NS_C" "$port_c"
    else
        make_veth_pair
    fi
    bring_up "$NS_S" "$port_s" "$IP_S"
    bring_up "$NS_C" "$port_c" "$IP_C"
    trap - EXIT INT TERM HUP
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
            for port in "$NIC_S" "$NIC_C"; do
                case $port in
                '' | lo) bad_arguments "--nic takes network ports, not '$port'" ;;
                "$VETH_S" | "$VETH_C") bad_arguments "$port is the name of a link that this script makes: rename the port first" ;;
                esac
            done
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
up | down)
    take_lock
    refuse_torn_state
    ;;
esac
case $command in
up) up ;;
down) down ;;
status) status ;;
esac
