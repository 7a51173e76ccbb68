//! What the kernel tells of this machine, and the limits of the process and the cgroup that bear on
//! what can be measured.

pub(crate) mod cgroup;
pub(crate) mod file;
pub(crate) mod load;
mod machine;
mod refused;
pub(crate) mod softirq;
mod surroundings;

pub use crate::pinning::{has_capability, memlock, memlock_bytes, sysctl};
pub use machine::{available_memory_bytes, is_virtual_machine};
pub(crate) use machine::{pinnable_bytes, soft};
pub(crate) use refused::{forbids_user_namespaces, lacks, no_user_namespace, not_run, refused};
pub use surroundings::{boot_id, machine};
pub(crate) use surroundings::{host_name, max_skb_frags, smt, utc_now, vulnerabilities};
