//! The three paths' sends by [io_uring(7)](https://man7.org/linux/man-pages/man7/io_uring.7.html):
//! entries in a queue that the kernel shares, instead of a system call each.
//!
//! | [`Operation`] | is | as |
//! |---|---|---|
//! | [`Send`](Operation::Send) | `IORING_OP_SEND` of a packed buffer | [`two_copy`](super::MessageSender::two_copy) |
//! | [`SendMsg`](Operation::SendMsg) | `IORING_OP_SENDMSG` of the fields | [`one_copy`](super::MessageSender::one_copy) |
//! | [`SendMsgZc`](Operation::SendMsgZc) | `IORING_OP_SENDMSG_ZC` of the fields | [`zero_copy`](super::MessageSender::zero_copy) |
//! | [`Fixed`](Operation::Fixed) | the same from a registered buffer, which is pinned once | |
//!
//! What it takes, and what [`UringSender`] does:
//! - several sends on one connection must arrive in order, and entries of a ring may be carried out
//!   in any. So they are *linked*: one is begun when the one before is through. With `MSG_WAITALL`
//!   a send that falls short has failed, which breaks the chain: those behind it come back with
//!   `ECANCELED`, and are sent again after its rest;
//! - [`send`](SendMessage::send) gathers, and [`submit`](SendMessage::submit) hands all over with
//!   one call, which also waits for the answers. A message that is gathered is not lent, since
//!   nothing of it is sent yet;
//! - a zero-copy send has two completions. Its *answer* says how many bytes it took; the
//!   *notification*, which may come much later and in any order, says that the kernel reads them no
//!   more. A message is not written again before its notification. Which is whose, and what failed
//!   and cancelled sends have of it: `flight.rs`;
//! - the kernel may copy all the same. With `IORING_SEND_ZC_REPORT_USAGE` the notification says so,
//!   in [`ZeroCopyCounts::copied_share`]. Of a send whose bytes were copied in part, it says that
//!   they were copied; from Linux 6.10 on also of one that was added to another one's packet, so
//!   the share is an [upper bound](ZeroCopyCounts::copied_is_bound);
//! - no `SO_ZEROCOPY`, no error queue, no ranges of call numbers: all that is `MSG_ZEROCOPY`'s
//!   alone;
//! - what the kernel reads stays where it is until it said that it is done: messages, packed bytes,
//!   iovecs, headers. To close a ring does not end the sends that are in flight: the kernel ends
//!   them at its leisure. So what is still outstanding when a sender is dropped is leaked;
//! - notifications are made up when this thread asks for completions
//!   (`IORING_SETUP_DEFER_TASKRUN`): else each would wake it wherever it sleeps, say in `recv`. A
//!   ring of this kind belongs to one thread;
//! - completions that find the queue full are kept by the kernel, and fetched by entering it.
//!
//! Where the kernel waits and where this thread does: on an ordinary socket, blocking or not, the
//! kernel goes on with a send when there is room, and answers when it is whole. A socket whose
//! owner has to [attend](Socket::attend) to it gets its answer at once (`MSG_DONTWAIT`), with what
//! went, and this thread waits for room, as on the other paths.
//!
//! ```
//! use std::io::Read;
//! use std::net::{TcpListener, TcpStream};
//! use sendpath::case::Layout;
//! use sendpath::message::Message;
//! use sendpath::path::{Observe, SendMessage};
//! use sendpath::path::uring::{Handover, Operation, UringSender};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let mut client = TcpStream::connect(listener.local_addr()?)?;
//! let (server, _) = listener.accept()?;
//!
//! let messages = (0..4).map(|_| Message::new(65536, Layout::Page)).collect();
//! let made = UringSender::new(server, messages, Operation::SendMsgZc, Handover::Enter);
//! let mut sender = match made {
//!     Ok(sender) => sender,
//!     Err(refusal) => {
//!         println!("not on this machine: {refusal}"); // says which kernel, or which sysctl
//!         return Ok(());
//!     }
//! };
//! for number in 0..16 {
//!     let mut message = sender.message()?; // one that the kernel has let go of
//!     message.field_mut(0).fill(number);
//!     sender.send()?; // gathered …
//!     sender.submit()?; // … and handed over
//!     # let mut received = vec![0; 65536];
//!     # client.read_exact(&mut received)?;
//!     # assert_eq!(received[..8192], [number; 8192]);
//! }
//! sender.flush()?; // every notification has arrived
//!
//! let counts = sender.zero_copy_counts().expect("this operation counts");
//! assert_eq!(counts.sends, counts.completions);
//! assert_eq!(counts.copied_share(), Some(1.0), "over loopback, the kernel copies after all");
//! # Ok(()) }
//! ```

mod flight;
mod queues;
mod refused;
mod sqpoll;
mod support;
#[cfg(test)]
mod tests;

use std::io;
use std::mem;
use std::ops::Range;
use std::thread::sleep;
use std::time::{Duration, Instant};

use self::flight::Flight;
use self::queues::{Completion, Entry, KernelQueues, Memory, Payload, Queues, Says};
use self::support::Need;
use super::error::{Error, Result};
use super::message_sender::await_pins;
use super::ring::Ring;
use super::send_queue::count_leaked;
use super::socket::message_header;
use super::{Copies, ERROR_PAUSE, Interest, Observe, SendMessage, Socket, WAIT_LIMIT, Wait, ZeroCopyCounts};
use crate::deadlines::DROP_LIMIT;
use crate::message::{Arena, Message, MessageMut, invert};

pub use support::{Support, support};

/// Most messages that are handed over with one call.
pub const MOST_GATHERED: usize = 32;
/// No message is added to so many bytes: a call is small beside the time that they take.
const GATHERED_BYTES: usize = 256 << 10;
/// Most entries of a completion queue. Where more are in flight, the kernel keeps what does not
/// fit.
const MOST_COMPLETIONS: usize = 8192;
/// How long the call that hands over waits by itself. A wait that lasts longer is worth a look at
/// the clock.
const FIRST_WAIT: Duration = Duration::from_millis(10);

/// With which operation of `io_uring` the messages are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Packed into one buffer, `IORING_OP_SEND`.
    Send,
    /// `IORING_OP_SENDMSG`, an iovec per field.
    SendMsg,
    /// `IORING_OP_SENDMSG_ZC`, an iovec per field; each send pins their pages.
    SendMsgZc,
    /// `IORING_OP_SENDMSG_ZC` from a buffer that is registered, and so pinned, once. All fields of
    /// all messages lie in it. Messages with one field that is not empty go by `IORING_OP_SEND_ZC`,
    /// which kernels before Linux 6.15 can.
    Fixed(Registered),
}

impl Operation {
    fn memory(self) -> Memory {
        match self {
            Self::Send | Self::SendMsg => Memory::Copied,
            Self::SendMsgZc => Memory::Pinned,
            Self::Fixed(_) => Memory::Registered,
        }
    }

    fn is_zero_copy(self) -> bool {
        self.memory() != Memory::Copied
    }

    fn registered(self) -> Option<Registered> {
        match self {
            Self::Fixed(registered) => Some(registered),
            _ => None,
        }
    }

    /// As errors name it.
    fn call(self) -> &'static str {
        match self {
            Self::Send => "io_uring IORING_OP_SEND",
            Self::SendMsg => "io_uring IORING_OP_SENDMSG",
            Self::SendMsgZc => "io_uring IORING_OP_SENDMSG_ZC",
            Self::Fixed(_) => "io_uring IORING_OP_SENDMSG_ZC of a registered buffer",
        }
    }
}

/// How entries reach the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Handover {
    /// By [`io_uring_enter(2)`](https://man7.org/linux/man-pages/man2/io_uring_enter.2.html), which
    /// also carries them out.
    #[default]
    Enter,
    /// By a thread of the kernel that looks for them (`IORING_SETUP_SQPOLL`), and keeps a CPU busy
    /// while it does.
    SqPoll,
}

/// A range of memory that a ring registers: where the fields of all messages lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registered {
    start: *const u8,
    bytes: usize,
}

// SAFETY: it is an address and a length. Who registers the range needs the memory, and says so.
unsafe impl Send for Registered {}
// SAFETY: as above.
unsafe impl Sync for Registered {}

impl Registered {
    /// All of `arena`. Its pages stay pinned as long as the ring lives, and are read where a
    /// message that is sent lies in them.
    #[must_use]
    pub fn arena(arena: &Arena) -> Self {
        let libc::iovec { iov_base, iov_len } = arena.iovec();
        Self { start: iov_base.cast(), bytes: iov_len }
    }

    fn iovec(self) -> libc::iovec {
        libc::iovec { iov_base: self.start.cast_mut().cast(), iov_len: self.bytes }
    }

    fn holds(self, bytes: &[u8]) -> bool {
        let place = bytes.as_ptr().addr().checked_sub(self.start.addr());
        bytes.is_empty() || place.is_some_and(|place| place + bytes.len() <= self.bytes)
    }
}

/// Sends from a ring of messages by `io_uring`, several with one call.
///
/// It may be made on one thread and used on another. With [`Handover::Enter`] its ring then belongs
/// to the thread that first sends: others get an error, and a drop elsewhere cannot wait for what
/// is outstanding, and leaks it.
#[derive(Debug)]
pub struct UringSender<S: Socket, Q: Queues = KernelQueues> {
    /// Before the socket, so that it is closed first: what it has not begun names the socket by its
    /// descriptor's number.
    queues: Q,
    socket: S,
    /// Whether the socket's owner has something to do while it waits.
    is_attended: bool,
    operation: Operation,
    ring: Ring<Message>,
    flight: Flight,
    /// Messages that `send` has been called for, in order. Those before `sent` are sent whole.
    gathered: Vec<Gathered>,
    sent: usize,
    gathered_bytes: usize,
    /// Which of the gathered ones were handed over and not gone through since, and the number of
    /// the first.
    chain: Range<usize>,
    chain_number: u64,
    /// The next chain is no longer.
    most_linked: usize,
    lent: Lent,
    /// A message is lent only when the one that was sent so many before it has been let go of.
    most_in_flight: usize,
    /// The time after which a wait, for room or for a notification, is given up. Where the kernel
    /// goes on with a send by itself, all of the message has to go within it: nothing is heard of a
    /// part.
    wait_limit: Duration,
    copies: Copies,
    /// Whether something went wrong, so that what is gathered must not be sent any more.
    has_failed: bool,
}

/// One message to send.
#[derive(Clone, Copy, Debug)]
struct Gathered {
    message: usize,
    bytes: usize,
    /// How much of it the kernel took.
    taken_bytes: usize,
    /// Where it begins in the packed bytes.
    packed_at: usize,
    /// What the kernel said last: bytes, or an errno below zero.
    answer: i32,
}

impl Gathered {
    fn is_whole(&self) -> bool {
        self.taken_bytes == self.bytes
    }
}

/// What the kernel reads beside the messages.
#[derive(Debug, Default)]
struct Lent {
    /// By the place among the gathered.
    fields: Vec<Fields>,
    /// The messages of [`Operation::Send`], one after the other.
    packed: Box<[u8]>,
}

/// What is left to send of one message, as `sendmsg(2)` takes it. The header has memory of its own,
/// since it must not move.
#[derive(Debug)]
struct Fields {
    header: Box<libc::msghdr>,
    slices: Vec<libc::iovec>,
}

// SAFETY: the pointers lead to a message of the sender that owns this, and into this itself.
unsafe impl Send for Fields {}

impl Fields {
    fn new() -> Self {
        Self { header: Box::new(message_header()), slices: Vec::new() }
    }

    /// Describes the message by its own iovecs.
    fn describe(&mut self, message: &Message) {
        let iovecs = message.iovecs();
        self.header.msg_iov = iovecs.as_ptr().cast_mut();
        self.header.msg_iovlen = iovecs.len() as _;
    }

    /// Describes the message without its first `skip_bytes`, and without empty fields, which are an
    /// error in a registered buffer.
    fn describe_rest(&mut self, message: &Message, skip_bytes: usize) {
        self.slices.clear();
        self.slices.extend_from_slice(message.rest(skip_bytes).iovecs());
        self.header.msg_iov = self.slices.as_mut_ptr();
        self.header.msg_iovlen = self.slices.len() as _;
    }
}

impl<S: Socket> UringSender<S> {
    /// A sender of `messages`, in turn; as many of them may be in flight.
    ///
    /// # Errors
    /// [`Error::Refused`] where the kernel lacks something or forbids it, and says which:
    /// `io_uring` itself (Linux 5.11), zero-copy sends that say whether they were copied (6.2),
    /// several fields from a registered buffer (6.15), or memory to lock; or that a field lies
    /// outside the buffer to register.
    ///
    /// # Panics
    /// If there is no message.
    pub fn new(socket: S, messages: Vec<Message>, operation: Operation, handover: Handover) -> Result<Self> {
        let ring = Ring::new(messages);
        if let Some(registered) = operation.registered() {
            let mut slices = ring.items.iter().flat_map(Message::io_slices);
            if !slices.all(|slice| registered.holds(slice)) {
                let errno = io::Error::from_raw_os_error(libc::EFAULT);
                let remedy = "a field lies outside the memory that is to be registered: make the messages by \
                              Message::in_arena, and give the arena that came with them";
                return Err(Error::refused("io_uring_register(2) IORING_REGISTER_BUFFERS", errno, remedy));
            }
            let has_one_field =
                |message: &Message| message.io_slices().iter().filter(|slice| !slice.is_empty()).count() <= 1;
            let is_vectored = !ring.items.iter().all(has_one_field);
            support::check(if is_vectored { Need::RegisteredFields } else { Need::UsageReport })?;
        } else if operation.is_zero_copy() {
            support::check(Need::UsageReport)?;
        }
        let completions = (2 * ring.items.len()).clamp(2 * MOST_GATHERED, MOST_COMPLETIONS);
        let sizes = (MOST_GATHERED, completions);
        let queues = KernelQueues::new(socket.descriptor(), sizes, handover, operation.registered())?;
        let is_stacked = queues.stacks_notifications();
        let mut sender = Self::with_queues(socket, ring, operation, queues)?;
        sender.flight.counts.stacked = is_stacked;
        Ok(sender)
    }
}

impl<S: Socket, Q: Queues> UringSender<S, Q> {
    fn with_queues(socket: S, ring: Ring<Message>, operation: Operation, queues: Q) -> Result<Self> {
        let is_attended = attend(&socket, false)?.is_some();
        let messages = ring.items.len();
        let longest_bytes = ring.largest_bytes(Message::payload_bytes);
        let most_gathered = MOST_GATHERED.min(messages);
        let packed_bytes = match operation {
            Operation::Send => (most_gathered * longest_bytes).min(GATHERED_BYTES + longest_bytes),
            _ => 0,
        };
        let fields = (0..most_gathered).map(|_| Fields::new()).collect();
        Ok(Self {
            socket,
            is_attended,
            queues,
            operation,
            flight: Flight::new(messages),
            ring,
            gathered: Vec::with_capacity(most_gathered),
            sent: 0,
            gathered_bytes: 0,
            chain: 0..0,
            chain_number: 0,
            most_linked: usize::MAX,
            lent: Lent { fields, packed: vec![0; packed_bytes].into() },
            most_in_flight: messages,
            wait_limit: WAIT_LIMIT,
            copies: Copies::default(),
            has_failed: false,
        })
    }

    /// Replaces the number of messages that may be in flight.
    #[must_use]
    pub fn with_most_in_flight(mut self, messages: usize) -> Self {
        self.most_in_flight = messages.clamp(1, self.ring.items.len());
        self
    }

    /// Whether no message may be added to what is gathered.
    fn is_full(&self) -> bool {
        self.gathered.len() == self.lent.fields.len() || self.gathered_bytes >= GATHERED_BYTES
    }

    /// Refuses to go on where a message went out before the one that it follows: no later send puts
    /// that right.
    fn check_order(&self) -> Result<()> {
        let mut rest = self.gathered[self.sent..].iter().skip_while(|one| one.is_whole());
        if rest.next().is_some() && rest.any(|one| one.taken_bytes > 0) {
            let problem = io::Error::other("a send went out though the one before it had not");
            return Err(Error::call("io_uring IOSQE_IO_LINK")(problem));
        }
        Ok(())
    }

    /// Sends what is gathered, to the last byte.
    fn send_gathered(&mut self) -> Result<()> {
        let mut wait = Wait::new(Interest::Writable, self.wait_limit);
        let mut blocked = None;
        while self.sent < self.gathered.len() {
            // After an error, a chain may still have answers to come.
            if self.chain.is_empty() {
                self.hand_over()?;
            }
            self.await_answers()?;
            let chain = mem::take(&mut self.chain);
            let whole = self.gathered[chain.clone()].iter().take_while(|one| one.is_whole()).count();
            self.sent = chain.start + whole;
            if whole == chain.len() {
                blocked = None;
            } else {
                self.mend(chain.end, &mut wait, &mut blocked)?;
            }
        }
        self.gathered.clear();
        (self.sent, self.gathered_bytes) = (0, 0);
        Ok(())
    }

    /// Pushes what is gathered and not sent, as one chain.
    fn hand_over(&mut self) -> Result<()> {
        let mut patience = Patience::new(Interest::Writable, self.wait_limit);
        // A polling thread may have entries yet to take.
        let mut room = self.queues.room();
        while room == 0 {
            let timeout = patience.next(&self.socket, false)?;
            self.enter(0, timeout)?;
            self.reap()?;
            room = self.queues.room();
        }
        let most_linked = mem::replace(&mut self.most_linked, usize::MAX);
        let end = self.gathered.len().min(self.sent + room.min(most_linked));
        self.chain = self.sent..end;
        self.chain_number = self.flight.next_call();
        let Self { gathered, lent, flight, operation, is_attended, .. } = self;
        let (lent, operation, is_impatient) = (&*lent, *operation, *is_attended);
        let chain = gathered[self.chain.clone()].iter().zip(self.chain.clone()).map(|(one, place)| Entry {
            number: flight.called(one.message),
            is_linked: place + 1 < end,
            memory: operation.memory(),
            is_impatient,
            payload: lent.payload(operation, one, place),
        });
        // SAFETY: this sender owns what the entries point to: fields and their iovecs, which lie on
        // the heap or in the registered memory, and `lent`, whose parts stay where they are. A
        // message is lent and prepared only when no send of it is open, and the rest is written
        // only when every answer is in; `drop` frees all of it only when nothing is open, and leaks
        // it else. `overwrite` alone breaks this, and says why that harms no other owner.
        unsafe { self.queues.push(chain) };
        Ok(())
    }

    /// Hands over what was pushed, and waits until every send has its answer.
    fn await_answers(&mut self) -> Result<()> {
        // One send that is copied is carried out at once, and there is nothing else to fetch: no
        // notification, and no next link of a chain. A polling thread has it under way at that
        // moment: its answer is waited for.
        let is_at_once = self.chain.len() == 1 && !self.operation.is_zero_copy() && !self.queues.is_polled();
        let mut result = if is_at_once {
            Self::entered(self.queues.hand_over())
        } else {
            self.enter(self.flight.unanswered, FIRST_WAIT.min(self.wait_limit))
        };
        let mut progressed = self.reap()?;
        let mut patience = Patience::new(Interest::Writable, self.wait_limit);
        while self.flight.unanswered > 0 {
            result?;
            let timeout = patience.next(&self.socket, progressed)?;
            result = self.enter(self.flight.unanswered, timeout);
            progressed = self.reap()?;
        }
        Ok(())
    }

    /// Enters the kernel.
    fn enter(&mut self, want: usize, timeout: Duration) -> Result<()> {
        Self::entered(self.queues.enter(want, timeout))
    }

    /// What a call says. Ends of a wait, and a want of memory that passes, are no errors.
    fn entered(result: io::Result<()>) -> Result<()> {
        let Err(errno) = result else { return Ok(()) };
        match errno.raw_os_error() {
            Some(libc::ETIME | libc::EINTR) => Ok(()),
            Some(libc::EAGAIN | libc::EBUSY) => {
                sleep(ERROR_PAUSE);
                Ok(())
            }
            Some(libc::EEXIST) => Err(refused::other_thread(errno)),
            _ => Err(Error::call("io_uring_enter(2)")(errno)),
        }
    }

    /// Books every completion that is there; whether there was one.
    fn reap(&mut self) -> Result<bool> {
        let mut any = false;
        loop {
            while let Some(completion) = self.queues.pop() {
                any = true;
                self.book(completion)?;
            }
            if !self.queues.is_overflown() {
                return Ok(any);
            }
            self.enter(0, Duration::ZERO)?;
        }
    }

    fn book(&mut self, Completion { number, says }: Completion) -> Result<()> {
        let (result, more) = match says {
            Says::Notification { copied } => return Ok(self.flight.notified(number, copied)?),
            Says::Answer { result, more } => (result, more),
        };
        self.flight.answered(number, result, more)?;
        // It is of the last chain: the answers to each are awaited before the next.
        let one = &mut self.gathered[self.chain.start + (number - self.chain_number) as usize];
        one.answer = result;
        if let Ok(bytes @ 1..) = usize::try_from(result) {
            self.socket.sent(bytes);
            if !self.operation.is_zero_copy() {
                self.copies.user_to_kernel_bytes += bytes as u64;
            }
            one.taken_bytes += bytes;
            if one.is_whole() {
                self.flight.release(one.message);
            }
        }
        Ok(())
    }

    /// After a chain that broke before `end`: makes ready to go on with the send that is not whole.
    /// Those behind it were cancelled. Where one of them could not even be prepared, since the
    /// memory of all may not be pinned at once, the kernel has cancelled the whole chain
    /// (`io_submit_fail_init` in `io_uring/io_uring.c`): those before it go first.
    #[cold]
    fn mend(&mut self, end: usize, wait: &mut Wait, blocked: &mut Option<Instant>) -> Result<()> {
        self.check_order()?;
        let place = self.sent;
        if self.gathered[place].answer == -libc::ECANCELED {
            let mut answers = self.gathered[place..end].iter().map(|one| one.answer);
            if let Some(before) = answers.position(|answer| answer != -libc::ECANCELED) {
                self.most_linked = before;
                return Ok(());
            }
        }
        self.go_on(place, wait, blocked)
    }

    /// What a send that is not whole says of the next attempt: at once, or when there is room, or
    /// never.
    fn go_on(&mut self, place: usize, wait: &mut Wait, blocked: &mut Option<Instant>) -> Result<()> {
        let Gathered { message, bytes, taken_bytes, answer, .. } = self.gathered[place];
        if let Ok(taken) = usize::try_from(answer) {
            *blocked = None;
            wait.progress(&self.socket, self.operation.call(), Ok(taken))?;
            if self.operation != Operation::Send {
                self.lent.fields[place].describe_rest(&self.ring.items[message], taken_bytes);
            }
            return Ok(());
        }
        let errno = io::Error::from_raw_os_error(-answer);
        match errno.raw_os_error() {
            // Without a registered buffer, the ring says ENOMEM of memory that cannot be locked.
            Some(libc::ENOBUFS | libc::ENOMEM) if self.operation.is_zero_copy() => {
                self.make_room(bytes - taken_bytes, blocked)
            }
            Some(libc::EOPNOTSUPP) if self.operation.is_zero_copy() => Err(refused::socket(errno)),
            _ => wait.progress(&self.socket, self.operation.call(), Err(errno)).map(drop),
        }
    }

    /// After a send that could not be pinned: waits for a notification, which frees what it lacked;
    /// where none is to come, for others, who may have the memory.
    fn make_room(&mut self, left_bytes: usize, blocked: &mut Option<Instant>) -> Result<()> {
        self.flight.counts.enobufs += 1;
        let ZeroCopyCounts { sends, completions, .. } = self.flight.counts;
        if completions < sends {
            return self.reap_until(|flight| flight.counts.completions > completions);
        }
        await_pins(left_bytes, self.wait_limit, blocked)
    }

    /// Books completions until `enough` is true of what is in flight.
    fn reap_until(&mut self, enough: impl Fn(&Flight) -> bool) -> Result<()> {
        if enough(&self.flight) {
            return Ok(());
        }
        let mut patience = Patience::new(Interest::Completion, self.wait_limit);
        let mut progressed = self.reap()?;
        while !enough(&self.flight) {
            let timeout = patience.next(&self.socket, progressed)?;
            self.enter(1, timeout)?;
            progressed = self.reap()?;
        }
        Ok(())
    }
}

impl Lent {
    /// What an entry has to send.
    fn payload(&self, operation: Operation, one: &Gathered, place: usize) -> Payload {
        let whole = one.packed_at..one.packed_at + one.bytes;
        match (operation, &self.fields[place]) {
            (Operation::Send, _) => {
                let rest = &self.packed[whole][one.taken_bytes..];
                Payload::Bytes { start: rest.as_ptr(), bytes: rest.len() }
            }
            (Operation::Fixed(_), Fields { slices, .. }) if slices.len() == 1 => {
                Payload::Bytes { start: slices[0].iov_base.cast_const().cast(), bytes: slices[0].iov_len }
            }
            (_, fields) => Payload::Fields(&raw const *fields.header),
        }
    }
}

/// Waits that bring nothing about, and how long they may last together.
struct Patience {
    wait: Wait,
    /// Whether the socket was attended to since something last happened.
    again: bool,
}

impl Patience {
    fn new(interest: Interest, limit: Duration) -> Self {
        Self { wait: Wait::new(interest, limit), again: false }
    }

    /// How long to wait now: until the limit, or until the socket is to be attended to once more.
    fn next(&mut self, socket: &impl Socket, progressed: bool) -> Result<Duration> {
        if progressed {
            (self.wait.since, self.again) = (None, false);
        }
        let left = self.wait.left()?;
        let due = attend(socket, self.again)?;
        self.again = true;
        Ok(due.map_or(left, |due| due.min(left)))
    }
}

fn attend(socket: &impl Socket, again: bool) -> Result<Option<Duration>> {
    socket.attend(again).map_err(Error::call("what the socket needs while a ring is waited for"))
}

/// Sends what is gathered, and waits for what is outstanding. What still is outstanding then is
/// leaked: memory that the kernel may yet send must not be used for something else, and the
/// kernel's sends do not end with the ring.
impl<S: Socket, Q: Queues> Drop for UringSender<S, Q> {
    fn drop(&mut self) {
        self.wait_limit = self.wait_limit.min(DROP_LIMIT);
        if !self.has_failed {
            // Whoever needs to know whether it went out calls `flush`.
            let _ = self.send_gathered();
        }
        if self.reap_until(|flight| !flight.any_open()).is_err() {
            count_leaked(self.ring.leak());
            mem::forget(mem::take(&mut self.lent));
        }
    }
}

impl<S: Socket + Send, Q: Queues + Send> SendMessage for UringSender<S, Q> {
    fn message(&mut self) -> Result<MessageMut<'_>> {
        let place = self.ring.advance();
        let due = self.ring.place_before(self.most_in_flight);
        if !(self.flight.is_free(due) && self.flight.is_free(place)) {
            self.submit()?;
            self.reap_until(|flight| flight.is_free(due) && flight.is_free(place))?;
        }
        Ok(MessageMut::new(self.ring.current_mut()))
    }

    fn send(&mut self) -> Result<()> {
        let message = self.ring.place();
        // Sent twice without `message()` in between, the first must be through. After an error, all
        // must be, and what is gathered may be as much as there is room for.
        if !self.flight.is_free(message) || self.flight.unanswered > 0 || self.is_full() {
            self.submit()?;
            self.reap_until(|flight| flight.is_free(message))?;
        }
        let bytes = self.ring.current().payload_bytes();
        self.ring.mark_sent();
        if bytes == 0 {
            return Ok(());
        }
        let (place, packed_at) = (self.gathered.len(), self.gathered_bytes);
        match self.operation {
            Operation::Send => {
                self.ring.current().pack(&mut self.lent.packed[packed_at..packed_at + bytes]);
                self.copies.user_to_user_bytes += bytes as u64;
            }
            Operation::Fixed(_) => self.lent.fields[place].describe_rest(self.ring.current(), 0),
            _ => self.lent.fields[place].describe(self.ring.current()),
        }
        self.flight.hold(message);
        self.gathered.push(Gathered { message, bytes, taken_bytes: 0, packed_at, answer: 0 });
        self.gathered_bytes += bytes;
        if self.is_full() { self.submit() } else { Ok(()) }
    }

    fn submit(&mut self) -> Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        if self.has_failed {
            self.check_order()?;
        }
        let result = self.send_gathered();
        self.has_failed |= result.is_err();
        result
    }

    fn flush(&mut self) -> Result<()> {
        self.submit()?;
        self.reap_until(|flight| !flight.any_open())
    }
}

impl<S: Socket + Send, Q: Queues + Send> Observe for UringSender<S, Q> {
    fn prepare(&mut self, write: &mut dyn FnMut(MessageMut<'_>)) -> Result<()> {
        self.flush()?;
        self.ring.prepare(write);
        Ok(())
    }

    fn overwrite(&mut self) -> Result<bool> {
        self.submit()?;
        // Notifications are made up by the kernel when it is entered.
        self.enter(0, Duration::ZERO)?;
        self.reap()?;
        let is_free = self.flight.is_free(self.ring.place());
        // The one place that breaks what the entries promise the kernel. The memory stays this
        // sender's, so the kernel may send other bytes than were given to it, and never bytes of
        // another owner.
        self.ring.current_mut().invert();
        invert(&mut self.lent.packed);
        Ok(is_free)
    }

    fn zero_copy_counts(&self) -> Option<ZeroCopyCounts> {
        self.operation.is_zero_copy().then_some(self.flight.counts)
    }

    fn copies(&self) -> Copies {
        Copies { deferred_bytes: self.flight.counts.copied_bytes, ..self.copies }
    }

    fn kernel_thread_ns(&self) -> Result<u64> {
        self.queues.kernel_thread_ns()
    }
}
