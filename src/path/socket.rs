//! The seam between the paths and the kernel: the calls that a path makes on a socket, so that a
//! test can answer them from a script.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};

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
    /// An error is pending, or the error queue is not empty, and what was asked for has not happened. To wait
    /// again would end at once with the same answer, until the one is reported or the other is read.
    ErrorPending,
    /// The timeout passed.
    TimedOut,
}

/// A connected stream socket, blocking or not.
///
/// Each call is one system call and may do less than it was asked to, or fail with `EINTR` or
/// `EAGAIN`. The paths then make the call again.
pub trait Socket {
    /// [`send(2)`](https://man7.org/linux/man-pages/man2/send.2.html), without `SIGPIPE`.
    ///
    /// # Errors
    /// The call's errno.
    fn send(&self, bytes: &[u8]) -> io::Result<usize>;

    /// [`sendmsg(2)`](https://man7.org/linux/man-pages/man2/sendmsg.2.html), without `SIGPIPE`.
    ///
    /// # Errors
    /// The call's errno.
    fn send_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// [`sendmsg(2)`](https://man7.org/linux/man-pages/man2/sendmsg.2.html) with `MSG_ZEROCOPY`, without
    /// `SIGPIPE`. The kernel goes on reading the slices after the call has returned.
    ///
    /// # Errors
    /// The call's errno. The kernel then reads nothing any more.
    ///
    /// # Safety
    /// The bytes of `slices` must stay allocated and unchanged until the completion of this call has arrived
    /// ([`recv_error_queue`](Self::recv_error_queue)), and for good if it never arrives. Otherwise the
    /// kernel sends what the memory holds by then, which may be data of another owner.
    unsafe fn send_zero_copy(&self, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// [`recv(2)`](https://man7.org/linux/man-pages/man2/recv.2.html).
    ///
    /// # Errors
    /// The call's errno.
    fn recv(&self, bytes: &mut [u8]) -> io::Result<usize>;

    /// [`recv(2)`](https://man7.org/linux/man-pages/man2/recv.2.html) of at most `bytes` with `MSG_TRUNC`,
    /// for which [`tcp(7)`](https://man7.org/linux/man-pages/man7/tcp.7.html) has the kernel discard them.
    ///
    /// # Errors
    /// The call's errno.
    fn discard(&self, bytes: usize) -> io::Result<usize>;

    /// [`recvmsg(2)`](https://man7.org/linux/man-pages/man2/recvmsg.2.html).
    ///
    /// # Errors
    /// The call's errno.
    fn recv_vectored(&self, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize>;

    /// Takes one message off the error queue
    /// ([`recvmsg(2)`](https://man7.org/linux/man-pages/man2/recvmsg.2.html) with `MSG_ERRQUEUE`; never
    /// blocks) and returns how much of `control` its control messages fill.
    ///
    /// # Errors
    /// The call's errno; `EAGAIN` when the queue is empty.
    fn recv_error_queue(&self, control: &mut [u8]) -> io::Result<usize>;

    /// Allows `MSG_ZEROCOPY`
    /// ([`SO_ZEROCOPY`](https://docs.kernel.org/networking/msg_zerocopy.html#socket-setup)).
    ///
    /// # Errors
    /// The call's errno; a kernel without the option says `ENOPROTOOPT` or `EOPNOTSUPP`.
    fn enable_zero_copy(&self) -> io::Result<()>;

    /// [`poll(2)`](https://man7.org/linux/man-pages/man2/poll.2.html).
    ///
    /// # Errors
    /// The call's errno.
    fn wait(&self, interest: Interest, timeout: Duration) -> io::Result<Readiness>;
}

// The calls that move a message go straight to the kernel, by rustix: glibc's own are cancellation
// points, which in a process with threads costs some 20 ns a call, 1 % of a small round trip.
impl Socket for TcpStream {
    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::net::send(self, bytes, SendFlags::NOSIGNAL)?)
    }

    fn send_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(rustix::net::sendmsg(self, slices, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)?)
    }

    // SAFETY: unsafe by the trait, whose promise the caller keeps: the kernel reads the slices after the call. There is
    // no unsafe block, since rustix, which has no name for the flag, takes it in a safe call.
    unsafe fn send_zero_copy(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let flags = SendFlags::NOSIGNAL | SendFlags::from_bits_retain(libc::MSG_ZEROCOPY as u32);
        Ok(rustix::net::sendmsg(self, slices, &mut SendAncillaryBuffer::default(), flags)?)
    }

    fn recv(&self, bytes: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::net::recv(self, bytes, RecvFlags::empty())?.0)
    }

    fn discard(&self, bytes: usize) -> io::Result<usize> {
        // Not by rustix, which asks for a buffer.
        let nowhere = ptr::null_mut::<libc::c_void>();
        let (flags, no_address) = (libc::MSG_TRUNC, ptr::null_mut::<libc::c_void>());
        // SAFETY: on a stream socket of TCP, MSG_TRUNC has the kernel write no byte; and a write to the null
        // pointer would fail with EFAULT. It asks for no address.
        let result = unsafe {
            libc::syscall(libc::SYS_recvfrom, self.as_raw_fd(), nowhere, bytes, flags, no_address, no_address)
        };
        usize::try_from(result).map_err(|_| io::Error::last_os_error())
    }

    fn recv_vectored(&self, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        // Not by rustix, which asks for the peer's address too: twice the price of the header.
        // `IoSliceMut` is guaranteed to have the layout of `iovec`.
        let mut header = message_header();
        header.msg_iov = slices.as_mut_ptr().cast();
        header.msg_iovlen = slices.len() as _;
        // SAFETY: the header points to live iovecs of slices that are borrowed for writing.
        let result = unsafe { libc::syscall(libc::SYS_recvmsg, self.as_raw_fd(), &raw mut header, 0) };
        usize::try_from(result).map_err(|_| io::Error::last_os_error())
    }

    fn recv_error_queue(&self, control: &mut [u8]) -> io::Result<usize> {
        let mut header = message_header();
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = control.len() as _;
        let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
        // SAFETY: no iovecs; the control buffer is a live slice, borrowed for writing.
        let result = unsafe { libc::syscall(libc::SYS_recvmsg, self.as_raw_fd(), &raw mut header, flags) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        if header.msg_flags & libc::MSG_CTRUNC != 0 {
            return Err(io::Error::other("the control message was truncated"));
        }
        Ok(header.msg_controllen as _)
    }

    fn enable_zero_copy(&self) -> io::Result<()> {
        let on: libc::c_int = 1;
        let length = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: the option's value is a live int of the length that is given.
        let result = unsafe {
            libc::setsockopt(
                self.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ZEROCOPY,
                (&raw const on).cast(),
                length,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    fn wait(&self, interest: Interest, timeout: Duration) -> io::Result<Readiness> {
        let events = match interest {
            Interest::Readable => PollFlags::IN,
            Interest::Writable => PollFlags::OUT,
            // POLLERR is always reported, and it is how the error queue makes itself known.
            Interest::Completion => PollFlags::empty(),
        };
        // One that no Timespec can hold is none.
        let timeout = Timespec::try_from(timeout).ok();
        let mut fds = [PollFd::new(self, events)];
        if poll(&mut fds, timeout.as_ref())? == 0 {
            return Ok(Readiness::TimedOut);
        }
        let found = fds[0].revents();
        let ready = interest == Interest::Completion || found.intersects(events);
        Ok(if ready { Readiness::Ready } else { Readiness::ErrorPending })
    }
}

/// Lets two owners use one socket: the path, and whoever must be able to shut it down.
impl<S: Socket> Socket for Arc<S> {
    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        S::send(self, bytes)
    }
    fn send_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        S::send_vectored(self, slices)
    }
    // SAFETY: unsafe by the trait: the caller keeps its promise, and this hands it on.
    unsafe fn send_zero_copy(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        // SAFETY: the caller keeps the same promise.
        unsafe { S::send_zero_copy(self, slices) }
    }
    fn recv(&self, bytes: &mut [u8]) -> io::Result<usize> {
        S::recv(self, bytes)
    }
    fn discard(&self, bytes: usize) -> io::Result<usize> {
        S::discard(self, bytes)
    }
    fn recv_vectored(&self, slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        S::recv_vectored(self, slices)
    }
    fn recv_error_queue(&self, control: &mut [u8]) -> io::Result<usize> {
        S::recv_error_queue(self, control)
    }
    fn enable_zero_copy(&self) -> io::Result<()> {
        S::enable_zero_copy(self)
    }
    fn wait(&self, interest: Interest, timeout: Duration) -> io::Result<Readiness> {
        S::wait(self, interest, timeout)
    }
}

fn message_header() -> libc::msghdr {
    // SAFETY: all of msghdr's fields are integers and pointers, for which zero is a value.
    unsafe { mem::zeroed() }
}
