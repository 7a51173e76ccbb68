//! Every path, workload, layout and placement, between real namespaces, each byte checked.

mod common;

use std::process::ExitCode;

use common::{in_namespaces, measure};
use libtest_mimic::Failed;
use serde_json::Value;

const PATHS: [&str; 3] = ["two_copy", "one_copy", "zero_copy"];

fn main() -> ExitCode {
    let mut trials = Vec::new();
    for path in PATHS {
        for workload in ["rr", "stream"] {
            for layout in ["heap", "page"] {
                for placement in ["paired", "split", "free"] {
                    let case = format!(
                        "--workload {workload} --path {path} --layout {layout} --placement {placement}"
                    );
                    trials.push(in_namespaces(
                        &format!("{workload}/{path}/{layout}/{placement}"),
                        move || {
                            // A remainder in the last field, pages that are not full, and two pairs.
                            check(&measure(&format!("{case} --size 65543 --threads 2"))?)
                        },
                    ));
                }
            }
            trials.push(in_namespaces(&format!("sizes/{workload}/{path}"), move || {
                for size in ["8", "9", "63", "64", "4097", "1M", "16M"] {
                    let layout = if size == "4097" { "page" } else { "heap" };
                    let case = format!("--workload {workload} --path {path} --layout {layout} --size {size}");
                    match measure(&case) {
                        // An ordinary user may not pin 16 MiB under the usual limit; that says so.
                        Err(error) if path == "zero_copy" && size == "16M" && unprivileged() => {
                            let text = error.message().unwrap_or_default();
                            assert!(text.contains("RLIMIT_MEMLOCK"), "{text}");
                        }
                        result => check(&result?)?,
                    }
                }
                Ok(())
            }));
            trials.push(in_namespaces(&format!("256_pairs/{workload}/{path}"), move || {
                check(&measure(&format!("--workload {workload} --path {path} --size 64K --threads 256"))?)
            }));
        }
    }
    common::main(trials)
}

fn unprivileged() -> bool {
    !nix::unistd::geteuid().is_root()
}

/// What holds for every result.
fn check(result: &Value) -> Result<(), Failed> {
    let number = |name: &str| result[name].as_u64().ok_or(format!("{name} in {result}"));
    let case = result["case"].as_str().ok_or("no case")?;
    let messages = number("messages")?;
    assert!(messages > 0, "{result}");
    assert!(number("verified_messages")? > 0, "{result}");
    assert_eq!(number("payload_bytes_total")? % messages, 0, "{result}");
    let gbps = result["throughput_gbps"].as_f64().ok_or("no throughput")?;
    let expected = number("payload_bytes_total")? as f64 * 8.0 / number("elapsed_ns")? as f64;
    assert!((gbps / expected - 1.0).abs() < 1e-9, "{result}");

    let round_trips = ["rtt_p50_ns", "rtt_p90_ns", "rtt_p99_ns", "rtt_p999_ns", "rtt_max_ns"];
    if case.starts_with("rr/") {
        let values = round_trips.map(|name| number(name).expect("a round trip"));
        assert!(values.is_sorted() && values[0] > 0, "{result}");
        let mean_ns = result["rtt_mean_ns"].as_f64().ok_or("no mean")?;
        assert!(mean_ns > 0.0 && mean_ns <= values[4] as f64, "{result}");
    } else {
        assert!(round_trips.iter().all(|name| result[name].is_null()), "a stream has none: {result}");
    }

    let counts = &result["zero_copy"];
    if case.contains("/zero_copy/") {
        assert!(counts["sends"].as_u64() >= Some(messages), "a call for each message at least: {result}");
        assert_eq!(counts["sends"], counts["completions"], "every completion is reaped: {result}");
        assert!(counts["notifications"].as_u64() <= counts["completions"].as_u64(), "{result}");
        assert_eq!(counts["copied"], counts["completions"], "veth defers every copy: {result}");
        assert_eq!(counts["copied_share"], 1.0, "{result}");
    } else {
        assert!(counts.is_null(), "{result}");
    }
    Ok(())
}
