//! Completions of `MSG_ZEROCOPY` sends: read from the bytes of a control message, and booked against
//! the messages that are in flight. No socket is needed for either.
//!
//! The kernel numbers a socket's successful zero-copy *calls* from 0 with a 32-bit counter that wraps.
//! A notification is an inclusive range of those numbers; the kernel joins neighbours, and promises
//! no order. See
//! [msg_zerocopy.rst](https://docs.kernel.org/networking/msg_zerocopy.html#notification-parsing).

use std::collections::VecDeque;

use crate::counts::ZeroCopyCounts;
use crate::error::CompletionError;

/// Room for one notification's control messages: a header, a `sock_extended_err` and an address.
pub(crate) const CONTROL_BYTES: usize = 128;

/// One message of the error queue: an inclusive range of zero-copy calls that have completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Notification {
    /// The first call of the range.
    pub first: u32,
    /// The last call of the range; below `first` where the counter wrapped inside the range.
    pub last: u32,
    /// `SO_EE_CODE_ZEROCOPY_COPIED`: the kernel copied the data after all.
    pub copied: bool,
}

impl Notification {
    /// How many calls the range covers.
    #[must_use]
    pub(crate) fn calls(self) -> u64 {
        u64::from(self.last.wrapping_sub(self.first)) + 1
    }
}

/// Finds the zero-copy notification in the control data of a message from the error queue.
///
/// The layout: `cmsghdr` (`cmsg_len`, `cmsg_level`, `cmsg_type`), then `sock_extended_err` from
/// `<linux/errqueue.h>`: `ee_errno` u32, `ee_origin` u8, `ee_type` u8, `ee_code` u8, a pad byte,
/// `ee_info` u32 (first call), `ee_data` u32 (last call).
///
/// # Errors
/// [`CompletionError::NoExtendedError`], [`CompletionError::Foreign`].
pub(crate) fn parse(control: &[u8]) -> Result<Notification, CompletionError> {
    const WORD: usize = size_of::<usize>();
    const HEADER: usize = WORD + 8;
    let mut rest = control;
    while rest.len() >= HEADER {
        let bytes = usize::from_ne_bytes(array(rest, 0));
        if bytes < HEADER || bytes > rest.len() {
            break;
        }
        let level = i32::from_ne_bytes(array(rest, WORD));
        let kind = i32::from_ne_bytes(array(rest, WORD + 4));
        let data = &rest[HEADER..bytes];
        let extended_error =
            matches!((level, kind), (libc::SOL_IP, libc::IP_RECVERR) | (libc::SOL_IPV6, libc::IPV6_RECVERR));
        if extended_error && data.len() >= 16 {
            let errno = u32::from_ne_bytes(array(data, 0));
            let (origin, code) = (data[4], data[6]);
            if origin != SO_EE_ORIGIN_ZEROCOPY || errno != 0 {
                return Err(CompletionError::Foreign { origin, errno });
            }
            return Ok(Notification {
                first: u32::from_ne_bytes(array(data, 8)),
                last: u32::from_ne_bytes(array(data, 12)),
                copied: code & SO_EE_CODE_ZEROCOPY_COPIED != 0,
            });
        }
        rest = &rest[bytes.next_multiple_of(WORD).min(rest.len())..];
    }
    Err(CompletionError::NoExtendedError { bytes: control.len() })
}

/// From `<linux/errqueue.h>`, as the next.
const SO_EE_ORIGIN_ZEROCOPY: u8 = 5;
const SO_EE_CODE_ZEROCOPY_COPIED: u8 = 1;

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

/// Which slots of a ring the kernel may still read, and the counts.
///
/// The calls in flight are a queue: new calls join at its end, and completed ones leave at its front. What
/// completes out of order is marked, and leaves later. So a notification costs as much as the calls that it
/// completes, however many slots there are.
#[derive(Debug)]
pub(crate) struct InFlight {
    /// By slot: its calls that have not completed.
    open_calls: Vec<u32>,
    /// The first one is open.
    calls: VecDeque<Call>,
    /// The number that the kernel gives to the next successful call.
    next_call: u32,
    pub(crate) counts: ZeroCopyCounts,
}

/// A call that has not completed, or has completed before an older one.
#[derive(Debug)]
struct Call {
    slot: usize,
    bytes: usize,
    completed: bool,
}

impl InFlight {
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            open_calls: vec![0; slots],
            // More are rarely in flight, and a small queue stays in the cache. It grows where it must.
            calls: VecDeque::with_capacity(slots.min(1024)),
            next_call: 0,
            counts: ZeroCopyCounts::default(),
        }
    }

    /// Whether no outstanding call refers to the slot.
    pub(crate) fn is_free(&self, slot: usize) -> bool {
        self.open_calls[slot] == 0
    }

    /// Whether any call is outstanding.
    pub(crate) fn any_open(&self) -> bool {
        !self.calls.is_empty()
    }

    /// Books a successful call that sent `bytes` of the slot's message.
    pub(crate) fn sent(&mut self, slot: usize, bytes: usize) {
        self.next_call = self.next_call.wrapping_add(1);
        self.calls.push_back(Call { slot, bytes, completed: false });
        self.open_calls[slot] += 1;
        self.counts.sends += 1;
        self.counts.sent_bytes += bytes as u64;
    }

    /// Books a notification.
    pub(crate) fn completed(&mut self, notification: Notification) -> Result<(), CompletionError> {
        // Counted back from the next call, so that a range that wraps is an ordinary one. Zero or less for
        // calls that were never made.
        let back = |call: u32| i64::from(self.next_call.wrapping_sub(call).cast_signed());
        let (first, last) = (back(notification.first), back(notification.last));
        let place = |back: i64| self.calls.len().saturating_sub(usize::try_from(back).unwrap_or(0));
        let end = place(last - 1);
        let start = place(first).min(end);
        let (mut closed, mut bytes) = (0, 0);
        for call in self.calls.range_mut(start..end).filter(|call| !call.completed) {
            call.completed = true;
            self.open_calls[call.slot] -= 1;
            closed += 1;
            bytes += call.bytes as u64;
        }
        while self.calls.front().is_some_and(|call| call.completed) {
            self.calls.pop_front();
        }
        let unknown = notification.calls() - closed;
        if first < last || unknown > 0 {
            let Notification { first, last, .. } = notification;
            return Err(CompletionError::NotOutstanding { first, last, unknown });
        }
        self.counts.notifications += 1;
        self.counts.completions += closed;
        if notification.copied {
            self.counts.copied += closed;
            self.counts.copied_bytes += bytes;
        }
        Ok(())
    }

    #[cfg(any(test, feature = "cli"))]
    pub(crate) fn starting_at(slots: usize, next_call: u32) -> Self {
        Self { next_call, ..Self::new(slots) }
    }
}

/// The bytes of a control message as the kernel lays it out, for tests.
#[cfg(any(test, feature = "cli"))]
pub(crate) fn control_message(
    level: i32,
    kind: i32,
    errno: u32,
    origin: u8,
    code: u8,
    range: (u32, u32),
) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend((size_of::<usize>() + 8 + 32).to_ne_bytes());
    bytes.extend(level.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(errno.to_ne_bytes());
    bytes.extend([origin, 0, code, 0]);
    bytes.extend(range.0.to_ne_bytes());
    bytes.extend(range.1.to_ne_bytes());
    bytes.extend([0; 16]); // the offender's address
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(first: u32, last: u32) -> Notification {
        Notification { first, last, copied: false }
    }

    #[test]
    fn a_notification_is_read_from_ipv4_and_ipv6_control_messages() {
        for (level, kind) in [(libc::SOL_IP, libc::IP_RECVERR), (libc::SOL_IPV6, libc::IPV6_RECVERR)] {
            for (code, copied) in [(0, false), (1, true)] {
                let control = control_message(level, kind, 0, 5, code, (7, 9));
                assert_eq!(parse(&control), Ok(Notification { first: 7, last: 9, copied }));
            }
        }
    }

    #[test]
    fn a_control_message_before_the_notification_is_passed_over() {
        let mut control = control_message(libc::SOL_SOCKET, libc::SO_TIMESTAMP, 0, 0, 0, (0, 0));
        control.extend(control_message(libc::SOL_IP, libc::IP_RECVERR, 0, 5, 1, (1, 2)));
        assert_eq!(parse(&control), Ok(Notification { first: 1, last: 2, copied: true }));
    }

    #[test]
    fn what_is_no_zero_copy_notification_is_refused() {
        let icmp = control_message(libc::SOL_IP, libc::IP_RECVERR, 111, 2, 0, (0, 0));
        assert_eq!(parse(&icmp), Err(CompletionError::Foreign { origin: 2, errno: 111 }));
        let whole = control_message(libc::SOL_IP, libc::IP_RECVERR, 0, 5, 0, (0, 0));
        for cut in 0..32 {
            let truncated = parse(&whole[..cut.min(whole.len())]);
            assert_eq!(truncated, Err(CompletionError::NoExtendedError { bytes: cut }));
        }
    }

    #[test]
    fn a_slot_is_free_only_after_all_of_its_calls_completed() {
        let mut in_flight = InFlight::new(1);
        in_flight.sent(0, 80);
        in_flight.sent(0, 80);
        in_flight.completed(range(1, 1)).unwrap();
        assert!(!in_flight.is_free(0), "call 0 is still open");
        in_flight.completed(range(0, 0)).unwrap();
        assert!(in_flight.is_free(0));
    }

    #[test]
    fn a_range_that_wraps_completes_the_calls_on_both_sides_of_the_wrap() {
        let mut in_flight = InFlight::starting_at(3, u32::MAX - 1);
        for slot in 0..3 {
            in_flight.sent(slot, 80);
        }
        in_flight.completed(range(u32::MAX - 1, 0)).unwrap();
        assert!(!in_flight.any_open());
        assert_eq!(in_flight.counts.completions, 3);
    }

    #[test]
    fn a_completion_of_a_call_that_is_not_outstanding_is_an_error() {
        let mut in_flight = InFlight::new(2);
        assert!(in_flight.completed(range(0, 0)).is_err(), "no call was made");
        in_flight.sent(0, 80);
        assert!(in_flight.completed(range(0, 1)).is_err(), "call 1 was never made");
        assert!(in_flight.completed(range(0, 0)).is_err(), "call 0 completed before");
        assert!(in_flight.completed(range(5, 2)).is_err(), "a range that ends before it starts");
    }

    #[test]
    fn what_is_kept_of_a_ring_is_only_what_is_in_flight() {
        let mut in_flight = InFlight::new(100_000);
        let room = in_flight.calls.capacity();
        for call in 0..300_000 {
            in_flight.sent(call as usize % 100_000, 80);
            // Two calls by one notification, two calls late.
            if call % 2 == 1 && call >= 3 {
                in_flight.completed(range(call - 3, call - 2)).unwrap();
            }
            assert!(in_flight.calls.len() <= 4, "{} calls kept", in_flight.calls.len());
        }
        assert_eq!(in_flight.calls.capacity(), room, "nothing was allocated on the way");
    }

    /// One step of a sender's life.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        /// The next message of the ring is sent by so many calls, if the kernel has let go of it.
        Send(u32),
        /// A range of outstanding calls completes: where it starts among them, and its length at most.
        Complete(prop::sample::Index, usize),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            (1u32..5).prop_map(Event::Send),
            (any::<prop::sample::Index>(), 1usize..12).prop_map(|(at, most)| Event::Complete(at, most)),
        ]
    }

    proptest! {
        /// Messages of a ring are sent in turn, many times round, each by some calls; ranges of outstanding
        /// calls complete in any order, wherever the counter stands. At each step just those slots are free
        /// whose every call has completed, and the same range is not taken twice.
        #[test]
        fn any_ranges_in_any_order_free_exactly_the_completed_slots_of_the_ring(
            start: u32,
            slots in 1usize..8,
            events in prop::collection::vec(event(), 1..120),
        ) {
            let mut in_flight = InFlight::starting_at(slots, start);
            // By call, from 0: its slot, and whether it is outstanding.
            let mut model: Vec<(usize, bool)> = Vec::new();
            let (mut slot, mut notifications, mut copied_bytes) = (0, 0, 0);
            let number = |call: usize| start.wrapping_add(u32::try_from(call).unwrap());
            for event in events {
                match event {
                    Event::Send(calls) => {
                        if in_flight.is_free(slot) {
                            for _ in 0..calls {
                                in_flight.sent(slot, 80 + slot);
                                model.push((slot, true));
                            }
                            slot = (slot + 1) % slots;
                        }
                    }
                    Event::Complete(at, most) => {
                        let open: Vec<_> = (0..model.len()).filter(|&call| model[call].1).collect();
                        if open.is_empty() {
                            continue;
                        }
                        let first = *at.get(&open);
                        let following = (first..model.len()).take(most).take_while(|&call| model[call].1);
                        let last = following.last().unwrap();
                        let notification = Notification { copied: true, ..range(number(first), number(last)) };
                        in_flight.completed(notification).unwrap();
                        for (slot, open) in &mut model[first..=last] {
                            *open = false;
                            copied_bytes += 80 + *slot as u64;
                        }
                        notifications += 1;
                        let counts = in_flight.counts;
                        prop_assert!(in_flight.completed(notification).is_err());
                        prop_assert_eq!(in_flight.counts, counts);
                    }
                }
                for slot in 0..slots {
                    let open = model.iter().any(|&(owner, open)| owner == slot && open);
                    prop_assert_eq!(in_flight.is_free(slot), !open);
                }
                prop_assert_eq!(in_flight.any_open(), model.iter().any(|&(_, open)| open));
            }
            let completions = model.iter().filter(|(_, open)| !open).count() as u64;
            let counts = in_flight.counts;
            prop_assert_eq!((counts.sends, counts.completions), (model.len() as u64, completions));
            prop_assert_eq!((counts.notifications, counts.copied_bytes), (notifications, copied_bytes));
        }
    }
}
