//! The seam between the paths and the kernel: the five calls that a path makes on a socket, so that a
//! test can answer them from a script.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem;
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout};
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

/// A connected stream socket, blocking or not.
///
/// Each call is one system call and may do less than it was asked to, or fail with `EINTR` or
/// `EAGAIN`: going on is the paths' affair.
pub trait Socket {
    /// [`send(2)`](https://man7.org/linux/man-pages/man2/send.2.html), without `SIGPIPE`.
    ///
    /// # Errors
    /// The call's errno.
    fn send(&self, bytes: &[u8]) -> io::Result<usize>;

    /// [`sendmsg(2)`](https://man7.org/linux/man-pages/man2/sendmsg.2.html), without `SIGPIPE`; with
    /// `MSG_ZEROCOPY` if asked to. Then the kernel reads the slices after the call returned, until the
    /// completion of this call arrives.
    ///
    /// # Errors
    /// The call's errno.
    fn send_vectored(&self, slices: &[IoSlice<'_>], zero_copy: bool) -> io::Result<usize>;

    /// [`recv(2)`](https://man7.org/linux/man-pages/man2/recv.2.html).
    ///
    /// # Errors
    /// The call's errno.
    fn recv(&self, bytes: &mut [u8]) -> io::Result<usize>;

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

    /// [`poll(2)`](https://man7.org/linux/man-pages/man2/poll.2.html). True when something of interest
    /// happened, an error or a hang-up included; false when `timeout` passed.
    ///
    /// # Errors
    /// The call's errno.
    fn wait(&self, interest: Interest, timeout: Duration) -> io::Result<bool>;
}

// The calls that move a message go straight to the kernel, by rustix: glibc's own are cancellation
// points, which in a process with threads costs some 20 ns a call, 1 % of a small round trip.
impl Socket for TcpStream {
    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::net::send(self, bytes, SendFlags::NOSIGNAL)?)
    }

    fn send_vectored(&self, slices: &[IoSlice<'_>], zero_copy: bool) -> io::Result<usize> {
        // With MSG_ZEROCOPY the kernel pins the pages and may read them after the call: no memory hazard
        // for this process, but a data hazard for the message, which `ZeroCopySender` rules out.
        let zero_copy = SendFlags::from_bits_retain(if zero_copy { libc::MSG_ZEROCOPY as u32 } else { 0 });
        let flags = SendFlags::NOSIGNAL | zero_copy;
        Ok(rustix::net::sendmsg(self, slices, &mut SendAncillaryBuffer::default(), flags)?)
    }

    fn recv(&self, bytes: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::net::recv(self, bytes, RecvFlags::empty())?.0)
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
        // SAFETY: no iovecs; the control buffer is a live slice, borrowed for writing.
        let result = unsafe {
            libc::recvmsg(self.as_raw_fd(), &raw mut header, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT)
        };
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

    fn wait(&self, interest: Interest, timeout: Duration) -> io::Result<bool> {
        let events = match interest {
            Interest::Readable => PollFlags::POLLIN,
            Interest::Writable => PollFlags::POLLOUT,
            // POLLERR is always reported, and it is how the error queue makes itself known.
            Interest::Completion => PollFlags::empty(),
        };
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        Ok(nix::poll::poll(&mut [PollFd::new(self.as_fd(), events)], timeout)? > 0)
    }
}

/// Lets two owners use one socket: the path, and whoever must be able to shut it down.
impl<S: Socket> Socket for Arc<S> {
    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        S::send(self, bytes)
    }
    fn send_vectored(&self, slices: &[IoSlice<'_>], zero_copy: bool) -> io::Result<usize> {
        S::send_vectored(self, slices, zero_copy)
    }
    fn recv(&self, bytes: &mut [u8]) -> io::Result<usize> {
        S::recv(self, bytes)
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
    fn wait(&self, interest: Interest, timeout: Duration) -> io::Result<bool> {
        S::wait(self, interest, timeout)
    }
}

fn message_header() -> libc::msghdr {
    // SAFETY: all of msghdr's fields are integers and pointers, for which zero is a value.
    unsafe { mem::zeroed() }
}
