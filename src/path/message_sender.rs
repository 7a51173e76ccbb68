//! The senders by system call: `two_copy`, `one_copy`, `zero_copy`, and the two between them,
//! `hybrid` and `hybrid_zero`.
//!
//! They differ in which fields they copy into one buffer first, and in how the kernel takes what is
//! sent:
//!
//! | | fields that are copied first | the kernel |
//! |---|---|---|
//! | [`two_copy`](MessageSender::two_copy) | all: one buffer, `send` | copies in the call |
//! | [`one_copy`](MessageSender::one_copy) | none: `sendmsg`, an iovec per field; of a single one `send` | copies in the call |
//! | [`hybrid`](MessageSender::hybrid) | the small ones: `sendmsg` | copies in the call |
//! | [`zero_copy`](MessageSender::zero_copy) | none: `sendmsg` with `MSG_ZEROCOPY` | reads them later |
//! | [`hybrid_zero`](MessageSender::hybrid_zero) | the small ones: `sendmsg` with `MSG_ZEROCOPY` | reads them later |
//!
//! `two_copy` is the plainest, and hard to beat for small messages: a memcpy of a few KiB costs
//! less than eight iovecs do. `one_copy` takes no pack buffer and no memcpy, and costs an iovec per
//! field to check and to walk. `hybrid` is for a header of 24 bytes before a body of 512 KiB: the
//! one is not worth an iovec of its own, and the other not a copy. Fields that follow each other
//! and are copied share an iovec.
//!
//! With `MSG_ZEROCOPY` the kernel pins the pages of the message, and reads them when it needs them,
//! which may be after the call returned; a *completion* on the socket's error queue says when it is
//! done. So
//! - a message is not written again before its completion: the sender owns a ring of messages, and
//!   lends the next one only when the kernel has let go of it. While it has not, a [`SendQueue`]
//!   holds the message;
//! - a short send goes on *with* the flag, and counts as a call of its own;
//! - `ENOBUFS` (too much pinned, or too many notifications unread) waits for a completion and goes
//!   on;
//! - completions that are not read end every `poll(2)` at once, so they are read before it waits
//!   for room;
//! - the kernel may copy all the same, and says so on the completion:
//!   [`ZeroCopyCounts::copied_share`]. Over loopback and veth it always does, and then this path
//!   costs the most of the three for small messages;
//! - of `hybrid_zero` the kernel reads the copies as long as the large fields. So each message has
//!   a buffer of its own for them, and a message without a large field is sent without the flag.
//!
//! On huge pages ([`Layout::Huge`]) a message lies in fewer fragments than a copy of it, and on
//! pages of 4 KiB in more. A card's driver works by the fragment: so large messages belong on huge
//! pages.
//!
//! Meant for sends above some 10 KB, on a network card with scatter-gather and checksum offload
//! ([msg_zerocopy.rst](https://docs.kernel.org/networking/msg_zerocopy.html)). The peer is an
//! ordinary receiver.
//!
//! ```
//! use std::io::Read;
//! use std::net::{TcpListener, TcpStream};
//! use sendpath::case::Layout;
//! use sendpath::message::Message;
//! use sendpath::path::{MessageSender, Observe, SendMessage};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let mut client = TcpStream::connect(listener.local_addr()?)?;
//! let (server, _) = listener.accept()?;
//!
//! let messages = (0..4).map(|_| Message::new(65536, Layout::Page)).collect();
//! // SAFETY: nobody else sends with MSG_ZEROCOPY on this connection, and nobody has.
//! let mut sender = unsafe { MessageSender::zero_copy(server, messages)? };
//! for number in 0..16 {
//!     let mut message = sender.message()?; // one that the kernel has let go of
//!     message.field_mut(0).fill(number);
//!     sender.send()?;
//!     # let mut received = vec![0; 65536];
//!     # client.read_exact(&mut received)?;
//!     # assert_eq!(received[..8192], [number; 8192]);
//! }
//! sender.flush()?; // every completion has arrived
//!
//! let counts = sender.zero_copy_counts().expect("this path counts");
//! assert_eq!(counts.sends, counts.completions);
//! assert_eq!(counts.copied_share(), Some(1.0), "over loopback, the kernel copies after all");
//! # Ok(()) }
//! ```
//!
//! A small header before a large body, of which the header alone is copied first:
//!
//! ```
//! use std::net::{TcpListener, TcpStream};
//! use sendpath::case::Layout;
//! use sendpath::message::Message;
//! use sendpath::path::{MessageReceiver, MessageSender, Observe, ReceiveMessage, SendMessage};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let client = TcpStream::connect(listener.local_addr()?)?;
//! let (server, _) = listener.accept()?;
//!
//! let message = Message::with_field_bytes(&[24, 65536], Layout::Heap);
//! let mut sender = MessageSender::hybrid(server, vec![message], 4096); // fields of fewer than 4096 bytes are copied
//! sender.message()?.field_mut(0).fill(b'h');
//! sender.send()?;
//! assert_eq!(sender.copies().user_to_user_bytes, 24, "the header alone");
//!
//! let mut receiver = MessageReceiver::buffer(client, vec![vec![24, 65536]]);
//! receiver.receive()?;
//! assert_eq!(receiver.bytes()[..24], [b'h'; 24]);
//! # Ok(()) }
//! ```

use std::io::IoSlice;
use std::path::Path;
use std::slice;
use std::thread::{sleep, yield_now};
use std::time::{Duration, Instant};

use super::buffers::Buffers;
use super::completion::{InFlight, Ticket};
use super::error::{Error, Result};
use super::ring::Ring;
use super::send_queue::{Copying, Mode, Progress, Reason, Refused, SendQueue};
use super::{
    Copies, ERROR_PAUSE, Interest, Observe, Readiness, SendMessage, Socket, WAIT_LIMIT, Wait, ZeroCopyCounts,
};
use crate::case::Layout;
use crate::deadlines::{DROP_LIMIT, PIN_LIMIT};
use crate::limits::{self, Found};
use crate::message::{Field, Message, MessageMut, invert};
use crate::pinning;

/// Which fields are copied first. The two plain cuts take nothing but the message itself: what is
/// read for each message besides costs as much as a small copy does.
#[derive(Debug)]
enum Cut {
    /// None: the message's own iovecs are sent.
    Gathered,
    /// All, to one piece.
    Packed([libc::iovec; 1]),
    /// Some.
    Mixed {
        /// The small fields, each with where its copy begins.
        small: Box<[(usize, usize)]>,
        /// Copies and large fields, in the order of the fields.
        iovecs: Box<[libc::iovec]>,
    },
}

/// A message of a ring, as it is sent.
#[derive(Debug)]
struct Unit {
    /// Its place in the ring.
    place: usize,
    message: Message,
    cut: Cut,
    /// What the copies lie in: of this message alone, or lent for the time of a send that copies.
    copies: Option<Field>,
    has_large: bool,
}

// SAFETY: the iovecs point to fields of the message and to the copies, which are owned beside them
// while they are read.
unsafe impl Send for Unit {}

impl Unit {
    /// Fields of fewer than `copy_below_bytes` are copied to `copies`.
    fn new(place: usize, message: Message, copy_below_bytes: usize, copies: &Field) -> Self {
        let (mut small, mut at) = (Vec::new(), 0);
        let mut iovecs: Vec<libc::iovec> = Vec::new();
        let mut has_large = false;
        // Whether the last iovec is one of copies.
        let mut joins = false;
        for (field, &iovec) in message.iovecs().iter().enumerate().filter(|(_, iovec)| iovec.iov_len > 0) {
            if iovec.iov_len >= copy_below_bytes {
                iovecs.push(iovec);
                (has_large, joins) = (true, false);
                continue;
            }
            small.push((field, at));
            let iov_base = copies.iovec().iov_base.wrapping_byte_add(at);
            match iovecs.last_mut() {
                Some(last) if joins => last.iov_len += iovec.iov_len,
                _ => iovecs.push(libc::iovec { iov_base, iov_len: iovec.iov_len }),
            }
            at += iovec.iov_len;
            joins = true;
        }
        assert!(at <= copies.bytes().len(), "the copies have room");
        let cut = match iovecs[..] {
            [packed] if !has_large => Cut::Packed([packed]),
            _ if small.is_empty() && iovecs.len() == message.fields() => Cut::Gathered,
            _ => Cut::Mixed { small: small.into(), iovecs: iovecs.into() },
        };
        Self { place, message, cut, copies: None, has_large }
    }

    /// Copies the small fields; returns how many bytes these are.
    fn copy(&mut self) -> usize {
        let Some(copies) = &mut self.copies else { return 0 };
        let copies = copies.bytes_mut();
        match &self.cut {
            Cut::Gathered => 0,
            Cut::Packed(_) => {
                let payload_bytes = self.message.payload_bytes();
                self.message.pack(&mut copies[..payload_bytes]);
                payload_bytes
            }
            Cut::Mixed { small, .. } => {
                let mut end = 0;
                for &(field, at) in small {
                    let field = self.message.field(field);
                    end = at + field.len();
                    copies[at..end].copy_from_slice(field);
                }
                end
            }
        }
    }

    /// Inverts every bit of the message and of its copies.
    fn invert(&mut self) {
        self.message.invert();
        if let Some(copies) = &mut self.copies {
            invert(copies.bytes_mut());
        }
    }
    fn slices(&self) -> &[IoSlice<'_>] {
        let iovecs = match &self.cut {
            Cut::Gathered => return self.message.io_slices(),
            Cut::Packed(iovecs) => &iovecs[..],
            Cut::Mixed { iovecs, .. } => iovecs,
        };
        assert!(self.copies.is_some(), "its copies are in it");
        // SAFETY: `IoSlice` is guaranteed to have the layout of `iovec`. Each points into the
        // copies or a field, which are initialized, and borrowed as this is.
        unsafe { slice::from_raw_parts(iovecs.as_ptr().cast(), iovecs.len()) }
    }
}

// SAFETY: the message is owned, and written through nobody but its owner; so are the copies. A unit
// is sent only with the copies in it that its iovecs point to.
unsafe impl Buffers for Unit {
    fn pieces(&self) -> usize {
        self.slices().len()
    }

    fn piece(&self, index: usize) -> &[u8] {
        &self.slices()[index]
    }

    fn total_bytes(&self) -> usize {
        self.message.payload_bytes()
    }

    fn io_slices(&self) -> Option<&[IoSlice<'_>]> {
        Some(self.slices())
    }
}

/// The messages of a sender, by their places in the order of sending.
#[derive(Debug)]
struct Units {
    /// None where the queue has it.
    places: Ring<Option<Box<Unit>>>,
    /// Where one buffer for copies serves all messages: it, unless a message that is sent has it.
    copies: Option<Field>,
    is_shared: bool,
}

impl Units {
    /// Puts a message back to its place.
    fn put(&mut self, mut unit: Box<Unit>) {
        if self.is_shared && unit.copies.is_some() {
            self.copies = unit.copies.take();
        }
        let place = unit.place;
        self.places.items[place] = Some(unit);
    }

    /// Takes back what the queue has done with.
    fn collect(&mut self, in_flight: &mut InFlight<Box<Unit>>) {
        while let Some((_, unit, _)) = in_flight.give_back() {
            self.put(unit);
        }
    }

    fn has(&self, place: usize) -> bool {
        self.places.items[place].is_some()
    }
}

/// Sends from a ring of messages by system calls.
#[derive(Debug)]
pub struct MessageSender<S: Socket> {
    queue: SendQueue<Box<Unit>, S>,
    ring: Units,
    /// What the current message was sent as.
    ticket: Option<Ticket>,
    mode: Mode,
    /// A message is lent only when the one that was sent so many before it has completed.
    most_in_flight: usize,
    /// The time after which a wait, for room or for a completion, is given up.
    wait_limit: Duration,
    user_to_user_bytes: u64,
}

impl<S: Socket> MessageSender<S> {
    /// A sender of `messages`, in turn, that packs each into one buffer.
    ///
    /// # Panics
    /// If there is no message.
    pub fn two_copy(socket: S, messages: Vec<Message>) -> Self {
        Self::hybrid(socket, messages, usize::MAX)
    }

    /// A sender of `messages`, in turn, that sends the fields from where they lie.
    ///
    /// # Panics
    /// If there is no message.
    pub fn one_copy(socket: S, messages: Vec<Message>) -> Self {
        Self::hybrid(socket, messages, 0)
    }

    /// A sender of `messages`, in turn, that packs fields of fewer than `copy_below_bytes`, and
    /// sends the others from where they lie.
    ///
    /// # Panics
    /// If there is no message.
    pub fn hybrid(socket: S, messages: Vec<Message>, copy_below_bytes: usize) -> Self {
        Self::with_queue(SendQueue::copying(socket), messages, copy_below_bytes, Mode::Copy)
    }

    /// A sender of `messages`, in turn, with `MSG_ZEROCOPY`; as many of them may be in flight.
    ///
    /// # Safety
    /// As of [`SendQueue::new`]: in the life of the connection, nobody but this sender sends with
    /// `MSG_ZEROCOPY` on it.
    ///
    /// # Errors
    /// [`Error::Refused`] where the kernel has no `MSG_ZEROCOPY` for this socket (TCP: Linux 4.14).
    ///
    /// # Panics
    /// If there is no message.
    pub unsafe fn zero_copy(socket: S, messages: Vec<Message>) -> Result<Self> {
        // SAFETY: the caller keeps the same promise.
        unsafe { Self::hybrid_zero(socket, messages, 0) }
    }

    /// As [`zero_copy`](Self::zero_copy), and fields of fewer than `copy_below_bytes` are copied
    /// into one buffer, which is sent with the others. A message of which all fields are copied is
    /// sent without `MSG_ZEROCOPY`.
    ///
    /// # Safety
    /// As of [`zero_copy`](Self::zero_copy).
    ///
    /// # Errors
    /// As of [`zero_copy`](Self::zero_copy).
    ///
    /// # Panics
    /// If there is no message.
    pub unsafe fn hybrid_zero(socket: S, messages: Vec<Message>, copy_below_bytes: usize) -> Result<Self> {
        // SAFETY: the caller keeps the same promise.
        let queue = unsafe { SendQueue::new(socket)? };
        Ok(Self::with_queue(queue, messages, copy_below_bytes, Mode::ZeroCopy))
    }

    fn with_queue(
        queue: SendQueue<Box<Unit>, S>,
        messages: Vec<Message>,
        copy_below_bytes: usize,
        mode: Mode,
    ) -> Self {
        let small_bytes = |message: &Message| -> usize {
            let lengths = message.iovecs().iter().map(|iovec| iovec.iov_len);
            lengths.filter(|&bytes| bytes < copy_below_bytes).sum()
        };
        // Where the kernel copies, one buffer serves all messages.
        let shared_bytes = messages.iter().map(small_bytes).max().filter(|_| mode == Mode::Copy);
        let copies = shared_bytes.map(|bytes| Field::zeroed(bytes, Layout::Heap));
        let unit = |(place, message): (usize, Message)| {
            if let Some(copies) = &copies {
                return Some(Box::new(Unit::new(place, message, copy_below_bytes, copies)));
            }
            let own = Field::zeroed(small_bytes(&message), Layout::Heap);
            let mut unit = Unit::new(place, message, copy_below_bytes, &own);
            unit.copies = Some(own);
            Some(Box::new(unit))
        };
        let places = Ring::new(messages.into_iter().enumerate().map(unit).collect());
        Self {
            queue: queue.with_limits(usize::MAX, usize::MAX),
            most_in_flight: places.items.len(),
            ring: Units { places, is_shared: copies.is_some(), copies },
            ticket: None,
            mode,
            wait_limit: WAIT_LIMIT,
            user_to_user_bytes: 0,
        }
    }

    /// Replaces how many messages may wait for their completions.
    #[must_use]
    pub fn with_most_in_flight(mut self, messages: usize) -> Self {
        self.most_in_flight = messages.clamp(1, self.ring.places.items.len());
        self
    }

    /// Waits until `enough` is true of what is in flight, and of which messages are here.
    fn read_until(&mut self, enough: impl Fn(&InFlight<Box<Unit>>, &Units) -> bool) -> Result<()> {
        let Self { queue, ring, .. } = self;
        queue.read_until(self.wait_limit, |queue| {
            ring.collect(&mut queue.in_flight);
            enough(&queue.in_flight, ring)
        })
    }

    /// Waits until the messages at these places are here.
    #[inline]
    fn await_messages(&mut self, places: [usize; 2]) -> Result<()> {
        let are_here = |ring: &Units| places.iter().all(|&place| ring.has(place));
        if are_here(&self.ring) { Ok(()) } else { self.read_until(|_, ring| are_here(ring)) }
    }

    /// Gives the current message to the queue.
    fn try_send(&mut self, mode: Mode) -> Result<Progress> {
        let Some(unit) = self.ring.places.current_mut().take() else { unreachable!("it was waited for") };
        let sent = match mode {
            Mode::Copy => self.queue.try_copy(unit),
            Mode::ZeroCopy => self.queue.try_send(unit, mode).map(Copying::Short),
        };
        match sent {
            Ok(Copying::Whole(unit)) => {
                self.ring.put(unit);
                Ok(Progress::Whole)
            }
            Ok(Copying::Short(ticket)) => {
                self.ticket = Some(ticket);
                self.queue.progress()
            }
            Err(Refused { buffers, reason }) => {
                *self.ring.places.current_mut() = Some(buffers);
                match reason {
                    Reason::WouldBlock => Ok(Progress::WouldBlock),
                    Reason::NoBuffers | Reason::TooLarge => Ok(Progress::NoBuffers),
                    Reason::Failed(error) => Err(error),
                    Reason::Unfinished | Reason::Full => unreachable!("nothing is unfinished, or limited"),
                }
            }
        }
    }

    /// Goes on after a call that did not take all.
    #[cold]
    fn send_rest(&mut self, mode: Mode, mut progress: Progress) -> Result<()> {
        let mut wait = Wait::new(Interest::Writable, self.wait_limit);
        let mut blocked = None;
        loop {
            let left_bytes = self.queue.left_bytes();
            match progress {
                Progress::Whole => return Ok(()),
                Progress::WouldBlock => self.await_room(&mut wait)?,
                Progress::NoBuffers => self.make_room(&mut blocked)?,
            }
            let was_unfinished = self.queue.is_unfinished();
            progress = if was_unfinished { self.queue.advance()? } else { self.try_send(mode)? };
            // Bytes that moved start the limit anew.
            let has_moved = if was_unfinished {
                self.queue.left_bytes() < left_bytes
            } else {
                self.queue.is_unfinished()
            };
            if has_moved {
                wait = Wait::new(Interest::Writable, self.wait_limit);
            }
            if progress != Progress::NoBuffers {
                blocked = None;
            }
        }
    }

    /// After `EAGAIN`: waits for room in the send buffer. Completions that are not read would end
    /// the wait at once, so they are read first, and whenever they end it.
    fn await_room(&mut self, wait: &mut Wait) -> Result<()> {
        self.read_all()?;
        while wait.poll(self.queue.socket())? == Readiness::ErrorPending {
            if !self.read_all()? {
                sleep(ERROR_PAUSE); // an error of the socket, which the next call reports
                break;
            }
        }
        Ok(())
    }

    /// Reads the error queue until it is empty; false if it was.
    fn read_all(&mut self) -> Result<bool> {
        let mut any = false;
        while self.mode == Mode::ZeroCopy && self.queue.read_completion()? {
            any = true;
        }
        Ok(any)
    }

    /// After `ENOBUFS`: waits for a completion, which frees what the call lacked; with none
    /// outstanding here, for others, who may have the memory.
    fn make_room(&mut self, blocked: &mut Option<Instant>) -> Result<()> {
        let unit = self.ring.places.current().as_ref();
        let left_bytes = unit.map_or_else(|| self.queue.left_bytes(), Buffers::total_bytes);
        let seen = self.queue.counts();
        if seen.completions < seen.sends {
            return self.read_until(|in_flight, _| in_flight.counts.notifications > seen.notifications);
        }
        await_pins(left_bytes, self.wait_limit, blocked)
    }
}

/// After a send that could not be pinned while nothing is outstanding here: other connections of
/// the same user may hold the memory (`RLIMIT_MEMLOCK` is theirs together), so the call is worth
/// repeating, for a while from `blocked` on; unless it is larger than the limit by itself. Nothing
/// tells when they release it. A sleep would last longer than that does, so this thread only lets
/// others run.
pub(super) fn await_pins(
    payload_bytes: usize,
    wait_limit: Duration,
    blocked: &mut Option<Instant>,
) -> Result<()> {
    let waited = blocked.get_or_insert_with(Instant::now).elapsed();
    if waited < wait_limit.min(PIN_LIMIT) && pinning::can_pin(payload_bytes) {
        yield_now();
        return Ok(());
    }
    Err(Error::PinLimit { payload_bytes, cause: pin_limit(payload_bytes) })
}

/// Why a send of so many bytes cannot be pinned by itself.
fn pin_limit(payload_bytes: usize) -> String {
    let found = limits::locked_memory(payload_bytes).or_else(|| small_optmem(Path::new("/")));
    let look_at = format!(
        "RLIMIT_MEMLOCK (now {}), which all processes of this user share, and net.core.optmem_max (now {})",
        pinning::memlock(),
        pinning::sysctl("net/core/optmem_max")
    );
    limits::said(found, &look_at)
}

/// The sysctl, where it has no room for one notification of a send; read below `root`.
fn small_optmem(root: &Path) -> Option<Found> {
    /// What the kernel counts for one, an skb without data: some 800 bytes with its overhead.
    const NOTIFICATION_BYTES: u64 = 1024;
    let text = std::fs::read_to_string(root.join("proc/sys/net/core/optmem_max")).ok()?;
    let bytes = text.trim().parse::<u64>().ok().filter(|bytes| *bytes < NOTIFICATION_BYTES)?;
    let found = Found::new(format!("net.core.optmem_max is {bytes}, which has no room for one notification"));
    Some(found.lifted_by("sudo sysctl -w net.core.optmem_max=1048576"))
}

/// Waits for what is outstanding, for a second at most. What still is outstanding then is leaked
/// with the queue: memory that the kernel may yet send must not be used for something else.
impl<S: Socket> Drop for MessageSender<S> {
    fn drop(&mut self) {
        self.wait_limit = self.wait_limit.min(DROP_LIMIT);
        // What is not here by then, the queue counts as leaked.
        let _ = self.read_until(|in_flight, _| in_flight.open_calls() == 0);
    }
}

impl<S: Socket + Send> SendMessage for MessageSender<S> {
    fn message(&mut self) -> Result<MessageMut<'_>> {
        if self.queue.is_unfinished() {
            // What an error left half sent: nothing else lets go of it.
            self.send()?;
        }
        let place = self.ring.places.advance();
        self.await_messages([self.ring.places.place_before(self.most_in_flight), place])?;
        let Some(unit) = self.ring.places.current_mut() else { unreachable!("it was waited for") };
        Ok(MessageMut::new(&mut unit.message))
    }

    fn send(&mut self) -> Result<()> {
        // What an error left half sent is gone on with.
        let (mut mode, mut progress) = (self.mode, Progress::WouldBlock);
        if !self.queue.is_unfinished() {
            // Sent twice without `message()` in between: the first must be through.
            self.await_messages([self.ring.places.place(); 2])?;
            let Some(unit) = self.ring.places.current_mut() else { unreachable!("it was waited for") };
            if self.ring.copies.is_some() && !matches!(unit.cut, Cut::Gathered) {
                unit.copies = self.ring.copies.take();
            }
            self.user_to_user_bytes += unit.copy() as u64;
            if !unit.has_large {
                mode = Mode::Copy;
            }
            progress = self.try_send(mode)?;
        }
        if progress != Progress::Whole {
            self.send_rest(mode, progress)?;
            self.ring.collect(&mut self.queue.in_flight);
        }
        self.ring.places.mark_sent();
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.read_until(|in_flight, _| in_flight.open_calls() == 0)
    }
}

impl<S: Socket + Send> Observe for MessageSender<S> {
    fn prepare(&mut self, write: &mut dyn FnMut(MessageMut<'_>)) -> Result<()> {
        self.flush()?;
        for unit in self.ring.places.items.iter_mut().flatten() {
            write(MessageMut::new(&mut unit.message));
        }
        Ok(())
    }

    fn overwrite(&mut self) -> Result<bool> {
        self.read_all()?;
        self.ring.collect(&mut self.queue.in_flight);
        if let Some(copies) = &mut self.ring.copies {
            invert(copies.bytes_mut());
        }
        if let Some(unit) = self.ring.places.current_mut() {
            unit.invert();
            return Ok(true);
        }
        // The one place that breaks what the queue promises the kernel. The memory stays this
        // sender's, so the kernel may send other bytes than were given to it, and never bytes of
        // another owner.
        if let Some(unit) = self.ticket.and_then(|ticket| self.queue.in_flight.buffers_mut(ticket)) {
            unit.invert();
        }
        Ok(false)
    }

    fn zero_copy_counts(&self) -> Option<ZeroCopyCounts> {
        (self.mode == Mode::ZeroCopy).then(|| self.queue.counts())
    }

    fn copies(&self) -> Copies {
        Copies { user_to_user_bytes: self.user_to_user_bytes, ..self.queue.copies() }
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::sockopt;

    use super::*;
    use crate::message::field_bytes;
    use crate::path::tests::script::{self, Completions, Script, Step};
    use crate::path::{MessageReceiver, ReceiveMessage, leaked_bytes};

    fn zero_copy<S: Socket>(socket: S, messages: Vec<Message>) -> MessageSender<S> {
        hybrid_zero(socket, messages, 0)
    }

    fn hybrid_zero<S: Socket>(
        socket: S,
        messages: Vec<Message>,
        copy_below_bytes: usize,
    ) -> MessageSender<S> {
        // SAFETY: nobody else sends on the sockets of these tests.
        unsafe { MessageSender::hybrid_zero(socket, messages, copy_below_bytes) }.unwrap()
    }

    fn sender(script: &Script, messages: usize) -> MessageSender<Script> {
        let messages = (0..messages).map(|_| Message::new(80, Layout::Heap)).collect();
        let mut sender = zero_copy(script.clone(), messages);
        sender.wait_limit = Duration::from_millis(20);
        sender
    }

    fn lend(sender: &mut MessageSender<Script>) -> usize {
        sender.message().unwrap().field(0).as_ptr().addr()
    }

    #[test]
    fn a_short_send_at_any_byte_goes_on_with_the_flag() {
        script::interrupt_at_every_byte(|socket, messages| Box::new(zero_copy(socket, messages)));
        let script = Script::default();
        script.expect([Step::Move(3), Step::Errno(libc::EINTR), Step::Move(30), Step::Errno(libc::EAGAIN)]);
        let mut sender = sender(&script, 1);
        sender.send().unwrap();
        assert!(script.zero_copy_flags().iter().all(|&flag| flag), "every call bears MSG_ZEROCOPY");
        assert_eq!(sender.zero_copy_counts().unwrap().sends, 3, "the calls that moved bytes");
    }

    #[test]
    fn with_small_fields_copied_a_short_send_goes_on_as_well() {
        // The fields have ten bytes: all are copied, and sent without the flag; or none is.
        for (copy_below_bytes, flag) in [(11, false), (10, true)] {
            let hybrid = |socket: Script, messages| hybrid_zero(socket, messages, copy_below_bytes);
            script::interrupt_at_every_byte(|socket, messages| Box::new(hybrid(socket, messages)));
            script::send_in_turn(|socket, messages| Box::new(hybrid(socket, messages)));
            let script = Script::default();
            let mut sender = hybrid(script.clone(), vec![Message::new(80, Layout::Heap)]);
            sender.send().unwrap();
            assert_eq!(script.zero_copy_flags(), [flag]);
            assert_eq!(sender.copies().user_to_kernel_bytes, if flag { 0 } else { 80 });
            sender.flush().unwrap();
        }
    }

    #[test]
    fn a_premature_copy_of_small_fields_is_seen_by_the_receiver() {
        const FIELDS: [usize; 2] = [150 << 10, 64];
        for is_premature in [false, true] {
            let (server, client) = script::connected();
            // What the receiver has no room for stays at the sender, uncopied: so the last field.
            sockopt::set_socket_send_buffer_size(&server, 400 << 10).unwrap();
            sockopt::set_socket_recv_buffer_size(&client, 8 << 10).unwrap();
            let message = Message::with_field_bytes(&FIELDS, Layout::Page);
            let mut sender = hybrid_zero(server, vec![message], 4096);
            sender.message().unwrap().field_mut(1).fill(1);
            sender.send().unwrap();
            let counts = sender.zero_copy_counts().unwrap();
            assert!(counts.completions < counts.sends, "{counts}");
            // The field itself is not the kernel's. Its copy is: `message` would wait before the
            // next one is made.
            let unit = sender.queue.in_flight.buffers_mut(sender.ticket.unwrap()).unwrap();
            unit.message.field_mut(1).fill(2);
            if is_premature {
                unit.copy();
            }
            let mut receiver = MessageReceiver::buffer(client, vec![FIELDS.to_vec()]);
            receiver.receive().unwrap();
            let expected = if is_premature { 2 } else { 1 };
            assert_eq!(receiver.bytes()[FIELDS[0]..], [expected; FIELDS[1]]);
            sender.flush().unwrap();
        }
    }

    #[test]
    fn dropped_before_the_completions_it_leaves_the_copies_too() {
        let script = Script::default();
        script.complete(Completions::Never);
        let message = Message::with_field_bytes(&[777, 8192], Layout::Heap);
        let mut sender = hybrid_zero(script, vec![message], 4096);
        sender.send().unwrap();
        let slices = sender.queue.in_flight.buffers(sender.ticket.unwrap()).unwrap().slices();
        let [copy, field] = [slices[0].as_ptr(), slices[1].as_ptr()];
        let leaked_before = leaked_bytes();
        drop(sender);
        assert!(leaked_bytes() >= leaked_before + 777 + 8192, "it says so");
        // Memory that was given back would be used for these. Not zeros: for those the allocator
        // looks elsewhere first.
        let others: Vec<_> = (0..64).flat_map(|_| [vec![0xaa_u8; 777], vec![0xaa; 8192]]).collect();
        assert!(!others.iter().any(|other| [copy, field].contains(&other.as_ptr())));
    }

    type Make = fn(Script, Vec<Message>) -> Box<dyn Observe>;

    /// Senders that copy: all fields, none, and, of messages whose fields have ten bytes, none
    /// again.
    const COPYING: [Make; 3] = [
        |socket, messages| Box::new(MessageSender::two_copy(socket, messages)),
        |socket, messages| Box::new(MessageSender::one_copy(socket, messages)),
        |socket, messages| Box::new(MessageSender::hybrid(socket, messages, 10)),
    ];

    #[test]
    fn senders_that_copy_go_on_after_a_short_send_at_any_byte_and_give_up_at_the_limit() {
        for make in COPYING {
            script::interrupt_at_every_byte(make);
            script::give_up_waiting(make);
        }
    }

    #[test]
    fn messages_are_sent_in_the_order_of_the_ring() {
        COPYING.into_iter().for_each(script::send_in_turn);
        script::send_in_turn(|socket, messages| Box::new(zero_copy(socket, messages)));
    }

    #[test]
    fn small_fields_that_follow_each_other_are_copied_into_one_piece() {
        let shape = [5, 7, 100, 3, 0, 200, 100, 9];
        let mut message = Message::with_field_bytes(&shape, Layout::Heap);
        message.fill(1);
        let mut packed = vec![0; message.payload_bytes()];
        message.pack(&mut packed);
        let copies = Field::zeroed(5 + 7 + 3 + 9, Layout::Heap);
        let mut unit = Unit::new(0, message, 100, &copies);
        unit.copies = Some(copies);
        assert_eq!(unit.copy(), 5 + 7 + 3 + 9);
        let slices = unit.slices();
        assert_eq!(slices.iter().map(|slice| slice.len()).collect::<Vec<_>>(), [12, 100, 3, 200, 100, 9]);
        assert_eq!(slices.iter().flat_map(|slice| slice.to_vec()).collect::<Vec<_>>(), packed);
    }

    #[test]
    fn what_is_copied_is_counted() {
        let message = Message::with_field_bytes(&[24, 1000], Layout::Heap);
        let mut sender = MessageSender::hybrid(Script::default(), vec![message], 512);
        sender.send().unwrap();
        assert_eq!((sender.copies().user_to_user_bytes, sender.copies().user_to_kernel_bytes), (24, 1024));
    }

    #[test]
    fn after_an_error_the_rest_of_a_message_goes_out_and_not_its_beginning_again() {
        for make in COPYING {
            let script = Script::default();
            script.expect([Step::Move(30), Step::Errno(libc::EIO)]);
            let mut message = Message::new(80, Layout::Heap);
            message.fill(1);
            let mut packed = vec![0; 80];
            message.pack(&mut packed);
            let mut sender = make(script.clone(), vec![message]);
            sender.send().unwrap_err();
            sender.send().unwrap();
            assert_eq!(script.wire(), packed);
        }
    }

    #[test]
    fn of_a_large_ring_no_more_is_in_flight_than_the_limit() {
        let script = Script::default();
        script.complete(Completions::OnWait);
        let mut sender = sender(&script, 100).with_most_in_flight(2);
        for _ in 0..150 {
            sender.message().unwrap();
            sender.send().unwrap();
            let counts = sender.zero_copy_counts().unwrap();
            assert!(counts.sends - counts.completions <= 2, "{counts}");
        }
        sender.flush().unwrap();
    }

    #[test]
    fn a_message_is_not_lent_before_its_completion() {
        let script = Script::default();
        script.complete(Completions::Never);
        let mut sender = sender(&script, 2);
        let first = lend(&mut sender);
        sender.send().unwrap();
        let second = lend(&mut sender);
        assert_ne!(first, second, "the first is in flight");
        sender.send().unwrap();
        assert!(matches!(sender.message(), Err(Error::Deadline { .. })), "both are in flight");
        script.notify((1, 1), true);
        assert!(matches!(sender.message(), Err(Error::Deadline { .. })), "the first is still in flight");
        script.notify((0, 0), true);
        assert_eq!(lend(&mut sender), first);
        assert_eq!(lend(&mut sender), first, "it has not been sent since");
        sender.send().unwrap();
        assert_eq!(lend(&mut sender), second);
        script.notify((2, 2), false);
    }

    #[test]
    fn a_message_sent_by_two_calls_is_not_lent_after_one_completion() {
        let script = Script::default();
        script.complete(Completions::Never);
        script.expect([Step::Move(10)]);
        let mut sender = sender(&script, 1);
        sender.send().unwrap();
        script.notify((0, 0), true);
        assert!(matches!(sender.message(), Err(Error::Deadline { .. })));
        script.notify((1, 1), true);
        sender.message().unwrap();
    }

    #[test]
    fn flush_returns_only_when_every_completion_is_reaped() {
        let script = Script::default();
        script.complete(Completions::Never);
        let mut sender = sender(&script, 3);
        for _ in 0..3 {
            sender.message().unwrap();
            sender.send().unwrap();
        }
        script.notify((2, 2), false);
        assert!(matches!(sender.flush(), Err(Error::Deadline { .. })));
        script.notify((0, 1), true);
        sender.flush().unwrap();
        let counts = sender.zero_copy_counts().unwrap();
        assert_eq!((counts.sends, counts.completions, counts.notifications), (3, 3, 2));
        assert_eq!((counts.copied, counts.copied_share()), (2, Some(2.0 / 3.0)));
    }

    #[test]
    fn enobufs_waits_for_a_completion_and_goes_on() {
        let script = Script::default();
        script.complete(Completions::OnWait);
        let mut sender = sender(&script, 2);
        sender.send().unwrap();
        sender.message().unwrap();
        script.expect([Step::Errno(libc::ENOBUFS), Step::Move(7), Step::Errno(libc::ENOBUFS)]);
        sender.send().unwrap();
        sender.flush().unwrap();
        let counts = sender.zero_copy_counts().unwrap();
        assert_eq!(counts.enobufs, 2);
        assert_eq!((counts.sends, counts.completions), (3, 3));
    }

    #[test]
    fn enobufs_with_nothing_outstanding_here_is_tried_again() {
        let script = Script::default();
        script.expect([Step::Errno(libc::ENOBUFS), Step::Errno(libc::ENOBUFS)]);
        let mut sender = sender(&script, 1);
        sender.send().unwrap();
        assert_eq!(sender.zero_copy_counts().unwrap().enobufs, 2);
    }

    #[test]
    fn enobufs_that_passes_costs_no_sleep_per_call() {
        let script = Script::default();
        // A sleep of a millisecond after each would take longer than the call is tried for.
        script.expect((0..10_000).map(|_| Step::Errno(libc::ENOBUFS)));
        let message = Message::new(80, Layout::Heap);
        let mut sender = zero_copy(script, vec![message]);
        sender.send().unwrap();
        assert_eq!(sender.zero_copy_counts().unwrap().enobufs, 10_000);
    }

    #[test]
    fn enobufs_that_does_not_pass_is_an_error_that_says_what_to_raise() {
        let script = Script::default();
        script.stick(libc::ENOBUFS);
        let error = sender(&script, 2).send().unwrap_err();
        assert!(matches!(error, Error::PinLimit { payload_bytes: 80, .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("RLIMIT_MEMLOCK") && text.contains("net.core.optmem_max"), "{text}");
    }

    #[test]
    fn a_kernel_without_the_option_is_an_error_that_says_so() {
        let script = Script::default();
        script.refuse_zero_copy(libc::ENOPROTOOPT);
        // SAFETY: nobody else sends on it.
        let error =
            unsafe { MessageSender::zero_copy(script, vec![Message::new(8, Layout::Heap)]) }.unwrap_err();
        assert!(error.to_string().contains("Linux 4.14"), "{error}");
    }

    #[test]
    fn a_completion_of_an_unknown_call_is_an_error() {
        let script = Script::default();
        script.complete(Completions::Never);
        let mut sender = sender(&script, 1);
        sender.send().unwrap();
        script.notify((4, 4), true);
        assert!(matches!(sender.message(), Err(Error::Completion(_))));
        script.notify((0, 0), true);
    }

    #[test]
    fn sent_again_without_asking_it_waits_for_the_first() {
        let script = Script::default();
        script.complete(Completions::Never);
        let mut sender = sender(&script, 2);
        sender.send().unwrap();
        assert!(matches!(sender.send(), Err(Error::Deadline { .. })), "the message is in flight");
        script.notify((0, 0), true);
        sender.send().unwrap();
        script.notify((1, 1), true);
    }

    #[test]
    fn prepare_writes_no_message_that_is_in_flight() {
        let script = Script::default();
        script.complete(Completions::Never);
        let mut sender = sender(&script, 2);
        sender.send().unwrap();
        let mut written = 0;
        assert!(sender.prepare(&mut |_| written += 1).is_err());
        assert_eq!(written, 0);
        script.notify((0, 0), true);
        sender.prepare(&mut |_| written += 1).unwrap();
        assert_eq!(written, 2);
    }

    #[test]
    fn dropped_it_waits_for_what_is_outstanding() {
        let script = Script::default();
        script.complete(Completions::OnWait);
        let mut sender = sender(&script, 2);
        sender.send().unwrap();
        assert_eq!(script.completion_waits(), 0);
        drop(sender);
        assert_eq!(script.completion_waits(), 1);
    }

    #[test]
    fn a_signal_while_a_completion_is_awaited_is_no_end() {
        let script = Script::default();
        script.complete(Completions::OnWait);
        script.interrupt_waits(2);
        let mut sender = sender(&script, 1);
        sender.send().unwrap();
        sender.flush().unwrap();
        assert_eq!(script.completion_waits(), 3);
    }

    #[test]
    fn a_connection_that_is_down_is_not_waited_for_to_the_last() {
        let script = Script::default();
        script.complete(Completions::Never);
        script.hang_up();
        let messages = vec![Message::new(80, Layout::Heap)];
        let mut sender = zero_copy(script.clone(), messages);
        sender.send().unwrap();
        let error = sender.flush().unwrap_err();
        assert!(matches!(error, Error::Abandoned { outstanding: 1 }), "{error}");
        script.notify((0, 0), true);
    }

    #[test]
    fn completions_are_read_before_it_waits_for_room() {
        let script = Script::default();
        script.complete(Completions::Never);
        let mut sender = sender(&script, 3);
        sender.send().unwrap();
        sender.message().unwrap();
        // The completion of the first call is there, and one arrives while the sender waits.
        script.notify((0, 0), true);
        script.expect([Step::Move(10), Step::Errno(libc::EAGAIN)]);
        script.notify_on_wait((1, 1));
        sender.send().unwrap();
        assert_eq!(sender.zero_copy_counts().unwrap().completions, 2);
        assert_eq!(script.writable_waits(), 2, "the second wait is not ended by what is read already");
        script.notify((2, 2), true);
    }

    #[test]
    fn a_socket_that_never_gets_ready_is_given_up_for_all_its_pending_errors() {
        for error_pending in [false, true] {
            let script = Script::default();
            script.stick(libc::EAGAIN);
            script.leave_an_error_pending(error_pending);
            let error = sender(&script, 2).send().unwrap_err();
            assert_eq!(error.to_string(), "no room in the send buffer after 20 ms");
        }
    }

    #[test]
    fn a_non_blocking_socket_sends_all_while_its_completions_arrive() {
        const MESSAGES: u64 = 256;
        let (sending, receiving) = script::connected();
        sending.set_nonblocking(true).unwrap();
        let peer = std::thread::spawn(move || {
            let mut receiver = MessageReceiver::buffer(receiving, vec![field_bytes(64 << 10).to_vec()]);
            for number in 0..MESSAGES {
                receiver.receive().unwrap();
                assert_eq!(receiver.last().verify(0, number), Some(Ok(())));
            }
        });
        let messages = (0..128).map(|_| Message::new(64 << 10, Layout::Page)).collect();
        let mut sender = zero_copy(sending, messages);
        sender.prepare(&mut |mut message| message.fill(0)).unwrap();
        for number in 0..MESSAGES {
            sender.message().unwrap().stamp(number);
            sender.send().unwrap();
        }
        peer.join().unwrap();
        sender.flush().unwrap();
        let counts = sender.zero_copy_counts().unwrap();
        assert_eq!(counts.sends, counts.completions);
    }
}
