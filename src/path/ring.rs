//! What is sent, or received, in turn: in the same order on every path.

use std::mem;

use crate::message::{Message, MessageMut};

/// A ring of messages, or of what stands for them, of which one is current: the one to write and to
/// send, or the one that was received last.
#[derive(Debug)]
pub(super) struct Ring<T> {
    /// All, in the order in which they are sent.
    pub(super) items: Vec<T>,
    current: usize,
    /// Whether the current one has been sent, or received.
    sent: bool,
}

impl<T> Ring<T> {
    /// # Panics
    /// If there is no message.
    pub(super) fn new(items: Vec<T>) -> Self {
        assert!(!items.is_empty(), "there is at least one message");
        Self { items, current: 0, sent: false }
    }

    /// Makes the next one the current one, if the current one has been sent. Returns its place.
    #[inline]
    pub(super) fn advance(&mut self) -> usize {
        if mem::take(&mut self.sent) {
            self.current += 1;
            if self.current == self.items.len() {
                self.current = 0;
            }
        }
        self.current
    }

    pub(super) fn place(&self) -> usize {
        self.current
    }

    /// The place of the one that was sent so many before the current one. With the whole ring in
    /// flight, it is this very one.
    #[inline]
    pub(super) fn place_before(&self, messages: usize) -> usize {
        match self.current.checked_sub(messages) {
            Some(place) => place,
            None => self.current + self.items.len() - messages,
        }
    }

    pub(super) fn current(&self) -> &T {
        &self.items[self.current]
    }

    pub(super) fn current_mut(&mut self) -> &mut T {
        &mut self.items[self.current]
    }

    /// Notes that the current one has been sent, or received.
    pub(super) fn mark_sent(&mut self) {
        self.sent = true;
    }

    /// The largest of them, in bytes.
    pub(super) fn largest_bytes(&self, bytes: impl Fn(&T) -> usize) -> usize {
        self.items.iter().map(bytes).max().unwrap_or_default()
    }
}

impl Ring<Message> {
    /// Has `write` prepare every message, from the first to the last.
    pub(super) fn prepare(&mut self, write: &mut dyn FnMut(MessageMut<'_>)) {
        self.items.iter_mut().map(MessageMut::new).for_each(write);
    }

    /// Leaks the messages' memory, and returns how many bytes that is. The ring is empty then, and
    /// no longer usable.
    pub(super) fn leak(&mut self) -> u64 {
        let messages = mem::take(&mut self.items);
        let leaked_bytes = messages.iter().map(|message| message.payload_bytes() as u64).sum();
        mem::forget(messages);
        leaked_bytes
    }
}
