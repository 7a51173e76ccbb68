//! Namespaces, links and sockets are what was asked for, as the kernel reads them back.

use std::process::{Command, Output};

use crate::common::{clean, in_namespaces, run, skip, stderr, where_possible};
use libtest_mimic::{Completion, Failed, Trial};

pub fn trials() -> Vec<Trial> {
    vec![
        in_namespaces("the_two_ends_are_in_namespaces_of_their_own", own_namespaces),
        in_namespaces("an_mtu_is_set_on_both_ends_and_read_back", mtu_is_read_back),
        in_namespaces("buffers_are_fixed_or_left_and_read_back", buffers_are_read_back),
        in_namespaces("split_is_refused_where_there_is_one_cpu", split_needs_two_cpus),
        lasting("lasting_namespaces_are_made_used_and_taken_away", LASTING),
        lasting("network_ports_are_moved_in_and_given_back", PORTS),
        lasting("a_failure_half_way_leaves_nothing", HALF_WAY),
        lasting("devices_that_the_kernel_keeps_in_a_namespace_do_not_stop_down", IMMOVABLE),
        ports("ports_get_their_addresses_routes_mtu_and_state_back", RESTORED),
        ports("ports_are_restored_after_an_up_that_failed_or_was_ended", INTERRUPTED),
        ports("down_reports_what_it_cannot_undo_and_does_the_rest", NOT_UNDONE),
        lasting("links_of_the_host_with_the_names_of_the_veth_pair_stay", SAME_NAMES),
        lasting("a_record_that_is_not_whole_is_an_error_and_changes_nothing", TORN_RECORD),
        lasting("two_setups_do_not_work_at_once", LOCKED),
        lasting("namespaces_without_a_common_subnet_are_refused", NO_SUBNET),
        lasting("doctor_knows_zero_copy_where_loopback_is_down", LOOPBACK_DOWN),
    ]
}

fn settings(arguments: &str) -> Result<String, Failed> {
    let output = run(&format!("--size 64 --duration 5ms {arguments}"));
    if output.status.success() { Ok(stderr(&output)) } else { Err(stderr(&output).into()) }
}

fn own_namespaces() -> Result<(), Failed> {
    let text = settings("")?;
    assert!(text.contains("anonymous network namespaces"), "{text}");
    assert!(text.contains("veth_s 10.200.1.1 (server), veth_c 10.200.1.2 (client)"), "{text}");
    assert!(text.contains("nodelay on"), "{text}");
    Ok(())
}

fn mtu_is_read_back() -> Result<(), Failed> {
    assert!(settings("")?.contains("1500 and 1500 bytes"));
    assert!(settings("--mtu 9000")?.contains("9000 and 9000 bytes"));
    Ok(())
}

fn buffers_are_read_back() -> Result<(), Failed> {
    // The kernel doubles what is asked for (socket(7)).
    let text = settings("--buffers 64K")?;
    assert!(text.contains("131072/131072 bytes (server), 131072/131072 bytes (client)"), "{text}");
    let text = settings("--buffers auto")?;
    assert!(!text.contains("131072/131072 bytes (server)") && text.contains("asked auto"), "{text}");
    Ok(())
}

fn split_needs_two_cpus() -> Result<(), Failed> {
    let mut command = Command::new("taskset");
    command.args(["-c", "0", env!("CARGO_BIN_EXE_sendpath"), "run", "--placement", "split"]);
    let output = clean(command).output()?;
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("placement split needs two CPUs"), "{text}");
    Ok(())
}

/// Runs a script in a network and mount namespace of its own, so that what it makes under
/// /run/netns is seen by nobody else. `$SENDPATH` and `$SETUP` are the two programs.
pub fn lasting(name: &str, script: impl Into<String>) -> Trial {
    let script = script.into();
    where_possible(name, move || {
        if Command::new("ip").arg("-V").output().is_err() {
            return skip("the ip program is missing (package iproute2)");
        }
        let sandbox = |script: &str| -> Result<Output, Failed> {
            let mut command = Command::new("unshare");
            command.args(["--net", "--mount"]);
            if !nix::unistd::geteuid().is_root() {
                command.args(["--user", "--map-root-user"]);
            }
            command.args(["bash", "-euc", &format!("mount -t tmpfs none /run\ncd /run\n{script}")]);
            let mut command = clean(command);
            command.env("SENDPATH", env!("CARGO_BIN_EXE_sendpath"));
            command.env("SETUP", concat!(env!("CARGO_MANIFEST_DIR"), "/netns-setup.sh"));
            Ok(command.output()?)
        };
        let probe = sandbox("true")?;
        if !probe.status.success() {
            return skip(&stderr(&probe));
        }
        let output = sandbox(&script)?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stdout);
            return Err(format!("{}\n{text}{}", output.status, stderr(&output)).into());
        }
        Ok(Completion::Completed)
    })
}

/// As `lasting`, with two ports that have settings to lose.
fn ports(name: &str, script: &'static str) -> Trial {
    lasting(name, [CONFIGURED_PORTS, script].concat())
}

const LASTING: &str = r#"
"$SETUP" status | grep -q 'ns_s: does not exist'
"$SETUP" up --mtu 4000
"$SETUP" up                                     # twice is once
"$SETUP" status | grep -q 'veth_c.*10.200.1.2/24'
SENDPATH_NETNS=ns_s,ns_c "$SENDPATH" run --duration 10ms 2>settings
grep -q 'namespaces ns_s (server) and ns_c (client)' settings
grep -q '4000 and 4000 bytes' settings
[ "$("$SENDPATH" run --netns ns_s,ns_c --mtu 9000 2>&1 | wc -l)" = 1 ]
ip -n ns_c link delete veth_c                   # half a set-up is made whole
"$SETUP" up
"$SENDPATH" run --netns ns_s,ns_c --duration 10ms
"$SETUP" down
"$SETUP" down                                   # twice is once
[ -z "$(ip netns list)" ]
"#;

const PORTS: &str = r#"
ip link add port_a type veth peer name port_b
"$SETUP" up                                     # ports come instead of veth, not beside it
"$SETUP" up --nic port_a port_b
if ip link show port_a 2>/dev/null; then exit 1; fi
"$SETUP" up --nic port_a port_b                 # twice is once
"$SENDPATH" run --netns ns_s,ns_c --duration 10ms 2>settings
grep -q 'port_a 10.200.1.1 (server), port_b 10.200.1.2 (client)' settings
if "$SETUP" up; then exit 1; fi                 # veth beside the ports would be measured in their place
"$SETUP" down
ip link show port_a
ip link show port_b
[ -z "$(ip netns list)" ]
if "$SETUP" up --nic port_a port_z; then exit 1; fi
[ -z "$(ip netns list)" ]
"#;

const HALF_WAY: &str = r#"
if "$SETUP" up --mtu 999999999; then exit 1; fi # the namespaces are made before the link refuses this
[ -z "$(ip netns list)" ]
if ip link show veth_s 2>/dev/null; then exit 1; fi
for bad in 'up --mtu' 'up --mtu x' 'up --nic a' 'up --nic a a' 'down x' 'sideways'; do
    code=0
    "$SETUP" $bad || code=$?
    [ $code = 2 ]
done
"#;

// A bridge stands in for sit0, tunl0, gre0 and their like: where those modules are loaded, the
// kernel makes such a device in every namespace, and as with a bridge, it cannot be moved to
// another.
const IMMOVABLE: &str = r#"
ip link add port_a type veth peer name port_b
for arguments in '' '--nic port_a port_b'; do
    "$SETUP" up $arguments
    ip -n ns_s link add immovable type bridge
    if ip -n ns_s link set immovable netns $$; then exit 1; fi
    "$SETUP" up $arguments                      # it is not taken for a port that was moved in
    "$SETUP" down
    [ -z "$(ip netns list)" ]
done
ip link show port_a
ip link show port_b
"#;

// `settings` prints what a port has to have again: not the carrier, and not what the kernel makes
// by itself. port_a is up; port_b is down, and has an MTU and an address all the same.
const CONFIGURED_PORTS: &str = r#"
ip link add port_a type veth peer name far_a
ip link add port_b mtu 1300 type veth peer name far_b
ip link add bridge type bridge
ip link set port_a mtu 1400 up
ip link set far_a up
ip link set far_b up
ip address add 10.9.1.1/24 brd + dev port_a
ip address add 10.9.1.2/24 dev port_a label port_a:1
ip address add 10.9.2.1 peer 10.9.2.2/32 dev port_a noprefixroute valid_lft 4000 preferred_lft 3000
ip address add 10.9.3.1/24 dev port_b
ip address add 10.9.7.1/24 dev far_b
ip route append 10.9.1.0/24 dev far_a           # the same network on a port that stays
ip route add 10.9.4.0/24 dev port_a scope link src 10.9.1.2 metric 7
ip route add default via 10.9.4.9 dev port_a mtu 1200
ip route add 10.9.5.0/24 via 10.9.4.9 table 77
ip route add 10.9.6.0/24 nexthop via 10.9.1.9 dev port_a weight 2 nexthop dev far_b
ip link set port_b master bridge
if [ -e /proc/net/if_inet6 ]; then
    ip address add fd09:1::1/64 dev port_a nodad
    ip address add fd09:7::1/64 dev far_a nodad
    ip route add fd09:4::/64 dev port_a src fd09:1::1 metric 9
    ip route add fd09:5::/64 via fd09:1::9 dev port_a
    ip -6 route append fd09:4::/64 dev far_a metric 9
    ip route add fd09:6::/64 nexthop via fd09:1::9 dev port_a nexthop via fd09:7::9 dev far_a
fi
settings() {
    for port in port_a port_b; do
        ip -o link show dev $port | grep -oE '[<,]UP[,>]|(mtu|master) [^ ]+' || true
    done
    ip -o address show scope global | sed -E 's/^[0-9]+: //; s/ (nodad|tentative)//g; s/[0-9]+sec/lifetime/g'
    ip -4 route show table all | sed 's/ linkdown//; s/ dead//' | grep -v ' table local ' | sort
    ip -6 route show table all | sed 's/ linkdown//; s/ dead//' | grep -vE ' table local |^fe80::' | sort
}
settings >before
as_before() {
    settings >after
    diff before after
    [ ! -e /run/sendpath-netns ]
    [ -z "$(ip netns list)" ]
}
"#;

const RESTORED: &str = r#"
"$SETUP" up --mtu 2000 --nic port_a port_b
"$SETUP" up --mtu 3000 --nic port_a port_b      # what is kept is how the ports came
[ "$(stat -c %a /run/sendpath-netns)" = 700 ]
if "$SETUP" up --nic port_b port_a; then exit 1; fi
[ -z "$(ip -n ns_s -o address show to 10.9.0.0/16)" ]
"$SETUP" down
as_before
"#;

// An `ip` of its own ends the script just before it moves the second port.
const INTERRUPTED: &str = r#"
if "$SETUP" up --mtu 999999999 --nic port_a port_b; then exit 1; fi
as_before
mkdir bin
cat >bin/ip <<EOF
#!/bin/sh
if [ "\$*" = 'link set dev port_b netns ns_c' ]; then
    kill -\$SIGNAL \$PPID
    if [ \$SIGNAL = KILL ]; then exit; fi
fi
exec $(command -v ip) "\$@"
EOF
chmod +x bin/ip
code=0
SIGNAL=TERM PATH=$PWD/bin:$PATH "$SETUP" up --nic port_a port_b || code=$?
[ $code = 1 ]
as_before
code=0
SIGNAL=KILL PATH=$PWD/bin:$PATH "$SETUP" up --nic port_a port_b || code=$?
[ $code = 137 ]
ip -n ns_s link show port_a
"$SETUP" down
as_before
"#;

const NOT_UNDONE: &str = r#"
ip route add 10.9.8.0/24 dev port_a src 10.9.7.1
"$SETUP" up --nic port_a port_b
ip address delete 10.9.7.1/24 dev far_b         # the route's source address is gone
ip link add port_b type bridge                  # the port's name is taken
code=0
"$SETUP" down 2>report || code=$?
cat report
[ $code = 1 ]
grep -q 'not restored: .* run: ip -4 route append 10.9.8.0/24 ' report
grep -q 'ns_c keeps the network port port_b' report
ip address show port_a | grep -q 10.9.1.1/24
[ "$(ip netns list | cut -d' ' -f1)" = ns_c ]   # with the port, which would be lost with it
ip link delete port_b
"$SETUP" down
ip link show port_b | grep -q 'mtu 1300 .*master bridge'
[ -z "$(ip netns list)" ]
"#;

const SAME_NAMES: &str = r#"
ip link add veth_s type veth peer name veth_c
ip -o link show >before
"$SETUP" up
if "$SETUP" up --mtu 999999999; then exit 1; fi
"$SENDPATH" run --netns ns_s,ns_c --duration 10ms
"$SETUP" down
if "$SETUP" up --mtu 999999999; then exit 1; fi
"$SETUP" down
ip -o link show | diff before -
code=0
"$SETUP" up --nic veth_s veth_c || code=$?
[ $code = 2 ]
"#;

const TORN_RECORD: &str = r#"
"$SETUP" up
mkdir -p sendpath-netns/ns_s
for part in port link addresses routes; do
    for command in up down; do
        code=0
        "$SETUP" $command 2>refusal || code=$?
        [ $code = 1 ]
        [ "$(grep -c . refusal)" = 1 ]
        grep -q "sendpath-netns/ns_s.*nothing was changed" refusal
    done
    echo "port p" >sendpath-netns/ns_s/$part
    ip -n ns_s link show dev veth_s >shown
done
rm -r sendpath-netns
"$SETUP" down
"#;

const LOCKED: &str = r#"
exec 9>sendpath-netns.lock
flock 9
for command in up down; do
    code=0
    "$SETUP" $command 2>refusal || code=$?
    [ $code = 1 ]
    grep -q 'another netns-setup.sh is at work' refusal
done
exec 9>&-
"$SETUP" up
"$SETUP" down
"#;

const NO_SUBNET: &str = r#"
"$SETUP" up
ip -n ns_c address flush dev veth_c
code=0
"$SENDPATH" run --netns ns_s,ns_c 2>refusal || code=$?
[ $code = 1 ]
grep -q 'share no subnet.*netns-setup.sh up' refusal
"$SETUP" down
"#;

const LOOPBACK_DOWN: &str = r#"
ip link set lo down
"$SENDPATH" doctor --netns loopback >checks
grep -E '^ok +zerocopy ' checks
grep -E '^(ok|limited) +softirq-time ' checks
"#;
