// Buffers that move with their owner would be sent from where they were.
#![forbid(unsafe_code)]

use sendpath::path::Buffers;

struct Inline([u8; 64]);

impl Buffers for Inline {
    fn pieces(&self) -> usize {
        1
    }

    fn piece(&self, _index: usize) -> &[u8] {
        &self.0
    }
}

fn main() {}
