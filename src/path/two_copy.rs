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
//! let mut sender = TwoCopySender::new(server, Message::new(1024, Layout::Heap));
//! sender.message()?.field_mut(0).fill(b'x'); // write the fields …
//! sender.send()?; // … and off they go, as one
//!
//! let mut receiver = TwoCopyReceiver::new(client, Message::new(1024, Layout::Heap));
//! assert_eq!(receiver.receive()?.field(0), [b'x'; 128]);
//! # Ok(()) }
//! ```

use super::{Copies, ReceiveMessage, SendMessage, Socket, ZeroCopyCounts, recv_all, send_all};
use crate::error::Result;
use crate::message::Message;

/// Sends by packing first.
#[derive(Debug)]
pub struct TwoCopySender<S> {
    socket: S,
    message: Message,
    packed: Box<[u8]>,
    copies: Copies,
}

impl<S: Socket> TwoCopySender<S> {
    /// A sender of messages with the shape of `message`.
    pub fn new(socket: S, message: Message) -> Self {
        Self { socket, packed: vec![0; message.payload_bytes()].into(), message, copies: Copies::default() }
    }
}

impl<S: Socket + Send> SendMessage for TwoCopySender<S> {
    fn message(&mut self) -> Result<&mut Message> {
        Ok(&mut self.message)
    }

    fn send(&mut self) -> Result<()> {
        let bytes = self.packed.len() as u64;
        self.message.pack(&mut self.packed);
        self.copies.user_to_user_bytes += bytes;
        send_all(&self.socket, &self.packed)?;
        self.copies.user_to_kernel_bytes += bytes;
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    fn prepare(&mut self, write: &mut dyn FnMut(&mut Message)) -> Result<()> {
        write(&mut self.message);
        Ok(())
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
    message: Message,
    packed: Box<[u8]>,
    copies: Copies,
}

impl<S: Socket> TwoCopyReceiver<S> {
    /// A receiver of messages with the shape of `message`.
    pub fn new(socket: S, message: Message) -> Self {
        Self { socket, packed: vec![0; message.payload_bytes()].into(), message, copies: Copies::default() }
    }
}

impl<S: Socket + Send> ReceiveMessage for TwoCopyReceiver<S> {
    fn receive(&mut self) -> Result<&Message> {
        recv_all(&self.socket, &mut self.packed)?;
        self.message.unpack(&self.packed);
        self.copies.kernel_to_user_bytes += self.packed.len() as u64;
        self.copies.user_to_user_bytes += self.packed.len() as u64;
        Ok(&self.message)
    }

    fn last(&self) -> &Message {
        &self.message
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
        script::interrupt_at_every_byte(|socket, message| Box::new(TwoCopySender::new(socket, message)));
    }

    #[test]
    fn a_short_recv_at_any_byte_goes_on_where_it_stopped() {
        script::interrupt_receive_at_every_byte(|socket, message| {
            Box::new(TwoCopyReceiver::new(socket, message))
        });
    }

    #[test]
    fn a_peer_that_closes_inside_a_message_is_an_error_that_says_where() {
        script::close_inside_a_message(|socket, message| Box::new(TwoCopyReceiver::new(socket, message)));
    }

    #[test]
    fn a_socket_that_never_gets_ready_is_given_up() {
        script::give_up_waiting(|socket, message| Box::new(TwoCopySender::new(socket, message)));
    }
}
