//! One connection of a server that answers with documents from memory. The examples beside it
//! differ in how they wait alone; this is what they have in common, and what a server does with a
//! [`SendQueue`].
//!
//! A request is the number of a document, in four bytes. The reply to it is a header of sixteen
//! (the length of the document, the number of the reply, from 0) and the document. All numbers are
//! little-endian.

use std::io::{self, Read};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use sendpath::path::{Mode, Progress, Reason, Refused, SendQueue};

/// `one_copy/heap` is cheaper than `two_copy/heap` from this payload on, in bytes; 95 % interval
/// 11218 to 12339. Measured on 2026-12-01, Linux 6.18, Intel Xeon at 2.60 GHz: receiver sink, shape
/// header, rr, 1 pair, paired, hot. By `sendpath tune --shape header --time 70s --constant rust`.
/// Put what it writes on your machine.
pub const ONE_COPY_FROM_BYTES: usize = 11_939;

/// `zero_copy/page` is cheaper than `two_copy/heap` and `one_copy/heap` from this payload on, in
/// bytes; 95 % interval 29843 to 32711. By the same command. A card's driver moves it upwards:
/// `--fragment-cost`.
pub const ZERO_COPY_FROM_BYTES: usize = 30_976;

/// What a client that stops reading costs the server: so many replies, and so many bytes that the
/// kernel holds of them. The documents themselves are shared.
const MOST_IN_FLIGHT: usize = 32;
const MOST_PINNED_BYTES: usize = 1 << 20;

/// A client with many requests gets so many replies before it is another one's turn.
const MOST_REPLIES_PER_TURN: usize = 64;

const REQUEST_BYTES: usize = 4;

/// What is served, by number. Sent without a copy, it is what the kernel reads: nobody writes to
/// it.
pub type Documents = Arc<[Arc<[u8]>]>;

/// A header and a document; or both in the first, and nothing in the second.
type Reply = (Vec<u8>, Arc<[u8]>);

/// One client.
pub struct Connection {
    queue: SendQueue<Reply>,
    documents: Documents,
    /// Received, not answered. At most one call's worth.
    requests: Vec<u8>,
    /// The reply that could not be sent, of which no byte has gone. Until it has, no request is
    /// read: so the client is slowed down by TCP's own window, and the server's memory is bounded.
    waiting: Option<(Reply, Mode)>,
    /// Headers that came back, for the next replies.
    spare: Vec<Vec<u8>>,
    report: Report,
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Requests: the socket is readable.
    Requests,
    /// Room for what is left to send: the socket is writable.
    Room,
    /// Completions: the socket is in error (`EPOLLERR`, which is always reported).
    Completions,
    /// For nothing: another turn, once the others have had theirs.
    Turn,
    /// The client has ended the connection, and the kernel has let go of all replies.
    Done,
}

/// What happened on one connection, or on all.
#[derive(Debug, Default)]
pub struct Report {
    /// Connections that are closed.
    pub closed: usize,
    /// Replies that were packed into one buffer; gathered by the kernel, which copied them; and
    /// sent with `MSG_ZEROCOPY`.
    pub replies: [u64; 3],
    /// Replies that were copied since their memory could not be pinned.
    pub copied_instead: u64,
    /// The most bytes that a connection had pinned.
    pub most_pinned_bytes: usize,
    /// Replies that the kernel had not let go of when their connection was to be closed.
    pub outstanding: usize,
    /// Those that it had not let go of even then.
    pub leaked: usize,
}

impl Connection {
    /// A connection from `accept`.
    ///
    /// # Errors
    /// The socket's options cannot be set.
    pub fn new(stream: TcpStream, documents: Documents) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        // SAFETY: the stream comes from `accept` and is moved: it has no clone, and nobody else
        // sends on it. Its descriptor is lent to wait for it alone.
        let queue = unsafe { SendQueue::new(stream) }.map_err(io::Error::other)?;
        Ok(Self {
            queue: queue.with_limits(MOST_IN_FLIGHT, MOST_PINNED_BYTES),
            documents,
            requests: Vec::new(),
            waiting: None,
            spare: Vec::new(),
            report: Report::default(),
        })
    }

    /// Does what can be done without waiting, and says what to wait for. Called on any event: what
    /// it was does not matter, since each call here says so itself.
    ///
    /// # Errors
    /// The connection is of no use: it was reset, or the client does not keep to the protocol.
    pub fn turn(&mut self) -> io::Result<Next> {
        // All completions there are: as long as one is left, the socket stays in error.
        self.reap()?;
        for _ in 0..MOST_REPLIES_PER_TURN {
            if let Some(next) = self.send()? {
                return Ok(next);
            }
            if let Some(next) = self.receive()? {
                return Ok(next);
            }
            self.waiting = Some(self.reply()?);
        }
        Ok(Next::Turn)
    }

    /// Takes back what the kernel has let go of.
    fn reap(&mut self) -> io::Result<usize> {
        let spare = &mut self.spare;
        self.queue.reap(|_, (header, _document), _| spare.push(header)).map_err(io::Error::other)
    }

    /// Sends the reply that waits, and what is left of the one before. None: nothing waits any
    /// more.
    fn send(&mut self) -> io::Result<Option<Next>> {
        loop {
            // First what fell short: the queue has kept it.
            match self.queue.advance().map_err(io::Error::other)? {
                Progress::Whole => {}
                Progress::WouldBlock => return Ok(Some(Next::Room)),
                // The memory cannot be pinned: other connections may hold what there is for as long
                // as their clients do not read. Copying needs nothing.
                Progress::NoBuffers => {
                    self.report.copied_instead += 1;
                    self.queue.copy_rest();
                    continue;
                }
            }
            let Some((reply, mode)) = self.waiting.take() else { return Ok(None) };
            let kind = if reply.1.is_empty() { 0 } else { 1 + usize::from(mode == Mode::ZeroCopy) };
            let Err(Refused { buffers, reason }) = self.queue.try_send(reply, mode) else {
                self.report.replies[kind] += 1;
                self.report.most_pinned_bytes = self.report.most_pinned_bytes.max(self.queue.pinned_bytes());
                continue;
            };
            let (mode, next) = match reason {
                Reason::WouldBlock | Reason::Unfinished => (mode, Some(Next::Room)),
                // A copied reply comes back at once, the others when they complete.
                Reason::Full if self.reap()? > 0 => (mode, None),
                Reason::Full => (mode, Some(Next::Completions)),
                // There is a limit to what a user may pin; copying needs nothing.
                Reason::NoBuffers | Reason::TooLarge => {
                    self.report.copied_instead += 1;
                    (Mode::Copy, None)
                }
                reason => return Err(io::Error::other(reason)),
            };
            self.waiting = Some((buffers, mode));
            if next.is_some() {
                return Ok(next);
            }
        }
    }

    /// Receives requests, until there is one. None: there is.
    fn receive(&mut self) -> io::Result<Option<Next>> {
        let mut room = [0; 64 * REQUEST_BYTES];
        while self.requests.len() < REQUEST_BYTES {
            match self.queue.socket().read(&mut room) {
                Ok(0) => {
                    self.reap()?;
                    let is_done = self.queue.outstanding() == 0;
                    return Ok(Some(if is_done { Next::Done } else { Next::Completions }));
                }
                Ok(bytes) => self.requests.extend_from_slice(&room[..bytes]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Some(Next::Requests)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Makes the reply to the first request.
    fn reply(&mut self) -> io::Result<(Reply, Mode)> {
        let mut number = [0; REQUEST_BYTES];
        number.copy_from_slice(&self.requests[..REQUEST_BYTES]);
        self.requests.drain(..REQUEST_BYTES);
        let Some(document) = self.documents.get(u32::from_le_bytes(number) as usize) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "there is no such document"));
        };
        let mut header = self.spare.pop().unwrap_or_default();
        header.clear();
        header.extend((document.len() as u64).to_le_bytes());
        header.extend(self.report.replies.iter().sum::<u64>().to_le_bytes());
        let reply_bytes = header.len() + document.len();
        if reply_bytes < ONE_COPY_FROM_BYTES {
            header.extend_from_slice(document);
            return Ok(((header, Arc::default()), Mode::Copy));
        }
        let mode = if reply_bytes < ZERO_COPY_FROM_BYTES { Mode::Copy } else { Mode::ZeroCopy };
        Ok(((header, Arc::clone(document)), mode))
    }

    /// Closes the connection, and adds what happened on it to `report`. Waits for completions, for
    /// `limit` at most, and then resets the connection.
    pub fn close(self, limit: Duration, report: &mut Report) {
        let mut outstanding = self.queue.outstanding();
        report.outstanding += outstanding;
        // An error says that something is leaked, which the count says as well.
        let _ = self.queue.close(limit, |_, _, _| outstanding -= 1);
        report.leaked += outstanding;
        report.closed += 1;
        for (sum, replies) in report.replies.iter_mut().zip(self.report.replies) {
            *sum += replies;
        }
        report.copied_instead += self.report.copied_instead;
        report.most_pinned_bytes = report.most_pinned_bytes.max(self.report.most_pinned_bytes);
    }
}

/// The descriptor, to wait for it.
impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }
}
