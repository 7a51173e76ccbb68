// Only the mapping of messages is registered with a ring.
#![forbid(unsafe_code)]

use sendpath::path::uring::{Operation, Registered};

fn main() {
    let _ = Operation::Fixed(Registered::range(std::ptr::null(), 4096));
}
