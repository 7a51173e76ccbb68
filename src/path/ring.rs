//! Messages that are sent, or received, in turn: in the same order on every path.

use std::mem;

use crate::message::Message;

/// A ring of messages, of which one is current: the one to write and to send, or the one that was received last.
#[derive(Debug)]
pub(super) struct Ring {
    messages: Vec<Message>,
    current: usize,
    /// Whether the current message has been sent, or received.
    sent: bool,
}

impl Ring {
    /// # Panics
    /// If there is no message.
    pub(super) fn new(messages: Vec<Message>) -> Self {
        assert!(!messages.is_empty(), "there is at least one message");
        Self { messages, current: 0, sent: false }
    }

    /// Makes the next message the current one, if the current one has been sent. Returns its place.
    pub(super) fn advance(&mut self) -> usize {
        if mem::take(&mut self.sent) {
            self.current += 1;
            if self.current == self.messages.len() {
                self.current = 0;
            }
        }
        self.current
    }

    pub(super) fn place(&self) -> usize {
        self.current
    }

    pub(super) fn current(&self) -> &Message {
        &self.messages[self.current]
    }

    pub(super) fn current_mut(&mut self) -> &mut Message {
        &mut self.messages[self.current]
    }

    /// Notes that the current message has been sent, or received.
    pub(super) fn mark_sent(&mut self) {
        self.sent = true;
    }

    /// Every message, in the order in which they are sent.
    pub(super) fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// As [`messages`](Self::messages), to write.
    pub(super) fn messages_mut(&mut self) -> &mut [Message] {
        &mut self.messages
    }

    /// The payload of the largest message.
    pub(super) fn largest_bytes(&self) -> usize {
        self.messages.iter().map(Message::payload_bytes).max().unwrap_or_default()
    }

    /// Leaks the messages' memory, and returns how many bytes that is. The ring is empty then, and no longer usable.
    pub(super) fn leak(&mut self) -> u64 {
        let messages = mem::take(&mut self.messages);
        let leaked_bytes = messages.iter().map(|message| message.payload_bytes() as u64).sum();
        mem::forget(messages);
        leaked_bytes
    }
}
