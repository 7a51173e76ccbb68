//! `splice`: `vmsplice` puts the pages of the fields into a pipe, `splice` moves them from there
//! into the socket. No byte is copied before a receiver takes it, as with `MSG_ZEROCOPY`, and on
//! any kernel.
//!
//! What that takes, and what this sender does:
//! - *nothing says when the kernel has let go of the memory*. The call has returned, the bytes are
//!   in the socket, and the peer's TCP may even have acknowledged them; the pages are still those
//!   of the message, and on one machine they are until the receiver copies them. What is written to
//!   a message in the meantime, arrives. So a message is lent again only when the receiver has said
//!   that it has it ([`received`](super::SendMessage::received)): by an answer, as every protocol
//!   has that asks before it sends;
//! - *that answer is a stranger's word*. So the messages lie in a mapping of the sender's own,
//!   whose pages hold nothing else, and which the kernel keeps for as long as it needs them, also
//!   after they were unmapped. A lie so sends later bytes of this sender, and never another
//!   owner's;
//! - a pipe holds a number of pieces, each within a page: 16 unless asked for more, while a 64 KiB
//!   message on the heap covers 24. The pipe is made as large as a message needs, up to what the
//!   user may have; beyond that, it is filled and emptied several times for a message;
//! - a short `splice` leaves bytes in the pipe, and the next one goes on with them;
//! - `splice` has no `MSG_NOSIGNAL`: to a peer that has closed, it raises `SIGPIPE` where that is
//!   not ignored. Programs in Rust ignore it.
//!
//! ```
//! use std::io::Read;
//! use std::net::{TcpListener, TcpStream};
//! use sendpath::case::Layout;
//! use sendpath::message::field_bytes;
//! use sendpath::path::{SendMessage, SpliceSender};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let mut client = TcpStream::connect(listener.local_addr()?)?;
//! let (server, _) = listener.accept()?;
//!
//! let mut sender = SpliceSender::new(server, &[field_bytes(65536).to_vec()], Layout::Page)?;
//! sender.message()?.field_mut(0).fill(1);
//! sender.send()?;
//! assert!(sender.message().is_err(), "the receiver may not have it yet");
//!
//! let mut received = vec![0; 65536];
//! client.read_exact(&mut received)?;
//! sender.received(1); // in a program, when the receiver has said so
//! sender.message()?.field_mut(0).fill(2);
//! # assert_eq!(received[..8192], [1; 8192]);
//! # Ok(()) }
//! ```

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::slice;

use rustix::io::retry_on_intr;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, vmsplice};

use super::error::{Error, Result};
use super::receipt::{Feed, PageSender};
use super::{Socket, in_arena};
use crate::case::Layout;
use crate::message::{Message, Rest, page_bytes};

/// Moves the pages of the fields through a pipe.
pub type SpliceSender<S> = PageSender<S, Pipe>;

/// The pipe.
#[derive(Debug)]
pub struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
    /// How much of the current message is in the pipe or has been.
    piped_bytes: usize,
}

impl<S: Socket> SpliceSender<S> {
    /// A sender of messages whose fields have the given lengths, in bytes, in turn. It makes them,
    /// in a mapping of its own.
    ///
    /// # Errors
    /// No pipe can be made, or no mapping; for [`Layout::Huge`] also that there are too few huge
    /// pages.
    ///
    /// # Panics
    /// If there is no message, or one has too many fields.
    pub fn new(socket: S, messages: &[Vec<usize>], layout: Layout) -> Result<Self> {
        let messages = in_arena(messages, layout)?.0;
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).map_err(Error::call("pipe2(2)"))?;
        let pages = messages.iter().map(pages).max().unwrap_or_default();
        enlarge(&writer, pages.next_power_of_two() * page_bytes());
        Ok(Self::of(socket, messages, Pipe { reader, writer, piped_bytes: 0 }))
    }
}

impl Pipe {
    /// Puts what is left of the message into the pipe, as much as goes in.
    fn fill(&self, message: &Message, gone_bytes: usize) -> Result<usize> {
        let rest: Rest<'_>;
        let iovecs = if gone_bytes == 0 {
            message.iovecs()
        } else {
            rest = message.rest(gone_bytes);
            rest.iovecs()
        };
        // SAFETY: `IoSliceRaw` is an `iovec`, by its `repr(transparent)`.
        let pieces = unsafe { slice::from_raw_parts(iovecs.as_ptr().cast(), iovecs.len()) };
        // SAFETY: the iovecs point to fields in a mapping that this sender owns. The kernel takes a
        // reference to each page, which so is given to nobody else before it is sent; what is
        // written to it meanwhile is this sender's.
        let piped = retry_on_intr(|| unsafe { vmsplice(&self.writer, pieces, SpliceFlags::NONBLOCK) });
        piped.map_err(Error::call("vmsplice(2)"))
    }
}

/// Makes the pipe as large as `bytes`, a power of two, or as large as this user may have it:
/// refused is what is above `fs.pipe-max-size`, and all that is above 64 KiB where the user's pipes
/// have many pages (`fs.pipe-user-pages-soft`). A pipe of fewer pieces takes a large message in
/// more calls.
fn enlarge(pipe: &OwnedFd, bytes: usize) {
    let sizes = std::iter::successors(Some(bytes), |bytes| Some(bytes / 2));
    let is_set = |bytes: usize| fcntl_setpipe_size(pipe, bytes).is_ok();
    sizes.take_while(|bytes| *bytes >= page_bytes()).any(is_set);
}

/// How many pieces of a pipe a message takes: the pages that its fields lie on.
fn pages(message: &Message) -> usize {
    let page = page_bytes();
    let pages = message.iovecs().iter().map(|iovec| {
        let start = iovec.iov_base.addr();
        (start + iovec.iov_len).div_ceil(page) - start / page
    });
    pages.sum::<usize>().max(1)
}

impl Feed for Pipe {
    const CALL: &'static str = "splice(2)";

    fn begin(&mut self) {
        self.piped_bytes = 0;
    }

    fn call(
        &mut self,
        socket: &impl Socket,
        _place: usize,
        message: &Message,
        sent_bytes: usize,
    ) -> Result<io::Result<usize>> {
        if self.piped_bytes == sent_bytes {
            self.piped_bytes += self.fill(message, sent_bytes)?;
        }
        let is_last = self.piped_bytes == message.payload_bytes();
        Ok(socket.splice_from(self.reader.as_fd(), self.piped_bytes - sent_bytes, is_last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Layout;
    use crate::path::tests::script::{self, Script, connected};
    use crate::path::{MessageReceiver, Observe, ReceiveMessage, SendMessage};

    /// A sender whose messages have the lengths and the bytes of those that are given.
    #[expect(clippy::needless_pass_by_value, reason = "as the checks want it")]
    fn sender(socket: Script, messages: Vec<Message>) -> Box<dyn Observe> {
        let mut sender = SpliceSender::new(socket, &script::shapes(&messages), Layout::Heap).unwrap();
        script::write(&mut sender, &messages);
        Box::new(script::Answered::new(sender))
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
        let shapes = [vec![80], vec![80]];
        let mut sender = SpliceSender::new(Script::default(), &shapes, Layout::Heap).unwrap();
        for _ in 0..2 {
            sender.message().unwrap();
            sender.send().unwrap();
        }
        assert!(matches!(sender.message(), Err(Error::NotReceived { message: 0, received: 0 })));
        assert!(sender.flush().is_err());
        sender.received(1);
        sender.message().unwrap();
        assert!(sender.flush().is_err(), "the second is outstanding");
        sender.received(2);
        sender.flush().unwrap();
    }

    #[test]
    fn what_is_written_after_the_call_arrives_so_the_memory_is_shared() {
        let (server, client) = connected();
        let mut sender = SpliceSender::new(server, &[vec![65536]], Layout::Heap).unwrap();
        sender.message().unwrap().fill(1);
        sender.send().unwrap();
        sender.overwrite().unwrap();
        let mut receiver = MessageReceiver::buffer(client, vec![vec![65536]]);
        receiver.receive().unwrap();
        sender.received(1);
        let mut packed = vec![0; 65536];
        sender.message().unwrap().pack(&mut packed);
        assert!(receiver.bytes() == packed, "as overwritten");
    }

    /// Has this thread no longer be one that may exceed the limits of pipes, as where no root runs
    /// the tests.
    fn become_ordinary() {
        /// From `<linux/capability.h>`.
        const VERSION: u32 = 0x2008_0522;
        const EXEMPT: u32 = 1 << 21 | 1 << 24; // CAP_SYS_ADMIN, CAP_SYS_RESOURCE
        let mut header = [VERSION, 0];
        // Effective, permitted and inheritable ones, of which the low words are first.
        let mut sets = [0_u32; 6];
        // SAFETY: the header and the sets are live, and as long as this version has them.
        unsafe {
            assert_eq!(libc::syscall(libc::SYS_capget, header.as_mut_ptr(), sets.as_mut_ptr()), 0);
            sets[0] &= !EXEMPT;
            assert_eq!(libc::syscall(libc::SYS_capset, header.as_mut_ptr(), sets.as_ptr()), 0);
        }
    }

    #[test]
    fn an_ordinary_users_pipe_is_as_large_as_it_may_be() {
        std::thread::spawn(|| {
            become_ordinary();
            let most_bytes: usize = crate::pinning::sysctl("fs/pipe-max-size").parse().unwrap();
            for payload_bytes in [64 << 10, 4 * most_bytes] {
                let shapes = [crate::message::field_bytes(payload_bytes).to_vec()];
                let sender = SpliceSender::new(Script::default(), &shapes, Layout::Page).unwrap();
                let wanted_bytes = pages(sender.ring.current()).next_power_of_two() * page_bytes();
                let bytes = rustix::pipe::fcntl_getpipe_size(&sender.feed.writer).unwrap();
                assert_eq!(bytes, wanted_bytes.min(most_bytes), "for {payload_bytes}");
            }
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_message_of_more_pieces_than_the_pipe_has_is_sent_whole() {
        let (server, client) = connected();
        let payload_bytes = 5 << 20;
        let peer = std::thread::spawn(move || {
            let mut receiver =
                MessageReceiver::buffer(client, vec![crate::message::field_bytes(payload_bytes).to_vec()]);
            receiver.receive().unwrap();
            receiver.last().verify(3, 4).unwrap().unwrap();
        });
        let shapes = [crate::message::field_bytes(payload_bytes).to_vec()];
        let mut sender = SpliceSender::new(server, &shapes, Layout::Heap).unwrap();
        // Root's pipe holds all of it, and this one 16 pieces.
        fcntl_setpipe_size(&sender.feed.writer, 16 * page_bytes()).unwrap();
        let mut message = sender.message().unwrap();
        message.fill(3);
        message.stamp(4);
        sender.send().unwrap();
        peer.join().unwrap();
        sender.received(1);
    }
}
