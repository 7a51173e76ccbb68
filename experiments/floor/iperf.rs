//! `stream` against `iperf3`, where that is installed: the same namespaces, congestion control and
//! CPUs.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use super::ratios::ratio;
use sendpath::case::{Case, Layout, Placement, SendPath, Workload};
use sendpath::error::{Error, Result};
use sendpath::measure::burst::{time, warm_up};
use sendpath::pair::{Mode, Testbed};
use sendpath::sample::Side;

const ROUNDS: usize = 15;
const SECOND: std::time::Duration = std::time::Duration::from_secs(1);

#[derive(Clone, Copy)]
enum Program {
    Sendpath,
    Iperf3,
}

/// Prints the ratio of the two throughputs, or why there is none.
pub fn compare(testbed: &Testbed, client_netns: &File) -> Result<()> {
    let cpus = &testbed.effective().cpus;
    if cpus.numbers().len() < 2 {
        println!("  stream against iperf3: not measured, since it takes two CPUs");
        return Ok(());
    }
    if Command::new("iperf3").arg("--version").output().is_err() {
        println!("  stream against iperf3: not measured, since iperf3 is not installed");
        return Ok(());
    }
    // The CPUs of the suite's own pair.
    let cpu = |side| Ok::<_, Error>(cpus.place(Placement::Split, side, 0)?[0]);
    let (server_cpu, client_cpu) = (cpu(Side::Server)?, cpu(Side::Client)?);
    let server_address = testbed.effective().server_link.address.to_string();
    let mut ratios = Vec::new();
    for round in 0..ROUNDS {
        let ours = || -> Result<f64> {
            let mut instance = testbed.open(Case {
                workload: Workload::Stream,
                path: SendPath::OneCopy,
                layout: Layout::Heap,
                payload_bytes: 64 << 10,
                threads: 1,
                placement: Placement::Split,
                ..Case::default()
            })?;
            warm_up(&mut instance)?;
            let sample = time(&mut instance, SECOND, Mode::Time)?;
            Ok((sample.messages * (64 << 10) * 8) as f64 / sample.elapsed_ns as f64)
        };
        let theirs = || -> std::io::Result<f64> {
            let _server = Ended(serve(server_cpu)?);
            let mut client = Command::new("iperf3");
            client.args(["-c", &server_address, "-R", "-l", "64K", "-t", "1", "-C", "reno", "-J"]);
            client.args(["-A", &client_cpu.to_string()]).stderr(Stdio::null());
            let netns = client_netns.as_raw_fd();
            // SAFETY: between fork and exec the child makes one system call and allocates nothing.
            unsafe {
                client.pre_exec(move || match libc::setns(netns, libc::CLONE_NEWNET) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                });
            }
            let report: serde_json::Value = serde_json::from_slice(&client.output()?.stdout)?;
            report["end"]["sum_received"]["bits_per_second"]
                .as_f64()
                .map(|bits| bits / 1e9)
                .ok_or_else(|| std::io::Error::other(report.to_string()))
        };
        ratios.push(ratio(round, Program::Sendpath, Program::Iperf3, |program| match program {
            Program::Sendpath => ours(),
            Program::Iperf3 => theirs().map_err(Error::call("iperf3")),
        })?);
    }
    let name = "one_copy stream, throughput of iperf3 -R -l 64K's";
    println!("medians of {ROUNDS} rounds of a second, one pair, server and client on different CPUs");
    super::print_ratio("64 KiB × 1", name, ratios, Some(&super::Bar::AtLeast(1.0)));
    Ok(())
}

/// A server for one client, once it listens.
fn serve(cpu: usize) -> std::io::Result<Child> {
    let mut child = Command::new("iperf3")
        .args(["-s", "-1", "--forceflush", "-A", &cpu.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    for line in lines {
        if line?.contains("listening") {
            return Ok(child);
        }
    }
    Err(std::io::Error::other("iperf3 -s ended"))
}

/// Ends the child and waits for it, whatever happened.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
