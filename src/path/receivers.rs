//! The receivers that copy, or discard. Each serves every send path, so that paths are compared
//! with the same work on the other side.
//!
//! ```
//! use std::net::{TcpListener, TcpStream};
//! use sendpath::case::Layout;
//! use sendpath::message::{Message, Received};
//! use sendpath::path::{MessageReceiver, MessageSender, ReceiveMessage, SendMessage};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let client = TcpStream::connect(listener.local_addr()?)?;
//! let (server, _) = listener.accept()?;
//!
//! let mut sender = MessageSender::one_copy(server, vec![Message::new(1024, Layout::Heap)]);
//! sender.message()?.field_mut(0).fill(b'x');
//! sender.send()?;
//! sender.send()?; // the same once more
//!
//! let mut receiver = MessageReceiver::buffer(client.try_clone()?, vec![vec![1024]]);
//! receiver.receive()?;
//! assert_eq!(receiver.bytes()[..128], [b'x'; 128]);
//!
//! let mut receiver = MessageReceiver::discard(client, vec![vec![1024]]);
//! receiver.receive()?; // has waited for 1024 bytes and copied none
//! assert!(matches!(receiver.last(), Received::Discarded));
//! assert_eq!(receiver.copies().kernel_to_user_bytes, 0);
//! # Ok(()) }
//! ```

use super::error::Result;
use super::ring::Ring;
use super::{Copies, ReceiveMessage, Socket, discard_all, recv_all, recv_all_vectored};
use crate::case::Layout;
use crate::message::{Message, Received};

/// The lengths of a message's fields, with their sum.
#[derive(Debug)]
pub(super) struct Lengths {
    pub(super) payload_bytes: usize,
    pub(super) field_bytes: Vec<usize>,
}

impl Ring<Lengths> {
    pub(super) fn of_fields(messages: Vec<Vec<usize>>) -> Self {
        let lengths =
            |field_bytes: Vec<usize>| Lengths { payload_bytes: field_bytes.iter().sum(), field_bytes };
        Self::new(messages.into_iter().map(lengths).collect())
    }

    pub(super) fn buffer(&self) -> Box<[u8]> {
        vec![0; self.largest_bytes(|lengths| lengths.payload_bytes)].into()
    }

    fn messages(&self, layout: Layout) -> Vec<Message> {
        let message = |lengths: &Lengths| Message::with_field_bytes(&lengths.field_bytes, layout);
        self.items.iter().map(message).collect()
    }
}

/// Where the bytes of messages go.
#[derive(Debug)]
enum Place {
    /// Into one buffer.
    Buffer(Box<[u8]>),
    /// Into the fields, where they belong: of a message for each in the ring.
    Fields(Vec<Message>),
    /// Into one buffer, and from there into the fields.
    Unpacked(Box<[u8]>, Vec<Message>),
    /// Nowhere: the kernel discards them.
    Nowhere,
}

/// Receives messages whose fields have given lengths, in bytes: one message after the other, and
/// again from the first.
#[derive(Debug)]
pub struct MessageReceiver<S> {
    socket: S,
    ring: Ring<Lengths>,
    place: Place,
    copies: Copies,
}

impl<S: Socket> MessageReceiver<S> {
    /// A receiver into one contiguous buffer.
    ///
    /// # Panics
    /// If there is no message.
    pub fn buffer(socket: S, messages: Vec<Vec<usize>>) -> Self {
        Self::new(socket, messages, |ring| Place::Buffer(ring.buffer()))
    }

    /// A receiver into the fields.
    ///
    /// # Panics
    /// If there is no message, or one has too many fields.
    pub fn one_copy(socket: S, messages: Vec<Vec<usize>>, layout: Layout) -> Self {
        Self::new(socket, messages, |ring| Place::Fields(ring.messages(layout)))
    }

    /// A receiver into one buffer, which it unpacks into the fields.
    ///
    /// # Panics
    /// If there is no message, or one has too many fields.
    pub fn two_copy(socket: S, messages: Vec<Vec<usize>>, layout: Layout) -> Self {
        Self::new(socket, messages, |ring| Place::Unpacked(ring.buffer(), ring.messages(layout)))
    }

    /// A receiver that takes nothing out of the kernel, which discards the bytes. What is left is
    /// what sending costs, and the network.
    ///
    /// # Panics
    /// If there is no message.
    pub fn discard(socket: S, messages: Vec<Vec<usize>>) -> Self {
        Self::new(socket, messages, |_| Place::Nowhere)
    }

    /// The bytes of the message that was received last, one field after the other, where they came
    /// into one buffer; empty where they did not.
    pub fn bytes(&self) -> &[u8] {
        match &self.place {
            Place::Buffer(bytes) | Place::Unpacked(bytes, _) => &bytes[..self.ring.current().payload_bytes],
            Place::Fields(_) | Place::Nowhere => &[],
        }
    }

    fn new(socket: S, messages: Vec<Vec<usize>>, place: impl FnOnce(&Ring<Lengths>) -> Place) -> Self {
        let ring = Ring::of_fields(messages);
        Self { socket, place: place(&ring), ring, copies: Copies::default() }
    }
}

impl<S: Socket + Send> ReceiveMessage for MessageReceiver<S> {
    fn receive(&mut self) -> Result<()> {
        let turn = self.ring.advance();
        let payload_bytes = self.ring.current().payload_bytes;
        let Self { socket, place, copies, .. } = self;
        match place {
            Place::Buffer(bytes) => recv_all(socket, &mut bytes[..payload_bytes])?,
            Place::Fields(messages) => recv_all_vectored(socket, &mut messages[turn])?,
            Place::Unpacked(bytes, messages) => {
                let packed = &mut bytes[..payload_bytes];
                recv_all(socket, packed)?;
                messages[turn].unpack(packed);
                copies.user_to_user_bytes += payload_bytes as u64;
            }
            Place::Nowhere => discard_all(socket, payload_bytes)?,
        }
        if !matches!(place, Place::Nowhere) {
            copies.kernel_to_user_bytes += payload_bytes as u64;
        }
        self.ring.mark_sent();
        Ok(())
    }

    fn last(&self) -> Received<'_> {
        match &self.place {
            Place::Buffer(_) => {
                Received::Packed { bytes: self.bytes(), field_bytes: &self.ring.current().field_bytes }
            }
            Place::Fields(messages) | Place::Unpacked(_, messages) => {
                Received::Fields(&messages[self.ring.place()])
            }
            Place::Nowhere => Received::Discarded,
        }
    }

    fn copies(&self) -> Copies {
        self.copies
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::tests::script::{self, Script};

    type Make = fn(Script, Message) -> Box<dyn ReceiveMessage>;

    const EVERY: [Make; 4] = [
        |socket, message| Box::new(MessageReceiver::buffer(socket, script::shapes(&[message]))),
        |socket, message| Box::new(MessageReceiver::discard(socket, script::shapes(&[message]))),
        |socket, message| {
            Box::new(MessageReceiver::one_copy(socket, script::shapes(&[message]), Layout::Heap))
        },
        |socket, message| {
            Box::new(MessageReceiver::two_copy(socket, script::shapes(&[message]), Layout::Heap))
        },
    ];

    #[test]
    fn a_short_recv_at_any_byte_goes_on_where_it_stopped() {
        EVERY.into_iter().for_each(script::interrupt_receive_at_every_byte);
    }

    #[test]
    fn a_peer_that_closes_inside_a_message_is_an_error_that_says_where() {
        EVERY.into_iter().for_each(script::close_inside_a_message);
    }
}
