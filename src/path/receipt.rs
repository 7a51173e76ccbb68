//! Sends from pages that go into the socket as they are. The kernel does not say when a message may
//! be written again: it may when the receiver has it.

use std::io;

use super::error::{Error, Result};
use super::ring::Ring;
use super::{Interest, Observe, SendMessage, Socket, WAIT_LIMIT, Wait, moved};
use crate::message::{Message, MessageMut};

/// How pages get into a socket.
pub trait Feed: Send {
    /// As errors name the call.
    const CALL: &'static str;

    /// A message begins.
    fn begin(&mut self) {}

    /// Makes one call, for what is left of the message, at this place in the ring, after its first
    /// `sent_bytes`.
    ///
    /// # Errors
    /// Of what has to come before the call.
    fn call(
        &mut self,
        socket: &impl Socket,
        place: usize,
        message: &Message,
        sent_bytes: usize,
    ) -> Result<io::Result<usize>>;
}

/// Sends from a ring of messages, of which the receiver alone says that it has them.
#[derive(Debug)]
pub struct PageSender<S, F> {
    socket: S,
    pub(super) feed: F,
    pub(super) ring: Ring<Message>,
    /// By place in the ring: how many messages had been sent when this one had been, the last time.
    sent_as: Vec<u64>,
    sent: u64,
    received: u64,
    /// Whether the current message is on its way, and how much of it is in the socket.
    is_begun: bool,
    sent_bytes: usize,
}

impl<S: Socket, F: Feed> PageSender<S, F> {
    pub(super) fn of(socket: S, messages: Vec<Message>, feed: F) -> Self {
        let sent_as = vec![0; messages.len()];
        let ring = Ring::new(messages);
        Self { socket, feed, ring, sent_as, sent: 0, received: 0, is_begun: false, sent_bytes: 0 }
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

impl<S: Socket + Send, F: Feed> SendMessage for PageSender<S, F> {
    fn message(&mut self) -> Result<MessageMut<'_>> {
        let place = self.ring.advance();
        self.check(self.is_free(), self.sent_as[place].saturating_sub(1))?;
        Ok(MessageMut::new(self.ring.current_mut()))
    }

    fn send(&mut self) -> Result<()> {
        let place = self.ring.place();
        if !self.is_begun {
            // Before the first byte is given away: also of a send that fails half-way, the kernel
            // may hold pages.
            self.is_begun = true;
            self.sent += 1;
            self.sent_as[place] = self.sent;
            self.feed.begin();
        }
        let message = self.ring.current();
        let mut wait = Wait::new(Interest::Writable, WAIT_LIMIT);
        while self.sent_bytes < message.payload_bytes() {
            let result = self.feed.call(&self.socket, place, message, self.sent_bytes)?;
            self.sent_bytes += moved(wait.progress(&self.socket, F::CALL, result)?, F::CALL)?;
        }
        (self.is_begun, self.sent_bytes) = (false, 0);
        self.ring.mark_sent();
        Ok(())
    }

    fn received(&mut self, messages: u64) {
        self.received = self.received.max(messages);
    }

    fn flush(&mut self) -> Result<()> {
        self.check(self.received >= self.sent, self.received)
    }
}

impl<S: Socket + Send, F: Feed> Observe for PageSender<S, F> {
    fn prepare(&mut self, write: &mut dyn FnMut(MessageMut<'_>)) -> Result<()> {
        self.flush()?;
        self.ring.prepare(write);
        Ok(())
    }

    fn overwrite(&mut self) -> Result<bool> {
        self.ring.current_mut().invert();
        Ok(self.is_free())
    }
}
