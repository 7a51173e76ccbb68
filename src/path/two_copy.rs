//! `two_copy`: pack the fields into one buffer, `send` it; `recv` into one buffer, unpack.
//!
//! The plainest code there is, and hard to beat for small messages: a memcpy of a few KiB costs less
//! than eight iovecs do.
//!
//! ```
//! use std::net::{TcpListener, TcpStream};
//! use sendpath::case::Layout;
//! use sendpath::message::Message;
//! use sendpath::path::{ReceiveMessage, SendMessage, TwoCopyReceiver, TwoCopySender};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let client = TcpStream::connect(listener.local_addr()?)?;
//! let (server, _) = listener.accept()?;
//!
//! let mut sender = TwoCopySender::new(server, vec![Message::new(1024, Layout::Heap)]);
//! sender.message()?.field_mut(0).fill(b'x'); // write the fields …
//! sender.send()?; // … and send them as one
//!
//! let mut receiver = TwoCopyReceiver::new(client, vec![Message::new(1024, Layout::Heap)]);
//! receiver.receive()?;
//! assert_eq!(receiver.message().field(0), [b'x'; 128]);
//! # Ok(()) }
//! ```

use super::ring::Ring;
use super::{Copies, ReceiveMessage, SendMessage, Socket, ZeroCopyCounts, recv_all, send_all};
use crate::error::Result;
use crate::message::{Message, Received, invert};

/// Sends by packing first.
#[derive(Debug)]
pub struct TwoCopySender<S> {
    socket: S,
    ring: Ring,
    packed: Box<[u8]>,
    copies: Copies,
}

impl<S: Socket> TwoCopySender<S> {
    /// A sender of `messages`, in turn.
    ///
    /// # Panics
    /// If there is no message.
    pub fn new(socket: S, messages: Vec<Message>) -> Self {
        let ring = Ring::new(messages);
        Self { socket, packed: vec![0; ring.largest_bytes()].into(), ring, copies: Copies::default() }
    }
}

impl<S: Socket + Send> SendMessage for TwoCopySender<S> {
    fn message(&mut self) -> Result<&mut Message> {
        self.ring.advance();
        Ok(self.ring.current_mut())
    }

    fn send(&mut self) -> Result<()> {
        let message = self.ring.current();
        let packed = &mut self.packed[..message.payload_bytes()];
        message.pack(packed);
        self.copies.user_to_user_bytes += packed.len() as u64;
        send_all(&self.socket, packed)?;
        self.copies.user_to_kernel_bytes += packed.len() as u64;
        self.ring.mark_sent();
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    fn prepare(&mut self, write: &mut dyn FnMut(&mut Message)) -> Result<()> {
        self.ring.messages_mut().iter_mut().for_each(write);
        Ok(())
    }

    fn overwrite(&mut self) -> Result<bool> {
        self.ring.current_mut().invert();
        invert(&mut self.packed);
        Ok(true)
    }

    fn zero_copy_counts(&self) -> Option<ZeroCopyCounts> {
        None
    }

    fn copies(&self) -> Copies {
        self.copies
    }
}

/// Receives into one buffer, then unpacks.
#[derive(Debug)]
pub struct TwoCopyReceiver<S> {
    socket: S,
    ring: Ring,
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
        Self { socket, packed: vec![0; ring.largest_bytes()].into(), ring, copies: Copies::default() }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::script;

    #[test]
    fn a_short_send_at_any_byte_goes_on_where_it_stopped() {
        script::interrupt_at_every_byte(|socket, messages| Box::new(TwoCopySender::new(socket, messages)));
    }

    #[test]
    fn a_short_recv_at_any_byte_goes_on_where_it_stopped() {
        script::interrupt_receive_at_every_byte(|socket, message| {
            Box::new(TwoCopyReceiver::new(socket, vec![message]))
        });
    }

    #[test]
    fn a_peer_that_closes_inside_a_message_is_an_error_that_says_where() {
        script::close_inside_a_message(|socket, message| {
            Box::new(TwoCopyReceiver::new(socket, vec![message]))
        });
    }

    #[test]
    fn messages_are_sent_in_the_order_of_the_ring() {
        script::send_in_turn(|socket, messages| Box::new(TwoCopySender::new(socket, messages)));
    }

    #[test]
    fn a_socket_that_never_gets_ready_is_given_up() {
        script::give_up_waiting(|socket, messages| Box::new(TwoCopySender::new(socket, messages)));
    }
}
