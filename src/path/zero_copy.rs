//! `zero_copy`: `sendmsg` with `MSG_ZEROCOPY`. The kernel pins the pages of the message and reads
//! them when it needs them, which may be after the call returned; a *completion* on the socket's error
//! queue says when it is done.
//!
//! What that takes, and what this sender does:
//! - a message is not written again before its completion: the sender owns a ring of messages, and lends
//!   the next one only when the kernel has let go of it;
//! - completions come as ranges of call numbers, joined, in no promised order: each is booked against
//!   the messages in flight (see `completion.rs`);
//! - a short send goes on *with* the flag, and counts as a call of its own;
//! - `ENOBUFS` (too much pinned, or too many notifications unread) waits for a completion and goes on;
//! - completions that are not read end every `poll(2)` at once, so they are read before it waits for room;
//! - the kernel may copy all the same, and says so on the completion: [`ZeroCopyCounts::copied_share`].
//!   Over loopback and veth it always does, and then this path costs the most of the three for small messages.
//!
//! On huge pages ([`Layout::Huge`](crate::case::Layout::Huge)) a message lies in fewer fragments than a copy of it, and on
//! pages of 4 KiB in more. A card's driver works by the fragment: so large messages belong on huge pages.
//!
//! Meant for sends above some 10 KB, on a network card with scatter-gather and checksum offload
//! ([msg_zerocopy.rst](https://docs.kernel.org/networking/msg_zerocopy.html)). The peer is an
//! ordinary receiver, such as [`OneCopyReceiver`](super::OneCopyReceiver).
//!
//! ```
//! use std::io::Read;
//! use std::net::{TcpListener, TcpStream};
//! use sendpath::case::Layout;
//! use sendpath::message::Message;
//! use sendpath::path::{SendMessage, ZeroCopySender};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let mut client = TcpStream::connect(listener.local_addr()?)?;
//! let (server, _) = listener.accept()?;
//!
//! let messages = (0..4).map(|_| Message::new(65536, Layout::Page)).collect();
//! let mut sender = ZeroCopySender::new(server, messages)?;
//! for number in 0..16 {
//!     let message = sender.message()?; // one that the kernel has let go of
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

use std::io;
use std::thread::{sleep, yield_now};
use std::time::{Duration, Instant};

use super::completion::{self, CONTROL_BYTES, InFlight};
use super::hybrid::Gather;
use super::ring::Ring;
use super::{
    Copies, ERROR_PAUSE, Interest, Readiness, SendMessage, Socket, WAIT_LIMIT, Wait, ZeroCopyCounts,
};
use crate::error::{Error, Result};
use crate::limits;
use crate::message::Message;

/// How long a message that cannot be pinned is tried again, while other connections may hold the memory.
pub(super) const PIN_LIMIT: Duration = Duration::from_secs(4);
/// How long completions are awaited on a connection that is down.
const HUNG_UP_LIMIT: Duration = Duration::from_millis(500);
/// The pause where there is nothing that could be waited for.
const RETRY: Duration = Duration::from_millis(1);

/// Sends from a ring of messages, of which the kernel may hold some.
#[derive(Debug)]
pub struct ZeroCopySender<S: Socket> {
    socket: S,
    ring: Ring,
    in_flight: InFlight,
    /// A message is lent only when the one that was sent so many before it has completed.
    most_in_flight: usize,
    wait_limit: Duration,
    /// Of `hybrid_zero`: which fields are copied first.
    gather: Option<Gather>,
    /// Bytes that were copied for it, and bytes that went without the flag.
    copies: Copies,
}

impl<S: Socket> ZeroCopySender<S> {
    /// A sender of `messages`, in turn; as many of them may be in flight. The kernel counts a
    /// connection's zero-copy calls from its first one on: there is one such sender in the life of a
    /// connection, and nobody else sends with `MSG_ZEROCOPY` on it.
    ///
    /// # Errors
    /// [`Error::Refused`] where the kernel has no `MSG_ZEROCOPY` for this socket (TCP: Linux 4.14).
    ///
    /// # Panics
    /// If there is no message.
    pub fn new(socket: S, messages: Vec<Message>) -> Result<Self> {
        let ring = Ring::new(messages);
        socket.enable_zero_copy().map_err(|errno| Error::Refused {
            call: "setsockopt(2) SO_ZEROCOPY",
            errno,
            remedy: "this kernel has no MSG_ZEROCOPY for this socket (TCP has it since Linux 4.14); \
                     leave the zero_copy path out"
                .to_owned(),
        })?;
        let in_flight = InFlight::new(ring.messages().len());
        let most_in_flight = ring.messages().len();
        let (gather, copies) = (None, Copies::default());
        Ok(Self { socket, ring, in_flight, most_in_flight, wait_limit: WAIT_LIMIT, gather, copies })
    }

    /// As [`new`](Self::new), and fields of fewer than `copy_below_bytes` are copied into one buffer, which is sent with the
    /// others (`hybrid_zero`). A message of which all fields are copied is sent without `MSG_ZEROCOPY`.
    ///
    /// The kernel reads the copies as it reads the fields, so they are there as long as the sender: what is copied is
    /// chosen once.
    ///
    /// ```
    /// use std::net::{TcpListener, TcpStream};
    /// use sendpath::case::Layout;
    /// use sendpath::message::Message;
    /// use sendpath::path::{BufferReceiver, ReceiveMessage, SendMessage, ZeroCopySender};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let client = TcpStream::connect(listener.local_addr()?)?;
    /// let (server, _) = listener.accept()?;
    ///
    /// let messages = (0..2).map(|_| Message::with_field_bytes(&[24, 65536], Layout::Page)).collect();
    /// let mut sender = ZeroCopySender::with_copy_below(server, messages, 4096)?;
    /// sender.message()?.field_mut(0).fill(b'h');
    /// sender.send()?;
    /// assert_eq!(sender.copies().user_to_user_bytes, 24, "the header alone");
    ///
    /// let mut receiver = BufferReceiver::new(client, vec![vec![24, 65536]]);
    /// receiver.receive()?;
    /// assert_eq!(receiver.bytes()[..24], [b'h'; 24]);
    /// sender.flush()?; // every completion has arrived
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`new`](Self::new).
    ///
    /// # Panics
    /// If there is no message.
    pub fn with_copy_below(socket: S, messages: Vec<Message>, copy_below_bytes: usize) -> Result<Self> {
        let mut sender = Self::new(socket, messages)?;
        sender.gather = Some(Gather::new(sender.ring.messages(), copy_below_bytes, false));
        Ok(sender)
    }

    /// Replaces how many messages may wait for their completions.
    #[must_use]
    pub fn with_most_in_flight(mut self, messages: usize) -> Self {
        self.most_in_flight = messages.clamp(1, self.ring.messages().len());
        self
    }

    /// Replaces the time after which a wait for a completion is given up.
    #[must_use]
    pub fn with_wait_limit(mut self, wait_limit: Duration) -> Self {
        self.wait_limit = wait_limit;
        self
    }

    /// Reads one message off the error queue; false if there is none.
    fn reap(&mut self) -> Result<bool> {
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

    /// Reads the error queue until it is empty; false if it was.
    fn reap_all(&mut self) -> Result<bool> {
        let mut any = false;
        while self.reap()? {
            any = true;
        }
        Ok(any)
    }

    /// Reads the error queue until `enough` is true of what is in flight.
    fn reap_until(&mut self, enough: impl Fn(&InFlight) -> bool) -> Result<()> {
        let mut wait = Wait::new(Interest::Completion, self.wait_limit);
        let mut hung_up = None;
        while !enough(&self.in_flight) {
            if self.reap()? {
                hung_up = None;
                continue;
            }
            if let Some(since) = hung_up {
                // The wait ended with nothing on the queue: an error or a hang-up, which poll(2) reports
                // at once, each time. What is outstanding may still complete, but not for long.
                if Instant::elapsed(&since) > HUNG_UP_LIMIT {
                    let ZeroCopyCounts { sends, completions, .. } = self.in_flight.counts;
                    return Err(Error::Abandoned { outstanding: sends - completions });
                }
                sleep(RETRY);
            }
            wait.poll(&self.socket)?;
            hung_up.get_or_insert_with(Instant::now);
        }
        Ok(())
    }

    /// After `EAGAIN`: waits for room in the send buffer. Completions that are not read would end the wait
    /// at once, so they are read first, and whenever they end it.
    fn await_room(&mut self, wait: &mut Wait) -> Result<()> {
        self.reap_all()?;
        while wait.poll(&self.socket)? == Readiness::ErrorPending {
            if !self.reap_all()? {
                sleep(ERROR_PAUSE); // an error of the socket, which the next call reports
                break;
            }
        }
        Ok(())
    }

    /// After `ENOBUFS` on a call that had `left_bytes` to send: waits for a completion, which frees what
    /// the call lacked. With none outstanding here, other connections of the same user may hold the
    /// memory (`RLIMIT_MEMLOCK` is theirs together), so the call is worth repeating; unless it is larger
    /// than the limit by itself. Nothing tells when they release it. A sleep would last longer than that does, so
    /// this thread only lets others run.
    fn make_room(&mut self, left_bytes: usize, blocked: &mut Option<Instant>) -> Result<()> {
        self.in_flight.counts.enobufs += 1;
        if self.in_flight.any_open() {
            let seen = self.in_flight.counts.notifications;
            return self.reap_until(|in_flight| in_flight.counts.notifications > seen);
        }
        let waited = blocked.get_or_insert_with(Instant::now).elapsed();
        if waited >= self.wait_limit.min(PIN_LIMIT) || left_bytes as u64 > limits::memlock_bytes() {
            return Err(Error::PinLimit {
                payload_bytes: left_bytes,
                memlock: limits::memlock(),
                optmem_max: limits::sysctl("net/core/optmem_max"),
            });
        }
        yield_now();
        Ok(())
    }
}

/// Waits for what is outstanding. What still is outstanding then is leaked: memory that the kernel may
/// yet send must not be used for something else.
impl<S: Socket> Drop for ZeroCopySender<S> {
    fn drop(&mut self) {
        self.wait_limit = self.wait_limit.min(Duration::from_secs(1));
        if self.reap_until(|in_flight| !in_flight.any_open()).is_err() {
            self.ring.leak();
            if let Some(gather) = &mut self.gather {
                gather.leak();
            }
        }
    }
}

impl<S: Socket + Send> SendMessage for ZeroCopySender<S> {
    fn message(&mut self) -> Result<&mut Message> {
        let (place, messages) = (self.ring.advance(), self.ring.messages().len());
        // The one that was sent so many messages ago: with the whole ring in flight, this very one.
        let due = (place + messages - self.most_in_flight) % messages;
        self.reap_until(|in_flight| in_flight.is_free(due) && in_flight.is_free(place))?;
        Ok(self.ring.current_mut())
    }

    fn send(&mut self) -> Result<()> {
        // Sent twice without `message()` in between: the first must be through.
        let place = self.ring.place();
        self.reap_until(|in_flight| in_flight.is_free(place))?;
        let payload_bytes = self.ring.current().payload_bytes();
        let is_copied = match &mut self.gather {
            None => false,
            Some(gather) => {
                self.copies.user_to_user_bytes += gather.copy(place, self.ring.current()) as u64;
                !gather.has_large(place)
            }
        };
        // How much of the message is sent.
        let mut sent_bytes = 0;
        let mut wait = Wait::new(Interest::Writable, self.wait_limit);
        let mut blocked = None;
        while sent_bytes < payload_bytes {
            let message = self.ring.current();
            let rest;
            let slices = match &self.gather {
                None if sent_bytes == 0 => message.io_slices(),
                Some(gather) if sent_bytes == 0 => gather.io_slices(place, message),
                None => {
                    rest = message.rest(sent_bytes);
                    rest.io_slices()
                }
                Some(gather) => {
                    rest = gather.rest(place, message, sent_bytes);
                    rest.io_slices()
                }
            };
            let result = if is_copied {
                self.socket.send_vectored(slices)
            } else {
                // SAFETY: this sender owns the fields and the copies, which lie on the heap. `message` and `prepare` let
                // them be written only after the completions of all calls that sent them; `drop` frees them only then,
                // and leaks them where a completion is missing. `overwrite` alone breaks this, and says why that harms
                // no other owner.
                unsafe { self.socket.send_zero_copy(slices) }
            };
            match result {
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    self.make_room(payload_bytes - sent_bytes, &mut blocked)?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.await_room(&mut wait)?,
                result => {
                    let call = "sendmsg(2) MSG_ZEROCOPY";
                    if let Some(bytes) = wait.progress(&self.socket, call, result)? {
                        if is_copied {
                            self.copies.user_to_kernel_bytes += bytes as u64;
                        } else {
                            self.in_flight.sent(place, bytes);
                        }
                        sent_bytes += bytes;
                        blocked = None;
                    }
                }
            }
        }
        self.ring.mark_sent();
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.reap_until(|in_flight| !in_flight.any_open())
    }

    fn prepare(&mut self, write: &mut dyn FnMut(&mut Message)) -> Result<()> {
        self.flush()?;
        self.ring.messages_mut().iter_mut().for_each(write);
        Ok(())
    }

    fn overwrite(&mut self) -> Result<bool> {
        self.reap_all()?;
        let is_free = self.in_flight.is_free(self.ring.place());
        // The one place that breaks what `send` promises the kernel. The memory stays this sender's, so the kernel may
        // send other bytes than were given to it, and never bytes of another owner.
        self.ring.current_mut().invert();
        if let Some(gather) = &mut self.gather {
            gather.invert(self.ring.place());
        }
        Ok(is_free)
    }

    fn zero_copy_counts(&self) -> Option<ZeroCopyCounts> {
        Some(self.in_flight.counts)
    }

    fn copies(&self) -> Copies {
        Copies { deferred_bytes: self.in_flight.counts.copied_bytes, ..self.copies }
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::sockopt;

    use super::*;
    use crate::case::Layout;
    use crate::message::field_bytes;
    use crate::path::script::{self, Completions, Script, Step};
    use crate::path::{BufferReceiver, ReceiveMessage};

    fn sender(script: &Script, messages: usize) -> ZeroCopySender<Script> {
        let messages = (0..messages).map(|_| Message::new(80, Layout::Heap)).collect();
        ZeroCopySender::new(script.clone(), messages).unwrap().with_wait_limit(Duration::from_millis(20))
    }

    fn lend(sender: &mut ZeroCopySender<Script>) -> usize {
        sender.message().unwrap().field(0).as_ptr().addr()
    }

    #[test]
    fn a_short_send_at_any_byte_goes_on_with_the_flag() {
        script::interrupt_at_every_byte(|socket, messages| {
            Box::new(ZeroCopySender::new(socket, messages).unwrap())
        });
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
            let hybrid = |socket: Script, messages| {
                ZeroCopySender::with_copy_below(socket, messages, copy_below_bytes).unwrap()
            };
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
            let mut sender = ZeroCopySender::with_copy_below(server, vec![message], 4096).unwrap();
            sender.message().unwrap().field_mut(1).fill(1);
            sender.send().unwrap();
            let counts = sender.zero_copy_counts().unwrap();
            assert!(counts.completions < counts.sends, "{counts}");
            // The field itself is not the kernel's. Its copy is: `message` would wait before the next one is made.
            sender.ring.current_mut().field_mut(1).fill(2);
            if is_premature {
                sender.gather.as_mut().unwrap().copy(0, sender.ring.current());
            }
            let mut receiver = BufferReceiver::new(client, vec![FIELDS.to_vec()]);
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
        let mut sender = ZeroCopySender::with_copy_below(script, vec![message], 4096).unwrap();
        sender.send().unwrap();
        let slices = sender.gather.as_ref().unwrap().io_slices(0, sender.ring.current());
        let [copy, field] = [slices[0].as_ptr(), slices[1].as_ptr()];
        drop(sender);
        // Memory that was given back would be used for these. Not zeros: for those the allocator looks elsewhere first.
        let others: Vec<_> = (0..64).flat_map(|_| [vec![0xaa_u8; 777], vec![0xaa; 8192]]).collect();
        assert!(!others.iter().any(|other| [copy, field].contains(&other.as_ptr())));
    }

    #[test]
    fn messages_are_sent_in_the_order_of_the_ring() {
        script::send_in_turn(|socket, messages| Box::new(ZeroCopySender::new(socket, messages).unwrap()));
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
        let mut sender = ZeroCopySender::new(script, vec![message]).unwrap();
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
        let error = ZeroCopySender::new(script, vec![Message::new(8, Layout::Heap)]).unwrap_err();
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
        let mut sender = ZeroCopySender::new(script.clone(), messages).unwrap();
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
            let mut receiver = BufferReceiver::new(receiving, vec![field_bytes(64 << 10).to_vec()]);
            for number in 0..MESSAGES {
                receiver.receive().unwrap();
                assert_eq!(receiver.last().verify(0, number), Some(Ok(())));
            }
        });
        let messages = (0..128).map(|_| Message::new(64 << 10, Layout::Page)).collect();
        let mut sender = ZeroCopySender::new(sending, messages).unwrap();
        sender.prepare(&mut |message| message.fill(0)).unwrap();
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
