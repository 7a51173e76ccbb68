//! `file`: `sendfile` from a file that lies in memory (`memfd_create(2)`), in which the fields of a
//! message follow each other. It is what measuring tools such as iperf3 (`-Z`) call zero-copy: the
//! socket takes the pages of the file as they are.
//!
//! Their owner writes the fields where they are sent from, in a mapping of the file. As with
//! [`splice`](super::splice), nothing says when the kernel has let go of a page, and what is
//! written before arrives. So a message is lent again only when the receiver has said that it has
//! it ([`SendMessage::received`]). The file is the sender's own: a receiver that lies so gets later
//! bytes of this sender, and never another owner's. And as `splice`, `sendfile` to a peer that has
//! closed raises `SIGPIPE` where that is not ignored, as programs in Rust do.
//!
//! ```
//! use std::io::Read;
//! use std::net::{TcpListener, TcpStream};
//! use sendpath::path::{FileSender, SendMessage};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let mut client = TcpStream::connect(listener.local_addr()?)?;
//! let (server, _) = listener.accept()?;
//!
//! // Two messages in turn, of a header and a body each.
//! let mut sender = FileSender::new(server, &[vec![24, 4096], vec![24, 4096]])?;
//! sender.message()?.field_mut(0).fill(b'h');
//! sender.send()?;
//! let mut received = vec![0; 24 + 4096];
//! client.read_exact(&mut received)?;
//! sender.received(1); // in a program, when the receiver has said so
//! assert_eq!(received[..25], *b"hhhhhhhhhhhhhhhhhhhhhhhh\0");
//! # Ok(()) }
//! ```

use std::sync::Arc;

use super::error::{Error, Result};
use super::receipt::Receipts;
use super::{Interest, Observe, SendMessage, Socket, WAIT_LIMIT, Wait, moved};
use crate::message::{Arena, Message, MessageMut};

/// Sends from a file in memory, in which the messages lie.
#[derive(Debug)]
pub struct FileSender<S> {
    socket: S,
    receipts: Receipts,
    /// By place in the ring: where in the file the message begins.
    offsets_bytes: Vec<u64>,
    arena: Arc<Arena>,
    /// How much of the current message is in the socket.
    sent_bytes: usize,
}

impl<S: Socket> FileSender<S> {
    /// A sender of messages whose fields have the given lengths, in bytes, in turn. It makes them,
    /// in a file of its own.
    ///
    /// # Errors
    /// No file can be made in memory.
    ///
    /// # Panics
    /// If there is no message, or one has too many fields.
    pub fn new(socket: S, messages: &[Vec<usize>]) -> Result<Self> {
        let (messages, offsets_bytes, arena) =
            Message::in_file(messages).map_err(Error::call("memfd_create(2)"))?;
        Ok(Self { socket, receipts: Receipts::new(messages), offsets_bytes, arena, sent_bytes: 0 })
    }
}

// The pages belong to the file. The kernel holds those that it may yet send, so nothing has to be
// leaked.
impl<S: Socket + Send> SendMessage for FileSender<S> {
    fn message(&mut self) -> Result<MessageMut<'_>> {
        self.receipts.message()
    }

    fn send(&mut self) -> Result<()> {
        let (place, payload_bytes) =
            (self.receipts.ring.place(), self.receipts.ring.current().payload_bytes());
        if self.sent_bytes == 0 {
            self.receipts.sent();
        }
        let Some(file) = self.arena.as_file() else { unreachable!("the messages were made in a file") };
        let offset_bytes = self.offsets_bytes[place];
        let mut wait = Wait::new(Interest::Writable, WAIT_LIMIT);
        while self.sent_bytes < payload_bytes {
            let left_bytes = payload_bytes - self.sent_bytes;
            let result = self.socket.send_file(file, offset_bytes + self.sent_bytes as u64, left_bytes);
            self.sent_bytes += moved(wait.progress(&self.socket, "sendfile(2)", result)?, "sendfile(2)")?;
        }
        self.sent_bytes = 0;
        self.receipts.ring.mark_sent();
        Ok(())
    }

    fn received(&mut self, messages: u64) {
        self.receipts.received(messages);
    }

    fn flush(&mut self) -> Result<()> {
        self.receipts.check_all()
    }
}

impl<S: Socket + Send> Observe for FileSender<S> {
    fn prepare(&mut self, write: &mut dyn FnMut(MessageMut<'_>)) -> Result<()> {
        self.receipts.prepare(write)
    }

    fn overwrite(&mut self) -> Result<bool> {
        Ok(self.receipts.overwrite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::tests::script::{self, Answered, Script};

    /// A sender whose messages have the lengths and the bytes of those that are given.
    #[expect(clippy::needless_pass_by_value, reason = "as the checks want it")]
    fn sender(socket: Script, messages: Vec<Message>) -> Box<dyn Observe> {
        let mut sender = FileSender::new(socket, &script::shapes(&messages)).unwrap();
        script::write(&mut sender, &messages);
        Box::new(Answered::new(sender))
    }

    #[test]
    fn a_short_send_at_any_byte_goes_on_where_it_stopped() {
        script::interrupt_at_every_byte(sender);
    }

    #[test]
    fn messages_are_sent_in_the_order_of_the_ring() {
        script::send_in_turn(sender);
    }

    #[test]
    fn a_socket_that_never_gets_ready_is_given_up() {
        script::give_up_waiting(sender);
    }

    #[test]
    fn a_message_is_lent_again_when_the_receiver_has_it_and_not_before() {
        let mut sender = FileSender::new(Script::default(), &[vec![80]]).unwrap();
        sender.message().unwrap();
        sender.send().unwrap();
        assert!(matches!(sender.message(), Err(Error::NotReceived { message: 0, received: 0 })));
        sender.received(1);
        sender.message().unwrap();
    }
}
