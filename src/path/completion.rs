//! Completions of `MSG_ZEROCOPY` sends: read from the bytes of a control message, and booked against
//! the messages that are in flight. No socket is needed for either.
//!
//! The kernel numbers a socket's successful zero-copy *calls* from 0 with a 32-bit counter that wraps.
//! A notification is an inclusive range of those numbers; the kernel joins neighbours, and promises
//! no order. See
//! [msg_zerocopy.rst](https://docs.kernel.org/networking/msg_zerocopy.html#notification-parsing).

use crate::error::CompletionError;
use crate::sample::ZeroCopyCounts;

/// Room for one notification's control messages: a header, a `sock_extended_err` and an address.
pub const CONTROL_BYTES: usize = 128;

/// One message of the error queue: an inclusive range of zero-copy calls that have completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notification {
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
    pub fn calls(self) -> u64 {
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
pub fn parse(control: &[u8]) -> Result<Notification, CompletionError> {
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

/// Which slots of a pool the kernel may still read, and the counts.
#[derive(Debug)]
pub(crate) struct InFlight {
    slots: Vec<Slot>,
    /// The number that the kernel gives to the next successful call.
    next_call: u32,
    pub(crate) counts: ZeroCopyCounts,
}

/// The calls that sent one slot's message: numbered from `first`, each with the bytes that it took, `open`
/// of them not yet completed.
#[derive(Clone, Debug, Default)]
struct Slot {
    first: u32,
    bytes_by_call: Vec<usize>,
    open: u32,
}

impl InFlight {
    pub(crate) fn new(slots: usize) -> Self {
        Self { slots: vec![Slot::default(); slots], next_call: 0, counts: ZeroCopyCounts::default() }
    }

    /// A slot that no outstanding call refers to.
    pub(crate) fn free_slot(&self) -> Option<usize> {
        self.slots.iter().position(|slot| slot.open == 0)
    }

    pub(crate) fn is_free(&self, slot: usize) -> bool {
        self.slots[slot].open == 0
    }

    pub(crate) fn any_open(&self) -> bool {
        self.slots.iter().any(|slot| slot.open > 0)
    }

    /// Opens a free slot, whose message is about to be sent.
    pub(crate) fn begin(&mut self, slot: usize) {
        let next_call = self.next_call;
        let slot = &mut self.slots[slot];
        slot.first = next_call;
        slot.bytes_by_call.clear();
    }

    /// Books a successful call that sent `bytes` of the slot's message.
    pub(crate) fn sent(&mut self, slot: usize, bytes: usize) {
        self.next_call = self.next_call.wrapping_add(1);
        self.slots[slot].bytes_by_call.push(bytes);
        self.slots[slot].open += 1;
        self.counts.sends += 1;
        self.counts.sent_bytes += bytes as u64;
    }

    /// Books a notification.
    pub(crate) fn completed(&mut self, notification: Notification) -> Result<(), CompletionError> {
        // All that is outstanding lies within half the counter's range behind `next_call`; measured
        // from there, a range that wraps is an ordinary one.
        let origin = self.next_call.wrapping_sub(1 << 31);
        let place = |call: u32| u64::from(call.wrapping_sub(origin));
        let (first, last) = (place(notification.first), place(notification.last));
        let mut unknown = notification.calls();
        let mut bytes = 0;
        for slot in self.slots.iter_mut().filter(|slot| slot.open > 0) {
            let slot_first = place(slot.first);
            let index = |call: u64| {
                let index = call.saturating_sub(slot_first).min(slot.bytes_by_call.len() as u64);
                index as usize
            };
            let done = &slot.bytes_by_call[index(first).min(index(last + 1))..index(last + 1)];
            bytes += done.iter().sum::<usize>() as u64;
            let closing = (done.len() as u64).min(u64::from(slot.open));
            slot.open -= u32::try_from(closing).unwrap_or(slot.open);
            unknown = unknown.saturating_sub(closing);
        }
        if first > last || unknown > 0 {
            let Notification { first, last, .. } = notification;
            return Err(CompletionError::NotOutstanding { first, last, unknown });
        }
        self.counts.notifications += 1;
        self.counts.completions += notification.calls();
        if notification.copied {
            self.counts.copied += notification.calls();
            self.counts.copied_bytes += bytes;
        }
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn starting_at(slots: usize, next_call: u32) -> Self {
        Self { next_call, ..Self::new(slots) }
    }
}

/// The bytes of a control message as the kernel lays it out, for tests.
#[cfg(test)]
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
        in_flight.begin(0);
        in_flight.sent(0, 80);
        in_flight.sent(0, 80);
        in_flight.completed(range(1, 1)).unwrap();
        assert_eq!(in_flight.free_slot(), None, "call 0 is still open");
        in_flight.completed(range(0, 0)).unwrap();
        assert_eq!(in_flight.free_slot(), Some(0));
    }

    #[test]
    fn a_range_that_wraps_completes_the_calls_on_both_sides_of_the_wrap() {
        let mut in_flight = InFlight::starting_at(3, u32::MAX - 1);
        for slot in 0..3 {
            in_flight.begin(slot);
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
        in_flight.begin(0);
        in_flight.sent(0, 80);
        assert!(in_flight.completed(range(0, 1)).is_err(), "call 1 was never made");
        assert!(in_flight.completed(range(0, 0)).is_err(), "call 0 completed before");
        assert!(in_flight.completed(range(5, 2)).is_err(), "a range that ends before it starts");
    }

    proptest! {
        /// Calls are cut into messages, completions into ranges, both at random; the ranges arrive in
        /// random order, wherever the counter stands. At each step just those slots are free whose
        /// every call has been completed.
        #[test]
        fn any_partition_in_any_order_frees_exactly_the_completed_slots(
            start: u32,
            calls in prop::collection::vec(1u32..5, 1..8),
            cuts in prop::collection::vec(any::<bool>(), 40),
            order in prop::collection::vec(any::<u64>(), 40),
        ) {
            let mut in_flight = InFlight::starting_at(calls.len(), start);
            let mut owner = Vec::new();
            for (slot, &calls) in calls.iter().enumerate() {
                in_flight.begin(slot);
                for _ in 0..calls {
                    in_flight.sent(slot, 80);
                    owner.push(slot);
                }
            }
            let mut ranges = vec![(0, 0)];
            for (call, &cut) in cuts.iter().enumerate().take(owner.len()).skip(1) {
                if cut { ranges.push((call, call)) } else { ranges.last_mut().unwrap().1 = call }
            }
            let mut shuffled: Vec<_> = ranges.iter().zip(&order).collect();
            shuffled.sort_by_key(|(_, key)| **key);
            let mut open = owner.iter().fold(vec![0; calls.len()], |mut open, &slot| { open[slot] += 1; open });
            for (&(first, last), _) in shuffled {
                let number = |call: usize| start.wrapping_add(u32::try_from(call).unwrap());
                in_flight.completed(range(number(first), number(last))).unwrap();
                for call in first..=last {
                    open[owner[call]] -= 1;
                }
                prop_assert_eq!(in_flight.free_slot(), open.iter().position(|&open| open == 0));
                prop_assert_eq!(in_flight.any_open(), open.iter().any(|&open| open > 0));
            }
            prop_assert_eq!(in_flight.counts.completions, owner.len() as u64);
            prop_assert_eq!(in_flight.counts.notifications, ranges.len() as u64);
        }
    }
}
