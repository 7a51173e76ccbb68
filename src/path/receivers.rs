//! The receivers that copy, or discard. Each serves every send path, so that paths are compared
//! with the same work on the other side.
//!
//! ```
//! use std::net::{TcpListener, TcpStream};
//! use sendpath::case::Layout;
//! use sendpath::message::{Message, Received};
//! use sendpath::path::{BufferReceiver, DiscardReceiver, MessageSender, ReceiveMessage, SendMessage};
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
//! let mut receiver = BufferReceiver::new(client.try_clone()?, vec![vec![1024]]);
//! receiver.receive()?;
//! assert_eq!(receiver.bytes()[..128], [b'x'; 128]);
//!
//! let mut receiver = DiscardReceiver::new(client, vec![1024]);
//! receiver.receive()?; // has waited for 1024 bytes and copied none
//! assert!(matches!(receiver.last(), Received::Discarded));
//! assert_eq!(receiver.copies().kernel_to_user_bytes, 0);
//! # Ok(()) }
//! ```

use super::error::Result;
use super::ring::Ring;
use super::{Copies, ReceiveMessage, Socket, discard_all, recv_all, recv_all_vectored};
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
}

/// Receives into one contiguous buffer.
#[derive(Debug)]
pub struct BufferReceiver<S> {
    socket: S,
    bytes: Box<[u8]>,
    ring: Ring<Lengths>,
    copies: Copies,
}

impl<S: Socket> BufferReceiver<S> {
    /// A receiver of messages whose fields have the given lengths, in bytes: one message after the
    /// other, and again from the first.
    ///
    /// # Panics
    /// If there is no message.
    pub fn new(socket: S, messages: Vec<Vec<usize>>) -> Self {
        let ring = Ring::of_fields(messages);
        Self { socket, bytes: ring.buffer(), ring, copies: Copies::default() }
    }

    /// The bytes of the message that was received last.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.ring.current().payload_bytes]
    }
}

impl<S: Socket + Send> ReceiveMessage for BufferReceiver<S> {
    fn receive(&mut self) -> Result<()> {
        self.ring.advance();
        let payload_bytes = self.ring.current().payload_bytes;
        recv_all(&self.socket, &mut self.bytes[..payload_bytes])?;
        self.copies.kernel_to_user_bytes += payload_bytes as u64;
        self.ring.mark_sent();
        Ok(())
    }

    fn last(&self) -> Received<'_> {
        Received::Packed { bytes: self.bytes(), field_bytes: &self.ring.current().field_bytes }
    }

    fn copies(&self) -> Copies {
        self.copies
    }
}

/// Receives without taking anything out of the kernel, which discards the bytes. What is left is
/// what sending costs, and the network.
#[derive(Debug)]
pub struct DiscardReceiver<S> {
    socket: S,
    ring: Ring<usize>,
}

impl<S: Socket> DiscardReceiver<S> {
    /// A receiver of messages of the given payloads, in bytes: one after the other, and again from
    /// the first.
    ///
    /// # Panics
    /// If there is no message.
    pub fn new(socket: S, payload_bytes: Vec<usize>) -> Self {
        Self { socket, ring: Ring::new(payload_bytes) }
    }
}

impl<S: Socket + Send> ReceiveMessage for DiscardReceiver<S> {
    fn receive(&mut self) -> Result<()> {
        self.ring.advance();
        discard_all(&self.socket, *self.ring.current())?;
        self.ring.mark_sent();
        Ok(())
    }

    fn last(&self) -> Received<'_> {
        Received::Discarded
    }
}

/// Receives into one buffer, then unpacks.
#[derive(Debug)]
pub struct TwoCopyReceiver<S> {
    socket: S,
    ring: Ring<Message>,
    packed: Box<[u8]>,
    copies: Copies,
}

impl<S: Socket> TwoCopyReceiver<S> {
    /// A receiver of messages with the shapes of `messages`, in turn.
    ///
    /// # Panics
    /// If there is no message.
    pub fn new(socket: S, messages: Vec<Message>) -> Self {
        let ring = Ring::new(messages);
        Self {
            socket,
            packed: vec![0; ring.largest_bytes(Message::payload_bytes)].into(),
            ring,
            copies: Copies::default(),
        }
    }

    /// The message that was received last.
    pub fn message(&self) -> &Message {
        self.ring.current()
    }
}

impl<S: Socket + Send> ReceiveMessage for TwoCopyReceiver<S> {
    fn receive(&mut self) -> Result<()> {
        self.ring.advance();
        let message = self.ring.current_mut();
        let packed = &mut self.packed[..message.payload_bytes()];
        recv_all(&self.socket, packed)?;
        message.unpack(packed);
        self.copies.kernel_to_user_bytes += packed.len() as u64;
        self.copies.user_to_user_bytes += packed.len() as u64;
        self.ring.mark_sent();
        Ok(())
    }

    fn last(&self) -> Received<'_> {
        Received::Fields(self.ring.current())
    }

    fn copies(&self) -> Copies {
        self.copies
    }
}

/// Receives the fields to where they belong.
#[derive(Debug)]
pub struct OneCopyReceiver<S> {
    socket: S,
    ring: Ring<Message>,
    copies: Copies,
}

impl<S: Socket> OneCopyReceiver<S> {
    /// A receiver of messages with the shapes of `messages`, in turn.
    ///
    /// # Panics
    /// If there is no message.
    pub fn new(socket: S, messages: Vec<Message>) -> Self {
        Self { socket, ring: Ring::new(messages), copies: Copies::default() }
    }

    /// The message that was received last.
    pub fn message(&self) -> &Message {
        self.ring.current()
    }
}

impl<S: Socket + Send> ReceiveMessage for OneCopyReceiver<S> {
    fn receive(&mut self) -> Result<()> {
        self.ring.advance();
        let message = self.ring.current_mut();
        recv_all_vectored(&self.socket, message)?;
        self.copies.kernel_to_user_bytes += message.payload_bytes() as u64;
        self.ring.mark_sent();
        Ok(())
    }

    fn last(&self) -> Received<'_> {
        Received::Fields(self.ring.current())
    }

    fn copies(&self) -> Copies {
        self.copies
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::field_bytes;
    use crate::path::tests::script;

    #[test]
    fn a_short_recv_at_any_byte_goes_on_where_it_stopped() {
        script::interrupt_receive_at_every_byte(|socket, message| {
            Box::new(BufferReceiver::new(socket, vec![field_bytes(message.payload_bytes()).to_vec()]))
        });
        script::interrupt_receive_at_every_byte(|socket, message| {
            Box::new(DiscardReceiver::new(socket, vec![message.payload_bytes()]))
        });
        script::interrupt_receive_at_every_byte(|socket, message| {
            Box::new(OneCopyReceiver::new(socket, vec![message]))
        });
        script::interrupt_receive_at_every_byte(|socket, message| {
            Box::new(TwoCopyReceiver::new(socket, vec![message]))
        });
    }

    #[test]
    fn a_peer_that_closes_inside_a_message_is_an_error_that_says_where() {
        script::close_inside_a_message(|socket, message| {
            Box::new(BufferReceiver::new(socket, vec![field_bytes(message.payload_bytes()).to_vec()]))
        });
        script::close_inside_a_message(|socket, message| {
            Box::new(DiscardReceiver::new(socket, vec![message.payload_bytes()]))
        });
        script::close_inside_a_message(|socket, message| {
            Box::new(OneCopyReceiver::new(socket, vec![message]))
        });
        script::close_inside_a_message(|socket, message| {
            Box::new(TwoCopyReceiver::new(socket, vec![message]))
        });
    }
}
