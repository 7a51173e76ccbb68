//! `file`: `sendfile` from a file that lies in memory (`memfd_create(2)`), in which the fields of a
//! message follow each other. It is what measuring tools such as iperf3 (`-Z`) call zero-copy: the
//! socket takes the pages of the file as they are.
//!
//! Their owner writes the fields where they are sent from, in a mapping of the file. As with
//! [`splice`](super::splice), nothing says when the kernel has let go of a page, and what is
//! written before arrives. So a message is lent again only when the receiver has said that it has
//! it ([`received`](super::SendMessage::received)). The file is the sender's own: a receiver that
//! lies so gets later bytes of this sender, and never another owner's. And as `splice`, `sendfile`
//! to a peer that has closed raises `SIGPIPE` where that is not ignored, as programs in Rust do.
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

use std::io;
use std::sync::Arc;

use super::Socket;
use super::error::{Error, Result};
use super::receipt::{Feed, PageSender};
use crate::message::{Arena, Message};

/// Sends from a file in memory, in which the messages lie.
pub type FileSender<S> = PageSender<S, MessageFile>;

/// The file. The kernel holds those of its pages that it may yet send, so nothing has to be leaked.
#[derive(Debug)]
pub struct MessageFile {
    /// By place in the ring: where in the file the message begins.
    offsets_bytes: Vec<u64>,
    arena: Arc<Arena>,
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
        Ok(Self::of(socket, messages, MessageFile { offsets_bytes, arena }))
    }
}

impl Feed for MessageFile {
    const CALL: &'static str = "sendfile(2)";

    fn call(
        &mut self,
        socket: &impl Socket,
        place: usize,
        message: &Message,
        sent_bytes: usize,
    ) -> Result<io::Result<usize>> {
        let Some(file) = self.arena.as_file() else { unreachable!("the messages were made in a file") };
        let offset_bytes = self.offsets_bytes[place] + sent_bytes as u64;
        Ok(socket.send_file(file, offset_bytes, message.payload_bytes() - sent_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::tests::script::{self, Answered, Script};
    use crate::path::{Observe, SendMessage};

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
