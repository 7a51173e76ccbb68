//! Completions of `MSG_ZEROCOPY` sends: read from the bytes of a control message, and booked
//! against the messages that are in flight. No socket is needed for either.
//!
//! The kernel numbers a socket's successful zero-copy *calls* from 0 with a 32-bit counter that
//! wraps. A notification is an inclusive range of those numbers; the kernel joins neighbours, and
//! promises no order. See
//! [msg_zerocopy.rst](https://docs.kernel.org/networking/msg_zerocopy.html#notification-parsing).

use std::collections::VecDeque;
use std::mem;

use super::error::CompletionError;
use crate::counts::ZeroCopyCounts;

/// Room for one notification's control messages: a header, a `sock_extended_err` and an address.
pub(crate) const CONTROL_BYTES: usize = 128;

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

/// A send of owned buffers, by its place in the order of sends on a connection: from 0, without a
/// gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub(super) u64);

impl Ticket {
    /// How many sends came before it.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }
}

/// What is known of whether the kernel copied the bytes of a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    /// It did, at least some of them: the send asked for it, or the completion of this send alone
    /// says so.
    Yes,
    /// Its completion, of this send alone, does not say so.
    No,
    /// The completion covers other sends as well, and says of the first of them alone what it says
    /// (`skb_zerocopy_notify_extend`). Or the send took several calls, of which not all are known.
    NotKnown,
}

impl Copied {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Yes, _) | (_, Self::Yes) => Self::Yes,
            (Self::No, Self::No) => Self::No,
            _ => Self::NotKnown,
        }
    }
}

/// The sends of which the kernel may still read the buffers, and the counts.
///
/// The calls in flight are a queue: new calls join at its end, and completed ones leave at its
/// front. What completes out of order is marked, and leaves later. So a notification costs as much
/// as the calls that it completes, however many are in flight.
#[derive(Debug)]
pub struct InFlight<B> {
    /// In the order of their tickets. The first one is not given back.
    sends: VecDeque<InFlightSend<B>>,
    first_ticket: u64,
    /// The first one is open.
    calls: VecDeque<Call>,
    /// The number that the kernel gives to the next successful zero-copy call.
    next_call: u32,
    /// Sends that can be given back.
    done: VecDeque<u64>,
    /// How many sends are not given back.
    pub(super) held: usize,
    /// Whether a notification came that fits no call. What it and later ones say may be of somebody
    /// else's calls.
    is_distrusted: bool,
    pub(super) pinned_bytes: usize,
    pub counts: ZeroCopyCounts,
}

#[derive(Debug)]
struct InFlightSend<B> {
    /// None once they are given back.
    buffers: Option<B>,
    /// Zero-copy calls that have not completed.
    open_calls: u32,
    /// Whether every byte was handed to the kernel.
    is_whole: bool,
    /// What its calls say together.
    copied: Option<Copied>,
    pinned_bytes: usize,
}

/// A call that has not completed, or has completed before an older one.
#[derive(Debug)]
struct Call {
    ticket: u64,
    bytes: usize,
    completed: bool,
}

impl<B> InFlight<B> {
    pub(crate) fn new() -> Self {
        Self {
            sends: VecDeque::new(),
            first_ticket: 0,
            calls: VecDeque::new(),
            next_call: 0,
            done: VecDeque::new(),
            held: 0,
            is_distrusted: false,
            pinned_bytes: 0,
            counts: ZeroCopyCounts::default(),
        }
    }

    /// How many zero-copy calls are outstanding.
    pub(super) fn open_calls(&self) -> u64 {
        self.counts.sends - self.counts.completions
    }

    /// Takes the buffers of the next send.
    pub fn begin(&mut self, buffers: B) -> Ticket {
        let ticket = Ticket(self.first_ticket + self.sends.len() as u64);
        let buffers = Some(buffers);
        self.held += 1;
        self.sends.push_back(InFlightSend {
            buffers,
            open_calls: 0,
            is_whole: false,
            copied: None,
            pinned_bytes: 0,
        });
        ticket
    }

    /// Gives back the buffers of the last send, of which no byte has gone. There was no such send
    /// then.
    pub(super) fn take_back(&mut self) -> Option<B> {
        let send = self.sends.pop_back_if(|send| send.copied.is_none() && send.open_calls == 0)?;
        self.held -= 1;
        send.buffers
    }

    /// The buffers of a send, until they are given back.
    pub(super) fn buffers(&self, ticket: Ticket) -> Option<&B> {
        self.sends.get(self.place(ticket.0)?)?.buffers.as_ref()
    }

    /// As [`buffers`](Self::buffers), to write: for a test of what the kernel does with them alone.
    pub(super) fn buffers_mut(&mut self, ticket: Ticket) -> Option<&mut B> {
        let place = self.place(ticket.0)?;
        self.sends.get_mut(place)?.buffers.as_mut()
    }

    fn place(&self, ticket: u64) -> Option<usize> {
        usize::try_from(ticket.checked_sub(self.first_ticket)?).ok()
    }

    /// Books a successful call that sent `bytes` of the last send, and that completes by a
    /// notification.
    pub fn called(&mut self, bytes: usize) {
        let Some(send) = self.sends.back_mut() else { return };
        send.open_calls += 1;
        send.pinned_bytes += bytes;
        self.pinned_bytes += bytes;
        self.next_call = self.next_call.wrapping_add(1);
        let ticket = self.first_ticket + self.sends.len() as u64 - 1;
        self.calls.push_back(Call { ticket, bytes, completed: false });
        self.counts.sends += 1;
        self.counts.sent_bytes += bytes as u64;
    }

    /// Books a successful call that copied bytes of the last send.
    pub(super) fn copied(&mut self) {
        if let Some(send) = self.sends.back_mut() {
            send.copied = Some(send.copied.map_or(Copied::Yes, |copied| copied.and(Copied::Yes)));
        }
    }

    /// The last send is whole.
    pub fn finish(&mut self) {
        let Some(send) = self.sends.back_mut() else { return };
        send.is_whole = true;
        if send.open_calls == 0 {
            self.done.push_back(self.first_ticket + self.sends.len() as u64 - 1);
        }
    }

    /// A send that was copied whole at once.
    pub(super) fn whole(&mut self, buffers: B) -> Ticket {
        let ticket = self.begin(buffers);
        self.copied();
        self.finish();
        ticket
    }

    /// Gives back one send of which the kernel needs nothing any more.
    pub fn give_back(&mut self) -> Option<(Ticket, B, Copied)> {
        let ticket = self.done.pop_front()?;
        let place = self.place(ticket)?;
        let send = self.sends.get_mut(place)?;
        let buffers = send.buffers.take()?;
        let copied = send.copied.unwrap_or(Copied::NotKnown);
        self.pinned_bytes -= send.pinned_bytes;
        self.held -= 1;
        while self.sends.pop_front_if(|send| send.buffers.is_none()).is_some() {
            self.first_ticket += 1;
        }
        Some((Ticket(ticket), buffers, copied))
    }

    /// Books a notification.
    ///
    /// One that covers a call which was never made, or that completed before, is booked for no
    /// call: the numbers are another's then, and so may be those of every later one.
    pub fn completed(&mut self, notification: Notification) -> Result<(), CompletionError> {
        if self.is_distrusted {
            return Err(CompletionError::Distrusted);
        }
        // Counted back from the next call, so that a range that wraps is an ordinary one. Zero or
        // less for calls that were never made.
        let back = |call: u32| i64::from(self.next_call.wrapping_sub(call).cast_signed());
        let (first, last) = (back(notification.first), back(notification.last));
        let place = |back: i64| self.calls.len().saturating_sub(usize::try_from(back).unwrap_or(0));
        let end = place(last - 1);
        let start = place(first).min(end);
        let open = self.calls.range(start..end).filter(|call| !call.completed).count() as u64;
        let unknown = notification.calls() - open.min(notification.calls());
        if first < last || unknown > 0 {
            self.is_distrusted = true;
            let Notification { first, last, .. } = notification;
            return Err(CompletionError::NotOutstanding { first, last, unknown });
        }
        let copied = match notification {
            _ if notification.calls() > 1 => Copied::NotKnown,
            Notification { copied: true, .. } => Copied::Yes,
            Notification { copied: false, .. } => Copied::No,
        };
        for call in self.calls.range_mut(start..end) {
            call.completed = true;
            if notification.copied {
                self.counts.copied_bytes += call.bytes as u64;
            }
            let place = (call.ticket - self.first_ticket) as usize;
            let Some(send) = self.sends.get_mut(place) else { continue };
            send.open_calls -= 1;
            send.copied = Some(send.copied.map_or(copied, |before| before.and(copied)));
            if send.open_calls == 0 && send.is_whole {
                self.done.push_back(call.ticket);
            }
        }
        while self.calls.front().is_some_and(|call| call.completed) {
            self.calls.pop_front();
        }
        self.counts.notifications += 1;
        self.counts.completions += open;
        if notification.copied {
            self.counts.copied += open;
        }
        Ok(())
    }

    /// As if so many calls had been made before, and had completed.
    #[cfg(any(test, feature = "cli"))]
    #[must_use]
    pub fn starting_at(next_call: u32) -> Self {
        Self { next_call, ..Self::new() }
    }

    /// Leaks what the kernel may still read, and returns how many bytes that is.
    pub(super) fn leak(&mut self) -> u64 {
        let mut leaked_bytes = 0;
        // These first: whatever the drop of the others does, nothing frees them.
        for send in self.sends.iter_mut().filter(|send| send.open_calls > 0) {
            leaked_bytes += send.pinned_bytes as u64;
            mem::forget(send.buffers.take());
        }
        self.sends.clear();
        leaked_bytes
    }
}

/// The bytes of a control message as the kernel lays it out, for tests.
#[cfg(any(test, feature = "cli"))]
#[must_use]
pub fn control_message(
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

    /// A send of one call, or more.
    fn send(in_flight: &mut InFlight<u64>, calls: u32, bytes: usize) -> u64 {
        let number = in_flight.first_ticket + in_flight.sends.len() as u64;
        let ticket = in_flight.begin(number);
        (0..calls).for_each(|_| in_flight.called(bytes));
        in_flight.finish();
        ticket.number()
    }

    fn given_back(in_flight: &mut InFlight<u64>) -> Vec<(u64, Copied)> {
        std::iter::from_fn(|| in_flight.give_back()).map(|(_, buffers, copied)| (buffers, copied)).collect()
    }

    #[test]
    fn a_send_is_given_back_only_after_all_of_its_calls_completed() {
        let mut in_flight = InFlight::new();
        send(&mut in_flight, 2, 80);
        in_flight.completed(range(1, 1)).unwrap();
        assert_eq!(given_back(&mut in_flight), [], "call 0 is still open");
        in_flight.completed(range(0, 0)).unwrap();
        assert_eq!(given_back(&mut in_flight), [(0, Copied::No)]);
    }

    #[test]
    fn a_send_that_is_not_whole_is_not_given_back() {
        let mut in_flight = InFlight::new();
        in_flight.begin(0);
        in_flight.called(10);
        in_flight.completed(range(0, 0)).unwrap();
        assert_eq!(given_back(&mut in_flight), []);
        in_flight.finish();
        assert_eq!(given_back(&mut in_flight), [(0, Copied::No)]);
    }

    #[test]
    fn of_a_send_whose_completion_covers_others_too_it_is_not_known_whether_it_was_copied() {
        let mut in_flight = InFlight::new();
        (0..4).for_each(|_| _ = send(&mut in_flight, 1, 80));
        in_flight.completed(Notification { copied: true, ..range(0, 1) }).unwrap();
        in_flight.completed(Notification { copied: true, ..range(2, 2) }).unwrap();
        in_flight.completed(range(3, 3)).unwrap();
        let expected = [Copied::NotKnown, Copied::NotKnown, Copied::Yes, Copied::No];
        assert_eq!(given_back(&mut in_flight), [0, 1, 2, 3].map(|send| (send, expected[send as usize])));
    }

    #[test]
    fn a_range_that_wraps_completes_the_calls_on_both_sides_of_the_wrap() {
        let mut in_flight = InFlight::starting_at(u32::MAX - 1);
        (0..3).for_each(|_| _ = send(&mut in_flight, 1, 80));
        in_flight.completed(range(u32::MAX - 1, 0)).unwrap();
        assert_eq!(in_flight.open_calls(), 0);
        assert_eq!(in_flight.counts.completions, 3);
    }

    #[test]
    fn a_completion_of_a_call_that_is_not_outstanding_gives_nothing_back_and_ends_all_trust() {
        // None was made; one of two was never made; it comes twice; a range that ends before it
        // starts.
        for (sends, before, range_in_question) in
            [(0, None, (0, 0)), (1, None, (0, 1)), (2, Some((0, 0)), (0, 0)), (1, None, (5, 2))]
        {
            let mut in_flight = InFlight::new();
            (0..sends).for_each(|_| _ = send(&mut in_flight, 1, 80));
            if let Some((first, last)) = before {
                in_flight.completed(range(first, last)).unwrap();
                assert_eq!(given_back(&mut in_flight).len(), 1);
            }
            let (first, last) = range_in_question;
            in_flight.completed(range(first, last)).unwrap_err();
            assert_eq!(given_back(&mut in_flight), []);
            let open = sends - u32::from(before.is_some());
            let again = in_flight.completed(range(sends.saturating_sub(open), sends.saturating_sub(1)));
            assert_eq!(again, Err(CompletionError::Distrusted));
            assert_eq!(given_back(&mut in_flight), []);
        }
    }

    #[test]
    fn what_is_kept_is_only_what_is_in_flight() {
        let mut in_flight = InFlight::new();
        let mut room = 0;
        for call in 0..300_000 {
            send(&mut in_flight, 1, 80);
            // Two calls by one notification, two calls late.
            if call % 2 == 1 && call >= 3 {
                in_flight.completed(range(call - 3, call - 2)).unwrap();
                assert_eq!(given_back(&mut in_flight).len(), 2);
            }
            assert!(in_flight.calls.len() <= 4, "{} calls kept", in_flight.calls.len());
            let now = in_flight.calls.capacity() + in_flight.sends.capacity() + in_flight.done.capacity();
            room = if call < 10 { now } else { room };
            assert_eq!(room, now, "nothing was allocated on the way");
        }
    }

    /// One step of a queue's life.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        /// A send of so many calls.
        Send(u32),
        /// A range of outstanding calls completes: where it starts among them, and its length at
        /// most.
        Complete(prop::sample::Index, usize),
        /// A range that covers a call which was never made, or is none.
        Invent(u32, u32),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            10 => (1u32..5).prop_map(Event::Send),
            10 => (any::<prop::sample::Index>(), 1usize..12).prop_map(|(at, most)| Event::Complete(at, most)),
            1 => (any::<u32>(), any::<u32>()).prop_map(|(first, more)| Event::Invent(first, more)),
        ]
    }

    proptest! {
        /// Sends of some calls each; ranges of outstanding calls complete in any order, wherever
        /// the counter stands. At each step just those sends come back, once, whose every call has
        /// completed. A range is not taken twice, and after one that was invented nothing comes
        /// back any more.
        #[test]
        fn any_ranges_in_any_order_give_back_exactly_the_completed_sends(
            start: u32,
            events in prop::collection::vec(event(), 1..120),
        ) {
            let mut in_flight = InFlight::starting_at(start);
            // By call, from 0: its send, and whether it is outstanding.
            let mut model: Vec<(u64, bool)> = Vec::new();
            let (mut sends, mut copied_bytes) = (0, 0);
            // By send: bytes of each of its calls.
            let mut bytes: Vec<u64> = Vec::new();
            let mut back = Vec::new();
            let number = |call: usize| start.wrapping_add(u32::try_from(call).unwrap());
            for event in events {
                match event {
                    Event::Send(calls) => {
                        let ticket = send(&mut in_flight, calls, 80 + calls as usize);
                        prop_assert_eq!(ticket, sends);
                        model.extend((0..calls).map(|_| (sends, true)));
                        bytes.push(80 + u64::from(calls));
                        sends += 1;
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
                        for call in &mut model[first..=last] {
                            call.1 = false;
                            copied_bytes += bytes[call.0 as usize];
                        }
                    }
                    Event::Invent(first, more) => {
                        let first = number(model.len()).wrapping_add(first % 1000);
                        let invented = range(first, first.wrapping_add(more % 1000));
                        prop_assert!(in_flight.completed(invented).is_err());
                        let counts = in_flight.counts;
                        prop_assert_eq!(given_back(&mut in_flight), []);
                        let all = range(number(0), number(model.len()).wrapping_sub(1));
                        prop_assert_eq!(in_flight.completed(all), Err(CompletionError::Distrusted));
                        prop_assert_eq!(given_back(&mut in_flight), []);
                        prop_assert_eq!(in_flight.counts, counts);
                        return Ok(());
                    }
                }
                back.extend(given_back(&mut in_flight).into_iter().map(|(send, _)| send));
                let is_open = |send: u64| model.iter().any(|&(owner, open)| owner == send && open);
                let mut expected: Vec<u64> = (0..sends).filter(|&send| !is_open(send)).collect();
                let mut found = back.clone();
                found.sort_unstable();
                expected.sort_unstable();
                prop_assert_eq!(found, expected, "each of these, and once");
            }
            let completions = model.iter().filter(|(_, open)| !open).count() as u64;
            let counts = in_flight.counts;
            prop_assert_eq!((counts.sends, counts.completions), (model.len() as u64, completions));
            prop_assert_eq!((counts.copied, counts.copied_bytes), (completions, copied_bytes));
        }
    }
}
