//! A socket that answers from a script, and the checks that every path has to pass on it.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{BorrowedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{ptr, slice};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

use crate::case::Layout;
use crate::message::{Message, MessageMut, page_bytes};
use crate::path::completion::{Notification, control_message, parse};
use crate::path::error::{Error, Result};
use crate::path::socket::sealed::Sealed;
use crate::path::socket::{MappedReceive, Mapping};
use crate::path::{
    Copies, Interest, Observe, Readiness, ReceiveMessage, SendMessage, Socket, ZeroCopyCounts,
};

/// The answer to one call that sends or receives. When the script is at its end, calls move all.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Move at most so many bytes.
    Move(usize),
    /// Fail.
    Errno(i32),
}

/// When the completions of zero-copy calls show up on the error queue.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Completions {
    /// With the call.
    #[default]
    AtOnce,
    /// When the path waits for one: all that are due, as one range.
    OnWait,
    /// Only when the test says so.
    Never,
}

#[derive(Debug, Default)]
struct State {
    steps: VecDeque<Step>,
    /// Once the steps are used up, answer every call with this errno.
    stuck: Option<i32>,
    wire: Vec<u8>,
    incoming: VecDeque<u8>,
    completions: Completions,
    zero_copy_flags: Vec<bool>,
    /// Zero-copy calls whose completions have not come, each with what it was given and what lay
    /// there.
    pinned: BTreeMap<u32, Vec<Pinned>>,
    due: Option<(u32, u32)>,
    error_queue: VecDeque<Vec<u8>>,
    refuse_zero_copy: Option<i32>,
    waits: Vec<Interest>,
    /// So many waits end by a signal.
    interruptions: usize,
    /// Every wait ends at once, with nothing to show.
    hung_up: bool,
    /// Every wait ends at once for an error that no call reports: completions that someone else
    /// will read.
    error_pending: bool,
    /// Arrives on the error queue when a path next waits for room.
    on_wait: Option<(u32, u32)>,
    /// What calls that map answer: so many pages, and so many bytes to be copied; or an errno.
    mapped: VecDeque<std::result::Result<(usize, usize), i32>>,
}

/// Memory that a zero-copy call was given, and what lay there.
#[derive(Debug)]
struct Pinned {
    start: *const u8,
    bytes: Vec<u8>,
}

// SAFETY: who makes the call promises that the memory stays, on whatever thread it is read.
unsafe impl Send for Pinned {}

impl Pinned {
    /// Reads the memory once more, as late as the kernel may. A memory checker sees it if it was
    /// given back.
    fn check(&self) {
        // SAFETY: by the promise of `Socket::send_zero_copy`, the memory is there until the
        // completion is read.
        let now = unsafe { slice::from_raw_parts(self.start, self.bytes.len()) };
        assert!(now == self.bytes, "memory of a zero-copy send was written before its completion");
    }
}

/// The scripted socket. Clones share the script.
#[derive(Clone, Debug, Default)]
pub struct Script(Arc<Mutex<State>>);

impl Script {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn expect(&self, steps: impl IntoIterator<Item = Step>) {
        self.state().steps.extend(steps);
    }

    /// Answers every call that the steps do not with `errno`, and lets no wait end well.
    pub fn stick(&self, errno: i32) {
        self.state().stuck = Some(errno);
    }

    pub fn complete(&self, completions: Completions) {
        self.state().completions = completions;
    }

    pub fn notify(&self, range: (u32, u32), copied: bool) {
        let control = control_message(libc::SOL_IP, libc::IP_RECVERR, 0, 5, u8::from(copied), range);
        self.state().error_queue.push_back(control);
    }

    /// What was sent so far.
    pub fn wire(&self) -> Vec<u8> {
        self.state().wire.clone()
    }

    pub fn refuse_zero_copy(&self, errno: i32) {
        self.state().refuse_zero_copy = Some(errno);
    }

    pub fn interrupt_waits(&self, times: usize) {
        self.state().interruptions = times;
    }

    pub fn hang_up(&self) {
        self.state().hung_up = true;
    }

    pub fn leave_an_error_pending(&self, error_pending: bool) {
        self.state().error_pending = error_pending;
    }

    /// Has a completion arrive when a path next waits for room.
    pub fn notify_on_wait(&self, range: (u32, u32)) {
        self.state().on_wait = Some(range);
    }

    /// Has `bytes` arrive.
    pub fn arrive(&self, bytes: &[u8]) {
        self.state().incoming.extend(bytes);
    }

    /// What calls that map answer, in turn; after these, that all has to be copied.
    pub fn map(&self, answers: impl IntoIterator<Item = (usize, usize)>) {
        self.state().mapped.extend(answers.into_iter().map(Ok));
    }

    /// After these, a call that maps fails.
    pub fn fail_to_map(&self, errno: i32) {
        self.state().mapped.push_back(Err(errno));
    }

    pub fn completion_waits(&self) -> usize {
        self.waits(Interest::Completion)
    }

    pub fn writable_waits(&self) -> usize {
        self.waits(Interest::Writable)
    }

    fn waits(&self, interest: Interest) -> usize {
        self.state().waits.iter().filter(|&&wait| wait == interest).count()
    }

    pub fn zero_copy_flags(&self) -> Vec<bool> {
        self.state().zero_copy_flags.clone()
    }

    fn move_out(&self, slices: &[IoSlice<'_>], zero_copy: bool) -> io::Result<usize> {
        let most = self.step()?;
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).take(most).collect();
        let mut state = self.state();
        state.wire.extend(&bytes);
        state.zero_copy_flags.push(zero_copy);
        let call = u32::try_from(state.zero_copy_flags.len() - 1).expect("few calls");
        let completions = state.completions;
        drop(state);
        match completions {
            Completions::AtOnce if zero_copy => self.notify((call, call), true),
            Completions::OnWait => {
                let mut state = self.state();
                state.due = Some((state.due.map_or(call, |(first, _)| first), call));
            }
            _ => {}
        }
        Ok(bytes.len())
    }

    /// How many bytes the next call may move, or its errno.
    fn step(&self) -> io::Result<usize> {
        let mut state = self.state();
        match (state.steps.pop_front(), state.stuck) {
            (Some(Step::Move(bytes)), _) => Ok(bytes),
            (Some(Step::Errno(errno)), _) | (None, Some(errno)) => Err(io::Error::from_raw_os_error(errno)),
            (None, None) => Ok(usize::MAX),
        }
    }
}

impl Sealed for Script {
    fn stream(&self) -> &TcpStream {
        unreachable!("it makes every call itself")
    }
}

impl Socket for Script {
    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.send_vectored(&[IoSlice::new(bytes)])
    }

    fn send_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.move_out(slices, false)
    }

    // SAFETY: unsafe by the trait, whose promise the caller keeps: the memory is read again when
    // its completion is.
    unsafe fn send_zero_copy(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let moved = self.move_out(slices, true)?;
        let mut state = self.state();
        let call = u32::try_from(state.zero_copy_flags.len() - 1).expect("few calls");
        let mut left = moved;
        let pinned = slices.iter().map(|slice| {
            let bytes = slice[..left.min(slice.len())].to_vec();
            left -= bytes.len();
            Pinned { start: slice.as_ptr(), bytes }
        });
        let pinned = pinned.collect();
        state.pinned.insert(call, pinned);
        Ok(moved)
    }

    fn recv(&self, bytes: &mut [u8]) -> io::Result<usize> {
        self.recv_vectored(&mut [IoSliceMut::new(bytes)])
    }

    fn recv_vectored(&self, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let most = self.step()?;
        let mut state = self.state();
        let mut moved = 0;
        for byte in slices.iter_mut().flat_map(|slice| slice.iter_mut()).take(most) {
            let Some(incoming) = state.incoming.pop_front() else { break };
            *byte = incoming;
            moved += 1;
        }
        Ok(moved)
    }

    fn discard(&self, bytes: usize) -> io::Result<usize> {
        self.recv(&mut vec![0; bytes])
    }

    fn map_received(&self, bytes: usize) -> io::Result<Mapping> {
        let bytes = bytes.max(1);
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let start = unsafe { mmap_anonymous(ptr::null_mut(), bytes, access, MapFlags::PRIVATE)? };
        Ok(Mapping { start: start.cast(), bytes })
    }

    // SAFETY: unsafe by the trait, whose promise the caller keeps.
    unsafe fn receive_mapped(&self, request: &mut MappedReceive) -> io::Result<()> {
        let asked_bytes = request.mapped_bytes();
        let mut state = self.state();
        let answer = state.mapped.pop_front().unwrap_or(Ok((0, state.incoming.len())));
        let (pages, to_copy) = answer.map_err(io::Error::from_raw_os_error)?;
        let mapped_bytes = pages * page_bytes();
        assert!(mapped_bytes <= asked_bytes, "the script maps no more than was asked for");
        let bytes: Vec<u8> = state.incoming.drain(..mapped_bytes).collect();
        let start = ptr::with_exposed_provenance_mut(usize::try_from(request.address).expect("an address"));
        // SAFETY: the request names so many bytes of a mapping that is the caller's, and anonymous.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), start, mapped_bytes) };
        request.length = u32::try_from(mapped_bytes).expect("few bytes");
        request.recv_skip_hint = u32::try_from(to_copy).expect("few bytes");
        Ok(())
    }

    fn recv_error_queue(&self, control: &mut [u8]) -> io::Result<usize> {
        let bytes =
            self.state().error_queue.pop_front().ok_or_else(|| io::Error::from_raw_os_error(libc::EAGAIN))?;
        control[..bytes.len()].copy_from_slice(&bytes);
        // Until now, the kernel may have read what these calls were given.
        if let Ok(Notification { first, last, .. }) = parse(&bytes) {
            let mut state = self.state();
            let done: Vec<u32> =
                state.pinned.keys().copied().filter(|call| (first..=last).contains(call)).collect();
            for call in done {
                state.pinned.remove(&call).into_iter().flatten().for_each(|pinned| pinned.check());
            }
        }
        Ok(bytes.len())
    }

    fn splice_from(&self, pipe: BorrowedFd<'_>, bytes: usize, _is_last: bool) -> io::Result<usize> {
        let most = self.step()?.min(bytes);
        let mut taken = vec![0; most];
        let filled = rustix::io::read(pipe, &mut taken)?;
        self.state().wire.extend(&taken[..filled]);
        Ok(filled)
    }

    fn send_file(&self, file: BorrowedFd<'_>, offset_bytes: u64, bytes: usize) -> io::Result<usize> {
        let most = self.step()?.min(bytes);
        let mut taken = vec![0; most];
        let filled = rustix::io::pread(file, &mut taken, offset_bytes)?;
        self.state().wire.extend(&taken[..filled]);
        Ok(filled)
    }

    fn enable_zero_copy(&self) -> io::Result<()> {
        match self.state().refuse_zero_copy {
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => Ok(()),
        }
    }

    fn shut_down(&self, _how: Shutdown) -> io::Result<()> {
        Ok(())
    }

    fn reset(&self) -> io::Result<()> {
        Ok(())
    }

    fn wait(&self, interest: Interest, _timeout: Duration) -> io::Result<Readiness> {
        let mut state = self.state();
        state.waits.push(interest);
        if state.interruptions > 0 {
            state.interruptions -= 1;
            return Err(io::Error::from_raw_os_error(libc::EINTR));
        }
        if interest == Interest::Completion {
            let due = state.due.take();
            let ready = due.is_some() || state.hung_up || !state.error_queue.is_empty();
            drop(state);
            if let Some(range) = due {
                self.notify(range, true);
            }
            return Ok(if ready { Readiness::Ready } else { Readiness::TimedOut });
        }
        if let Some(range) = state.on_wait.take() {
            drop(state);
            self.notify(range, true);
            state = self.state();
        }
        if state.error_pending || !state.error_queue.is_empty() {
            return Ok(Readiness::ErrorPending);
        }
        Ok(if state.stuck.is_some() { Readiness::TimedOut } else { Readiness::Ready })
    }

    fn descriptor(&self) -> RawFd {
        -1
    }
}

/// A sender whose receiver has each message at once, and says so.
pub struct Answered<S> {
    sender: S,
    sent: u64,
}

impl<S> Answered<S> {
    pub fn new(sender: S) -> Self {
        Self { sender, sent: 0 }
    }
}

impl<S: SendMessage> SendMessage for Answered<S> {
    fn message(&mut self) -> Result<MessageMut<'_>> {
        self.sender.message()
    }

    fn send(&mut self) -> Result<()> {
        self.sender.send()?;
        self.sent += 1;
        self.sender.received(self.sent);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.sender.flush()
    }
}

impl<S: Observe> Observe for Answered<S> {
    fn prepare(&mut self, write: &mut dyn FnMut(MessageMut<'_>)) -> Result<()> {
        self.sender.prepare(write)
    }

    fn overwrite(&mut self) -> Result<bool> {
        self.sender.overwrite()
    }

    fn zero_copy_counts(&self) -> Option<ZeroCopyCounts> {
        self.sender.zero_copy_counts()
    }

    fn copies(&self) -> Copies {
        self.sender.copies()
    }
}

/// The lengths of the messages' fields.
pub fn shapes(messages: &[Message]) -> Vec<Vec<usize>> {
    let lengths = |message: &Message| (0..message.fields()).map(|field| message.field(field).len()).collect();
    messages.iter().map(lengths).collect()
}

/// Has the sender's messages hold what `messages` do.
pub fn write(sender: &mut impl Observe, messages: &[Message]) {
    let mut given = messages.iter();
    let mut write = |mut message: MessageMut<'_>| {
        let given = given.next().unwrap();
        (0..given.fields()).for_each(|field| message.field_mut(field).copy_from_slice(given.field(field)));
    };
    sender.prepare(&mut write).unwrap();
}

/// Two ends of a connection over loopback.
pub fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

/// Bytes of the messages in these checks: ten in each field, so that every place in a field is met.
pub const PAYLOAD_BYTES: usize = 80;

/// What the wire must carry for message `number`.
pub fn message_bytes(number: u64) -> (Message, Vec<u8>) {
    let mut message = Message::new(PAYLOAD_BYTES, Layout::Heap);
    message.fill(number);
    message.stamp(number);
    let mut packed = vec![0; PAYLOAD_BYTES];
    message.pack(&mut packed);
    (message, packed)
}

/// The answers that stand between the first `split` bytes and the rest.
fn interruptions(split: usize) -> [Vec<Step>; 4] {
    let head = Step::Move(split);
    [
        vec![head],
        vec![Step::Errno(libc::EINTR), head, Step::Errno(libc::EINTR)],
        vec![Step::Errno(libc::EAGAIN), head, Step::Errno(libc::EAGAIN)],
        vec![head, Step::Move(1), Step::Errno(libc::EAGAIN), Step::Errno(libc::EINTR), Step::Move(2)],
    ]
}

/// Two messages are sent; the first is cut at each byte in turn, with `EINTR` and `EAGAIN` around
/// the cut. The wire must carry both, whole and in order.
pub fn interrupt_at_every_byte(make: impl Fn(Script, Vec<Message>) -> Box<dyn Observe>) {
    for split in 1..PAYLOAD_BYTES {
        for steps in interruptions(split) {
            let script = Script::default();
            script.expect(steps.iter().copied());
            let mut sender = make(script.clone(), vec![message_bytes(1).0]);
            sender.send().unwrap();
            let mut second = sender.message().unwrap();
            second.fill(2);
            second.stamp(2);
            sender.send().unwrap();
            sender.flush().unwrap();
            let expected = [message_bytes(1).1, message_bytes(2).1].concat();
            assert!(script.state().wire == expected, "cut at {split}, {steps:?}");
            let blocked = steps.iter().filter(|step| matches!(step, Step::Errno(libc::EAGAIN))).count();
            let waits = script.state().waits.iter().filter(|&&wait| wait == Interest::Writable).count();
            assert_eq!(waits, blocked, "EAGAIN waits until the socket is writable, EINTR does not");
        }
    }
}

/// The same for a receiver.
pub fn interrupt_receive_at_every_byte(make: impl Fn(Script, Message) -> Box<dyn ReceiveMessage>) {
    for split in 1..PAYLOAD_BYTES {
        for steps in interruptions(split) {
            let script = Script::default();
            for number in [1, 2] {
                script.state().incoming.extend(message_bytes(number).1);
            }
            script.expect(steps.iter().copied());
            let mut receiver = make(script.clone(), Message::new(PAYLOAD_BYTES, Layout::Heap));
            for number in [1, 2] {
                receiver.receive().unwrap();
                let right = receiver.last().verify(number, number).is_none_or(|verdict| verdict == Ok(()));
                assert!(right, "cut at {split}, {steps:?}");
            }
            assert!(script.state().incoming.is_empty(), "cut at {split}, {steps:?}: bytes are left");
        }
    }
}

/// The peer closes after each byte of a message in turn.
pub fn close_inside_a_message(make: impl Fn(Script, Message) -> Box<dyn ReceiveMessage>) {
    for end in 0..PAYLOAD_BYTES {
        let script = Script::default();
        script.state().incoming.extend(&message_bytes(1).1[..end]);
        let mut receiver = make(script, Message::new(PAYLOAD_BYTES, Layout::Heap));
        let error = receiver.receive().unwrap_err();
        assert!(
            matches!(error, Error::Closed { after_bytes, of_bytes: PAYLOAD_BYTES } if after_bytes == end),
            "closed after {end}: {error}"
        );
    }
}

/// Three messages are sent twice over, one of them twice in a row.
pub fn send_in_turn(make: impl Fn(Script, Vec<Message>) -> Box<dyn Observe>) {
    let script = Script::default();
    let ring = || (1..=3).map(|number| message_bytes(number).0).collect();
    let mut sender = make(script.clone(), ring());
    let mut seed = 4;
    sender
        .prepare(&mut |mut message| {
            message.fill(seed);
            message.stamp(seed);
            seed += 1;
        })
        .unwrap();
    sender.send().unwrap(); // the first, which nobody asked for
    for _ in 0..4 {
        sender.message().unwrap();
        sender.message().unwrap(); // the same
        sender.send().unwrap();
    }
    sender.send().unwrap(); // once more
    sender.message().unwrap();
    sender.send().unwrap();
    sender.flush().unwrap();
    let expected = [4, 5, 6, 4, 5, 5, 6].map(|number| message_bytes(number).1).concat();
    assert!(script.state().wire == expected, "the messages are sent in turn");
    let empty = catch_unwind(AssertUnwindSafe(|| drop(make(Script::default(), Vec::new()))));
    assert!(empty.is_err(), "an empty ring is refused");
}

/// The socket is never ready.
pub fn give_up_waiting(make: impl Fn(Script, Vec<Message>) -> Box<dyn Observe>) {
    let script = Script::default();
    script.stick(libc::EAGAIN);
    let error = make(script, vec![message_bytes(1).0]).send().unwrap_err();
    assert_eq!(error.to_string(), "no room in the send buffer after 8000 ms");
}
