//! The floor of the sink: the least code that sends messages to nobody and plays the peer, by the C library's calls.

use std::io;
use std::os::fd::AsRawFd;
use std::thread::yield_now;
use std::time::{Duration, Instant};

use libc::{c_int, iovec};
use sendpath::case::SendPath;
use sendpath::pair::SinkParts;

/// Where a frame has its sequence number, the number of the acknowledgement, and the checksum of TCP.
const SEQUENCE: usize = 38;
const ACKNOWLEDGED: usize = 42;
const CHECKSUM: usize = 50;
/// Looks in a row before others may run: what was sent may wait for the kernel's own thread.
const AT_ONCE: u64 = 64;
/// How long a message may take to leave.
const STALL: Duration = Duration::from_secs(2);

/// A sender, its messages, and the peer that it plays.
pub struct RawSender {
    path: SendPath,
    messages: Vec<[Vec<u8>; 8]>,
    packed: Vec<u8>,
    next: usize,
    /// Bytes of requests and of messages so far.
    asked: u32,
    written: u32,
    /// What was acknowledged last, as bytes of messages.
    acknowledged: u32,
    /// Zero-copy calls whose completion has not arrived.
    outstanding: u32,
    parts: SinkParts,
}

impl RawSender {
    pub fn new(path: SendPath, payload_bytes: usize, messages: usize, parts: SinkParts) -> io::Result<Self> {
        let on: c_int = 1;
        // SAFETY: the option's value is a live int.
        let result = unsafe {
            let (fd, value) = (parts.connection.as_raw_fd(), (&raw const on).cast());
            libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_ZEROCOPY, value, size_of_val(&on) as u32)
        };
        moved(result as isize)?;
        let messages = (0..messages).map(|_| [(); 8].map(|()| vec![1; payload_bytes / 8])).collect();
        let packed = vec![1; payload_bytes];
        Ok(Self {
            path,
            messages,
            packed,
            next: 0,
            asked: 0,
            written: 0,
            acknowledged: 0,
            outstanding: 0,
            parts,
        })
    }

    /// Sends messages for `duration`; returns the nanoseconds by message.
    pub fn run(&mut self, duration: Duration) -> io::Result<f64> {
        let since = Instant::now();
        for count in 1_u32.. {
            self.message()?;
            let elapsed = since.elapsed();
            if elapsed >= duration {
                return Ok(elapsed.as_nanos() as f64 / f64::from(count));
            }
        }
        Ok(f64::NAN)
    }

    fn message(&mut self) -> io::Result<()> {
        let fd = self.parts.connection.as_raw_fd();
        self.inject(0, 0)?;
        self.asked = self.asked.wrapping_add(8);
        let mut request = [0_u8; 8];
        // SAFETY: the pointer and the length are those of a live array.
        moved(unsafe { libc::recv(fd, request.as_mut_ptr().cast(), request.len(), 0) })?;
        // As the suite: at most as many messages in flight as there are.
        while self.outstanding as usize >= self.messages.len() {
            self.reap()?;
        }
        let sent = self.send(fd)?;
        self.next = (self.next + 1) % self.messages.len();
        self.written = self.written.wrapping_add(sent as u32);
        if sent != self.packed.len() {
            return Err(io::Error::other(format!("a send of {sent} bytes")));
        }
        self.acknowledge_all()
    }

    /// Acknowledges until everything has left, and nothing twice, as the suite does. Where an acknowledgement is lost,
    /// the bench ends.
    fn acknowledge_all(&mut self) -> io::Result<()> {
        let mut since = None;
        for times in 1_u64.. {
            let unsent = self.unsent()?;
            let left = self.written.wrapping_sub(unsent);
            if left != self.acknowledged {
                self.inject(1, unsent)?;
                self.acknowledged = left;
            }
            if unsent == 0 {
                break;
            }
            if times.is_multiple_of(AT_ONCE) {
                if since.get_or_insert_with(Instant::now).elapsed() > STALL {
                    return Err(io::Error::other(format!("{unsent} bytes did not leave within {STALL:?}")));
                }
                yield_now();
            }
        }
        Ok(())
    }

    fn send(&mut self, fd: c_int) -> io::Result<usize> {
        let fields = &mut self.messages[self.next];
        for field in &mut *fields {
            // The suite stamps each field with the message's number.
            field[..8.min(self.packed.len() / 8)].fill(self.written as u8);
        }
        if self.path == SendPath::TwoCopy {
            for (to, from) in self.packed.chunks_exact_mut(fields[0].len()).zip(&*fields) {
                to.copy_from_slice(from);
            }
            // SAFETY: the pointer and the length are those of a live buffer.
            return moved(unsafe { libc::send(fd, self.packed.as_ptr().cast(), self.packed.len(), 0) });
        }
        let zero_copy = self.path == SendPath::ZeroCopy;
        let mut pieces = fields
            .each_mut()
            .map(|field| iovec { iov_base: field.as_mut_ptr().cast(), iov_len: field.len() });
        self.outstanding += u32::from(zero_copy);
        // SAFETY: zero is a value for every field of msghdr; the iovecs are of live buffers, which are not freed before
        // the process ends a connection that it has reset.
        moved(unsafe {
            let mut header: libc::msghdr = std::mem::zeroed();
            header.msg_iov = pieces.as_mut_ptr();
            header.msg_iovlen = 8;
            libc::sendmsg(fd, &raw const header, if zero_copy { libc::MSG_ZEROCOPY } else { 0 })
        })
    }

    /// Reads one notification, which completes a range of calls.
    fn reap(&mut self) -> io::Result<()> {
        let mut control = [0_u64; 16];
        // SAFETY: zero is a value for every field of msghdr; the control buffer is live and as long as is said.
        moved(unsafe {
            let mut header: libc::msghdr = std::mem::zeroed();
            header.msg_control = control.as_mut_ptr().cast();
            header.msg_controllen = size_of_val(&control);
            libc::recvmsg(self.parts.connection.as_raw_fd(), &raw mut header, libc::MSG_ERRQUEUE)
        })?;
        // A header of two words, then `sock_extended_err`: the first and the last call of the range.
        let [first, last] = [control[3] as u32, (control[3] >> 32) as u32];
        self.outstanding -= last.wrapping_sub(first) + 1;
        Ok(())
    }

    fn unsent(&self) -> io::Result<u32> {
        let mut bytes: c_int = 0;
        // SAFETY: SIOCOUTQNSD writes one int to where the pointer points.
        let result = unsafe { libc::ioctl(self.parts.connection.as_raw_fd(), 0x894B, &raw mut bytes) };
        moved(result as isize)?;
        Ok(bytes as u32)
    }

    fn inject(&mut self, kind: usize, unsent: u32) -> io::Result<()> {
        let mut frame = [0; 62];
        let template = &self.parts.frames[kind];
        let frame = &mut frame[..template.len()];
        frame.copy_from_slice(template);
        let mut sum = !u32::from(u16::from_be_bytes([frame[CHECKSUM], frame[CHECKSUM + 1]])) & 0xffff;
        for (place, more) in [(SEQUENCE, self.asked), (ACKNOWLEDGED, self.written.wrapping_sub(unsent))] {
            let word: [u8; 4] = std::array::from_fn(|byte| frame[place + byte]);
            let (old, new) = (u32::from_be_bytes(word), u32::from_be_bytes(word).wrapping_add(more));
            frame[place..place + 4].copy_from_slice(&new.to_be_bytes());
            // The checksum follows what changed (RFC 1624).
            sum += (!old & 0xffff) + (!old >> 16) + (new & 0xffff) + (new >> 16);
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        frame[CHECKSUM..CHECKSUM + 2].copy_from_slice(&(!(sum as u16)).to_be_bytes());
        // SAFETY: the pointer and the length are those of a live frame.
        moved(unsafe { libc::send(self.parts.packets.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) })
            .map(drop)
    }
}

fn moved(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
