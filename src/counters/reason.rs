//! Why an event cannot be opened, in words, with what lifts it. See `perf_event_open(2)`, "ERRORS".

use std::path::Path;
use std::sync::LazyLock;

use crate::limits;

use crate::event::{CounterSource, Event};

/// What is known when an event is refused.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The event.
    pub event: Event,
    /// The errno of `perf_event_open(2)`; none where the event was not even tried.
    pub errno: Option<i32>,
    /// `kernel.perf_event_paranoid`.
    pub paranoid: String,
    /// Whether the CPU says that it is a virtual one.
    pub virtual_machine: bool,
}

impl Refusal {
    pub(super) fn on_this_machine(event: Event, errno: Option<i32>) -> Self {
        static FACTS: LazyLock<(String, bool)> = LazyLock::new(|| {
            (limits::sysctl("kernel/perf_event_paranoid"), limits::is_virtual_machine(Path::new("/")))
        });
        let (paranoid, virtual_machine) = FACTS.clone();
        Self { event, errno, paranoid, virtual_machine }
    }
}

/// The reason in words, and the command or the change that lifts it.
#[must_use]
pub fn explain(refusal: &Refusal) -> String {
    let Refusal { event, errno, paranoid, virtual_machine } = refusal;
    match (errno, event.source()) {
        (None, _) => "there is no msr PMU: x86 alone has one (in a container: is /sys mounted?)".to_owned(),
        (Some(libc::EACCES | libc::EPERM), _) if paranoid.parse().is_ok_and(|level: i32| level <= 1) => {
            "not allowed, though kernel.perf_event_paranoid would: a container's seccomp filter forbids it: start \
             the container with `--cap-add PERFMON`"
                .to_owned()
        }
        (Some(libc::EACCES | libc::EPERM), _) => format!(
            "not allowed: kernel.perf_event_paranoid is {paranoid}, and counting the kernel's part takes 1 or less, or \
             CAP_PERFMON: `sudo sysctl -w kernel.perf_event_paranoid=1` (in a container also `--cap-add PERFMON`)"
        ),
        (Some(libc::ENOSYS), _) => {
            "the kernel has no perf_event_open, or a container's seccomp filter hides \
                                    it: start the container with `--security-opt seccomp=unconfined`"
                .to_owned()
        }
        (Some(libc::ENOENT | libc::EOPNOTSUPP | libc::ENODEV), CounterSource::Core) if *virtual_machine => format!(
            "this virtual machine has no PMU that counts it ({}): run on bare metal, or have the hypervisor give \
             it one (QEMU: -cpu host,pmu=on)",
            errno_name(*errno)
        ),
        (Some(libc::ENOENT | libc::EOPNOTSUPP | libc::ENODEV), _) => {
            format!("this CPU's PMU does not count it ({})", errno_name(*errno))
        }
        (Some(libc::EMFILE), _) => format!(
            "RLIMIT_NOFILE is {}, and each event takes a descriptor per thread: `ulimit -n 65536`",
            limits::soft(rustix::process::Resource::Nofile)
        ),
        (Some(errno), _) => {
            format!("perf_event_open(2): {}", std::io::Error::from_raw_os_error(*errno))
        }
    }
}

fn errno_name(errno: Option<i32>) -> &'static str {
    match errno {
        Some(libc::ENOENT) => "ENOENT",
        Some(libc::EOPNOTSUPP) => "EOPNOTSUPP",
        Some(libc::ENODEV) => "ENODEV",
        _ => "refused",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(event: Event, errno: i32, virtual_machine: bool) -> String {
        explain(&Refusal { event, errno: Some(errno), paranoid: "2".to_owned(), virtual_machine })
    }

    #[test]
    fn each_errno_is_explained_with_what_lifts_it() {
        for (errno, word) in [
            (libc::EACCES, "perf_event_paranoid is 2"),
            (libc::EPERM, "sysctl -w kernel.perf_event_paranoid=1"),
            (libc::ENOSYS, "seccomp"),
            (libc::ENOENT, "pmu=on"),
            (libc::EOPNOTSUPP, "pmu=on"),
            (libc::EMFILE, "ulimit -n"),
            (libc::EBUSY, "busy"),
        ] {
            let text = why(Event::Cycles, errno, true);
            assert!(text.contains(word), "{errno}: {text}");
        }
    }

    #[test]
    fn where_the_switch_allows_it_the_container_is_to_blame() {
        let refusal = Refusal {
            event: Event::Cycles,
            errno: Some(libc::EPERM),
            paranoid: "-1".to_owned(),
            virtual_machine: false,
        };
        let text = explain(&refusal);
        assert!(text.contains("`--cap-add PERFMON`") && !text.contains("sysctl"), "{text}");
    }

    #[test]
    fn a_real_machine_is_not_told_to_ask_its_hypervisor() {
        assert!(!why(Event::LlcLoadMisses, libc::ENOENT, false).contains("virtual"));
        assert!(!why(Event::TaskClock, libc::ENOENT, true).contains("virtual"), "the kernel counts that one");
    }
}
