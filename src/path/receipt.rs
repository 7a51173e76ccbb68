//! A ring of messages of which the kernel does not say when they may be written again: they may
//! when the receiver has them.

use super::error::{Error, Result};
use super::ring::Ring;
use crate::message::{Message, MessageMut};

/// The ring, and which of its messages the receiver has.
#[derive(Debug)]
pub(super) struct Receipts {
    pub(super) ring: Ring<Message>,
    /// By place in the ring: how many messages had been sent when this one had been, the last time.
    sent_as: Vec<u64>,
    sent: u64,
    received: u64,
}

impl Receipts {
    /// # Panics
    /// If there is no message.
    pub(super) fn new(messages: Vec<Message>) -> Self {
        Self { sent_as: vec![0; messages.len()], ring: Ring::new(messages), sent: 0, received: 0 }
    }

    /// Lends the next message, where the receiver has it.
    pub(super) fn message(&mut self) -> Result<MessageMut<'_>> {
        let place = self.ring.advance();
        self.check(self.is_free(), self.sent_as[place].saturating_sub(1))?;
        Ok(MessageMut::new(self.ring.current_mut()))
    }

    /// The current message is on its way.
    pub(super) fn sent(&mut self) {
        self.sent += 1;
        self.sent_as[self.ring.place()] = self.sent;
    }

    /// The receiver has the first `messages` messages.
    pub(super) fn received(&mut self, messages: u64) {
        self.received = self.received.max(messages);
    }

    /// Refuses to go on while the receiver may not have all.
    pub(super) fn check_all(&self) -> Result<()> {
        self.check(self.received >= self.sent, self.received)
    }

    /// Has `write` prepare every message, where the receiver has all.
    pub(super) fn prepare(&mut self, write: &mut dyn FnMut(MessageMut<'_>)) -> Result<()> {
        self.check_all()?;
        self.ring.prepare(write);
        Ok(())
    }

    /// Inverts the current message; returns whether the receiver has it.
    pub(super) fn overwrite(&mut self) -> bool {
        self.ring.current_mut().invert();
        self.is_free()
    }

    /// Whether the receiver has what was sent of the current message.
    fn is_free(&self) -> bool {
        self.sent_as[self.ring.place()] <= self.received
    }

    fn check(&self, may_be_written: bool, message: u64) -> Result<()> {
        if may_be_written {
            return Ok(());
        }
        Err(Error::NotReceived { message, received: self.received })
    }
}
