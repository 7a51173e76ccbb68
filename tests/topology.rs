//! Namespaces, links and sockets are what was asked for, as the kernel reads them back.

mod common;

use std::process::{Command, ExitCode, Output};

use common::{clean, in_namespaces, run, skip, stderr};
use libtest_mimic::{Completion, Failed, Trial};

fn main() -> ExitCode {
    common::main(vec![
        in_namespaces("the_two_ends_are_in_namespaces_of_their_own", own_namespaces),
        in_namespaces("an_mtu_is_set_on_both_ends_and_read_back", mtu_is_read_back),
        in_namespaces("buffers_are_fixed_or_left_and_read_back", buffers_are_read_back),
        in_namespaces("split_is_refused_where_there_is_one_cpu", split_needs_two_cpus),
        lasting("lasting_namespaces_are_made_used_and_taken_away", LASTING),
        lasting("network_ports_are_moved_in_and_given_back", PORTS),
        lasting("a_failure_half_way_leaves_nothing", HALF_WAY),
        lasting("namespaces_without_a_common_subnet_are_refused", NO_SUBNET),
        lasting("doctor_knows_zero_copy_where_loopback_is_down", LOOPBACK_DOWN),
    ])
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

/// Runs a script in a network and mount namespace of its own, so that what it makes under /run/netns is
/// seen by nobody else. `$SENDPATH` and `$SETUP` are the two programs.
fn lasting(name: &str, script: &'static str) -> Trial {
    Trial::ignorable_test(name, move || {
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
        let output = sandbox(script)?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stdout);
            return Err(format!("{}\n{text}{}", output.status, stderr(&output)).into());
        }
        Ok(Completion::Completed)
    })
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

const NO_SUBNET: &str = r#"
"$SETUP" up
ip -n ns_c address flush dev veth_c
code=0
"$SENDPATH" run --netns ns_s,ns_c 2>refusal || code=$?
[ $code = 1 ]
grep -q 'share no IPv4 subnet.*netns-setup.sh up' refusal
"$SETUP" down
"#;

const LOOPBACK_DOWN: &str = r#"
ip link set lo down
"$SENDPATH" doctor --netns loopback >checks
grep -E '^ok +zerocopy ' checks
grep -E '^(ok|limited) +softirq-time ' checks
"#;
