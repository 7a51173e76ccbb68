//! Sends of owned buffers that never wait: for servers, and what the suite's own senders stand on.
//!
//! Who gives buffers to a [`SendQueue`] gets them back when the kernel has let go of them: after a
//! copying send at once, after one with `MSG_ZEROCOPY` when its completion has arrived on the error
//! queue. In between nobody can write to them, since nobody else has them.
//!
//! On a non-blocking socket no call waits. The caller waits where it waits for everything else: in
//! `epoll`, mio, or tokio's `AsyncFd`:
//!
//! | the socket is | then |
//! |---|---|
//! | writable | [`advance`](SendQueue::advance) goes on with a send that fell short; or [`try_send`](SendQueue::try_send) is tried again |
//! | in error (`EPOLLERR`, reported unasked) | [`reap`](SendQueue::reap): completions make themselves known so |
//!
//! tokio takes `EPOLLERR` for the end of writing and keeps to it (mio 1.2, tokio 1.54): after the
//! first completion each wait for room returns at once, until the descriptor is registered anew.
//! `examples/tokio_server.rs` does that.
//!
//! ```
//! use std::io::Read;
//! use std::net::{TcpListener, TcpStream};
//! use std::time::Duration;
//! use sendpath::path::{Copied, Mode, SendQueue};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let mut client = TcpStream::connect(listener.local_addr()?)?;
//! let (server, _) = listener.accept()?;
//! server.set_nonblocking(true)?;
//!
//! // SAFETY: nobody else sends with MSG_ZEROCOPY on this connection, and nobody has.
//! let mut queue = unsafe { SendQueue::new(server)? };
//! // A header and a body, each in memory of its own.
//! let ticket = queue.try_send([b"header".to_vec(), vec![b'b'; 65536]], Mode::ZeroCopy)?;
//! # let mut received = vec![0; 6 + 65536];
//! # client.read_exact(&mut received)?;
//! # assert!(!queue.is_unfinished());
//!
//! // A server calls reap when its event loop says so. At the end, close waits.
//! queue.close(Duration::from_secs(1), |done, [header, _body], copied| {
//!     assert_eq!((done, header), (ticket, b"header".to_vec()));
//!     assert_eq!(copied, Copied::Yes, "over loopback, the kernel copies after all");
//! })?;
//! # Ok(()) }
//! ```

use std::fmt;
use std::io::{self, IoSlice};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::buffers::Buffers;
use super::completion::{self, CONTROL_BYTES, Copied, InFlight, Ticket};
use super::error::{Error, Result};
use super::socket::{Interest, Socket};
use super::{Copies, Wait, ZeroCopyCounts};
use crate::deadlines::HUNG_UP_LIMIT;
use crate::limits::{self, Found};
use crate::message::Rest;
use crate::pinning;

/// The pause where there is nothing that could be waited for.
const RETRY: Duration = Duration::from_millis(1);
/// Most pieces that one call is given of buffers that keep no list of them.
const MOST_PIECES: usize = 16;
/// Most pieces that the kernel takes in one call (`UIO_MAXIOV`).
const MOST_SLICES: usize = 1024;

/// Bytes that queues have leaked in this process: see [`leaked_bytes`].
static LEAKED_BYTES: AtomicU64 = AtomicU64::new(0);

/// How many bytes this process has leaked, since they were outstanding when their sender was
/// dropped and the kernel may send them yet. Who closes each [`SendQueue`] keeps it at 0.
#[must_use]
pub fn leaked_bytes() -> u64 {
    LEAKED_BYTES.load(Ordering::Relaxed)
}

/// Notes what is leaked.
pub(super) fn count_leaked(bytes: u64) {
    LEAKED_BYTES.fetch_add(bytes, Ordering::Relaxed);
}

/// How the kernel takes the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It copies them in the call: `send`, or `sendmsg` of several pieces.
    Copy,
    /// `sendmsg` with `MSG_ZEROCOPY`: it reads them later.
    ZeroCopy,
}

/// How far a send is that fell short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The kernel has all of it.
    Whole,
    /// There is no room in the socket: go on when it is writable.
    WouldBlock,
    /// The memory cannot be pinned now (`ENOBUFS`): go on when completions were reaped; with none
    /// outstanding here, other connections of this user have pinned what there may be, and
    /// [`copy_rest`](SendQueue::copy_rest) waits for nobody.
    NoBuffers,
}

/// What a copying send came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copying<B> {
    /// The socket took all of them: the buffers are the caller's again.
    Whole(B),
    /// The socket took a part. The queue keeps the buffers, and [`advance`](SendQueue::advance)
    /// goes on.
    Short(Ticket),
}

/// Why buffers are given back unsent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// There is no room in the socket: try again when it is writable.
    #[error("no room in the send buffer")]
    WouldBlock,
    /// An earlier send fell short: [`advance`](SendQueue::advance) comes first.
    #[error("an earlier send is not whole")]
    Unfinished,
    /// As much is in flight as may be: [`reap`](SendQueue::reap) comes first.
    #[error("as much is in flight as may be")]
    Full,
    /// The memory cannot be pinned now (`ENOBUFS`): try again when completions were reaped, or by
    /// [`Mode::Copy`]. With none outstanding here, other connections of this user have pinned what
    /// there may be (`RLIMIT_MEMLOCK`, `net.core.optmem_max`).
    #[error("ENOBUFS: the memory cannot be pinned now")]
    NoBuffers,
    /// The memory can never be pinned: it is more than the queue's own limit, or `RLIMIT_MEMLOCK`.
    #[error("more memory than may ever be pinned")]
    TooLarge,
    /// The call failed: the connection is of no use.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// Buffers that were not sent, not even in part.
pub struct Refused<B> {
    /// They come back.
    pub buffers: B,
    /// Why.
    pub reason: Reason,
}

impl<B> fmt::Debug for Refused<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused").field("reason", &self.reason).finish_non_exhaustive()
    }
}

impl<B> fmt::Display for Refused<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reason.fmt(f)
    }
}

impl<B> std::error::Error for Refused<B> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.reason.source()
    }
}

/// What a send came to, or the buffers of which nothing has gone.
type Attempt<T, B> = std::result::Result<T, Refused<B>>;

/// Sends of owned buffers on one connection, in order.
///
/// It is `Send`; who shares a connection among threads puts it behind a lock.
#[derive(Debug)]
pub struct SendQueue<B: Buffers, S: Socket = TcpStream> {
    socket: S,
    pub(super) in_flight: InFlight<B>,
    unfinished: Option<Unfinished>,
    /// Why the last send fell short, where no later call may say it again.
    failure: Option<Error>,
    is_zero_copy: bool,
    most_in_flight: usize,
    most_pinned_bytes: usize,
    user_to_kernel_bytes: u64,
}

/// The last send, while it is not whole.
#[derive(Clone, Copy, Debug)]
struct Unfinished {
    ticket: Ticket,
    mode: Mode,
    sent_bytes: usize,
    of_bytes: usize,
}

impl<B: Buffers, S: Socket> SendQueue<B, S> {
    /// A queue whose sends may be zero-copy ones (`SO_ZEROCOPY` is set). At first, 1,024 sends and
    /// 16 MiB may be in flight.
    ///
    /// # Safety
    /// From the making of this socket to the queue's last completion, nobody else makes a call with
    /// `MSG_ZEROCOPY` on it: by no clone, no duplicate of its descriptor, no earlier or later
    /// queue, and none before it was connected anew. The kernel numbers the zero-copy calls of a
    /// socket, and tells by number which have completed. With somebody else's among them, buffers
    /// would come back while it still reads them.
    ///
    /// # Errors
    /// [`Error::Refused`] where the kernel has no `MSG_ZEROCOPY` for this socket (TCP: Linux 4.14).
    pub unsafe fn new(socket: S) -> Result<Self> {
        socket.enable_zero_copy().map_err(no_zero_copy)?;
        let mut queue = Self::copying(socket);
        queue.is_zero_copy = true;
        Ok(queue)
    }

    /// A queue that copies, also where it is asked to send with [`Mode::ZeroCopy`].
    pub fn copying(socket: S) -> Self {
        Self {
            socket,
            in_flight: InFlight::new(),
            unfinished: None,
            failure: None,
            is_zero_copy: false,
            most_in_flight: 1024,
            most_pinned_bytes: 16 << 20,
            user_to_kernel_bytes: 0,
        }
    }

    /// Replaces how many sends may be in flight, and how many bytes of zero-copy sends.
    #[must_use]
    pub fn with_limits(mut self, most_in_flight: usize, most_pinned_bytes: usize) -> Self {
        (self.most_in_flight, self.most_pinned_bytes) = (most_in_flight.max(1), most_pinned_bytes);
        self
    }

    /// Sends `buffers`, as far as there is room: once it has returned a ticket, the queue has them,
    /// and [`reap`](Self::reap) gives them back. Where the call fell short,
    /// [`is_unfinished`](Self::is_unfinished) says so, and [`advance`](Self::advance) goes on.
    ///
    /// One piece goes by [`send(2)`](https://man7.org/linux/man-pages/man2/send.2.html), several by
    /// [`sendmsg(2)`](https://man7.org/linux/man-pages/man2/sendmsg.2.html); one call in either
    /// case.
    ///
    /// # Errors
    /// The buffers, of which no byte has gone, and why.
    pub fn try_send(&mut self, buffers: B, mode: Mode) -> std::result::Result<Ticket, Refused<B>> {
        if mode == Mode::Copy || !self.is_zero_copy {
            return self.try_copy(buffers).map(|copying| match copying {
                Copying::Whole(buffers) => self.in_flight.whole(buffers),
                Copying::Short(ticket) => ticket,
            });
        }
        let of_bytes = buffers.total_bytes();
        if let Some(reason) = self.hindrance(of_bytes, mode) {
            return Err(Refused { buffers, reason });
        }
        let ticket = self.in_flight.begin(buffers);
        let first = self.call(Unfinished { ticket, mode, sent_bytes: 0, of_bytes }, None);
        self.begun(ticket, first, of_bytes)
    }

    /// Sends `buffers` by copy, and gives them back at once where the socket took them whole: what
    /// the kernel has copied it does not read again. So nothing is in flight, and no ticket is
    /// needed.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send).
    #[inline]
    pub fn try_copy(&mut self, buffers: B) -> std::result::Result<Copying<B>, Refused<B>> {
        let of_bytes = buffers.total_bytes();
        if let Some(reason) = self.hindrance(of_bytes, Mode::Copy) {
            return Err(Refused { buffers, reason });
        }
        let result = match of_bytes {
            0 => Ok(0),
            _ => call_once(&self.socket, &buffers, Mode::Copy, 0),
        };
        match result {
            Ok(bytes) if bytes == of_bytes => {
                self.user_to_kernel_bytes += bytes as u64;
                Ok(Copying::Whole(buffers))
            }
            result => self.copy_on(buffers, of_bytes, result),
        }
    }

    /// After a first call that did not take all of `buffers`.
    #[cold]
    fn copy_on(&mut self, buffers: B, of_bytes: usize, result: io::Result<usize>) -> Attempt<Copying<B>, B> {
        let ticket = self.in_flight.begin(buffers);
        let unfinished = Unfinished { ticket, mode: Mode::Copy, sent_bytes: 0, of_bytes };
        let first = self.call(unfinished, Some(result));
        self.begun(ticket, first, of_bytes).map(Copying::Short)
    }

    /// What the first calls of a send came to.
    #[inline]
    fn begun(&mut self, ticket: Ticket, first: Result<Progress>, of_bytes: usize) -> Attempt<Ticket, B> {
        if matches!(first, Ok(Progress::Whole)) {
            return Ok(ticket);
        }
        if self.unfinished.is_some() {
            // The kernel tells an error of the connection once.
            self.failure = first.err();
            return Ok(ticket);
        }
        self.refuse(first, of_bytes)
    }

    /// What stands against a send of so many bytes before it is tried.
    fn hindrance(&self, of_bytes: usize, mode: Mode) -> Option<Reason> {
        let would_be_pinned = if mode == Mode::ZeroCopy { of_bytes } else { 0 };
        let InFlight { held, pinned_bytes, .. } = self.in_flight;
        match self.unfinished {
            Some(_) => Some(Reason::Unfinished),
            None if would_be_pinned > self.most_pinned_bytes => Some(Reason::TooLarge),
            None => (held >= self.most_in_flight || pinned_bytes + would_be_pinned > self.most_pinned_bytes)
                .then_some(Reason::Full),
        }
    }

    /// Gives the last send's buffers back, of which no byte has gone.
    #[cold]
    fn refuse(&mut self, result: Result<Progress>, of_bytes: usize) -> Attempt<Ticket, B> {
        let reason = match result {
            Ok(Progress::Whole | Progress::WouldBlock) => Reason::WouldBlock,
            Ok(Progress::NoBuffers) if pinning::can_pin(of_bytes) => Reason::NoBuffers,
            Ok(Progress::NoBuffers) => Reason::TooLarge,
            Err(error) => Reason::Failed(error),
        };
        let Some(buffers) = self.in_flight.take_back() else {
            unreachable!("the last send has begun, and nothing of it has gone")
        };
        Err(Refused { buffers, reason })
    }

    /// Goes on with the send that fell short, if there is one.
    ///
    /// # Errors
    /// The call failed: the connection is of no use, and what was sent of the message is all that
    /// goes.
    pub fn advance(&mut self) -> Result<Progress> {
        match (self.failure.take(), self.unfinished) {
            (Some(failure), _) => Err(failure),
            (None, None) => Ok(Progress::Whole),
            (None, Some(unfinished)) => self.call(unfinished, None),
        }
    }

    /// What is left of the send that fell short is copied when [`advance`](Self::advance) goes on:
    /// the way out of [`Progress::NoBuffers`] where other connections hold what may be pinned, for
    /// as long as their peers do not read.
    pub fn copy_rest(&mut self) {
        if let Some(unfinished) = &mut self.unfinished {
            unfinished.mode = Mode::Copy;
        }
    }

    /// Whether a send fell short: then the caller wants to know when the socket is writable.
    pub fn is_unfinished(&self) -> bool {
        self.unfinished.is_some()
    }

    /// Makes calls until the send is whole, or one moves nothing.
    #[inline]
    fn call(&mut self, mut unfinished: Unfinished, mut made: Option<io::Result<usize>>) -> Result<Progress> {
        loop {
            let left_bytes = unfinished.of_bytes.saturating_sub(unfinished.sent_bytes);
            if left_bytes == 0 {
                self.unfinished = None;
                self.in_flight.finish();
                return Ok(Progress::Whole);
            }
            let result = match (made.take(), self.in_flight.buffers(unfinished.ticket)) {
                (Some(result), _) => result,
                (None, Some(buffers)) => {
                    call_once(&self.socket, buffers, unfinished.mode, unfinished.sent_bytes)
                }
                (None, None) => Ok(0),
            };
            match result {
                // It took nothing, and says no error: nothing would ever end the next ones.
                Ok(0) => {
                    let nothing = io::Error::from(io::ErrorKind::WriteZero);
                    return Err(Error::call(self.call_name(unfinished))(nothing));
                }
                Ok(bytes) => {
                    unfinished.sent_bytes += bytes;
                    match unfinished.mode {
                        Mode::ZeroCopy => self.in_flight.called(bytes),
                        Mode::Copy => {
                            self.in_flight.copied();
                            self.user_to_kernel_bytes += bytes as u64;
                        }
                    }
                    if bytes < left_bytes {
                        self.unfinished = Some(unfinished);
                    }
                }
                Err(errno) => match errno.raw_os_error() {
                    Some(libc::EINTR) => {}
                    Some(libc::EAGAIN) => return Ok(Progress::WouldBlock),
                    Some(libc::ENOBUFS) if unfinished.mode == Mode::ZeroCopy => {
                        self.in_flight.counts.enobufs += 1;
                        return Ok(Progress::NoBuffers);
                    }
                    _ => return Err(Error::call(self.call_name(unfinished))(errno)),
                },
            }
        }
    }

    /// As errors name the call.
    fn call_name(&self, Unfinished { ticket, mode, .. }: Unfinished) -> &'static str {
        match (mode, self.in_flight.buffers(ticket).map(Buffers::pieces)) {
            (Mode::ZeroCopy, _) => "sendmsg(2) MSG_ZEROCOPY",
            (Mode::Copy, Some(1)) => "send(2)",
            (Mode::Copy, _) => "sendmsg(2)",
        }
    }

    /// Reads completions until there is none, and gives back what the kernel has let go of: the
    /// ticket, the buffers, and whether the kernel says that it copied them. Never waits; makes no
    /// system call where no zero-copy call is outstanding. Returns how many sends were given back.
    ///
    /// # Errors
    /// A failed call. [`Error::Completion`] where the error queue says what cannot be: then
    /// somebody else has sent with `MSG_ZEROCOPY` on this connection, and no buffers come back any
    /// more.
    pub fn reap(&mut self, mut give_back: impl FnMut(Ticket, B, Copied)) -> Result<usize> {
        let mut sends = 0;
        loop {
            while let Some((ticket, buffers, copied)) = self.in_flight.give_back() {
                sends += 1;
                give_back(ticket, buffers, copied);
            }
            if self.in_flight.open_calls() == 0 || !self.read_completion()? {
                return Ok(sends);
            }
        }
    }

    /// Reads one message off the error queue; false if there is none.
    pub(super) fn read_completion(&mut self) -> Result<bool> {
        let mut control = [0; CONTROL_BYTES];
        match self.socket.recv_error_queue(&mut control) {
            Ok(filled) => {
                self.in_flight.completed(completion::parse(&control[..filled])?)?;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            Err(error) => Err(Error::call("recvmsg(2) MSG_ERRQUEUE")(error)),
        }
    }

    /// Reads completions, waiting for them, until `enough` is true.
    pub(super) fn read_until(
        &mut self,
        wait_limit: Duration,
        enough: impl FnMut(&mut Self) -> bool,
    ) -> Result<()> {
        self.read_within(wait_limit, HUNG_UP_LIMIT, enough)
    }

    /// As [`read_until`](Self::read_until), and on a connection that is down for so long.
    fn read_within(
        &mut self,
        wait_limit: Duration,
        hung_up_limit: Duration,
        mut enough: impl FnMut(&mut Self) -> bool,
    ) -> Result<()> {
        let mut wait = Wait::new(Interest::Completion, wait_limit);
        let mut hung_up = None;
        while !enough(self) {
            if self.read_completion()? {
                hung_up = None;
                continue;
            }
            if let Some(since) = hung_up {
                // The wait ended with nothing on the queue: an error or a hang-up, which poll(2)
                // reports at once, each time. What is outstanding may still complete, but not for
                // long.
                if Instant::elapsed(&since) > hung_up_limit {
                    return Err(Error::Abandoned { outstanding: self.in_flight.open_calls() });
                }
                sleep(RETRY);
            }
            wait.poll(&self.socket)?;
            hung_up.get_or_insert_with(Instant::now);
        }
        Ok(())
    }

    /// Ends the stream, waits until the kernel has let go of all that was sent, for `limit` at
    /// most, and gives back what is left. A send that fell short stays so. Where the peer takes
    /// longer, the connection is reset: what is in the socket is thrown away, and so let go of, as
    /// a rule at once and within half a second. An event loop reaps until nothing is
    /// [outstanding](Self::outstanding), and then closes without a wait.
    ///
    /// # Errors
    /// [`Error::Deadline`] or [`Error::Abandoned`] where something is outstanding even then (in a
    /// card's queue, say): that is leaked ([`leaked_bytes`]). Or a failed call, also that of the
    /// last send, where nobody has been told of it.
    pub fn close(mut self, limit: Duration, mut give_back: impl FnMut(Ticket, B, Copied)) -> Result<()> {
        if self.unfinished.take().is_some() {
            self.in_flight.finish();
        }
        // What is in the socket goes out all the same. An error says that the connection is down,
        // and what is outstanding then completes, or the wait says that it does not.
        let _ = self.socket.shut_down(Shutdown::Write);
        // A peer that has closed its own half looks like one that is down, and may still read.
        let mut result = self.read_within(limit, limit, |queue| queue.in_flight.open_calls() == 0);
        if result.is_err() && self.socket.reset().is_ok() {
            result = self.read_until(HUNG_UP_LIMIT, |queue| queue.in_flight.open_calls() == 0);
        }
        while let Some((ticket, buffers, copied)) = self.in_flight.give_back() {
            give_back(ticket, buffers, copied);
        }
        result.and(self.failure.take().map_or(Ok(()), Err))
    }

    /// How many sends are not given back, copied ones that were not reaped among them.
    pub fn outstanding(&self) -> usize {
        self.in_flight.held
    }

    /// How many bytes the kernel may still read.
    pub fn pinned_bytes(&self) -> usize {
        self.in_flight.pinned_bytes
    }

    /// What the kernel said of the zero-copy calls.
    pub fn counts(&self) -> ZeroCopyCounts {
        self.in_flight.counts
    }

    /// What was copied.
    pub(super) fn copies(&self) -> Copies {
        Copies {
            user_to_kernel_bytes: self.user_to_kernel_bytes,
            deferred_bytes: self.in_flight.counts.copied_bytes,
            ..Copies::default()
        }
    }

    /// The socket, to receive from it.
    pub fn socket(&self) -> &S {
        &self.socket
    }

    /// How far the last send is.
    ///
    /// # Errors
    /// Why it fell short, where that was no want of room.
    pub(super) fn progress(&mut self) -> Result<Progress> {
        match self.failure.take() {
            Some(failure) => Err(failure),
            None if self.is_unfinished() => Ok(Progress::WouldBlock),
            None => Ok(Progress::Whole),
        }
    }

    /// How many bytes of the send that fell short are left.
    pub(super) fn left_bytes(&self) -> usize {
        self.unfinished.map_or(0, |unfinished| unfinished.of_bytes.saturating_sub(unfinished.sent_bytes))
    }
}

/// One system call, for what is left to send.
#[inline]
fn call_once<B: Buffers>(
    socket: &impl Socket,
    buffers: &B,
    mode: Mode,
    sent_bytes: usize,
) -> io::Result<usize> {
    let rest;
    let mut room = [IoSlice::new(&[]); MOST_PIECES];
    let slices = match buffers.io_slices() {
        Some(slices) if sent_bytes == 0 => &slices[..slices.len().min(MOST_SLICES)],
        Some(slices) => {
            rest = Rest::of_slices(slices, sent_bytes);
            rest.io_slices()
        }
        None => pieces(buffers, sent_bytes, &mut room),
    };
    match (mode, slices) {
        // SAFETY: the queue owns the buffers, whose memory stays allocated and unchanged by their
        // own promise; it gives them back, or drops them, only after the completions of all calls
        // that sent them, and leaks them where one is missing. The numbers of these are its own, by
        // the promise of `SendQueue::new`; a queue without that promise makes no such call.
        (Mode::ZeroCopy, slices) => unsafe { socket.send_zero_copy(slices) },
        (Mode::Copy, [slice]) => socket.send(slice),
        (Mode::Copy, slices) => socket.send_vectored(slices),
    }
}

/// The first pieces that are left after `gone_bytes`, as many as there is room for.
fn pieces<'a, B: Buffers>(
    buffers: &'a B,
    mut gone_bytes: usize,
    room: &'a mut [IoSlice<'a>; MOST_PIECES],
) -> &'a [IoSlice<'a>] {
    let mut count = 0;
    for index in 0..buffers.pieces() {
        let piece = buffers.piece(index);
        let gone = gone_bytes.min(piece.len());
        gone_bytes -= gone;
        if gone < piece.len() && count < room.len() {
            room[count] = IoSlice::new(&piece[gone..]);
            count += 1;
        }
    }
    &room[..count]
}

/// The descriptor, to wait for it. Who duplicates it keeps the promise of [`SendQueue::new`].
impl<B: Buffers, S: Socket + AsFd> AsFd for SendQueue<B, S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Reads what completions there are, and waits for none. What still is outstanding is leaked, and
/// counted in [`leaked_bytes`]: memory that the kernel may yet send must not be used for something
/// else. [`close`](SendQueue::close) waits.
impl<B: Buffers, S: Socket> Drop for SendQueue<B, S> {
    fn drop(&mut self) {
        while self.in_flight.open_calls() > 0 && self.read_completion().unwrap_or(false) {}
        count_leaked(self.in_flight.leak());
    }
}

/// `SO_ZEROCOPY` was refused.
fn no_zero_copy(errno: io::Error) -> Error {
    /// The kernel's own, which no header has (`ENOTSUPP` in `include/linux/errno.h`).
    const NOT_SUPPORTED: i32 = 524;
    let found = match errno.raw_os_error() {
        Some(libc::ENOPROTOOPT) => Some(Found::new(
            "this kernel has no MSG_ZEROCOPY (TCP has it since Linux 4.14): leave the zero_copy path out",
        )),
        Some(libc::EOPNOTSUPP | NOT_SUPPORTED) => Some(Found::new(
            "sockets of this family take no zero-copy sends (TCP does): leave the zero_copy path out",
        )),
        _ => None,
    };
    let cause = limits::said(found, "whether it is a TCP socket, and Linux 4.14 or later");
    Error::refused("setsockopt(2) SO_ZEROCOPY", errno, cause)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::path::tests::script::{Completions, Script, Step, connected};

    fn queue<B: Buffers>(script: &Script) -> SendQueue<B, Script> {
        // SAFETY: nobody else sends on the script.
        unsafe { SendQueue::new(script.clone()) }.unwrap()
    }

    fn body(fill: u8) -> Vec<u8> {
        vec![fill; 80]
    }

    /// What came back, by its fill.
    fn reaped(queue: &mut SendQueue<Vec<u8>, Script>) -> Vec<(u8, Copied)> {
        let mut back = Vec::new();
        queue.reap(|_, buffers, copied| back.push((buffers[0], copied))).unwrap();
        back
    }

    #[test]
    fn without_room_the_buffers_come_back_and_not_a_byte_has_gone() {
        let script = Script::default();
        script.expect([Step::Errno(libc::EAGAIN), Step::Errno(libc::EINTR)]);
        let mut queue = queue(&script);
        for mode in [Mode::Copy, Mode::ZeroCopy] {
            script.expect([Step::Errno(libc::EAGAIN)]);
            let refused = queue.try_send(body(1), mode).unwrap_err();
            assert!(matches!(refused.reason, Reason::WouldBlock) && refused.buffers == body(1));
        }
        assert_eq!((script.wire().len(), queue.outstanding()), (0, 0));
    }

    #[test]
    fn what_was_copied_whole_comes_back_at_once_and_what_was_not_is_kept() {
        let script = Script::default();
        let mut queue = queue(&script);
        assert_eq!(queue.try_copy(body(1)).unwrap(), Copying::Whole(body(1)));
        assert_eq!(
            (script.wire().len(), queue.outstanding(), queue.copies().user_to_kernel_bytes),
            (80, 0, 80)
        );
        script.expect([Step::Move(30), Step::Errno(libc::EAGAIN)]);
        let Copying::Short(ticket) = queue.try_copy(body(2)).unwrap() else { panic!("30 of 80 bytes went") };
        assert!(queue.try_copy(body(3)).is_err(), "the first is not whole");
        assert_eq!(queue.advance().unwrap(), Progress::Whole);
        let mut back = Vec::new();
        queue.reap(|ticket, buffers, copied| back.push((ticket, buffers, copied))).unwrap();
        assert_eq!(back, [(ticket, body(2), Copied::Yes)]);
        assert_eq!(script.wire(), [body(1), body(2)].concat());
    }

    #[test]
    fn a_send_that_falls_short_is_kept_and_gone_on_with() {
        for mode in [Mode::Copy, Mode::ZeroCopy] {
            let script = Script::default();
            script.expect([
                Step::Move(30),
                Step::Errno(libc::EAGAIN),
                Step::Move(10),
                Step::Errno(libc::EAGAIN),
            ]);
            let mut queue = queue(&script);
            let parts = [b"head".to_vec(), body(7)];
            let sent = parts.concat();
            let ticket = queue.try_send(parts, mode).unwrap();
            assert!(queue.is_unfinished());
            let next = queue.try_send([body(8), body(9)], mode).unwrap_err();
            assert!(matches!(next.reason, Reason::Unfinished), "one after the other");
            assert_eq!(queue.advance().unwrap(), Progress::WouldBlock);
            assert_eq!(queue.advance().unwrap(), Progress::Whole);
            assert_eq!(script.wire(), sent);
            let mut back = Vec::new();
            queue.reap(|ticket, _, _| back.push(ticket)).unwrap();
            assert_eq!(back, [ticket]);
        }
    }

    #[test]
    fn copied_buffers_come_back_without_a_call_and_others_with_their_completion() {
        let script = Script::default();
        script.complete(Completions::Never);
        let mut queue = queue(&script);
        queue.try_send(body(1), Mode::ZeroCopy).unwrap();
        queue.try_send(body(2), Mode::Copy).unwrap();
        queue.try_send(body(3), Mode::ZeroCopy).unwrap();
        assert_eq!(reaped(&mut queue), [(2, Copied::Yes)]);
        assert_eq!((queue.outstanding(), queue.pinned_bytes()), (2, 160));
        // The script counts all calls, and the kernel the zero-copy ones.
        script.notify((0, 0), false);
        assert_eq!(reaped(&mut queue), [(1, Copied::No)]);
        script.notify((1, 1), true);
        assert_eq!(reaped(&mut queue), [(3, Copied::Yes)]);
        assert_eq!((queue.outstanding(), queue.pinned_bytes()), (0, 0));
    }

    #[test]
    fn as_much_is_in_flight_as_may_be() {
        let script = Script::default();
        script.complete(Completions::Never);
        let mut queue = queue(&script).with_limits(2, 200);
        queue.try_send(body(1), Mode::ZeroCopy).unwrap();
        let too_large = queue.try_send(vec![0; 201], Mode::ZeroCopy).unwrap_err();
        assert!(matches!(too_large.reason, Reason::TooLarge));
        let full = queue.try_send(vec![0; 121], Mode::ZeroCopy).unwrap_err();
        assert!(matches!(full.reason, Reason::Full), "of bytes");
        queue.try_send(vec![2; 121], Mode::Copy).unwrap();
        let full = queue.try_send(body(3), Mode::Copy).unwrap_err();
        assert!(matches!(full.reason, Reason::Full), "of sends");
        script.notify((0, 0), true);
        assert_eq!(reaped(&mut queue).len(), 2);
        queue.try_send(body(3), Mode::ZeroCopy).unwrap();
        script.notify((1, 1), true);
    }

    #[test]
    fn memory_that_cannot_be_pinned_comes_back_and_may_be_copied() {
        let script = Script::default();
        script.expect([Step::Errno(libc::ENOBUFS)]);
        let mut queue = queue(&script);
        let refused = queue.try_send(body(1), Mode::ZeroCopy).unwrap_err();
        assert!(matches!(refused.reason, Reason::NoBuffers), "{refused}");
        queue.try_send(refused.buffers, Mode::Copy).unwrap();
        assert_eq!((script.wire(), queue.counts().enobufs), (body(1), 1));
    }

    #[test]
    fn a_queue_that_copies_makes_no_zero_copy_call() {
        let script = Script::default();
        script.refuse_zero_copy(libc::ENOPROTOOPT);
        let mut queue = SendQueue::copying(script.clone());
        queue.try_send(body(1), Mode::ZeroCopy).unwrap();
        assert_eq!(script.zero_copy_flags(), [false]);
        assert_eq!(reaped(&mut queue), [(1, Copied::Yes)]);
    }

    #[test]
    fn an_error_that_the_connection_tells_once_is_not_lost() {
        let script = Script::default();
        script.expect([Step::Move(30), Step::Errno(libc::ECONNRESET)]);
        let mut queue = queue(&script);
        queue.try_send(body(1), Mode::Copy).unwrap();
        let error = queue.advance().unwrap_err();
        assert!(error.with_cause().contains("reset"), "{error}");
    }

    #[test]
    fn a_call_that_takes_nothing_is_an_error_and_no_progress() {
        let script = Script::default();
        script.expect([Step::Move(0)]);
        let refused = queue(&script).try_send(body(1), Mode::Copy).unwrap_err();
        assert!(matches!(refused.reason, Reason::Failed(_)));
    }

    #[test]
    fn dropped_with_sends_outstanding_it_leaks_them_and_says_so() {
        let script = Script::default();
        script.complete(Completions::Never);
        let mut queue = queue(&script);
        let buffers = body(1);
        let start = buffers.as_ptr();
        queue.try_send(buffers, Mode::ZeroCopy).unwrap();
        let before_bytes = leaked_bytes();
        drop(queue);
        assert!(leaked_bytes() >= before_bytes + 80);
        let others: Vec<_> = (0..64).map(|_| vec![0xaa_u8; 80]).collect();
        assert!(!others.iter().any(|other| other.as_ptr() == start));
    }

    #[test]
    fn a_peer_that_does_not_read_is_reset_by_close_and_all_comes_back() {
        let (server, client) = connected();
        server.set_nonblocking(true).unwrap();
        // SAFETY: nobody else sends on this connection.
        let mut queue = unsafe { SendQueue::new(server) }.unwrap();
        let mut sends = 0;
        while queue.try_send(vec![0; 65536], Mode::ZeroCopy).is_ok() {
            sends += 1;
        }
        let mut back = 0;
        queue.close(Duration::from_millis(50), |_, _, _| back += 1).unwrap();
        assert_eq!(back, sends, "the last of them was not sent whole");
        drop(client);
    }

    proptest! {
        /// Completions that were never made, or come twice, among true ones: after the first of
        /// them nothing comes back.
        #[test]
        fn what_is_invented_gives_nothing_back(
            sends in 1_u32..20,
            ranges in prop::collection::vec((0_u32..24, 0_u32..4), 1..20),
        ) {
            let script = Script::default();
            script.complete(Completions::Never);
            let mut queue = queue(&script);
            for send in 0..sends {
                queue.try_send(body(u8::try_from(send).unwrap()), Mode::ZeroCopy).unwrap();
            }
            let mut outstanding: Vec<u32> = (0..sends).collect();
            let mut is_distrusted = false;
            for (first, more) in ranges {
                let range = first..=first + more;
                script.notify((first, first + more), true);
                is_distrusted |= !range.clone().all(|call| outstanding.contains(&call));
                let mut back = Vec::new();
                let result = queue.reap(|_, buffers, _| back.push(u32::from(buffers[0])));
                if outstanding.is_empty() {
                    break; // nobody looks for more
                }
                prop_assert_eq!(result.is_err(), is_distrusted);
                if is_distrusted {
                    prop_assert!(back.is_empty());
                } else {
                    outstanding.retain(|call| !range.contains(call));
                    back.sort_unstable();
                    prop_assert_eq!(back, range.collect::<Vec<_>>());
                }
            }
            prop_assert_eq!(queue.outstanding(), outstanding.len());
        }
    }
}
