//! Which messages the kernel may still read, by what the completion queue says of each send. No
//! ring is needed for it.
//!
//! A send has a number, which travels through the ring as its user data. What comes back under that
//! number:
//!
//! - one *answer*: how many bytes it took, or an errno. `IORING_CQE_F_MORE` on it says that a
//!   notification is to come;
//! - for a zero-copy send one *notification* (`IORING_CQE_F_NOTIF`): the kernel no longer reads the
//!   memory. It says whether the bytes were copied after all. It may come before the answers of
//!   other sends, after them, and, where the send was made by a worker of the kernel, before the
//!   answer of its own.
//!
//! A send that failed has a notification too, as a rule, and is over with it. One that was
//! cancelled, since the send before it in the chain fell short, is *not* announced to have one by
//! its answer, and has it all the same (seen on Linux 6.18). It read no memory, so its answer is
//! its end, and the notification is only let pass. So messages are told by number and never by
//! counting what arrives.

use std::collections::VecDeque;

use crate::counts::ZeroCopyCounts;
use crate::path::error::CompletionError;

/// The sends that are not over, and the messages that they read.
#[derive(Debug)]
pub(super) struct Flight {
    /// The oldest one that is not over, and those after it.
    calls: VecDeque<Call>,
    /// The number of the first of them; where all are over, the next send's.
    first: u64,
    /// By message: its sends that are not over, and one for each time that it is gathered and not
    /// yet sent whole.
    holds: Box<[u32]>,
    /// How many sends have no answer yet.
    pub(super) unanswered: usize,
    /// Sends that ended without a word of a notification, and have had none.
    unannounced: u64,
    pub(super) counts: ZeroCopyCounts,
}

#[derive(Clone, Copy, Debug, Default)]
struct Call {
    message: usize,
    answer: Option<i32>,
    /// What the notification said of copying, where it came before the answer.
    notified: Option<bool>,
    is_over: bool,
}

impl Flight {
    pub(super) fn new(messages: usize) -> Self {
        Self {
            // As much as a ring of messages needs where nothing falls short. More are rarely in
            // flight, and what is small stays in the cache.
            calls: VecDeque::with_capacity((messages + 1).min(1024)),
            first: 0,
            holds: vec![0; messages].into(),
            unanswered: 0,
            unannounced: 0,
            counts: ZeroCopyCounts::default(),
        }
    }

    /// Whether the message is neither gathered nor read by any send.
    pub(super) fn is_free(&self, message: usize) -> bool {
        self.holds[message] == 0
    }

    /// Whether the kernel may still read anything.
    pub(super) fn any_open(&self) -> bool {
        !self.calls.is_empty()
    }

    /// The number of the next send.
    pub(super) fn next_call(&self) -> u64 {
        self.first + self.calls.len() as u64
    }

    /// Keeps a message from being lent, until it is released.
    pub(super) fn hold(&mut self, message: usize) {
        self.holds[message] += 1;
    }

    pub(super) fn release(&mut self, message: usize) {
        self.holds[message] -= 1;
    }

    /// Books a send that is handed to the kernel. Returns its number.
    pub(super) fn called(&mut self, message: usize) -> u64 {
        let number = self.next_call();
        self.calls.push_back(Call { message, ..Call::default() });
        self.holds[message] += 1;
        self.unanswered += 1;
        number
    }

    /// Books the answer to a send; `more`: a notification is to come.
    pub(super) fn answered(&mut self, number: u64, result: i32, more: bool) -> Result<(), CompletionError> {
        let call = self.call(number).filter(|call| call.answer.is_none()).ok_or(unknown(number))?;
        call.answer = Some(result);
        let notified = call.notified;
        self.unanswered -= 1;
        if result > 0 && more {
            self.counts.sends += 1;
            self.counts.sent_bytes += u64::from(result.unsigned_abs());
        }
        match notified {
            Some(copied) if more => self.book(result, copied),
            None if more => return Ok(()),
            Some(_) => {}
            None => self.unannounced += 1,
        }
        self.end(number);
        Ok(())
    }

    /// Books a notification.
    pub(super) fn notified(&mut self, number: u64, copied: bool) -> Result<(), CompletionError> {
        let is_unannounced = number < self.next_call() && self.unannounced > 0;
        match self.call(number) {
            Some(call) if call.notified.is_none() => {
                call.notified = Some(copied);
                if let Some(result) = call.answer {
                    self.book(result, copied);
                    self.end(number);
                }
                Ok(())
            }
            None if is_unannounced => {
                self.unannounced -= 1;
                Ok(())
            }
            _ => Err(unknown(number)),
        }
    }

    /// The send of that number, unless it is over.
    fn call(&mut self, number: u64) -> Option<&mut Call> {
        let place = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.calls.get_mut(place).filter(|call| !call.is_over)
    }

    /// Counts a notification, where its send took bytes.
    fn book(&mut self, result: i32, copied: bool) {
        if result > 0 {
            self.counts.completions += 1;
            self.counts.notifications += 1;
            if copied {
                self.counts.copied += 1;
                self.counts.copied_bytes += u64::from(result.unsigned_abs());
            }
        }
    }

    fn end(&mut self, number: u64) {
        let Some(call) = self.call(number) else { return };
        call.is_over = true;
        let message = call.message;
        self.holds[message] -= 1;
        while self.calls.pop_front_if(|call| call.is_over).is_some() {
            self.first += 1;
        }
    }
}

fn unknown(number: u64) -> CompletionError {
    CompletionError::NotOutstanding { first: number as u32, last: number as u32, unknown: 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn in_flight(sends: usize) -> Flight {
        let mut flight = Flight::new(sends);
        for message in 0..sends {
            assert_eq!(flight.called(message), message as u64);
        }
        flight
    }

    #[test]
    fn a_message_is_free_after_its_notification_and_not_after_its_answer() {
        let mut flight = in_flight(2);
        flight.answered(0, 80, true).unwrap();
        assert!(!flight.is_free(0));
        flight.notified(0, false).unwrap();
        assert!(flight.is_free(0) && !flight.is_free(1));
        assert_eq!((flight.counts.sends, flight.counts.completions, flight.counts.copied), (1, 1, 0));
    }

    #[test]
    fn a_send_without_a_notification_is_over_with_its_answer_and_is_not_counted() {
        let mut flight = in_flight(1);
        flight.answered(0, 80, false).unwrap();
        assert!(flight.is_free(0) && !flight.any_open());
        assert_eq!(flight.counts, ZeroCopyCounts::default());
    }

    #[test]
    fn a_notification_before_its_answer_frees_nothing_yet() {
        let mut flight = in_flight(1);
        flight.notified(0, true).unwrap();
        assert!(!flight.is_free(0));
        assert_eq!(flight.counts.completions, 0);
        flight.answered(0, 80, true).unwrap();
        assert!(flight.is_free(0));
        assert_eq!((flight.counts.copied, flight.counts.copied_bytes), (1, 80));
    }

    #[test]
    fn a_failed_send_holds_its_message_until_its_notification_and_counts_for_nothing() {
        let mut flight = in_flight(1);
        flight.answered(0, -libc::EAGAIN, true).unwrap();
        assert!(!flight.is_free(0));
        flight.notified(0, true).unwrap();
        assert!(flight.is_free(0));
        assert_eq!(flight.counts, ZeroCopyCounts::default());
    }

    #[test]
    fn a_cancelled_send_may_be_followed_by_one_notification_that_nobody_announced() {
        let mut flight = in_flight(2);
        flight.answered(1, -libc::ECANCELED, false).unwrap();
        assert!(flight.is_free(1));
        flight.notified(1, true).unwrap();
        assert!(flight.notified(1, true).is_err(), "and not by two");
        assert_eq!(flight.counts, ZeroCopyCounts::default());
        assert!(!flight.is_free(0));
    }

    #[test]
    fn what_was_never_sent_or_is_over_is_an_error() {
        let mut flight = in_flight(2);
        assert!(flight.answered(2, 80, true).is_err() && flight.notified(2, true).is_err());
        flight.answered(0, 80, true).unwrap();
        assert!(flight.answered(0, 80, true).is_err(), "one answer");
        flight.notified(0, true).unwrap();
        assert!(flight.notified(0, true).is_err(), "one notification");
    }

    #[test]
    fn a_gathered_message_is_not_free() {
        let mut flight = Flight::new(1);
        flight.hold(0);
        assert!(!flight.is_free(0) && !flight.any_open());
        flight.release(0);
        assert!(flight.is_free(0));
    }

    proptest! {
        /// Answers and notifications in any order, of sends that succeed, fail, and are cancelled.
        #[test]
        fn a_message_is_free_when_all_was_said_of_each_of_its_sends(
            sends in prop::collection::vec((0usize..4, 0usize..4), 1..40), order: Vec<prop::sample::Index>,
        ) {
            let mut flight = Flight::new(4);
            // What is to come: the answer, then the notification, of each; by kind 0 none, 3 an
            // unannounced one.
            let mut events = Vec::new();
            let mut open = Vec::new();
            for &(message, kind) in &sends {
                let number = flight.called(message);
                events.push((number, message, kind, true));
                if kind != 0 {
                    events.push((number, message, kind, false));
                }
                open.push((message, if kind == 1 || kind == 2 { 2 } else { 1 }));
            }
            for index in order.iter().cycle().take(if order.is_empty() { 0 } else { 400 }) {
                if events.is_empty() {
                    break;
                }
                let (number, _, kind, is_answer) = events.swap_remove(index.index(events.len()));
                let place = usize::try_from(number).unwrap();
                if is_answer {
                    let result = [40, 80, -libc::EAGAIN, -libc::ECANCELED][kind];
                    flight.answered(number, result, kind == 1 || kind == 2).unwrap();
                    open[place].1 -= 1;
                } else {
                    flight.notified(number, true).unwrap();
                    open[place].1 -= i32::from(kind != 3);
                }
                for message in 0..4 {
                    let is_open = open.iter().any(|&(owner, left)| owner == message && left > 0);
                    prop_assert_eq!(flight.is_free(message), !is_open);
                }
                prop_assert_eq!(flight.any_open(), open.iter().any(|&(_, left)| left > 0));
            }
            if events.is_empty() {
                let whole = sends.iter().filter(|&&(_, kind)| kind == 1).count() as u64;
                let counts = flight.counts;
                prop_assert_eq!((counts.sends, counts.completions, counts.copied), (whole, whole, whole));
                prop_assert_eq!((counts.sent_bytes, counts.copied_bytes), (80 * whole, 80 * whole));
                prop_assert_eq!(flight.unanswered, 0);
            }
        }
    }
}
