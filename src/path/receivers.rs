//! Receivers that do not take the fields apart: they serve every send path, so that paths are compared
//! with the same work on the other side.
//!
//! ```
//! use std::net::{TcpListener, TcpStream};
//! use sendpath::case::Layout;
//! use sendpath::message::{Message, Received};
//! use sendpath::path::{BufferReceiver, DiscardReceiver, OneCopySender, ReceiveMessage, SendMessage};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let client = TcpStream::connect(listener.local_addr()?)?;
//! let (server, _) = listener.accept()?;
//!
//! let mut sender = OneCopySender::new(server, vec![Message::new(1024, Layout::Heap)]);
//! sender.message()?.field_mut(0).fill(b'x');
//! sender.send()?;
//! sender.send()?; // the same once more
//!
//! let mut receiver = BufferReceiver::new(client.try_clone()?, 1024);
//! receiver.receive()?;
//! assert_eq!(receiver.bytes()[..128], [b'x'; 128]);
//!
//! let mut receiver = DiscardReceiver::new(client, 1024);
//! receiver.receive()?; // has waited for 1024 bytes and copied none
//! assert!(matches!(receiver.last(), Received::Discarded));
//! assert_eq!(receiver.copies().kernel_to_user_bytes, 0);
//! # Ok(()) }
//! ```

use super::{Copies, ReceiveMessage, Socket, discard_all, recv_all};
use crate::error::Result;
use crate::message::{FIELDS, Received, field_bytes};

/// Receives into one contiguous buffer.
#[derive(Debug)]
pub struct BufferReceiver<S> {
    socket: S,
    bytes: Box<[u8]>,
    field_bytes: [usize; FIELDS],
    copies: Copies,
}

impl<S: Socket> BufferReceiver<S> {
    /// A receiver of messages of `payload_bytes`, as [`Message::new`](crate::message::Message::new) makes
    /// them.
    pub fn new(socket: S, payload_bytes: usize) -> Self {
        Self {
            socket,
            bytes: vec![0; payload_bytes].into(),
            field_bytes: field_bytes(payload_bytes),
            copies: Copies::default(),
        }
    }

    /// The bytes of the message that was received last.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl<S: Socket + Send> ReceiveMessage for BufferReceiver<S> {
    fn receive(&mut self) -> Result<()> {
        recv_all(&self.socket, &mut self.bytes)?;
        self.copies.kernel_to_user_bytes += self.bytes.len() as u64;
        Ok(())
    }

    fn last(&self) -> Received<'_> {
        Received::Packed { bytes: &self.bytes, field_bytes: self.field_bytes }
    }

    fn copies(&self) -> Copies {
        self.copies
    }
}

/// Receives without taking anything out of the kernel, which discards the bytes. What is left is what
/// sending costs, and the network.
#[derive(Debug)]
pub struct DiscardReceiver<S> {
    socket: S,
    payload_bytes: usize,
}

impl<S: Socket> DiscardReceiver<S> {
    /// A receiver of messages of `payload_bytes`.
    pub fn new(socket: S, payload_bytes: usize) -> Self {
        Self { socket, payload_bytes }
    }
}

impl<S: Socket + Send> ReceiveMessage for DiscardReceiver<S> {
    fn receive(&mut self) -> Result<()> {
        discard_all(&self.socket, self.payload_bytes)
    }

    fn last(&self) -> Received<'_> {
        Received::Discarded
    }

    /// None: nothing is copied out of the kernel.
    fn copies(&self) -> Copies {
        Copies::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::script;

    #[test]
    fn a_short_recv_at_any_byte_goes_on_where_it_stopped() {
        script::interrupt_receive_at_every_byte(|socket, message| {
            Box::new(BufferReceiver::new(socket, message.payload_bytes()))
        });
        script::interrupt_receive_at_every_byte(|socket, message| {
            Box::new(DiscardReceiver::new(socket, message.payload_bytes()))
        });
    }

    #[test]
    fn a_peer_that_closes_inside_a_message_is_an_error_that_says_where() {
        script::close_inside_a_message(|socket, message| {
            Box::new(BufferReceiver::new(socket, message.payload_bytes()))
        });
        script::close_inside_a_message(|socket, message| {
            Box::new(DiscardReceiver::new(socket, message.payload_bytes()))
        });
    }
}
