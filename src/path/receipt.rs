//! Which messages may be written again, where the kernel does not say so: those that the receiver has.

use super::error::{Error, Result};

/// Which messages of a ring the receiver has.
#[derive(Debug)]
pub(super) struct Receipts {
    /// By place in the ring: how many messages had been sent when this one had been, the last time.
    sent_as: Vec<u64>,
    sent: u64,
    received: u64,
}

impl Receipts {
    pub(super) fn new(messages: usize) -> Self {
        Self { sent_as: vec![0; messages], sent: 0, received: 0 }
    }

    /// The message at `place` is on its way.
    pub(super) fn sent(&mut self, place: usize) {
        self.sent += 1;
        self.sent_as[place] = self.sent;
    }

    /// The receiver has the first `messages` messages.
    pub(super) fn received(&mut self, messages: u64) {
        self.received = self.received.max(messages);
    }

    /// Whether the receiver has all that was sent.
    pub(super) fn has_all(&self) -> bool {
        self.received >= self.sent
    }

    /// Whether the receiver has what was sent of the message at `place`.
    pub(super) fn is_free(&self, place: usize) -> bool {
        self.sent_as[place] <= self.received
    }

    /// Refuses to go on while the receiver may not have all.
    pub(super) fn check_all(&self) -> Result<()> {
        if self.has_all() {
            return Ok(());
        }
        Err(Error::NotReceived { message: self.received, received: self.received })
    }

    /// Refuses to write a message that the receiver may not have.
    pub(super) fn check(&self, place: usize) -> Result<()> {
        if self.is_free(place) {
            return Ok(());
        }
        Err(Error::NotReceived { message: self.sent_as[place] - 1, received: self.received })
    }
}
