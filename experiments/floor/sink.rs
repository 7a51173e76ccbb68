//! The floor of the sink: the least code that sends messages to nobody and plays the peer, by the C
//! library's calls.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;
use std::thread::yield_now;
use std::time::{Duration, Instant};

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode};
use libc::{c_int, iovec};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use sendpath::case::{Engine, SendPath, Series};
use sendpath::pair::SinkParts;

/// Where a frame has its sequence number, the number of the acknowledgement, the checksum of TCP,
/// and the time stamps: its own and the one that it echoes.
const SEQUENCE: usize = 38;
const ACKNOWLEDGED: usize = 42;
const CHECKSUM: usize = 50;
const STAMP: usize = 58;
const ECHO: usize = 62;
/// Looks in a row before others may run: what was sent may wait for the kernel's own thread.
const AT_ONCE: u64 = 64;
/// How long a message may take to leave.
const STALL: Duration = Duration::from_secs(2);

/// A sender, its messages, and the peer that it plays.
pub struct RawSender {
    way: Series,
    /// The eight fields of each message. They live as long as the process, since the kernel may
    /// read them until then.
    messages: Vec<[iovec; 8]>,
    payload_bytes: usize,
    packed: Vec<u8>,
    /// Of `splice`, where pages are taken out and put in.
    pipe: Option<(OwnedFd, OwnedFd)>,
    /// Of `splice`, bytes that are in the pipe.
    piped: usize,
    /// Of `file`: what the messages lie in.
    file: Option<OwnedFd>,
    /// Of the engines of `io_uring`.
    ring: Option<IoUring>,
    next: usize,
    /// Bytes of requests and of messages so far.
    asked: u32,
    written: u32,
    /// What was acknowledged last, as bytes of messages.
    acknowledged: u32,
    /// The time stamp of the last frame, in milliseconds.
    stamped_ms: u32,
    /// Zero-copy calls whose completion has not arrived.
    outstanding: u32,
    parts: SinkParts,
}

impl RawSender {
    pub fn new(way: Series, payload_bytes: usize, messages: usize, parts: SinkParts) -> io::Result<Self> {
        let on: c_int = 1;
        // SAFETY: the option's value is a live int.
        let result = unsafe {
            let (fd, value) = (parts.connection.as_raw_fd(), (&raw const on).cast());
            libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_ZEROCOPY, value, size_of_val(&on) as u32)
        };
        moved(result as isize)?;
        let mut raw = Self {
            way,
            messages: Vec::new(),
            payload_bytes,
            packed: vec![1; payload_bytes],
            pipe: None,
            piped: 0,
            file: None,
            ring: None,
            next: 0,
            asked: 0,
            written: 0,
            acknowledged: 0,
            stamped_ms: now_ms(),
            outstanding: 0,
            parts,
        };
        let field = |start: *mut u8| iovec { iov_base: start.cast(), iov_len: payload_bytes / 8 };
        let mut memory: *mut u8 = ptr::null_mut();
        let stride = payload_bytes / 8 + 16;
        if way.engine == Engine::UringFixed {
            memory = vec![1_u8; stride * 8 * messages].leak().as_mut_ptr();
        }
        match way.engine {
            Engine::Syscall => {}
            Engine::UringSqpoll => raw.ring = Some(IoUring::builder().setup_sqpoll(2).build(32)?),
            Engine::Uring | Engine::UringFixed => {
                let mut builder = IoUring::builder();
                builder.setup_single_issuer().setup_defer_taskrun();
                raw.ring = Some(builder.build(32)?);
            }
        }
        if let (Some(ring), false) = (&raw.ring, memory.is_null()) {
            let all = iovec { iov_base: memory.cast(), iov_len: stride * 8 * messages };
            // SAFETY: the memory is never freed.
            unsafe { ring.submitter().register_buffers(&[all])? };
        }
        if way.path == SendPath::File {
            let file = memfd_create("floor", MemfdFlags::CLOEXEC)?;
            let bytes = payload_bytes * messages;
            ftruncate(&file, bytes as u64)?;
            // SAFETY: a new mapping of a new file, which is never unmapped.
            let start = unsafe {
                let (fd, read_write) = (file.as_raw_fd(), libc::PROT_READ | libc::PROT_WRITE);
                libc::mmap(ptr::null_mut(), bytes, read_write, libc::MAP_SHARED, fd, 0)
            };
            if start == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            let start: *mut u8 = start.cast();
            // As the suite: a page that was never written is a hole, and of holes the kernel sends
            // one page of zeros.
            // SAFETY: the mapping is as long as this, and nobody else has it.
            unsafe { ptr::write_bytes(start, 1, bytes) };
            raw.messages = (0..messages)
                .map(|place| {
                    std::array::from_fn(|index| {
                        field(start.wrapping_add(place * payload_bytes + index * (payload_bytes / 8)))
                    })
                })
                .collect();
            raw.file = Some(file);
        } else if !memory.is_null() {
            let at = |place: usize, index: usize| field(memory.wrapping_add((place * 8 + index) * stride));
            raw.messages = (0..messages).map(|place| std::array::from_fn(|index| at(place, index))).collect();
        } else {
            let new = || field(vec![1_u8; payload_bytes / 8].leak().as_mut_ptr());
            raw.messages = (0..messages).map(|_| [(); 8].map(|()| new())).collect();
        }
        if way.path == SendPath::Splice {
            let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
            // As many pieces as the suite asks for: the pages that the fields of a message lie on.
            let pages = |field: &iovec| {
                let start = field.iov_base.addr();
                (start + field.iov_len).div_ceil(4096) - start / 4096
            };
            let of_message = |fields: &[iovec; 8]| fields.iter().map(pages).sum::<usize>();
            let pages = raw.messages.iter().map(of_message).max().unwrap_or(1);
            let _ = fcntl_setpipe_size(&writer, pages.next_power_of_two() * 4096);
            raw.pipe = Some((reader, writer));
        }
        Ok(raw)
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
        let mut sent = 0;
        while sent < self.payload_bytes {
            match self.send(fd, sent) {
                Ok(bytes) => {
                    sent += bytes;
                    self.written = self.written.wrapping_add(bytes as u32);
                }
                // The buffer is full; so it was after a short send.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.acknowledge_all()?;
                    continue;
                }
                Err(error) => return Err(error),
            }
            // Of `splice`, a short send may only have emptied the pipe, which is filled again.
            if self.way.path == SendPath::Splice {
                continue;
            }
            if sent < self.payload_bytes {
                self.acknowledge_all()?;
            }
        }
        self.next = (self.next + 1) % self.messages.len();
        self.acknowledge_all()
    }

    /// Acknowledges until everything has left, and nothing twice, as the suite does. Where an
    /// acknowledgement is lost, the bench ends.
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

    /// Sends the next message from its byte `from` on.
    fn send(&mut self, fd: c_int, from: usize) -> io::Result<usize> {
        let mut fields = self.messages[self.next];
        // The suite stamps each field with the message's number.
        for field in fields.iter().filter(|_| from == 0) {
            // SAFETY: the field is live, and nobody else writes it.
            unsafe {
                ptr::write_bytes(field.iov_base.cast::<u8>(), self.written as u8, 8.min(field.iov_len));
            };
        }
        let is_hybrid = matches!(self.way.path, SendPath::Hybrid | SendPath::HybridZero);
        let is_small = is_hybrid && fields[0].iov_len < self.way.copy_below_bytes;
        if from == 0 && (is_small || self.way.path == SendPath::TwoCopy) {
            self.pack(&fields);
        }
        let first = advance(&mut fields, from);
        if self.ring.is_some() {
            return self.send_by_ring(fd, &fields[first..], from);
        }
        match self.way.path {
            SendPath::TwoCopy => {
                let rest = &self.packed[from..];
                // SAFETY: the pointer and the length are those of a live buffer.
                moved(unsafe { libc::send(fd, rest.as_ptr().cast(), rest.len(), 0) })
            }
            SendPath::Hybrid | SendPath::HybridZero if is_small => {
                let rest = &mut self.packed[from..];
                send_pieces(fd, &[iovec { iov_base: rest.as_mut_ptr().cast(), iov_len: rest.len() }], 0)
            }
            SendPath::OneCopy | SendPath::Hybrid => send_pieces(fd, &fields[first..], 0),
            SendPath::ZeroCopy | SendPath::HybridZero => {
                let sent = send_pieces(fd, &fields[first..], libc::MSG_ZEROCOPY)?;
                self.outstanding += 1;
                Ok(sent)
            }
            SendPath::Splice => self.splice(fd, fields, first),
            SendPath::File => {
                let Some(file) = &self.file else { return Err(io::ErrorKind::InvalidInput.into()) };
                let mut offset_bytes =
                    libc::off_t::try_from(self.next * self.payload_bytes + from).map_err(io::Error::other)?;
                // SAFETY: the offset is live.
                moved(unsafe {
                    libc::sendfile(fd, file.as_raw_fd(), &raw mut offset_bytes, self.payload_bytes - from)
                })
            }
        }
    }

    /// One entry, and its answer.
    fn send_by_ring(&mut self, fd: c_int, fields: &[iovec], from: usize) -> io::Result<usize> {
        /// From `<linux/io_uring.h>`.
        const FIXED_BUFFER: u16 = 1 << 2;
        const REPORT_USAGE: u16 = 1 << 3;
        let flags = libc::MSG_WAITALL | libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
        // SAFETY: zero is a value for every field of msghdr.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = fields.as_ptr().cast_mut();
        header.msg_iovlen = fields.len();
        let entry = match self.way.path {
            SendPath::TwoCopy => {
                let rest = &self.packed[from..];
                opcode::Send::new(Fd(fd), rest.as_ptr(), rest.len() as u32).flags(flags).build()
            }
            SendPath::OneCopy => opcode::SendMsg::new(Fd(fd), &raw const header).flags(flags as u32).build(),
            _ => {
                self.outstanding += 1;
                let fixed = if self.way.engine == Engine::UringFixed { FIXED_BUFFER } else { 0 };
                let send = opcode::SendMsgZc::new(Fd(fd), &raw const header).flags(flags as u32);
                send.ioprio(REPORT_USAGE | fixed).build()
            }
        };
        let Some(ring) = &mut self.ring else { return Err(io::ErrorKind::InvalidInput.into()) };
        // SAFETY: the fields are never freed, and header and packed bytes live until the answer.
        unsafe { ring.submission().push(&entry) }.map_err(io::Error::other)?;
        if self.way.engine == Engine::Uring && self.way.path != SendPath::ZeroCopy {
            // Carried out within the call, so that there is nothing to wait for.
            ring.submit()?;
        } else {
            wait_for_one(ring)?;
        }
        loop {
            while let Some(completion) = ring.completion().next() {
                if cqueue::notif(completion.flags()) {
                    self.outstanding = self.outstanding.saturating_sub(1);
                } else if completion.result() < 0 {
                    // Of a send that failed there is no notification.
                    self.outstanding =
                        self.outstanding.saturating_sub(u32::from(self.way.path == SendPath::ZeroCopy));
                    return Err(io::Error::from_raw_os_error(-completion.result()));
                } else {
                    return Ok(completion.result() as usize);
                }
            }
            wait_for_one(ring)?;
        }
    }

    fn pack(&mut self, fields: &[iovec; 8]) {
        for (to, from) in self.packed.chunks_exact_mut(fields[0].iov_len).zip(fields) {
            // SAFETY: the field is live, as long as the piece, and apart from it.
            unsafe { ptr::copy_nonoverlapping(from.iov_base.cast(), to.as_mut_ptr(), from.iov_len) };
        }
    }

    /// Puts pages into the pipe and moves them on, as much as goes.
    fn splice(&mut self, fd: c_int, fields: [iovec; 8], first: usize) -> io::Result<usize> {
        let Some((reader, writer)) = &self.pipe else { return Err(io::ErrorKind::InvalidInput.into()) };
        if self.piped == 0 {
            let rest = &fields[first..];
            // SAFETY: the iovecs are of live fields, which are never freed.
            self.piped = moved(unsafe {
                libc::vmsplice(writer.as_raw_fd(), rest.as_ptr(), rest.len(), libc::SPLICE_F_NONBLOCK)
            })?;
        }
        let left: usize = fields[first..].iter().map(|field| field.iov_len).sum();
        let more = if self.piped < left { libc::SPLICE_F_MORE } else { 0 };
        // SAFETY: no offsets are given.
        let sent = moved(unsafe {
            let (from, none) = (reader.as_raw_fd(), ptr::null_mut());
            libc::splice(from, none, fd, ptr::null_mut(), self.piped, libc::SPLICE_F_MOVE | more)
        })?;
        self.piped -= sent;
        Ok(sent)
    }

    /// Reads one notification, which completes a range of calls.
    fn reap(&mut self) -> io::Result<()> {
        if let Some(ring) = &mut self.ring {
            wait_for_one(ring)?;
            let notified = ring.completion().filter(|completion| cqueue::notif(completion.flags())).count();
            self.outstanding = self.outstanding.saturating_sub(notified as u32);
            return Ok(());
        }
        let mut control = [0_u64; 16];
        // SAFETY: zero is a value for every field of msghdr; the control buffer is live and as long
        // as is said.
        moved(unsafe {
            let mut header: libc::msghdr = std::mem::zeroed();
            header.msg_control = control.as_mut_ptr().cast();
            header.msg_controllen = size_of_val(&control);
            libc::recvmsg(self.parts.connection.as_raw_fd(), &raw mut header, libc::MSG_ERRQUEUE)
        })?;
        // A header of two words, then `sock_extended_err`: the first and the last call of the
        // range.
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
        let mut frame = [0; 74];
        let template = &self.parts.frames[kind];
        let frame = &mut frame[..template.len()];
        frame.copy_from_slice(template);
        let mut sum = !u32::from(u16::from_be_bytes([frame[CHECKSUM], frame[CHECKSUM + 1]])) & 0xffff;
        let stamp_ms = now_ms();
        for (place, more) in [
            (SEQUENCE, self.asked),
            (ACKNOWLEDGED, self.written.wrapping_sub(unsent)),
            (STAMP, stamp_ms),
            (ECHO, self.stamped_ms),
        ] {
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
        self.stamped_ms = stamp_ms;
        // SAFETY: the pointer and the length are those of a live frame.
        moved(unsafe { libc::send(self.parts.packets.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) })
            .map(drop)
    }
}

/// The peer's clock, as the suite's.
fn now_ms() -> u32 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time is written to a live place. The clock is one that every kernel has.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut now) };
    (now.tv_sec * 1000 + now.tv_nsec / 1_000_000) as u32
}

/// Takes the first `gone` bytes off; returns the first field that has any left.
fn advance(fields: &mut [iovec; 8], mut gone: usize) -> usize {
    for (place, field) in fields.iter_mut().enumerate() {
        let bytes = gone.min(field.iov_len);
        field.iov_base = field.iov_base.wrapping_byte_add(bytes);
        field.iov_len -= bytes;
        gone -= bytes;
        if field.iov_len > 0 {
            return place;
        }
    }
    fields.len()
}

/// Hands over what was pushed, and waits for a completion; for no longer than the suite, since a
/// limit is a timer of the kernel's at each wait. One that passes is no end.
fn wait_for_one(ring: &IoUring) -> io::Result<()> {
    let limit = Timespec::from(Duration::from_millis(10));
    match ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&limit)) {
        Err(errno) if errno.raw_os_error() != Some(libc::ETIME) => Err(errno),
        _ => Ok(()),
    }
}

fn send_pieces(fd: c_int, pieces: &[iovec], flags: c_int) -> io::Result<usize> {
    // SAFETY: zero is a value for every field of msghdr; the iovecs are of live buffers, which are
    // never freed.
    moved(unsafe {
        let mut header: libc::msghdr = std::mem::zeroed();
        header.msg_iov = pieces.as_ptr().cast_mut();
        header.msg_iovlen = pieces.len();
        libc::sendmsg(fd, &raw const header, flags)
    })
}

fn moved(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
