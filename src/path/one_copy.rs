//! `one_copy`: scatter-gather. `sendmsg` takes the fields where they lie, `recvmsg` puts them there.
//!
//! It needs no pack buffer and no memcpy, and costs one iovec per field to check and to walk. It is the cheaper one
//! from the size at which packing costs more than that. This suite measures that size.
//!
//! ```
//! use std::net::{TcpListener, TcpStream};
//! use sendpath::case::Layout;
//! use sendpath::message::Message;
//! use sendpath::path::{OneCopyReceiver, OneCopySender, ReceiveMessage, SendMessage};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let client = TcpStream::connect(listener.local_addr()?)?;
//! let (server, _) = listener.accept()?;
//!
//! // A small header before a large body, sent with one call and no pack buffer.
//! let shape = || Message::with_field_bytes(&[16, 65536], Layout::Heap);
//! let mut sender = OneCopySender::new(server, vec![shape()]);
//! sender.message()?.field_mut(0).copy_from_slice(b"a 16-byte header");
//! sender.send()?;
//!
//! let mut receiver = OneCopyReceiver::new(client, vec![shape()]);
//! receiver.receive()?;
//! assert_eq!(receiver.message().field(0), b"a 16-byte header");
//! # Ok(()) }
//! ```

use super::ring::Ring;
use super::{
    Copies, ReceiveMessage, SendMessage, Socket, ZeroCopyCounts, recv_all_vectored, send_all_vectored,
};
use crate::error::Result;
use crate::message::{Message, Received};

/// Sends the fields from where they lie.
#[derive(Debug)]
pub struct OneCopySender<S> {
    socket: S,
    ring: Ring,
    copies: Copies,
}

impl<S: Socket> OneCopySender<S> {
    /// A sender of `messages`, in turn.
    ///
    /// # Panics
    /// If there is no message.
    pub fn new(socket: S, messages: Vec<Message>) -> Self {
        Self { socket, ring: Ring::new(messages), copies: Copies::default() }
    }
}

impl<S: Socket + Send> SendMessage for OneCopySender<S> {
    fn message(&mut self) -> Result<&mut Message> {
        self.ring.advance();
        Ok(self.ring.current_mut())
    }

    fn send(&mut self) -> Result<()> {
        let message = self.ring.current();
        send_all_vectored(&self.socket, message.io_slices(), message.payload_bytes())?;
        self.copies.user_to_kernel_bytes += message.payload_bytes() as u64;
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
        Ok(true)
    }

    fn zero_copy_counts(&self) -> Option<ZeroCopyCounts> {
        None
    }

    fn copies(&self) -> Copies {
        self.copies
    }
}

/// Receives the fields to where they belong.
#[derive(Debug)]
pub struct OneCopyReceiver<S> {
    socket: S,
    ring: Ring,
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
    use crate::path::script;

    #[test]
    fn a_short_send_at_any_byte_goes_on_where_it_stopped() {
        script::interrupt_at_every_byte(|socket, messages| Box::new(OneCopySender::new(socket, messages)));
    }

    #[test]
    fn a_short_recv_at_any_byte_goes_on_where_it_stopped() {
        script::interrupt_receive_at_every_byte(|socket, message| {
            Box::new(OneCopyReceiver::new(socket, vec![message]))
        });
    }

    #[test]
    fn a_peer_that_closes_inside_a_message_is_an_error_that_says_where() {
        script::close_inside_a_message(|socket, message| {
            Box::new(OneCopyReceiver::new(socket, vec![message]))
        });
    }

    #[test]
    fn messages_are_sent_in_the_order_of_the_ring() {
        script::send_in_turn(|socket, messages| Box::new(OneCopySender::new(socket, messages)));
    }

    #[test]
    fn a_socket_that_never_gets_ready_is_given_up() {
        script::give_up_waiting(|socket, messages| Box::new(OneCopySender::new(socket, messages)));
    }
}
