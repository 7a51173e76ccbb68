//! Every path, workload, layout and placement, between real namespaces, each byte checked.

use std::process::Command;

use crate::common::{in_namespaces, measure, pinning};
use libtest_mimic::{Failed, Trial};
use sendpath::case::{Engine, Layout, SendPath, Series};
use serde_json::Value;

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for way in crate::common::ways(Layout::Heap) {
        let Series { path, engine, .. } = way;
        for workload in ["rr", "stream"] {
            let name = format!("{workload}/{path}/{engine}");
            let of_way = format!("--workload {workload} --path {path} --engine {engine}");
            let is_studied = engine == Engine::Syscall && SendPath::STUDIED.contains(&path);
            for layout in ["heap", "page"].into_iter().take(if path == SendPath::File { 1 } else { 2 }) {
                for placement in ["paired", "split", "free"].into_iter().take(if is_studied { 3 } else { 1 })
                {
                    let case = format!("{of_way} --layout {layout} --placement {placement}");
                    trials.push(trial(way, &format!("{name}/{layout}/{placement}"), move || {
                        // A remainder in the last field, pages that are not full, and two pairs.
                        check(&measure(&format!("{case} --size 65543 --threads 2"))?)
                    }));
                }
            }
            let case = of_way.clone();
            trials.push(trial(way, &format!("sizes/{name}"), move || {
                let sizes: &[&str] = if is_studied {
                    &["8", "9", "63", "64", "4097", "1M", "16M"]
                } else {
                    &["8", "63", "4097", "1M"]
                };
                for &size in sizes {
                    let layout = if size == "4097" && path != SendPath::File { "page" } else { "heap" };
                    match measure(&format!("{case} --layout {layout} --size {size}")) {
                        // An ordinary user may not pin 16 MiB under the usual limit; that says so.
                        Err(error) if pins(way) && size == "16M" => {
                            beyond_memlock(&error)?;
                        }
                        // Nor, as one, the memory of all messages on pages of their own, beside the
                        // ring's.
                        Err(error) if engine == Engine::UringFixed && size == "4097" => {
                            beyond_memlock(&error)?;
                        }
                        result => check(&result?)?,
                    }
                }
                Ok(())
            }));
            let case = of_way.clone();
            trials.push(trial(way, &format!("shapes/{name}"), move || {
                // A header before a body, as many fields as there may be, sizes of all kinds, and a
                // trace.
                for (shape, receiver) in [
                    ("header", "buffer"),
                    ("fields:64", "mmap"),
                    ("1,24,8192,3,100K,4096", "fields"),
                    ("3x64|2x24,10K,1|1x4095", "unpack"),
                ] {
                    let size = if shape.contains(',') { "" } else { "--size 64K" };
                    check(&measure(&format!(
                        "{case} --shape {shape} {size} --receiver {receiver} --threads 2"
                    ))?)?;
                }
                Ok(())
            }));
            let case = of_way;
            // A ring pins memory of its own, and each polling thread keeps a CPU busy.
            let pairs = match engine {
                Engine::Syscall => 256,
                Engine::Uring | Engine::UringFixed => 16,
                Engine::UringSqpoll => 3,
            };
            trials.push(trial(way, &format!("{pairs}_pairs/{name}"), move || {
                match measure(&format!("{case} --size 64K --threads {pairs}")) {
                    // Sixteen pairs' memory at once is more than an ordinary user may lock.
                    Err(error) if engine == Engine::UringFixed => beyond_memlock(&error),
                    result => check(&result?),
                }
            }));
        }
    }
    trials.push(in_namespaces("pages_that_come_whole_are_mapped", || {
        // By whole pages in each segment: 4096 bytes beside 52 of headers.
        let case = "--path zero_copy --layout page --receiver mmap --mtu 4148";
        let result = measure(&format!("{case} --size 60K"))?;
        check(&result)?;
        assert_eq!(result["mapped_share"], 1.0, "{result}");
        // Of a trace, the share is of the bytes that came, whichever message they belong to.
        let result = measure(&format!("{case} --shape 1x60K|1x8"))?;
        let share = result["mapped_share"].as_f64().unwrap_or_default();
        assert!(share > 0.5 && share <= 1.0, "{result}");
        Ok(())
    }));
    trials.push(in_namespaces("of_huge_pages_is_said_which_kind_they_are", || {
        for case in ["--path two_copy", "--path zero_copy --threads 2", "--path one_copy --receiver fields"] {
            let result = match measure(&format!("--layout huge {case}")) {
                Err(error) if error.message().is_some_and(|text| text.contains("mmap(2) of huge pages")) => {
                    eprintln!("left out: {}", error.message().unwrap_or_default());
                    return Ok(());
                }
                result => result?,
            };
            check(&result)?;
            let kinds = result["huge_pages"].as_array().ok_or("no kind")?;
            assert!(!kinds.is_empty(), "{result}");
            assert!(
                kinds.iter().all(|kind| kind == "huge_reserved" || kind == "huge_transparent"),
                "{result}"
            );
        }
        assert!(measure("--layout page")?["huge_pages"].is_null());
        Ok(())
    }));
    trials.push(in_namespaces("cpu_time_that_a_namespace_of_process_ids_hides_is_refused", hidden_cpu_time));
    trials
}

/// What another trial pins would be missing from what an ordinary user may.
fn trial(way: Series, name: &str, test: impl FnOnce() -> Result<(), Failed> + Send + 'static) -> Trial {
    if pins(way) || way.engine == Engine::UringFixed {
        pinning(name, test)
    } else {
        in_namespaces(name, test)
    }
}

/// Whether the kernel pins what is sent, for which a limit holds.
fn pins(way: Series) -> bool {
    matches!(way.path, SendPath::ZeroCopy | SendPath::HybridZero)
}

fn beyond_memlock(error: &Failed) -> Result<(), Failed> {
    let text = error.message().unwrap_or_default();
    if crate::common::is_beyond_memlock(text) { Ok(()) } else { Err(text.into()) }
}

/// What holds for every result.
fn check(result: &Value) -> Result<(), Failed> {
    let number = |name: &str| result[name].as_u64().ok_or(format!("{name} in {result}"));
    let case = result["case"].as_str().ok_or("no case")?;
    let messages = number("messages")?;
    assert!(messages > 0, "{result}");
    assert!(number("verified_messages")? > 0, "{result}");
    let is_trace = case.contains('|');
    assert!(is_trace || number("payload_bytes_total")?.is_multiple_of(messages), "{result}");
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
    // Of a hybrid, messages whose fields are all small go without the flag.
    let is_hybrid = case.contains("/hybrid_zero/");
    if case.contains("/zero_copy/") || is_hybrid {
        let calls = counts["sends"].as_u64();
        assert!(calls >= Some(messages) || is_hybrid, "a call for each message at least: {result}");
        assert_eq!(counts["sends"], counts["completions"], "every completion is reaped: {result}");
        assert!(counts["notifications"].as_u64() <= counts["completions"].as_u64(), "{result}");
        assert_eq!(counts["copied"], counts["completions"], "veth defers every copy: {result}");
        assert!(counts["copied_share"] == 1.0 || calls == Some(0), "{result}");
    } else {
        assert!(counts.is_null(), "{result}");
    }
    Ok(())
}

/// As in a container: which threads of the kernel poll is told by ids of the namespace outside.
fn hidden_cpu_time() -> Result<(), Failed> {
    let way = Series { engine: Engine::UringSqpoll, ..Series::new(SendPath::OneCopy, Layout::Heap) };
    if !crate::common::is_offered(way) {
        return Ok(());
    }
    let result = measure("--path one_copy --engine uring_sqpoll --threads 2")?;
    assert!(result["server_system_ns"].is_u64() && result["server_cpu_untold"].is_null(), "{result}");
    for threads in [1, 2] {
        let mut command = crate::common::clean(Command::new("unshare"));
        command.args(["--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        command.args([env!("CARGO_BIN_EXE_sendpath"), "run", "--json", "--duration", "20ms"]);
        command.args(["--path", "one_copy", "--engine", "uring_sqpoll", "--threads", &threads.to_string()]);
        let output = command.output()?;
        assert!(output.status.success(), "{}", crate::common::stderr(&output));
        let result: Value = serde_json::from_slice(&output.stdout)?;
        for column in ["server_user_ns", "server_system_ns"] {
            assert_eq!(result[column], Value::Null, "{threads} pairs: {result}");
        }
        let reason = result["server_cpu_untold"].as_str().unwrap_or_default();
        assert!(reason.contains("which thread polls the ring"), "{threads} pairs: {reason}");
        assert!(result["client_system_ns"].is_u64(), "{result}");
    }
    Ok(())
}
