//! The seam between the paths and the kernel: the calls that a path makes on a socket, so that a
//! test can answer them from a script.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};
use rustix::pipe::SpliceFlags;

/// From `<linux/tcp.h>`.
const TCP_ZEROCOPY_RECEIVE: libc::c_int = 35;

/// Who may be a [`Socket`].
pub(crate) mod sealed {
    use std::net::TcpStream;
    use std::sync::Arc;

    /// Implemented here, and for the sockets of this crate's own.
    pub trait Sealed {
        /// What the calls are made on that this socket does not make itself.
        fn stream(&self) -> &TcpStream;
    }

    impl Sealed for TcpStream {
        fn stream(&self) -> &TcpStream {
            self
        }
    }

    /// Lets two owners use one socket: the path, and whoever must be able to shut it down.
    impl Sealed for Arc<TcpStream> {
        fn stream(&self) -> &TcpStream {
            self
        }
    }
}

/// What to wait for in [`Socket::wait`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Bytes to receive.
    Readable,
    /// Room to send.
    Writable,
    /// A completion on the error queue.
    Completion,
}

/// What [`Socket::wait`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// What was asked for has happened. For [`Interest::Completion`] also an error or a hang-up:
    /// `poll(2)` does not tell them apart.
    Ready,
    /// An error is pending, or the error queue is not empty, and what was asked for has not
    /// happened. To wait again would end at once with the same answer, until the one is reported or
    /// the other is read.
    ErrorPending,
    /// The timeout passed.
    TimedOut,
}

/// Room in which a socket's pages are mapped, to read.
#[derive(Debug)]
pub struct Mapping {
    pub(super) start: *mut u8,
    pub(super) bytes: usize,
}

// SAFETY: the mapping is this value's alone, wherever it is used.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Its first byte.
    #[must_use]
    pub fn start(&self) -> *mut u8 {
        self.start
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's. An error would leave it mapped.
        let _ = unsafe { munmap(self.start.cast(), self.bytes) };
    }
}

/// What `TCP_ZEROCOPY_RECEIVE` is asked, and what it answers: `struct tcp_zerocopy_receive` from
/// `<linux/tcp.h>`, as far as Linux 4.18 knows it. Later kernels take the short one as well.
#[derive(Debug)]
#[repr(C)]
pub struct MappedReceive {
    /// Where pages are to be mapped.
    pub(super) address: u64,
    /// In: how many bytes at the most. Out: how many were mapped.
    pub(super) length: u32,
    /// Out: how many bytes come next that have to be copied.
    pub(super) recv_skip_hint: u32,
}

impl MappedReceive {
    /// Asks for at most `bytes`, to be mapped at `start`.
    #[must_use]
    pub fn new(start: *mut u8, bytes: usize) -> Self {
        Self {
            address: start.addr() as u64,
            length: u32::try_from(bytes).unwrap_or(u32::MAX),
            recv_skip_hint: 0,
        }
    }

    /// Before the call, how many bytes may be mapped; after it, how many were.
    #[must_use]
    pub fn mapped_bytes(&self) -> usize {
        self.length as usize
    }

    /// How many bytes come next that have to be copied.
    #[must_use]
    pub fn bytes_to_copy(&self) -> usize {
        self.recv_skip_hint as usize
    }
}

/// A connected stream socket, blocking or not: a [`TcpStream`], or an [`Arc`] of one.
///
/// Each call is one system call and may do less than it was asked to, or fail with `EINTR` or
/// `EAGAIN`. The paths then make the call again.
///
/// No other crate can implement it: the paths give memory to the kernel, and take it back by what a
/// socket says.
pub trait Socket: sealed::Sealed {
    // The calls that move a message go straight to the kernel, by rustix: glibc's own are
    // cancellation points, which in a process with threads costs some 20 ns a call, 1 % of a small
    // round trip.

    /// [`send(2)`](https://man7.org/linux/man-pages/man2/send.2.html), without `SIGPIPE`.
    ///
    /// # Errors
    /// The call's errno.
    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        counted(self, rustix::net::send(self.stream(), bytes, SendFlags::NOSIGNAL))
    }

    /// [`sendmsg(2)`](https://man7.org/linux/man-pages/man2/sendmsg.2.html), without `SIGPIPE`.
    ///
    /// # Errors
    /// The call's errno.
    fn send_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut no_control = SendAncillaryBuffer::default();
        counted(self, rustix::net::sendmsg(self.stream(), slices, &mut no_control, SendFlags::NOSIGNAL))
    }

    /// [`sendmsg(2)`](https://man7.org/linux/man-pages/man2/sendmsg.2.html) with `MSG_ZEROCOPY`,
    /// without `SIGPIPE`. The kernel goes on reading the slices after the call has returned.
    ///
    /// # Errors
    /// The call's errno. The kernel then reads nothing any more.
    ///
    /// # Safety
    /// The bytes of `slices` must stay allocated and unchanged until the completion of this call
    /// has arrived ([`recv_error_queue`](Self::recv_error_queue)), and for good if it never
    /// arrives. Otherwise the kernel sends what the memory holds by then, which may be data of
    /// another owner.
    unsafe fn send_zero_copy(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        // There is no unsafe block, since rustix, which has no name for the flag, takes it in a
        // safe call.
        let flags = SendFlags::NOSIGNAL | SendFlags::from_bits_retain(libc::MSG_ZEROCOPY as u32);
        let mut no_control = SendAncillaryBuffer::default();
        counted(self, rustix::net::sendmsg(self.stream(), slices, &mut no_control, flags))
    }

    /// [`recv(2)`](https://man7.org/linux/man-pages/man2/recv.2.html).
    ///
    /// # Errors
    /// The call's errno.
    fn recv(&self, bytes: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::net::recv(self.stream(), bytes, RecvFlags::empty())?.0)
    }

    /// [`recv(2)`](https://man7.org/linux/man-pages/man2/recv.2.html) of at most `bytes` with
    /// `MSG_TRUNC`, for which [`tcp(7)`](https://man7.org/linux/man-pages/man7/tcp.7.html) has the
    /// kernel discard them.
    ///
    /// # Errors
    /// The call's errno.
    fn discard(&self, bytes: usize) -> io::Result<usize> {
        // Not by rustix, which asks for a buffer.
        let (fd, flags) = (self.stream().as_raw_fd(), libc::MSG_TRUNC);
        let (nowhere, no_address) = (ptr::null_mut::<libc::c_void>(), ptr::null_mut::<libc::c_void>());
        // SAFETY: on a stream socket of TCP, MSG_TRUNC has the kernel write no byte; and a write to
        // the null pointer would fail with EFAULT. It asks for no address.
        let result =
            unsafe { libc::syscall(libc::SYS_recvfrom, fd, nowhere, bytes, flags, no_address, no_address) };
        usize::try_from(result).map_err(|_| io::Error::last_os_error())
    }

    /// [`recvmsg(2)`](https://man7.org/linux/man-pages/man2/recvmsg.2.html).
    ///
    /// # Errors
    /// The call's errno.
    fn recv_vectored(&self, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        // `IoSliceMut` is guaranteed to have the layout of `iovec`.
        let mut header = message_header();
        header.msg_iov = slices.as_mut_ptr().cast();
        header.msg_iovlen = slices.len() as _;
        // SAFETY: the header points to live iovecs of slices that are borrowed for writing.
        unsafe { receive_message(self.stream(), &mut header, 0) }
    }

    /// Maps room for so many bytes, whole pages, which [`receive_mapped`](Self::receive_mapped)
    /// fills ([`mmap(2)`](https://man7.org/linux/man-pages/man2/mmap.2.html) of the socket).
    ///
    /// # Errors
    /// The call's errno.
    fn map_received(&self, bytes: usize) -> io::Result<Mapping> {
        let bytes = bytes.max(1);
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let start =
            unsafe { mmap(ptr::null_mut(), bytes, ProtFlags::READ, MapFlags::SHARED, self.stream(), 0)? };
        Ok(Mapping { start: start.cast(), bytes })
    }

    /// `getsockopt(2)` with `TCP_ZEROCOPY_RECEIVE`: maps received pages; never blocks.
    ///
    /// # Errors
    /// The call's errno; `EIO` where the peer has closed.
    ///
    /// # Safety
    /// The request names a part of a [`Mapping`] that is the caller's, and of whose bytes nothing
    /// is borrowed: other pages take their place.
    unsafe fn receive_mapped(&self, request: &mut MappedReceive) -> io::Result<()> {
        // SAFETY: numbers may be any. The kernel maps pages over the part of a mapping that the
        // request names, of which the caller promises that nobody reads it now.
        let answer =
            unsafe { get_option(self.stream(), libc::IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE, &mut *request) };
        if answer.is_err() {
            // Nothing was mapped, whatever the request asked for.
            (request.length, request.recv_skip_hint) = (0, 0);
        }
        answer
    }

    /// Takes one message off the error queue
    /// ([`recvmsg(2)`](https://man7.org/linux/man-pages/man2/recvmsg.2.html) with `MSG_ERRQUEUE`;
    /// never blocks) and returns how much of `control` its control messages fill.
    ///
    /// # Errors
    /// The call's errno; `EAGAIN` when the queue is empty.
    fn recv_error_queue(&self, control: &mut [u8]) -> io::Result<usize> {
        let mut header = message_header();
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = control.len() as _;
        let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
        // SAFETY: no iovecs; the control buffer is a live slice, borrowed for writing.
        unsafe { receive_message(self.stream(), &mut header, flags)? };
        if header.msg_flags & libc::MSG_CTRUNC != 0 {
            return Err(io::Error::other("the control message was truncated"));
        }
        Ok(header.msg_controllen as _)
    }

    /// Moves at most `bytes` from a pipe into the socket
    /// ([`splice(2)`](https://man7.org/linux/man-pages/man2/splice.2.html)), more to come or not.
    /// The pipe's pages go into the socket as they are.
    ///
    /// # Errors
    /// The call's errno.
    fn splice_from(&self, pipe: BorrowedFd<'_>, bytes: usize, is_last: bool) -> io::Result<usize> {
        let flags = SpliceFlags::MOVE | if is_last { SpliceFlags::empty() } else { SpliceFlags::MORE };
        counted(self, rustix::pipe::splice(pipe, None, self.stream(), None, bytes, flags))
    }

    /// Sends at most `bytes` of a file, from `offset_bytes` on
    /// ([`sendfile(2)`](https://man7.org/linux/man-pages/man2/sendfile.2.html)).
    ///
    /// # Errors
    /// The call's errno.
    fn send_file(&self, file: BorrowedFd<'_>, offset_bytes: u64, bytes: usize) -> io::Result<usize> {
        let mut offset_bytes = offset_bytes;
        counted(self, rustix::fs::sendfile(self.stream(), file, Some(&mut offset_bytes), bytes))
    }

    /// Allows `MSG_ZEROCOPY`
    /// ([`SO_ZEROCOPY`](https://docs.kernel.org/networking/msg_zerocopy.html#socket-setup)).
    ///
    /// # Errors
    /// The call's errno; a kernel without the option says `ENOPROTOOPT` or `EOPNOTSUPP`.
    fn enable_zero_copy(&self) -> io::Result<()> {
        set_option(self.stream(), libc::SOL_SOCKET, libc::SO_ZEROCOPY, &1_i32)
    }

    /// [`shutdown(2)`](https://man7.org/linux/man-pages/man2/shutdown.2.html).
    ///
    /// # Errors
    /// The call's errno.
    fn shut_down(&self, how: Shutdown) -> io::Result<()> {
        self.stream().shutdown(how)
    }

    /// Sends a reset, forgets what is in the socket, and leaves it unconnected:
    /// [`connect(2)`](https://man7.org/linux/man-pages/man2/connect.2.html) to `AF_UNSPEC`.
    ///
    /// # Errors
    /// The call's errno.
    fn reset(&self) -> io::Result<()> {
        Ok(rustix::net::connect_unspec(self.stream())?)
    }

    /// [`poll(2)`](https://man7.org/linux/man-pages/man2/poll.2.html).
    ///
    /// # Errors
    /// The call's errno.
    fn wait(&self, interest: Interest, timeout: Duration) -> io::Result<Readiness> {
        let events = match interest {
            Interest::Readable => PollFlags::IN,
            Interest::Writable => PollFlags::OUT,
            // POLLERR is always reported, and it is how the error queue makes itself known.
            Interest::Completion => PollFlags::empty(),
        };
        // One that no Timespec can hold is none.
        let timeout = Timespec::try_from(timeout).ok();
        let mut fds = [PollFd::new(self.stream(), events)];
        if poll(&mut fds, timeout.as_ref())? == 0 {
            return Ok(Readiness::TimedOut);
        }
        let found = fds[0].revents();
        let ready = interest == Interest::Completion || found.intersects(events);
        Ok(if ready { Readiness::Ready } else { Readiness::ErrorPending })
    }

    /// The descriptor, for the calls that others make on the socket: a ring's.
    fn descriptor(&self) -> RawFd {
        self.stream().as_raw_fd()
    }

    /// Notes that so many bytes were sent on this socket, by one of these calls or by a ring.
    fn sent(&self, _bytes: usize) {}

    /// Does what the connection needs done while its owner waits for a ring, and returns after how
    /// long it has to be done again; none where it needs nothing. `again`: it was done before in
    /// this wait, and brought nothing about.
    ///
    /// # Errors
    /// What keeps it from being done.
    fn attend(&self, _again: bool) -> io::Result<Option<Duration>> {
        Ok(None)
    }
}

fn counted<S: Socket + ?Sized>(socket: &S, sent: rustix::io::Result<usize>) -> io::Result<usize> {
    Ok(sent.inspect(|&bytes| socket.sent(bytes))?)
}

impl Socket for TcpStream {}

impl Socket for Arc<TcpStream> {}

/// [`getsockopt(2)`](https://man7.org/linux/man-pages/man2/getsockopt.2.html) into `value`.
///
/// # Safety
/// Whatever bytes the kernel writes, they are a `T`.
#[inline]
pub(crate) unsafe fn get_option<T>(
    socket: &impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
    value: &mut T,
) -> io::Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the value is live and as long as `length` says, and the kernel writes no more than
    // that.
    let result = unsafe { libc::getsockopt(fd, level, name, (&raw mut *value).cast(), &raw mut length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// [`setsockopt(2)`](https://man7.org/linux/man-pages/man2/setsockopt.2.html) to `value`.
pub(crate) fn set_option<T: Copy>(
    socket: &impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
    value: &T,
) -> io::Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the value is live and as long as `length` says; the kernel only reads it.
    let result = unsafe { libc::setsockopt(fd, level, name, (&raw const *value).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// One without anything.
pub(super) fn message_header() -> libc::msghdr {
    // SAFETY: all of msghdr's fields are integers and pointers, for which zero is a value.
    unsafe { mem::zeroed() }
}

/// `recvmsg(2)`. Not by rustix, which asks for the peer's address too: twice the price of the
/// header.
///
/// # Safety
/// What the header points to is live, and borrowed for writing.
#[inline]
unsafe fn receive_message(
    socket: &TcpStream,
    header: &mut libc::msghdr,
    flags: libc::c_int,
) -> io::Result<usize> {
    // SAFETY: the caller keeps what the call needs.
    let result = unsafe { libc::syscall(libc::SYS_recvmsg, socket.as_raw_fd(), &raw mut *header, flags) };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
