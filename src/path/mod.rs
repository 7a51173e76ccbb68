//! Ways to send and to receive, each usable on its own over any connected TCP socket.
//!
//! A server sends by a [`SendQueue`]: it takes buffers, never waits, and gives them back when the
//! kernel has let go of them. The senders that this suite measures stand on it, and wait; each
//! sends the messages of a ring in turn:
//!
//! | sender | does | copies by a CPU, per message | a message may be written again |
//! |---|---|---|---|
//! | [`MessageSender::two_copy`] | packs the fields, `send` | pack and user→kernel | after the call |
//! | [`MessageSender::one_copy`] | `sendmsg`, an iovec per field | user→kernel | after the call |
//! | [`MessageSender::zero_copy`] | `sendmsg` with `MSG_ZEROCOPY` | none *unless deferred* | when it has completed |
//! | [`MessageSender::hybrid`], [`hybrid_zero`](MessageSender::hybrid_zero) | packs small fields, `sendmsg` with the others | pack of the small ones, and as the two above | as these |
//! | [`SpliceSender`] | `vmsplice` into a pipe, `splice` | none before receipt | when the receiver has it |
//! | [`FileSender`] | `sendfile` from a memfd | none before receipt | when the receiver has it |
//! | [`UringSender`] | the first three by `io_uring` | as these | as these |
//!
//! | receiver | does | copies by a CPU, per message |
//! |---|---|---|
//! | [`MessageReceiver::buffer`] | `recv` into one buffer | kernel→user |
//! | [`MessageReceiver::one_copy`] | `recvmsg`, an iovec per field | kernel→user |
//! | [`MessageReceiver::two_copy`] | `recv` into one buffer, unpacks | kernel→user and unpack |
//! | [`MessageReceiver::discard`] | `recv` with `MSG_TRUNC` | none |
//! | [`MappedReceiver`] | `TCP_ZEROCOPY_RECEIVE`, then `recv` | kernel→user, of what is no whole page |
//!
//! Every receiver takes in what any sender sends.
//!
//! A [`SendMessage`] lends a message to write, sends it whole, and says when the kernel has let go
//! of all that was sent; an [`Observe`] also tells what that took. A [`ReceiveMessage`] takes one
//! whole message in. Short writes and reads, `EINTR` and `EAGAIN` are handled: the call is made
//! again. Sockets may be blocking or not.
//!
//! No safe program can make a sender send, or give back, memory of another owner. What cannot be
//! checked is `unsafe`: that nobody else sends with `MSG_ZEROCOPY` on a connection
//! ([`SendQueue::new`]), and that buffers stay as they are ([`Buffers`]).

mod buffers;
#[doc(hidden)]
pub mod completion; // public for the fuzz targets
pub(crate) mod error;
pub mod file;
pub mod mapped;
pub mod message_sender;
mod receipt;
pub mod receivers;
mod ring;
pub mod send_queue;
pub mod socket;
pub mod splice;
pub mod uring;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::case::{Engine, Layout, Receiver, SendPath, Series};
use crate::limits;
use crate::message::{Arena, Message, MessageMut, Received};

pub use crate::counts::{CopiedBound, Copies, ZeroCopyCounts};
pub use crate::deadlines::WAIT_LIMIT;
pub use buffers::Buffers;
pub use completion::{Copied, Ticket};
pub use error::{CompletionError, Error, Result};
pub use file::FileSender;
pub use mapped::MappedReceiver;
pub use message_sender::MessageSender;
pub use receipt::PageSender;
pub use receivers::MessageReceiver;
pub use send_queue::{Copying, Mode, Progress, Reason, Refused, SendQueue, leaked_bytes};
pub use socket::{Interest, Readiness, Socket};
pub use splice::SpliceSender;
pub use uring::UringSender;
use uring::{Handover, Operation, Registered};

/// The pause where `poll(2)` cannot wait, because it reports a pending error at once.
const ERROR_PAUSE: Duration = Duration::from_micros(100);

/// The sending half of a path. It owns a ring of messages, and sends them in turn.
pub trait SendMessage: Send {
    /// Lends the next message of the ring, to write and then to [`send`](Self::send). Its bytes are
    /// those that were written when it was lent before. The same message is lent until it is sent.
    /// May wait for the kernel to let go of it.
    ///
    /// # Errors
    /// A failed call, or [`Error::Deadline`].
    fn message(&mut self) -> Result<MessageMut<'_>>;

    /// Sends the message that [`message`](Self::message) lent last, whole; before the first loan,
    /// the first of the ring. Called again without a loan in between, it sends the same message
    /// again; after an error that left it half sent, its rest.
    ///
    /// # Errors
    /// A failed call, [`Error::Deadline`], or [`Error::PinLimit`].
    fn send(&mut self) -> Result<()>;

    /// Hands to the kernel what [`send`](Self::send) has gathered. A sender that gathers sends for
    /// one call does it by itself where its batch is full, and before it waits; the others have
    /// nothing gathered.
    ///
    /// # Errors
    /// A failed call, or [`Error::Deadline`].
    fn submit(&mut self) -> Result<()> {
        Ok(())
    }

    /// The receiver has said that it has the first `messages` messages, counted from the first that
    /// was sent. For the senders to whom nobody else says when a message may be written again.
    /// Where that is not true, later bytes of the same ring may arrive in place of what was sent.
    fn received(&mut self, _messages: u64) {}

    /// Returns when the kernel no longer needs any message that was sent; for the senders that
    /// learn it from the receiver alone, when it has all that was sent, as far as
    /// [`received`](Self::received) said.
    ///
    /// # Errors
    /// A failed call, or [`Error::Deadline`].
    fn flush(&mut self) -> Result<()>;
}

/// What a benchmark asks of a sender beside sending.
pub trait Observe: SendMessage {
    /// Has `write` prepare every message of the ring, from the first to the last.
    ///
    /// # Errors
    /// As [`flush`](SendMessage::flush), which comes first.
    fn prepare(&mut self, write: &mut dyn FnMut(MessageMut<'_>)) -> Result<()>;

    /// Inverts every bit of the message that was sent last, wherever the path has it, and does not
    /// wait for the kernel to let go of it. Returns whether the kernel had. A second time, after
    /// [`flush`](SendMessage::flush), it puts back what was there before.
    ///
    /// To `zero_copy` this does what a program must never do, in order to see what happens: a
    /// message that the kernel has not let go of may arrive changed.
    ///
    /// # Errors
    /// A failed call.
    #[doc(hidden)]
    fn overwrite(&mut self) -> Result<bool>;

    /// What the kernel said of zero-copy sends; none for the paths that make none.
    fn zero_copy_counts(&self) -> Option<ZeroCopyCounts> {
        None
    }

    /// What has been copied so far; none where the kernel does not tell whether it copies later.
    fn copies(&self) -> Copies {
        Copies::default()
    }

    /// CPU time so far, in nanoseconds, of a kernel thread that works for this sender alone: none
    /// for most.
    ///
    /// # Errors
    /// The kernel does not tell it.
    fn kernel_thread_ns(&self) -> Result<u64> {
        Ok(0)
    }
}

/// The receiving half of a path.
pub trait ReceiveMessage: Send {
    /// Takes in one whole message, over the one before.
    ///
    /// # Errors
    /// A failed call, [`Error::Closed`] if the peer closed, or [`Error::Deadline`].
    fn receive(&mut self) -> Result<()>;

    /// What there is of the message that was received last.
    fn last(&self) -> Received<'_>;

    /// What has been copied so far; none where nothing is copied out of the kernel.
    fn copies(&self) -> Copies {
        Copies::default()
    }
}

/// Makes the sending half of a path, which sends messages whose fields have the given lengths, in
/// bytes, in turn: one message for each item of `messages`, zeroed. `most_in_flight` is for the
/// paths that learn from the kernel when a message may be written again: how many may wait for
/// that.
///
/// # Safety
/// As of [`SendQueue::new`]: in the life of the connection, nobody but this sender sends with
/// `MSG_ZEROCOPY` on it.
///
/// # Errors
/// What the kernel lacks for this way to send, named with what lifts it.
///
/// # Panics
/// If there is no message, or `way` is one that [`Series::check`] refuses.
pub unsafe fn sender<S: Socket + Send + 'static>(
    way: Series,
    socket: S,
    messages: &[Vec<usize>],
    most_in_flight: usize,
) -> Result<Box<dyn Observe>> {
    let Series { path, layout, engine, copy_below_bytes } = way;
    let own = || -> Result<Vec<Message>> {
        if layout == Layout::Huge {
            return Ok(in_arena(messages, layout)?.0);
        }
        Ok(messages.iter().map(|field_bytes| Message::with_field_bytes(field_bytes, layout)).collect())
    };
    if engine != Engine::Syscall {
        let (messages, operation) = match path {
            _ if engine == Engine::UringFixed => {
                let (messages, arena) = in_arena(messages, layout)?;
                (messages, Operation::Fixed(Registered::arena(&arena)))
            }
            SendPath::TwoCopy => (own()?, Operation::Send),
            SendPath::OneCopy => (own()?, Operation::SendMsg),
            _ => (own()?, Operation::SendMsgZc),
        };
        let handover = if engine == Engine::UringSqpoll { Handover::SqPoll } else { Handover::Enter };
        let sender = UringSender::new(socket, messages, operation, handover)?;
        return Ok(Box::new(sender.with_most_in_flight(most_in_flight)));
    }
    Ok(match path {
        SendPath::TwoCopy => Box::new(MessageSender::two_copy(socket, own()?)),
        SendPath::OneCopy => Box::new(MessageSender::one_copy(socket, own()?)),
        SendPath::Hybrid => Box::new(MessageSender::hybrid(socket, own()?, copy_below_bytes)),
        SendPath::ZeroCopy | SendPath::HybridZero => {
            let copy_below_bytes = if path == SendPath::ZeroCopy { 0 } else { copy_below_bytes };
            // SAFETY: the caller keeps the same promise.
            let sender = unsafe { MessageSender::hybrid_zero(socket, own()?, copy_below_bytes)? };
            Box::new(sender.with_most_in_flight(most_in_flight))
        }
        SendPath::Splice => Box::new(SpliceSender::new(socket, messages, layout)?),
        SendPath::File => Box::new(FileSender::new(socket, messages)?),
    })
}

/// Messages in one mapping.
fn in_arena(messages: &[Vec<usize>], layout: Layout) -> Result<(Vec<Message>, Arc<Arena>)> {
    Message::in_arena(messages, layout).map_err(|errno| match layout {
        Layout::Huge => {
            let bytes =
                messages.iter().flatten().fold(0, |sum: u64, bytes| sum.saturating_add(*bytes as u64));
            Error::refused("mmap(2) of huge pages", errno, no_huge_pages(bytes))
        }
        Layout::Heap | Layout::Page => Error::call("mmap(2)")(errno),
    })
}

/// Why so many bytes have no huge pages.
pub(crate) fn no_huge_pages(bytes: u64) -> String {
    let root = Path::new("/");
    let found = limits::huge_pages(root, bytes).or_else(|| limits::address_space(root, bytes));
    let look_at = "vm.nr_hugepages, /sys/kernel/mm/transparent_hugepage/enabled and defrag, the memory that is left in \
                   one piece (/proc/buddyinfo)";
    limits::said(found, look_at)
}

/// Makes a receiver of messages whose fields have the given lengths, in bytes, in turn. `path` is
/// how they are sent, which only [`Receiver::Matched`] looks at; `layout` is for the receivers that
/// have fields.
///
/// # Errors
/// What the kernel lacks for this receiver.
///
/// # Panics
/// If there is no message; for [`Receiver::Sink`], which is nobody.
pub fn receiver<S: Socket + Send + 'static>(
    receiver: Receiver,
    path: SendPath,
    socket: S,
    messages: &[Vec<usize>],
    layout: Layout,
) -> Result<Box<dyn ReceiveMessage>> {
    let shapes = messages.to_vec();
    Ok(match receiver.for_path(path) {
        Receiver::Buffer => Box::new(MessageReceiver::buffer(socket, shapes)),
        Receiver::Discard => Box::new(MessageReceiver::discard(socket, shapes)),
        Receiver::Unpack => Box::new(MessageReceiver::two_copy(socket, shapes, layout)),
        Receiver::Fields | Receiver::Matched => Box::new(MessageReceiver::one_copy(socket, shapes, layout)),
        Receiver::Mmap => Box::new(MappedReceiver::new(socket, shapes)?),
        Receiver::Sink => panic!("what goes to the sink is received by nobody"),
    })
}

// The four loops below make their first call, which nearly always moves everything, in the caller's
// own frame; what goes on after a short one is a function of its own, `move_rest`. To return from a
// function that has made a system call is dear, once per call and however many frames are returned
// from: about half a microsecond where the kernel guards its own returns
// (docs/book/src/evidence/floors.md, "What a function costs"). So each operation of a path returns
// once.

/// Makes calls until `of_bytes` have moved. Each is given how many bytes have moved before it.
#[expect(clippy::inline_always, reason = "a frame of its own would be another return")]
#[inline(always)]
fn move_all(
    socket: &impl Socket,
    interest: Interest,
    name: &'static str,
    of_bytes: usize,
    mut call: impl FnMut(usize) -> io::Result<usize>,
) -> Result<()> {
    if of_bytes == 0 && interest == Interest::Readable {
        return Ok(()); // The call would wait for a byte to come.
    }
    match call(0) {
        Ok(bytes) if bytes == of_bytes => Ok(()),
        first => move_rest(socket, interest, name, of_bytes, first, &mut call),
    }
}

/// Sends all of `bytes`.
///
/// # Errors
/// A failed call, or [`Error::Deadline`].
#[inline]
pub fn send_all(socket: &impl Socket, bytes: &[u8]) -> Result<()> {
    move_all(socket, Interest::Writable, "send(2)", bytes.len(), |at| socket.send(&bytes[at..]))
}

/// Receives until `bytes` is full.
///
/// # Errors
/// A failed call, [`Error::Closed`] if the peer closed before, or [`Error::Deadline`].
#[inline]
pub fn recv_all(socket: &impl Socket, bytes: &mut [u8]) -> Result<()> {
    move_all(socket, Interest::Readable, "recv(2)", bytes.len(), |at| socket.recv(&mut bytes[at..]))
}

/// Receives until every field of `message` is full.
#[inline]
pub(crate) fn recv_all_vectored(socket: &impl Socket, message: &mut Message) -> Result<()> {
    let of_bytes = message.payload_bytes();
    move_all(socket, Interest::Readable, "recvmsg(2)", of_bytes, |at| match at {
        // SAFETY: a socket reads into the slices and leaves them as they are; only this crate makes
        // sockets.
        0 => socket.recv_vectored(unsafe { message.io_slices_mut() }),
        _ => socket.recv_vectored(message.rest_mut(at).io_slices_mut()),
    })
}

/// Receives `of_bytes` that the kernel discards.
#[inline]
pub(crate) fn discard_all(socket: &impl Socket, of_bytes: usize) -> Result<()> {
    let call = |at| socket.discard(of_bytes - at);
    move_all(socket, Interest::Readable, "recv(2) MSG_TRUNC", of_bytes, call)
}

/// Goes on after a first call that moved less than `of_bytes`, or failed.
#[cold]
fn move_rest(
    socket: &impl Socket,
    interest: Interest,
    name: &'static str,
    of_bytes: usize,
    first: io::Result<usize>,
    call: &mut dyn FnMut(usize) -> io::Result<usize>,
) -> Result<()> {
    let mut wait = Wait::new(interest, WAIT_LIMIT);
    let mut after_bytes = 0;
    let mut result = first;
    loop {
        match wait.progress(socket, name, result)? {
            Some(0) if interest == Interest::Readable => {
                return Err(Error::Closed { after_bytes, of_bytes });
            }
            sent => after_bytes += moved(sent, name)?,
        }
        if after_bytes == of_bytes {
            return Ok(());
        }
        result = call(after_bytes);
    }
}

/// How many bytes a call has moved out. One that takes nothing, and says no error, would do so for
/// ever.
fn moved(sent: Option<usize>, call: &'static str) -> Result<usize> {
    match sent {
        Some(0) => Err(Error::call(call)(io::Error::from(io::ErrorKind::WriteZero))),
        sent => Ok(sent.unwrap_or(0)),
    }
}

/// A path's wait for its socket: from the first call that moved nothing to the next one that does.
/// The limit holds over all of it, however often `poll(2)` returns in between.
pub(crate) struct Wait {
    interest: Interest,
    limit: Duration,
    since: Option<Instant>,
}

impl Wait {
    pub(crate) fn new(interest: Interest, limit: Duration) -> Self {
        Self { interest, limit, since: None }
    }

    /// What a call's result means for the loop around it: so many bytes moved, or none and the call
    /// is to be made again (after `EINTR` at once; after `EAGAIN` when the socket is ready).
    pub(crate) fn progress(
        &mut self,
        socket: &impl Socket,
        call: &'static str,
        result: io::Result<usize>,
    ) -> Result<Option<usize>> {
        match result {
            Ok(bytes) => {
                self.since = None;
                Ok(Some(bytes))
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // If an error is pending, the next call reports it. If the error queue holds
                // completions that another owner of the socket will read, the next call says EAGAIN
                // again.
                if self.poll(socket)? == Readiness::ErrorPending {
                    sleep(ERROR_PAUSE);
                }
                Ok(None)
            }
            Err(error) => Err(Error::call(call)(error)),
        }
    }

    /// What is left of the limit.
    fn left(&mut self) -> Result<Duration> {
        let left = self.limit.saturating_sub(self.since.get_or_insert_with(Instant::now).elapsed());
        if left.is_zero() { Err(self.deadline()) } else { Ok(left) }
    }

    /// Waits once, within what is left of the limit. A signal does not end the wait.
    pub(crate) fn poll(&mut self, socket: &impl Socket) -> Result<Readiness> {
        loop {
            let left = self.left()?;
            match socket.wait(self.interest, left) {
                Ok(Readiness::TimedOut) => return Err(self.deadline()),
                Ok(readiness) => return Ok(readiness),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::call("poll(2)")(error)),
            }
        }
    }

    /// The error where what is waited for has not happened within the limit.
    fn deadline(&self) -> Error {
        let waiting_for = match self.interest {
            Interest::Readable => "bytes from the peer",
            Interest::Writable => "room in the send buffer",
            Interest::Completion => "zero-copy completion",
        };
        Error::Deadline { waiting_for, waited: self.limit }
    }
}

#[cfg(test)]
mod tests {
    pub mod script;

    use self::script::{Script, connected};
    use super::*;
    use strum::VariantArray;

    /// Far more than any of these waits needs before its limit.
    const TURNS: usize = 100_000;

    fn stuck() -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    #[test]
    fn every_receiver_takes_in_what_every_sender_sends() {
        // What goes to the sink is received by nobody.
        let receivers = || Receiver::VARIANTS.iter().filter(|&&choice| choice != Receiver::Sink);
        // A header before a body, and then eight fields: messages of two lengths, in turn.
        let shapes = [vec![24, 5000], vec![125, 125, 125, 125, 125, 125, 125, 128]];
        for (&path, &choice) in
            SendPath::VARIANTS.iter().flat_map(|path| receivers().map(move |choice| (path, choice)))
        {
            let (server, client) = connected();
            let way = Series::new(path, Layout::Heap).copying_below(128);
            // SAFETY: nobody else sends on this connection.
            let mut sender = unsafe { sender(way, server, &shapes, 16) }.unwrap();
            let mut receiver = receiver(choice, path, client, &shapes, Layout::Heap).unwrap();
            for number in 0..6 {
                let mut message = sender.message().unwrap();
                message.fill(number);
                message.stamp(number);
                sender.send().unwrap();
                sender.submit().unwrap();
                receiver.receive().unwrap();
                sender.received(number + 1);
                let expected = (choice != Receiver::Discard).then_some(Ok(()));
                assert_eq!(receiver.last().verify(number, number), expected, "{path} to {choice}");
            }
            sender.flush().unwrap();
            let payload_bytes = if choice == Receiver::Discard { 0 } else { 3 * (5024 + 1003) };
            let unpacked_bytes = if choice.for_path(path) == Receiver::Unpack { payload_bytes } else { 0 };
            let copies = receiver.copies();
            assert_eq!(
                copies.kernel_to_user_bytes + copies.mapped_bytes,
                payload_bytes,
                "{path} to {choice}"
            );
            assert_eq!(copies.user_to_user_bytes, unpacked_bytes, "{path} to {choice}");
        }
    }

    #[test]
    fn what_is_discarded_is_as_much_as_was_asked_for() {
        let (sending, receiving) = connected();
        send_all(&sending, &[1; 1000]).unwrap();
        send_all(&sending, &[2; 8]).unwrap();
        discard_all(&receiving, 1000).unwrap();
        let mut rest = [0; 8];
        recv_all(&receiving, &mut rest).unwrap();
        assert_eq!(rest, [2; 8]);
    }

    #[test]
    fn a_pending_error_that_no_call_reports_does_not_outlast_the_limit() {
        for interest in [Interest::Readable, Interest::Writable] {
            let script = Script::default();
            script.leave_an_error_pending(true);
            let mut wait = Wait::new(interest, Duration::from_millis(20));
            let error = (0..TURNS).find_map(|_| wait.progress(&script, "call", stuck()).err());
            assert!(matches!(error, Some(Error::Deadline { .. })), "{interest:?}: {error:?}");
        }
    }

    #[test]
    fn a_receiver_beside_a_zero_copy_sender_on_one_socket_gives_up_at_the_limit() {
        let (client, server) = connected();
        let client = std::sync::Arc::new(client);
        client.set_nonblocking(true).unwrap();
        let message = || vec![Message::new(4096, Layout::Heap)];
        // SAFETY: nobody else sends on this connection.
        let mut sender =
            unsafe { MessageSender::zero_copy(std::sync::Arc::clone(&client), message()) }.unwrap();
        sender.send().unwrap();
        recv_all(&server, &mut [0; 4096]).unwrap();
        // The completion is on the error queue, and the sender has not read it.
        assert_eq!(client.wait(Interest::Completion, WAIT_LIMIT).unwrap(), Readiness::Ready);
        assert_eq!(client.wait(Interest::Readable, WAIT_LIMIT).unwrap(), Readiness::ErrorPending);

        let mut wait = Wait::new(Interest::Readable, Duration::from_millis(20));
        let error = (0..TURNS).find_map(|_| wait.progress(&client, "recv(2)", client.recv(&mut [0])).err());
        assert!(matches!(error, Some(Error::Deadline { .. })), "{error:?}");

        send_all(&server, b"answer").unwrap();
        assert_eq!(client.wait(Interest::Readable, WAIT_LIMIT).unwrap(), Readiness::Ready);
        let mut answer = [0; 6];
        recv_all(&client, &mut answer).unwrap();
        assert_eq!(&answer, b"answer");
        sender.flush().unwrap();
    }

    #[test]
    fn bytes_that_move_start_the_limit_anew() {
        let script = Script::default();
        script.leave_an_error_pending(true);
        let mut wait = Wait::new(Interest::Readable, Duration::from_millis(20));
        assert_eq!(wait.progress(&script, "call", stuck()).unwrap(), None);
        assert!(wait.since.is_some());
        assert_eq!(wait.progress(&script, "call", Ok(1)).unwrap(), Some(1));
        assert!(wait.since.is_none());
    }
}
