//! Which messages a pair sends, and how many may be in flight: the same for every path, so that nothing but the
//! sending differs between them.

use crate::case::{Case, Layout, Receiver, SendPath, Source, Workload};
use crate::message::{field_bytes, page_bytes};
use crate::sample::Side;
use crate::topology::cache;

/// So many bytes of a pair's stream may be in flight: more than a local link or a wire of 100 Gb/s and 80 µs
/// takes to stay busy, and no more than a core's own caches hold.
const IN_FLIGHT_BYTES: usize = 1 << 20;
/// A stream of small messages has no more of them in flight. Twice this would gain nothing: a request is asked
/// for every half of them.
const MOST_IN_FLIGHT: usize = 256;
/// The unit in which a cache holds memory.
const LINE_BYTES: usize = 64;

/// How many messages of a pair may be in flight, from request to receipt. The client asks for no more.
#[must_use]
pub fn in_flight_messages(case: &Case) -> usize {
    match case.workload {
        Workload::Rr => 1,
        Workload::Stream => (IN_FLIGHT_BYTES / case.payload_bytes).clamp(2, MOST_IN_FLIGHT),
    }
}

/// How many messages a pair sends in turn.
///
/// `hot`: as many as may be in flight, so that `zero_copy` finds one that the kernel has let go of; and two at
/// the least, so that it can reap the completions of both at once. `cold`: so many that those of all pairs
/// together fill twice the machine's last-level caches.
#[must_use]
pub fn source_messages(case: &Case) -> usize {
    match case.source {
        Source::Hot => hot_messages(case),
        Source::Cold => {
            let pair_bytes = 2 * cache::last_level_bytes() / case.threads;
            hot_messages(case).max(pair_bytes.div_ceil(cache_bytes(case.payload_bytes)))
        }
    }
}

/// How many messages a pair with a `hot` source sends in turn.
pub(super) fn hot_messages(case: &Case) -> usize {
    in_flight_messages(case).max(2)
}

/// Bytes of cache that the fields of a message take: whole lines.
fn cache_bytes(payload_bytes: usize) -> usize {
    field_bytes(payload_bytes).map(|bytes| bytes.next_multiple_of(LINE_BYTES).max(LINE_BYTES)).iter().sum()
}

/// Bytes of memory that the fields of a message take, with what the allocator and [`Layout::Page`] add.
fn memory_bytes(case: &Case) -> usize {
    /// What the allocator keeps beside a block, and what a message keeps of each field.
    const BESIDE: usize = 64;
    let field = |bytes: usize| match case.layout {
        Layout::Heap => bytes.next_multiple_of(16) + BESIDE,
        Layout::Page => bytes.next_multiple_of(page_bytes()) + page_bytes() + BESIDE,
    };
    field_bytes(case.payload_bytes).map(field).iter().sum()
}

/// Bytes of memory that a case's messages and buffers take on one side.
#[must_use]
pub fn buffer_bytes(case: &Case, side: Side) -> usize {
    let payload_bytes = case.payload_bytes;
    let fields = memory_bytes(case);
    let pair = match side {
        Side::Server => {
            let packed = if case.path == SendPath::TwoCopy { payload_bytes } else { 0 };
            source_messages(case) * fields + packed
        }
        Side::Client => match case.receiver.for_path(case.path) {
            Receiver::Buffer => payload_bytes,
            Receiver::Fields => fields,
            Receiver::Unpack | Receiver::Matched => payload_bytes + fields,
            Receiver::Discard | Receiver::Sink => 0,
        },
    };
    case.threads * pair
}

#[cfg(test)]
mod tests {
    use super::*;
    use strum::VariantArray;

    #[test]
    fn every_path_has_as_many_messages_and_as_many_in_flight() {
        for &workload in <Workload as VariantArray>::VARIANTS {
            for &source in <Source as VariantArray>::VARIANTS {
                for payload_bytes in [8, 64, 4096, 65536, 1 << 20, 16 << 20] {
                    let of = |path| {
                        let case = Case { workload, path, payload_bytes, source, ..Case::default() };
                        (source_messages(&case), in_flight_messages(&case))
                    };
                    let two_copy = of(SendPath::TwoCopy);
                    assert_eq!([of(SendPath::OneCopy), of(SendPath::ZeroCopy)], [two_copy; 2]);
                    assert!(two_copy.0 >= two_copy.1, "a message in flight is not written again");
                }
            }
        }
    }

    #[test]
    fn a_cold_set_on_pages_of_their_own_is_known_to_take_them() {
        let case = Case { source: Source::Cold, payload_bytes: 64, layout: Layout::Page, ..Case::default() };
        let pages = source_messages(&case) * 8 * page_bytes();
        assert!(buffer_bytes(&case, Side::Server) >= pages, "the memory check would let it through");
    }

    #[test]
    fn a_cold_set_is_larger_than_twice_the_last_level_cache() {
        for (payload_bytes, threads) in [(64, 1), (65536, 1), (65536, 4), (1 << 20, 256)] {
            let case = Case { source: Source::Cold, payload_bytes, threads, ..Case::default() };
            let all_bytes = source_messages(&case) * cache_bytes(payload_bytes) * threads;
            assert!(all_bytes >= 2 * cache::last_level_bytes(), "{case}");
        }
    }
}
