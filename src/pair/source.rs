//! Which messages a pair sends, and how many may be in flight: the same for every path, so that
//! nothing but the sending differs between them.

use super::Mode;
use crate::case::{Case, Engine, Layout, Receiver, SendPath, Source, Workload};
use crate::error::{Error, Result};
use crate::host;
use crate::message::{huge_page_bytes, page_bytes};
use crate::sample::Side;
use crate::topology::cache;

/// So many bytes of a pair's stream may be in flight: more than a local link or a wire of 100 Gb/s
/// and 80 µs takes to stay busy, and no more than a core's own caches hold.
const IN_FLIGHT_BYTES: usize = 1 << 20;
/// A stream of small messages has no more of them in flight. Twice this would gain nothing: a
/// request is asked for every half of them.
const MOST_IN_FLIGHT: usize = 256;
/// The unit in which a cache holds memory.
const LINE_BYTES: usize = 64;

/// How many messages of a pair may be in flight, from request to receipt. The client asks for no
/// more.
#[must_use]
pub fn in_flight_messages(case: &Case) -> usize {
    match case.workload {
        Workload::Rr => 1,
        Workload::Stream => (IN_FLIGHT_BYTES / case.payload_bytes).clamp(2, MOST_IN_FLIGHT),
    }
}

/// As [`in_flight_messages`], in a burst of this mode.
pub(super) fn most_in_flight(case: &Case, mode: Mode) -> u64 {
    // What was overwritten is looked at before the next.
    if mode == Mode::Overwrite { 1 } else { in_flight_messages(case) as u64 }
}

/// How many messages a pair sends in turn.
///
/// `hot`: as many as may be in flight, so that `zero_copy` finds one that the kernel has let go of;
/// and two at the least, so that it can reap the completions of both at once. `cold`: so many that
/// those of all pairs together fill twice the machine's last-level caches.
///
/// # Errors
/// The size of the caches could not be read at this moment.
pub fn source_messages(case: &Case) -> Result<usize> {
    Ok(match case.source {
        Source::Hot => whole_turns(case, hot_messages(case)),
        Source::Cold => {
            let pair_bytes = 2 * cache::last_level_bytes()? / case.threads;
            let turn = case.shape.messages(case.payload_bytes);
            let message_bytes =
                turn.iter().map(|fields| cache_bytes(fields)).sum::<usize>().div_ceil(turn.len());
            whole_turns(case, hot_messages(case).max(pair_bytes.div_ceil(message_bytes)))
        }
    })
}

/// The fields of each of the messages that a pair sends in turn: how many bytes they have.
///
/// # Errors
/// As [`source_messages`].
pub fn source_fields(case: &Case) -> Result<Vec<Vec<usize>>> {
    Ok(case.shape.messages(case.payload_bytes).into_iter().cycle().take(source_messages(case)?).collect())
}

/// How many messages a pair with a `hot` source sends in turn.
pub(super) fn hot_messages(case: &Case) -> usize {
    in_flight_messages(case).max(2)
}

/// So many messages, or more: every shape of a trace as often as the others.
fn whole_turns(case: &Case, messages: usize) -> usize {
    messages.next_multiple_of(case.shape.messages(case.payload_bytes).len())
}

/// Bytes of cache that the fields of a message take: whole lines.
fn cache_bytes(fields: &[usize]) -> usize {
    fields.iter().map(|bytes| bytes.next_multiple_of(LINE_BYTES).max(LINE_BYTES)).sum()
}

/// Bytes of memory that the fields of a message take, with what the allocator and the layouts on
/// pages add.
fn memory_bytes(fields: &[usize], layout: Layout) -> usize {
    /// What the allocator keeps beside a block, and what a message keeps of each field.
    const BESIDE: usize = 64;
    let field = |bytes: &usize| match layout {
        Layout::Heap => bytes.next_multiple_of(16) + BESIDE,
        Layout::Page | Layout::Huge => bytes.next_multiple_of(page_bytes()) + page_bytes() + BESIDE,
    };
    fields.iter().map(field).sum()
}

/// Bytes of memory that a case's messages and buffers take on one side.
///
/// # Errors
/// The size of the caches or of a huge page could not be read at this moment.
pub fn buffer_bytes(case: &Case, side: Side) -> Result<usize> {
    let turn = case.shape.messages(case.payload_bytes);
    let largest_bytes = case.shape.largest_bytes(case.payload_bytes);
    let turn_bytes: usize = turn.iter().map(|fields| memory_bytes(fields, case.layout)).sum();
    let pair = match side {
        Side::Server => {
            let messages_bytes = source_messages(case)? / turn.len() * turn_bytes;
            // The messages of a pair share a mapping of whole huge pages.
            let messages_bytes = match case.layout {
                Layout::Huge => {
                    let huge_bytes = huge_page_bytes().map_err(Error::call("open(2) of /proc/meminfo"))?;
                    messages_bytes.next_multiple_of(huge_bytes.unwrap_or(1))
                }
                Layout::Heap | Layout::Page => messages_bytes,
            };
            match case.path {
                SendPath::TwoCopy | SendPath::Hybrid => messages_bytes + largest_bytes,
                // A copy of each message's small fields, at the most.
                SendPath::HybridZero => 2 * messages_bytes,
                SendPath::OneCopy | SendPath::ZeroCopy | SendPath::Splice | SendPath::File => messages_bytes,
            }
        }
        Side::Client => match case.receiver.for_path(case.path) {
            Receiver::Buffer | Receiver::Mmap => largest_bytes,
            Receiver::Fields => turn_bytes,
            Receiver::Unpack | Receiver::Matched => largest_bytes + turn_bytes,
            Receiver::Discard | Receiver::Sink => 0,
        },
    };
    Ok(case.threads * pair)
}

/// Pages that the largest call of a case pins at once. None of the paths that pin nothing, and of
/// registered buffers, which are locked once and as a whole.
///
/// The kernel counts the whole pages of a call and two more, since the ends may lie anywhere in
/// theirs: `mm_account_pinned_pages` in `net/core/skbuff.c`, `io_notif_account_mem` in
/// `io_uring/notif.h`.
fn pinned_pages(case: &Case) -> Option<usize> {
    let pins_each_call = case.path.is_zero_copy() && case.engine != Engine::UringFixed;
    let turn = case.shape.messages(case.payload_bytes);
    // A message of which all fields are copied goes without the flag.
    let is_pinned = |fields: &&Vec<usize>| {
        !case.path.has_threshold() || fields.iter().any(|&bytes| bytes >= case.copy_below_bytes)
    };
    let largest_bytes = turn.iter().filter(is_pinned).map(|fields| fields.iter().sum::<usize>()).max()?;
    pins_each_call.then_some(largest_bytes / page_bytes() + 2)
}

/// Why `RLIMIT_MEMLOCK` forbids a case; none where it does not. A case whose calls fit one at a
/// time is allowed: a call that finds the limit used up waits.
pub(crate) fn pin_problem(case: &Case) -> Option<String> {
    pin_problem_under(host::pinnable_bytes()?, case)
}

fn pin_problem_under(limit_bytes: u64, case: &Case) -> Option<String> {
    let needed_bytes = (pinned_pages(case)? * page_bytes()) as u64;
    let whole_pages_bytes = limit_bytes / page_bytes() as u64 * page_bytes() as u64;
    (needed_bytes > whole_pages_bytes).then(|| {
        format!(
            "RLIMIT_MEMLOCK is {limit_bytes} bytes, and one call pins {needed_bytes}: `sudo prlimit \
             --memlock=unlimited --pid $$` in this shell lifts it"
        )
    })
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
                        (source_messages(&case).unwrap(), in_flight_messages(&case))
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
        let pages = source_messages(&case).unwrap() * 8 * page_bytes();
        assert!(buffer_bytes(&case, Side::Server).unwrap() >= pages, "the memory check would let it through");
    }

    #[test]
    fn a_limit_of_locked_memory_forbids_what_one_call_pins_beyond_it() {
        let case =
            |path, payload_bytes| Case { path, payload_bytes, layout: Layout::Page, ..Case::default() };
        // Whole pages of the call and two more: 16 pages hold 14 of payload and what is less than a
        // page.
        let limit = 16 * page_bytes() as u64;
        for (payload_bytes, is_forbidden) in [
            (64, false),
            (14 * page_bytes(), false),
            (15 * page_bytes() - 1, false),
            (15 * page_bytes(), true),
        ] {
            let problem = pin_problem_under(limit, &case(SendPath::ZeroCopy, payload_bytes));
            assert_eq!(problem.is_some(), is_forbidden, "{payload_bytes}: {problem:?}");
            assert_eq!(pin_problem_under(limit, &case(SendPath::OneCopy, payload_bytes)), None);
        }
        let hybrid =
            |copy_below_bytes| Case { copy_below_bytes, ..case(SendPath::HybridZero, 16 * page_bytes()) };
        assert!(pin_problem_under(limit, &hybrid(page_bytes())).is_some_and(|text| text.contains("prlimit")));
        assert_eq!(pin_problem_under(limit, &hybrid(4 * page_bytes())), None, "all fields are copied");
    }

    #[test]
    fn on_huge_pages_every_pair_is_known_to_take_whole_ones() {
        let Some(huge_bytes) = huge_page_bytes().unwrap() else { return };
        let case = Case { payload_bytes: 64, threads: 256, layout: Layout::Huge, ..Case::default() };
        let all_bytes = buffer_bytes(&case, Side::Server).unwrap();
        assert!(all_bytes >= 256 * huge_bytes, "{all_bytes}: the memory check would let it through");
    }

    #[test]
    fn a_cold_set_is_larger_than_twice_the_last_level_cache() {
        for (payload_bytes, threads) in [(64, 1), (65536, 1), (65536, 4), (1 << 20, 256)] {
            let case = Case { source: Source::Cold, payload_bytes, threads, ..Case::default() };
            let fields = &case.shape.messages(payload_bytes)[0];
            let all_bytes = source_messages(&case).unwrap() * cache_bytes(fields) * threads;
            assert!(all_bytes >= 2 * cache::last_level_bytes().unwrap(), "{case}");
        }
    }
}
