//! The three send paths, each usable on its own over any connected TCP socket.
//!
//! | path | server | client | copies by a CPU, per message |
//! |---|---|---|---|
//! | [`two_copy`] | packs the fields, `send` | `recv`, unpacks | pack and user→kernel; kernel→user and unpack |
//! | [`one_copy`] | `sendmsg`, an iovec per field | `recvmsg` likewise | user→kernel; kernel→user |
//! | [`zero_copy`] | `sendmsg` with `MSG_ZEROCOPY` | as `one_copy` | none on send *unless deferred*; kernel→user |
//!
//! A [`SendMessage`] lends a message to write, sends it whole, and says when the kernel has let go of all
//! that was sent. A [`ReceiveMessage`] takes one whole message in. Short writes and reads, `EINTR` and
//! `EAGAIN` are gone on from; sockets may be blocking or not.

pub mod completion;
pub mod one_copy;
#[cfg(test)]
pub(crate) mod script;
pub mod socket;
pub mod two_copy;
pub mod zero_copy;

use std::io::{self, IoSlice, IoSliceMut};
use std::time::Duration;

use crate::case::{Layout, SendPath};
use crate::error::{Error, Result};
use crate::message::Message;

pub use crate::sample::{Copies, ZeroCopyCounts};
pub use one_copy::{OneCopyReceiver, OneCopySender};
pub use socket::{Interest, Socket};
pub use two_copy::{TwoCopyReceiver, TwoCopySender};
pub use zero_copy::ZeroCopySender;

/// How long a path waits for a non-blocking socket, or for a completion, before it gives up.
pub const WAIT_LIMIT: Duration = Duration::from_secs(8);

/// The sending half of a path.
pub trait SendMessage: Send {
    /// Lends the message to write and then to [`send`](Self::send). Its bytes are those of some earlier
    /// message. May wait for the kernel to let go of one.
    ///
    /// # Errors
    /// A failed call, or [`Error::Deadline`].
    fn message(&mut self) -> Result<&mut Message>;

    /// Sends the message that [`message`](Self::message) lent last, whole.
    ///
    /// # Errors
    /// A failed call, [`Error::Deadline`], or [`Error::PinLimit`].
    fn send(&mut self) -> Result<()>;

    /// Returns when the kernel no longer needs any message that was sent.
    ///
    /// # Errors
    /// A failed call, or [`Error::Deadline`].
    fn flush(&mut self) -> Result<()>;

    /// Has `write` prepare every message that [`message`](Self::message) may lend.
    ///
    /// # Errors
    /// As [`flush`](Self::flush), which comes first.
    fn prepare(&mut self, write: &mut dyn FnMut(&mut Message)) -> Result<()>;

    /// What the kernel said of zero-copy sends; none for the paths that make none.
    fn zero_copy_counts(&self) -> Option<ZeroCopyCounts>;

    /// What has been copied so far.
    fn copies(&self) -> Copies;
}

/// The receiving half of a path.
pub trait ReceiveMessage: Send {
    /// Takes in one whole message, over the one before.
    ///
    /// # Errors
    /// A failed call, [`Error::Closed`] if the peer closed, or [`Error::Deadline`].
    fn receive(&mut self) -> Result<&Message>;

    /// The message that was received last.
    fn last(&self) -> &Message;

    /// What has been copied so far.
    fn copies(&self) -> Copies;
}

/// Makes the sending half of `path`. `pool_messages` is what `zero_copy` may have in flight; the other
/// paths hold one message.
///
/// # Errors
/// `zero_copy` on a kernel that lacks it.
pub fn sender<S: Socket + Send + 'static>(
    path: SendPath,
    socket: S,
    payload_bytes: usize,
    layout: Layout,
    pool_messages: usize,
) -> Result<Box<dyn SendMessage>> {
    let message = || Message::new(payload_bytes, layout);
    Ok(match path {
        SendPath::TwoCopy => Box::new(TwoCopySender::new(socket, message())),
        SendPath::OneCopy => Box::new(OneCopySender::new(socket, message())),
        SendPath::ZeroCopy => {
            let pool = (0..pool_messages).map(|_| message()).collect();
            Box::new(ZeroCopySender::new(socket, pool)?)
        }
    })
}

/// Makes the receiving half of `path`.
pub fn receiver<S: Socket + Send + 'static>(
    path: SendPath,
    socket: S,
    payload_bytes: usize,
    layout: Layout,
) -> Box<dyn ReceiveMessage> {
    let message = Message::new(payload_bytes, layout);
    match path {
        SendPath::TwoCopy => Box::new(TwoCopyReceiver::new(socket, message)),
        SendPath::OneCopy | SendPath::ZeroCopy => Box::new(OneCopyReceiver::new(socket, message)),
    }
}

/// Sends all of `bytes`.
///
/// # Errors
/// A failed call, or [`Error::Deadline`].
pub fn send_all(socket: &impl Socket, bytes: &[u8]) -> Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let result = socket.send(rest);
        rest = &rest[progress(socket, Interest::Writable, "send(2)", result)?.unwrap_or(0)..];
    }
    Ok(())
}

/// Sends all of `slices`.
pub(crate) fn send_all_vectored(socket: &impl Socket, mut slices: &mut [IoSlice<'_>]) -> Result<()> {
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        let result = socket.send_vectored(slices, false);
        let moved = progress(socket, Interest::Writable, "sendmsg(2)", result)?;
        IoSlice::advance_slices(&mut slices, moved.unwrap_or(0));
    }
    Ok(())
}

/// Receives until `bytes` is full.
///
/// # Errors
/// A failed call, [`Error::Closed`] if the peer closed before, or [`Error::Deadline`].
pub fn recv_all(socket: &impl Socket, bytes: &mut [u8]) -> Result<()> {
    let of_bytes = bytes.len();
    let mut after_bytes = 0;
    while after_bytes < of_bytes {
        let result = socket.recv(&mut bytes[after_bytes..]);
        match progress(socket, Interest::Readable, "recv(2)", result)? {
            Some(0) => return Err(Error::Closed { after_bytes, of_bytes }),
            moved => after_bytes += moved.unwrap_or(0),
        }
    }
    Ok(())
}

/// Receives until `slices` are full.
pub(crate) fn recv_all_vectored(
    socket: &impl Socket,
    mut slices: &mut [IoSliceMut<'_>],
    of_bytes: usize,
) -> Result<()> {
    let mut after_bytes = 0;
    IoSliceMut::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        let result = socket.recv_vectored(slices);
        match progress(socket, Interest::Readable, "recvmsg(2)", result)? {
            Some(0) => return Err(Error::Closed { after_bytes, of_bytes }),
            moved => {
                after_bytes += moved.unwrap_or(0);
                IoSliceMut::advance_slices(&mut slices, moved.unwrap_or(0));
            }
        }
    }
    Ok(())
}

impl Interest {
    /// The error of having waited for this.
    pub(crate) fn in_vain(self, waited: Duration) -> Error {
        let waiting_for = match self {
            Self::Readable => "bytes from the peer",
            Self::Writable => "room in the send buffer",
            Self::Completion => "a zero-copy completion",
        };
        Error::Deadline { waiting_for, waited }
    }
}

/// What a call's result means for the loop around it: so many bytes moved, or none and the call is to
/// be made again (after `EINTR` at once; after `EAGAIN` when the socket is ready).
pub(crate) fn progress(
    socket: &impl Socket,
    interest: Interest,
    call: &'static str,
    result: io::Result<usize>,
) -> Result<Option<usize>> {
    match result {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            await_ready(socket, interest, WAIT_LIMIT).map(|_| None)
        }
        Err(error) => Err(Error::call(call)(error)),
    }
}

/// Waits until something of interest happened: true. A signal may cut the wait short: false.
pub(crate) fn await_ready(socket: &impl Socket, interest: Interest, limit: Duration) -> Result<bool> {
    match socket.wait(interest, limit) {
        Ok(true) => Ok(true),
        Ok(false) => Err(interest.in_vain(limit)),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
        Err(error) => Err(Error::call("poll(2)")(error)),
    }
}
